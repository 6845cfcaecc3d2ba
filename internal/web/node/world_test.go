package node_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/app/nodes"
	"github.com/tallystick/tallystick/internal/app/receive"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file"
	"github.com/tallystick/tallystick/internal/store/sqlite"
	"github.com/tallystick/tallystick/internal/web/node"
	"github.com/tallystick/tallystick/internal/web/node/remote"
	"github.com/tallystick/tallystick/internal/web/node/wire"
)

const patience = 20 * time.Second

func patient(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// eventually looks often until a condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ctx, tick := patient(t), time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// stub stands for the authority: it grants what is wanted.
type stub struct {
	mu      sync.Mutex
	epochs  map[uint16]uint32
	begin   func(ctx context.Context, node uint16, boot string, at time.Time) (uint32, error)
	draws   []authority.Draw
	backs   []authority.Back
	holders map[uint16]authority.Holder
	hang    chan struct{} // not nil: draws wait for it
}

func (s *stub) Begin(ctx context.Context, n uint16, boot string, at time.Time) (authority.Welcome, error) {
	e, err := s.begin(ctx, n, boot, at)
	if err != nil {
		return authority.Welcome{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epochs[n] = e
	return authority.Welcome{Epoch: e, Alone: true}, nil
}

func (s *stub) Draw(ctx context.Context, d authority.Draw) ([]authority.Answer, error) {
	s.mu.Lock()
	hang := s.hang
	s.mu.Unlock()
	if hang != nil {
		select {
		case <-hang:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.Epoch != s.epochs[d.Node] {
		return nil, fmt.Errorf("epoch %d: %w", d.Epoch, authority.ErrEpoch)
	}
	s.draws = append(s.draws, d)
	out := make([]authority.Answer, len(d.Asks))
	for i, a := range d.Asks {
		out[i].Granted = a.Want
	}
	return out, nil
}

func (s *stub) Return(_ context.Context, _ uint16, _ uint32, backs []authority.Back) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.backs = append(s.backs, backs...)
	return nil
}

func (s *stub) attach(n uint16, _ uint32, h authority.Holder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.holders[n] = h
}

func (s *stub) holder(n uint16) authority.Holder {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.holders[n]
}

// past knows one event.
type past struct{}

func (past) Known(_ context.Context, source string, ids []string) (out []bool, _ error) {
	for _, id := range ids {
		out = append(out, source == "gateway/2" && id == "there")
	}
	return out, nil
}

func (past) Used(_ context.Context, customerID, meter string, in period.Interval) (money.Decimal, error) {
	if customerID == "broken" {
		return money.Decimal{}, errors.New("broken")
	}
	return money.FromInt(in.Start.Unix() + int64(len(meter))), nil
}

// world is a server with its services, and a way to it that can be cut.
type world struct {
	t       *testing.T
	records *sqlite.Records
	govern  *govern.Service
	nodes   *nodes.Service
	receive *receive.Receiver
	stub    *stub
	node    *node.Server
	http    *httptest.Server

	mu     sync.Mutex
	offset time.Duration // of the business clock
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Now().Add(w.offset).UTC().Truncate(time.Microsecond)
}

const pepper = "0123456789abcdef0123456789abcdef"

func newWorld(t *testing.T, change func(*node.Config)) *world {
	t.Helper()
	w := &world{t: t, stub: &stub{epochs: map[uint16]uint32{}, holders: map[uint16]authority.Holder{}}}
	dir, ctx := t.TempDir(), t.Context()
	var err error
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	w.records, err = sqlite.Scratch(ctx, filepath.Join(dir, "records.db"))
	must(err)
	journal, err := file.Open(file.Config{Dir: filepath.Join(dir, "journal")})
	must(err)
	t.Cleanup(func() { _ = journal.Close(); _ = w.records.Close() })
	w.stub.begin = w.records.BeginEpoch
	w.govern, err = govern.New(ctx, govern.Config{Records: w.records, Journal: journal, Now: w.now, Random: rand.Reader, Pepper: []byte(pepper), Mode: account.Test})
	must(err)
	w.nodes, err = nodes.New(ctx, nodes.Config{Records: w.records, Now: w.now, Random: rand.Reader, Pepper: []byte(pepper)})
	must(err)
	w.receive, err = receive.New(ctx, receive.Config{Journal: journal, Records: w.records, Now: w.now, Random: rand.Reader})
	must(err)
	cfg := node.Config{
		Nodes: w.nodes, Authority: w.stub, Directory: w.govern, Batches: w.receive, Past: past{}, Attach: w.stub.attach,
		Subkey: func(n uint16, e uint32) (byte, []byte, error) { return 1, fmt.Appendf(nil, "%d/%d", n, e), nil },
		Pepper: []byte(pepper), Mode: account.Test, Now: w.now, Real: time.Now, Log: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&cfg)
	}
	w.node, err = node.New(cfg)
	must(err)
	w.http = httptest.NewUnstartedServer(w.node)
	w.http.Config.RegisterOnShutdown(w.node.Close)
	w.http.Start()
	t.Cleanup(func() { w.node.Close(); w.http.CloseClientConnections(); w.http.Close() })
	return w
}

func (w *world) token(name string) string {
	w.t.Helper()
	_, t, err := w.nodes.Issue(w.t.Context(), "operator", name)
	if err != nil {
		w.t.Fatal(err)
	}
	return t.Secret
}

// wiring is the gateway's way to the server; cutting it breaks all connections and lets no new one through.
type wiring struct {
	mu    sync.Mutex
	cut   bool
	conns map[net.Conn]bool
}

func (x *wiring) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.cut {
		return nil, errors.New("the wire is cut")
	}
	c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err == nil {
		x.conns[c] = true
	}
	return c, err
}

func (x *wiring) set(cut bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.cut = cut
	if cut {
		for c := range x.conns {
			_ = c.Close()
		}
		clear(x.conns)
	}
}

// gate is a gateway's end.
type gate struct {
	*remote.Client
	*wiring
	w        *world
	joined   wire.Joined
	signer   *receive.Signer
	token    string
	mirror   *govern.Mirror
	follower *remote.Follower
	ended    chan error

	mu       sync.Mutex
	epoch    uint32
	clock    time.Time // that it tells; zero: none
	holder   authority.Holder
	advanced []time.Time
	settled  []time.Time
	hellos   int
	counted  []string
	block    chan struct{} // not nil: settling waits for it
	held     func(context.Context, enforce.HeldCall) (*enforce.Held, *enforce.Admission, error)
}

func (w *world) client(token string, change func(*remote.Config)) (*remote.Client, *wiring) {
	w.t.Helper()
	x := &wiring{conns: map[net.Conn]bool{}}
	tr := &http.Transport{DialContext: x.dial, MaxIdleConnsPerHost: 64}
	w.t.Cleanup(tr.CloseIdleConnections)
	cfg := remote.Config{Server: w.http.URL, Token: token, HTTP: &http.Client{Transport: tr}, Real: time.Now, DrawTimeout: 5 * time.Second}
	if change != nil {
		change(&cfg)
	}
	c, err := remote.NewClient(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	return c, x
}

// gateway joins and follows.
func (w *world) gateway(token string) *gate {
	w.t.Helper()
	g := &gate{w: w, token: token, ended: make(chan error, 1)}
	g.Client, g.wiring = w.client(token, nil)
	var seed [32]byte
	_, _ = rand.Read(seed[:])
	var err error
	if g.signer, err = receive.NewSigner(seed[:]); err != nil {
		w.t.Fatal(err)
	}
	if g.joined, err = g.Join(w.t.Context(), g.signer.Public(), "test"); err != nil {
		w.t.Fatal(err)
	}
	if g.mirror, err = govern.NewMirror(govern.MirrorConfig{Pepper: g.joined.Pepper, Mode: account.Mode(g.joined.Mode), Fetch: g.Catalog}); err != nil {
		w.t.Fatal(err)
	}
	if g.follower, err = remote.NewFollower(remote.FollowConfig{
		Client: g.Client, Mirror: g.mirror, Log: slog.New(slog.DiscardHandler),
		Hello: func(time.Time) { g.with(func() { g.hellos++ }) },
		Advance: func(_ context.Context, to time.Time) error {
			g.with(func() { g.advanced = append(g.advanced, to) })
			return nil
		},
		Settle: func(ctx context.Context, before time.Time) error {
			var block chan struct{}
			g.with(func() { g.settled, block = append(g.settled, before), g.block })
			if block == nil {
				return nil
			}
			select {
			case <-block:
			case <-ctx.Done():
			}
			return ctx.Err()
		},
		Counted: func(ids []string) { g.with(func() { g.counted = append(g.counted, ids...) }) },
		Holder:  func() (h authority.Holder) { g.with(func() { h = g.holder }); return h },
		Held: func(ctx context.Context, c enforce.HeldCall) (*enforce.Held, *enforce.Admission, error) {
			var held func(context.Context, enforce.HeldCall) (*enforce.Held, *enforce.Admission, error)
			g.with(func() { held = g.held })
			if held == nil {
				return nil, nil, enforce.ErrReservationAway
			}
			return held(ctx, c)
		},
		State: func() (st wire.State) {
			g.with(func() { st.Epoch, st.Now = g.epoch, max(0, g.clock.UnixMicro()) })
			return st
		},
	}); err != nil {
		w.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(w.t.Context())
	go func() { g.ended <- g.follower.Run(ctx) }()
	w.t.Cleanup(func() {
		stop()
		if err := <-g.ended; err != nil {
			w.t.Errorf("the follower ended: %v", err)
		}
	})
	select {
	case <-g.follower.Complete():
	case <-patient(w.t).Done():
		w.t.Fatal("the stream brought no whole picture")
	}
	return g
}

// post calls as the gateway, with whatever it likes.
func (w *world) post(g *gate, path string, v any) (status int, text string) {
	w.t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		w.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.http.URL+path, bytes.NewReader(b))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+g.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode, read(w.t, resp)
}

func (g *gate) with(do func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	do()
}

// begin takes an epoch and is a holder from then on.
func (g *gate) begin(h authority.Holder) uint32 {
	g.w.t.Helper()
	welcome, err := g.Begin(g.w.t.Context(), g.joined.Node, "boot", time.Now())
	if err != nil {
		g.w.t.Fatal(err)
	}
	g.with(func() { g.epoch, g.holder = welcome.Epoch, h })
	return welcome.Epoch
}

// holding is a holder that answers as it is told.
type holding struct {
	recall  func(ctx context.Context, counters []store.CounterKey) ([]authority.Back, error)
	shipped func()
}

func (h holding) Recall(ctx context.Context, counters []store.CounterKey) ([]authority.Back, error) {
	return h.recall(ctx, counters)
}

func (h holding) Tell(ctx context.Context, counters []store.CounterKey) ([]authority.Back, error) {
	return h.recall(ctx, counters)
}

func (h holding) Ship(context.Context) error {
	h.shipped()
	return nil
}
