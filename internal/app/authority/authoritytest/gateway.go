package authoritytest

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/core/quota"
	"github.com/tallystick/tallystick/internal/store"
)

// Gateway is a small holder of leases: it decides by quota.Decide on what it holds, one limit at a time, and keeps what a spool
// would keep. It is safe for concurrent use.
type Gateway struct {
	w       *World
	a       authority.Authority
	number  uint16
	epoch   uint32
	calling sync.Mutex // one call to the authority at a time

	mu    sync.Mutex // guards the fields below
	seq   uint64
	held  map[store.CounterKey]*lease
	spent map[spending]int64 // what a spool would know of this and earlier epochs
	slow  int64              // microseconds by which the clock is behind
}

type spending struct {
	store.CounterKey
	epoch uint32
}

// lease is one counter at a gateway.
type lease struct {
	ask   authority.Ask
	limit quota.Limit
	state quota.State
	base  int64
	known bool
	back  *authority.Back // while it is on its way back; nothing is decided then, since it is the one call
	said  uint64
	heard uint64
	until time.Duration // of what lives in memory; 0: for ever
}

// connect starts a gateway.
func (w *World) connect(number uint16) *Gateway {
	w.T.Helper()
	g := &Gateway{w: w, number: number, spent: map[spending]int64{}}
	g.a = w.dial(number, g)
	g.begin()
	return g
}

// begin is a new run, after whatever happened to the one before: its leases are closed with what the spool knows.
func (g *Gateway) begin() {
	g.w.T.Helper()
	g.calling.Lock()
	defer g.calling.Unlock()
	welcome, err := retry(func() (authority.Welcome, error) {
		return g.a.Begin(context.Background(), g.number, "boot", g.w.Now())
	})
	if err != nil {
		g.w.T.Fatal(err)
	}
	g.mu.Lock()
	g.epoch, g.held, g.seq = welcome.Epoch, map[store.CounterKey]*lease{}, 0
	var backs []authority.Back
	for _, l := range welcome.Open {
		backs = append(backs, authority.Back{Counter: l.CounterKey, Epoch: l.Epoch, Spent: g.spent[spending{l.CounterKey, l.Epoch}], Closed: true})
	}
	g.mu.Unlock()
	_, err = retry(func() (struct{}, error) {
		return struct{}{}, g.a.Return(context.Background(), g.number, welcome.Epoch, backs)
	})
	if err != nil {
		g.w.T.Fatal(err)
	}
}

// retry repeats what failed on the way.
func retry[T any](do func() (T, error)) (out T, err error) {
	for range 20 {
		if out, err = do(); !errors.Is(err, authority.ErrUnreachable) {
			return out, err
		}
	}
	return out, err
}

// now is the gateway's clock.
func (g *Gateway) now() int64 { return g.w.Now().UnixMicro() - g.slow }

// try admits a cost under a limit, or does not.
func (g *Gateway) try(l quota.Limit, cost int64) bool {
	g.calling.Lock()
	defer g.calling.Unlock()
	now := g.now()
	ask := g.w.ask(l, now)
	for range 8 {
		g.mu.Lock()
		h := g.held[ask.Counter]
		if h == nil {
			h = &lease{}
			g.held[ask.Counter] = h
		}
		h.ask, h.limit = ask, l
		if h.until > 0 && g.w.Mono() > h.until {
			h.known, h.state, h.base, h.until = false, quota.State{}, 0, 0
		}
		if h.known && g.decide(h, cost, now) {
			g.mu.Unlock()
			return true
		}
		if h.known && h.verdict(cost, now) == quota.Deny {
			g.mu.Unlock()
			return false
		}
		draw := g.draw(h, cost, now)
		sent := g.w.Mono()
		g.mu.Unlock()
		answers, err := g.a.Draw(context.Background(), draw)
		if err != nil {
			if !errors.Is(err, authority.ErrUnreachable) && !errors.Is(err, authority.ErrEpoch) {
				g.w.T.Errorf("draw: %v", err)
			}
			return false
		}
		g.mu.Lock()
		h.take(&draw, &answers[0], now, sent)
		g.mu.Unlock()
	}
	return false
}

// decide charges a cost when it fits.
func (g *Gateway) decide(h *lease, cost, now int64) bool {
	var d quota.Decision
	quota.Decide(&d, []quota.Limit{h.limit}, []*quota.State{&h.state}, cost, now)
	if d.Verdict != quota.Allow {
		return false
	}
	g.spent[spending{h.ask.Counter, g.epoch}] = h.spentBy(g, cost)
	return true
}

// spentBy is what the spool would say after one more cost.
func (h *lease) spentBy(g *Gateway, cost int64) int64 {
	return g.spent[spending{h.ask.Counter, g.epoch}] + cost
}

// verdict is what would be decided.
func (h *lease) verdict(cost, now int64) quota.Verdict {
	var d quota.Decision
	st := h.state
	quota.Decide(&d, []quota.Limit{h.limit}, []*quota.State{&st}, cost, now)
	return d.Verdict
}

// spentNow is what the lease was spent on.
func (h *lease) spentNow() int64 { return max(0, h.state.Consumed-h.base) }

// draw asks for what a cost lacks.
func (g *Gateway) draw(h *lease, cost, now int64) authority.Draw {
	g.seq++
	h.said = g.seq
	a := h.ask
	a.Need, a.Fresh, a.Heard = cost, !h.known, h.heard
	a.Spent = h.spentNow()
	if h.limit.Kind == quota.TokenBucket && h.known {
		free, _ := quota.Remaining(&h.limit, &h.state, now)
		a.Need = max(1, cost-free)
		a.Rate, a.Per, a.Burst = h.state.Rate, h.state.Per, h.state.Burst
	}
	return authority.Draw{
		Node: g.number, Epoch: g.epoch, CustomerID: a.Counter.CustomerID, SubscriptionID: "sub", CatalogVersion: g.w.Current().Version,
		Now: now, Seq: g.seq, Asks: []authority.Ask{a},
	}
}

// take takes an answer, unless something was said since.
func (h *lease) take(d *authority.Draw, a *authority.Answer, now int64, sent time.Duration) {
	if h.said != d.Seq {
		return
	}
	ask, st := &d.Asks[0], &h.state
	h.heard = a.Stamp
	st.Shared, st.AskAgain, st.ClearsAt = a.Shared, a.AskAgain, a.ClearsAt
	if a.ValidFor > 0 {
		h.until = sent + a.ValidFor
	}
	if h.limit.Kind == quota.TokenBucket {
		if ask.Fresh {
			*st = quota.State{Rate: a.Rate, Per: a.Per, Burst: a.Burst, Debt: a.Debt, Last: now, Shared: a.Shared, AskAgain: a.AskAgain, ClearsAt: a.ClearsAt}
		} else {
			st.Merge(quota.State{Rate: max(0, a.Rate-st.Rate), Per: st.Per, Debt: a.Debt, Last: now}, now)
			st.Rate, st.Per, st.Burst = a.Rate, a.Per, a.Burst
		}
		h.known = true
		return
	}
	st.Consumed += a.Base - h.base
	h.base = a.Base
	st.Granted, st.Ceiling = a.Base+a.Granted, a.Ceiling
	st.WindowStart, st.WindowEnd = ask.Counter.Start, ask.WindowEnd
	h.known = true
}

// end gives back the place of a request that ran under a concurrency limit.
func (g *Gateway) end(l quota.Limit) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if h := g.held[g.w.ask(l, g.now()).Counter]; h != nil {
		quota.End([]quota.Limit{l}, []*quota.State{&h.state})
	}
}

// shrink gives back what is idle.
func (g *Gateway) shrink(h *lease, closed bool) authority.Back {
	g.seq++
	h.said = g.seq
	b := authority.Back{Counter: h.ask.Counter, Kind: h.limit.Kind, Epoch: g.epoch, Seq: g.seq, Heard: h.heard, Closed: closed}
	st := &h.state
	if h.limit.Kind == quota.TokenBucket {
		now := g.now()
		b.Had = st.Burst
		part := st.Split(st.Rate, st.Burst, st.Burst, now)
		b.Rate, b.Per, b.Burst, b.Debt, b.Last = st.Rate, st.Per, st.Burst, part.Debt, part.Last
	} else {
		b.Spent = h.spentNow()
		b.Keep = b.Spent
		st.Granted = h.base + b.Keep
	}
	st.Shared, st.AskAgain, st.ClearsAt = true, 0, 0
	return b
}

// Recall implements authority.Holder.
func (g *Gateway) Recall(_ context.Context, counters []store.CounterKey) (out []authority.Back, _ error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, k := range counters {
		h := g.held[k]
		switch {
		case h == nil:
			g.seq++
			out = append(out, authority.Back{Counter: k, Epoch: g.epoch, Seq: g.seq, Closed: true})
		case h.back != nil:
			out = append(out, *h.back)
		case !h.known:
			g.seq++
			h.said = g.seq
			out = append(out, authority.Back{Counter: k, Kind: h.limit.Kind, Epoch: g.epoch, Seq: g.seq, Heard: h.heard, Closed: true})
		default:
			out = append(out, g.shrink(h, false))
		}
	}
	return out, nil
}

// Tell implements authority.Holder.
func (g *Gateway) Tell(_ context.Context, counters []store.CounterKey) (out []authority.Back, _ error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, k := range counters {
		if h := g.held[k]; h != nil && h.known && h.limit.Kind != quota.TokenBucket {
			out = append(out, authority.Back{Counter: k, Kind: h.limit.Kind, Epoch: g.epoch, Spent: h.spentNow(), Keep: h.state.Granted - h.base})
		}
	}
	return out, nil
}

// Ship implements authority.Holder: nothing is spooled here.
func (g *Gateway) Ship(context.Context) error { return nil }

// close gives all leases back.
func (g *Gateway) close() {
	g.w.T.Helper()
	g.calling.Lock()
	defer g.calling.Unlock()
	g.mu.Lock()
	var backs []authority.Back
	for _, h := range g.held {
		if h.known {
			back := g.shrink(h, true)
			backs, h.back = append(backs, back), &back
		}
	}
	g.mu.Unlock()
	_, err := retry(func() (struct{}, error) {
		return struct{}{}, g.a.Return(context.Background(), g.number, g.epoch, backs)
	})
	if err != nil {
		g.w.T.Fatal(err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for k := range g.held { // not before: the authority may ask for what it has not yet got
		delete(g.spent, spending{k, g.epoch})
	}
	g.held = map[store.CounterKey]*lease{}
}

// renew tells the authority that the gateway is alive.
func (g *Gateway) renew() {
	g.calling.Lock()
	defer g.calling.Unlock()
	sent := g.w.Mono()
	if err := g.a.Return(context.Background(), g.number, g.epoch, nil); err != nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, h := range g.held {
		if h.until > 0 && h.until >= sent {
			h.until = sent + validity
		}
	}
}

// validity is Answer.ValidFor as the authority grants it.
const validity = 5 * time.Second
