// Package ledgertest is the conformance suite of what a records driver keeps of the ledger, payments, credit notes and dunning.
package ledgertest

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/ledger"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// Suite checks a driver's promises. open opens an empty store, which it closes when the test ends.
func Suite(t *testing.T, open func(t *testing.T) store.Records) {
	for name, test := range map[string]func(*world){
		"EntriesOnce":      entriesOnce,
		"EntriesWhole":     entriesWhole,
		"EntriesPaged":     entriesPaged,
		"Balances":         balances,
		"Standings":        standings,
		"OpenInvoices":     openInvoices,
		"Payments":         payments,
		"CreditNotes":      creditNotes,
		"MovementsAreOne":  movementsAreOne,
		"Dunning":          dunning,
		"ConservationSees": conservationSees,
		"ExportsKept":      exportsKept,
		"ExportsMove":      exportsMove,
		"ExportsRace":      exportsRace,
		"EntriesInOrder":   entriesInOrder,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := &world{T: t, r: open(t)}
			for i := 1; i <= 2; i++ {
				w.ok(w.r.PutCustomer(t.Context(), account.Customer{
					ID: cus(i), Key: fmt.Sprint("key", i), Zone: period.MustZone("UTC"), Currency: money.MustCurrency("EUR"), CreatedAt: noon(0),
				}, w.audit()))
				w.ok(w.r.PutSubscription(t.Context(), account.Subscription{
					ID: fmt.Sprint("sub_", i), CustomerID: cus(i), Plan: "pro", Start: noon(1), BillingDay: 1, CreatedAt: noon(0),
				}, w.audit()))
			}
			test(w)
		})
	}
}

// world is a store with two customers.
type world struct {
	*testing.T
	r      store.Records
	audits int
}

func (w *world) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) refused(what string, err, want error) {
	w.Helper()
	if !errors.Is(err, want) {
		w.Errorf("%s: %v, want %v", what, err, want)
	}
}

func (w *world) same(what string, got, want any) {
	w.Helper()
	exact := cmp.Options{
		cmp.Comparer(func(a, b money.Amount) bool { return a == b }), cmp.Comparer(func(a, b money.Currency) bool { return a == b }),
	}
	if diff := cmp.Diff(want, got, exact); diff != "" {
		w.Errorf("%s (want -, got +):\n%s", what, diff)
	}
}

func (w *world) audit() store.Audit {
	w.audits++
	return store.Audit{ID: fmt.Sprintf("aud_%04d", w.audits), Time: noon(0), Actor: "op", Action: "test"}
}

func noon(day int) time.Time {
	return time.Date(2026, 1, 1, 12, 0, 0, 123_456_000, time.UTC).AddDate(0, 0, day)
}

func cus(n int) string { return fmt.Sprint("cus_", n) }

func eur(minor int64) money.Amount { return money.NewAmount(minor, money.MustCurrency("EUR")) }

// deposit is an entry over money for the balance.
func (w *world) deposit(n, customer int, minor int64) ledger.Entry {
	w.Helper()
	e, err := ledger.OfPayment(ledger.Payment{
		ID: fmt.Sprintf("pay_%d", n), CustomerID: cus(customer), Amount: eur(minor), Receivable: eur(0), At: noon(n),
	})
	w.ok(err)
	return e
}

// finalize stores an invoice that is due on a day (0: never), and what it posts.
func (w *world) finalize(n, customer int, total int64, due int) (invoice.Invoice, invoice.Standing) {
	w.Helper()
	c := store.Close{SubscriptionID: fmt.Sprint("sub_", customer), Period: period.Interval{Start: noon(n), End: noon(n + 1)}, ClosedAt: noon(n + 1)}
	_, err := w.r.BeginClose(w.Context(), c)
	w.ok(err)
	dueAt := time.Time{}
	if due > 0 {
		dueAt = noon(due)
	}
	draft := invoice.Invoice{
		ID: fmt.Sprint("inv_", n), CustomerID: cus(customer), SubscriptionID: c.SubscriptionID, Plan: "pro", Status: invoice.Draft,
		Currency: money.MustCurrency("EUR"), Period: c.Period, Total: eur(total), Lines: []invoice.Line{{
			ID: fmt.Sprint("iln_", n), Number: 1, Kind: invoice.FlatLine, Price: "fee", Period: c.Period, Quantity: money.FromInt(1),
			Exact: eur(total).Decimal(), Rounded: eur(total),
		}},
		DueAt: dueAt,
	}
	posted := draft
	posted.FinalizedAt = noon(n + 1)
	entries, err := ledger.OfInvoice(posted, nil)
	w.ok(err)
	inv, err := w.r.FinishClose(w.Context(), c, store.Issue{Invoice: &draft, Entries: entries}, noon(n+1))
	w.ok(err)
	stored, err := w.r.Standings(w.Context(), []string{inv.ID})
	w.ok(err)
	return *inv, stored[inv.ID]
}

func entriesOnce(w *world) {
	ctx := w.Context()
	e := w.deposit(1, 1, 500)
	w.ok(w.r.PutEntries(ctx, []ledger.Entry{e, e}, w.audit()))
	w.ok(w.r.PutEntries(ctx, []ledger.Entry{e}, w.audit()))
	other := w.deposit(1, 1, 501)
	w.refused("other amount", w.r.PutEntries(ctx, []ledger.Entry{w.deposit(2, 1, 5), other}, w.audit()), store.ErrConflict)
	late := e
	late.At = noon(9)
	w.refused("other time", w.r.PutEntries(ctx, []ledger.Entry{late}, w.audit()), store.ErrConflict)
	got, err := w.r.Entries(ctx, store.EntryQuery{Query: store.Query{Limit: 10}})
	w.ok(err)
	w.same("entries", got, []ledger.Entry{e})
}

func entriesWhole(w *world) {
	ctx := w.Context()
	lame := w.deposit(1, 1, 500)
	lame.Postings = slices.Clone(lame.Postings)
	lame.Postings[0].Amount = eur(499)
	w.refused("does not balance", w.r.PutEntries(ctx, []ledger.Entry{lame}, w.audit()), ledger.ErrInvalid)
	w.refused("unknown customer", w.r.PutEntries(ctx, []ledger.Entry{w.deposit(1, 7, 500)}, w.audit()), store.ErrNotFound)
	yen, err := ledger.OfPayment(ledger.Payment{
		ID: "pay_y", CustomerID: cus(1), Amount: money.NewAmount(5, money.MustCurrency("JPY")), Receivable: money.NewAmount(0, money.MustCurrency("JPY")), At: noon(1),
	})
	w.ok(err)
	w.refused("other currency", w.r.PutEntries(ctx, []ledger.Entry{w.deposit(2, 1, 5), yen}, w.audit()), store.ErrConflict)
	got, err := w.r.Entries(ctx, store.EntryQuery{Query: store.Query{Limit: 10}})
	w.ok(err)
	w.same("nothing is stored", got, []ledger.Entry{})
}

func entriesPaged(w *world) {
	ctx := w.Context()
	var want []ledger.Entry // newest first
	for n := 1; n <= 5; n++ {
		e := w.deposit(n, 1+n%2, int64(n))
		w.ok(w.r.PutEntries(ctx, []ledger.Entry{e}, w.audit()))
		want = append([]ledger.Entry{e}, want...)
	}
	list := func(q store.EntryQuery) []ledger.Entry {
		w.Helper()
		got, err := w.r.Entries(ctx, q)
		w.ok(err)
		return got
	}
	w.same("first page", list(store.EntryQuery{Query: store.Query{Limit: 2}}), want[:2])
	w.same("second page", list(store.EntryQuery{Query: store.Query{Limit: 2, Cursor: want[1].ID}}), want[2:4])
	w.same("of a customer", list(store.EntryQuery{Query: store.Query{Limit: 9, CustomerID: cus(1)}}), []ledger.Entry{want[1], want[3]})
	w.same("of a payment", list(store.EntryQuery{Query: store.Query{Limit: 9}, Reference: "pay_4"}), want[1:2])
	w.same("of an account", list(store.EntryQuery{Query: store.Query{Limit: 9}, Account: ledger.Balance}), want)
	w.same("of another account", list(store.EntryQuery{Query: store.Query{Limit: 9}, Account: ledger.Tax}), []ledger.Entry{})
	_, err := w.r.Entries(ctx, store.EntryQuery{Query: store.Query{Limit: 2, Cursor: "led_x"}})
	w.refused("unknown cursor", err, store.ErrNotFound)
}

func balances(w *world) {
	ctx := w.Context()
	w.ok(w.r.PutEntries(ctx, []ledger.Entry{w.deposit(1, 1, 500), w.deposit(2, 1, 30), w.deposit(3, 2, 7)}, w.audit()))
	balance := func(customer int, want int64) {
		w.Helper()
		got, err := w.r.Balance(ctx, cus(customer), ledger.Balance)
		w.ok(err)
		w.same("balance", got, eur(want))
	}
	balance(1, -530)
	balance(2, -7)
	back, err := ledger.OfRefund("pay_9", cus(1), eur(530), noon(4))
	w.ok(err)
	w.ok(w.r.PutEntries(ctx, []ledger.Entry{back}, w.audit()))
	balance(1, 0)
	more, err := ledger.OfRefund("pay_10", cus(1), eur(1), noon(4))
	w.ok(err)
	w.refused("more than there is", w.r.PutEntries(ctx, []ledger.Entry{more}, w.audit()), store.ErrUncovered)
	balance(1, 0)
	_, err = w.r.Balance(ctx, "cus_x", ledger.Balance)
	w.refused("unknown customer", err, store.ErrNotFound)
}
