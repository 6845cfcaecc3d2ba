package bill_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tallystick/tallystick/internal/app/bill"
	"github.com/tallystick/tallystick/internal/core/books"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/store"
)

// TestUsageThatCannotBeRated: one customer's usage costs more than an amount can hold. That customer's row says so; all
// others' books, accruals and invoices go on.
func TestUsageThatCannotBeRated(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	w := newWorld(t, t.TempDir(), date(2026, 1, 1))
	w.restart(func(c *bill.Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	acme := w.subscribe("acme", "pro", "UTC", date(2026, 1, 1), 1)
	mega := w.subscribe("mega", "pro", "UTC", date(2026, 1, 1), 1)
	zoo := w.subscribe("zoo", "arrears", "UTC", date(2026, 1, 1), 1)
	w.tick()
	w.report(acme.CustomerID, "e1", date(2026, 1, 2), 10_001)
	w.report(zoo.CustomerID, "e2", date(2026, 1, 2), 10_002)
	absurd := store.Batch{Producer: "api/tok_1"}
	for i := range 30 {
		absurd.Entries = append(absurd.Entries, entry(mega.CustomerID, fmt.Sprintf("m%d", i), meter.Reported, date(2026, 1, 2), 9e18))
	}
	w.append(absurd)

	const all = "270000000000000000000"
	want := []string{
		"2026-01-01 acme api_calls: admitted 0 reported 10001 metered 10001 rated 10001 unpriced 0 late 0 difference 0",
		"2026-01-01 mega api_calls: admitted 0 reported " + all + " metered " + all + " rated 0 unpriced 0 late 0 difference " + all,
		"2026-01-01 zoo api_calls: admitted 0 reported 10002 metered 10002 rated 10002 unpriced 0 late 0 difference 0",
	}
	check := func() {
		t.Helper()
		b := w.books()
		if diff := cmp.Diff(want, rowsOf(b)); diff != "" {
			t.Errorf("books (-want +got):\n%s", diff)
		}
		for _, r := range b.Rows {
			if mentions(r) != (r.Customer == "mega") {
				t.Errorf("error of %s: %q", r.Customer, r.Error)
			}
		}
		if b.Difference.String() != all {
			t.Errorf("difference %s", b.Difference)
		}
	}
	check()
	got, err := w.bill.Accrued(t.Context())
	if err != nil || len(got) != 1 || got[0].Currency != "USD" || got[0].Open.String() != "0.0012" {
		t.Errorf("accrued: %+v, %v", got, err)
	}
	if s := log.String(); strings.Count(s, "cannot be rated") != 1 || !strings.Contains(s, "customer=mega") {
		t.Errorf("log: %s", s)
	}
	w.now = date(2026, 2, 1)
	for range 2 {
		if _, err := w.bill.Tick(t.Context()); err == nil || !strings.Contains(err.Error(), "mega") || strings.Contains(err.Error(), "acme") {
			t.Errorf("Tick: %v", err)
		}
		if n := len(w.invoices()); n != 4 { // two in advance at the start, and two closed
			t.Errorf("%d invoices", n)
		}
		check()
	}
}

// TestAThresholdThatCannotBeLookedAt: whether the usage has passed the threshold cannot be told. The others are billed.
func TestAThresholdThatCannotBeLookedAt(t *testing.T) {
	t.Parallel()
	s := tell(t, "threshold", nil)
	s.subscribe("zoo", "threshold", "UTC", date(2026, 1, 1), 1)
	s.tick()
	absurd := store.Batch{Producer: "api/tok_1"}
	for i := range 30 {
		absurd.Entries = append(absurd.Entries, entry(s.sub.CustomerID, fmt.Sprintf("m%d", i), meter.Reported, date(2026, 1, 2), 9e18))
	}
	s.append(absurd)
	zoo, _ := s.people.Customer("zoo")
	s.report(zoo.ID, "e1", date(2026, 1, 2), 1000)
	s.now = date(2026, 1, 3)
	if _, err := s.bill.Tick(t.Context()); err == nil || !strings.Contains(err.Error(), "acme") || strings.Contains(err.Error(), "zoo") {
		t.Errorf("Tick: %v", err)
	}
	if list := s.invoices(); len(list) != 1 || list[0].CustomerID != zoo.ID {
		t.Errorf("invoices:\n%s", s.told())
	}
}

func mentions(r books.Row) bool { return strings.Contains(r.Error, "range") }
