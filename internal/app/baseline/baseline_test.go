package baseline_test

import (
	"context"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/baseline"
	"github.com/tallystick/tallystick/internal/app/notify"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
)

// world is one customer in Paris whose usage by hour is a map.
type world struct {
	now      time.Time
	cat      *catalog.Compiled
	cust     account.Customer
	sub      account.Subscription
	hours    map[time.Time]string
	asked    int
	abnormal bool
	told     []notify.Message
}

func (w *world) Current() *catalog.Compiled    { return w.cat }
func (w *world) Customers() []account.Customer { return []account.Customer{w.cust} }
func (w *world) ActiveSubscription(string, time.Time) (account.Subscription, bool) {
	return w.sub, true
}

func newWorld(t *testing.T) (*world, *baseline.Service) {
	t.Helper()
	cat, err := catalog.Compile(1, &catalog.Catalog{
		Meters: []catalog.Meter{{Key: "api_calls", Event: "request", Aggregation: meter.Count}, {Key: "other", Event: "x", Aggregation: meter.Count}},
		Plans: []catalog.Plan{{
			Key: "free", Currency: money.MustCurrency("USD"), Baseline: catalog.Baseline{Factor: 5},
			Limits: []catalog.Limit{{Key: "daily", Meter: "api_calls", Quota: new(money.FromInt(1e6)), Window: period.Day}},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	// Monday noon in Paris, three weeks after the clocks went forward on 29 March.
	w := &world{
		now: time.Date(2026, 4, 13, 10, 30, 0, 0, time.UTC), cat: cat, hours: map[time.Time]string{},
		cust: account.Customer{ID: "cus_1", Key: "acme", Zone: period.MustZone("Europe/Paris")},
		sub:  account.Subscription{ID: "sub_1", CustomerID: "cus_1", Plan: "free", Start: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)},
	}
	s, err := baseline.New(baseline.Config{
		Directory: w, Now: func() time.Time { return w.now },
		Usage: func(_ context.Context, _, meterKey string, in period.Interval) (money.Decimal, error) {
			w.asked++
			if n := w.hours[in.Start]; n != "" && meterKey == "api_calls" && in.End.Sub(in.Start) == time.Hour {
				return money.MustDecimal(n), nil
			}
			return money.Decimal{}, nil
		},
		Flag: func(_ string, abnormal bool) { w.abnormal = abnormal },
		Tell: func(m notify.Message) { w.told = append(w.told, m) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return w, s
}

func (w *world) tick(t *testing.T, s *baseline.Service) {
	t.Helper()
	if more, err := s.Tick(t.Context()); err != nil || more {
		t.Fatal(more, err)
	}
}

func TestAbnormalUseIsFlaggedUntilTheHourIsOver(t *testing.T) {
	t.Parallel()
	w, s := newWorld(t)
	hour := func(month time.Month, day, h int) time.Time { return time.Date(2026, month, day, h, 0, 0, 0, time.UTC) }
	// The same hour of Paris is an hour later in UTC before the clocks changed.
	w.hours[hour(4, 6, 10)], w.hours[hour(3, 30, 10)], w.hours[hour(3, 23, 11)], w.hours[hour(3, 16, 11)] = "100", "90", "110", "5000"
	w.hours[hour(4, 13, 10)] = "550" // usual is 110, the higher one in the middle
	w.tick(t, s)
	if w.abnormal || len(w.told) != 0 {
		t.Fatalf("550 of 5 times 110 is abnormal: %+v", w.told)
	}
	w.hours[hour(4, 13, 10)] = "551"
	asked := w.asked
	w.tick(t, s)
	w.tick(t, s)
	if !w.abnormal || len(w.told) != 1 || w.told[0].Kind != notify.UsageAbnormal || w.told[0].Usual.String() != "110" || s.Abnormal()["cus_1"] != "api_calls" {
		t.Fatalf("%v %+v", w.abnormal, w.told)
	}
	if w.asked-asked != 2 {
		t.Errorf("%d questions for two looks at an hour that is known", w.asked-asked)
	}
	w.now = hour(4, 13, 11)
	w.tick(t, s)
	if w.abnormal || len(w.told) != 2 || w.told[1].Kind != notify.UsageNormal {
		t.Errorf("%v %+v", w.abnormal, w.told)
	}
}

func TestLittleUseAndNewCustomersAreNeverAbnormal(t *testing.T) {
	t.Parallel()
	w, s := newWorld(t)
	w.hours[time.Date(2026, 4, 13, 10, 0, 0, 0, time.UTC)] = "100"
	w.tick(t, s) // nothing was usual, but this is little
	w.hours[time.Date(2026, 4, 13, 10, 0, 0, 0, time.UTC)] = "100000"
	w.sub.Start = time.Date(2026, 4, 5, 0, 0, 0, 0, time.UTC)
	w2, s2 := newWorld(t)
	w2.sub.Start, w2.hours = w.sub.Start, w.hours
	w2.tick(t, s2)
	if w.abnormal || w2.abnormal {
		t.Error("flagged")
	}
}
