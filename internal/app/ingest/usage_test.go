package ingest_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tallystick/tallystick/internal/app/ingest"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
)

func at(s string) time.Time {
	t, err := time.Parse("2006-01-02 15:04:05", s)
	if err != nil {
		panic(err)
	}
	return t
}

// lines is a usage as text, in UTC.
func lines(u ingest.Usage) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", u.Value)
	for _, w := range u.Windows {
		fmt.Fprintf(&b, "%s %s %s\n", period.Format(w.Start), period.Format(w.End), w.Value)
	}
	return b.String()
}

func TestUsage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if err := w.journal.Cut(t.Context(), "cus_acme", w.people.subscriptions[0].Start); err != nil {
		t.Fatal(err)
	}
	w.report(t,
		request("before", "acme", at("2026-02-14 10:37:11")),
		request("first", "acme", at("2026-02-14 10:37:12")),
		request("last of first", "acme", at("2026-03-13 22:59:59")),
		request("second period", "acme", at("2026-03-13 23:00:00")), // midnight in Paris
		request("eve of DST", "acme", at("2026-03-28 22:59:59")),
		request("DST 1", "acme", at("2026-03-28 23:00:00")),
		request("DST 2", "acme", at("2026-03-29 21:59:59")),
		request("after DST", "acme", at("2026-03-29 22:00:00")),
		request("other's", "bolt", at("2026-03-29 22:00:00")),
	)
	for _, tc := range []struct {
		name   string
		in     period.Interval
		window period.Window
		want   string
	}{
		{"the current billing period by days", period.Interval{}, 0, `5
2026-03-13T23:00:00Z 2026-03-14T23:00:00Z 1
2026-03-27T23:00:00Z 2026-03-28T23:00:00Z 1
2026-03-28T23:00:00Z 2026-03-29T22:00:00Z 2
2026-03-29T22:00:00Z 2026-03-30T22:00:00Z 1
`},
		{"from the start of the subscription, by billing period", period.Interval{Start: at("2026-02-14 10:37:12")}, period.BillingPeriod, `7
2026-02-14T10:37:12Z 2026-03-13T23:00:00Z 2
2026-03-13T23:00:00Z 2026-04-13T22:00:00Z 5
`},
		{"up to the start", period.Interval{End: at("2026-02-14 10:37:12")}, period.Day, `1
2026-02-13T23:00:00Z 2026-02-14T10:37:12Z 1
`},
		{"clipped on both sides", period.Interval{Start: at("2026-03-29 12:00:00"), End: at("2026-03-29 22:15:00")}, period.Month, `2
2026-03-29T12:00:00Z 2026-03-29T22:15:00Z 2
`},
		{"hours", period.Interval{Start: at("2026-03-29 00:00:00")}, period.Hour, `2
2026-03-29T21:00:00Z 2026-03-29T22:00:00Z 1
2026-03-29T22:00:00Z 2026-03-29T23:00:00Z 1
`},
		{"nothing", period.Interval{Start: at("2026-01-01 00:00:00"), End: at("2026-01-02 00:00:00")}, 0, "0\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			u, err := w.Usage(t.Context(), "acme", "api_calls", tc.in, tc.window)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tc.want, lines(u)); d != "" {
				t.Error(d)
			}
			if u.Customer.ID != "cus_acme" || u.Meter != "api_calls" || u.Position == 0 {
				t.Errorf("usage of %+v", u)
			}
		})
	}
	u, err := w.Usage(t.Context(), "acme", "api_calls", period.Interval{}, 0)
	if want := (period.Interval{Start: at("2026-03-13 23:00:00"), End: at("2026-04-13 22:00:00")}); err != nil || u.In != want {
		t.Errorf("the current period is %v, want %v (%v)", u.In, want, err)
	}
	if u, err = w.Usage(t.Context(), "bolt", "api_calls", period.Interval{}, 0); err != nil || u.In != (period.Interval{}) || u.Value.String() != "1" {
		t.Errorf("without subscription: %+v, %v", u, err)
	}
	w.people.subscriptions[0].End = at("2026-04-01 09:00:00")
	if u, err = w.Usage(t.Context(), "acme", "api_calls", period.Interval{}, 0); err == nil && !u.In.End.Equal(at("2026-04-01 09:00:00")) {
		t.Errorf("a subscription that ends: %v", u.In)
	}
}

func TestUsageRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.report(t, request("a", "acme", at("2026-01-10 00:00:00")))
	usage := func(customer, meter string, in period.Interval, window period.Window) error {
		_, err := w.Usage(t.Context(), customer, meter, in, window)
		return err
	}
	if err := usage("nobody", "api_calls", period.Interval{}, 0); !errors.Is(err, account.ErrNotFound) || !strings.Contains(err.Error(), "tally customers list") {
		t.Errorf("unknown customer: %v", err)
	}
	if err := usage("acme", "api_cals", period.Interval{}, 0); !errors.Is(err, account.ErrNotFound) || !strings.Contains(err.Error(), `did you mean "api_calls"`) {
		t.Errorf("misspelt meter: %v", err)
	}
	if err := usage("acme", "elephants", period.Interval{}, 0); !errors.Is(err, account.ErrNotFound) || !strings.Contains(err.Error(), "completions") {
		t.Errorf("unknown meter: %v", err)
	}
	for name, tc := range map[string]struct {
		in      period.Interval
		window  period.Window
		pointer string
		says    string
	}{
		"from off the grid": {period.Interval{Start: at("2026-03-01 00:14:59")}, 0, "/from", "2026-03-01T00:00:00Z and 2026-03-01T00:15:00Z"},
		"to off the grid":   {period.Interval{End: at("2026-03-01 00:00:01")}, 0, "/to", "2026-03-01T00:00:00Z and 2026-03-01T00:15:00Z"},
		"both":              {period.Interval{Start: at("2026-03-01 00:00:01"), End: at("2026-03-02 00:00:01")}, 0, "/from", "2026-03-01"},
		"backwards":         {period.Interval{Start: at("2026-03-02 00:00:00"), End: at("2026-03-01 00:00:00")}, 0, "/to", "2026-03-02"},
		"empty":             {period.Interval{Start: at("2026-03-02 00:00:00"), End: at("2026-03-02 00:00:00")}, 0, "/to", "2026-03-02"},
		"outside of billing periods": {
			period.Interval{Start: at("2026-01-01 00:00:00")}, period.BillingPeriod, "/window", "within the subscription",
		},
	} {
		err := usage("acme", "api_calls", tc.in, tc.window)
		var invalid *ingest.Invalid
		if !errors.As(err, &invalid) || !errors.Is(err, account.ErrInvalid) || invalid.Pointer != tc.pointer || !strings.Contains(invalid.Fix, tc.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.flush = errors.New("stuck")
	if err := usage("acme", "api_calls", period.Interval{}, 0); !errors.Is(err, w.flush) {
		t.Errorf("flush fails: %v", err)
	}
	w.flush = nil
	w.people.catalog = compiled(t, []catalog.Meter{{Key: "other", Event: "other", Aggregation: 1}})
	if err := usage("acme", "api_calls", period.Interval{Start: at("2026-01-01 00:00:00")}, 0); err != nil {
		t.Errorf("a meter that the catalog has no more: %v", err)
	}
}

// TestUsageAgainstAModel compares with adding every event up one by one.
func TestUsageAgainstAModel(t *testing.T) {
	t.Parallel()
	run := 0
	w := newWorld(t)
	rapid.Check(t, func(r *rapid.T) {
		run++
		zone := period.MustZone(rapid.SampledFrom([]string{"UTC", "Europe/Paris", "Asia/Kathmandu", "America/St_Johns"}).Draw(r, "zone"))
		customer := account.Customer{ID: fmt.Sprintf("cus_%d", run), Key: fmt.Sprintf("customer-%d", run), Zone: zone}
		w.people.customers = []account.Customer{customer}
		window := rapid.SampledFrom([]period.Window{period.Hour, period.Day, period.Week, period.Month}).Draw(r, "window")
		grid := rapid.Custom(func(r *rapid.T) time.Time {
			return at("2026-03-20 00:00:00").Add(time.Duration(rapid.IntRange(0, 96*10).Draw(r, "quarter")) * period.BucketLength)
		})
		in := period.Interval{Start: grid.Draw(r, "from"), End: grid.Draw(r, "to")}
		if !in.Start.Before(in.End) {
			in.Start, in.End = in.End, in.Start.Add(period.BucketLength)
		}
		var total money.Decimal
		want := map[time.Time]money.Decimal{}
		for i := range rapid.IntRange(0, 20).Draw(r, "events") {
			e := completion(fmt.Sprintf("%d/%d", run, i), customer.Key, "")
			e.Time = grid.Draw(r, "time").Add(time.Duration(rapid.IntRange(-1, 1).Draw(r, "off")) * time.Second)
			value := money.FromScaled(rapid.Int64Range(0, 1000).Draw(r, "value"), 2)
			e.Data = fmt.Appendf(nil, `{"tokens":%s}`, value)
			if out := w.report(t, e); out[0].Status != "accepted" {
				r.Fatalf("%+v", out)
			}
			if !in.Contains(e.Time) {
				continue
			}
			whole, _ := window.Containing(e.Time, zone, period.Anchor{})
			start := whole.Start
			if start.Before(in.Start) {
				start = in.Start
			}
			var err1, err2 error
			want[start], err1 = want[start].Add(value)
			total, err2 = total.Add(value)
			if err := errors.Join(err1, err2); err != nil {
				r.Fatal(err)
			}
		}
		u, err := w.Usage(t.Context(), customer.Key, "tokens", in, window)
		if err != nil {
			r.Fatal(err)
		}
		if u.Value.Cmp(total) != 0 || len(u.Windows) != len(want) {
			r.Fatalf("usage %s in %d windows, want %s in %d", u.Value, len(u.Windows), total, len(want))
		}
		for _, x := range u.Windows {
			if x.Value.Cmp(want[x.Start]) != 0 {
				r.Fatalf("%v: %s, want %s", x.Interval, x.Value, want[x.Start])
			}
		}
		if !slices.IsSortedFunc(u.Windows, func(a, b ingest.UsageWindow) int { return a.Start.Compare(b.Start) }) {
			r.Fatal("windows are not in order")
		}
	})
}
