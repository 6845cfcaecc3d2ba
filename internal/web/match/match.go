// Package match finds out what a request is to the catalog: its route, its key, its end user. All doors share it.
package match

import (
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/tallystick/tallystick/internal/core/catalog"
)

// Table is a catalog version's routes, ready to be matched. It is safe for concurrent use.
type Table struct {
	Version   int64
	KeyHeader string // empty: Authorization: Bearer
	EndUser   catalog.EndUser
	mux       *http.ServeMux
	routes    []*catalog.Route
}

// handler carries a route's index through http.ServeMux; it never serves.
type handler int

func (handler) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusInternalServerError)
}

// New builds the table. A route whose pattern http.ServeMux does not take is left out and logged.
func New(cat *catalog.Compiled, log *slog.Logger) *Table {
	t := &Table{Version: cat.Version, KeyHeader: cat.KeyHeader, EndUser: cat.EndUser, mux: http.NewServeMux()}
	for i := range cat.Routes {
		t.add(&cat.Routes[i], log)
	}
	return t
}

func (t *Table) add(r *catalog.Route, log *slog.Logger) {
	defer func() {
		if fault := recover(); fault != nil { // ServeMux panics on patterns it does not like
			log.Error("route left out", slog.String("match", r.Match), slog.Any("fault", fault))
		}
	}()
	t.mux.Handle(r.Match, handler(len(t.routes)))
	t.routes = append(t.routes, r)
}

// Routes are those in the table; Find answers with an index into them.
func (t *Table) Routes() []*catalog.Route { return t.routes }

// Find is the index of the route that a request takes, -1 for none. It looks at method, host and path. A path that the API may
// read as another one takes no route: what is admitted and charged must be what is served.
func (t *Table) Find(r *http.Request) int {
	h, _ := t.mux.Handler(r)
	i, ok := h.(handler)
	if !ok {
		return -1
	}
	path := r.URL.Path
	if r.URL.RawPath == "" && strings.IndexByte(path, ';') < 0 && strings.IndexByte(path, '\\') < 0 && strings.IndexByte(path, 0) < 0 {
		return int(i) // dots were looked at by ServeMux
	}
	other, ok := reread(path)
	if !ok {
		return -1
	}
	same, pattern := t.mux.Handler(&http.Request{Method: r.Method, Host: r.Host, URL: &url.URL{Path: other}})
	if pattern != "" && same != h {
		return -1
	}
	return int(i)
}

// reread is an unescaped path as servers read it that take an escaped slash or a backslash for a slash, and drop what follows a
// semicolon in a segment. false: it climbs, or has a zero byte, at which some servers stop.
func reread(path string) (string, bool) {
	if strings.IndexByte(path, 0) >= 0 {
		return "", false
	}
	var b strings.Builder
	b.Grow(len(path) + 1)
	last := ""
	for segment := range strings.SplitSeq(strings.ReplaceAll(path, "\\", "/"), "/") {
		last, _, _ = strings.Cut(segment, ";")
		switch last {
		case ".", "..":
			return "", false
		case "":
			continue
		}
		b.WriteByte('/')
		b.WriteString(last)
	}
	if last == "" {
		b.WriteByte('/')
	}
	return b.String(), true
}

// Lookup is Find for a request that is told of: target is its path, with or without a query. nil: no route.
func (t *Table) Lookup(method, host, target string) *catalog.Route {
	path, query, _ := strings.Cut(target, "?")
	unescaped, err := url.PathUnescape(path)
	if err != nil {
		return nil // no server reads it
	}
	u := &url.URL{Host: host, Path: unescaped, RawQuery: query}
	if strings.IndexByte(path, '%') >= 0 {
		u.RawPath = path
	}
	if i := t.Find(&http.Request{Method: method, Host: host, URL: u, RequestURI: target}); i >= 0 {
		return t.routes[i]
	}
	return nil
}

// Secret reads the key from the header that the catalog names, or Authorization: Bearer. get is like http.Header.Get.
func (t *Table) Secret(get func(name string) string) string {
	if t.KeyHeader != "" {
		return get(t.KeyHeader)
	}
	return bearer(get("Authorization"))
}

func bearer(v string) string {
	const scheme = "bearer "
	if len(v) > len(scheme) && strings.EqualFold(v[:len(scheme)], scheme) {
		return strings.TrimSpace(v[len(scheme):])
	}
	return ""
}

// userMax bounds what is taken as an end user's name, in bytes; tokenMax a token that it is read from.
const (
	userMax  = 256
	tokenMax = 16 << 10
)

// User is the end user that a request names; empty for none, and for what is too long or malformed.
func (t *Table) User(get func(name string) string) string {
	if t.EndUser.Header == "" {
		return ""
	}
	v := get(t.EndUser.Header)
	if t.EndUser.Claim != "" {
		if token := bearer(v); token != "" {
			v = token
		}
		v = claim(v, t.EndUser.Claim)
	}
	if len(v) > userMax || !utf8.ValidString(v) {
		return ""
	}
	return v
}

// claim reads a text or number from the payload of a JWT (RFC 7519). The signature is not looked at.
func claim(token, name string) string {
	_, rest, ok := strings.Cut(token, ".")
	payload, _, ok2 := strings.Cut(rest, ".")
	if !ok || !ok2 || len(token) > tokenMax {
		return ""
	}
	raw, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		return ""
	}
	var claims map[string]json.RawMessage
	if json.Unmarshal(raw, &claims) != nil {
		return ""
	}
	var text string
	if json.Unmarshal(claims[name], &text) == nil {
		return text
	}
	var number json.Number
	if json.Unmarshal(claims[name], &number) == nil {
		return number.String()
	}
	return ""
}
