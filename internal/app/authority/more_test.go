package authority_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/quota"
	"github.com/tallystick/tallystick/internal/store"
)

func TestOverridesAndLoweredLimits(t *testing.T) {
	t.Parallel()
	w := newWorld(t, daily("daily", "100"))
	one := w.begin(1)
	if a := w.draw(1, one.Epoch, w.daily(90, 0, "daily"))[0]; a.Granted != 90 {
		t.Fatalf("first %+v", a)
	}
	past := w.Now().Add(-time.Hour)
	w.override(
		account.Override{ID: "ovr_1", Limit: "daily", Value: "150", CreatedAt: past},
		account.Override{ID: "ovr_2", Limit: "daily", Value: "900", CreatedAt: past, ExpiresAt: past.Add(time.Minute)},
		account.Override{ID: "ovr_3", Limit: "daily", Value: "901", CreatedAt: past, KeyID: "key_a"}, // the limit is not per key
		account.Override{ID: "ovr_4", Limit: "daily", Value: "902", CreatedAt: past, EndedAt: past},
	)
	if a := w.draw(1, one.Epoch, w.daily(50, 90, "daily"))[0]; a.Granted != 140 || a.Ceiling != 150 {
		t.Fatalf("raised %+v", a)
	}
	w.override(account.Override{ID: "ovr_1", Limit: "daily", Value: "95", CreatedAt: past})
	if a := w.draw(1, one.Epoch, w.daily(1, 140, "daily"))[0]; a.Granted != 140 || a.Ceiling != 95 {
		t.Fatalf("lowered %+v", a)
	}
	back := authority.Back{Counter: w.daily(0, 0).Counter, Kind: quota.Quota, Spent: 92, Keep: 92}
	if err := w.s.Return(t.Context(), 1, one.Epoch, []authority.Back{back}); err != nil {
		t.Fatal(err)
	}
	if a := w.draw(1, one.Epoch, w.daily(9, 92, "daily"))[0]; a.Granted != 95 {
		t.Fatalf("after it was back %+v", a)
	}
}

func TestTwoLimitsOnOneCounter(t *testing.T) {
	t.Parallel()
	soft := daily("soft", "10")
	soft.Mode = quota.Soft
	grace := daily("grace", "40")
	grace.Mode, grace.Grace = quota.Grace, 25
	w := newWorld(t, daily("hard", "60"), grace, soft)
	one := w.begin(1)
	a := w.draw(1, one.Epoch, w.daily(70, 0, "hard", "grace", "soft"))[0]
	if a.Granted != 50 || a.Ceiling != 50 || len(a.Ceilings) != 3 || a.Ceilings[0] != 60 || a.Ceilings[1] != 50 || a.Ceilings[2] != 10 {
		t.Fatalf("answer %+v", a)
	}
	// What a soft limit let through beyond every lease counts.
	if a = w.draw(1, one.Epoch, w.daily(1, 75, "hard", "grace", "soft"))[0]; a.Granted != 75 || a.Base != 0 {
		t.Fatalf("after an overshoot %+v", a)
	}
	rows, err := w.records.LeasesOf(t.Context(), w.daily(0, 0).Counter)
	if err != nil || len(rows) != 1 || rows[0].Charged != 75 {
		t.Fatalf("rows %+v, %v", rows, err)
	}
}

func TestOlderMessagesAreNotActedUpon(t *testing.T) {
	t.Parallel()
	w := newWorld(t, daily("daily", "100"))
	one := w.begin(1)
	draw := func(seq uint64, need, spent int64, fresh bool) authority.Answer {
		t.Helper()
		ask := w.daily(need, spent, "daily")
		ask.Fresh = fresh
		out, err := w.s.Draw(t.Context(), authority.Draw{
			Node: 1, Epoch: one.Epoch, CustomerID: custID, CatalogVersion: 1, Now: w.Now().UnixMicro(), Seq: seq, Asks: []authority.Ask{ask},
		})
		if err != nil {
			t.Fatal(err)
		}
		return out[0]
	}
	back := func(seq uint64, spent, keep int64) {
		t.Helper()
		b := authority.Back{Counter: w.daily(0, 0).Counter, Kind: quota.Quota, Seq: seq, Spent: spent, Keep: keep}
		if err := w.s.Return(t.Context(), 1, one.Epoch, []authority.Back{b}); err != nil {
			t.Fatal(err)
		}
	}
	draw(1, 30, 0, true)
	back(3, 10, 10)
	if a := draw(2, 50, 10, false); a.Granted != 10 {
		t.Errorf("a draw from before the return got %+v", a)
	}
	if a := draw(5, 40, 10, false); a.Granted != 50 {
		t.Errorf("the next draw got %+v", a)
	}
	back(4, 10, 10)
	if a := draw(6, 0, 10, false); a.Granted != 50 {
		t.Errorf("after a return from before the draw %+v", a)
	}
	unnumbered := authority.Back{Counter: w.daily(0, 0).Counter, Epoch: one.Epoch, Closed: true}
	if err := w.s.Return(t.Context(), 1, one.Epoch, []authority.Back{unnumbered}); err != nil {
		t.Fatal(err)
	}
	if a := draw(7, 0, 10, false); a.Granted != 50 {
		t.Errorf("after a return of no order %+v", a)
	}
}

func TestLeaseTakenUpAgainCountsFromNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, daily("daily", "100"))
	one := w.begin(1)
	ask := w.daily(30, 0, "daily")
	ask.Fresh = true
	w.draw(1, one.Epoch, ask)
	closed := authority.Back{Counter: ask.Counter, Kind: quota.Quota, Spent: 20, Closed: true}
	for range 2 {
		if err := w.s.Return(t.Context(), 1, one.Epoch, []authority.Back{closed}); err != nil {
			t.Fatal(err)
		}
	}
	if a := w.draw(1, one.Epoch, ask)[0]; a.Granted != 30 || a.Base != 20 {
		t.Fatalf("taken up again %+v", a)
	}
	w.restart() // also for an authority that knows only the rows
	ask.Fresh, ask.Spent, ask.Need = false, 30, 1
	if a := w.draw(1, one.Epoch, ask)[0]; a.Base != 20 || a.Granted < 31 || a.Granted > 80 {
		t.Fatalf("after a restart of the authority %+v", a)
	}
}

func TestScopedCounterNeedsNoJournal(t *testing.T) {
	t.Parallel()
	l := daily("each", "10")
	l.Per = []catalog.Scope{catalog.PerKey}
	w := newWorld(t, l)
	w.use(meter.Admitted, 8, w.Now())
	one := w.begin(1)
	for _, key := range []string{"key_a", "key_b"} {
		a := w.daily(10, 0, "each")
		a.Whose.Key, a.Counter.Scope = key, quota.ScopeText(quota.Whose{Key: key}, nil)
		if got := w.draw(1, one.Epoch, a)[0]; got.Granted != 10 || got.Base != 0 {
			t.Errorf("%s: %+v", key, got)
		}
	}
	w.override(account.Override{ID: "ovr_1", Limit: "each", Value: "15", KeyID: "key_b", CreatedAt: start})
	a := w.daily(15, 0, "each")
	a.Whose.Key, a.Counter.Scope = "key_b", "key=key_b"
	if got := w.draw(1, one.Epoch, a)[0]; got.Granted != 15 {
		t.Errorf("with its key's override %+v", got)
	}
}

func bucketAsk() authority.Ask {
	return authority.Ask{Counter: store.CounterKey{CustomerID: custID, Meter: "calls"}, Kind: quota.TokenBucket, Limits: []string{"burst"}, Need: 1, Fresh: true}
}

func TestBucketAfterARestart(t *testing.T) {
	t.Parallel()
	limit := catalog.Limit{Key: "burst", Meter: "calls", Bucket: &catalog.Bucket{Rate: dec("2"), Burst: dec("10"), Per: time.Second}}
	for name, tt := range map[string]struct {
		other  bool
		config func(*authority.Config)
		want   int64 // units owed at once
	}{
		"what the journal knows": {want: 4},
		"after a power cut":      {config: func(c *authority.Config) { c.Rebooted = true }, want: 10},
		"torn":                   {config: func(c *authority.Config) { c.Torn = true }, want: 10},
		"beside other nodes":     {other: true, want: 10},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, limit)
			w.config = tt.config
			one := w.begin(1)
			if tt.other {
				w.begin(2)
			}
			w.use(meter.Admitted, 4, w.Now())
			w.restart()
			a := w.draw(1, one.Epoch, bucketAsk())[0]
			if until := w.Now().Add(7 * time.Second); tt.other { // nothing is given out until what others may have has lapsed
				if refills := until.Add(500 * time.Millisecond).UnixMicro(); a.Burst != 0 || a.ClearsAt != refills+1 {
					t.Errorf("before the others' have lapsed: %+v, refills at %d", a, refills)
				}
				w.advance(until.Sub(w.Now()))
				a = w.draw(1, one.Epoch, bucketAsk())[0]
			}
			if a.Burst != 10 || a.Debt != tt.want*a.Per {
				t.Errorf("owes %d, want %d: %+v", a.Debt/a.Per, tt.want, a)
			}
		})
	}
}

func TestChangedBucketKeepsWhatItOwes(t *testing.T) {
	t.Parallel()
	burst := func(rate, n string) catalog.Limit {
		return catalog.Limit{Key: "burst", Meter: "calls", Bucket: &catalog.Bucket{Rate: dec(rate), Burst: dec(n), Per: time.Second}}
	}
	w := newWorld(t, burst("2", "10"))
	one := w.begin(1)
	first := w.draw(1, one.Epoch, bucketAsk())[0]
	w.apply(declare(t, 2, burst("6", "30")))
	ask := bucketAsk()
	ask.Fresh, ask.Rate, ask.Per, ask.Burst = false, first.Rate, first.Per, first.Burst
	raised := w.draw(1, one.Epoch, ask)[0]
	rate, per := w.Current().Limits("free", "calls")[0].Fine()
	if raised.Burst != 30 || raised.Rate != rate || raised.Per != per || raised.Debt != 0 {
		t.Errorf("raised %+v, want %d per %d", raised, rate, per)
	}
	w.apply(declare(t, 3, burst("1", "5")))
	ask.Rate, ask.Per, ask.Burst = raised.Rate, raised.Per, raised.Burst
	if lowered := w.draw(1, one.Epoch, ask)[0]; lowered.Burst != 5 || lowered.Rate*per > 2*lowered.Per*rate {
		t.Errorf("lowered %+v", lowered)
	}
}

// failing records refuse to write while broken.
type failing struct {
	store.Leases
	broken bool
}

func (f *failing) WriteLeases(ctx context.Context, ls []store.Lease) error {
	if f.broken {
		return store.ErrFull
	}
	return f.Leases.WriteLeases(ctx, ls)
}

func TestNothingIsGrantedThatIsNotWritten(t *testing.T) {
	t.Parallel()
	w := newWorld(t, daily("daily", "100"))
	f := &failing{}
	w.config = func(c *authority.Config) { f.Leases = c.Leases; c.Leases = f }
	w.restart()
	one := w.begin(1)
	f.broken = true
	d := authority.Draw{
		Node: 1, Epoch: one.Epoch, CustomerID: custID, CatalogVersion: 1, Now: w.Now().UnixMicro(), Asks: []authority.Ask{w.daily(60, 0, "daily")},
	}
	if _, err := w.s.Draw(t.Context(), d); !errors.Is(err, store.ErrFull) {
		t.Fatalf("drawn from a full disk: %v", err)
	}
	f.broken = false
	if a := w.draw(1, one.Epoch, w.daily(60, 0, "daily"))[0]; a.Granted != 60 {
		t.Errorf("after the disk has room again %+v", a)
	}
}

func TestRollingFindsWhatWasUsedBefore(t *testing.T) {
	t.Parallel()
	w := newWorld(t, catalog.Limit{Key: "sliding", Meter: "calls", Quota: new(dec("100")), Rolling: 24 * time.Hour})
	w.use(meter.Admitted, 10, w.Now().Add(-26*time.Hour)) // out of the window
	w.use(meter.Admitted, 20, w.Now().Add(-20*time.Hour))
	w.use(meter.Reported, 5, w.Now().Add(-time.Hour))
	one := w.begin(1)
	l := w.Current().Limits("free", "calls")[0]
	slot, end, _ := l.WindowAt(w.Now().UnixMicro())
	ask := authority.Ask{
		Counter:   store.CounterKey{CustomerID: custID, Meter: "calls", Length: end - slot, Start: slot},
		WindowEnd: end, Kind: quota.Rolling, Limits: []string{"sliding"}, Need: 200, Fresh: true,
	}
	a := w.draw(1, one.Epoch, ask)[0]
	if a.Ceiling != 75 || a.Granted != 75 {
		t.Fatalf("answer %+v", a)
	}
	ask.Need, ask.Fresh, ask.Spent = 10, false, 75
	a = w.draw(1, one.Epoch, ask)[0]
	if out := w.Now().Add(4*time.Hour + 15*time.Minute).UnixMicro(); a.Granted != 75 || a.ClearsAt != out {
		t.Fatalf("denied until %d, want %d", a.ClearsAt, out)
	}
}

func TestIdleCountersAreDropped(t *testing.T) {
	t.Parallel()
	w := newWorld(t, daily("daily", "100"), catalog.Limit{Key: "burst", Meter: "calls", Bucket: &catalog.Bucket{Rate: dec("2"), Burst: dec("10"), Per: time.Second}})
	one := w.begin(1)
	w.draw(1, one.Epoch, w.daily(10, 0, "daily"), bucketAsk())
	tick := func(want int64) {
		t.Helper()
		w.advance(10 * time.Minute)
		if err := w.s.Tick(t.Context()); err != nil {
			t.Fatal(err)
		}
		if st := w.s.Stats(); st.Counters+st.Buckets != want {
			t.Errorf("%d counters and %d buckets are held, want %d", st.Counters, st.Buckets, want)
		}
	}
	tick(2)
	backs := []authority.Back{
		{Counter: w.daily(0, 0).Counter, Kind: quota.Quota, Spent: 4, Closed: true},
		{Counter: bucketAsk().Counter, Kind: quota.TokenBucket, Per: 1, Closed: true},
	}
	if err := w.s.Return(t.Context(), 1, one.Epoch, backs); err != nil {
		t.Fatal(err)
	}
	tick(0)
	if a := w.draw(1, one.Epoch, w.daily(96, 0, "daily"))[0]; a.Granted != 96 || a.Base != 4 {
		t.Errorf("taken up again %+v", a)
	}
}

func TestCreditsAreWhatWasGranted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, catalog.Limit{Key: "credits", Meter: "calls", Credits: true})
	granted, since := "12.9", start
	w.config = func(c *authority.Config) {
		c.Credits = func(v store.View, customerID, meterKey string, _ time.Time) (authority.Credit, error) {
			in := period.Interval{Start: since}
			r, err := v.Usage(store.SeriesKey{CustomerID: customerID, Meter: meterKey}, in)
			if err != nil {
				return authority.Credit{}, err
			}
			left, err := dec(granted).Sub(r.Sum)
			return authority.Credit{Since: since, Used: r.Sum, Reported: r.Reported, Left: left, Granted: dec(granted)}, err
		}
	}
	w.restart()
	one := w.begin(1)
	ask := authority.Ask{Counter: store.CounterKey{CustomerID: custID, Meter: "calls"}, Kind: quota.Credits, Limits: []string{"credits"}, Need: 20}
	if a := w.draw(1, one.Epoch, ask)[0]; a.Granted != 12 || a.Ceiling != 12 || a.ClearsAt != 0 {
		t.Fatalf("answer %+v", a)
	}
	granted = "20"
	if a := w.draw(1, one.Epoch, ask)[0]; a.Granted != 20 {
		t.Fatalf("after another grant %+v", a)
	}
	w.use(meter.Reported, 7, w.Now().Add(-time.Hour)) // of a grant of now it burns nothing
	since = w.Now()
	if a := w.draw(1, one.Epoch, ask)[0]; a.Base != 0 {
		t.Fatalf("what was used before the first grant burns it: %+v", a)
	}
	if err := w.records.PruneLeases(t.Context(), w.Now().AddDate(90, 0, 0).UnixMicro()); err != nil {
		t.Fatal(err)
	}
	if rows, err := w.records.LeasesOf(t.Context(), ask.Counter); err != nil || len(rows) != 1 {
		t.Fatalf("rows %+v, %v", rows, err)
	}
}

func TestDrawRefusesWhatIsNone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, daily("daily", "100"))
	one := w.begin(1)
	foreign := w.daily(1, 0, "daily")
	foreign.Counter.CustomerID = "cus_other"
	for name, d := range map[string]authority.Draw{
		"unknown limit":    {Asks: []authority.Ask{w.daily(1, 0, "weekly")}},
		"another customer": {Asks: []authority.Ask{foreign}},
		"too many":         {Asks: make([]authority.Ask, authority.MaxAsks+1)},
	} {
		d.Node, d.Epoch, d.CustomerID, d.CatalogVersion, d.Now = 1, one.Epoch, custID, 1, w.Now().UnixMicro()
		if _, err := w.s.Draw(t.Context(), d); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := w.s.Return(t.Context(), 1, one.Epoch, make([]authority.Back, authority.MaxBacks+1)); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("too many leases given back: %v", err)
	}
	if _, err := authority.New(authority.Config{}); err == nil {
		t.Error("made without a configuration")
	}
}

func TestShortWindowAfterARestart(t *testing.T) {
	t.Parallel()
	for name, limit := range map[string]catalog.Limit{
		"fixed":   {Key: "short", Meter: "calls", Quota: new(dec("50")), Fixed: time.Minute},
		"rolling": {Key: "short", Meter: "calls", Quota: new(dec("50")), Rolling: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, limit)
			w.use(meter.Admitted, 20, w.Now())
			w.use(meter.Reported, 9, w.Now()) // in no quarter of a minute that anybody knows
			w.restart()
			one := w.begin(1)
			granted := func() int64 {
				l := w.Current().Limits("free", "calls")[0]
				at, end, _ := l.WindowAt(w.Now().UnixMicro())
				return w.draw(1, one.Epoch, authority.Ask{
					Counter:   store.CounterKey{CustomerID: custID, Meter: "calls", Length: end - at, Start: at},
					WindowEnd: end, Kind: l.Kind, Limits: []string{"short"}, Need: 100,
				})[0].Granted
			}
			if n := granted(); n != 30 {
				t.Errorf("%d granted beside 20 from before the start", n)
			}
			w.advance(3 * time.Minute)
			if n := granted(); n != 50 {
				t.Errorf("%d granted in a window of its own", n)
			}
		})
	}
}

// TestShortWindowOfAnotherClock: by a clock that is ahead a window was used before this start though it begins after it; by one that
// is far behind a window may have been forgotten.
func TestShortWindowOfAnotherClock(t *testing.T) {
	t.Parallel()
	for name, limit := range map[string]catalog.Limit{
		"fixed":   {Key: "short", Meter: "calls", Quota: new(dec("50")), Fixed: time.Minute},
		"rolling": {Key: "short", Meter: "calls", Quota: new(dec("50")), Rolling: time.Minute},
	} {
		for off, want := range map[time.Duration]int64{2 * time.Minute: 30, 0: 50, -3 * time.Minute: 50, -8 * time.Minute: 0} {
			t.Run(fmt.Sprint(name, off), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, limit)
				w.advance(17 * time.Minute) // to the middle of a quarter hour and of a minute
				if off > 0 {
					w.use(meter.Admitted, 20, w.Now().Add(off))
					w.restart()
				}
				one := w.begin(1)
				l := w.Current().Limits("free", "calls")[0]
				now := w.Now().Add(off).UnixMicro()
				at, end, _ := l.WindowAt(now)
				out, err := w.s.Draw(t.Context(), authority.Draw{
					Node: 1, Epoch: one.Epoch, CustomerID: custID, SubscriptionID: w.sub.ID, CatalogVersion: 1, Now: now, Asks: []authority.Ask{{
						Counter:   store.CounterKey{CustomerID: custID, Meter: "calls", Length: end - at, Start: at},
						WindowEnd: end, Kind: l.Kind, Limits: []string{"short"}, Need: 100,
					}},
				})
				if err != nil || out[0].Granted != want {
					t.Errorf("%+v, %v; want %d", out, err, want)
				}
			})
		}
	}
}

// shipper puts into the journal what it decided when it is asked to.
type shipper struct {
	w      *world
	unsent int
	ships  int
}

func (h *shipper) Recall(context.Context, []store.CounterKey) ([]authority.Back, error) {
	return nil, nil
}

func (h *shipper) Tell(context.Context, []store.CounterKey) ([]authority.Back, error) {
	return nil, nil
}

func (h *shipper) Ship(context.Context) error {
	h.w.use(meter.Admitted, h.unsent, h.w.Now())
	h.unsent, h.ships = 0, h.ships+1
	return nil
}

func TestUsageInTheSpoolCountsForANewCounter(t *testing.T) {
	t.Parallel()
	w := newWorld(t, daily("daily", "100"))
	h := &shipper{w: w, unsent: 7}
	unregister := w.s.Register(1, h)
	one := w.begin(1)
	ask := w.daily(1, 0, "daily")
	ask.Fresh, ask.Open = true, 3 // and 3 of requests that run
	if a := w.draw(1, one.Epoch, ask)[0]; a.Base != 10 {
		t.Errorf("answer %+v", a)
	}
	w.draw(1, one.Epoch, w.daily(90, 1, "daily"))
	if h.ships != 1 {
		t.Errorf("shipped %d times, want 1", h.ships)
	}
	unregister()
	w.restart()
	if a := w.draw(1, one.Epoch, w.daily(0, 1, "daily"))[0]; a.Base > 10 {
		t.Errorf("without a holder %+v", a)
	}
}

func TestMemoryOfOtherProcessesLapses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, catalog.Limit{Key: "burst", Meter: "calls", Bucket: &catalog.Bucket{Rate: dec("2"), Burst: dec("10"), Per: time.Second}})
	one, two := w.begin(1), w.begin(2)
	a := w.draw(2, two.Epoch, bucketAsk())[0]
	if a.ValidFor != 5*time.Second || a.Burst != 10 {
		t.Fatalf("another process got %+v", a)
	}
	if a := w.draw(1, one.Epoch, bucketAsk())[0]; a.ValidFor != 0 || a.Burst != 0 || !a.Shared || a.AskAgain != w.Now().Add(250*time.Millisecond).UnixMicro() {
		t.Errorf("beside it %+v", a)
	}
	w.advance(6 * time.Second)
	if a := w.draw(1, one.Epoch, bucketAsk())[0]; a.Burst != 0 {
		t.Errorf("before a call that is under way can have failed %+v", a)
	}
	w.advance(1500 * time.Millisecond)
	a = w.draw(1, one.Epoch, bucketAsk())[0] // 2.5 s since it lapsed: 5 units are back
	if a.Burst != 10 || a.Debt != 5*a.Per {
		t.Errorf("after it lapsed %+v, owes %d", a, a.Debt/max(1, a.Per))
	}
}
