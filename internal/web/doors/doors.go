// Package doors answers proxies that ask whether a request may go on: nginx auth_request, Traefik ForwardAuth, Caddy
// forward_auth, HAProxy. The proxy forwards the request itself; this process only decides and counts.
package doors

import (
	"context"
	"crypto/subtle"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/web/answer"
	"github.com/tallystick/tallystick/internal/web/match"
)

// Paths of the door.
const (
	AuthPath   = "/doors/auth"
	SettlePath = "/doors/settle"
)

// TokenHeader carries the secret that proxies share with this process, where one is set.
const TokenHeader = "Tally-Door-Token"

// Limiter decides on requests; enforce.Enforcer fits.
type Limiter interface {
	Admit(ctx context.Context, r enforce.Request) *enforce.Admission
	NoRoute() (decisionID string)
}

// Config of a Door.
type Config struct {
	Limiter Limiter                  // required
	Catalog func() *catalog.Compiled // the newest version; required
	Log     *slog.Logger             // required
	Now     func() time.Time         // real time, for how long admissions are held; required
	// Peers are the networks whose word on the original request is taken: the proxies'. Default: this machine.
	Peers []netip.Prefix
	// Token must be in Tally-Door-Token; empty: none is asked for.
	Token string
	// HeldMax bounds the admissions that wait for what they did cost. Beyond it an admission is charged at once. Default 65536.
	HeldMax int
}

const heldMaxDefault = 1 << 16

// Stats are counters since the start, and what is held now.
type Stats struct {
	Asked   int64 // requests that a proxy asked about
	Refused int64 // of them: the proxy was not trusted, or did not say what was asked
	Held    int64 // admissions that wait for what they did cost
	Full    int64 // charged at once, because too many were held
	Expired int64 // charged in full, because nobody told what they did cost
}

// Door is an http.Handler for the paths below /doors/.
type Door struct {
	cfg     Config
	table   atomic.Pointer[match.Table]
	buildMu sync.Mutex // one table is built at a time
	held    held
	asked   atomic.Int64
	refused atomic.Int64
}

// New checks the configuration and starts nothing.
func New(cfg Config) (*Door, error) {
	if cfg.Limiter == nil || cfg.Catalog == nil || cfg.Log == nil || cfg.Now == nil {
		return nil, errors.New("doors: incomplete configuration")
	}
	if len(cfg.Peers) == 0 {
		cfg.Peers = Local()
	}
	if cfg.HeldMax == 0 {
		cfg.HeldMax = heldMaxDefault
	}
	return &Door{cfg: cfg, held: held{max: cfg.HeldMax, byID: map[string]*entry{}}}, nil
}

// Local are the networks of this machine alone.
func Local() []netip.Prefix {
	return []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{127}), 8), netip.PrefixFrom(netip.IPv6Loopback(), 128)}
}

// Stats reads the counters.
func (d *Door) Stats() Stats {
	s := Stats{Asked: d.asked.Load(), Refused: d.refused.Load(), Full: d.held.full.Load(), Expired: d.held.expired.Load()}
	s.Held = int64(d.held.len())
	return s
}

// routes returns the table of the newest catalog version.
func (d *Door) routes() *match.Table {
	cat := d.cfg.Catalog()
	if t := d.table.Load(); t != nil && t.Version == cat.Version {
		return t
	}
	d.buildMu.Lock()
	defer d.buildMu.Unlock()
	if t := d.table.Load(); t != nil && t.Version == cat.Version {
		return t
	}
	t := match.New(cat, d.cfg.Log)
	d.table.Store(t)
	return t
}

// ServeHTTP answers one question.
func (d *Door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case AuthPath:
		d.auth(w, r)
	case SettlePath:
		d.settle(w, r)
	default:
		answer.Write(w, answer.Problem{
			Code: "not_found", Status: http.StatusNotFound, Detail: "There is no such door.", Fix: "Ask at " + AuthPath + " or " + SettlePath + ".",
		})
	}
}

// auth decides on the request that the proxy tells of.
func (d *Door) auth(w http.ResponseWriter, r *http.Request) {
	d.asked.Add(1)
	o, p := readOptions(r.URL.RawQuery)
	if p == nil {
		p = d.peer(r)
	}
	var told original
	if p == nil {
		told, p = readOriginal(r, o.from)
	}
	if p != nil {
		d.refused.Add(1)
		d.deny(w, o, nil, *p)
		return
	}
	t := d.routes()
	route := t.Lookup(told.method, told.host, told.target)
	if route == nil {
		d.deny(w, o, nil, answer.Problem{
			Code: "route_unknown", Status: http.StatusNotFound, DecisionID: d.cfg.Limiter.NoRoute(),
			Detail: "No route of this gateway matches the request.", Fix: "Check the method and the path.",
		})
		return
	}
	a := d.cfg.Limiter.Admit(r.Context(), enforce.Request{
		Secret: t.Secret(r.Header.Get), Route: route, Method: told.method, User: t.User(r.Header.Get),
	})
	if !a.Allowed() {
		d.deny(w, o, a, answer.Denial(a))
		return
	}
	if err := d.charge(r.Context(), a, route, o.hold); err != nil {
		if r.Context().Err() == nil { // else it is the proxy that left
			d.cfg.Log.ErrorContext(r.Context(), "a request could not be accounted for", slog.String("route", route.Match), slog.Any("error", err))
		}
		d.deny(w, o, nil, unavailable(a.DecisionID))
		return
	}
	allow(w, a)
}

// charge settles an admission, or holds it until its cost is told.
func (d *Door) charge(ctx context.Context, a *enforce.Admission, route *catalog.Route, hold time.Duration) error {
	err := a.BeforeForward(ctx)
	if err == nil {
		err = ctx.Err() // a proxy that has stopped waiting forwards nothing
	}
	if err != nil {
		return errors.Join(err, a.Release(enforce.Withdrawn))
	}
	if hold > 0 && d.held.keep(a, route, d.cfg.Now().Add(hold)) {
		return nil
	}
	return a.Settle(enforce.Actual{})
}

// peer refuses who may not ask. nil: it may.
func (d *Door) peer(r *http.Request) *answer.Problem {
	if !d.near(r.RemoteAddr) {
		return refusal("The door does not answer this address.", "Name the proxy's network with --door-peers.")
	}
	if d.cfg.Token != "" && subtle.ConstantTimeCompare([]byte(r.Header.Get(TokenHeader)), []byte(d.cfg.Token)) != 1 {
		return refusal("The door's token is missing or wrong.", "Let the proxy send "+TokenHeader+".")
	}
	return nil
}

func refusal(detail, fix string) *answer.Problem {
	return &answer.Problem{Code: "door_refused", Status: http.StatusForbidden, Detail: detail, Fix: fix}
}

func (d *Door) near(remote string) bool {
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		return false
	}
	ip := ap.Addr().Unmap()
	for _, p := range d.cfg.Peers {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

func unavailable(decisionID string) answer.Problem {
	return answer.Problem{
		Code: "unavailable", Status: http.StatusServiceUnavailable, DecisionID: decisionID, Retryable: true, RetryAfter: 1,
		Detail: "The gateway cannot account for this request at the moment.", Fix: "Try again; tell the API's owner if it lasts.",
	}
}

// allow says that the request may go on, and for whom.
func allow(w http.ResponseWriter, a *enforce.Admission) {
	h := w.Header()
	answer.SetHeaders(h, a)
	values := [...]string{a.Principal.Customer.Key, a.Principal.Key.ID, "0"}
	h["Tally-Customer"], h["Tally-Key-Id"], h["Content-Length"] = values[0:1:1], values[1:2:2], values[2:3:3]
	w.WriteHeader(http.StatusOK)
}

// deny answers with a problem. A proxy that takes no status but 401 and 403 gets one of them, and the rest in headers: it
// answers the caller from those.
func (d *Door) deny(w http.ResponseWriter, o options, a *enforce.Admission, p answer.Problem) {
	h := w.Header()
	if a != nil {
		answer.SetHeaders(h, a)
	}
	if p.Status == http.StatusUnauthorized {
		h["Www-Authenticate"] = []string{answer.Challenge}
	}
	if !o.mapped {
		answer.Write(w, p)
		return
	}
	h["Tally-Status"] = []string{strconv.Itoa(p.Status)}
	h["Tally-Problem"] = []string{headerText(p.Body())}
	h["Cache-Control"] = []string{"no-store"}
	h["Content-Length"] = []string{"0"}
	if p.DecisionID != "" {
		h["Decision-Id"] = []string{p.DecisionID}
	}
	if p.RetryAfter > 0 {
		h["Retry-After"] = []string{strconv.FormatInt(p.RetryAfter, 10)}
	}
	if p.Status == http.StatusUnauthorized {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	w.WriteHeader(http.StatusForbidden)
}
