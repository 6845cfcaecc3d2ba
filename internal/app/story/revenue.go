package story

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tallystick/tallystick/internal/app/bill"
	"github.com/tallystick/tallystick/internal/app/collect"
	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/ledger"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/store"
)

// Revenue is what was invoiced in a month and currency, and what was taken back in it. An invoice is of the month in which the
// billing period that it closes ends, in the customer's zone; credit notes and voided invoices are of the month in which they were
// made. Amounts are in minor units, what is taken off is below 0. Net is the sum of all the others.
type Revenue struct {
	Month    string // YYYY-MM; empty: all months
	Currency money.Currency
	Invoices int64

	Invoiced, Discounts, Credits, Tax, CreditNotes, Voided, Net int64
}

// Table is the revenue by currency and month, both rising.
type Table struct {
	Months []Revenue
	Totals []Total
}

// Total is all of a currency. Ledger is what the ledger's entries say that Net is.
type Total struct {
	Revenue

	Ledger int64
}

// Difference is 0 where documents and ledger agree.
func (t *Total) Difference() int64 { return t.Net - t.Ledger }

// Books are what Sum reads.
type Books struct {
	Govern  *govern.Service
	Bill    *bill.Service
	Collect *collect.Service
}

// Sum adds up all invoices, credit notes and voids; and apart from them, what the ledger holds.
func Sum(ctx context.Context, b Books) (Table, error) {
	s := summing{Books: b, rows: map[place]*Revenue{}, ledger: map[money.Currency]int64{}}
	for _, add := range []func(context.Context) error{s.invoices, s.notes, s.entries} {
		if err := add(ctx); err != nil {
			return Table{}, err
		}
	}
	return s.table(), nil
}

type place struct {
	currency money.Currency
	month    string
}

type summing struct {
	Books

	rows   map[place]*Revenue
	ledger map[money.Currency]int64
}

func (s *summing) row(month time.Time, c money.Currency) *Revenue {
	at := place{c, month.Format("2006-01")}
	if s.rows[at] == nil {
		s.rows[at] = &Revenue{Month: at.month, Currency: c}
	}
	return s.rows[at]
}

// zone is a customer's time zone.
func (s *summing) zone(customerID string) *time.Location {
	if c, ok := s.Govern.Customer(customerID); ok {
		return c.Zone.Location()
	}
	return time.UTC
}

func (s *summing) invoices(ctx context.Context) error {
	var voided []invoice.Invoice
	err := invoices(ctx, s.Bill, func(inv invoice.Invoice) bool {
		last := inv.Period.Start
		if inv.Period.End.After(last) {
			last = inv.Period.End.Add(-time.Microsecond)
		}
		r := s.row(last.In(s.zone(inv.CustomerID)), inv.Currency)
		r.Invoices++
		for i := range inv.Lines {
			*r.of(inv.Lines[i].Kind) += inv.Lines[i].Rounded.Minor()
		}
		r.Tax += inv.Total.Minor() - subtotal(&inv)
		if inv.Status == invoice.Void {
			voided = append(voided, inv)
		}
		return true
	})
	if err != nil || len(voided) == 0 {
		return err
	}
	views, err := s.Collect.Views(ctx, voided)
	for i, v := range views {
		s.row(v.At.In(s.zone(v.CustomerID)), voided[i].Currency).Voided -= voided[i].Total.Minor()
	}
	return err
}

// subtotal is the sum of an invoice's lines: what is above it in the total is tax.
func subtotal(inv *invoice.Invoice) (sum int64) {
	for i := range inv.Lines {
		sum += inv.Lines[i].Rounded.Minor()
	}
	return sum
}

// of is the column of a line.
func (r *Revenue) of(k invoice.LineKind) *int64 {
	switch k {
	case invoice.DiscountLine, invoice.MaximumLine, invoice.CouponLine:
		return &r.Discounts
	case invoice.CreditLine:
		return &r.Credits
	case invoice.FlatLine, invoice.UsageLine, invoice.MinimumLine, invoice.AdjustmentLine:
	}
	return &r.Invoiced
}

func (s *summing) notes(ctx context.Context) error {
	return pages(func(q store.Query) ([]store.CreditNote, error) {
		return s.Collect.CreditNotes(ctx, store.RecordQuery{Query: q})
	},
		func(n *store.CreditNote) string {
			s.row(n.CreatedAt.In(s.zone(n.CustomerID)), n.Total.Currency()).CreditNotes -= n.Total.Minor()
			return n.ID
		})
}

// entries sums what the ledger says that customers were billed for, less what was taken back: what invoices, credit notes and the
// reversals of invoices moved between customers and the seller.
func (s *summing) entries(ctx context.Context) error {
	return pages(func(q store.Query) ([]ledger.Entry, error) { return s.Collect.Entries(ctx, store.EntryQuery{Query: q}) },
		func(e *ledger.Entry) string {
			switch e.Kind {
			case ledger.Invoiced, ledger.Credited, ledger.Applied, ledger.Reversed:
				if e.Of(ledger.Loss) == 0 { // what was given up was billed all the same
					s.ledger[e.Currency()] += e.Of(ledger.Receivable) + e.Of(ledger.Balance)
				}
			case ledger.Paid, ledger.Refunded, ledger.WrittenOff, ledger.Bought, ledger.Expired:
			}
			return e.ID
		})
}

// pages reads a list to its end; each answers with the cursor that goes on after it.
func pages[T any](read func(q store.Query) ([]T, error), each func(*T) string) error {
	q := store.Query{Limit: 1000}
	for {
		list, err := read(q)
		if err != nil {
			return err
		}
		for i := range list {
			q.Cursor = each(&list[i])
		}
		if len(list) < q.Limit {
			return nil
		}
	}
}

func (s *summing) table() (t Table) {
	totals := map[money.Currency]*Total{}
	for _, r := range s.rows {
		r.Net = r.Invoiced + r.Discounts + r.Credits + r.Tax + r.CreditNotes + r.Voided
		t.Months = append(t.Months, *r)
		sum := totals[r.Currency]
		if sum == nil {
			sum = &Total{Revenue: Revenue{Currency: r.Currency}, Ledger: s.ledger[r.Currency]}
			totals[r.Currency] = sum
		}
		sum.add(r)
	}
	for _, sum := range totals {
		t.Totals = append(t.Totals, *sum)
	}
	slices.SortFunc(t.Months, func(a, b Revenue) int {
		return cmp.Or(cmp.Compare(a.Currency.Code(), b.Currency.Code()), cmp.Compare(a.Month, b.Month))
	})
	slices.SortFunc(t.Totals, func(a, b Total) int { return cmp.Compare(a.Currency.Code(), b.Currency.Code()) })
	return t
}

func (r *Revenue) add(o *Revenue) {
	r.Invoices += o.Invoices
	r.Invoiced += o.Invoiced
	r.Discounts += o.Discounts
	r.Credits += o.Credits
	r.Tax += o.Tax
	r.CreditNotes += o.CreditNotes
	r.Voided += o.Voided
	r.Net += o.Net
}

// Amount is a figure of a row as money.
func (r *Revenue) Amount(minor int64) money.Amount { return money.NewAmount(minor, r.Currency) }

// String is a row in one line.
func (r *Revenue) String() string {
	return fmt.Sprintf("%s %s: %d invoices, net %s", r.Month, r.Currency, r.Invoices, r.Amount(r.Net))
}
