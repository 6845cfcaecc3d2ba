package authoritytest

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/quota"
	"github.com/tallystick/tallystick/internal/store"
)

// Run checks an Authority. open makes one over fresh stores, with the world as directory and clocks, and without a local node.
func Run(t *testing.T, open func(t *testing.T, w *World) Dial) {
	t.Helper()
	start := func(t *testing.T, limits ...catalog.Limit) *World {
		t.Helper()
		w := newWorld(t, limits...)
		w.dial = open(t, w)
		return w
	}
	for _, tt := range []struct {
		name string
		run  func(t *testing.T, start func(*testing.T, ...catalog.Limit) *World)
	}{
		{"ThreeNodesReachTheLimitExactly", threeNodes},
		{"AtRandomAtOnce", atOnce},
		{"LostAnswersAreRepeated", lostAnswers},
		{"AnOldRunIsOver", oldRun},
		{"Rolling", rolling},
		{"BucketByDefinition", bucket},
		{"BucketWhoseRecallsGetLost", lostRecalls},
		{"BucketOfOneIsExact", bucketOfOne},
		{"SpendCapOverMetersAndNodes", spendCap},
		{"Concurrency", concurrency},
		{"SilentHolder", silent},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.run(t, start)
		})
	}
}

func daily(n string) catalog.Limit {
	return catalog.Limit{Key: "daily", Meter: "calls", Quota: new(money.MustDecimal(n)), Window: period.Day}
}

func want(t testing.TB, what string, got, want int64) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %d, want %d", what, got, want)
	}
}

// threeNodes: idle leases are recalled before anything is denied, so 100 calls in turn over three gateways are 100.
func threeNodes(t *testing.T, start func(*testing.T, ...catalog.Limit) *World) {
	w := start(t, daily("100"))
	l := w.limit("calls", "daily")
	gs := []*Gateway{w.connect(2), w.connect(3), w.connect(4)}
	admitted := int64(0)
	for i := range 120 {
		if gs[i%3].try(l, 1) {
			admitted++
		} else if admitted < 100 {
			t.Fatalf("call %d was denied after %d", i, admitted)
		}
	}
	want(t, "admitted", admitted, 100)
}

// atOnce: many goroutines over three gateways that are killed and begun again at random. Never above the limit, and exactly the
// limit when all is back.
func atOnce(t *testing.T, start func(*testing.T, ...catalog.Limit) *World) {
	const limit = 1200
	w := start(t, daily("1200"))
	l := w.limit("calls", "daily")
	var admitted atomic.Int64
	var wg sync.WaitGroup
	gs := []*Gateway{w.connect(2), w.connect(3), w.connect(4)}
	for i := range 9 {
		g, dice := gs[i%3], rand.New(rand.NewPCG(uint64(i), 1))
		wg.Go(func() {
			for range 100 {
				cost := 1 + dice.Int64N(4)
				if g.try(l, cost) {
					admitted.Add(cost)
				}
				switch {
				case dice.IntN(40) == 0:
					g.begin() // as after kill -9: the spool says what was spent
				case dice.IntN(25) == 0:
					g.close()
				}
			}
		})
	}
	wg.Wait()
	if n := admitted.Load(); n > limit {
		t.Fatalf("admitted %d of %d", n, limit)
	}
	for _, g := range gs {
		g.begin()
	}
	w.advance(time.Second)
	for gs[0].try(l, 1) {
		admitted.Add(1)
	}
	want(t, "admitted", admitted.Load(), limit)
}

// lossy loses answers: the call is done, and nobody hears of it.
type lossy struct {
	authority.Authority
	mu   sync.Mutex // guards dice
	dice *rand.Rand
}

func (a *lossy) lose() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.dice.IntN(3) == 0
}

func (a *lossy) Draw(ctx context.Context, d authority.Draw) ([]authority.Answer, error) {
	out, err := a.Authority.Draw(ctx, d)
	if a.lose() {
		return nil, authority.ErrUnreachable
	}
	return out, err
}

func (a *lossy) Return(ctx context.Context, node uint16, epoch uint32, backs []authority.Back) error {
	err := a.Authority.Return(ctx, node, epoch, backs)
	if a.lose() {
		return authority.ErrUnreachable
	}
	return err
}

func lostAnswers(t *testing.T, start func(*testing.T, ...catalog.Limit) *World) {
	w := start(t, daily("300"))
	l := w.limit("calls", "daily")
	inner, dice := w.dial, rand.New(rand.NewPCG(7, 7))
	w.dial = func(number uint16, h authority.Holder) authority.Authority {
		return &lossy{Authority: inner(number, h), dice: rand.New(rand.NewPCG(uint64(number), 3))}
	}
	gs := []*Gateway{w.connect(2), w.connect(3)}
	admitted := int64(0)
	for range 400 {
		g := gs[dice.IntN(2)]
		if cost := 1 + dice.Int64N(3); g.try(l, cost) {
			admitted += cost
		}
		if dice.IntN(30) == 0 {
			g.close()
		}
	}
	if admitted > 300 {
		t.Fatalf("admitted %d of 300", admitted)
	}
	w.advance(time.Second)
	for range 2000 {
		if gs[1].try(l, 1) {
			admitted++
		}
	}
	want(t, "admitted", admitted, 300)
}

// oldRun: after another run of the node has begun, the one before gets nothing and gives nothing back.
func oldRun(t *testing.T, start func(*testing.T, ...catalog.Limit) *World) {
	w := start(t, daily("100"))
	l := w.limit("calls", "daily")
	g := w.connect(2)
	if !g.try(l, 10) {
		t.Fatal("nothing admitted")
	}
	g.mu.Lock()
	old := g.draw(g.held[w.ask(l, g.now()).Counter], 5, g.now())
	g.mu.Unlock()
	g.begin()
	if _, err := g.a.Draw(t.Context(), old); !errors.Is(err, authority.ErrEpoch) {
		t.Errorf("the old run drew: %v", err)
	}
	back := authority.Back{Counter: old.Asks[0].Counter, Kind: quota.Quota, Closed: true}
	if err := g.a.Return(t.Context(), 2, old.Epoch, []authority.Back{back}); !errors.Is(err, authority.ErrEpoch) {
		t.Errorf("the old run gave back: %v", err)
	}
	admitted := int64(10)
	for g.try(l, 1) {
		admitted++
	}
	want(t, "admitted", admitted, 100)
}

// rolling: whatever instant it ends at, no stretch of the length admits more than the limit; a gateway's clock is behind.
func rolling(t *testing.T, start func(*testing.T, ...catalog.Limit) *World) {
	for _, length := range []time.Duration{2 * time.Hour, time.Minute} {
		w := start(t, catalog.Limit{Key: "sliding", Meter: "calls", Quota: new(money.MustDecimal("40")), Rolling: length})
		l := w.limit("calls", "sliding")
		gs := []*Gateway{w.connect(2), w.connect(3), w.connect(4)}
		gs[2].slow = l.Slot
		w.advance(validity * 4)
		dice := rand.New(rand.NewPCG(5, uint64(length)))
		type admission struct{ at, cost int64 }
		var all []admission
		sum := int64(0)
		for range 400 {
			g := gs[dice.IntN(3)]
			if cost := 1 + dice.Int64N(4); g.try(l, cost) {
				all = append(all, admission{g.now(), cost})
				sum += cost
			}
			w.advance(time.Duration(dice.Int64N(int64(length) / 60)))
			for _, g := range gs {
				g.renew()
			}
		}
		for _, a := range all {
			n := int64(0)
			for _, b := range all {
				if b.at > a.at-l.Length && b.at <= a.at {
					n += b.cost
				}
			}
			if n > 40 {
				t.Fatalf("%s: %d admitted until %d", length, n, a.at)
			}
		}
		if sum < 80 {
			t.Errorf("%s: only %d admitted: windows do not move on", length, sum)
		}
	}
}

func bucketLimit(rate, burst string) catalog.Limit {
	return catalog.Limit{Key: "burst", Meter: "calls", Bucket: &catalog.Bucket{Rate: money.MustDecimal(rate), Burst: money.MustDecimal(burst), Per: time.Second}}
}

// bucket: no stretch of time admits more than burst + rate×time over all gateways, while shares move, runs end and leases lapse.
func bucket(t *testing.T, start func(*testing.T, ...catalog.Limit) *World) {
	bound(t, start(t, bucketLimit("5", "20")), 500) // some 1000 refill while somebody asks
}

// forgetful is a holder some of whose answers to recalls arrive after the next ones, or never.
type forgetful struct {
	*Gateway
	mu   sync.Mutex // guards the fields below
	dice *rand.Rand
	late []authority.Back
}

func (f *forgetful) Recall(ctx context.Context, counters []store.CounterKey) ([]authority.Back, error) {
	backs, err := f.Gateway.Recall(ctx, counters)
	f.mu.Lock()
	defer f.mu.Unlock()
	switch f.dice.IntN(4) {
	case 0:
		return nil, context.DeadlineExceeded
	case 1:
		f.late = append(f.late, backs...)
		return nil, context.DeadlineExceeded
	}
	backs, f.late = append(backs, f.late...), nil
	return backs, err
}

// lostRecalls: nor when what was given back on recall arrives late, or never.
func lostRecalls(t *testing.T, start func(*testing.T, ...catalog.Limit) *World) {
	w := start(t, bucketLimit("5", "20"))
	inner := w.dial
	w.dial = func(number uint16, h authority.Holder) authority.Authority {
		if g, ok := h.(*Gateway); ok {
			h = &forgetful{Gateway: g, dice: rand.New(rand.NewPCG(uint64(number), 5))}
		}
		return inner(number, h)
	}
	bound(t, w, 250)
}

// bound has three gateways admit under the limit of bucketLimit("5", "20"), at least so much in all.
func bound(t *testing.T, w *World, least int64) {
	const rate, burst = 5, 20
	l := w.limit("calls", "burst")
	gs := []*Gateway{w.connect(2), w.connect(3), w.connect(4)}
	dice := rand.New(rand.NewPCG(11, 11))
	type admission struct{ at, cost int64 }
	var all []admission
	sum := int64(0)
	for range 2000 {
		g := gs[dice.IntN(3)]
		if cost := 1 + dice.Int64N(3); g.try(l, cost) {
			all = append(all, admission{g.now(), cost})
			sum += cost
		}
		w.advance(time.Duration(dice.Int64N(int64(200 * time.Millisecond))))
		switch dice.IntN(60) {
		case 0:
			g.begin()
		case 1:
			g.close()
		case 2:
			w.advance(validity * 2) // all lapse
		default:
			g.renew()
		}
	}
	for i := range all {
		n := int64(0)
		for j := i; j < len(all); j++ {
			n += all[j].cost
			if n*1e6 > burst*1e6+rate*(all[j].at-all[i].at) {
				t.Fatalf("%d admitted in %d µs", n, all[j].at-all[i].at)
			}
		}
	}
	if sum < least {
		t.Errorf("only %d admitted", sum)
	}
}

// bucketOfOne: a gateway alone admits just what one bucket admits.
func bucketOfOne(t *testing.T, start func(*testing.T, ...catalog.Limit) *World) {
	w := start(t, bucketLimit("3", "10"))
	l := w.limit("calls", "burst")
	g := w.connect(2)
	model := []*quota.State{{}}
	dice := rand.New(rand.NewPCG(2, 2))
	for range 500 {
		cost := 1 + dice.Int64N(4)
		var d quota.Decision
		quota.Decide(&d, []quota.Limit{l}, model, cost, w.Now().UnixMicro())
		if got := g.try(l, cost); got != (d.Verdict == quota.Allow) {
			t.Fatalf("admitted: %v, one bucket says %v", got, d.Verdict)
		}
		w.advance(time.Duration(dice.Int64N(int64(900 * time.Millisecond))))
		g.renew()
	}
}

// spendCap: two meters on two gateways never cost more than the cap, and reach it.
func spendCap(t *testing.T, start func(*testing.T, ...catalog.Limit) *World) {
	w := start(t, catalog.Limit{Key: "cap", SpendCap: new(money.MustDecimal("100")), Window: period.BillingPeriod})
	gs := []*Gateway{w.connect(2), w.connect(3)}
	ls := []quota.Limit{w.limit("calls", "cap"), w.limit("tokens", "cap")}
	var admitted atomic.Int64
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for range 120 {
				if gs[i%2].try(ls[i/2], 1) {
					admitted.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if n := admitted.Load(); n > 200 {
		t.Fatalf("%d units at 0.50 under a cap of 100", n)
	}
	gs[0].close()
	gs[1].close()
	w.advance(time.Second)
	for i := range 2 {
		for gs[i].try(ls[i], 1) {
			admitted.Add(1)
		}
	}
	want(t, "units at 0.50 under a cap of 100", admitted.Load(), 200)
}

// concurrency: places over three gateways never pass the limit; those of a run that ended come back.
func concurrency(t *testing.T, start func(*testing.T, ...catalog.Limit) *World) {
	w := start(t, catalog.Limit{Key: "atonce", Meter: "calls", Concurrency: 10})
	l := w.limit("calls", "atonce")
	gs := []*Gateway{w.connect(2), w.connect(3), w.connect(4)}
	w.advance(validity * 2)
	running := make([]int, 3)
	total := func() int { return running[0] + running[1] + running[2] }
	dice := rand.New(rand.NewPCG(3, 9))
	most := 0
	for range 500 {
		i := dice.IntN(3)
		switch {
		case dice.IntN(50) == 0:
			gs[i].begin()
			running[i] = 0
		case dice.IntN(2) == 0 && running[i] > 0:
			gs[i].end(l)
			running[i]--
		case gs[i].try(l, 5):
			running[i]++
		}
		if total() > 10 {
			t.Fatalf("%d run at once", total())
		}
		most = max(most, total())
		w.advance(300 * time.Millisecond)
		for _, g := range gs {
			g.renew()
		}
	}
	want(t, "most at once", int64(most), 10)
}

// silentHolder never answers.
type silentHolder struct{ *Gateway }

func (silentHolder) Recall(ctx context.Context, _ []store.CounterKey) ([]authority.Back, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// silent: what a stopped gateway holds stays its own, a denial does not wait for it for long, and again not at once.
func silent(t *testing.T, start func(*testing.T, ...catalog.Limit) *World) {
	w := start(t, daily("100"))
	l := w.limit("calls", "daily")
	inner := w.dial
	w.dial = func(number uint16, h authority.Holder) authority.Authority {
		if g, ok := h.(*Gateway); ok && number == 2 {
			h = silentHolder{g}
		}
		return inner(number, h)
	}
	stopped, other := w.connect(2), w.connect(3)
	if !stopped.try(l, 1) {
		t.Fatal("nothing admitted")
	}
	admitted := int64(0)
	for range 200 {
		if other.try(l, 1) {
			admitted++
		}
	}
	want(t, "admitted beside the stopped one's 25", admitted, 75)
	stopped.close()
	w.advance(2 * time.Second)
	for other.try(l, 1) {
		admitted++
	}
	want(t, "admitted when it is back", admitted, 99)
}
