// Package forward lets any of several servers take any request: the leader answers itself, the others pass it on to the leader.
// While there is none, requests wait for a bounded time. A request is sent again only when nothing of it can have been done.
package forward

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tallystick/tallystick/internal/app/gate"
	"github.com/tallystick/tallystick/internal/web/answer"
)

// Bounds of what waits for a leader.
const (
	WaitDefault = 10 * time.Second
	AwayDefault = 15 * time.Second
	waitingMax  = 2000     // requests at once
	awayMax     = 256      // of them, for what Elsewhere was called of
	bufferMax   = 1 << 20  // bytes of a body that is kept, to be sent again
	buffersMax  = 64 << 20 // of all of them
	againEvery  = 100 * time.Millisecond
	awayEvery   = 250 * time.Millisecond
)

// Leader is where the leader's API is. Fence tells one lead from the next.
type Leader struct {
	Fence   uint64
	Address string // empty: nobody leads, or it is not known
}

// Config of a Front. All fields are required unless a default is named.
type Config struct {
	// Leader is who leads, and a channel that is closed when that changes.
	Leader func() (Leader, <-chan struct{})
	// Valid says whether this process may act as the leader at this very moment.
	Valid     func() bool
	Self      string // this process's own address: nothing is sent there
	Secret    []byte // of all servers of the deployment: who passes on what
	Transport http.RoundTripper
	Stream    string        // path of requests that never end by themselves; "": there are none
	Wait      time.Duration // for a leader. Default WaitDefault
	Away      time.Duration // for what Elsewhere is called of, in all: less than a server that stops grants. Default AwayDefault
	Log       *slog.Logger
}

// Front is the handler of a server's API port. It is safe for concurrent use.
type Front struct {
	cfg   Config
	key   []byte
	proxy *httputil.ReverseProxy

	left  context.Context //nolint:containedctx // it ends with Leave
	leave context.CancelFunc

	own      own
	waiting  atomic.Int64
	away     atomic.Int64 // of waiting
	buffered atomic.Int64
	stats    counters
}

type counters struct{ forwarded, again, lost, refused atomic.Int64 }

// Stats counts since the start.
type Stats struct {
	Forwarded int64 // requests that the leader answered
	Again     int64 // times that a request was sent once more, since it had not reached a leader
	Lost      int64 // requests of which nobody knows whether the leader did them
	Refused   int64 // requests that found no leader in time, or too many others waiting
	Waiting   int64 // for a leader, now
}

// New checks the configuration.
func New(cfg Config) (*Front, error) {
	if cfg.Leader == nil || cfg.Valid == nil || cfg.Self == "" || len(cfg.Secret) == 0 || cfg.Transport == nil || cfg.Log == nil {
		return nil, errors.New("forward: incomplete configuration")
	}
	if cfg.Wait == 0 {
		cfg.Wait = WaitDefault
	}
	if cfg.Away == 0 {
		cfg.Away = AwayDefault
	}
	mac := hmac.New(sha256.New, cfg.Secret)
	_, _ = mac.Write([]byte("requests passed on between servers")) // a hash never fails
	f := &Front{cfg: cfg, key: mac.Sum(nil)}
	f.left, f.leave = context.WithCancel(context.Background())
	f.proxy = f.newProxy()
	return f, nil
}

// Stats are the totals now.
func (f *Front) Stats() Stats {
	return Stats{
		Forwarded: f.stats.forwarded.Load(), Again: f.stats.again.Load(), Lost: f.stats.lost.Load(), Refused: f.stats.refused.Load(),
		Waiting: f.waiting.Load(),
	}
}

// Lead has requests answered by this process from now on.
func (f *Front) Lead(h http.Handler) { f.own.open(h) }

// Retire ends that, and waits until no request runs any more or ctx ends. What comes later waits for the next leader.
func (f *Front) Retire(ctx context.Context) error { return f.own.close(ctx) }

// Leave ends the streams that are passed on, and takes no more of them: else a server that stops would wait for them. Those that this
// process answers itself end otherwise.
func (f *Front) Leave() { f.leave() }

// ServeHTTP implements http.Handler.
func (f *Front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	passed, r := f.received(r)
	x := &exchange{f: f, w: w, r: r, passed: passed}
	defer x.free()
	until, longest := time.NewTimer(f.cfg.Wait), time.NewTimer(f.cfg.Away)
	defer until.Stop()
	defer longest.Stop()
	for {
		x.away = false
		leader, changed := f.cfg.Leader()
		mine := f.own.changes()
		if x.serve() || x.pass(leader) {
			return
		}
		if x.endless() && f.left.Err() != nil {
			x.refuse("This server stops.")
			return
		}
		if passed { // whoever sent it looks for the leader
			f.notLeader(w, x.away)
			return
		}
		limit := until.C
		if x.away {
			limit = longest.C
		}
		if !x.wait(changed, mine, limit) {
			return
		}
	}
}

// wait waits until another attempt is worthwhile. False: the request is over.
func (x *exchange) wait(changed, mine <-chan struct{}, until <-chan time.Time) bool {
	f := x.f
	if f.waiting.Add(1) > waitingMax {
		f.waiting.Add(-1)
		x.refuse("Too many requests wait for a server that leads.")
		return false
	}
	defer f.waiting.Add(-1)
	every := againEvery
	if x.away {
		every = awayEvery
		defer f.away.Add(-1)
		if f.away.Add(1) > awayMax {
			x.refuse("")
			return false
		}
		if err := x.keep(); err != nil { // else nobody would notice that the client has left
			answer.Write(x.w, bodyEnded())
			return false
		}
	}
	again := time.NewTimer(every)
	defer again.Stop()
	select {
	case <-changed:
	case <-mine:
	case <-again.C:
	case <-until:
		x.refuse("No server leads, and none took the lead in time.")
		return false
	case <-x.r.Context().Done():
		return false
	}
	return true
}

func (x *exchange) refuse(detail string) {
	x.f.stats.refused.Add(1)
	if x.away {
		answerAway(x.w)
		return
	}
	answer.Write(x.w, answer.Problem{
		Code: "no_leader", Status: http.StatusServiceUnavailable, Detail: detail, Fix: "Try again soon; the operator must see to the servers and their database if it lasts.",
		Retryable: true, RetryAfter: 1,
	})
}

// Elsewhere says, in place of an answer to w, that what the request is about is with a server that is not there at the moment, and that
// nothing was done. The request waits, and is tried again: here, or at the next leader.
func Elsewhere(w http.ResponseWriter) {
	for {
		switch at := w.(type) {
		case *guarded:
			at.elsewhere = true
			return
		case interface{ Unwrap() http.ResponseWriter }:
			w = at.Unwrap()
		default: // nobody is in front
			answerAway(w)
			return
		}
	}
}

func answerAway(w http.ResponseWriter) {
	answer.Write(w, answer.Problem{
		Code: "reservation_away", Status: http.StatusServiceUnavailable, Detail: "The server that has the reservation is not there.",
		Fix: "Try again; the operator must start a server with that folder if it lasts.", Retryable: true, RetryAfter: 1,
	})
}

// own is the handler of this process while it leads, which it does once. mu guards handler and change.
type own struct {
	calls   gate.Gate
	mu      sync.Mutex
	handler http.Handler
	change  chan struct{}
}

func (o *own) open(h http.Handler) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.handler = h
	o.tell()
}

// changes is closed when a handler comes or goes.
func (o *own) changes() <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.change == nil {
		o.change = make(chan struct{})
	}
	return o.change
}

// tell needs o.mu.
func (o *own) tell() {
	if o.change != nil {
		close(o.change)
		o.change = nil
	}
}

func (o *own) enter() http.Handler {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.handler == nil || !o.calls.Enter() {
		return nil
	}
	return o.handler
}

func (o *own) leave() { o.calls.Leave() }

func (o *own) close(ctx context.Context) error {
	o.mu.Lock()
	o.handler = nil
	o.tell()
	o.mu.Unlock()
	return o.calls.Close(ctx)
}

// ToLeader sends each request to another server that leads at that moment. While there is none it fails.
func ToLeader(leader func() (Leader, <-chan struct{}), self string, to http.RoundTripper) http.RoundTripper {
	return roundTrip(func(r *http.Request) (*http.Response, error) {
		l, _ := leader()
		u := target(l, self)
		if u == nil {
			return nil, errNoLeader
		}
		r = r.Clone(r.Context())
		r.URL.Scheme, r.URL.Host, r.Host = u.Scheme, u.Host, u.Host
		return to.RoundTrip(r)
	})
}

var errNoLeader = errors.New("no other server leads")

type roundTrip func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// target is where a request is passed on to.
func target(l Leader, self string) *url.URL {
	if l.Address == "" || l.Address == self {
		return nil
	}
	u, err := url.Parse(l.Address)
	if err != nil || u.Host == "" {
		return nil
	}
	return u
}
