package usage_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallystick/tallystick/internal/app/usage"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file"
)

func TestWindowsOfOneCustomer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if err := w.journal.Cut(t.Context(), "cus_acme", w.people.subscriptions[0].Start); err != nil {
		t.Fatal(err)
	}
	for _, when := range []string{
		"2026-02-14 10:37:11", // before the subscription
		"2026-02-14 10:37:12",
		"2026-03-13 22:59:59", // the last of the first period
		"2026-03-13 23:00:00", // midnight in Paris
		"2026-03-28 22:59:59", // the eve of DST
		"2026-03-28 23:00:00", "2026-03-29 21:59:59",
		"2026-03-29 22:00:00", // after it
	} {
		w.put(t, call("cus_acme", when))
	}
	w.put(t, call("cus_bolt", "2026-03-29 22:00:00"))
	for _, tc := range []struct {
		name   string
		in     period.Interval
		window usage.Window
		zone   string
		want   string
	}{
		{"the current billing period by days", period.Interval{}, usage.Day, "", `acme 5 of 5
2026-03-13T23:00:00Z 2026-03-14T23:00:00Z 1
2026-03-27T23:00:00Z 2026-03-28T23:00:00Z 1
2026-03-28T23:00:00Z 2026-03-29T22:00:00Z 2
2026-03-29T22:00:00Z 2026-03-30T22:00:00Z 1
`},
		{"one figure", period.Interval{}, 0, "", "acme 5 of 5\n"},
		{"from the start of the subscription, by billing period", period.Interval{Start: at("2026-02-14 10:37:12")}, usage.BillingPeriod, "", `acme 7 of 7
2026-02-14T10:37:12Z 2026-03-13T23:00:00Z 2
2026-03-13T23:00:00Z 2026-04-13T22:00:00Z 5
`},
		{"up to the start", period.Interval{End: at("2026-02-14 10:37:12")}, usage.Day, "", `acme 1 of 1
2026-02-13T23:00:00Z 2026-02-14T10:37:12Z 1
`},
		{"clipped on both sides", period.Interval{Start: at("2026-03-29 12:00:00"), End: at("2026-03-29 22:15:00")}, usage.Month, "", `acme 2 of 2
2026-03-29T12:00:00Z 2026-03-29T22:15:00Z 2
`},
		{"hours", period.Interval{Start: at("2026-03-29 00:00:00")}, usage.Hour, "", `acme 2 of 2
2026-03-29T21:00:00Z 2026-03-29T22:00:00Z 1
2026-03-29T22:00:00Z 2026-03-29T23:00:00Z 1
`},
		{"a quarter of an hour that is cut is one window", period.Interval{End: at("2026-03-01 00:00:00")}, usage.Quarter, "", `acme 2 of 2
2026-02-14T10:30:00Z 2026-02-14T10:45:00Z 2
`},
		{"days of another zone", period.Interval{Start: at("2026-03-28 12:00:00")}, usage.Day, "Asia/Kathmandu", `acme 4 of 4
2026-03-28T18:15:00Z 2026-03-29T18:15:00Z 2
2026-03-29T18:15:00Z 2026-03-30T18:15:00Z 2
`},
		{"nothing", period.Interval{Start: at("2026-01-01 00:00:00"), End: at("2026-01-02 00:00:00")}, usage.Day, "", "acme 0 of 0\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a, err := w.Ask(t.Context(), usage.Query{Customers: []string{"acme"}, Meter: "api_calls", In: tc.in, Window: tc.window, Zone: tc.zone})
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tc.want, lines(a)); d != "" {
				t.Error(d)
			}
			if a.Meter.Aggregation != meter.Count || a.Position == 0 || a.Lag != 17 || !a.AsOf.Equal(now) || a.Next != "" {
				t.Errorf("answer %+v", a)
			}
		})
	}
	a, err := w.Ask(t.Context(), usage.Query{Customers: []string{"acme"}, Meter: "api_calls"})
	if want := (period.Interval{Start: at("2026-03-13 23:00:00"), End: at("2026-04-13 22:00:00")}); err != nil || a.In != want {
		t.Errorf("the current period is %v, want %v (%v)", a.In, want, err)
	}
	if a, err = w.Ask(t.Context(), usage.Query{Customers: []string{"bolt"}, Meter: "api_calls"}); err != nil || a.In != (period.Interval{}) || lines(a) != "bolt 1 of 1\n" {
		t.Errorf("without subscription: %+v, %v", a, err)
	}
}

func TestSeveralCustomers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put(t,
		call("cus_acme", "2026-03-01 12:00:00"), call("cus_acme", "2026-03-02 12:00:00"), call("cus_bolt", "2026-03-01 12:00:00"),
		call("cus_gone", "2026-03-01 12:00:00"), call("cus_gone", "2026-03-01 13:00:00"), call("cus_gone", "2026-03-01 14:00:00"),
		call("cus_acme", "2026-02-28 23:30:00"), // March in Paris
	)
	for _, tc := range []struct {
		name string
		q    usage.Query
		want string
	}{
		{"all added up, this month", usage.Query{}, " 6 of 6\n"},
		{"all apart, by name", usage.Query{GroupBy: []string{"customer"}}, "acme 2 of 2\nbolt 1 of 1\ncus_gone 3 of 3\n"},
		{"the greatest", usage.Query{GroupBy: []string{"customer"}, Top: 2}, "cus_gone 3 of 3\nacme 2 of 2\n"},
		{"two added up", usage.Query{Customers: []string{"acme", "cus_bolt", "acme"}}, " 3 of 3\n"},
		{"named ones are shown without usage", usage.Query{
			Customers: []string{"acme", "bolt"}, GroupBy: []string{"customer"}, In: period.Interval{Start: at("2026-03-02 00:00:00")},
		}, "acme 1 of 1\nbolt 0 of 0\n"},
		{"by days", usage.Query{GroupBy: []string{"customer"}, Window: usage.Day, Top: 2}, `cus_gone 3 of 3
2026-03-01T00:00:00Z 2026-03-02T00:00:00Z 3
acme 2 of 2
2026-03-01T00:00:00Z 2026-03-02T00:00:00Z 1
2026-03-02T00:00:00Z 2026-03-03T00:00:00Z 1
`},
		{"added up by days", usage.Query{Window: usage.Day}, ` 6 of 6
2026-03-01T00:00:00Z 2026-03-02T00:00:00Z 5
2026-03-02T00:00:00Z 2026-03-03T00:00:00Z 1
`},
		{"a month of a zone", usage.Query{Zone: "Europe/Paris"}, " 7 of 7\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.q.Meter = "api_calls"
			a, err := w.Ask(t.Context(), tc.q)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tc.want, lines(a)); d != "" {
				t.Error(d)
			}
		})
	}
	for _, u := range []use{{meter: "least"}, {meter: "most"}, {meter: "storage"}} {
		u.at = at("2026-03-01 00:00:00")
		for i, c := range []string{"cus_acme", "cus_bolt", "cus_gone"} {
			u.customer, u.value = c, money.FromInt([]int64{5, 3, 7}[i])
			w.put(t, u)
		}
		a, err := w.Ask(t.Context(), usage.Query{Meter: u.meter})
		want := map[string]string{"least": "3", "most": "7", "storage": "15"}[u.meter]
		if err != nil || lines(a) != " "+want+" of 3\n" {
			t.Errorf("%s of all: %v, %v", u.meter, a, err)
		}
	}
	for _, q := range []usage.Query{
		{Meter: "storage", Customers: []string{"acme"}, In: period.Interval{Start: at("2026-06-01 00:00:00")}, Window: usage.Day}, // it is March
		{Meter: "storage", Customers: []string{"dune"}, Window: usage.Day},                                                        // never had any
		{Meter: "storage", Customers: []string{"dune"}, In: period.Interval{End: at("2026-03-01 00:00:00")}},
	} {
		w.people.customers = append(w.people.customers, account.Customer{ID: "cus_dune", Key: "dune"})
		if a, err := w.Ask(t.Context(), q); err != nil || len(a.Items) != 1 || a.Items[0].Value.String() != "0" || a.In.Start.After(a.In.End) {
			t.Errorf("a level that is not there: %+v, %v", a, err)
		}
	}
	q := usage.Query{Meter: "api_calls", GroupBy: []string{"customer"}, Limit: 2}
	a, err := w.Ask(t.Context(), q)
	if err != nil || len(a.Items) != 2 || a.Next == "" {
		t.Fatalf("first page %+v, %v", a, err)
	}
	q.Cursor = a.Next
	if b, err := w.Ask(t.Context(), q); err != nil || lines(b) != "cus_gone 3 of 3\n" || b.Next != "" || b.Position != a.Position {
		t.Errorf("second page %+v, %v", b, err)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put(t, call("cus_acme", "2026-01-10 00:00:00"))
	one := func(q usage.Query) error {
		if q.Meter == "" {
			q.Meter = "api_calls"
		}
		_, err := w.Ask(t.Context(), q)
		return err
	}
	acme := []string{"acme"}
	if err := one(usage.Query{Customers: []string{"nobody"}}); !errors.Is(err, account.ErrNotFound) || !strings.Contains(err.Error(), "tally customers list") {
		t.Errorf("unknown customer: %v", err)
	}
	if err := one(usage.Query{Customers: acme, Meter: "api_cals"}); !errors.Is(err, account.ErrNotFound) || !strings.Contains(err.Error(), `did you mean "api_calls"`) {
		t.Errorf("misspelt meter: %v", err)
	}
	if err := one(usage.Query{Meter: "elephants"}); !errors.Is(err, account.ErrNotFound) || !strings.Contains(err.Error(), "tokens") {
		t.Errorf("unknown meter: %v", err)
	}
	span := func(from, to string) (in period.Interval) {
		if from != "" {
			in.Start = at(from)
		}
		if to != "" {
			in.End = at(to)
		}
		return in
	}
	for name, tc := range map[string]struct {
		q             usage.Query
		pointer, says string
	}{
		"from off the grid": {usage.Query{Customers: acme, In: span("2026-03-01 00:14:59", "")}, "/from", "2026-03-01T00:00:00Z and 2026-03-01T00:15:00Z"},
		"to off the grid":   {usage.Query{Customers: acme, In: span("", "2026-03-01 00:00:01")}, "/to", "2026-03-01T00:00:00Z and 2026-03-01T00:15:00Z"},
		"of all":            {usage.Query{In: span("2026-03-01 00:00:01", "2026-03-02 00:00:01")}, "/from", "2026-03-01"},
		"backwards":         {usage.Query{Customers: acme, In: span("2026-03-02 00:00:00", "2026-03-01 00:00:00")}, "/to", "2026-03-02"},
		"empty":             {usage.Query{Customers: acme, In: span("2026-03-02 00:00:00", "2026-03-02 00:00:00")}, "/to", "2026-03-02"},
		"outside of billing periods": {
			usage.Query{Customers: acme, In: span("2026-01-01 00:00:00", ""), Window: usage.BillingPeriod}, "/window", "within the subscription",
		},
		"billing periods added up":      {usage.Query{Window: usage.BillingPeriod}, "/window", "group_by=customer"},
		"billing periods of a zone":     {usage.Query{Customers: acme, Window: usage.BillingPeriod, Zone: "UTC"}, "/zone", "leave zone out"},
		"no zone":                       {usage.Query{Zone: "Local"}, "/zone", "Europe/Paris"},
		"no dimension":                  {usage.Query{GroupBy: []string{"rout"}}, "/group_by", "did you mean route"},
		"no dimension to filter by":     {usage.Query{Where: []meter.Dimension{{Name: "path"}}}, "/where", "route, status"},
		"a group twice":                 {usage.Query{GroupBy: []string{"route", "route"}}, "/group_by", "second"},
		"two values of one dimension":   {usage.Query{Where: []meter.Dimension{{Name: "route", Value: "a"}, {Name: "route", Value: "b"}}}, "/where", "ask twice"},
		"unique over several customers": {usage.Query{Meter: "users"}, "/group_by", "group_by=customer"},
		"latest over several customers": {usage.Query{Meter: "seats", Customers: []string{"acme", "bolt"}}, "/group_by", "group_by=customer"},
		"too many customers":            {usage.Query{Customers: slices.Repeat([]string{"acme"}, usage.MaxCustomers+1)}, "/customer", "none for all"},
		"too many items":                {usage.Query{Limit: usage.LimitMax + 1}, "/limit", "cursor"},
	} {
		err := one(tc.q)
		var invalid *usage.Invalid
		if !errors.As(err, &invalid) || !errors.Is(err, account.ErrInvalid) || invalid.Pointer != tc.pointer || !strings.Contains(invalid.Fix, tc.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, cursor := range []string{"x", "1", "1.x", ".1", "1.0", "1.-1", "99999.1", "1.1.1"} {
		if err := one(usage.Query{Cursor: cursor}); !errors.Is(err, usage.ErrCursor) {
			t.Errorf("cursor %s: %v", cursor, err)
		}
	}
	w.flush = errors.New("stuck")
	if err := one(usage.Query{}); !errors.Is(err, w.flush) {
		t.Errorf("flush fails: %v", err)
	}
	w.flush = nil
	other, err := catalog.Compile(4, &catalog.Catalog{Meters: []catalog.Meter{{Key: "other", Event: "other", Aggregation: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	w.people.catalog = other
	if a, err := w.Ask(t.Context(), usage.Query{Meter: "api_calls", In: span("2026-01-01 00:00:00", "")}); err != nil || a.Meter.Aggregation != meter.Count || lines(a) != " 1 of 1\n" {
		t.Errorf("a meter that the catalog has no more: %v, %v", a, err)
	}
}

func TestParseWindow(t *testing.T) {
	t.Parallel()
	for i, s := range []string{"", "15m", "hour", "day", "week", "month", "billing_period"} {
		if w, err := usage.ParseWindow(s); err != nil || w != usage.Window(i) {
			t.Errorf("%q is %d (%v), want %d", s, w, err, i)
		}
	}
	var invalid *usage.Invalid
	for _, s := range []string{"fortnight", "quarter", "year"} {
		if _, err := usage.ParseWindow(s); !errors.As(err, &invalid) || invalid.Pointer != "/window" {
			t.Errorf("fortnight: %v", err)
		}
	}
}

// busy is a journal to which something comes after each view.
type busy struct {
	*file.Journal
	views int
	after func()
}

func (j *busy) View(ctx context.Context, read func(store.View) error) error {
	defer j.after()
	j.views++
	return j.Journal.View(ctx, read)
}

// TestAppendsInBetween asks questions that take several views, while events come: the answer is of the first one's position.
func TestAppendsInBetween(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	customers := func(value int64) (uses []use) {
		for i := range 600 {
			for _, m := range []string{"tokens", "most"} {
				uses = append(uses, use{customer: fmt.Sprintf("cus_%03d", i), meter: m, at: at("2026-03-01 12:00:00").AddDate(0, 0, i%3), value: money.FromInt(value)})
			}
		}
		return uses
	}
	w.put(t, customers(1)...)
	j := &busy{Journal: w.journal, after: func() {}}
	s, err := usage.New(usage.Config{Directory: w.people, Journal: j, Now: func() time.Time { return w.now }})
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range []usage.Query{
		{Meter: "tokens"},
		{Meter: "tokens", Window: usage.Day},
		{Meter: "tokens", Window: usage.Hour, GroupBy: []string{"customer"}, Limit: 1000},
		{Meter: "most", Window: usage.Day, GroupBy: []string{"customer", "route"}, Limit: 1000},
	} {
		j.after = func() {}
		want, err := s.Ask(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		value := int64(100)
		j.after = func() {
			if value++; value < 104 {
				w.put(t, customers(value)...)
			}
		}
		j.views = 0
		got, err := s.Ask(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(lines(want), lines(got)); d != "" || got.Position != want.Position || j.views < 3 {
			t.Errorf("%+v in %d views: %s", q, j.views, d)
		}
	}
}
