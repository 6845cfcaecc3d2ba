package authority_test

import (
	"context"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/quota"
	"github.com/tallystick/tallystick/internal/store"
)

// TestLimitThatWasAwayFindsWhatPassedMeanwhile: a counter that was given back, and is asked for again before it was dropped from
// memory, counts what was used in between.
func TestLimitThatWasAwayFindsWhatPassedMeanwhile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, daily("daily", "100"))
	one := w.begin(1)
	ask := w.daily(10, 0, "daily")
	ask.Fresh = true
	w.draw(1, one.Epoch, ask)
	back := authority.Back{Counter: ask.Counter, Kind: quota.Quota, Spent: 4, Closed: true}
	if err := w.s.Return(context.Background(), 1, one.Epoch, []authority.Back{back}); err != nil {
		t.Fatal(err)
	}
	w.use(meter.Admitted, 34, w.Now()) // the four among them
	if a := w.draw(1, one.Epoch, ask)[0]; a.Base != 34 {
		t.Errorf("after 30 more without the limit: %+v", a)
	}
	w.use(meter.Admitted, 10, w.Now())
	if a := w.draw(1, one.Epoch, ask)[0]; a.Base != 34 { // it is held: these are of its lease
		t.Errorf("while it is held: %+v", a)
	}
}

func atOnceAsk(need, spent int64, fresh bool) authority.Ask {
	return authority.Ask{Counter: store.CounterKey{CustomerID: custID}, Kind: quota.Concurrency, Limits: []string{"at_once"}, Need: need, Spent: spent, Fresh: fresh}
}

// TestRequestsThatRunCountAfterARestart: an authority that has just begun lets no place of running requests be taken twice: other
// nodes may have some running that it does not know of.
func TestRequestsThatRunCountAfterARestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, catalog.Limit{Key: "at_once", Concurrency: 3})
	two := w.begin(2)
	w.draw(2, two.Epoch, atOnceAsk(1, 0, true))
	w.restart()
	one := w.begin(1)
	if a := w.draw(1, one.Epoch, atOnceAsk(1, 0, true))[0]; a.Granted != 0 || a.ClearsAt == 0 {
		t.Errorf("while others may run three: %+v", a)
	}
	if a := w.draw(2, two.Epoch, atOnceAsk(0, 2, false))[0]; a.Granted != 2 {
		t.Errorf("who says that two run: %+v", a)
	}
	w.advance(8 * time.Second)
	w.draw(2, two.Epoch, atOnceAsk(0, 2, false))
	if a := w.draw(1, one.Epoch, atOnceAsk(3, 0, true))[0]; a.Granted != 1 {
		t.Errorf("once all have been heard: %+v", a)
	}
}

// TestRunningRequestsCountWhenTheirLeaseHasLapsed: what runs is charged also beyond the limit.
func TestRunningRequestsCountWhenTheirLeaseHasLapsed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, catalog.Limit{Key: "at_once", Concurrency: 3})
	one, two := w.begin(1), w.begin(2)
	w.draw(2, two.Epoch, atOnceAsk(3, 0, true))
	w.advance(8 * time.Second) // silent: its places go to others
	if err := w.s.Tick(t.Context()); err != nil {
		t.Fatal(err)
	}
	if a := w.draw(1, one.Epoch, atOnceAsk(1, 0, true))[0]; a.Granted < 1 {
		t.Fatalf("%+v", a)
	}
	w.draw(2, two.Epoch, atOnceAsk(1, 3, true)) // they still run
	if a := w.draw(1, one.Epoch, atOnceAsk(1, 1, false))[0]; a.Base != 3 {
		t.Errorf("beside three that run: %+v", a)
	}
}

// TestOverrideThatFitsNoMore: an override of a limit that has become one of another kind is passed over; one of a bucket's burst
// alone holds.
func TestOverrideThatFitsNoMore(t *testing.T) {
	t.Parallel()
	w := newWorld(t, daily("daily", "100"), catalog.Limit{Key: "burst", Meter: "calls", Bucket: &catalog.Bucket{Rate: dec("2"), Burst: dec("10"), Per: time.Second}})
	one := w.begin(1)
	w.override(account.Override{ID: "ovr_1", CustomerID: custID, Limit: "daily", Value: "400/s"}, account.Override{ID: "ovr_2", CustomerID: custID, Limit: "burst", Burst: "25"})
	out := w.draw(1, one.Epoch, w.daily(1, 0, "daily"), bucketAsk())
	if out[0].Ceiling != 100 || out[1].Burst != 25 {
		t.Errorf("%+v", out)
	}
}
