package lessee_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/app/enforce/lessee"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/quota"
)

// naive is a hierarchy of quotas as a list of what was admitted.
type naive struct {
	limits []catalog.Limit
	sizes  []int64
	used   map[string]int64
}

func (n *naive) counter(i int, a ask) (string, bool) {
	name := fmt.Sprint(i)
	for _, s := range n.limits[i].Per {
		v := map[catalog.Scope]string{catalog.PerProject: a.project, catalog.PerKey: a.key, catalog.PerUser: a.user, catalog.PerRoute: fmt.Sprint("r", a.route)}[s]
		name += "|" + v // those without a value share a counter
	}
	return name, true
}

// TestHierarchyAllOrNone: under random limits and scopes a request passes if and only if it fits all that apply, and what is denied
// burns nothing anywhere.
func TestHierarchyAllOrNone(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		n := &naive{used: map[string]int64{}}
		scopes := []catalog.Scope{catalog.PerProject, catalog.PerKey, catalog.PerUser, catalog.PerRoute}
		seen := map[string]bool{}
		for i := range rapid.IntRange(1, 6).Draw(rt, "limits") {
			var per []catalog.Scope
			for _, s := range scopes {
				if rapid.Bool().Draw(rt, "per") {
					per = append(per, s)
				}
			}
			name := fmt.Sprintf("%d", per)
			if seen[name] {
				continue
			}
			seen[name] = true
			size := rapid.Int64Range(0, 12).Draw(rt, "size")
			n.limits, n.sizes = append(n.limits, daily(fmt.Sprint("l", i), fmt.Sprint(size), per...)), append(n.sizes, size)
		}
		w := newWorld(t, n.limits...)
		gateways := []*lessee.Lessee{w.gateway(1, nil), w.gateway(2, nil)}
		one := func(name string, of ...string) string { return rapid.SampledFrom(of).Draw(rt, name) }
		for range rapid.IntRange(10, 60).Draw(rt, "requests") {
			a := ask{key: one("key", "k1", "k2"), project: one("project", "", "p"), user: one("user", "", "anna", "ben"), route: rapid.IntRange(0, 1).Draw(rt, "route"), cost: one("cost", "1", "2", "3")}
			cost := int64(a.cost[0] - '0')
			fits := true
			for i := range n.limits {
				if c, ok := n.counter(i, a); ok && n.used[c]+cost > n.sizes[i] {
					fits = false
				}
			}
			h, q, err := w.try(gateways[rapid.IntRange(0, 1).Draw(rt, "gateway")], a)
			if err != nil {
				rt.Fatal(err)
			}
			w.advance(2 * time.Second) // answers about others stand no longer
			if got := q.Decision.Verdict == quota.Allow; got != fits {
				rt.Fatalf("%+v: allowed %v, want %v; used %v of %v", a, got, fits, n.used, n.sizes)
			}
			if !fits {
				continue
			}
			if rapid.IntRange(0, 4).Draw(rt, "release") == 0 {
				h.End(0)
				continue
			}
			h.End(cost)
			for i := range n.limits {
				if c, ok := n.counter(i, a); ok {
					n.used[c] += cost
				}
			}
		}
	})
}

// TestThreeGatewaysAdmitExactlyTheLimit: calls that come in turn to three gateways pass exactly as often as the limit says.
func TestThreeGatewaysAdmitExactlyTheLimit(t *testing.T) {
	t.Parallel()
	w := newWorld(t, daily("daily", "100"))
	g := []*lessee.Lessee{w.gateway(1, nil), w.gateway(2, nil), w.gateway(3, nil)}
	passed := 0
	for i := range 130 {
		passed += w.allowed(g[i%3], 1, ask{})
	}
	if passed != 100 {
		t.Errorf("%d passed, want 100", passed)
	}
}

// TestManyAtOnceNeverPassTheLimit: 3 gateways × 64 connections, releases among them, never pass the limit at any instant; when
// all leases are back the rest of it can be had.
func TestManyAtOnceNeverPassTheLimit(t *testing.T) {
	t.Parallel()
	const limit = 10_000
	w := newWorld(t, daily("daily", fmt.Sprint(limit)), daily("route", fmt.Sprint(limit), catalog.PerRoute))
	g := []*lessee.Lessee{w.gateway(1, nil), w.gateway(2, nil), w.gateway(3, nil)}
	var used atomic.Int64
	var wg sync.WaitGroup
	for i := range 3 * 64 {
		wg.Go(func() {
			for n := range 80 {
				h, q, err := w.try(g[i%3], ask{})
				if err != nil {
					t.Error(err)
					return
				}
				if q.Decision.Verdict != quota.Allow {
					continue
				}
				if used.Add(1) > limit {
					t.Error("the limit is passed")
				}
				if n%10 == 0 {
					used.Add(-1)
					h.End(0)
				} else {
					h.End(1)
				}
			}
		})
	}
	wg.Wait()
	for _, l := range g[1:] {
		if err := l.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	w.advance(2 * time.Second)
	rest := int64(w.allowed(g[0], 20_000, ask{}))
	if used.Load()+rest != limit {
		t.Errorf("%d and %d more, want %d in all", used.Load(), rest, limit)
	}
}

// TestBucketOverGateways: in any stretch of time all gateways together admit at most burst + rate × time; alone, one has it all.
func TestBucketOverGateways(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bucketOf("burst", "10", "20"))
	g := []*lessee.Lessee{w.gateway(1, nil), w.gateway(2, nil), w.gateway(3, nil)}
	if n := w.allowed(g[0], 50, ask{}); n != 20 {
		t.Errorf("alone: %d, want 20", n)
	}
	w.advance(10 * time.Second)
	total := 0
	for range 20 { // 4 seconds
		for i := range g {
			total += w.allowed(g[i], 3, ask{})
		}
		w.advance(200 * time.Millisecond)
	}
	if total > 20+40 || total < 40 {
		t.Errorf("%d in 4 seconds, want at most 60, and no less than the rate", total)
	}
	for _, l := range g[1:] {
		if err := l.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	w.advance(10 * time.Second)
	if n := w.allowed(g[0], 50, ask{}); n != 20 {
		t.Errorf("alone again: %d, want 20", n)
	}
}

// TestBucketInTurn: a bucket whose requests come to several gateways in turn, seconds apart, is not fetched for each of them; and one
// gateway still gets all of it when the others have been left alone.
func TestBucketInTurn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bucketOf("burst", "1000", "1000"))
	g := []*lessee.Lessee{w.gateway(1, nil), w.gateway(2, nil), w.gateway(3, nil), w.gateway(4, nil)}
	round := func() {
		for _, l := range g {
			if n := w.allowed(l, 1, ask{}); n != 1 {
				t.Fatal("denied far from the limit")
			}
			w.advance(1500 * time.Millisecond)
			for _, l := range g { // what lives in memory is renewed
				if err := l.Tick(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for range 4 {
		round()
	}
	before := w.authority.Stats().Draws
	for range 10 {
		round()
	}
	if n := w.authority.Stats().Draws - before; n > 4 {
		t.Errorf("40 requests drew %d times", n)
	}
	total := 0
	for range 8 { // what others keep halves and halves again
		total = w.allowed(g[0], 1000, ask{})
		w.advance(2 * time.Second)
	}
	if total != 1000 {
		t.Errorf("alone: %d of 1000", total)
	}
}

func TestConcurrency(t *testing.T) {
	t.Parallel()
	w := newWorld(t, catalog.Limit{Key: "at_once", Concurrency: 3}, catalog.Limit{Key: "per_key", Concurrency: 2, Per: []catalog.Scope{catalog.PerKey}})
	g := []*lessee.Lessee{w.gateway(1, nil), w.gateway(2, nil)}
	var held []lessee.Hold
	admit := func(l *lessee.Lessee, key string, route int) string {
		t.Helper()
		h, q, err := w.try(l, ask{key: key, route: route})
		if err != nil {
			t.Fatal(err)
		}
		w.advance(2 * time.Second)
		if q.Decision.Verdict != quota.Allow {
			return q.Set.Limits[q.Decision.Deciding].Key
		}
		held = append(held, h)
		return ""
	}
	for i, c := range []struct {
		gateway int
		key     string
		route   int
		want    string
	}{
		{0, "k1", 0, ""}, {1, "k1", 2, ""}, // an unmetered route counts, too
		{0, "k1", 0, "per_key"}, {0, "k2", 0, ""}, {1, "k3", 0, "at_once"},
	} {
		if got := admit(g[c.gateway], c.key, c.route); got != c.want {
			t.Errorf("request %d: denied by %q, want %q", i, got, c.want)
		}
	}
	held[0].End(1)
	if got := admit(g[1], "k3", 0); got != "" {
		t.Errorf("after one has ended: denied by %q", got)
	}
	for _, h := range held[1:] {
		h.End(0)
	}
	for i := range 3 {
		if got := admit(g[0], fmt.Sprint("n", i), 0); got != "" {
			t.Errorf("after all have ended: request %d denied by %q", i, got)
		}
	}
}

func TestRolling(t *testing.T) {
	t.Parallel()
	w := newWorld(t, catalog.Limit{Key: "rolling", Meter: calls, Quota: new(dec("10")), Rolling: 24 * time.Hour})
	l := w.gateway(1, nil)
	if n := w.allowed(l, 4, ask{}); n != 4 {
		t.Fatalf("%d of 4", n)
	}
	w.advance(12 * time.Hour)
	if n := w.allowed(l, 20, ask{}); n != 6 {
		t.Errorf("12 h later: %d, want 6", n)
	}
	w.advance(12*time.Hour + 15*time.Minute) // the first 4 have left, a slot late at most
	if n := w.allowed(l, 20, ask{}); n != 4 {
		t.Errorf("24 h later: %d, want 4", n)
	}
}

func TestModes(t *testing.T) {
	t.Parallel()
	mode := func(m quota.Mode, grace int64) catalog.Limit {
		lim := daily("daily", "10")
		lim.Mode, lim.Grace = m, grace
		return lim
	}
	for name, c := range map[string]struct {
		limit  catalog.Limit
		passed int
		over   bool
	}{
		"hard":   {mode(quota.Hard, 0), 10, false},
		"soft":   {mode(quota.Soft, 0), 15, true},
		"grace":  {mode(quota.Grace, 20), 12, false},
		"shadow": {mode(quota.Shadow, 0), 15, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, c.limit)
			l := w.gateway(1, nil)
			if n := w.allowed(l, 15, ask{}); n != c.passed {
				t.Errorf("%d of 15, want %d", n, c.passed)
			}
			_, q, err := w.try(l, ask{})
			if err != nil || (q.Decision.Over != 0) != c.over {
				t.Errorf("over %b, %v", q.Decision.Over, err)
			}
			lines, err := l.Lines(context.Background(), w.principal("cus_1", "key_1", ""), 1)
			if err != nil || len(lines) != 1 || lines[0].Mode != c.limit.Mode {
				t.Fatalf("%+v, %v", lines, err)
			}
			if over := lines[0].Overage.Sign() > 0; over != (c.limit.Mode != quota.Hard) {
				t.Errorf("overage %s of %s", lines[0].Overage, name)
			}
		})
	}
}

// line is the way to the authority; it can be cut.
type line struct {
	authority.Authority
	cut   atomic.Bool
	draws atomic.Int64
}

func (n *line) Draw(ctx context.Context, d authority.Draw) ([]authority.Answer, error) {
	n.draws.Add(1)
	if n.cut.Load() {
		return nil, authority.ErrUnreachable
	}
	return n.Authority.Draw(ctx, d)
}

func (n *line) Return(ctx context.Context, node uint16, epoch uint32, backs []authority.Back) error {
	if n.cut.Load() {
		return authority.ErrUnreachable
	}
	return n.Authority.Return(ctx, node, epoch, backs)
}

func TestFailureModes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		failure catalog.Failure
		closed  bool
		most    int
	}{
		"closed": {catalog.Failure{}, true, 25},
		"open":   {catalog.Failure{Kind: catalog.FailOpen}, false, 100}, // that the limit is spent it knows by itself
		"local":  {catalog.Failure{Kind: catalog.FailLocal, Local: 10}, true, 25 + 10},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lim := daily("daily", "100")
			lim.Failure = c.failure
			w := newWorld(t, lim)
			way := &line{}
			l := w.gateway(1, func(a authority.Authority) authority.Authority { way.Authority = a; return way })
			if n := w.allowed(l, 1, ask{}); n != 1 {
				t.Fatal("the first one did not pass")
			}
			way.cut.Store(true)
			passed, refused := 1, 0
			for range 199 {
				h, q, err := w.try(l, ask{})
				switch {
				case errors.Is(err, authority.ErrUnreachable):
					if refused++; q.Refused != 0 {
						t.Fatalf("refused by %d", q.Refused)
					}
				case err != nil:
					t.Fatal(err)
				case q.Decision.Verdict == quota.Allow:
					passed++
					h.End(1)
				}
			}
			if passed != c.most || (refused > 0) != c.closed {
				t.Errorf("%d passed, want %d; %d refused", passed, c.most, refused)
			}
			if n := way.draws.Load(); n > 3 {
				t.Errorf("%d calls to an authority that is away", n)
			}
			way.cut.Store(false)
			w.advance(time.Second)
			rest := w.allowed(l, 300, ask{})
			if passed+rest != max(100, passed) {
				t.Errorf("%d, then %d more when it is back", passed, rest)
			}
		})
	}
}

// TestRecallWhileRequestsRun moves a limit to and fro between gateways while requests begin and end on both.
func TestRecallWhileRequestsRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t, daily("daily", "3000"), bucketOf("burst", "1000000", "1000"), catalog.Limit{Key: "at_once", Concurrency: 8})
	g := []*lessee.Lessee{w.gateway(1, nil), w.gateway(2, nil)}
	var used, running atomic.Int64
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for range 300 {
				w.now.Add(300)
				w.real.Add(300_000)
				h, q, err := w.try(g[i%2], ask{})
				if err != nil {
					t.Error(err)
					return
				}
				if q.Decision.Verdict != quota.Allow {
					continue
				}
				if running.Add(1) > 8 {
					t.Error("more than 8 at once")
				}
				if used.Add(1) > 3000 {
					t.Error("more than the limit")
				}
				running.Add(-1)
				h.End(1)
			}
		})
	}
	wg.Wait()
	if used.Load() == 0 {
		t.Error("nothing passed")
	}
}

// TestOverridesWork at once, for the customer and for one key, under load and with no failed request; they end by themselves.
func TestOverridesWork(t *testing.T) {
	t.Parallel()
	w := newWorld(t, daily("daily", "10"), daily("per_key", "4", catalog.PerKey))
	l := w.gateway(1, nil)
	if n := w.allowed(l, 10, ask{}); n != 4 {
		t.Errorf("by the plan: %d, want 4", n)
	}
	w.override(account.Override{ID: "ovr_1", KeyID: "key_1", Limit: "per_key", Value: "8"})
	if n := w.allowed(l, 10, ask{}); n != 4 {
		t.Errorf("the key raised to 8: %d more, want 4", n)
	}
	if n := w.allowed(l, 10, ask{key: "key_2"}); n != 2 {
		t.Errorf("another key: %d, want the 2 that the customer has left", n)
	}
	w.override(account.Override{ID: "ovr_2", Limit: "daily", Value: "13", ExpiresAt: w.Now().Add(time.Hour)})
	if n := w.allowed(l, 10, ask{key: "key_3"}); n != 3 {
		t.Errorf("the customer raised to 13: %d more, want 3", n)
	}
	lines, err := l.Lines(context.Background(), w.principal("cus_1", "key_3", ""), 1)
	if err != nil || lines[0].Override != "ovr_2" || lines[0].Quota.String() != "13" {
		t.Errorf("%+v, %v", lines, err)
	}
	w.advance(2 * time.Hour)
	lines, err = l.Lines(context.Background(), w.principal("cus_1", "key_3", ""), 1)
	if err != nil || lines[0].Override != "" || lines[0].Quota.String() != "10" || lines[0].Consumed.String() != "13" {
		t.Errorf("after its end: %+v, %v", lines, err)
	}
}

func TestOverridesUnderLoad(t *testing.T) {
	t.Parallel()
	w := newWorld(t, daily("daily", "1000000"), bucketOf("burst", "1000000", "1000000"))
	l := w.gateway(1, nil)
	var wg sync.WaitGroup
	done := make(chan struct{})
	var passed atomic.Int64
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				h, q, err := w.try(l, ask{})
				if err != nil || q.Decision.Verdict != quota.Allow {
					t.Errorf("%v, %+v", err, q.Decision)
					return
				}
				passed.Add(1)
				h.End(1)
			}
		})
	}
	for i := range 40 {
		w.override(account.Override{ID: "ovr_1", Limit: "daily", Value: fmt.Sprint(1_000_000 + i)}, account.Override{ID: "ovr_2", Limit: "burst", Value: fmt.Sprintf("%d/s", 1_000_000+i)})
		if i%4 == 0 {
			w.declare(int64(2+i), daily("daily", "1000000"), bucketOf("burst", "1000000", "1000000"))
		}
		w.advance(10 * time.Millisecond)
	}
	close(done)
	wg.Wait()
	lines, err := l.Lines(context.Background(), w.principal("cus_1", "key_1", ""), 1)
	if err != nil || lines[0].Consumed.String() != fmt.Sprint(passed.Load()) {
		t.Errorf("%d passed, %+v, %v", passed.Load(), lines, err)
	}
}

func TestNotices(t *testing.T) {
	t.Parallel()
	lim := daily("daily", "10")
	lim.Notify = []int{50, 100}
	w := newWorld(t, lim)
	l := w.gateway(1, nil)
	w.allowed(l, 12, ask{})
	w.override(account.Override{ID: "ovr_1", Limit: "other", Value: "1"}) // all is looked at anew, and nothing told again
	w.allowed(l, 2, ask{})
	if len(w.notices) != 2 || w.notices[0].Percent != 50 || w.notices[0].Consumed != 5 || w.notices[1].Percent != 100 || w.notices[1].Quota != 10 {
		t.Errorf("%+v", w.notices)
	}
	w.advance(24 * time.Hour)
	w.allowed(l, 6, ask{})
	if len(w.notices) != 3 {
		t.Errorf("the next day: %+v", w.notices)
	}
}

// TestManyUsers: distinct end users neither pass the bound nor lose a lease in silence.
func TestManyUsers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, daily("per_user", "5", catalog.PerUser))
	l := w.gateway(1, nil, func(c *lessee.Config) { c.MaxCounters = 100 })
	crowded := 0
	for i := range 200 {
		h, _, err := w.try(l, ask{user: fmt.Sprint("u", i)})
		if errors.Is(err, lessee.ErrCrowded) {
			crowded++
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		h.End(1)
	}
	if st := l.Stats(); st.Counters != 50 || crowded != 150 || st.Crowded != 150 {
		t.Errorf("%d counters, %d refused, %+v", st.Counters, crowded, st)
	}
	for range 200 {
		w.advance(time.Minute)
		if err := l.Tick(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	if st := l.Stats(); st.Counters != 0 || st.Evicted != 50 {
		t.Errorf("after a while: %+v", st)
	}
	if n := w.allowed(l, 10, ask{user: "u1"}); n != 4 {
		t.Errorf("a user who comes back: %d more, want 4", n)
	}
}

// TestMain keeps the random histories few: each one opens stores.
func TestMain(m *testing.M) {
	if err := flag.Set("rapid.checks", "12"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}
