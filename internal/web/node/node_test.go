package node_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/app/receive"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/web/node"
	"github.com/tallystick/tallystick/internal/web/node/remote"
	"github.com/tallystick/tallystick/internal/web/node/wire"
)

const catalogText = `tallystick: 1
meters:
  - {key: api_calls, event: request, aggregation: count}
plans:
  - key: free
    currency: USD
    limits:
      - {key: daily, meter: api_calls, quota: "%d", window: day, enforcement: hard}
gateway:
  routes:
    - {match: "GET /hello", upstream: "http://127.0.0.1:9", meter: api_calls, cost: "1"}
`

func (w *world) apply(quota int) {
	w.t.Helper()
	if _, _, err := w.govern.ApplyCatalog(w.t.Context(), "operator", "test", fmt.Appendf(nil, catalogText, quota)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) customer(key string) {
	w.t.Helper()
	if _, err := w.govern.CreateCustomer(w.t.Context(), "operator", govern.NewCustomer{Key: key, Zone: "Asia/Kolkata"}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) key(customer string) (account.APIKey, string) {
	w.t.Helper()
	k, secret, err := w.govern.CreateKey(w.t.Context(), "operator", govern.NewKey{Customer: customer})
	if err != nil {
		w.t.Fatal(err)
	}
	return k, secret
}

// follows waits until the gateway is as it should be, and says how long the server's change took: at most a second.
func (g *gate) follows(what string, change func(), holds func() bool) {
	g.w.t.Helper()
	change()
	began := time.Now()
	eventually(g.w.t, what, holds)
	took := time.Since(began)
	g.w.t.Logf("%s: after %v", what, took.Round(10*time.Microsecond))
	if took > time.Second {
		g.w.t.Errorf("%s took %v, more than a second", what, took)
	}
}

// TestChangesArrive: what operators decide is in force at the gateway within a second, and the same as at the server.
func TestChangesArrive(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.apply(10)
	w.customer("early")
	k, early := w.key("early")
	g := w.gateway(w.token("east"))
	if p, fault := g.mirror.Principal(early, w.now()); fault != "" || p.Customer.Key != "early" || p.Key.ID != k.ID || p.Customer.Zone.String() != "Asia/Kolkata" {
		t.Fatalf("%+v, %v", p, fault)
	}
	g.follows("a catalog is applied", func() { w.apply(20) }, func() bool { return g.mirror.Current().Version == 2 })
	if plan, ok := g.mirror.Current().Plan("free"); !ok || plan.Limits[0].Quota.String() != "20" {
		t.Errorf("plan %+v", plan)
	}
	var late string
	g.follows("a customer, a key and a subscription are made", func() {
		w.customer("late")
		_, late = w.key("late")
		if _, err := w.govern.CreateSubscription(t.Context(), "operator", govern.NewSubscription{Customer: "late", Plan: "free"}); err != nil {
			t.Fatal(err)
		}
	}, func() bool {
		p, fault := g.mirror.Principal(late, w.now())
		return fault == "" && p.HasSubscription && p.Revision > 0
	})
	g.follows("a key is revoked", func() {
		if _, err := w.govern.RevokeKey(t.Context(), "operator", k.ID); err != nil {
			t.Fatal(err)
		}
	}, func() bool { _, fault := g.mirror.Principal(early, w.now()); return fault == govern.KeyRevoked })
	old, err := g.mirror.Version(t.Context(), 1) // fetched
	if err != nil || old.Version != 1 {
		t.Errorf("version 1: %v, %v", old, err)
	}
	if _, err := g.mirror.Version(t.Context(), 9); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("version 9: %v", err)
	}
}

// TestBrokenStream: what changed while the stream was broken arrives when it is open again, with and without the server's memory
// of it, and while everything is being told.
func TestBrokenStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.apply(10)
	for i := range 1300 {
		w.customer(fmt.Sprintf("c-%d", i))
	}
	g := w.gateway(w.token("east"))
	if c, ok := g.mirror.Customer("c-1299"); !ok || c.Key != "c-1299" {
		t.Fatal("the last customer did not arrive")
	}
	for round := range 3 {
		g.set(true)
		eventually(t, "the stream to break", func() bool { return !g.follower.Current() })
		name := fmt.Sprintf("away-%d", round)
		w.customer(name)
		if round == 1 { // too many for the server to remember
			k, _ := w.key(name)
			for range 10_000 {
				w.govern.Touch(govern.Touched{KeyID: k.ID})
			}
		}
		if _, ok := g.mirror.Customer(name); ok {
			t.Error("it came through a cut wire")
		}
		g.set(false)
		eventually(t, "the change to arrive", func() bool { _, ok := g.mirror.Customer(name); return ok && g.follower.Current() })
		if _, ok := g.mirror.Customer("c-0"); !ok {
			t.Error("the first customer is gone")
		}
	}
}

// TestCalls: each call gets to the authority, the journal and back.
func TestCalls(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.apply(10)
	g := w.gateway(w.token("east"))
	ctx := t.Context()
	epoch := g.begin(nil)
	if s := g.Subkey(); s == nil || string(s.Key) != fmt.Sprintf("2/%d", epoch) || s.Number != 1 {
		t.Errorf("subkey %+v", s)
	}
	counter := store.CounterKey{CustomerID: "cus", Meter: "m", Scope: "s", Window: period.Day, Start: 5}
	answers, err := g.Draw(ctx, authority.Draw{Epoch: epoch, CustomerID: "cus", Asks: []authority.Ask{{Counter: counter, Want: 7}, {Counter: store.CounterKey{Meter: "bucket"}, Want: 3}}})
	if err != nil || len(answers) != 2 || answers[0].Granted != 7 || answers[1].Granted != 3 {
		t.Fatalf("%+v, %v", answers, err)
	}
	if d := w.stub.draws[0]; d.Node != 2 || d.Asks[0].Counter != counter || d.Asks[1].Counter.Window != 0 {
		t.Errorf("drew %+v", d)
	}
	if err := g.Return(ctx, 2, epoch, []authority.Back{{Counter: counter, Spent: 3, Closed: true}}); err != nil || w.stub.backs[0].Counter != counter {
		t.Errorf("returned %+v, %v", w.stub.backs, err)
	}
	sender := receive.NewSender(2, g.signer, g)
	b := store.Batch{
		Producer: "gateway/2", Node: 2, Epoch: epoch, First: 1, Last: 1, ReceivedAt: w.now(),
		Totals:  []store.AdmittedTotal{{CustomerID: "cus", Meter: "m", Total: money.FromInt(1)}},
		Entries: []store.Entry{{Event: meter.Event{Source: "gateway/2", ID: "x", Type: "request", Subject: "cus", Time: w.now(), Data: []byte(`{"a":1}`)}, Origin: meter.Admitted, Receipt: []byte{1, 2}}},
	}
	results, err := sender.Deliver(ctx, epoch, 0, 10, &b)
	if err != nil || len(results) != 1 || results[0].Outcome != store.Unmatched {
		t.Fatalf("%+v, %v", results, err)
	}
	if known, err := g.Known(ctx, "", append(slices.Repeat([]string{"gone"}, 1500), "there")); err != nil || len(known) != 1501 || known[0] || !known[1500] {
		t.Errorf("known %v, %v", known, err)
	}
	if used, err := g.Used(ctx, "cus", "abc", period.Interval{Start: time.Unix(40, 0), End: time.Unix(50, 0)}); err != nil || used.String() != "43" {
		t.Errorf("used %s, %v", used, err)
	}
	if _, err := g.Used(ctx, "broken", "m", period.Interval{Start: time.Unix(0, 0)}); !errors.Is(err, authority.ErrUnreachable) {
		t.Errorf("broken: %v", err)
	}
	b.Node = 3
	if _, err := g.Receive(ctx, &b); !errors.Is(err, receive.ErrRefused) {
		t.Errorf("another node's batch: %v", err)
	}
	asks := make([]authority.Ask, authority.MaxAsks+1)
	if _, err := g.Draw(ctx, authority.Draw{Epoch: epoch, Asks: asks}); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("too many asks: %v", err)
	}
	if _, err := g.Draw(ctx, authority.Draw{Epoch: epoch - 1}); !errors.Is(err, authority.ErrEpoch) {
		t.Errorf("an old epoch: %v", err)
	}
	if _, err := g.Draw(ctx, authority.Draw{Epoch: epoch}); err != nil {
		t.Errorf("a refusal is no sign of an unreachable server: %v", err)
	}
}

// TestRecall: the authority reaches a holder through the stream, and is told at once when there is none to be reached.
func TestRecall(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.apply(10)
	g := w.gateway(w.token("east"))
	counters := []store.CounterKey{{Meter: "a", Window: period.Month}, {Meter: "b"}}
	h := w.node.Holder(2)
	if _, err := h.Recall(patient(t), counters); err == nil {
		t.Error("a gateway that has not begun answered")
	}
	shipped := make(chan struct{}, 1)
	g.begin(holding{
		recall: func(_ context.Context, ks []store.CounterKey) ([]authority.Back, error) {
			var out []authority.Back
			for i, k := range ks {
				out = append(out, authority.Back{Counter: k, Spent: int64(i), Closed: true})
			}
			return out, nil
		},
		shipped: func() { shipped <- struct{}{} },
	})
	eventually(t, "the holder to be attached", func() bool { return w.stub.holder(2) != nil })
	backs, err := w.stub.holder(2).Recall(patient(t), counters)
	if err != nil || len(backs) != 2 || backs[0].Counter != counters[0] || backs[1].Counter != counters[1] || backs[1].Spent != 1 {
		t.Fatalf("%+v, %v", backs, err)
	}
	if err := h.Ship(patient(t)); err != nil {
		t.Fatal(err)
	}
	<-shipped
	g.set(true)
	eventually(t, "the recall to fail without a wait", func() bool {
		_, err := h.Recall(patient(t), counters)
		return errors.Is(err, authority.ErrUnreachable)
	})
	if _, err := w.node.Holder(77).Recall(t.Context(), counters); !errors.Is(err, authority.ErrUnreachable) {
		t.Errorf("nobody: %v", err)
	}
	g.set(false)
	eventually(t, "the holder to be there again", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := h.Recall(ctx, counters)
		return err == nil
	})
}

// TestBarrier: an advance of the clock, and the settling of a period, wait for every gateway that is connected.
func TestBarrier(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.apply(10)
	east, west := w.gateway(w.token("east")), w.gateway(w.token("west"))
	to := w.now().Add(24 * time.Hour).Truncate(time.Microsecond)
	if err := w.node.Advance(patient(t), to); err != nil {
		t.Fatal(err)
	}
	for _, g := range []*gate{east, west} {
		g.with(func() {
			if !slices.Equal(g.advanced, []time.Time{to}) {
				t.Errorf("advanced to %v", g.advanced)
			}
		})
	}
	west.with(func() { west.block = make(chan struct{}) })
	done := make(chan error, 1)
	go func() { done <- w.node.Settle(patient(t), to) }()
	eventually(t, "both to be asked", func() bool {
		n := 0
		for _, g := range []*gate{east, west} {
			g.with(func() { n += len(g.settled) })
		}
		return n == 2
	})
	select {
	case err := <-done:
		t.Fatalf("it did not wait: %v", err)
	default:
	}
	west.with(func() { close(west.block) })
	if err := <-done; err != nil {
		t.Error(err)
	}
	w.node.Counted([]string{"a", "b"})
	eventually(t, "the customers to be told", func() (told bool) {
		east.with(func() { told = slices.Equal(east.counted, []string{"a", "b"}) })
		return told
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	west.with(func() { west.block = make(chan struct{}) })
	if err := w.node.Settle(ctx, to); !errors.Is(err, authority.ErrUnreachable) {
		t.Errorf("one that does not answer in time: %v", err)
	}
	west.with(func() { close(west.block) })
}

// TestRevoked: a revoked gateway's calls are refused at once, and its stream ends.
func TestRevoked(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.apply(10)
	g := w.gateway(w.token("east"))
	epoch := g.begin(nil)
	if _, err := w.nodes.Revoke(t.Context(), "operator", "east", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Draw(t.Context(), authority.Draw{Epoch: epoch}); !errors.Is(err, remote.ErrDenied) {
		t.Errorf("drawn: %v", err)
	}
	select {
	case err := <-g.ended:
		if !errors.Is(err, remote.ErrDenied) {
			t.Errorf("the follower ended with %v", err)
		}
		g.ended <- nil
	case <-patient(t).Done():
		t.Fatal("the stream did not end")
	}
	if list := w.node.List(); len(list) != 1 || list[0].Connected || list[0].RevokedAt.IsZero() {
		t.Errorf("%+v", list)
	}
}

// TestSecondRun: a process whose node another one has taken over is told to stop.
func TestSecondRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.apply(10)
	token := w.token("east")
	first := w.gateway(token)
	first.begin(nil)
	second := w.gateway(token)
	second.begin(nil)
	select {
	case err := <-first.ended:
		if !errors.Is(err, authority.ErrEpoch) {
			t.Errorf("the first one ended with %v", err)
		}
		first.ended <- nil
	case <-patient(t).Done():
		t.Fatal("the first one was not told")
	}
}

// TestBreaker: after one draw that got no answer further ones fail at once, and a probe finds the server again.
func TestBreaker(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.stub.mu.Lock()
	hang := make(chan struct{})
	w.stub.hang = hang
	w.stub.mu.Unlock()
	c, _ := w.client(w.token("east"), func(cfg *remote.Config) { cfg.DrawTimeout = 50 * time.Millisecond })
	w.stub.epochs[2] = 1
	draw := func() error { _, err := c.Draw(t.Context(), authority.Draw{Epoch: 1}); return err }
	if err := draw(); !errors.Is(err, authority.ErrUnreachable) {
		t.Fatalf("first: %v", err)
	}
	for range 1000 {
		if err := draw(); !errors.Is(err, authority.ErrUnreachable) {
			t.Fatal(err)
		}
	}
	if s := c.Stats(); !s.Open || s.Spared < 990 || s.Failed > 10 || s.Opened != 1 {
		t.Errorf("%+v", s)
	}
	close(hang)
	eventually(t, "a probe to get through", func() bool { return draw() == nil })
	if s := c.Stats(); s.Open {
		t.Errorf("%+v", s)
	}
}

// TestRefusals: who is not let in, and what is not taken.
func TestRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	token := w.token("east")
	for _, tt := range []struct {
		name, method, path, token, body, code string
		status                                int
	}{
		{"no token", "POST", wire.PathDraw, "", `{}`, "token_unknown", 401},
		{"garbage", "POST", wire.PathDraw, "tally_gw_x", `{}`, "token_unknown", 401},
		{"unknown path", "POST", "/v1/nodes/nothing", token, `{}`, "not_found", 404},
		{"another method", "GET", wire.PathDraw, token, ``, "not_found", 404},
		{"no JSON", "POST", wire.PathDraw, token, `{`, "invalid", 400},
		{"another type", "POST", wire.PathDraw, token, `[]`, "invalid", 400},
		{"too long", "POST", wire.PathJoin, token, strings.Repeat(" ", wire.CallMax+1), "invalid", 413},
		{"another protocol", "POST", wire.PathJoin, token, `{"protocol":99}`, "protocol", 422},
		{"a short key", "POST", wire.PathJoin, token, fmt.Sprintf(`{"protocol":%d,"public":"AAAA"}`, wire.Protocol), "invalid", 422},
		{"no numbers", "GET", wire.PathStream + "?epoch=x", token, ``, "invalid", 400},
		{"no catalog", "GET", wire.PathCatalog + "0", token, ``, "not_found", 404},
		{"no session", "POST", wire.PathBeat, token, `{"session":"x"}`, "not_found", 404},
		{"nothing asked", "POST", wire.PathPast, token, `{}`, "invalid", 422},
	} {
		t.Run(tt.name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), tt.method, w.http.URL+tt.path, strings.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			if tt.token != "" {
				req.Header.Set("Authorization", "Bearer "+tt.token)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			var b strings.Builder
			if _, err := fmt.Fprint(&b, read(t, resp)); err != nil || resp.StatusCode != tt.status || !strings.Contains(b.String(), `"code":"`+tt.code+`"`) {
				t.Errorf("%d %s", resp.StatusCode, b.String())
			}
		})
	}
	strict := newWorld(t, func(c *node.Config) { c.Certificates = true })
	c, _ := strict.client(strict.token("east"), nil)
	if _, err := c.Join(t.Context(), [32]byte{1}, ""); !errors.Is(err, remote.ErrDenied) {
		t.Errorf("without a certificate: %v", err)
	}
}

func read(t *testing.T, resp *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
