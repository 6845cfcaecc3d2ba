// Package gateways is the commands about other gateways in front of an API: their configuration, and the examination of a
// live one.
package gateways

import (
	"cmp"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"text/template"
	"time"

	"github.com/tallystick/tallystick/internal/app/declare"
	"github.com/tallystick/tallystick/internal/cli"
	"github.com/tallystick/tallystick/internal/core/catalog"
)

//go:embed snippets
var snippets embed.FS

// gatewayKind is a gateway that can ask: its name, what to do with the files, and these by their templates.
type gatewayKind struct {
	Name  string            `json:"name"`
	About string            `json:"about"`
	Next  string            `json:"-"`
	files map[string]string // template by the name of the file
}

func gatewayKinds() []gatewayKind {
	return []gatewayKind{
		{"envoy", "external authorization over gRPC; headers on every answer", "Start: envoy -c tally.yaml, beside tally serve --grpc", map[string]string{"tally.yaml": "envoy.yaml.tmpl"}},
		{"nginx", "auth_request; headers on every answer", "Put it into /etc/nginx/conf.d, then: nginx -t && nginx -s reload", map[string]string{"tally.conf": "nginx.conf.tmpl"}},
		{"traefik", "ForwardAuth; headers on refusals only", "Name it in providers.file.filename, with an entry point \"tally\"", map[string]string{"tally.yaml": "traefik.yaml.tmpl"}},
		{"caddy", "forward_auth, written out; headers on every answer", "Import it in your Caddyfile, then: caddy reload", map[string]string{"tally.caddyfile": "caddy.caddyfile.tmpl"}},
		{"haproxy", "a Lua action, no library needed; headers on every answer", "Start: haproxy -f haproxy.cfg -f tally.cfg", map[string]string{"tally.cfg": "haproxy.cfg.tmpl", "tally.lua": "haproxy.lua.tmpl"}},
	}
}

// Add is tally gateway add.
type Add struct {
	Name   string        `arg:"" optional:"" help:"Which gateway; without a name they are listed."`
	Out    string        `help:"Write the files into this folder, instead of printing them." type:"path" placeholder:"DIR"`
	Listen string        `help:"Where the gateway listens." default:"127.0.0.1:8090" placeholder:"ADDRESS"`
	Door   string        `help:"The server's API address as the gateway reaches it; default: as commands do." placeholder:"URL"`
	GRPC   string        `name:"grpc" help:"The server's --grpc address as Envoy reaches it." default:"127.0.0.1:8082" placeholder:"ADDRESS"`
	Token  string        `name:"door-token" help:"The server's --door-token." env:"TALLY_DOOR_TOKEN" placeholder:"TEXT"`
	Hold   time.Duration `help:"Hold each admission so long for what it did cost, told at /doors/settle; default: the reserved cost is charged at once." placeholder:"DURATION"`
}

// Run prints the configuration, or writes it.
func (c *Add) Run(e *cli.Env) error {
	kinds := gatewayKinds()
	if c.Name == "" {
		return c.list(e, kinds)
	}
	i := slices.IndexFunc(kinds, func(k gatewayKind) bool { return k.Name == c.Name })
	if i < 0 {
		return fmt.Errorf("there is no snippet for %q; tally gateway add lists what there is", c.Name)
	}
	s, err := c.site(e)
	if err != nil {
		return err
	}
	files, err := s.render(kinds[i])
	if err != nil {
		return err
	}
	return c.hand(e, kinds[i], files)
}

func (c *Add) list(e *cli.Env, kinds []gatewayKind) error {
	if e.JSON {
		return cli.PrintJSON(e.Stdout, map[string]any{"items": kinds, "next": nil})
	}
	for _, k := range kinds {
		if _, err := fmt.Fprintf(e.Stdout, "%-9s %s\n", k.Name, k.About); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(e.Stdout, "Next: tally gateway add NAME")
	return err
}

// hand prints the files or writes them. A file that is there is replaced: it is made to be made again.
func (c *Add) hand(e *cli.Env, k gatewayKind, files []snippet) error {
	if c.Out != "" {
		if err := os.MkdirAll(c.Out, 0o755); err != nil { //nolint:gosec // the gateway runs as another user
			return err
		}
		for i := range files {
			files[i].Path = filepath.Join(c.Out, files[i].Name)
			mode := os.FileMode(0o644)
			if c.Token != "" { // it is in the file
				mode = 0o640
			}
			if err := os.WriteFile(files[i].Path, []byte(files[i].Text), mode); err != nil {
				return err
			}
		}
	}
	if e.JSON {
		return cli.PrintJSON(e.Stdout, map[string]any{"name": k.Name, "files": files})
	}
	for _, f := range files {
		text := f.Text
		switch {
		case c.Out != "":
			text = "wrote " + f.Path + "\n"
		case len(files) > 1:
			text = "\n======== " + f.Name + "\n" + text
		}
		if _, err := fmt.Fprint(e.Stdout, text); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(e.Stderr, "Next: "+k.Next)
	return err
}

// site is a deployment as the templates see it.
type site struct {
	Listen, IP, Port string
	KeyHeader        string
	Door             address
	Token, Hold      string
	GRPC             string // of the server, for Envoy
	GRPCHost         string
	GRPCPort         string
	Folder           string   // of the files, with its slash; empty: they are printed
	Asked            []string // headers that decide, in lower case
	Routes           []string
	Upstreams        []address
	Places           []place // the fallback "/" last
}

// KeyHeaderLower is the name of the key's header in lower case.
func (s *site) KeyHeaderLower() string { return strings.ToLower(s.KeyHeader) }

// address is a URL taken apart; N numbers the upstreams.
type address struct {
	N                  int
	Scheme, Host, Base string // Host with its port
	Name               string // without
}

// PortNumber is the port alone.
func (a address) PortNumber() string { return a.Host[strings.LastIndexByte(a.Host, ':')+1:] }

// place is a path whose requests go to one upstream.
type place struct {
	Path     string
	Exact    bool // this path alone, else all below it
	Upstream address
}

type snippet struct {
	Name string `json:"name"`
	Path string `json:"path,omitempty"`
	Text string `json:"text"`
}

var plainToken = regexp.MustCompile(`^[A-Za-z0-9._~+/=-]*$`)

// site asks the server for its catalog.
func (c *Add) site(e *cli.Env) (*site, error) {
	ip, port, err := net.SplitHostPort(c.Listen)
	if err != nil || port == "" {
		return nil, fmt.Errorf("--listen: %q is not an address such as 127.0.0.1:8090", c.Listen)
	}
	grpcHost, grpcPort, err := net.SplitHostPort(c.GRPC)
	if err != nil || grpcHost == "" || grpcPort == "" {
		return nil, fmt.Errorf("--grpc: %q is not an address such as 127.0.0.1:8082", c.GRPC)
	}
	if !plainToken.MatchString(c.Token) {
		return nil, errors.New("--door-token: only letters, digits and . _ ~ + / = - can stand in all configurations")
	}
	if c.Hold != 0 && (c.Hold < time.Second || c.Hold > 5*time.Minute) {
		return nil, errors.New("--hold must be 1s to 5m")
	}
	cl, err := e.Server()
	if err != nil {
		return nil, err
	}
	b, err := cl.Ask(e, "", "/v1/catalog/versions/latest", nil)
	if err != nil {
		return nil, err
	}
	var version struct{ Source string }
	if err := json.Unmarshal(b, &version); err != nil {
		return nil, err
	}
	cat, faults := declare.Decode("catalog", []byte(version.Source))
	if len(faults) > 0 {
		return nil, fmt.Errorf("the server's catalog is not understood: %v", faults)
	}
	s := &site{Listen: c.Listen, IP: ip, Port: port, KeyHeader: cmp.Or(cat.KeyHeader, "Authorization"), Token: c.Token}
	s.GRPC, s.GRPCHost, s.GRPCPort = c.GRPC, grpcHost, grpcPort
	if c.Hold != 0 {
		s.Hold = c.Hold.String()
	}
	if c.Out != "" {
		s.Folder = c.Out + string(filepath.Separator)
	}
	s.Asked = []string{strings.ToLower(s.KeyHeader)}
	if h := strings.ToLower(cat.EndUser.Header); h != "" && h != s.Asked[0] {
		s.Asked = append(s.Asked, h)
	}
	if s.Door, err = addressOf(cmp.Or(c.Door, cl.API)); err != nil {
		return nil, fmt.Errorf("--door: %w", err)
	}
	return s, s.place(cat.Routes)
}

// place finds out which path goes to which upstream. The first route's is the fallback: what no route matches is refused
// before it gets there.
func (s *site) place(routes []catalog.Route) error {
	if len(routes) == 0 {
		return errors.New("the catalog has no routes; declare gateway.routes first")
	}
	seen := map[string]address{}
	taken := map[string]address{}
	var fallback address
	for i := range routes {
		r := &routes[i]
		s.Routes = append(s.Routes, r.Match)
		up, ok := seen[r.Upstream]
		if !ok {
			var err error
			if up, err = addressOf(r.Upstream); err != nil {
				return err
			}
			up.N = len(s.Upstreams)
			seen[r.Upstream] = up
			s.Upstreams = append(s.Upstreams, up)
		}
		if i == 0 {
			fallback = up
		}
		path, exact := placeOf(r.Match)
		switch other, ok := taken[path]; {
		case path == "/":
			fallback = up
		case ok && other != up:
			return fmt.Errorf("the route %q goes to %s, another with the same beginning to %s: write this part of the configuration by hand, or give both one upstream", r.Match, up.Host, other.Host)
		case !ok:
			taken[path] = up
			s.Places = append(s.Places, place{path, exact, up})
		}
	}
	if len(s.Upstreams) == 1 {
		s.Places = nil
	}
	// The longest first: some gateways take the first that fits.
	slices.SortStableFunc(s.Places, func(a, b place) int { return len(b.Path) - len(a.Path) })
	s.Places = append(s.Places, place{"/", false, fallback})
	return nil
}

// placeOf is the fixed beginning of a route's path, and whether that is all of it.
func placeOf(match string) (path string, exact bool) {
	path = match[strings.IndexByte(match, '/'):]
	if i := strings.IndexByte(path, '{'); i >= 0 {
		return path[:i], false
	}
	return path, !strings.HasSuffix(path, "/")
}

func addressOf(raw string) (address, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return address{}, fmt.Errorf("%q is not an http or https address", raw)
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return address{Scheme: u.Scheme, Host: net.JoinHostPort(u.Hostname(), port), Base: strings.TrimSuffix(u.EscapedPath(), "/"), Name: u.Hostname()}, nil
}

// render fills the templates, in the order of the files' names.
func (s *site) render(k gatewayKind) ([]snippet, error) {
	var out []snippet
	for name, source := range k.files {
		t, err := template.ParseFS(snippets, "snippets/"+source)
		if err != nil {
			return nil, err
		}
		var b strings.Builder
		if err := t.Execute(&b, s); err != nil {
			return nil, err
		}
		out = append(out, snippet{Name: name, Text: b.String()})
	}
	slices.SortFunc(out, func(a, b snippet) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}
