package bill_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallystick/tallystick/internal/app/bill"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/store"
)

func TestTrace(t *testing.T) {
	t.Parallel()
	w := newWorld(t, t.TempDir(), date(2026, 1, 1))
	sub := w.subscribe("acme", "pro", "UTC", date(2026, 1, 1), 1)
	w.tick()
	var want []string
	for i := range 25 {
		id := fmt.Sprintf("g%02d", i)
		want = append(want, id)
		w.admit(sub.CustomerID, id, date(2026, 1, 2).Add(time.Duration(i)*time.Hour), 3)
	}
	w.now = date(2026, 2, 1)
	w.tick()
	w.report(sub.CustomerID, "late", date(2026, 1, 2).Add(5*time.Hour), 4)
	w.report(sub.CustomerID, "next", date(2026, 2, 1), 4)
	inv := w.invoices()[1]
	for _, ref := range [][2]string{{inv.ID, "1"}, {inv.ID, inv.Lines[0].ID}, {"", inv.Lines[0].ID}} {
		var got []string
		var sum money.Decimal
		cursor := ""
		for pages := 0; ; pages++ {
			tr, err := w.bill.Trace(t.Context(), ref[0], ref[1], cursor, 10)
			if err != nil || len(tr.Events) > 10 || pages > 5 {
				t.Fatalf("trace of %v: %d events, page %d, %v", ref, len(tr.Events), pages, err)
			}
			for _, e := range tr.Events {
				got = append(got, e.Event.ID)
			}
			if cursor = tr.Next; cursor == "" {
				sum = total(t, tr)
				break
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("events of %v (-want +got):\n%s", ref, diff)
		}
		if sum.Cmp(inv.Lines[0].Quantity) != 0 {
			t.Errorf("windows without late say %s, the line %s", sum, inv.Lines[0].Quantity)
		}
	}
	flat, err := w.bill.Trace(t.Context(), inv.ID, "2", "", 0)
	if err != nil || flat.Line.Kind != invoice.FlatLine || flat.Windows != nil || flat.Events != nil {
		t.Errorf("flat line: %+v, %v", flat, err)
	}
	for _, ref := range [][2]string{{inv.ID, "3"}, {inv.ID, "0"}, {inv.ID, "iln_x"}, {"inv_x", "1"}, {"", "iln_x"}} {
		if _, err := w.bill.Trace(t.Context(), ref[0], ref[1], "", 0); !errors.Is(err, account.ErrNotFound) || !errors.Is(err, store.ErrNotFound) {
			t.Errorf("trace of %v: %v", ref, err)
		}
	}
	if _, err := w.bill.Trace(t.Context(), inv.ID, "first", "", 0); !errors.Is(err, account.ErrInvalid) {
		t.Errorf("trace of a line that is no number: %v", err)
	}
}

// total is what the windows say, without the late part.
func total(t *testing.T, tr bill.Trace) money.Decimal {
	t.Helper()
	sum := tr.Late.Neg()
	for _, win := range tr.Windows {
		var err error
		if sum, err = sum.Add(win.Sum); err != nil {
			t.Fatal(err)
		}
	}
	return sum
}

func TestLineOf(t *testing.T) {
	t.Parallel()
	w := newWorld(t, t.TempDir(), date(2026, 1, 1))
	w.restart(func(c *bill.Config) { c.Grace = time.Hour })
	acme := w.subscribe("acme", "pro", "UTC", date(2026, 1, 1), 1)
	bolt := w.subscribe("bolt", "free", "UTC", date(2026, 1, 1), 1)
	cog := w.subscribe("cog", "twice", "UTC", date(2026, 1, 1), 1)
	w.report(acme.CustomerID, "closed", date(2026, 1, 31), 1)
	w.now = date(2026, 2, 1).Add(time.Hour)
	w.tick()
	w.report(acme.CustomerID, "late", date(2026, 1, 31), 2)
	w.report(acme.CustomerID, "early", date(2025, 12, 31), 4)
	w.report(bolt.CustomerID, "free", date(2026, 2, 1), 8)
	w.report(cog.CustomerID, "twice", date(2026, 2, 1), 16)
	w.report(acme.CustomerID, "grace", date(2026, 2, 28), 32)
	w.now = date(2026, 3, 1) // February has ended and is not closed
	w.report(acme.CustomerID, "open", date(2026, 3, 1), 64)
	for _, c := range []struct {
		id     string
		status invoice.Status
		want   []string
	}{
		{"closed", invoice.Finalized, []string{"calls 1"}},
		{"grace", invoice.Preview, []string{"calls 32"}},
		{"open", invoice.Preview, []string{"calls 64"}},
		{"twice", invoice.Preview, []string{"calls 16", "levy 16"}},
		{"late", invoice.Preview, []string{"calls 2"}},
		{"early", "", nil},
		{"free", "", nil},
	} {
		record, invoices, lines, err := w.bill.LineOf(t.Context(), "api", c.id)
		if record.Event.ID != c.id || (c.want == nil) != errors.Is(err, account.ErrNotFound) || (c.want != nil && err != nil) {
			t.Errorf("%s: %+v, %v", c.id, record, err)
		}
		var got []string
		for i, l := range lines {
			got = append(got, l.Price+" "+l.Quantity.String())
			if invoices[i].Status != c.status {
				t.Errorf("%s: status %s, want %s", c.id, invoices[i].Status, c.status)
			}
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.id, diff)
		}
	}
	if _, _, _, err := w.bill.LineOf(t.Context(), "api", "nothing"); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("unknown event: %v", err)
	}
}

func TestInvoices(t *testing.T) {
	t.Parallel()
	w := newWorld(t, t.TempDir(), date(2026, 1, 1))
	w.subscribe("acme", "pro", "UTC", date(2026, 1, 1), 1)
	w.subscribe("bolt", "pro", "UTC", date(2026, 1, 1), 1)
	w.tick()
	list, err := w.bill.Invoices(t.Context(), store.Query{CustomerID: "bolt"})
	if err != nil || len(list) != 1 || list[0].Number != 2 {
		t.Fatalf("invoices of bolt: %+v, %v", list, err)
	}
	one, err := w.bill.Invoice(t.Context(), list[0].ID)
	if err != nil || encode(t, list) != encode(t, []invoice.Invoice{one}) {
		t.Errorf("invoice: %+v, %v", one, err)
	}
	if _, err := w.bill.Invoices(t.Context(), store.Query{CustomerID: "nobody"}); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("invoices of nobody: %v", err)
	}
	if _, err := w.bill.Invoice(t.Context(), "inv_x"); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("unknown invoice: %v", err)
	}
}
