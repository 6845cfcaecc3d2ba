// Package node is the server's end of gateways in processes of their own: they join with a token, draw leases, deliver signed
// batches, and follow a stream of what they must know. docs/many-gateways.md describes it.
package node

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/app/nodes"
	"github.com/tallystick/tallystick/internal/app/receive"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/web/node/wire"
)

// Directory is what gateways are told; govern.Service fits.
type Directory interface {
	Touched(after uint64) (list []govern.Touched, revision uint64, complete bool, more <-chan struct{})
	PictureOf(customerID string, now time.Time) (govern.Picture, bool)
	KeyNow(id string) (account.APIKey, bool)
	KeysNow() []account.APIKey
	Customers() []account.Customer
	Catalog(ctx context.Context, version int64) (govern.CatalogVersion, error)
}

// Batches takes what gateways signed; receive.Receiver fits.
type Batches interface {
	receive.Taker
	Register(ctx context.Context, node uint16, public [32]byte) (store.GatewayKey, error)
}

// Config of a Server. All fields are required unless a default is named.
type Config struct {
	Nodes     *nodes.Service
	Authority authority.Authority
	Directory Directory
	Batches   Batches
	Past      Past
	// Attach makes a gateway's epoch known as a holder of leases, which can be asked for them. It may be told twice of one.
	Attach func(node uint16, epoch uint32, h authority.Holder)
	// Subkey is the decision key of one node and epoch.
	Subkey func(node uint16, epoch uint32) (number byte, key []byte, err error)
	Pepper []byte
	Mode   account.Mode
	Now    func() time.Time // business clock
	Real   func() time.Time // the machine's clock, with monotonic reading
	// Run names the run of Authority, so that gateways know when what they hold in memory has ended with it. Default: one of its own.
	Run string
	// Certificates says that a call needs a client certificate that the listener has verified. Default: a token is enough.
	Certificates bool
	// Clock is told the business time of a gateway with each of its beats; one that is too far ahead gets no leases, and is left out.
	// Default: nobody is told.
	Clock   func(now time.Time)
	Reports Reports
	Log     *slog.Logger
}

// Server answers gateways. It is an http.Handler for /v1/nodes/, safe for concurrent use.
type Server struct {
	cfg Config
	mux *http.ServeMux
	run string // of this process: revisions of another one mean nothing
	ids atomic.Uint64

	mu       sync.Mutex // guards all below
	closed   bool
	sessions map[uint16]*session // the newest of each node
	epochs   map[uint16]uint32   // begun in this run of the server
	bodies   map[uint16]int64    // bytes of bodies that are worked on
	seen     map[uint16]seen     // of nodes that were connected once in this run

	reporting sync.Mutex // held while a report is taken; guards reported
	reported  map[uint16]reported
}

// seen is what a gateway last told.
type seen struct {
	at    time.Time // the machine's clock
	state wire.State
}

// New checks the configuration and starts nothing.
func New(cfg Config) (*Server, error) {
	if cfg.Nodes == nil || cfg.Authority == nil || cfg.Directory == nil || cfg.Batches == nil || cfg.Past == nil || cfg.Attach == nil ||
		cfg.Subkey == nil || len(cfg.Pepper) == 0 || cfg.Now == nil || cfg.Real == nil || cfg.Log == nil {
		return nil, errors.New("node: incomplete configuration")
	}
	cfg.Run = cmp.Or(cfg.Run, rand.Text())
	s := &Server{
		cfg: cfg, mux: http.NewServeMux(), run: rand.Text(),
		sessions: map[uint16]*session{}, epochs: map[uint16]uint32{}, seen: map[uint16]seen{}, reported: map[uint16]reported{}, bodies: map[uint16]int64{},
	}
	s.routes()
	return s, nil
}

// caller is the gateway that a request comes from.
type callerKey struct{}

func callerOf(ctx context.Context) nodes.Node {
	n, _ := ctx.Value(callerKey{}).(nodes.Node)
	return n
}

// ServeHTTP lets in who has a token that is not revoked.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set(wire.RunHeader, s.cfg.Run)
	if s.cfg.Certificates && (r.TLS == nil || len(r.TLS.VerifiedChains) == 0) {
		refuse(w, http.StatusUnauthorized, wire.CodeCert, "this server wants a client certificate of its gateways: --client-cert and --client-key")
		return
	}
	n, fault := s.caller(r)
	switch fault {
	case "":
		s.mux.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, n)))
	case account.FaultRevoked:
		refuse(w, http.StatusUnauthorized, wire.CodeRevoked, "the gateway, or this token of it, was revoked")
	case account.FaultMissing, account.FaultUnknown, account.FaultExpired:
		refuse(w, http.StatusUnauthorized, wire.CodeToken, "no gateway has this token; `tally gateway token NAME` on the server makes one")
	}
}

func (s *Server) caller(r *http.Request) (nodes.Node, account.KeyFault) {
	return s.cfg.Nodes.Authenticate(bearer(r))
}

// bearer is the token of a request; "" for none.
func bearer(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

func refuse(w http.ResponseWriter, status int, code, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	b, err := json.Marshal(map[string]any{"type": "about:blank", "title": http.StatusText(status), "status": status, "code": code, "detail": detail})
	if err == nil {
		_, _ = w.Write(b) // the gateway may be gone
	}
}

// fail answers an error.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	status, f := s.fault(r, err)
	refuse(w, status, f.Code, f.Detail)
}

// fault is what an error is to a gateway. What is not known by name is logged, and can be tried again.
func (s *Server) fault(r *http.Request, err error) (status int, f wire.Fault) {
	for _, x := range []struct {
		err    error
		status int
		code   string
	}{
		{authority.ErrEpoch, http.StatusConflict, wire.CodeEpoch},
		{receive.ErrRefused, http.StatusUnprocessableEntity, wire.CodeRefused},
		{errProtocol, http.StatusUnprocessableEntity, wire.CodeProtocol},
		{store.ErrInvalid, http.StatusUnprocessableEntity, wire.CodeInvalid},
		{account.ErrState, http.StatusConflict, wire.CodeConflict},
		{store.ErrConflict, http.StatusConflict, wire.CodeConflict},
		{store.ErrExists, http.StatusConflict, wire.CodeConflict},
		{store.ErrNotFound, http.StatusNotFound, wire.CodeNotFound},
		{account.ErrNotFound, http.StatusNotFound, wire.CodeNotFound},
		{store.ErrFull, http.StatusServiceUnavailable, wire.CodeFull},
	} {
		if errors.Is(err, x.err) {
			return x.status, wire.Fault{Code: x.code, Detail: err.Error()}
		}
	}
	if r.Context().Err() == nil {
		s.cfg.Log.ErrorContext(r.Context(), "a gateway's call failed", slog.Int("node", int(callerOf(r.Context()).Node)), slog.String("path", r.URL.Path), slog.Any("error", err))
	}
	return http.StatusServiceUnavailable, wire.Fault{Code: wire.CodeAway, Detail: "the call failed here; try again"}
}

const versionMax = 256 // bytes

var errProtocol = errors.New("server and gateway speak different protocols: run the same release of tally on both")

const bodyTimeMax = 30 * time.Second // to send a body in

// handle reads a bounded body, calls do, and answers what it says.
func handle[I, O any](s *Server, pattern string, bound int64, elements int, do func(ctx context.Context, n nodes.Node, in I) (O, error)) {
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		in, free, ok := take[I](s, w, r, bound, elements)
		if !ok {
			return
		}
		defer free()
		out, err := do(r.Context(), callerOf(r.Context()), in)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		b, err := json.Marshal(out)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(len(b)))
		_, _ = w.Write(b) // the gateway may be gone
	})
}

// take reads a bounded body, or answers why not. free gives its room back.
func take[I any](s *Server, w http.ResponseWriter, r *http.Request, bound int64, elements int) (in I, free func(), ok bool) {
	free, ok = s.room(callerOf(r.Context()).Node, r.ContentLength, bound)
	if !ok {
		refuse(w, http.StatusServiceUnavailable, wire.CodeAway, "this gateway sends too much at once")
		return in, nil, false
	}
	defer func() {
		if !ok {
			free()
		}
	}()
	_ = http.NewResponseController(w).SetReadDeadline(s.cfg.Real().Add(bodyTimeMax)) // not every writer can
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, bound))
	if err != nil {
		refuse(w, http.StatusRequestEntityTooLarge, wire.CodeInvalid, "the body is too large, or ended early")
		return in, free, false
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // the connection is used again
	if wire.Elements(body) > elements {
		refuse(w, http.StatusRequestEntityTooLarge, wire.CodeInvalid, "the body has too many elements")
		return in, free, false
	}
	if err := json.Unmarshal(body, &in); err != nil {
		refuse(w, http.StatusBadRequest, wire.CodeInvalid, "the body is not what this call takes")
		return in, free, false
	}
	return in, free, true
}

// roomMax bounds the bodies of one gateway's calls that are worked on, in bytes.
const roomMax = 2 * wire.BatchMax

// room takes room for a body of a length, or for the longest one when that is not told.
func (s *Server) room(node uint16, length, bound int64) (free func(), ok bool) {
	if length < 0 || length > bound {
		length = bound
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bodies[node]+length > roomMax {
		return nil, false
	}
	s.bodies[node] += length
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.bodies[node] -= length
	}, true
}

// none is an empty answer.
type none struct{}

func (s *Server) routes() {
	handle(s, "POST "+wire.PathJoin, wire.CallMax, wire.ElementsMax, s.join)
	handle(s, "POST "+wire.PathBegin, wire.CallMax, wire.ElementsMax, s.begin)
	handle(s, "POST "+wire.PathDraw, wire.CallMax, wire.ElementsMax, s.draw)
	s.mux.HandleFunc("POST "+wire.PathDraws, s.draws)
	handle(s, "POST "+wire.PathReturn, wire.CallMax, wire.ElementsMax, s.giveBack)
	handle(s, "POST "+wire.PathBatches, wire.BatchMax, wire.BatchElementsMax, s.batch)
	handle(s, "POST "+wire.PathPast, wire.CallMax, wire.ElementsMax, s.past)
	handle(s, "POST "+wire.PathAnswers, wire.CallMax, wire.ElementsMax, s.answers)
	handle(s, "POST "+wire.PathBeat, wire.CallMax, wire.ElementsMax, s.beat)
	handle(s, "POST "+wire.PathLeave, wire.CallMax, wire.ElementsMax, s.leaveHeld)
	handle(s, "POST "+wire.PathReports, wire.CallMax, wire.ElementsMax, s.report)
	s.mux.HandleFunc("GET "+wire.PathStream, s.stream)
	s.mux.HandleFunc("GET "+wire.PathCatalog+"{version}", s.catalog)
	s.mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, http.StatusNotFound, wire.CodeNotFound, "there is no such call")
	})
}

func (s *Server) join(ctx context.Context, n nodes.Node, in wire.Join) (out wire.Joined, err error) {
	if in.Protocol != wire.Protocol {
		return out, fmt.Errorf("%w: the gateway speaks %d, this server %d", errProtocol, in.Protocol, wire.Protocol)
	}
	if len(in.Version) > versionMax {
		return out, fmt.Errorf("the version is too long: %w", store.ErrInvalid)
	}
	if len(in.Public) != 32 {
		return out, fmt.Errorf("the public key has %d bytes: %w", len(in.Public), store.ErrInvalid)
	}
	if _, err := s.cfg.Batches.Register(ctx, n.Node, [32]byte(in.Public)); err != nil {
		return out, err
	}
	s.cfg.Log.InfoContext(ctx, "a gateway joined", slog.String("gateway", n.Name), slog.Int("node", int(n.Node)), slog.String("version", in.Version))
	return wire.Joined{
		Protocol: wire.Protocol, Node: n.Node, Name: n.Name, Mode: string(s.cfg.Mode), Pepper: s.cfg.Pepper, Now: s.cfg.Now().UnixMicro(),
	}, nil
}

func (s *Server) begin(ctx context.Context, n nodes.Node, in wire.Begin) (out wire.Begun, err error) {
	if len(in.Boot) > versionMax {
		return out, fmt.Errorf("the boot's name is too long: %w", store.ErrInvalid)
	}
	welcome, err := s.cfg.Authority.Begin(ctx, n.Node, in.Boot, time.UnixMicro(in.At))
	if err != nil {
		return out, err
	}
	number, key, err := s.cfg.Subkey(n.Node, welcome.Epoch)
	if err != nil {
		return out, err
	}
	s.mu.Lock()
	s.epochs[n.Node] = max(s.epochs[n.Node], welcome.Epoch)
	s.mu.Unlock()
	s.cfg.Attach(n.Node, welcome.Epoch, s.Holder(n.Node))
	return wire.Begun{Welcome: wire.WelcomeOf(welcome), KeyNumber: number, Subkey: key}, nil
}

func (s *Server) draw(ctx context.Context, n nodes.Node, in wire.Draw) ([]authority.Answer, error) {
	if err := in.Check(s.cfg.Now()); err != nil {
		return nil, err
	}
	d := in.Value()
	d.Node = n.Node
	return s.cfg.Authority.Draw(ctx, d)
}

// draws makes many draws at once and answers each with a line as soon as it is made: one that waits for other gateways holds up
// none.
func (s *Server) draws(w http.ResponseWriter, r *http.Request) {
	in, free, ok := take[[]wire.Draw](s, w, r, wire.CallMax, wire.ElementsMax)
	if !ok {
		return
	}
	defer free()
	if len(in) > wire.DrawsMax {
		refuse(w, http.StatusUnprocessableEntity, wire.CodeInvalid, "too many draws in one call")
		return
	}
	lines := make(chan []byte, len(in))
	for i := range in {
		go func() {
			line := wire.Drawn{N: i}
			answers, err := s.draw(r.Context(), callerOf(r.Context()), in[i])
			if line.Answers = answers; err != nil {
				status, f := s.fault(r, err)
				line.Answers, line.Status, line.Fault = nil, status, &f
			}
			b, err := json.Marshal(line)
			if err != nil { // the gateway takes a line that is missing for no answer
				s.cfg.Log.ErrorContext(r.Context(), "an answer to a gateway", slog.Any("error", err))
			}
			lines <- append(b, '\n')
		}()
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	for n := 0; n < len(in); {
		text := <-lines
		for n++; n < len(in) && len(lines) > 0; n++ {
			text = append(text, <-lines...)
		}
		_, _ = w.Write(text) // the gateway may be gone: the draws are made to their end all the same
		_ = http.NewResponseController(w).Flush()
	}
}

func (s *Server) giveBack(ctx context.Context, n nodes.Node, in wire.Return) (out none, err error) {
	if err := wire.CheckBacks(in.Backs, authority.MaxBacks); err != nil {
		return out, err
	}
	return out, s.cfg.Authority.Return(ctx, n.Node, in.Epoch, wire.Backs(in.Backs))
}

func (s *Server) batch(ctx context.Context, n nodes.Node, in store.Batch) ([]store.Result, error) {
	if in.Node != n.Node {
		return nil, fmt.Errorf("%w: the token is gateway %d's, the batch gateway %d's", receive.ErrRefused, n.Node, in.Node)
	}
	return s.cfg.Batches.Receive(ctx, &in)
}

func (s *Server) catalog(w http.ResponseWriter, r *http.Request) {
	version, err := strconv.ParseInt(r.PathValue("version"), 10, 64)
	if err != nil || version < 1 {
		refuse(w, http.StatusNotFound, wire.CodeNotFound, "that is no catalog version")
		return
	}
	v, err := s.cfg.Directory.Catalog(r.Context(), version)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	b, err := json.Marshal(v)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(b) // the gateway may be gone
}
