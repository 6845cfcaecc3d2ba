package lessee_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/app/enforce/lessee"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/quota"
	"github.com/tallystick/tallystick/internal/store"
)

// callWay is the way to the authority, which a test can hold up or cut.
type callWay struct {
	authority.Authority
	mu       sync.Mutex                        // guards what follows
	cut      bool                              // no call arrives
	deaf     bool                              // no answer comes back
	onReturn func()                            // before a Return arrives
	lose     func(backs []authority.Back) bool // says whether a Return does not arrive
	onDraw   func()                            // after a Draw was answered, before the answer is here
}

func (x *callWay) front(a authority.Authority) authority.Authority { x.Authority = a; return x }

func (x *callWay) set(change func(*callWay)) {
	x.mu.Lock()
	defer x.mu.Unlock()
	change(x)
}

func (x *callWay) state() (cut, deaf bool, onReturn, onDraw func()) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.cut, x.deaf, x.onReturn, x.onDraw
}

func (x *callWay) Draw(ctx context.Context, d authority.Draw) ([]authority.Answer, error) {
	cut, deaf, _, onDraw := x.state()
	if cut {
		return nil, authority.ErrUnreachable
	}
	out, err := x.Authority.Draw(ctx, d)
	if onDraw != nil {
		onDraw()
	}
	if deaf {
		return nil, authority.ErrUnreachable
	}
	return out, err
}

func (x *callWay) Return(ctx context.Context, node uint16, epoch uint32, backs []authority.Back) error {
	cut, deaf, onReturn, _ := x.state()
	x.mu.Lock()
	lose := x.lose
	x.mu.Unlock()
	if cut || lose != nil && lose(backs) {
		return authority.ErrUnreachable
	}
	if onReturn != nil && len(backs) > 0 {
		onReturn()
	}
	err := x.Authority.Return(ctx, node, epoch, backs)
	if deaf {
		return authority.ErrUnreachable
	}
	return err
}

// evict lets all counters of a gateway go that nobody uses.
func evict(t *testing.T, w *world, l *lessee.Lessee) {
	t.Helper()
	for range 150 {
		w.advance(time.Second)
		if err := l.Tick(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCounterThatIsLeavingIsTakenUp: a request that comes while its counter is on its way back finds it as the authority knows it
// then, and all later ones use the same.
func TestCounterThatIsLeavingIsTakenUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t, daily("user", "100", catalog.PerUser))
	way := &callWay{}
	l := w.gateway(1, way.front)
	if n := w.allowed(l, 10, ask{user: "anna"}); n != 10 {
		t.Fatal(n)
	}
	var wg sync.WaitGroup
	came := make(chan struct{})
	way.set(func(x *callWay) {
		x.onReturn = func() {
			way.set(func(x *callWay) { x.onReturn = nil })
			wg.Go(func() {
				q := w.question(ask{user: "anna"})
				ctx := &watched{Context: context.Background(), asked: came}
				h, _, err := l.Decide(ctx, q)
				if err != nil || q.Decision.Verdict != quota.Allow {
					t.Errorf("%v %v", q.Decision, err)
					return
				}
				h.End(1)
			})
			<-came
		}
	})
	evict(t, w, l)
	wg.Wait()
	passed := 11
	for i := range 200 { // two routes share the counter
		passed += w.allowed(l, 1, ask{user: "anna", route: i % 2})
	}
	if passed != 100 {
		t.Errorf("%d passed, want 100", passed)
	}
	evict(t, w, l)
	if n := l.Stats().Counters; n != 0 {
		t.Errorf("%d counters are still held", n)
	}
}

// watched tells that somebody waits for it.
type watched struct {
	context.Context //nolint:containedctx // it is one
	once            sync.Once
	asked           chan struct{}
}

func (c *watched) Done() <-chan struct{} {
	c.once.Do(func() { close(c.asked) })
	return c.Context.Done()
}

// TestLapsedLeasesAdmitNothingMore: what a gateway in another process spent before it was cut off counts when it is back, of each
// kind that lives in memory; while it is cut off, nothing passes on what has lapsed.
func TestLapsedLeasesAdmitNothingMore(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		limit catalog.Limit
		most  int // in all
	}{
		"fixed":   {catalog.Limit{Key: "fixed", Meter: calls, Quota: new(dec("100")), Fixed: 10 * time.Minute}, 100},
		"rolling": {catalog.Limit{Key: "rolling", Meter: calls, Quota: new(dec("100")), Rolling: 10 * time.Minute}, 100},
		"bucket":  {bucketOf("bucket", "0.01", "100"), 100},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, c.limit)
			way := &callWay{}
			l := w.gateway(2, way.front)
			w.advance(time.Minute)
			passed := w.allowed(l, 15, ask{})
			way.set(func(x *callWay) { x.cut = true })
			w.advance(6 * time.Second)
			if _, _, err := w.try(l, ask{}); err == nil {
				t.Error("a request passed on a lease that has lapsed")
			}
			way.set(func(x *callWay) { x.cut = false })
			w.advance(time.Second)
			passed += w.allowed(l, 150, ask{})
			if passed != c.most {
				t.Errorf("%d passed, want %d", passed, c.most)
			}
		})
	}
}

// TestRecalledAfterLapsing: a lease that has lapsed and is asked for back is told with what it was spent on.
func TestRecalledAfterLapsing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, catalog.Limit{Key: "fixed", Meter: calls, Quota: new(dec("100")), Fixed: 10 * time.Minute})
	way := &callWay{}
	l, local := w.gateway(2, way.front), w.gateway(1, nil)
	w.advance(time.Minute)
	passed := w.allowed(l, 20, ask{})
	way.set(func(x *callWay) { x.cut = true })
	w.advance(6 * time.Second)
	if _, _, err := w.try(l, ask{}); err == nil {
		t.Error("a request passed on a lease that has lapsed")
	}
	for range 150 {
		w.advance(300 * time.Millisecond)
		passed += w.allowed(local, 1, ask{})
	}
	if passed != 100 {
		t.Errorf("%d passed, want 100", passed)
	}
}

// TestNothingHeldSaidLate: that a gateway holds nothing arrives when it has taken a lease. The lease is not closed for it.
func TestNothingHeldSaidLate(t *testing.T) {
	t.Parallel()
	for name, before := range map[string][]ask{"NoCustomer": nil, "CustomerWithoutTheCounter": {{user: "anna", project: "prj_2"}}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, daily("user", "100", catalog.PerUser))
			l, other := w.gateway(2, nil), w.gateway(3, nil)
			for _, a := range before {
				w.allowed(l, 1, a)
			}
			day := store.CounterKey{
				CustomerID: "cus_1", Meter: calls, Scope: quota.ScopeText(quota.Whose{User: "ben"}, nil), Window: period.Day, Start: start.AddDate(0, 0, 1).UnixMicro(),
			}
			late, err := l.Recall(context.Background(), []store.CounterKey{day})
			if err != nil || len(late) != 1 || !late[0].Closed {
				t.Fatalf("%+v, %v", late, err)
			}
			passed := w.allowed(l, 1, ask{user: "ben"}) // and a lease of more
			if err := w.authority.Return(context.Background(), 2, late[0].Epoch, late); err != nil {
				t.Fatal(err)
			}
			passed += w.allowed(other, 150, ask{user: "ben"})
			if passed += w.allowed(l, 150, ask{user: "ben"}); passed != 100 {
				t.Errorf("%d passed, want 100", passed)
			}
		})
	}
}

// TestAnswerThatCameTooLate: an answer that took longer than a renewal may is not used, since what it grants is with others by now.
func TestAnswerThatCameTooLate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, catalog.Limit{Key: "at_once", Concurrency: 3})
	way := &callWay{}
	l, local := w.gateway(2, way.front), w.gateway(1, nil)
	running := 0
	begin := func(l *lessee.Lessee, n int) {
		for range n {
			if _, q, err := w.try(l, ask{}); err == nil && q.Decision.Verdict == quota.Allow {
				running++
			}
		}
	}
	way.set(func(x *callWay) {
		x.onDraw = func() {
			way.set(func(x *callWay) { x.onDraw = nil })
			w.advance(10 * time.Second)
			if err := w.authority.Tick(context.Background()); err != nil { // the silent one's places have lapsed
				t.Error(err)
			}
			begin(local, 3)
			w.allowed(l, 1, ask{customer: "cus_2"}) // heard of again
		}
	})
	begin(l, 3)
	if running != 3 {
		t.Errorf("%d run at once, want 3", running)
	}
}

// TestNoCostNeedsNoLease: a request that costs nothing passes while the limit is not passed, also when an actual cost went beyond
// the lease.
func TestNoCostNeedsNoLease(t *testing.T) {
	t.Parallel()
	w := newWorld(t, daily("daily", "1000"))
	l := w.gateway(1, nil)
	h, _, err := w.try(l, ask{})
	if err != nil {
		t.Fatal(err)
	}
	h.End(600) // the lease is of a quarter
	if _, q, err := w.try(l, ask{cost: "0"}); err != nil || q.Decision.Verdict != quota.Allow {
		t.Fatalf("%+v, %v", q.Decision, err)
	}
	if n := w.allowed(l, 500, ask{}); n != 400 {
		t.Errorf("%d passed, want 400", n)
	}
}

// TestClosingThatNobodyHeardOf: a lease whose closing was acted upon, and not answered, is taken up where it was: nothing counts
// twice.
func TestClosingThatNobodyHeardOf(t *testing.T) {
	t.Parallel()
	w := newWorld(t, daily("user", "100", catalog.PerUser))
	way := &callWay{}
	l := w.gateway(1, way.front)
	passed := w.allowed(l, 40, ask{user: "anna"})
	for range 150 {
		w.advance(time.Second)
		way.set(func(x *callWay) { x.deaf = true })
		_ = l.Tick(context.Background()) // it fails when it had something to say
		way.set(func(x *callWay) { x.deaf = false })
	}
	if passed += w.allowed(l, 100, ask{user: "anna"}); passed != 100 {
		t.Errorf("%d passed, want 100", passed)
	}
}

// TestOvershootOfABucketIsOwed: what an actual cost had beyond the bucket's size is owed also when the bucket was given back.
func TestOvershootOfABucketIsOwed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bucketOf("bucket", "1", "10", catalog.PerUser))
	l := w.gateway(1, nil)
	h, _, err := w.try(l, ask{user: "anna"})
	if err != nil {
		t.Fatal(err)
	}
	h.End(1000)
	evict(t, w, l)
	w.advance(time.Minute)
	if n := w.allowed(l, 5, ask{user: "anna"}); n != 0 {
		t.Errorf("%d passed 210 s after 1000 units of 1 a second", n)
	}
	w.advance(800 * time.Second)
	if n := w.allowed(l, 5, ask{user: "anna"}); n == 0 {
		t.Error("nothing passed once the debt had drained")
	}
}

// TestBackSaysWhatWasHeard: a recalled share names the answer that it holds, so that its debt does not count twice, and how
// much it had, so that no debt is lost with an earlier answer.
func TestBackSaysWhatWasHeard(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bucketOf("bucket", "1", "10"))
	var stamp uint64
	l := w.gateway(1, func(a authority.Authority) authority.Authority { return stamps{a, &stamp} })
	w.allowed(l, 1, ask{})
	backs, err := l.Recall(context.Background(), []store.CounterKey{{CustomerID: "cus_1", Meter: calls}})
	if err != nil || len(backs) != 1 || stamp == 0 || backs[0].Heard != stamp || backs[0].Had != 10 {
		t.Errorf("%+v, %v", backs, err)
	}
}

// stamps sees the stamp of the last answer.
type stamps struct {
	authority.Authority
	last *uint64
}

func (s stamps) Draw(ctx context.Context, d authority.Draw) ([]authority.Answer, error) {
	out, err := s.Authority.Draw(ctx, d)
	if len(out) > 0 {
		*s.last = out[0].Stamp
	}
	return out, err
}

// TestPlacesAreKeptWhileTheBodyRuns: a request that has settled keeps its place among those that run until it has left.
func TestPlacesAreKeptWhileTheBodyRuns(t *testing.T) {
	t.Parallel()
	for _, change := range []bool{false, true} {
		w := newWorld(t, catalog.Limit{Key: "at_once", Concurrency: 1}, daily("daily", "10"))
		l := w.gateway(1, nil)
		h, _, err := w.try(l, ask{})
		if err != nil {
			t.Fatal(err)
		}
		if change { // the limits are other ones when it settles and leaves
			w.declare(2, catalog.Limit{Key: "at_once", Concurrency: 1}, daily("daily", "20"))
			if n := w.allowed(l, 1, ask{}); n != 0 {
				t.Fatal("passed beside a running one")
			}
		}
		if over := h.Settle(3); over != 2 {
			t.Errorf("overshoot %d", over)
		}
		evict(t, w, l)
		if n := w.allowed(l, 1, ask{}); n != 0 {
			t.Errorf("changed %v: passed beside a body on its way", change)
		}
		h.Leave()
		w.advance(2 * time.Second)
		if n := w.allowed(l, 1, ask{}); n != 1 {
			t.Errorf("changed %v: denied after it has left", change)
		}
		evict(t, w, l)
		if n := l.Stats().Counters; n != 0 {
			t.Errorf("changed %v: %d counters are still held", change, n)
		}
	}
}

// TestChargedAfterTheFact: what has been used is counted whatever the limits say, and later requests are denied for it.
func TestChargedAfterTheFact(t *testing.T) {
	t.Parallel()
	w := newWorld(t, daily("daily", "10"), bucketOf("bucket", "100", "100"), catalog.Limit{Key: "at_once", Concurrency: 1})
	way := &callWay{}
	l := w.gateway(1, way.front)
	charge := func(cost string) lessee.Hold {
		t.Helper()
		q := w.question(ask{cost: cost})
		q.Regardless = true
		h, _, err := l.Decide(context.Background(), q)
		if err != nil || q.Decision.Verdict != quota.Allow {
			t.Fatalf("%+v, %v", q.Decision, err)
		}
		return h
	}
	charge("0").End(25)
	one, two := charge("5"), charge("0") // more at once than may run
	one.End(5)
	two.End(0)
	way.set(func(x *callWay) { x.cut = true })
	w.advance(24 * time.Hour) // a new day, and nobody can be asked
	charge("0").End(12)
	way.set(func(x *callWay) { x.cut = false })
	w.advance(time.Second)
	_, q, err := w.try(l, ask{cost: "0"})
	if err != nil || q.Decision.Verdict != quota.Deny || q.Set.Limits[q.Decision.Deciding].Key != "daily" || q.States[0].Consumed != 12 {
		t.Errorf("%+v, consumed %d, %v", q.Decision, q.States[0].Consumed, err)
	}
}

// TestBucketOfAClockThatIsBehind: what was charged since the last answer is not taken for refilled with the next one.
func TestBucketOfAClockThatIsBehind(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bucketOf("bucket", "1", "10"))
	l := w.gateway(1, nil, func(c *lessee.Config) { c.Now = func() time.Time { return w.Now().Add(-20 * time.Second) } })
	w.allowed(l, 1, ask{})
	w.advance(8 * time.Second)
	if n := w.allowed(l, 30, ask{}); n != 10 {
		t.Errorf("%d at once of a bucket of 10", n)
	}
}

// TestAnotherRunOfTheAuthority: what a gateway leased in memory of a run that has ended it uses no more, and requests that run keep
// their places in the next one.
func TestAnotherRunOfTheAuthority(t *testing.T) {
	t.Parallel()
	const most = 5
	w := newWorld(t, catalog.Limit{Key: "at_once", Meter: calls, Concurrency: most})
	front := func(authority.Authority) authority.Authority { return newest{w} }
	one, two := w.gateway(2, front), w.gateway(3, front)
	w.advance(10 * time.Second) // places are given once earlier runs are forgotten
	run := func(l *lessee.Lessee, n int) (running int) {
		for range n {
			_, q, err := w.try(l, ask{})
			if err != nil {
				t.Fatal(err)
			}
			if q.Decision.Verdict == quota.Allow {
				running++
			}
		}
		return running
	}
	if n := run(one, 3); n != 3 {
		t.Fatalf("%d run", n)
	}
	w.restart()
	one.Anew()
	two.Anew()
	for range 12 {
		w.advance(time.Second)
		if err := errors.Join(one.Tick(t.Context()), two.Tick(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	if n := 3 + run(two, most); n != most {
		t.Errorf("%d run at once, %d may", n, most)
	}
}

// TestSharesOfAnotherRunOfTheAuthority: a part of a bucket is not used beside the one that the next run gives to others.
func TestSharesOfAnotherRunOfTheAuthority(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bucketOf("bucket", "1", "10"))
	front := func(authority.Authority) authority.Authority { return newest{w} }
	one, two := w.gateway(2, front), w.gateway(3, front)
	w.advance(time.Minute)
	w.allowed(one, 1, ask{})
	w.restart()
	one.Anew()
	for range 60 {
		w.advance(time.Second)
		if err := one.Tick(t.Context()); err != nil { // it is heard
			t.Fatal(err)
		}
	}
	if n := w.allowed(two, 20, ask{}) + w.allowed(one, 20, ask{}); n != 10 {
		t.Errorf("%d at once of a bucket of 10", n)
	}
}

// TestRequestsThatRunAreToldThoughADrawIsOnItsWay: the next run of the authority hears of them too where the first look for them came
// while a draw about their counter was on its way to the one before.
func TestRequestsThatRunAreToldThoughADrawIsOnItsWay(t *testing.T) {
	t.Parallel()
	const most = 5
	w := newWorld(t, catalog.Limit{Key: "at_once", Meter: calls, Concurrency: most})
	way := &callWay{}
	one := w.gateway(2, func(authority.Authority) authority.Authority { return way.front(newest{w}) })
	two := w.gateway(3, func(authority.Authority) authority.Authority { return newest{w} })
	w.advance(10 * time.Second)
	run := func(l *lessee.Lessee, n int) (running int) {
		for range n {
			if _, q, err := w.try(l, ask{}); err == nil && q.Decision.Verdict == quota.Allow {
				running++
			}
		}
		return running
	}
	running := run(one, 3)
	way.set(func(x *callWay) {
		x.deaf = true
		x.onDraw = func() {
			w.restart()
			one.Anew()
			if err := one.Tick(t.Context()); err != nil && !errors.Is(err, authority.ErrUnreachable) {
				t.Error(err)
			}
		}
	})
	if n := run(one, most); n == most {
		t.Fatal("no draw was on its way")
	} else {
		running += n
	}
	way.set(func(x *callWay) { x.deaf, x.onDraw = false, nil })
	for range 12 {
		w.advance(time.Second)
		if err := errors.Join(one.Tick(t.Context()), two.Tick(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	if running += run(two, most); running != most {
		t.Errorf("%d run at once, %d may", running, most)
	}
}

// TestPlacesToldWithoutAnAnswerComeBack: requests that the next run of the authority was told of, and that ended before the gateway
// knew that it was, take nobody's place for long.
func TestPlacesToldWithoutAnAnswerComeBack(t *testing.T) {
	t.Parallel()
	const most = 5
	w := newWorld(t, catalog.Limit{Key: "at_once", Meter: calls, Concurrency: most})
	for name, other := range map[string]bool{"another gateway": true, "the same": false} {
		t.Run(name, func(t *testing.T) {
			way := &callWay{}
			one := w.gateway(2, func(authority.Authority) authority.Authority { return way.front(newest{w}) })
			two := w.gateway(3, func(authority.Authority) authority.Authority { return newest{w} })
			w.advance(10 * time.Second)
			var holds []lessee.Hold
			for range 3 {
				h, q, err := w.try(one, ask{})
				if err != nil || q.Decision.Verdict != quota.Allow {
					t.Fatal(q.Decision, err)
				}
				holds = append(holds, h)
			}
			w.restart()
			one.Anew()
			way.set(func(x *callWay) { x.deaf = true })
			_ = one.Tick(t.Context()) // it arrives, and the gateway does not know
			way.set(func(x *callWay) { x.deaf = false })
			for _, h := range holds {
				h.End(1)
			}
			w.Cleanup(w.authority.Register(2, holder{one}))
			for range 200 {
				w.advance(time.Second)
				if err := errors.Join(one.Tick(t.Context()), two.Tick(t.Context())); err != nil {
					t.Fatal(err)
				}
			}
			from := one
			if other {
				from = two
			}
			if n := w.allowed(from, 1, ask{}); n != 1 {
				t.Error("no place")
			}
			var running int
			for range 2 * most {
				if _, q, err := w.try(from, ask{}); err == nil && q.Decision.Verdict == quota.Allow {
					running++
				}
			}
			if running != most {
				t.Errorf("%d run, %d may", running, most)
			}
		})
	}
}

// TestDebtOfACounterThatWasLetGoTwice: what a share owes is not lost with two messages that closed it: the one that gave it back, and
// the answer to a recall meanwhile.
func TestDebtOfACounterThatWasLetGoTwice(t *testing.T) {
	t.Parallel()
	for name, asks := range map[string]bool{"it asks again": true, "another one asks": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, bucketOf("bucket", "0.01", "10"))
			way := &callWay{}
			one, two := w.gateway(2, way.front), w.gateway(3, nil)
			w.advance(time.Hour)
			passed := w.allowed(one, 20, ask{})
			lost := false
			way.set(func(x *callWay) {
				x.lose = func(backs []authority.Back) bool {
					if lost || len(backs) == 0 {
						return false
					}
					lost = true
					_, err := one.Recall(t.Context(), []store.CounterKey{{CustomerID: "cus_1", Meter: calls}})
					return err == nil
				}
			})
			for range 200 {
				w.advance(time.Second)
				if err := errors.Join(one.Tick(t.Context()), two.Tick(t.Context())); err != nil && !errors.Is(err, authority.ErrUnreachable) {
					t.Fatal(err)
				}
				if lost {
					break
				}
			}
			if !lost {
				t.Fatal("nothing was given back")
			}
			w.advance(time.Second) // it is tried again then
			from := two
			if asks {
				from = one
			}
			if passed += w.allowed(from, 20, ask{}); passed > 11 {
				t.Errorf("%d of a bucket of 10 that is refilled in a quarter of an hour", passed)
			}
		})
	}
}

// TestLapsedIsNotUsedAgain: what has lapsed stays unusable for all requests that come before the authority is heard again.
func TestLapsedIsNotUsedAgain(t *testing.T) {
	t.Parallel()
	for name, limit := range map[string]catalog.Limit{
		"fixed":   {Key: "short", Meter: calls, Quota: new(dec("15")), Fixed: 10 * time.Minute},
		"rolling": {Key: "short", Meter: calls, Quota: new(dec("15")), Rolling: 10 * time.Minute},
		"bucket":  bucketOf("short", "0.01", "15"),
		"at once": {Key: "short", Meter: calls, Concurrency: 15},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, limit)
			way := &callWay{}
			l := w.gateway(2, way.front)
			w.advance(time.Hour)
			w.advance(time.Second)
			for range 15 {
				if _, q, err := w.try(l, ask{}); err != nil || q.Decision.Verdict != quota.Allow {
					t.Fatal(q.Decision, err)
				}
			}
			way.set(func(x *callWay) { x.cut = true })
			w.advance(6 * time.Second)
			for n := range 6 {
				if _, q, err := w.try(l, ask{}); !errors.Is(err, authority.ErrUnreachable) {
					t.Fatalf("request %d after it lapsed: %+v, %v", n, q.Decision, err)
				}
			}
		})
	}
}

// TestLeaseAboveTheCeiling: who holds room in a lease, and none below the limit, is denied; requests do not fail.
func TestLeaseAboveTheCeiling(t *testing.T) {
	t.Parallel()
	t.Run("a lowered quota", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, daily("daily", "1000"))
		one, two := w.gateway(2, nil), w.gateway(3, nil)
		if n := w.allowed(one, 50, ask{}) + w.allowed(two, 50, ask{}); n != 100 {
			t.Fatal(n)
		}
		w.declare(2, daily("daily", "60"))
		for range 3 {
			if n := w.allowed(one, 3, ask{}) + w.allowed(two, 3, ask{}); n != 0 {
				t.Errorf("%d beyond the lowered limit", n)
			}
			w.advance(time.Second)
		}
	})
	t.Run("another run of the authority", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, catalog.Limit{Key: "at_once", Meter: calls, Concurrency: 5})
		front := func(authority.Authority) authority.Authority { return newest{w} }
		one, two := w.gateway(2, front), w.gateway(3, front)
		w.advance(10 * time.Second)
		w.allowed(one, 1, ask{})
		h, _, err := w.try(one, ask{})
		if err != nil {
			t.Fatal(err)
		}
		w.restart()
		one.Anew()
		two.Anew()
		if err := one.Tick(t.Context()); err != nil { // it tells of the one that runs
			t.Fatal(err)
		}
		w.allowed(one, 1, ask{}) // denied: others may have some
		h.End(1)
		w.allowed(two, 1, ask{})
		w.allowed(one, 1, ask{})
		w.advance(10 * time.Second)
		for range 3 {
			w.advance(time.Second)
			if err := errors.Join(one.Tick(t.Context()), two.Tick(t.Context())); err != nil {
				t.Fatal(err)
			}
		}
		if n := w.allowed(one, 1, ask{}); n != 1 {
			t.Error("denied when nothing runs")
		}
	})
}

// TestBucketOfAnotherRunIsAskedForAgain: gateways that ask for a bucket while the next run of the authority gives out nothing yet, since
// others may still have parts of it, ask again when it does.
func TestBucketOfAnotherRunIsAskedForAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bucketOf("bucket", "1", "10"))
	front := func(authority.Authority) authority.Authority { return newest{w} }
	one, two := w.gateway(2, front), w.gateway(3, front)
	w.advance(time.Minute)
	w.allowed(one, 1, ask{})
	w.restart()
	one.Anew()
	two.Anew()
	if n := w.allowed(one, 1, ask{}) + w.allowed(two, 1, ask{}); n != 0 {
		t.Errorf("%d at once, while others may have the bucket", n)
	}
	before := one.Stats().Draws + two.Stats().Draws
	for range 60 {
		w.advance(time.Second)
		if err := errors.Join(one.Tick(t.Context()), two.Tick(t.Context())); err != nil { // they are heard
			t.Fatal(err)
		}
		if w.Now().Sub(start) < 36*time.Hour+time.Minute+6*time.Second {
			if n := w.allowed(one, 1, ask{}) + w.allowed(two, 1, ask{}); n != 0 {
				t.Errorf("%d at %v, while others may have the bucket", n, w.Now())
			}
		}
	}
	if n := one.Stats().Draws + two.Stats().Draws - before; n != 0 {
		t.Errorf("%d questions to which the answer was known", n)
	}
	if n := w.allowed(one, 20, ask{}) + w.allowed(two, 20, ask{}); n != 10 {
		t.Errorf("%d at once of a bucket of 10", n)
	}
}
