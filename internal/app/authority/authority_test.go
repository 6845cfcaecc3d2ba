package authority_test

import (
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/quota"
	"github.com/tallystick/tallystick/internal/store"
)

func daily(key, n string) catalog.Limit {
	return catalog.Limit{Key: key, Meter: "calls", Quota: new(dec(n)), Window: period.Day}
}

func TestQuotaIsLeasedInPartsThatShrink(t *testing.T) {
	t.Parallel()
	w := newWorld(t, daily("daily", "100"))
	w.use(meter.Reported, 4, w.Now())
	w.use(meter.Admitted, 16, w.Now()) // while there was no limit
	one := w.begin(1)
	a := w.draw(1, one.Epoch, w.daily(1, 0, "daily"))[0]
	if a.Granted != 20 || a.Base != 20 || a.Ceiling != 100 || a.Shared {
		t.Fatalf("first answer %+v", a)
	}
	granted := a.Granted
	for range 100 {
		a = w.draw(1, one.Epoch, w.daily(1, granted, "daily"))[0]
		if a.Granted == granted {
			break
		}
		granted = a.Granted
	}
	if granted != 80 || a.ClearsAt != start.Add(48*time.Hour).UnixMicro() || a.AskAgain != a.ClearsAt {
		t.Fatalf("last answer %+v", a)
	}
}

func TestLeaseOutlivesTheAuthority(t *testing.T) {
	t.Parallel()
	w := newWorld(t, daily("daily", "100"))
	one := w.begin(1)
	w.draw(1, one.Epoch, w.daily(40, 0, "daily"))
	w.restart()
	two := w.begin(1)
	if len(two.Open) != 1 || two.Open[0].Charged != 40 || !two.Alone {
		t.Fatalf("welcome %+v", two)
	}
	if a := w.draw(1, two.Epoch, w.daily(70, 0, "daily"))[0]; a.Granted != 60 || a.Base != 40 {
		t.Fatalf("beside the open lease %+v", a)
	}
	back := authority.Back{Counter: two.Open[0].CounterKey, Epoch: one.Epoch, Spent: 15, Closed: true}
	for range 2 {
		if err := w.s.Return(t.Context(), 1, two.Epoch, []authority.Back{back}); err != nil {
			t.Fatal(err)
		}
	}
	if a := w.draw(1, two.Epoch, w.daily(70, 0, "daily"))[0]; a.Granted != 70 || a.Base != 15 {
		t.Fatalf("after its closing %+v", a)
	}
	rows, err := w.records.LeasesOf(t.Context(), back.Counter)
	if err != nil || len(rows) != 2 || rows[0].Charged != 15 || !rows[0].Closed || rows[1].Charged != 70 {
		t.Fatalf("rows %+v, %v", rows, err)
	}
}

func TestSpendCapOverTwoMetersAndNodes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, catalog.Limit{Key: "cap", SpendCap: new(dec("10")), Window: period.BillingPeriod})
	one, two := w.begin(1), w.begin(2)
	ask := func(meterKey string, need int64) authority.Ask {
		return authority.Ask{
			Counter:   store.CounterKey{CustomerID: custID, Meter: meterKey, Window: period.BillingPeriod, Start: start.UnixMicro()},
			WindowEnd: start.AddDate(0, 1, 0).UnixMicro(), Kind: quota.SpendCap, Limits: []string{"cap"}, Need: need,
		}
	}
	// 10 tokens are free, 14 more cost 7.00: 3.00 are left, 12 calls above the free 10.
	if a := w.draw(1, one.Epoch, ask("tokens", 24))[0]; a.Granted != 24 || a.Ceiling != 30 {
		t.Fatalf("tokens %+v", a)
	}
	if a := w.draw(2, two.Epoch, ask("calls", 30))[0]; a.Granted != 22 || a.Ceiling != 22 || !a.Shared || a.ClearsAt != 0 {
		t.Fatalf("calls %+v", a)
	}
	if a := w.draw(1, one.Epoch, ask("tokens", 25))[0]; a.Granted != 24 || a.Ceiling != 24 {
		t.Fatalf("more tokens %+v", a)
	}
}

func TestBucketOfOneHolderIsWhole(t *testing.T) {
	t.Parallel()
	w := newWorld(t, catalog.Limit{Key: "burst", Meter: "calls", Bucket: &catalog.Bucket{Rate: dec("2"), Burst: dec("10"), Per: time.Second}})
	one := w.begin(1)
	ask := authority.Ask{
		Counter: store.CounterKey{CustomerID: custID, Meter: "calls"}, Kind: quota.TokenBucket, Limits: []string{"burst"}, Need: 1, Fresh: true,
	}
	a := w.draw(1, one.Epoch, ask)[0]
	l := w.Current().Limits("free", "calls")[0]
	rate, per := l.Fine()
	if a.Rate != rate || a.Per != per || a.Burst != 10 || a.Debt != 0 || a.Shared || a.ValidFor != 0 {
		t.Fatalf("answer %+v, want %d per %d", a, rate, per)
	}
}
