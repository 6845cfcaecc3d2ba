package bill_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallystick/tallystick/internal/app/bill"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/store"
)

var update = flag.Bool("update", false, "rewrite golden files")

func TestCloseAtStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, t.TempDir(), date(2026, 1, 10))
	w.subscribe("acme", "pro", "UTC", date(2026, 1, 10), 10)
	w.subscribe("bolt", "free", "UTC", date(2026, 1, 10), 10)
	w.subscribe("later", "pro", "UTC", date(2026, 1, 11), 11)
	for range 3 { // again and again: nothing more
		w.tick()
		list := w.invoices()
		if len(list) != 1 {
			t.Fatalf("%d invoices, want 1", len(list))
		}
		inv := list[0]
		if !inv.Period.Empty() || len(inv.Lines) != 1 || inv.Total.String() != "20.00" || !inv.Lines[0].Period.End.Equal(date(2026, 2, 10)) {
			t.Errorf("invoice at start: %+v", inv)
		}
	}
	closes, err := w.records.Closes(t.Context(), w.people.subscriptions[w.people.customers[1].ID][0].ID)
	if err != nil || len(closes) != 1 || !closes[0].Done || closes[0].InvoiceID != "" {
		t.Errorf("closes of the free plan: %+v, %v", closes, err)
	}
}

// TestMonth is one full month of the design's pro plan by hand: 12,345 calls are 2,345 above the included 10,000, at
// 0.0004 that is 0.938, posted as 0.94; with the next month's 20.00 it is 20.94.
func TestMonth(t *testing.T) {
	t.Parallel()
	w := newWorld(t, t.TempDir(), date(2026, 1, 1))
	sub := w.subscribe("acme", "pro", "UTC", date(2026, 1, 1), 1)
	w.tick()
	w.report(sub.CustomerID, "e1", date(2026, 1, 1), 9_999)
	w.admit(sub.CustomerID, "g1", date(2026, 1, 15).Add(time.Hour), 2_345)
	w.admit(sub.CustomerID, "g2", date(2026, 2, 1).Add(-time.Microsecond), 1)
	w.admit(sub.CustomerID, "g3", date(2026, 2, 1), 7)
	w.now = date(2026, 2, 1)
	w.tick()
	list := w.invoices()
	if len(list) != 2 || list[1].Total.String() != "20.94" {
		t.Fatalf("invoices: %+v", list)
	}
	got, err := json.MarshalIndent(list[1], "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "month.json", append(got, '\n'))
	w.balanced()
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

func TestTickCatchesUpInOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t, t.TempDir(), date(2026, 3, 15))
	acme := w.subscribe("acme", "pro", "Europe/Berlin", date(2026, 1, 10).Add(10*time.Hour+37*time.Minute), 10)
	w.subscribe("bolt", "free", "UTC", date(2026, 1, 10), 10)
	w.subscribe("cog", "arrears", "UTC", date(2026, 1, 31), 31)
	w.subscribe("ant", "pro", "Europe/Berlin", acme.Start, 10)
	w.report(acme.CustomerID, "e1", acme.Start, 20_000)
	w.report(acme.CustomerID, "e2", acme.Start.Add(-time.Microsecond), 3) // before there was a subscription
	w.tick()
	var got []string
	for _, inv := range w.invoices() {
		customer, _ := w.people.Customer(inv.CustomerID)
		got = append(got, fmt.Sprintf("%d %s %s %s", inv.Number, customer.Key, inv.Period.End.Format(time.RFC3339), inv.Total))
	}
	want := []string{
		"1 acme 2026-01-10T10:37:00Z 20.00",
		"2 ant 2026-01-10T10:37:00Z 20.00",
		"3 acme 2026-02-09T23:00:00Z 24.00",
		"4 ant 2026-02-09T23:00:00Z 20.00",
		"5 cog 2026-02-28T00:00:00Z 5.00",
		"6 acme 2026-03-09T23:00:00Z 20.00",
		"7 ant 2026-03-09T23:00:00Z 20.00",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("invoices (-want +got):\n%s", diff)
	}
	w.balanced()
}

func TestTickIsBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, t.TempDir(), date(2026, 1, 1))
	w.subscribe("old", "pro", "UTC", date(2016, 1, 1), 1) // 121 closes
	more, err := w.bill.Tick(t.Context())
	if err != nil || !more || len(w.invoices()) != bill.MaxCloses {
		t.Fatalf("first tick: more %v, %v, %d invoices", more, err, len(w.invoices()))
	}
	more, err = w.bill.Tick(t.Context())
	if err != nil || more || len(w.invoices()) != 121 {
		t.Fatalf("second tick: more %v, %v, %d invoices", more, err, len(w.invoices()))
	}
}

func TestGraceHoldsThePeriodOpen(t *testing.T) {
	t.Parallel()
	w := newWorld(t, t.TempDir(), date(2026, 1, 1))
	w.restart(func(c *bill.Config) { c.Grace = time.Hour })
	sub := w.subscribe("acme", "arrears", "UTC", date(2026, 1, 1), 1)
	end, err := w.bill.PeriodEnd(t.Context())
	if err != nil || !end.Equal(date(2026, 2, 1).Add(time.Hour)) {
		t.Fatalf("PeriodEnd = %v, %v", end, err)
	}
	w.now = end.Add(-time.Microsecond)
	w.tick()
	w.report(sub.CustomerID, "e1", date(2026, 1, 31), 5) // within the grace
	if n := len(w.invoices()); n != 0 {
		t.Fatalf("%d invoices before the grace is over", n)
	}
	w.balanced()
	w.now = end
	w.tick()
	list := w.invoices()
	if len(list) != 1 || list[0].Lines[0].Quantity.String() != "5" {
		t.Fatalf("invoices: %+v", list)
	}
	w.balanced()
}

// flaky fails between the two steps of a close.
type flaky struct {
	store.Invoices
	fail   bool
	before func() // runs before FinishClose
}

var errCrash = errors.New("crash")

func (f *flaky) FinishCloses(ctx context.Context, list []store.Finish, at time.Time) ([]*invoice.Invoice, error) {
	if f.before != nil {
		f.before()
	}
	if f.fail {
		return nil, errCrash
	}
	return f.Invoices.FinishCloses(ctx, list, at)
}

func TestCrashBetweenTheStepsOfAClose(t *testing.T) {
	t.Parallel()
	run := func(crash bool) ([]invoice.Invoice, *world) {
		w := newWorld(t, t.TempDir(), date(2026, 1, 1))
		acme := w.subscribe("acme", "pro", "UTC", date(2026, 1, 1), 1)
		w.subscribe("bolt", "pro", "UTC", date(2026, 1, 1), 1)
		w.tick()
		w.report(acme.CustomerID, "e1", date(2026, 1, 5), 15_000)
		w.now = date(2026, 2, 1)
		if crash {
			w.restart(func(c *bill.Config) { c.Invoices = &flaky{Invoices: w.records, fail: true} })
			if _, err := w.bill.Tick(t.Context()); !errors.Is(err, errCrash) {
				t.Fatalf("Tick = %v", err)
			}
			w.balanced()
		} else {
			w.tick()
		}
		w.report(acme.CustomerID, "e2", date(2026, 1, 6), 1_000) // late: the position stands
		w.balanced()
		w.restart(nil)
		w.tick()
		b := w.balanced()
		if b.Late.String() != "1000" || b.Rated.String() != "15000" {
			t.Errorf("crash %v: late %s, rated %s", crash, b.Late, b.Rated)
		}
		return w.invoices(), w
	}
	whole, _ := run(false)
	torn, w := run(true)
	if diff := cmp.Diff(encode(t, whole), encode(t, torn)); diff != "" {
		t.Errorf("invoices after a crash (-want +got):\n%s", diff)
	}
	// An event of the period that came after the position is on the next invoice.
	_, on, lines, err := w.bill.LineOf(t.Context(), "api", "e2")
	if err != nil || len(lines) != 1 || lines[0].Kind != invoice.AdjustmentLine || lines[0].Quantity.String() != "1000" || on[0].Status != invoice.Preview {
		t.Errorf("line of a late event: %+v, %v", lines, err)
	}
}

func encode(t tb, list []invoice.Invoice) string {
	t.Helper()
	b, err := json.MarshalIndent(list, "", " ")
	if err != nil {
		t.Fatalf("encode: %v", err)
	}
	return string(b)
}

// TestPendingCloseCountsItsPositionOnly looks while a close is begun and not finished.
func TestPendingCloseCountsItsPositionOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t, t.TempDir(), date(2026, 1, 1))
	acme := w.subscribe("acme", "pro", "UTC", date(2026, 1, 1), 1)
	w.tick()
	w.report(acme.CustomerID, "e1", date(2026, 1, 5), 10)
	w.now = date(2026, 2, 1)
	w.restart(func(c *bill.Config) { c.Invoices = &flaky{Invoices: w.records, fail: true} })
	if _, err := w.bill.Tick(t.Context()); !errors.Is(err, errCrash) {
		t.Fatalf("Tick = %v", err)
	}
	w.report(acme.CustomerID, "e2", date(2026, 1, 6), 1)
	b := w.balanced()
	if b.Rated.String() != "10" || b.Late.String() != "1" || b.Unpriced.String() != "1" {
		t.Errorf("books: %s", describe(b.Rows))
	}
	_, invoices, lines, err := w.bill.LineOf(t.Context(), "api", "e1")
	if err != nil || len(lines) != 1 || lines[0].Quantity.String() != "10" || invoices[0].Status != invoice.Preview {
		t.Errorf("LineOf: %+v, %v", lines, err)
	}
}

func TestConcurrentTicksMakeOneInvoice(t *testing.T) {
	t.Parallel()
	w := newWorld(t, t.TempDir(), date(2026, 1, 1))
	sub := w.subscribe("acme", "pro", "UTC", date(2026, 1, 1), 1)
	w.report(sub.CustomerID, "e1", date(2026, 1, 5), 11)
	w.now = date(2026, 4, 1)
	other, err := bill.New(w.cfg) // as in another process
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for _, s := range []*bill.Service{w.bill, other, w.bill, other} {
		group.Go(func() {
			if _, err := s.Tick(t.Context()); err != nil {
				t.Errorf("Tick: %v", err)
			}
		})
	}
	group.Wait()
	if list := w.invoices(); len(list) != 4 {
		t.Errorf("%d invoices, want 4", len(list))
	}
	w.balanced()
}

// TestOvertaken has another process finish the same close first.
func TestOvertaken(t *testing.T) {
	t.Parallel()
	w := newWorld(t, t.TempDir(), date(2026, 1, 1))
	w.subscribe("acme", "pro", "UTC", date(2026, 1, 1), 1)
	other := w.bill
	w.restart(func(c *bill.Config) {
		c.Invoices = &flaky{Invoices: w.records, before: func() {
			if _, err := other.Tick(t.Context()); err != nil {
				t.Errorf("other: %v", err)
			}
		}}
	})
	w.tick()
	if n := len(w.invoices()); n != 1 {
		t.Errorf("%d invoices, want 1", n)
	}
}

func TestSettledComesFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(t, t.TempDir(), date(2026, 2, 1))
	sub := w.subscribe("acme", "pro", "UTC", date(2026, 1, 1), 1)
	var asked []time.Time
	var fail error
	w.restart(func(c *bill.Config) {
		c.Settled = func(_ context.Context, before time.Time) error {
			asked = append(asked, before)
			if fail != nil {
				return fail
			}
			if before.Equal(date(2026, 2, 1)) {
				w.admit(sub.CustomerID, "g1", date(2026, 1, 31), 42)
			}
			return nil
		}
	})
	w.tick()
	if diff := cmp.Diff([]time.Time{date(2026, 1, 1), date(2026, 2, 1)}, asked); diff != "" {
		t.Errorf("settled (-want +got):\n%s", diff)
	}
	if list := w.invoices(); len(list) != 2 || list[1].Lines[0].Quantity.String() != "42" {
		t.Errorf("invoices: %+v", list)
	}
	w.now, fail = date(2026, 3, 1), errors.New("gateway 2 does not answer")
	if _, err := w.bill.Tick(t.Context()); !errors.Is(err, fail) {
		t.Errorf("Tick = %v, want %v", err, fail)
	}
	if n := len(w.invoices()); n != 2 {
		t.Errorf("%d invoices, want 2", n)
	}
}

func TestOneBadSubscriptionDoesNotStopTheOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, t.TempDir(), date(2026, 3, 1))
	bad := w.subscribe("acme", "pro", "UTC", date(2026, 1, 1), 1)
	w.people.subscriptions[bad.CustomerID][0].CatalogVersion = 9
	w.subscribe("bolt", "pro", "UTC", date(2026, 1, 1), 1)
	_, err := w.bill.Tick(t.Context())
	if err == nil || !strings.Contains(err.Error(), "acme") {
		t.Errorf("Tick = %v", err)
	}
	if n := len(w.invoices()); n != 3 {
		t.Errorf("%d invoices of the good one, want 3", n)
	}
	w.people.subscriptions[bad.CustomerID][0].CatalogVersion = 1
	w.tick()
	if n := len(w.invoices()); n != 6 {
		t.Errorf("%d invoices, want 6", n)
	}
}

// TestOneOldBadSubscriptionDoesNotStopTheOthers has more periods due than one Tick closes, all before the good one's.
func TestOneOldBadSubscriptionDoesNotStopTheOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, t.TempDir(), date(2026, 3, 1))
	bad := w.subscribe("acme", "pro", "UTC", date(2016, 1, 1), 1)
	w.people.subscriptions[bad.CustomerID][0].CatalogVersion = 9
	w.subscribe("bolt", "pro", "UTC", date(2026, 2, 1), 1)
	more, err := w.bill.Tick(t.Context())
	if more || err == nil || !strings.Contains(err.Error(), "acme") {
		t.Errorf("Tick = %v, %v", more, err)
	}
	if n := len(w.invoices()); n != 2 {
		t.Errorf("%d invoices of the good one, want 2", n)
	}
}

func TestEachInvoiceIsLoggedOnce(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	w := newWorld(t, t.TempDir(), date(2026, 1, 1))
	w.restart(func(c *bill.Config) { c.Log = slog.New(slog.NewTextHandler(&out, nil)) })
	w.subscribe("acme", "pro", "UTC", date(2026, 1, 1), 1)
	w.tick()
	w.tick()
	if s := out.String(); strings.Count(s, "\n") != 1 || !strings.Contains(s, "number=1 customer=acme total=20.00") {
		t.Errorf("log: %s", s)
	}
}

func TestAnEndedSubscriptionIsNotChargedInAdvance(t *testing.T) {
	t.Parallel()
	w := newWorld(t, t.TempDir(), date(2026, 1, 1))
	sub := w.subscribe("acme", "pro", "UTC", date(2026, 1, 1), 1)
	w.people.subscriptions[sub.CustomerID][0].End = date(2026, 2, 15)
	w.report(sub.CustomerID, "e1", date(2026, 2, 14), 11_000)
	w.report(sub.CustomerID, "e2", date(2026, 2, 15), 2) // after the end
	w.now = date(2026, 5, 1)
	w.tick()
	var got []string
	for _, inv := range w.invoices() {
		got = append(got, inv.Period.End.Format(time.DateOnly)+" "+inv.Total.String())
	}
	if diff := cmp.Diff([]string{"2026-01-01 20.00", "2026-02-01 10.00", "2026-02-15 0.40"}, got); diff != "" {
		t.Errorf("invoices (-want +got):\n%s", diff)
	}
	b := w.balanced()
	if b.Unpriced.String() != "2" || b.Rated.String() != "11000" {
		t.Errorf("books: %s", describe(b.Rows))
	}
}

func TestNewChecksItsConfig(t *testing.T) {
	t.Parallel()
	w := newWorld(t, t.TempDir(), date(2026, 1, 1))
	for name, change := range map[string]func(*bill.Config){
		"directory": func(c *bill.Config) { c.Directory = nil },
		"journal":   func(c *bill.Config) { c.Journal = nil },
		"invoices":  func(c *bill.Config) { c.Invoices = nil },
		"clock":     func(c *bill.Config) { c.Now = nil },
		"grace":     func(c *bill.Config) { c.Grace = -1 },
	} {
		cfg := w.cfg
		change(&cfg)
		if _, err := bill.New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
