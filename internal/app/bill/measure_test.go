package bill_test

import (
	"context"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tallystick/tallystick/internal/app/bill"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/price"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file"
)

// notAdding are the aggregations that do not add up; each has a meter of its name.
func notAdding() []meter.Aggregation {
	return []meter.Aggregation{meter.Min, meter.Max, meter.Latest, meter.Unique, meter.TimeWeighted}
}

// levels is a catalog with a meter and a price of each of them, and one that is not priced.
func levels() *catalog.Catalog {
	c := prices()
	plan := catalog.Plan{Key: "levels", Currency: money.MustCurrency("USD")}
	ten := money.MustDecimal("10")
	for _, a := range append(notAdding(), meter.Max) {
		key := a.String()
		if _, taken := c.Meter(key); taken {
			key = "unpriced"
		} else {
			plan.Prices = append(plan.Prices, price.Price{
				Key: key, Meter: key, Model: price.Graduated, Charge: price.InArrears,
				Tiers: []price.Tier{{UpTo: &ten, UnitAmount: money.MustDecimal("0.000000000000000001")}, {UnitAmount: money.MustDecimal("2")}},
			})
		}
		c.Meters = append(c.Meters, catalog.Meter{Key: key, Event: "level", Aggregation: a, Value: "data.value"})
	}
	c.Plans = append(c.Plans, plan)
	return c
}

func newLevels(t tb, dir string) *world {
	w := newWorld(t, dir, date(2026, 1, 1))
	w.people.catalogs[1] = &catalog.Compiled{Version: 1, Catalog: levels()}
	return w
}

// level reports one event that all of these meters read.
func (w *world) level(customerID, id string, at time.Time, value int64, distinct string) {
	w.tb.Helper()
	e := store.Entry{Event: meter.Event{Source: "api", ID: id, Type: "level", Subject: customerID, Time: at}, Origin: meter.Reported}
	for _, m := range w.people.Current().Meters {
		if m.Event != "level" {
			continue
		}
		r := meter.Resolution{CustomerID: customerID, Meter: m.Key, CatalogVersion: 1, Value: money.FromInt(value)}
		if m.Aggregation == meter.Unique {
			r.Value, r.Distinct = money.FromInt(1), distinct
		}
		e.Resolutions = append(e.Resolutions, r)
	}
	w.append(store.Batch{Producer: "api/tok_1", Entries: []store.Entry{e}})
}

func (w *world) void(ids ...string) {
	w.tb.Helper()
	r := store.Revisions{Actor: "test", Reason: "wrong", At: w.now}
	for _, id := range ids {
		source, id, _ := strings.Cut(id, " ")
		r.List = append(r.List, store.Revision{Source: source, ID: id, Kind: store.Void, If: store.AnyRevision})
	}
	if _, err := w.journal.Revise(context.Background(), r); err != nil {
		w.tb.Fatalf("Revise: %v", err)
	}
}

func quantities(inv invoice.Invoice) map[string]string {
	out := map[string]string{}
	for _, l := range inv.Lines {
		if l.Kind == invoice.UsageLine && l.Period.Start.Equal(inv.Period.Start) {
			out[l.Meter] = l.Quantity.String()
		}
	}
	return out
}

func apartOf(b bill.Books) []string {
	var out []string
	for _, m := range b.Apart {
		rated := m.Rated.String()
		if !m.Priced {
			rated = "no price"
		}
		out = append(out, fmt.Sprintf("%s %s: metered %s rated %s late %s difference %s", m.Period.Start.Format(time.DateOnly), m.Meter, m.Metered, rated, m.Late, m.Difference))
	}
	return out
}

func TestWhatDoesNotAddUpIsMeasured(t *testing.T) {
	t.Parallel()
	w := newLevels(t, t.TempDir())
	sub := w.subscribe("acme", "levels", "UTC", date(2026, 1, 1), 1)
	id := sub.CustomerID
	w.level(id, "a", date(2026, 1, 1), 10, "ann")
	w.level(id, "b", date(2026, 1, 16).Add(12*time.Hour), 20, "bob") // the middle of January
	w.level(id, "c", date(2026, 1, 16).Add(12*time.Hour), 20, "ann")
	w.now = date(2026, 2, 1)
	w.tick()
	inv := w.invoices()[0]
	want := map[string]string{"min": "10", "max": "20", "latest": "20", "unique": "2", "time_weighted": "15"}
	if diff := cmp.Diff(want, quantities(inv)); diff != "" {
		t.Errorf("January (-want +got):\n%s", diff)
	}
	before := encode(t, w.invoices())

	w.level(id, "late", date(2026, 1, 20), 50, "eve")
	if diff := cmp.Diff(before, encode(t, w.invoices())); diff != "" {
		t.Errorf("a finalized invoice changed:\n%s", diff)
	}
	w.level(id, "d", date(2026, 2, 15), 8, "ann") // February: 14 of 28 days at 50, 14 at 8
	w.now = date(2026, 2, 20)
	preview, err := w.bill.Preview(t.Context(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	want = map[string]string{"min": "8", "max": "8", "latest": "8", "unique": "1", "time_weighted": "29"}
	if diff := cmp.Diff(want, quantities(preview)); diff != "" {
		t.Errorf("February (-want +got):\n%s", diff)
	}
	rows := []string{
		"2026-02-01 latest: metered 8 rated 8 late 0 difference 0",
		"2026-02-01 max: metered 8 rated 8 late 0 difference 0",
		"2026-02-01 min: metered 8 rated 8 late 0 difference 0",
		"2026-02-01 time_weighted: metered 29 rated 29 late 0 difference 0",
		"2026-02-01 unique: metered 1 rated 1 late 0 difference 0",
		"2026-02-01 unpriced: metered 8 rated no price late 0 difference 0",
		"2026-01-01 latest: metered 20 rated 20 late 30 difference 0",
		"2026-01-01 max: metered 20 rated 20 late 30 difference 0",
		"2026-01-01 min: metered 10 rated 10 late 0 difference 0",
	}
	got := apartOf(w.balanced())
	if len(got) != 12 {
		t.Fatalf("apart: %q", got)
	}
	if diff := cmp.Diff(rows, got[:9]); diff != "" {
		t.Errorf("apart (-want +got):\n%s", diff)
	}
	if !strings.HasPrefix(got[10], "2026-01-01 unique: metered 2 rated 2 late 1 difference 0") {
		t.Errorf("apart: %s", got[10])
	}
	trace, err := w.bill.Trace(t.Context(), inv.ID, "2", "", 0)
	if err != nil || trace.Line.Meter != "max" || trace.Late.String() != "30" || len(trace.Windows) != 0 || len(trace.Events) != 3 {
		t.Errorf("trace: %+v, %v", trace, err)
	}
	if s, err := w.bill.Standing(t.Context(), "acme"); err != nil || s.Meter != "min" || len(s.Daily) != 20 || s.Daily[14].Value.String() != "8" || !s.Daily[13].Value.IsZero() {
		t.Errorf("standing: %+v, %v", s.Daily, err)
	}
}

// TestBooksShowAnAlteredMeasure alters a reading in the journal and a line of the invoice.
func TestBooksShowAnAlteredMeasure(t *testing.T) {
	t.Parallel()
	w := newLevels(t, t.TempDir())
	sub := w.subscribe("acme", "levels", "UTC", date(2026, 1, 1), 1)
	w.level(sub.CustomerID, "a", date(2026, 1, 2), 10, "ann")
	w.now = date(2026, 2, 1)
	w.tick()
	alterInvoice(t, w, w.invoices()[0].ID, func(inv *invoice.Invoice) { inv.Lines[1].Quantity = money.FromInt(7) })
	b := w.books()
	if got := apartOf(b); b.Difference.String() != "3" || !strings.Contains(strings.Join(got, "\n"), "2026-01-01 max: metered 10 rated 7 late 0 difference 3") {
		t.Errorf("difference %s: %q", b.Difference, got)
	}
}

// TestBooksShowAnAlteredVoid: the reading of an admitted event that was voided is altered, so voided is not what
// enforcement admitted.
func TestBooksShowAnAlteredVoid(t *testing.T) {
	t.Parallel()
	w := altered(t)
	w.void("gateway/1 g1", "api e2")
	want := []string{
		"2026-02-01 acme api_calls: admitted 10 reported 5 voided 5 metered 10 rated 10 unpriced 0 late 0 difference 0",
		"2026-01-01 acme api_calls: admitted 100 reported 50 voided 100 metered 50 rated 150 unpriced -100 late -100 difference 0",
	}
	if diff := cmp.Diff(want, rowsOf(w.balanced())); diff != "" {
		t.Fatalf("books (-want +got):\n%s", diff)
	}
	w.rewriteJournal(func(r *file.Record) bool {
		if r.Event.ID != "g1" {
			return false
		}
		r.Resolutions[0].Value = money.FromInt(103)
		return true
	})
	want[1] = "2026-01-01 acme api_calls: admitted 100 reported 50 voided 103 metered 50 rated 150 unpriced -103 late -103 difference 6"
	if diff := cmp.Diff(want, rowsOf(w.books())); diff != "" {
		t.Errorf("books (-want +got):\n%s", diff)
	}
}

// told is one event of the naive model.
type told struct {
	at       time.Time
	value    int64
	distinct string
	voided   bool
}

// naive is what a meter measures of the events in an interval, the slow and obvious way.
func naive(kind meter.Aggregation, events []told, start, end time.Time) *big.Rat {
	out, seen := new(big.Rat), map[string]bool{}
	first := true
	var latest time.Time
	for _, e := range events {
		if e.voided || e.at.Before(start) || !e.at.Before(end) {
			continue
		}
		value := big.NewRat(e.value, 1)
		seen[e.distinct] = true
		switch {
		case kind == meter.Min && (first || value.Cmp(out) < 0), kind == meter.Max && (first || value.Cmp(out) > 0):
			out = value
		case kind == meter.Latest && (first || !e.at.Before(latest)):
			out, latest = value, e.at
		}
		first = false
	}
	if kind == meter.Unique {
		return big.NewRat(int64(len(seen)), 1)
	}
	if kind == meter.TimeWeighted {
		// The level at each minute, by looking for the newest event up to it: all times are whole minutes.
		sum := new(big.Int)
		for at := start; at.Before(end); at = at.Add(time.Minute) {
			level, from := int64(0), time.Time{}
			for _, e := range events {
				if !e.voided && !e.at.After(at) && !e.at.Before(from) {
					level, from = e.value, e.at
				}
			}
			sum.Add(sum, big.NewInt(level))
		}
		return new(big.Rat).SetFrac(sum, big.NewInt(int64(end.Sub(start)/time.Minute)))
	}
	return out
}

// TestMeasuresAgainstANaiveModel reports, is late and voids at random over two months. Each invoice has what the model
// measures of what was known at its close, and keeps it; the books agree at every step.
func TestMeasuresAgainstANaiveModel(t *testing.T) {
	t.Parallel()
	w := newLevels(t, t.TempDir())
	smallest, ok := new(big.Rat).SetString("0.000000000000000001")
	if !ok {
		t.Fatal("no number")
	}
	rapid.Check(t, func(rt *rapid.T) {
		w.tb, w.now = rt, date(2026, 1, 1)
		key := fmt.Sprintf("c%d", len(w.people.customers))
		sub := w.subscribe(key, "levels", "UTC", date(2026, 1, 1), 1)
		w.only = sub.CustomerID
		var events []told
		for month := range 2 {
			start, end := date(2026, time.Month(1+month), 1), date(2026, time.Month(2+month), 1)
			for range rapid.IntRange(0, 5).Draw(rt, "events") {
				if n := len(events); n > 0 && rapid.IntRange(0, 3).Draw(rt, "void") == 0 {
					i := rapid.IntRange(0, n-1).Draw(rt, "which")
					events[i].voided = true
					w.void(fmt.Sprintf("api %s-%d", key, i))
				}
				e := told{
					at:       date(2026, 1, 1).Add(time.Duration(rapid.IntRange(0, int(end.Sub(date(2026, 1, 1))/time.Hour)-1).Draw(rt, "hour")) * time.Hour),
					value:    rapid.Int64Range(0, 30).Draw(rt, "value"),
					distinct: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "distinct"),
				}
				w.level(sub.CustomerID, fmt.Sprintf("%s-%d", key, len(events)), e.at, e.value, e.distinct)
				events = append(events, e)
			}
			w.balanced()
			w.now = end
			w.tick()
			w.balanced()
			checkMeasures(rt, w, sub, events, start, end, smallest)
		}
	})
}

func checkMeasures(rt *rapid.T, w *world, sub account.Subscription, events []told, start, end time.Time, smallest *big.Rat) {
	list, err := w.bill.Invoices(context.Background(), store.Query{CustomerID: sub.CustomerID, Limit: 1})
	if err != nil {
		rt.Fatal(err)
	}
	billed := map[string]string{} // nothing measured, no line
	if len(list) == 1 && list[0].Period.Start.Equal(start) {
		billed = quantities(list[0])
	}
	for _, kind := range notAdding() {
		got := new(big.Rat)
		if text, ok := billed[kind.String()]; ok {
			got.SetString(text)
		}
		want := naive(kind, events, start, end)
		if off := new(big.Rat).Sub(got, want); off.Abs(off).Cmp(smallest) > 0 {
			rt.Fatalf("%s of %s: %s, the model says %s", kind, start.Format(time.DateOnly), got.FloatString(20), want.FloatString(20))
		}
	}
}

// TestVoidsBalance takes usage away again at random, before closes and after them, from gateways and from outside.
func TestVoidsBalance(t *testing.T) {
	t.Parallel()
	w := newWorld(t, t.TempDir(), date(2026, 1, 1))
	rapid.Check(t, func(rt *rapid.T) {
		w.tb, w.now = rt, date(2026, 1, 1)
		key := fmt.Sprintf("v%d", len(w.people.customers))
		sub := w.subscribe(key, "pro", "UTC", date(2026, 1, 1), 1)
		w.only = sub.CustomerID
		var refs []string
		for n := range rapid.IntRange(1, 12).Draw(rt, "steps") {
			id, at, value := fmt.Sprintf("%s-%d", key, n), w.now.Add(-time.Hour*time.Duration(rapid.IntRange(0, 2000).Draw(rt, "ago"))), rapid.Int64Range(0, 9000).Draw(rt, "value")
			switch rapid.IntRange(0, 3).Draw(rt, "step") {
			case 0:
				w.admit(sub.CustomerID, id, w.now, value)
				refs = append(refs, "gateway/1 "+id)
			case 1:
				w.report(sub.CustomerID, id, at, value)
				refs = append(refs, "api "+id)
			case 2:
				if len(refs) > 0 {
					w.void(rapid.SampledFrom(refs).Draw(rt, "ref"))
				}
			default:
				w.now = w.now.Add(20 * 24 * time.Hour)
				w.tick()
			}
			w.balanced()
		}
	})
}
