package forward

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptrace"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"

	"github.com/tallystick/tallystick/internal/web/answer"
)

// exchange is one request on its way. It is owned by its handler's goroutine, but for what the transport's goroutines touch.
type exchange struct {
	f      *Front
	w      http.ResponseWriter
	r      *http.Request
	passed bool // by another server

	read  bool   // of the body, into whole and rest
	whole bool   // kept holds all of it
	kept  []byte // what was read of it
	room  int64  // taken of the bytes for bodies

	taken atomic.Bool // the body that is not kept was begun to be sent

	away bool // Elsewhere was called of it by the attempt before
}

var (
	errNotLeader = errors.New("the server that was asked does not lead")
	errAgain     = errors.New("nothing of the request was done")
)

// serve answers in this process while it leads. False: it does not.
func (x *exchange) serve() bool {
	h := x.f.own.enter()
	if h == nil {
		return false
	}
	defer x.f.own.leave()
	if !x.f.cfg.Valid() {
		return false
	}
	r := x.r
	if x.read { // it waited for another one to lead
		r = r.WithContext(r.Context())
		r.Body = x.body()
	}
	g := &guarded{ResponseWriter: x.w, valid: x.f.cfg.Valid}
	h.ServeHTTP(g, r)
	x.away = g.elsewhere
	return !g.elsewhere
}

// guarded lets nothing out once the process must not act as the leader: a grant that was decided on before a pause may be
// another server's by now.
type guarded struct {
	http.ResponseWriter
	valid     func() bool
	elsewhere bool
}

func (g *guarded) check() {
	if !g.valid() {
		panic(http.ErrAbortHandler)
	}
}

func (g *guarded) WriteHeader(status int) {
	g.check()
	g.ResponseWriter.WriteHeader(status)
}

func (g *guarded) Write(b []byte) (int, error) {
	g.check()
	return g.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (g *guarded) Unwrap() http.ResponseWriter { return g.ResponseWriter }

// Flush implements http.Flusher.
func (g *guarded) Flush() {
	g.check()
	_ = http.NewResponseController(g.ResponseWriter).Flush() // not every writer can
}

// keep reads the body while it is short enough to be sent again.
func (x *exchange) keep() error {
	if x.read {
		return nil
	}
	switch n := x.r.ContentLength; {
	case x.r.Body == nil || x.r.Body == http.NoBody || n == 0:
		x.read, x.whole = true, true
		return nil
	case n > bufferMax:
		return nil
	}
	if x.f.buffered.Add(bufferMax) > buffersMax {
		x.f.buffered.Add(-bufferMax)
		return nil
	}
	x.room = bufferMax
	b, err := io.ReadAll(io.LimitReader(x.r.Body, bufferMax+1))
	x.read, x.kept, x.whole = true, b, len(b) <= bufferMax
	x.f.buffered.Add(int64(len(b)) - x.room) // the rest is not needed
	x.room = int64(len(b))
	return err
}

func bodyEnded() answer.Problem {
	return answer.Problem{Code: "malformed", Status: http.StatusBadRequest, Detail: "The body ended early.", Fix: "Send it again."}
}

func (x *exchange) free() { x.f.buffered.Add(-x.room) }

// body is the request's body from its beginning.
func (x *exchange) body() io.ReadCloser {
	switch {
	case x.whole && len(x.kept) == 0:
		return http.NoBody
	case x.whole:
		return io.NopCloser(bytes.NewReader(x.kept))
	}
	return &once{io.MultiReader(bytes.NewReader(x.kept), x.r.Body), x.r.Body, &x.taken}
}

// once is a body that can be sent one time.
type once struct {
	io.Reader
	io.Closer
	taken *atomic.Bool
}

func (o *once) Read(b []byte) (int, error) {
	o.taken.Store(true)
	return o.Reader.Read(b)
}

// Close leaves the body open: it may be needed for another attempt. The server closes it.
func (o *once) Close() error { return nil }

// attempt is one try of sending an exchange to a leader.
type attempt struct {
	x    *exchange
	to   *url.URL
	sent atomic.Bool // of the request's head at least
	err  error       // errAgain: it can be tried again
}

type attemptKey struct{}

// attemptOf is what pass has put into the request.
func attemptOf(r *http.Request) *attempt {
	a, ok := r.Context().Value(attemptKey{}).(*attempt)
	if !ok {
		panic("forward: a request without an attempt")
	}
	return a
}

// endless says that the request does not end by itself.
func (x *exchange) endless() bool { return x.f.cfg.Stream != "" && x.r.URL.Path == x.f.cfg.Stream }

// pass sends the request to the leader. True: it was answered.
func (x *exchange) pass(l Leader) bool {
	to := target(l, x.f.cfg.Self)
	if to == nil || x.passed || x.endless() && x.f.left.Err() != nil {
		return false
	}
	if err := x.keep(); err != nil {
		answer.Write(x.w, bodyEnded())
		return true
	}
	a := &attempt{x: x, to: to}
	ctx := context.WithValue(x.r.Context(), attemptKey{}, a)
	if x.endless() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(x.f.left, cancel)()
	}
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { a.sent.Store(true) }})
	r := x.r.WithContext(ctx)
	r.Body = x.body()
	if x.whole {
		r.ContentLength = int64(len(x.kept))
	}
	x.f.proxy.ServeHTTP(x.w, r)
	if errors.Is(a.err, errAgain) {
		x.f.stats.again.Add(1)
		return false
	}
	if a.err == nil {
		x.f.stats.forwarded.Add(1)
	}
	return true
}

func (f *Front) newProxy() *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Transport: f.cfg.Transport, FlushInterval: -1, ErrorLog: slog.NewLogLogger(f.cfg.Log.Handler(), slog.LevelDebug),
		Rewrite: func(p *httputil.ProxyRequest) {
			a := attemptOf(p.In)
			p.SetURL(a.to)
			p.Out.Host = p.In.Host
			p.Out.Header["X-Forwarded-For"] = p.In.Header["X-Forwarded-For"]
			f.sign(p.In, p.Out)
			if !a.x.whole { // the leader takes the body only if it leads
				p.Out.Header.Set("Expect", "100-continue")
			}
		},
		ModifyResponse: func(resp *http.Response) error {
			why := resp.Header.Get(notLeaderHeader)
			attemptOf(resp.Request).x.away = why == notHere
			if why != "" {
				return errNotLeader
			}
			return nil
		},
		ErrorHandler: f.failed,
	}
}

// failed decides what becomes of a request that was not answered.
func (f *Front) failed(w http.ResponseWriter, r *http.Request, err error) {
	a := attemptOf(r)
	x := a.x
	a.err = err
	if x.r.Context().Err() != nil {
		return // nobody waits for it
	}
	undone := errors.Is(err, errNotLeader) || !a.sent.Load() || harmless(x.r)
	if undone && (x.whole || !x.taken.Load()) {
		a.err = errAgain
		return
	}
	f.stats.lost.Add(1)
	f.cfg.Log.WarnContext(r.Context(), "the leader did not answer a request that it may have done", slog.String("method", r.Method), slog.String("path", r.URL.Path), slog.Any("error", err))
	answer.Write(w, answer.Problem{
		Code: "leader_lost", Status: http.StatusServiceUnavailable, Detail: "The server that leads went away before it answered; it may have done what was asked.",
		Fix: "Repeat the call with the same Idempotency-Key, or look whether it was done.", Retryable: true, RetryAfter: 1,
	})
}

// harmless says that a request may be done twice: it changes nothing, or events that have identities.
func harmless(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return true
	}
	return r.Method == http.MethodPost && strings.TrimSuffix(r.URL.Path, "/") == "/v1/events"
}
