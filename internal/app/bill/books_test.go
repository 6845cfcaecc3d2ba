package bill_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tallystick/tallystick/internal/app/bill"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/store"
)

// rowsOf lists rows as text, for comparing.
func rowsOf(b bill.Books) []string {
	return strings.Split(strings.TrimSpace(describe(b.Rows)), "\n")
}

// altered is a world with a closed and an open period, both with admitted and reported usage.
func altered(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, t.TempDir(), date(2026, 1, 1))
	sub := w.subscribe("acme", "pro", "UTC", date(2026, 1, 1), 1)
	w.admit(sub.CustomerID, "g1", date(2026, 1, 2), 100)
	w.report(sub.CustomerID, "e1", date(2026, 1, 3), 50)
	w.now = date(2026, 2, 1)
	w.tick()
	w.admit(sub.CustomerID, "g2", date(2026, 2, 1), 10)
	w.report(sub.CustomerID, "e2", date(2026, 2, 1), 5)
	w.now = date(2026, 2, 2)
	want := []string{
		"2026-02-01 acme api_calls: admitted 10 reported 5 metered 15 rated 15 unpriced 0 late 0 difference 0",
		"2026-01-01 acme api_calls: admitted 100 reported 50 metered 150 rated 150 unpriced 0 late 0 difference 0",
	}
	if diff := cmp.Diff(want, rowsOf(w.balanced())); diff != "" {
		t.Fatalf("books before (-want +got):\n%s", diff)
	}
	return w
}

func TestBooksShowAnAlteredInvoice(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		alter func(*invoice.Invoice)
		want  string
	}{
		"quantity": {
			func(inv *invoice.Invoice) { inv.Lines[0].Quantity = money.FromInt(148) },
			"rated 148 unpriced 0 late 0 difference 2",
		},
		"line gone":   {func(inv *invoice.Invoice) { inv.Lines = inv.Lines[1:] }, "rated 0 unpriced 0 late 0 difference 150"},
		"other price": {func(inv *invoice.Invoice) { inv.Lines[0].Price = "cheap" }, "rated 0 unpriced 0 late 0 difference 150"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := altered(t)
			alterInvoice(t, w, w.invoices()[1].ID, c.alter)
			want := []string{
				"2026-02-01 acme api_calls: admitted 10 reported 5 metered 15 rated 15 unpriced 0 late 0 difference 0",
				"2026-01-01 acme api_calls: admitted 100 reported 50 metered 150 " + c.want,
			}
			if diff := cmp.Diff(want, rowsOf(w.books())); diff != "" {
				t.Errorf("books (-want +got):\n%s", diff)
			}
		})
	}
}

func TestBooksOfUsageOutsideAndLate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, t.TempDir(), date(2026, 1, 1))
	acme := w.subscribe("acme", "pro", "UTC", date(2026, 1, 10), 10)
	bolt := w.subscribe("bolt", "free", "UTC", date(2026, 1, 1), 1)
	w.report(acme.CustomerID, "e1", date(2026, 1, 9), 1)  // before the subscription
	w.report(acme.CustomerID, "e2", date(2026, 1, 11), 2) // on time
	w.admit(bolt.CustomerID, "g1", date(2026, 1, 2), 3)   // no price
	w.report("cus_unknown", "e3", date(2026, 1, 2), 4)    // a customer that the directory does not know
	w.now = date(2026, 2, 10)
	w.tick()
	w.report(acme.CustomerID, "e4", date(2026, 1, 12), 5) // late
	w.report(bolt.CustomerID, "e5", date(2026, 1, 12), 6) // late, and no price
	// A gateway's total for a period that nobody knows, with its event outside of every period.
	w.append(store.Batch{
		Producer: "gateway/1", Node: 1, Epoch: 2, First: 1, Last: 1,
		Entries: []store.Entry{entry(acme.CustomerID, "g2", meter.Admitted, date(2025, 12, 5), 7)},
		Totals:  []store.AdmittedTotal{{CustomerID: acme.CustomerID, Meter: calls, PeriodStart: date(2025, 12, 1).UnixMicro(), Total: money.FromInt(7)}},
	})
	w.report(acme.CustomerID, "e6", w.now, 8)
	want := []string{
		"2026-02-10 acme api_calls: admitted 0 reported 8 metered 8 rated 8 unpriced 0 late 0 difference 0",
		"2026-01-10 acme api_calls: admitted 0 reported 7 metered 7 rated 2 unpriced 5 late 5 difference 0",
		"2026-01-01 bolt api_calls: admitted 3 reported 6 metered 9 rated 0 unpriced 9 late 6 difference 0",
		"outside  api_calls: admitted 0 reported 4 metered 4 rated 0 unpriced 4 late 0 difference 0",
		"outside acme api_calls: admitted 7 reported 1 metered 8 rated 0 unpriced 8 late 0 difference 0",
	}
	if diff := cmp.Diff(want, rowsOf(w.balanced())); diff != "" {
		t.Errorf("books (-want +got):\n%s", diff)
	}
	one, err := w.bill.Books(t.Context(), "bolt")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want[2:3], rowsOf(one)); diff != "" {
		t.Errorf("books of bolt (-want +got):\n%s", diff)
	}
	if _, err := w.bill.Books(t.Context(), "nobody"); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("books of nobody: %v", err)
	}
}

// racing closes a period and takes late usage at a chosen moment of a balance.
type racing struct {
	store.Invoices
	closes, list func()
}

func (r *racing) Closes(ctx context.Context, id string) ([]store.Close, error) {
	out, err := r.Invoices.Closes(ctx, id)
	if r.closes != nil {
		r.closes()
	}
	return out, err
}

func (r *racing) InvoicesOf(ctx context.Context, id string, from time.Time) ([]invoice.Invoice, error) {
	out, err := r.Invoices.InvoicesOf(ctx, id, from)
	if r.list != nil {
		r.list()
	}
	return out, err
}

func TestACloseInTheMiddleOfABalanceMakesNoDifference(t *testing.T) {
	t.Parallel()
	for _, moment := range []string{"closes", "list"} {
		t.Run(moment, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, t.TempDir(), date(2026, 1, 1))
			sub := w.subscribe("acme", "pro", "UTC", date(2026, 1, 1), 1)
			w.report(sub.CustomerID, "e1", date(2026, 1, 2), 1)
			w.now = date(2026, 2, 1)
			closer := w.bill
			act := func() {
				if _, err := closer.Tick(t.Context()); err != nil {
					t.Errorf("Tick: %v", err)
				}
				w.report(sub.CustomerID, "e2", date(2026, 1, 3), 1)
			}
			r := &racing{Invoices: w.records}
			if moment == "list" {
				r.list = func() { r.list = nil; act() }
			} else {
				r.closes = func() { r.closes = nil; act() }
			}
			w.restart(func(c *bill.Config) { c.Invoices = r })
			w.balanced()
			if b := w.balanced(); b.Late.String() != "1" {
				t.Errorf("afterwards: %s", describe(b.Rows))
			}
		})
	}
}

// alterInvoice writes over a finalized invoice as nobody can through the driver.
func alterInvoice(t *testing.T, w *world, id string, alter func(*invoice.Invoice)) {
	t.Helper()
	inv, err := w.records.Invoice(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	alter(&inv)
	db, err := sql.Open("sqlite", "file:"+filepath.Join(w.dir, "records.db")+"?_pragma=ignore_check_constraints(1)")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	exec(t, db, "DROP TRIGGER invoices_no_update")
	document, err := json.Marshal(&inv)
	if err != nil {
		t.Fatal(err)
	}
	exec(t, db, "UPDATE invoices SET document = ? WHERE id = ?", string(document), id)
	stored, err := w.records.Invoice(t.Context(), id)
	if err != nil || len(stored.Lines) != len(inv.Lines) || stored.Lines[0].Quantity.Cmp(inv.Lines[0].Quantity) != 0 || stored.Lines[0].Price != inv.Lines[0].Price {
		t.Fatalf("the invoice was not altered: %+v, %v", stored, err)
	}
}

func exec(t *testing.T, db *sql.DB, statement string, args ...any) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// use is one event of a plan to come.
type use struct {
	at    time.Time
	value int64
	gate  bool
}

// live lets a new customer use the API month by month: what belongs to a month arrives within it, in the given order.
// It balances at each step and returns the quantity used in each month.
func live(w *world, key, plan string, uses []use, order []int) (sub account.Subscription, used []int64) {
	w.tb.Helper()
	w.now = date(2026, 1, 1)
	sub = w.subscribe(key, plan, "Europe/Berlin", w.now, 1)
	w.only = sub.CustomerID
	customer, _ := w.people.Customer(sub.CustomerID)
	for _, p := range sub.Anchor(customer.Zone).Periods(date(2026, 3, 31), 10) {
		used = append(used, 0)
		for _, i := range order {
			u, id := uses[i], fmt.Sprintf("%s-%d", key, i)
			switch {
			case !p.Contains(u.at):
				continue
			case u.gate:
				w.admit(sub.CustomerID, id, u.at, u.value)
			default:
				w.report(sub.CustomerID, id, u.at, u.value)
			}
			used[len(used)-1] += u.value
		}
		w.balanced()
		w.now = p.End
		w.tick()
		w.balanced()
	}
	return sub, used
}

// TestRandomUsage spreads usage over three months and over arrival orders. Arriving on time, each month's is on its
// invoice, and the books balance at every step.
func TestRandomUsage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, t.TempDir(), date(2026, 1, 1))
	minutes := rapid.IntRange(0, 90*24*60-1)
	one := rapid.Custom(func(rt *rapid.T) use {
		at := date(2026, 1, 1).Add(time.Duration(minutes.Draw(rt, "minute")) * time.Minute)
		return use{at, rapid.Int64Range(0, 9_000).Draw(rt, "value"), rapid.Bool().Draw(rt, "gate")}
	})
	rapid.Check(t, func(rt *rapid.T) {
		w.tb = rt
		uses := rapid.SliceOfN(one, 0, 12).Draw(rt, "uses")
		order := make([]int, len(uses))
		for i := range order {
			order[i] = i
		}
		order = rapid.Permutation(order).Draw(rt, "order")
		plan := rapid.SampledFrom([]string{"pro", "arrears", "twice"}).Draw(rt, "plan")
		sub, used := live(w, fmt.Sprintf("c%d", len(w.people.customers)), plan, uses, order)
		if diff := cmp.Diff(used, billed(w, sub)); diff != "" {
			rt.Fatalf("usage by month (-used +billed):\n%s", diff)
		}
	})
}

// billed is the quantity of the price "calls" on the invoice of each month.
func billed(w *world, sub account.Subscription) []int64 {
	w.tb.Helper()
	list, err := w.bill.Invoices(context.Background(), store.Query{CustomerID: sub.CustomerID})
	if err != nil {
		w.tb.Fatalf("Invoices: %v", err)
	}
	months := make([]int64, 3)
	for _, inv := range list {
		for _, l := range inv.Lines {
			if l.Price != "calls" {
				continue
			}
			n, err := l.Quantity.Scaled(0)
			if err != nil {
				w.tb.Fatalf("quantity %s: %v", l.Quantity, err)
			}
			months[inv.Period.Start.Add(24*time.Hour).Month()-time.January] += n
		}
	}
	return months
}

// TestArrivalOrder compares whole invoices, ids and positions too, byte by byte.
func TestArrivalOrder(t *testing.T) {
	t.Parallel()
	uses := []use{
		{date(2026, 1, 1), 9_999, false},
		{date(2026, 1, 31), 2, true},
		{date(2026, 1, 15), 7_000, true},
		{date(2026, 2, 2), 12_000, false},
		{date(2026, 2, 1), 1, true},
	}
	var first string
	for _, order := range [][]int{{0, 1, 2, 3, 4}, {2, 4, 1, 3, 0}} {
		w := newWorld(t, t.TempDir(), date(2026, 1, 1))
		live(w, "acme", "pro", uses, order)
		if got := encode(t, w.invoices()); first == "" {
			first = got
		} else if diff := cmp.Diff(first, got); diff != "" {
			t.Errorf("another order, other invoices (-first +second):\n%s", diff)
		}
	}
}
