package lessee_test

import (
	"context"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/enforce/lessee"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/store"
)

// TestLinesLeaveOutWhatOthersHoldIdle: what gateways hold of a limit and have not used is not consumed, what runs there is, and
// looking takes nothing away from them.
func TestLinesLeaveOutWhatOthersHoldIdle(t *testing.T) {
	t.Parallel()
	w := newWorld(t,
		daily("daily", "100"),
		catalog.Limit{Key: "sliding", Meter: calls, Quota: new(dec("90")), Rolling: 24 * time.Hour},
		catalog.Limit{Key: "at_once", Concurrency: 20},
	)
	server := w.gateway(1, nil, func(c *lessee.Config) { c.Others = w.authority })
	lines := func(what, want string) {
		t.Helper()
		list, err := server.Lines(context.Background(), w.principal("cus_1", "key_1", ""), 1)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range list {
			consumed := want
			if n.Key == "at_once" {
				consumed = "0"
				if what == "running" {
					consumed = "1"
				}
			}
			if n.Consumed.String() != consumed {
				t.Errorf("%s: %s of %s is consumed, want %s", what, n.Consumed, n.Key, consumed)
			}
			if left, err := n.Quota.Sub(n.Consumed); err != nil || !left.Equal(n.Remaining) {
				t.Errorf("%s: %s of %s remains, %s of %s is consumed", what, n.Remaining, n.Key, n.Consumed, n.Quota)
			}
		}
	}
	lines("before", "0")
	one, two := w.gateway(2, nil), w.gateway(3, nil)
	w.allowed(one, 3, ask{})
	w.allowed(two, 4, ask{})
	lines("used", "7")
	h, _, err := w.try(one, ask{})
	if err != nil {
		t.Fatal(err)
	}
	lines("running", "8")
	h.End(0)
	lines("given back", "7")
	draws := one.Stats().Draws
	w.allowed(one, 1, ask{})
	lines("used again", "8")
	if n := one.Stats().Draws; n != draws {
		t.Errorf("after it was looked at the gateway asked for %d more leases", n-draws)
	}
	w.allowed(one, 100, ask{})
	w.allowed(two, 100, ask{})
	lines("used up", "90")
}

// TestTellGivesNothingBack: a holder that says how it stands goes on with what it has.
func TestTellGivesNothingBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, daily("daily", "100"))
	l := w.gateway(2, nil)
	w.allowed(l, 3, ask{})
	var k store.CounterKey
	for k = range w.opened {
		break
	}
	for range 2 {
		backs, err := l.Tell(context.Background(), []store.CounterKey{k, {CustomerID: "nobody"}})
		if err != nil || len(backs) != 1 || backs[0].Spent != 3 || backs[0].Keep <= 3 || backs[0].Closed {
			t.Fatalf("%+v, %v", backs, err)
		}
	}
}
