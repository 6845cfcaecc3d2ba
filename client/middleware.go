package client

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// Route says how the requests of a handler are metered. Meter or Match is required.
type Route struct {
	// Meter is what is used. Match is a route of the catalog, whose limits, meter and features hold.
	Meter, Match string
	// Cost of a request in the meter's unit at Scale, 0 to 18 decimals. 0 is 1 unit at scale 0; use Free for none. With Actual it is
	// the estimate that is admitted.
	Cost  int64
	Scale int
	// Free lets requests through that the customer's limits allow, and charges nothing.
	Free bool
	// Actual is what a request did cost, once it is answered. Nil: Cost.
	Actual func(*http.Request, Answer) int64
	// Key reads the API key. Default: Authorization: Bearer.
	Key func(*http.Request) string
	// User reads the end user, where limits are per user. Default: none.
	User func(*http.Request) string
	// Hold is that of Config for this route. Default: Config.Hold, and a minute with Actual.
	Hold time.Duration
}

// Answer is what a handler answered.
type Answer struct {
	Status int
	Header http.Header
	Bytes  int64 // of the body
}

type contextKey struct{}

// KeyOf is the caller of a request that the middleware admitted.
func KeyOf(ctx context.Context) (Key, bool) {
	k, ok := ctx.Value(contextKey{}).(Key)
	return k, ok
}

// WithKey is a context whose KeyOf is k.
func WithKey(ctx context.Context, k Key) context.Context {
	return context.WithValue(ctx, contextKey{}, k)
}

// holdActual is the Hold of routes whose cost is known afterwards.
const holdActual = time.Minute

// Request is what a caller asks for on the route.
func (r *Route) Request(k Key, user string) Request {
	q := Request{KeyID: k.ID, User: user, Meter: r.Meter, Route: r.Match, Cost: r.Cost, Scale: r.Scale, Hold: r.Hold}
	if r.Cost == 0 && r.Scale == 0 && !r.Free {
		q.Cost = 1
	}
	if r.Free {
		q.Cost = 0
	}
	if q.Hold == 0 && r.Actual != nil {
		q.Hold = holdActual
	}
	return q
}

// Middleware authenticates requests, admits or refuses them, and charges what they cost. Refusals are problem bodies as the
// gateway's. What is answered with a status of 500 or more, or not at all, is given back. Each answer has the Decision-Id of the
// block that it was admitted from. RateLimit fields stand on denials alone: what is left elsewhere is not known here.
func (c *Client) Middleware(route Route) func(http.Handler) http.Handler {
	key, user := route.Key, route.User
	if key == nil {
		key = func(r *http.Request) string { return Bearer(r.Header.Get("Authorization")) }
	}
	if user == nil {
		user = func(*http.Request) string { return "" }
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			k, err := c.Authenticate(r.Context(), key(r))
			if err != nil {
				c.refuse(w, err)
				return
			}
			a, err := c.Admit(r.Context(), route.Request(k, user(r)))
			if err != nil {
				c.refuse(w, err)
				return
			}
			if a.DecisionID != "" {
				w.Header()["Decision-Id"] = []string{a.DecisionID}
			}
			seen := &watcher{ResponseWriter: w}
			defer func() { // also when the handler panics, which is not ours to hide
				seen.settle(&a, &route, r)
			}()
			next.ServeHTTP(seen, r.WithContext(WithKey(r.Context(), k)))
			seen.returned = true
		})
	}
}

// Bearer reads the key from the value of an Authorization field; empty: none.
func Bearer(v string) string {
	const scheme = "bearer "
	if len(v) > len(scheme) && strings.EqualFold(v[:len(scheme)], scheme) {
		return strings.TrimSpace(v[len(scheme):])
	}
	return ""
}

func (c *Client) refuse(w http.ResponseWriter, err error) {
	p, ok := AsProblem(err)
	if ok && p.Status == http.StatusUnauthorized {
		c.stats.denied.Add(1)
	}
	p.Write(w)
}

// AsProblem is the problem that an error is, or 503 for one that is none.
func AsProblem(err error) (p *Problem, ok bool) {
	if p, ok = err.(*Problem); ok { //nolint:errorlint // Admit and Authenticate return it bare, and this is on the way of every refusal
		return p, true
	}
	return unavailable("The request cannot be accounted for at the moment."), false
}

// watcher sees what a handler answers.
type watcher struct {
	http.ResponseWriter
	status   int // 0: nothing yet
	bytes    int64
	returned bool
}

func (w *watcher) settle(a *Admission, route *Route, r *http.Request) {
	if w.status == 0 && w.returned && r.Context().Err() == nil { // a caller who left before anything was answered gets it back
		w.status = http.StatusOK // net/http says so for the handler
	}
	switch {
	case w.status == 0 || w.status >= http.StatusInternalServerError:
		a.Release()
	case route.Actual == nil:
		a.Settle()
	default:
		defer a.Settle() // should Actual panic
		a.SettleCost(route.Actual(r, Answer{Status: w.status, Header: w.Header(), Bytes: w.bytes}))
	}
}

// WriteHeader implements http.ResponseWriter.
func (w *watcher) WriteHeader(status int) {
	if w.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *watcher) Write(b []byte) (int, error) {
	w.begun()
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

// ReadFrom implements io.ReaderFrom, so that files are still sent by the kernel.
func (w *watcher) ReadFrom(src io.Reader) (int64, error) {
	w.begun()
	n, err := io.Copy(w.ResponseWriter, src)
	w.bytes += n
	return n, err
}

// Flush implements http.Flusher.
func (w *watcher) Flush() {
	w.begun()
	_ = http.NewResponseController(w.ResponseWriter).Flush() // Flusher has no way to say that it cannot
}

// Hijack implements http.Hijacker.
func (w *watcher) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err == nil && w.status == 0 {
		w.status = http.StatusSwitchingProtocols
	}
	return conn, rw, err
}

// Unwrap is for http.ResponseController.
func (w *watcher) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *watcher) begun() {
	if w.status == 0 {
		w.status = http.StatusOK
	}
}
