package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/web/gateway/cost"
)

// NewTransport keeps many connections to few upstreams.
func NewTransport(headerTimeout time.Duration) http.RoundTripper {
	return &http.Transport{
		Proxy:                  once, // and never the environment's: an upstream is named in the catalog
		DialContext:            (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		ForceAttemptHTTP2:      true,
		MaxIdleConns:           1024,
		MaxIdleConnsPerHost:    256,
		IdleConnTimeout:        90 * time.Second,
		TLSHandshakeTimeout:    10 * time.Second,
		ResponseHeaderTimeout:  headerTimeout,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: 256 << 10,
		DisableCompression:     true, // pass bodies through as they are
	}
}

var errResent = errors.New("the upstream closed the connection before it answered")

// once is asked before each attempt to send a request. The transport would send a GET again when a kept connection dies, and
// the upstream could work twice for one admitted request.
func once(r *http.Request) (*url.URL, error) {
	if x, ok := r.Context().Value(exchangeKey{}).(*exchange); ok {
		if x.attempts++; x.attempts > 1 {
			return nil, errResent
		}
	}
	return nil, nil //nolint:nilnil // no proxy
}

// forwarder sends an admitted request to the upstream and the answer to the client. It calls Gateway.answered when the answer's
// head is there, reads its body through exchange.tracker, and calls Gateway.failed when there is no answer. It says false where
// the request is none for it; nothing was sent then.
type forwarder interface {
	forward(w http.ResponseWriter, r *http.Request, x *exchange) bool
}

// standard forwards by net/http's own transport and reverse proxy, whatever the request is.
type standard struct{ proxy *httputil.ReverseProxy }

func (s *standard) forward(w http.ResponseWriter, r *http.Request, x *exchange) bool {
	s.proxy.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), exchangeKey{}, x)))
	return true
}

// route forwards one catalog route.
type route struct {
	*catalog.Route
	target   *url.URL
	direct   *target // nil: not for plain connections
	standard forwarder
	cost     *cost.Source // nil: fixed
}

// forward readies the way to a route's upstream. The catalog was validated when it was applied, so an upstream that is no URL is
// a fault of the program: it is logged, and the route's requests get 404 unmetered.
func (g *Gateway) forward(cr *catalog.Route) *route {
	target, err := url.Parse(cr.Upstream)
	if err != nil {
		g.cfg.Log.Error("route left out", slog.String("match", cr.Match), slog.Any("error", err))
		return nil
	}
	source, err := cost.Compile(cr, g.cfg.Expressions)
	if err != nil {
		g.cfg.Log.Error("route left out", slog.String("match", cr.Match), slog.Any("error", err))
		return nil
	}
	transport := g.byWait[cr.Timeout]
	if transport == nil {
		transport = g.cfg.Transport(cr.Timeout)
		g.byWait[cr.Timeout] = transport
	}
	return &route{Route: cr, target: target, direct: plainTarget(target), cost: source, standard: &standard{&httputil.ReverseProxy{
		Rewrite:        g.rewrite,
		Transport:      transport,
		BufferPool:     g.buffers,
		ModifyResponse: g.modify,
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			g.failed(w, r, exchangeOf(r.Context()), err)
		},
		ErrorLog: slog.NewLogLogger(g.cfg.Log.Handler(), slog.LevelDebug),
	}}}
}

func exchangeOf(ctx context.Context) *exchange {
	x, ok := ctx.Value(exchangeKey{}).(*exchange)
	if !ok {
		panic("gateway: a proxied request without its exchange")
	}
	return x
}

// rewrite makes the request to the upstream: never with the caller's key, nor with Tally-* of the caller's making.
func (g *Gateway) rewrite(pr *httputil.ProxyRequest) {
	x := exchangeOf(pr.In.Context())
	pr.SetURL(x.route.target)
	if g.trusted(pr.In.RemoteAddr) {
		pr.Out.Header["X-Forwarded-For"] = pr.In.Header["X-Forwarded-For"]
	}
	pr.SetXForwarded()
	out := pr.Out.Header
	for name := range out {
		if ours(name) || disguised(name) || sameName(name, x.keyHeader) {
			delete(out, name)
		}
	}
	for name := range pr.Out.Trailer {
		if ours(name) || disguised(name) || sameName(name, x.keyHeader) {
			delete(pr.Out.Trailer, name)
		}
	}
	out["Tally-Customer"] = []string{x.Principal.Customer.Key}
	out["Tally-Key-Id"] = []string{x.Principal.Key.ID}
}

// ours says whether a header's name begins with Tally-. An upstream that turns names into variables cannot tell _ from -.
func ours(name string) bool { return len(name) > 5 && sameName(name[:6], "Tally-") }

// disguised says whether a header is one of X-Forwarded-* for an upstream that cannot tell _ from -.
func disguised(name string) bool {
	const family = "X-Forwarded-"
	return strings.IndexByte(name, '_') >= 0 && (len(name) > len(family) && sameName(name[:len(family)], family))
}

func sameName(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if letter(a[i]) != letter(b[i]) {
			return false
		}
	}
	return true
}

func letter(c byte) byte {
	switch {
	case c == '_':
		return '-'
	case c >= 'A' && c <= 'Z':
		return c + 'a' - 'A'
	}
	return c
}

func (g *Gateway) trusted(remote string) bool {
	if len(g.cfg.Trusted) == 0 {
		return false
	}
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		return false
	}
	for _, p := range g.cfg.Trusted {
		if p.Contains(ap.Addr().Unmap()) {
			return true
		}
	}
	return false
}

// modify runs when the upstream's headers are there and before the client sees any of them.
func (g *Gateway) modify(resp *http.Response) error {
	x, r := exchangeOf(resp.Request.Context()), resp.Request
	upgrade := resp.StatusCode == http.StatusSwitchingProtocols
	if upgrade && !strings.EqualFold(resp.Header.Get("Upgrade"), r.Header.Get("Upgrade")) {
		return errUpgrade // before anything is charged
	}
	bodied := !upgrade && resp.Body != nil && resp.ContentLength != 0 && r.Method != http.MethodHead
	if err := g.answered(x, resp.StatusCode, resp.Header, bodied); err != nil {
		return err
	}
	if bodied {
		resp.Body = x.track(g, resp.Body, resp.ContentLength)
	}
	return nil
}

var errUpgrade = errors.New("the upstream changed to a protocol that was not asked for")
