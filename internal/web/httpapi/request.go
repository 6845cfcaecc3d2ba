package httpapi

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/app/ingest"
	"github.com/tallystick/tallystick/internal/app/replay"
	"github.com/tallystick/tallystick/internal/core/account"
)

const (
	bodyTimeMax   = 30 * time.Second // to send a body in
	replayKeyMax  = 128              // bytes of an Idempotency-Key
	wwwAuth       = `Bearer realm="tallystick"`
	headerReplay  = "Idempotency-Key"
	headerAgain   = "Idempotent-Replayed"
	headerRequest = "Request-Id"
)

// call is what the handlers know of the request beyond its parameters.
type call struct {
	id     string        // req_…
	body   []byte        // of a POST, whole
	actor  string        // who calls, behind the guard of operators
	sender govern.Sender // whose events a report is
}

type callKey struct{}

func callOf(ctx context.Context) *call {
	if c, ok := ctx.Value(callKey{}).(*call); ok {
		return c
	}
	return &call{}
}

// ServeHTTP guards, bounds and answers one request.
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &call{id: "req_" + rand.Text()}
	r = r.WithContext(context.WithValue(r.Context(), callKey{}, c))
	h := w.Header()
	h.Set(headerRequest, c.id)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	if guardOf(r.URL.Path) == everyone {
		a.serve(w, r)
		return
	}
	h.Set("Cache-Control", "no-store")
	answer := a.v1(w, r, c)
	for name, value := range answer.Header {
		h.Set(name, value)
	}
	w.WriteHeader(answer.Status)
	_, _ = w.Write(answer.Body) // the client may be gone
}

// serve runs the handler of a public route.
func (a *api) serve(w http.ResponseWriter, r *http.Request) {
	if _, pattern := a.routes.mux.Handler(r); pattern == "" {
		a.unrouted(w, r)
		return
	}
	a.routes.mux.ServeHTTP(w, r)
}

// unrouted answers for a path that is not there, or not with this method.
func (a *api) unrouted(w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPatch, http.MethodDelete} {
		other := r.Clone(r.Context())
		other.Method = method
		if _, pattern := a.routes.mux.Handler(other); pattern != "" {
			allowed = append(allowed, method)
		}
	}
	if len(allowed) == 0 {
		a.fail(w, r, newProblem(codeNotFound, "There is no such path."))
		return
	}
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	a.fail(w, r, newProblem(codeMethod, ""))
}

// v1 answers a request to /v1. The answer is whole before any of it is sent.
func (a *api) v1(w http.ResponseWriter, r *http.Request, c *call) replay.Answer {
	if guardOf(r.URL.Path) == operators {
		if p := a.authenticate(r, c); p != nil {
			return a.refuse(r, p)
		}
	}
	_, pattern := a.routes.mux.Handler(r)
	if pattern == "" {
		return record(r, a.unrouted)
	}
	if r.Method != http.MethodPost {
		return a.run(r)
	}
	body, p := a.read(w, r, a.routes.bounds[pattern])
	if p != nil {
		return a.refuse(r, p)
	}
	c.body = body
	r.Body = io.NopCloser(bytes.NewReader(body))
	key := r.Header.Get(headerReplay)
	if key == "" {
		return a.run(r)
	}
	if len(key) > replayKeyMax || strings.ContainsFunc(key, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return a.refuse(r, invalid(headerReplay, "must be 1 to 128 visible ASCII characters", "use a random text for each new call"))
	}
	return a.once(r, replay.Call{Key: key, Actor: cmp.Or(c.actor, operator), Route: pattern, BodyDigest: digest(r, body)})
}

// authenticate takes the operator's or a producer's token from the Authorization header and from nowhere else: a cookie, which browsers send by
// themselves, must not authorize a call.
func (a *api) authenticate(r *http.Request, c *call) *problem {
	token := bearer(r)
	switch {
	case account.IsProducerSecret(token):
		return a.authenticateProducer(r, c, token)
	case token == "":
		return newProblem(codeTokenMissing, "")
	case !a.cfg.Signer.IsOperator(token):
		return newProblem(codeTokenUnknown, "")
	}
	c.actor, c.sender = operator, a.cfg.Govern.OperatorSender(producer)
	return nil
}

func bearer(r *http.Request) string { return bearerOf(r.Header.Get("Authorization")) }

// bearerOf is the token of an Authorization header; "" for none.
func bearerOf(v string) string {
	const scheme = "bearer "
	if len(v) > len(scheme) && strings.EqualFold(v[:len(scheme)], scheme) {
		return strings.TrimSpace(v[len(scheme):])
	}
	return ""
}

// read takes the whole body within its bound of bytes and time.
func (a *api) read(w http.ResponseWriter, r *http.Request, bound int64) ([]byte, *problem) {
	if r.ContentLength > bound {
		return nil, tooLarge(bound)
	}
	deadline := http.NewResponseController(w)
	_ = deadline.SetReadDeadline(a.cfg.Real().Add(bodyTimeMax)) // in tests there is no connection
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, bound))
	_ = deadline.SetReadDeadline(time.Time{})
	var large *http.MaxBytesError
	var network net.Error
	switch {
	case err == nil:
		return b, nil
	case errors.As(err, &large):
		return nil, tooLarge(bound)
	case errors.As(err, &network) && network.Timeout():
		return nil, newProblem(codeBodyTimeout, "")
	}
	return nil, newProblem(codeMalformed, "The body could not be read to its end.")
}

// once runs a call that may be repeated, or answers with what the first one answered. The first one runs to its end even when
// its client has left, so that a retry finds the answer.
func (a *api) once(r *http.Request, c replay.Call) replay.Answer {
	ctx := context.WithoutCancel(r.Context())
	answer, replayed, err := a.cfg.Replays.Do(ctx, c, func() replay.Answer { return a.run(r.WithContext(ctx)) })
	switch {
	case errors.Is(err, replay.ErrMismatch):
		return a.refuse(r, newProblem(codeReplayMismatch, ""))
	case errors.Is(err, replay.ErrRunning):
		return a.refuse(r, newProblem(codeReplayRunning, ""))
	case err != nil && answer.Status == 0:
		return a.refuse(r, err)
	case err != nil: // the call was made; only its answer was not kept
		a.cfg.Log.ErrorContext(ctx, "an answer was not kept for its Idempotency-Key", slog.String("request_id", callOf(ctx).id), slog.Any("error", err))
	case replayed:
		answer.Header[headerAgain] = "true"
	}
	return answer
}

// digest is what makes two calls with one key the same call. Headers of CloudEvents' binary mode belong to it: they hold
// most of an event.
func digest(r *http.Request, body []byte) (sum [32]byte) {
	h := sha256.New()
	parts := []string{r.Method, r.URL.EscapedPath(), r.URL.RawQuery}
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		if strings.HasPrefix(strings.ToLower(name), ingest.HeaderPrefix) {
			parts = append(append(parts, name), r.Header[name]...)
		}
	}
	for _, part := range parts {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part)))) // a hash never fails
		h.Write([]byte(part))
	}
	h.Write(body)
	h.Sum(sum[:0])
	return sum
}

// run calls the handler. A panic is a fault of the program: it is logged and answered as one.
func (a *api) run(r *http.Request) (answer replay.Answer) {
	defer func() {
		if fault := recover(); fault != nil {
			a.cfg.Log.ErrorContext(r.Context(), "a handler panicked", slog.String("request_id", callOf(r.Context()).id),
				slog.Any("fault", fault), slog.String("stack", string(debug.Stack())))
			answer = record(r, func(w http.ResponseWriter, r *http.Request) { newProblem(codeInternal, "").write(w, r) })
		}
	}()
	return record(r, a.routes.mux.ServeHTTP)
}

func (a *api) refuse(r *http.Request, err error) replay.Answer {
	return record(r, func(w http.ResponseWriter, r *http.Request) { a.fail(w, r, err) })
}

// record keeps what a handler answers.
func record(r *http.Request, h http.HandlerFunc) replay.Answer {
	rec := recorder{header: http.Header{}}
	h(&rec, r)
	out := replay.Answer{Status: rec.status, Header: map[string]string{}, Body: rec.body.Bytes()}
	if out.Status == 0 {
		out.Status = http.StatusOK
	}
	for name := range rec.header {
		out.Header[name] = rec.header.Get(name)
	}
	return out
}

// recorder is a ResponseWriter in memory.
type recorder struct {
	status int
	header http.Header
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header { return r.header }

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
}

func (r *recorder) Write(b []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	return r.body.Write(b)
}
