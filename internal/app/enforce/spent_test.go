package enforce

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tallystick/tallystick/internal/app/enforce/record"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/spool"
)

// dayOf is a lease as the model of spending knows it.
type dayOf struct {
	epoch uint32
	day   int64
}

// spending is a naive model of what each lease is spent on: costs by reservation.
type spending struct {
	cost  map[*Admission]int64
	open  []*Admission
	held  map[string]*Admission
	total int64 // settled in all
}

func (m *spending) of(k dayOf) (sum int64) {
	for a, cost := range m.cost {
		if a.res.Epoch == k.epoch && a.res.Time/86_400_000_000*86_400_000_000 == k.day {
			sum += cost
		}
	}
	return sum
}

func (m *spending) take(rt *rapid.T) *Admission {
	if len(m.open) == 0 {
		return nil
	}
	i := rapid.IntRange(0, len(m.open)-1).Draw(rt, "which")
	a := m.open[i]
	m.open = append(m.open[:i], m.open[i+1:]...)
	return a
}

func (m *spending) settle(rt *rapid.T, a *Admission) {
	var end Actual
	charged := a.res.Cost
	if rapid.Bool().Draw(rt, "actual") {
		charged = int64(rapid.IntRange(0, 12).Draw(rt, "cost"))
		end.Cost = new(money.FromScaled(charged, 0))
	}
	if err := a.Settle(end); err != nil {
		rt.Fatal(err)
	}
	m.cost[a] = charged
	m.total += charged
}

// TestSpoolKnowsWhatLeasesWereSpentOn runs random histories with crashes on a spool of tiny segments, which is truncated and
// carried forward all the time: whatever is left of it, each lease of the earlier run is closed with exactly what was settled from
// it and what was open.
func TestSpoolKnowsWhatLeasesWereSpentOn(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorldOn(t, spool.Config{SegmentBytes: spool.MinSegmentBytes}, quotaLimit("daily", "1000000", period.Day), quotaLimit("weekly", "2000000", period.Week))
		defer w.crash()
		w.e.cfg.CarryBehind = 4 << 10
		m := &spending{cost: map[*Admission]int64{}, held: map[string]*Admission{}}
		for range rapid.IntRange(5, 25).Draw(rt, "steps") {
			switch rapid.SampledFrom([]string{"admit", "admit", "settle", "settle", "release", "ship", "many", "hold", "unhold", "day", "kill", "midship"}).Draw(rt, "op") {
			case "admit":
				for range rapid.IntRange(1, 9).Draw(rt, "n") {
					m.admit(rt, w)
				}
			case "many": // fills segments
				for range rapid.IntRange(10, 60).Draw(rt, "n") {
					m.admit(rt, w)
					if a := m.open[len(m.open)-1]; rapid.IntRange(0, 9).Draw(rt, "keep") > 0 {
						m.open = m.open[:len(m.open)-1]
						m.settle(rt, a)
					}
				}
			case "settle":
				if a := m.take(rt); a != nil {
					m.settle(rt, a)
				}
			case "release":
				if a := m.take(rt); a != nil {
					if err := a.Release(Failed); err != nil {
						rt.Fatal(err)
					}
					m.cost[a] = 0
				}
			case "ship":
				w.flush()
			case "midship": // a request ends while copies are on their way
				a := m.take(rt)
				spool := w.e.cfg.Spool
				w.e.cfg.Spool = &meddler{Spool: spool, truncated: func() {
					if a != nil {
						m.settle(rt, a)
					}
				}}
				w.flush()
				w.e.cfg.Spool = spool
				if a != nil && a.state.Load() == stateOpen {
					m.open = append(m.open, a)
				}
			case "hold":
				h, a := w.e.Reserve(context.Background(), Request{Secret: "good", Route: w.route(), Cost: new(dec("7"))}, time.Hour)
				m.held[h.ID], m.cost[a] = a, 7
			case "unhold":
				m.unhold(rt, w)
			case "day":
				w.advance(24 * time.Hour)
			case "kill":
				m.kill(rt, w)
			}
		}
		m.kill(rt, w)
		for range len(m.held) {
			m.unhold(rt, w)
		}
		w.wantBooked(money.FromScaled(m.total, 0).String())
	})
}

func (m *spending) admit(rt *rapid.T, w *world) {
	cost := int64(rapid.IntRange(1, 9).Draw(rt, "reserve"))
	a := w.e.Admit(context.Background(), Request{Secret: "good", Route: w.route(), Method: "GET", Cost: new(money.FromScaled(cost, 0))})
	if !a.Allowed() {
		rt.Fatal(a.Detail)
	}
	m.open = append(m.open, a)
	m.cost[a] = cost
}

func (m *spending) unhold(rt *rapid.T, w *world) {
	for id, a := range m.held {
		h, err := w.e.SettleHeld(id, Actual{Cost: new(dec("3"))})
		if err != nil || h.Charged.String() != "3" {
			rt.Fatalf("%+v, %v", h, err)
		}
		delete(m.held, id)
		m.cost[a] = 3
		m.total += 3
		return
	}
}

func (m *spending) kill(rt *rapid.T, w *world) {
	open, err := w.records.OpenLeases(context.Background(), 1, math.MaxUint32)
	if err != nil {
		rt.Fatal(err)
	}
	w.crash()
	w.open()
	w.e.cfg.CarryBehind = 4 << 10
	for _, was := range open {
		all, err := w.records.LeasesOf(context.Background(), was.CounterKey)
		if err != nil {
			rt.Fatal(err)
		}
		for _, l := range all {
			if l.Epoch != was.Epoch {
				continue
			}
			want := int64(0)
			for day := l.Start; day < l.WindowEnd; day += 86_400_000_000 {
				want += m.of(dayOf{l.Epoch, day})
			}
			if !l.Closed || l.WrittenOff != 0 || l.Charged != want {
				rt.Fatalf("a lease of %d, spent %d, was closed as %+v", was.Charged, want, l)
			}
		}
	}
	for _, a := range m.open {
		m.total += a.res.Cost // recovered as settled
	}
	m.open = nil
}

// TestForgottenLeasesAreWrittenOff: when a full spool leaves no room to write down what leases were spent on, it is truncated all
// the same, and a crash costs the quota that nobody can account for.
func TestForgottenLeasesAreWrittenOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quotaLimit("daily", "100", period.Day))
	w.calls(10)
	full := &fullSpool{Spool: w.e.cfg.Spool}
	w.e.cfg.Spool = full
	full.full = true
	w.flush()
	if full.truncated == 0 || w.e.Stats().Voided != 2 {
		t.Fatalf("truncated up to %d, %d given up, want a lease and its epoch", full.truncated, w.e.Stats().Voided)
	}
	full.full = false
	w.calls(10)
	w.crash()
	w.open()
	n := int64(w.calls(100))
	if off := w.e.Stats().WrittenOff; n != 75 || off != 25 {
		t.Errorf("%d admitted after 20 of a lease of 25, %d written off", n, off)
	}
}

// fullSpool takes no record for which no room was set aside.
type fullSpool struct {
	store.Spool
	full      bool
	truncated int64
}

func (s *fullSpool) Append(reserve int, fill func([]byte) []byte) (int64, error) {
	if s.full {
		return 0, store.ErrFull
	}
	return s.Spool.Append(reserve, fill)
}

func (s *fullSpool) Truncate(before int64) error {
	s.truncated = before
	return s.Spool.Truncate(before)
}

// TestGrantedAndNeverHeardOf: a lease that was granted to a process which was killed before it could use it is given back in full,
// but for a process that used leases without naming them.
func TestGrantedAndNeverHeardOf(t *testing.T) {
	t.Parallel()
	for name, nameless := range map[string]bool{"all named": false, "nameless": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, quotaLimit("daily", "100", period.Day))
			w.calls(10)
			if nameless {
				if err := w.e.useNameless(); err != nil {
					t.Fatal(err)
				}
			}
			k := store.CounterKey{CustomerID: custID, Meter: apiCall, Window: period.Week, Start: start.UnixMicro()}
			if _, err := w.records.DrawLeases(t.Context(), 1, w.e.epoch, w.boot, []store.Draw{{CounterKey: k, WindowEnd: w.Now().Add(time.Hour).UnixMicro(), Want: 50, Ceiling: 50}}); err != nil {
				t.Fatal(err)
			}
			w.crash()
			w.open()
			want := int64(0)
			if nameless {
				want = 50
			}
			if off := w.e.Stats().WrittenOff; off != want {
				t.Errorf("%d written off, want %d", off, want)
			}
		})
	}
}

// TestReopenedCounter: a lease that was closed and opened again in one epoch counts from there on.
func TestReopenedCounter(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	k := store.CounterKey{CustomerID: custID, Meter: apiCall, Window: period.Day, Start: 1}
	var number uint32
	for range 2 {
		var err error
		if number, err = w.e.leaseOpened(k, 10); err != nil {
			t.Fatal(err)
		}
		w.flush()
		w.e.ship.book.Ended(w.e.epoch, []uint32{number}, 42, w.spool.End())
	}
	want := record.Counter{CounterKey: k, Epoch: w.e.epoch}
	if got := w.e.ship.book.Spent(); len(got) != 1 || got[want] != 42 {
		t.Errorf("spent %v", got)
	}
	w.e.leaseClosed(number)
	w.flush()
	if n := w.e.ship.book.Len(); n != 2 {
		t.Errorf("%d known after one of two leases was closed, want the other and the epoch", n)
	}
}

// TestSpentUnderConcurrency: requests end while the spool is read, carried and truncated; after kill -9 the figures are exact.
func TestSpentUnderConcurrency(t *testing.T) {
	t.Parallel()
	w := newWorldOn(t, spool.Config{SegmentBytes: 16 << 10}, quotaLimit("daily", "1000000", period.Day))
	w.e.cfg.CarryBehind = 8 << 10
	var spent atomic.Int64
	var wg sync.WaitGroup
	done := make(chan struct{})
	for g := range 8 {
		wg.Go(func() {
			for i := range 300 {
				a := w.e.Admit(context.Background(), Request{Secret: "good", Route: w.route(), Method: "GET", Cost: new(dec("5"))})
				if !a.Allowed() {
					t.Error(a.Detail)
					return
				}
				var err error
				charged := int64(5)
				switch (g + i) % 50 {
				case 0: // left open, and settled after the crash
				case 1, 2, 3:
					charged = 0
					err = a.Release(Failed)
				default:
					charged = int64(i % 9)
					err = a.Settle(Actual{Cost: new(money.FromScaled(charged, 0))})
				}
				if err != nil {
					t.Error(err)
				}
				spent.Add(charged)
			}
		})
	}
	var shipping sync.WaitGroup
	shipping.Go(func() {
		for {
			if _, err := w.e.Tick(context.Background()); err != nil {
				t.Error(err)
				return
			}
			select {
			case <-done:
				return
			default:
			}
		}
	})
	wg.Wait()
	close(done)
	shipping.Wait()
	if w.spool.Start() == 0 {
		t.Error("nothing was truncated")
	}
	w.crash()
	w.open()
	if off := w.e.Stats().WrittenOff; off != 0 {
		t.Errorf("%d written off", off)
	}
	if left := w.left(); left != itoa(1_000_000-int(spent.Load())) {
		t.Errorf("%s left after %d", left, spent.Load())
	}
	w.wantBooked(itoa(int(spent.Load())))
}
