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
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/web/answer"
	"github.com/tallystick/tallystick/internal/web/gateway/cost"
	"github.com/tallystick/tallystick/internal/web/gateway/shape"
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
	// Standard sends all requests by that transport, plain ones too.
	Standard bool
	// Expressions compiles the CEL expressions of routes' costs; nil: routes that have one are left out.
	Expressions func(expression string) (cost.Expression, error)
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
	direct  *direct // nil: Config.Standard
	queues  *shape.Queues
	stats   stats
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
	g := &Gateway{cfg: cfg, byWait: map[time.Duration]http.RoundTripper{}, buffers: NewBufferPool(), queues: shape.New()}
	if !cfg.Standard {
		g.direct = newDirect(g)
	}
	return g, nil
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

// refuse answers a request that is not looked at any further.
func (x *exchange) refuse(w http.ResponseWriter, p answer.Problem) {
	x.status, x.refused = p.Status, &p
	answer.Write(w, p)
}

// ServeHTTP admits, forwards and settles one request.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := g.cfg.Now()
	x := &exchange{in: r}
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
	if x.keyHeader == "" {
		x.keyHeader = "Authorization"
	}
	g.admit(r.Context(), x, enforce.Request{
		Secret: t.Secret(r.Header.Get), Route: rt.Route, Method: r.Method, User: t.User(r.Header.Get), Stays: true,
	})
	if !x.Allowed() {
		x.status = answer.Deny(w, x.Admission)
		return
	}
	defer g.ended(r.Context(), x)
	if err := x.BeforeForward(r.Context()); err != nil {
		g.release(r.Context(), x)
		x.status = answer.Unavailable(w, x.DecisionID)
		return
	}
	if !r.ProtoAtLeast(1, 1) {
		w = old{w}
	}
	if r.Body != nil && r.Body != http.NoBody {
		x.upload = g.bound(w, r)
		r.Body = x.upload
	}
	if g.direct != nil && g.direct.forward(w, r, x) {
		return
	}
	rt.standard.forward(w, r, x)
}

// old answers a client of HTTP/1.0, which would take an answer 1xx for the real one.
type old struct{ http.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (o old) WriteHeader(status int) {
	if status >= http.StatusOK {
		o.ResponseWriter.WriteHeader(status)
	}
}

// Unwrap is for http.ResponseController.
func (o old) Unwrap() http.ResponseWriter { return o.ResponseWriter }

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
