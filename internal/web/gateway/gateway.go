// Package gateway is the reverse proxy: it asks the limiter before it forwards, settles before it answers, and shows each
// caller where it stands.
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
	"sync"
	"sync/atomic"
	"time"

	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/web/answer"
	"github.com/tallystick/tallystick/internal/web/match"
)

// Limiter decides on requests; enforce.Enforcer fits.
type Limiter interface {
	Admit(ctx context.Context, r enforce.Request) *enforce.Admission
	NoRoute() (decisionID string)
}

// Config of a Gateway.
type Config struct {
	Limiter Limiter                  // required
	Catalog func() *catalog.Compiled // the newest version; required
	Log     *slog.Logger             // required
	Access  *slog.Logger             // one line a request, without secrets; nil: none
	Now     func() time.Time         // real time, for latencies; required
	// Observe is told each answer's status and how long it took; may be nil.
	Observe func(status int, took time.Duration)
	// Trusted are the proxies whose X-Forwarded-* is passed on; from others it is replaced. Default none.
	Trusted []netip.Prefix
	// MaxBody bounds a request body in bytes; beyond it 413. Default 32 MiB.
	MaxBody int64
	// BodyTimeout bounds how long a request body may take to arrive; beyond it 408. Default 60 s.
	BodyTimeout time.Duration
	// Transport makes the transport to upstreams that must answer within a time; default NewTransport.
	Transport func(headerTimeout time.Duration) http.RoundTripper
}

const (
	maxBodyDefault     = 32 << 20
	bodyTimeoutDefault = time.Minute
)

// Gateway is an http.Handler.
type Gateway struct {
	cfg     Config
	table   atomic.Pointer[table]
	buildMu sync.Mutex // one table is built at a time; guards transports
	byWait  map[time.Duration]http.RoundTripper
	buffers httputil.BufferPool
}

// table is one catalog version's routes.
type table struct {
	*match.Table
	forward []*route // of each of the table's routes; nil: it cannot be forwarded
}

// New checks the configuration and starts nothing.
func New(cfg Config) (*Gateway, error) {
	if cfg.Limiter == nil || cfg.Catalog == nil || cfg.Log == nil || cfg.Now == nil {
		return nil, errors.New("gateway: incomplete configuration")
	}
	if cfg.MaxBody == 0 {
		cfg.MaxBody = maxBodyDefault
	}
	if cfg.BodyTimeout == 0 {
		cfg.BodyTimeout = bodyTimeoutDefault
	}
	if cfg.Transport == nil {
		cfg.Transport = NewTransport
	}
	return &Gateway{cfg: cfg, byWait: map[time.Duration]http.RoundTripper{}, buffers: NewBufferPool()}, nil
}

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

// route forwards one catalog route.
type route struct {
	*catalog.Route
	target *url.URL
	proxy  *httputil.ReverseProxy
}

// routes returns the table of the newest catalog version. Running requests keep the one they began with.
func (g *Gateway) routes() *table {
	cat := g.cfg.Catalog()
	if t := g.table.Load(); t != nil && t.Version == cat.Version {
		return t
	}
	g.buildMu.Lock()
	defer g.buildMu.Unlock()
	if t := g.table.Load(); t != nil && t.Version == cat.Version {
		return t
	}
	t := &table{Table: match.New(cat, g.cfg.Log)}
	for _, r := range t.Routes() {
		t.forward = append(t.forward, g.forward(r))
	}
	g.table.Store(t)
	return t
}

// forward readies the way to a route's upstream. The catalog was validated when it was applied, so an upstream that is no URL is
// a fault of the program: it is logged, and the route's requests get 404 unmetered.
func (g *Gateway) forward(cr *catalog.Route) *route {
	target, err := url.Parse(cr.Upstream)
	if err != nil {
		g.cfg.Log.Error("route left out", slog.String("match", cr.Match), slog.Any("error", err))
		return nil
	}
	transport := g.byWait[cr.Timeout]
	if transport == nil {
		transport = g.cfg.Transport(cr.Timeout)
		g.byWait[cr.Timeout] = transport
	}
	return &route{Route: cr, target: target, proxy: &httputil.ReverseProxy{
		Rewrite:        g.rewrite,
		Transport:      transport,
		BufferPool:     g.buffers,
		ModifyResponse: g.answered,
		ErrorHandler:   g.failed,
		ErrorLog:       slog.NewLogLogger(g.cfg.Log.Handler(), slog.LevelDebug),
	}}
}

type exchangeKey struct{}

// exchange is one request on its way.
type exchange struct {
	*enforce.Admission
	route     *route
	keyHeader string
	status    int
	sent      int64
	tracker   body
	upload    *upload // the request's body; nil without one
	attempts  int
	refused   *answer.Problem // before any key was looked at
}

// refuse answers a request that is not looked at any further.
func (x *exchange) refuse(w http.ResponseWriter, p answer.Problem) {
	x.status, x.refused = p.Status, &p
	answer.Write(w, p)
}

// ServeHTTP admits, forwards and settles one request.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := g.cfg.Now()
	x := &exchange{}
	defer func() { // also when an answer that was cut off ends in a panic
		took := g.cfg.Now().Sub(start)
		if g.cfg.Observe != nil {
			g.cfg.Observe(x.status, took)
		}
		if g.cfg.Access != nil {
			g.log(r, x, took)
		}
	}()
	g.serve(w, r, x)
}

func (g *Gateway) serve(w http.ResponseWriter, r *http.Request, x *exchange) {
	if !methodFits(r.Method) {
		x.refuse(w, answer.Problem{
			Code: "method_not_allowed", Status: http.StatusMethodNotAllowed, DecisionID: g.cfg.Limiter.NoRoute(),
			Detail: "The gateway does not forward this method.", Fix: "Use a method such as GET or POST.",
		})
		return
	}
	t := g.routes()
	var rt *route
	if i := t.Find(r); i >= 0 {
		rt = t.forward[i]
	}
	if rt == nil {
		x.refuse(w, answer.Problem{
			Code: "route_unknown", Status: http.StatusNotFound, DecisionID: g.cfg.Limiter.NoRoute(),
			Detail: "No route of this gateway matches the request.", Fix: "Check the method and the path.",
		})
		return
	}
	if r.ContentLength > g.cfg.MaxBody {
		x.refuse(w, answer.TooLarge(g.cfg.Limiter.NoRoute(), g.cfg.MaxBody))
		return
	}
	x.route, x.keyHeader = rt, t.KeyHeader
	x.Admission = g.cfg.Limiter.Admit(r.Context(), enforce.Request{
		Secret: t.Secret(r.Header.Get), Route: rt.Route, Method: r.Method, User: t.User(r.Header.Get),
	})
	if !x.Allowed() {
		x.status = answer.Deny(w, x.Admission)
		return
	}
	if err := x.BeforeForward(r.Context()); err != nil {
		g.release(r.Context(), x)
		x.status = answer.Unavailable(w, x.DecisionID)
		return
	}
	if r.Body != nil && r.Body != http.NoBody {
		x.upload = g.bound(w, r)
		r.Body = x.upload
	}
	defer g.release(r.Context(), x) // does nothing once settled; covers a panic on the way
	rt.proxy.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), exchangeKey{}, x)))
}

// methodFits accepts the methods that can be forwarded: short tokens (RFC 9110, section 5.6.2). CONNECT asks for a tunnel.
func methodFits(m string) bool {
	if m == "" || len(m) > 32 || m == http.MethodConnect {
		return false
	}
	for i := range len(m) {
		c := m[i]
		if (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && (c < '0' || c > '9') && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return true
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
	secret := x.keyHeader
	if secret == "" {
		secret = "Authorization"
	}
	for name := range out {
		if ours(name) || sameName(name, secret) {
			delete(out, name)
		}
	}
	out["Tally-Customer"] = []string{x.Principal.Customer.Key}
	out["Tally-Key-Id"] = []string{x.Principal.Key.ID}
}

// ours says whether a header's name begins with Tally-. An upstream that turns names into variables cannot tell _ from -.
func ours(name string) bool { return len(name) > 5 && sameName(name[:6], "Tally-") }

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

// answered runs when the upstream's headers are there and before the client sees any of them.
func (g *Gateway) answered(resp *http.Response) error {
	x := exchangeOf(resp.Request.Context())
	if resp.StatusCode == http.StatusSwitchingProtocols && !strings.EqualFold(resp.Header.Get("Upgrade"), resp.Request.Header.Get("Upgrade")) {
		return errUpgrade // before anything is charged
	}
	x.status = resp.StatusCode
	var err error
	if resp.StatusCode >= http.StatusInternalServerError {
		err = x.Release(enforce.Failed)
	} else {
		err = x.Settle(enforce.Actual{Status: resp.StatusCode})
	}
	if err != nil {
		return err
	}
	answer.SetHeaders(resp.Header, x.Admission)
	if resp.StatusCode != http.StatusSwitchingProtocols && resp.Body != nil && resp.ContentLength != 0 && resp.Request.Method != http.MethodHead {
		x.tracker = body{ReadCloser: resp.Body, x: x, left: resp.ContentLength}
		resp.Body = &x.tracker
	}
	return nil
}

var errUpgrade = errors.New("the upstream changed to a protocol that was not asked for")

// failed answers for an upstream that did not.
func (g *Gateway) failed(w http.ResponseWriter, r *http.Request, err error) {
	x := exchangeOf(r.Context())
	g.release(r.Context(), x)
	var timeout interface{ Timeout() bool }
	var large *http.MaxBytesError
	p := answer.Problem{DecisionID: x.DecisionID}
	switch {
	case errors.As(err, &large):
		p = answer.TooLarge(x.DecisionID, g.cfg.MaxBody)
	case x.upload != nil && x.upload.late():
		p.Code, p.Status = "body_timeout", http.StatusRequestTimeout
		p.Detail, p.Fix = "The request body did not arrive in time. The request was not counted.", "Send it faster, or less at once."
	case r.Context().Err() != nil: // the client has left, or closed its side: an empty 200 must not reach it
		x.status = statusClientGone
		panic(http.ErrAbortHandler)
	case x.status != 0 && x.status < http.StatusInternalServerError: // the settlement failed
		x.status = answer.Unavailable(w, x.DecisionID)
		return
	case errors.As(err, &timeout) && timeout.Timeout():
		p.Code, p.Status = "upstream_timeout", http.StatusGatewayTimeout
		p.Detail, p.Fix = "The API did not answer in time. The request was not counted.", "Try again later."
	default:
		p.Code, p.Status = "upstream_unreachable", http.StatusBadGateway
		p.Detail, p.Fix = "The API could not be reached. The request was not counted.", "Try again later."
	}
	p.Retryable = p.Status >= http.StatusInternalServerError
	x.status = p.Status
	g.cfg.Log.WarnContext(r.Context(), "upstream failed", slog.String("route", x.route.Match), slog.String("code", p.Code), slog.Any("error", err))
	answer.SetHeaders(w.Header(), x.Admission)
	answer.Write(w, p)
}

// statusClientGone is logged for a client that left before the answer; it is never sent.
const statusClientGone = 499

func (g *Gateway) release(ctx context.Context, x *exchange) {
	if err := x.Release(enforce.Failed); err != nil {
		g.cfg.Log.ErrorContext(ctx, "a failed request stays charged", slog.Any("error", err))
	}
}

func (g *Gateway) log(r *http.Request, x *exchange, took time.Duration) {
	remote, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		remote = r.RemoteAddr
	}
	var customer, key, id, code string
	if x.refused != nil {
		id, code = x.refused.DecisionID, x.refused.Code
	}
	if x.Admission != nil {
		customer, key, code = x.Principal.Customer.Key, x.Principal.Key.ID, x.Code
		id = x.DecisionID
		if x.Allowed() { // a denial is logged whole, so that it can be explained from the log
			id, _, _ = strings.Cut(id, ".")
		}
	}
	g.cfg.Access.LogAttrs(r.Context(), slog.LevelInfo, "request",
		slog.String("method", r.Method), slog.String("path", r.URL.EscapedPath()), slog.String("proto", r.Proto), slog.Int("status", x.status),
		slog.Int64("bytes", x.sent), slog.Int64("took_us", took.Microseconds()), slog.String("remote", remote),
		slog.String("customer", customer), slog.String("key", key), slog.String("code", code), slog.String("decision", id))
}
