package enforce

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/price"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/spool"
)

// Each of these was a fault once, found by review.

func TestOneSlowRequestDoesNotFillTheSpool(t *testing.T) {
	t.Parallel()
	w := newWorldOn(t, spool.Config{SegmentBytes: 16 << 10, MaxBytes: 128 << 10}, quotaLimit("month", "1000000", period.Month))
	w.e.cfg.CarryBehind = 32 << 10
	open := w.admit()
	gone := w.admit()
	for i := range 1500 {
		if n := w.calls(1); n != 1 {
			t.Fatalf("request %d was refused although all but one are settled and shipped", i)
		}
		if i%10 == 0 {
			w.flush()
		}
	}
	if err := gone.Release(Failed); err != nil {
		t.Fatal(err)
	}
	if err := open.Settle(Actual{Status: 200}); err != nil {
		t.Fatal(err)
	}
	w.wantBooked("1501")
	again := w.admit()
	w.calls(200)
	w.flush()
	w.crash()
	w.open() // the copies are read, and only the open one is settled
	if n := w.e.Stats().Recovered; n != 1 {
		t.Errorf("%d recovered, want 1", n)
	}
	_ = again
	w.wantBooked("1702")
}

func TestLaterRequestsDoNotHoldAClose(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	end := w.Now()
	w.advance(time.Hour)
	canceled, cancel := context.WithCancel(context.Background())
	cancel()
	soon, stop := context.WithTimeout(context.Background(), 20*time.Second)
	defer stop()
	early := w.admit() // decided after the end, but before anybody waits for it
	if err := w.e.Settled(canceled, end); err == nil {
		t.Error("the first wait cannot know when the open request was decided")
	}
	for range 100 { // overlapping from here on
		next := w.admit()
		if err := early.Settle(Actual{Status: 200}); err != nil {
			t.Fatal(err)
		}
		early = next
		if err := w.e.Settled(soon, end); err != nil {
			t.Fatalf("requests decided after the end hold it up: %v", err)
		}
	}
	if err := early.Settle(Actual{Status: 200}); err != nil {
		t.Fatal(err)
	}
}

func twoMeters(t *testing.T, version int64, limits ...catalog.Limit) *catalog.Compiled {
	t.Helper()
	one := func(key, m string) price.Price {
		return price.Price{Key: key, Meter: m, Model: price.Graduated, Charge: price.InArrears, Tiers: []price.Tier{{UnitAmount: dec("1")}}}
	}
	c, err := catalog.Compile(version, &catalog.Catalog{
		Meters: []catalog.Meter{{Key: apiCall, Event: "request", Aggregation: meter.Count}, {Key: "other", Event: "other", Aggregation: meter.Count}},
		Plans: []catalog.Plan{{
			Key: "free", Currency: money.MustCurrency("USD"), Limits: limits,
			Prices: []price.Price{one("calls", apiCall), one("others", "other")},
		}},
		Routes: []catalog.Route{
			{Match: "GET /hello", Meter: apiCall, Cost: dec("1"), Timeout: time.Second},
			{Match: "GET /other", Meter: "other", Cost: dec("1"), Timeout: time.Second},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestSpendCapSeesWhatOtherMetersCostBefore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply(twoMeters(t, 2))
	for range 8 {
		a := w.e.Admit(context.Background(), Request{Secret: "good", Route: &w.Current().Routes[1], Method: "GET"})
		if !a.Allowed() {
			t.Fatal(a.Detail)
		}
		if err := a.Settle(Actual{Status: 200}); err != nil {
			t.Fatal(err)
		}
	}
	w.apply(twoMeters(t, 3, catalog.Limit{Key: "spend", SpendCap: new(dec("10")), Window: period.BillingPeriod}))
	if n := w.calls(10); n != 2 {
		t.Errorf("admitted $%d beside $8 under a cap of $10", n)
	}
}

// meddler settles requests in the middle of a flush.
type meddler struct {
	store.Spool
	truncated func()
}

func (m *meddler) Truncate(before int64) error {
	if f := m.truncated; f != nil {
		m.truncated = nil
		f()
	}
	return m.Spool.Truncate(before)
}

func TestCounterTakenUpWhileRequestsSettle(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quotaLimit("daily", "100", period.Day))
	m := &meddler{Spool: w.e.cfg.Spool}
	w.e.cfg.Spool = m
	var open []*Admission
	for range 5 {
		open = append(open, w.admit())
	}
	w.apply(declare(t, 2, quotaLimit("monthly", "5", period.Month)))
	m.truncated = func() {
		for _, a := range open {
			if err := a.Settle(Actual{Status: 200}); err != nil {
				t.Error(err)
			}
		}
	}
	if n := w.calls(10); n != 0 {
		t.Errorf("%d more admitted under a hard limit of 5 that is used up", n)
	}
}

func TestRestoredRecordsDoNotReuseAnEpoch(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quotaLimit("daily", "100", period.Day))
	w.stop()
	db := filepath.Join(w.dir, "records.db")
	backup, err := os.ReadFile(db)
	if err != nil {
		t.Fatal(err)
	}
	real := time.Now()
	w.real = func() time.Time { return real.Add(time.Hour) }
	w.open()
	w.calls(5)
	w.stop()
	for _, s := range []string{"-wal", "-shm"} {
		if err := os.Remove(db + s); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(db, backup, 0o600); err != nil {
		t.Fatal(err)
	}
	w.real = func() time.Time { return real.Add(2 * time.Hour) }
	w.open()
	w.calls(5)
	w.wantBooked("10")
}

func TestTornSpoolLeavesLeasesCharged(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quotaLimit("daily", "20", period.Day))
	n := w.calls(10)
	w.crash()
	names := w.spoolFiles()
	b, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	last := len(b) - 1
	for b[last] == 0 { // the rest of the segment is unwritten
		last--
	}
	b[last] ^= 1
	if err := os.WriteFile(names[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	w.open()
	n += w.calls(20)
	if written := w.e.Stats().WrittenOff; n > 20 || int64(n)+written < 20 {
		t.Errorf("%d admitted and %d written off under a hard limit of 20", n, written)
	}
}

// A kill in the middle of a write takes only a record that nobody was told of: the spool still proves what leases were spent on.
func TestUnfinishedWriteKeepsTheQuota(t *testing.T) {
	t.Parallel()
	const page = 4096
	w := newWorld(t, quotaLimit("daily", "40", period.Day))
	n := w.calls(30)
	end := int(w.spool.End()) + 32 // its header
	w.crash()
	name := w.spoolFiles()[0]
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	cut := (end + page - 1) / page * page
	half := append([]byte{0, 0x10, 0, 0, 1, 2, 3, 4}, bytes.Repeat([]byte{7}, page)...) // a frame of page payload bytes
	copy(b[end:cut], half)
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	w.open()
	n += w.calls(40)
	if written := w.e.Stats().WrittenOff; n != 40 || written != 0 {
		t.Errorf("%d admitted and %d written off under a hard limit of 40", n, written)
	}
	w.wantBooked("40")
}

func TestMethodOfAnyBytes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quotaLimit("daily", "20", period.Day))
	if a := w.e.Admit(context.Background(), Request{Secret: "good", Route: w.route(), Method: "G\xff"}); !a.Allowed() {
		t.Fatal(a.Code)
	}
	w.crash()
	w.open()
	w.wantBooked("1")
}

// The spool is read again at each start, and the catalog may have changed since.
func TestShippingAgainUnderAnotherCatalog(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.calls(3)
	w.flush()
	c := declare(t, 2)
	c.Meters[0].Event = "renamed"
	w.apply(c)
	w.stop()
	w.open()
	if n := w.e.Stats().Conflicts; n != 0 {
		t.Errorf("%d conflicts", n)
	}
	w.wantBooked("3")
}

// TestRecoveredOfSeveralPeriods: requests that a crash left open come in the order of the spool, which is not that of their billing
// periods, since the slowest were carried forward. Each period's total counts them all.
func TestRecoveredOfSeveralPeriods(t *testing.T) {
	t.Parallel()
	w := slowWorld(t)
	w.now = start.AddDate(0, 1, 0).Add(-time.Minute)
	watched := &watchedSpool{Spool: w.e.cfg.Spool}
	w.e.cfg.Spool = watched
	w.admit() // is carried behind all others
	w.calls(50)
	w.admit()
	h := w.hold("1", time.Hour, ReleaseExpired)
	w.advance(2 * time.Minute)
	w.admit()
	for calls := 0; !watched.carried; calls++ {
		if calls == 1000 {
			t.Fatal("nothing is carried")
		}
		w.calls(1)
		w.flush()
	}
	w.crash()
	w.open()
	if n := w.e.Stats(); n.Recovered != 3 || n.Held != 1 {
		t.Errorf("%d recovered, want 3; %d held, want 1", n.Recovered, n.Held)
	}
	w.calls(1) // the totals of the first period are let go
	if _, err := w.e.SettleHeld(h.ID, Actual{}); err != nil {
		t.Fatal(err)
	}
	if admitted, _ := w.booked(); admitted != "53" {
		t.Errorf("%s admitted in the first period, want 53", admitted)
	}
}
