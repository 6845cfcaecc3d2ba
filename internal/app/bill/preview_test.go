package bill_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallystick/tallystick/internal/app/bill"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/invoice"
)

func TestPreview(t *testing.T) {
	t.Parallel()
	w := newWorld(t, t.TempDir(), date(2026, 1, 1))
	sub := w.subscribe("acme", "pro", "UTC", date(2026, 1, 1), 1)
	w.tick()
	show := func() invoice.Invoice {
		t.Helper()
		a, err := w.bill.Preview(t.Context(), "acme")
		if err != nil {
			t.Fatal(err)
		}
		b, err := w.bill.Preview(t.Context(), sub.CustomerID)
		if err != nil || encode(t, []invoice.Invoice{a}) != encode(t, []invoice.Invoice{b}) {
			t.Fatalf("two previews differ, %v", err)
		}
		return a
	}
	p := show()
	if p.Status != invoice.Preview || p.Number != 0 || len(p.Lines) != 2 || p.Total.String() != "20.00" || !p.Lines[0].Quantity.IsZero() {
		t.Errorf("without usage: %+v", p)
	}
	w.report(sub.CustomerID, "e1", w.now, 12_345)
	p = show()
	if p.Total.String() != "20.94" || p.Lines[0].Exact.String() != "0.938" || !p.Lines[1].Period.Start.Equal(date(2026, 2, 1)) {
		t.Errorf("with usage: %+v", p)
	}
	w.now = date(2026, 2, 1)
	w.tick()
	if final := w.invoices()[1]; final.ID != p.ID || final.Lines[0].ID != p.Lines[0].ID || final.Total != p.Total {
		t.Errorf("the invoice %+v is not what the preview %+v said", final, p)
	}
}

func TestPreviewOfNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, t.TempDir(), date(2026, 1, 1))
	if _, err := w.bill.PeriodEnd(t.Context()); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("PeriodEnd without subscriptions: %v", err)
	}
	w.subscribe("later", "pro", "UTC", date(2026, 1, 2), 2)
	for _, ref := range []string{"nobody", "later"} {
		if _, err := w.bill.Preview(t.Context(), ref); !errors.Is(err, account.ErrNotFound) {
			t.Errorf("preview of %s: %v", ref, err)
		}
	}
	s, err := w.bill.Standing(t.Context(), "later")
	if err != nil || s.HasPlan || s.Customer.Key != "later" {
		t.Errorf("standing without a subscription: %+v, %v", s, err)
	}
}

func TestPeriodEndIsWhereThePeriodsClose(t *testing.T) {
	t.Parallel()
	w := newWorld(t, t.TempDir(), date(2026, 1, 20))
	w.restart(func(c *bill.Config) { c.Grace = 2 * time.Hour })
	w.subscribe("acme", "pro", "Europe/Berlin", date(2026, 1, 10), 10)
	w.subscribe("bolt", "arrears", "UTC", date(2026, 1, 5), 5)
	w.tick()
	end, err := w.bill.PeriodEnd(t.Context())
	if err != nil || !end.Equal(date(2026, 2, 9).Add(25*time.Hour)) {
		t.Fatalf("PeriodEnd = %v, %v", end, err)
	}
	w.now = end
	w.tick()
	if n := len(w.invoices()); n != 3 {
		t.Errorf("%d invoices, want 3", n)
	}
}

func TestStanding(t *testing.T) {
	t.Parallel()
	w := newWorld(t, t.TempDir(), date(2026, 3, 28).Add(12*time.Hour))
	start := date(2026, 3, 27).Add(10*time.Hour + 37*time.Minute)
	acme := w.subscribe("acme", "pro", "Europe/Berlin", start, 27)
	bolt := w.subscribe("bolt", "free", "UTC", start, 27)
	zone := w.people.customers[0].Zone
	w.report(acme.CustomerID, "e1", start, 1)
	w.report(acme.CustomerID, "e2", zone.StartOfDay(2026, 3, 28), 2)
	w.report(acme.CustomerID, "e3", zone.StartOfDay(2026, 3, 29).Add(-time.Microsecond), 4)
	w.report(acme.CustomerID, "e4", zone.StartOfDay(2026, 3, 29), 8) // 23 hours long
	w.report(bolt.CustomerID, "e5", start, 16)
	w.now = zone.StartOfDay(2026, 3, 30).Add(-time.Microsecond)
	s, err := w.bill.Standing(t.Context(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	type day struct{ Day, Value string }
	days := func(list []bill.DayUsage) (out []day) {
		for _, d := range list {
			out = append(out, day{d.Day.UTC().Format(time.RFC3339), d.Value.String()})
		}
		return out
	}
	want := []day{{"2026-03-26T23:00:00Z", "1"}, {"2026-03-27T23:00:00Z", "6"}, {"2026-03-28T23:00:00Z", "8"}}
	if diff := cmp.Diff(want, days(s.Daily)); diff != "" {
		t.Errorf("days (-want +got):\n%s", diff)
	}
	if !s.HasPlan || s.Meter != calls || s.Subscription.ID != acme.ID || !s.Period.Start.Equal(start) || s.Preview.Lines[0].Quantity.String() != "15" {
		t.Errorf("standing: %+v", s)
	}
	s, err = w.bill.Standing(t.Context(), "bolt")
	if err != nil || s.Meter != calls || len(s.Preview.Lines) != 0 {
		t.Fatalf("standing of the free plan: %+v, %v", s, err)
	}
	if diff := cmp.Diff([]day{{"2026-03-27T00:00:00Z", "16"}, {"2026-03-28T00:00:00Z", "0"}, {"2026-03-29T00:00:00Z", "0"}}, days(s.Daily)); diff != "" {
		t.Errorf("days of the free plan (-want +got):\n%s", diff)
	}
}

func TestAccrued(t *testing.T) {
	t.Parallel()
	w := newWorld(t, t.TempDir(), date(2026, 1, 1))
	if got, err := w.bill.Accrued(t.Context()); err != nil || len(got) != 0 {
		t.Errorf("accrued of nobody: %v, %v", got, err)
	}
	for _, plan := range []string{"twice", "pro", "arrears", "free"} {
		sub := w.subscribe(plan, plan, "UTC", date(2026, 1, 1), 1)
		w.report(sub.CustomerID, plan, date(2026, 1, 1), 10_001)
	}
	got, err := w.bill.Accrued(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var text []string
	for _, a := range got {
		text = append(text, a.Currency+" "+a.Open.String())
	}
	if diff := cmp.Diff([]string{"EUR 10.0014", "USD 0.0008"}, text); diff != "" {
		t.Errorf("accrued (-want +got):\n%s", diff)
	}
}
