package collect_test

import (
	"strings"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/collect"
	"github.com/tallystick/tallystick/internal/app/notify"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/store"
)

func TestPayments(t *testing.T) {
	t.Parallel()
	w, ctx := newWorld(t, t.TempDir()), t.Context()
	inv := w.finalize(14, 19, 1000)
	w.stands(inv, invoice.Finalized, 1190)
	p, v, err := w.Pay(ctx, "op", inv.ID, collect.NewPayment{Amount: eur(190), Method: "transfer", Reference: "bank 1"})
	w.ok(err)
	if p.Applied != eur(190) || v.Remaining != eur(1000) || p.ReceivedAt != w.now {
		t.Errorf("%+v %+v", p, v)
	}
	again, _, err := w.Pay(ctx, "op", inv.ID, collect.NewPayment{Amount: eur(190), Method: "transfer", Reference: "bank 1"})
	w.ok(err)
	if again.ID != p.ID {
		t.Errorf("recorded twice: %s and %s", p.ID, again.ID)
	}
	_, _, err = w.Pay(ctx, "op", inv.ID, collect.NewPayment{Amount: eur(191), Reference: "bank 1"})
	w.refused("the reference of another payment", err, account.ErrExists)
	w.stands(inv, invoice.Finalized, 1000)
	w.toldIs()
	_, v, err = w.Pay(ctx, "op", inv.ID, paid(1050))
	w.ok(err)
	if v.Shown != invoice.Paid || v.Paid != eur(1190) {
		t.Errorf("%+v", v)
	}
	w.stands(inv, invoice.Paid, 0)
	w.balanceIs(50)
	w.toldIs(notify.InvoicePaid)
	_, _, err = w.Pay(ctx, "op", inv.ID, paid(7)) // twice by mistake
	w.ok(err)
	w.balanceIs(57)
	w.stands(inv, invoice.Paid, 0)
	list, err := w.Payments(ctx, store.RecordQuery{InvoiceID: inv.ID})
	w.ok(err)
	if len(list) != 3 {
		t.Errorf("%d payments", len(list))
	}
	history, err := w.History(ctx, inv.ID)
	w.ok(err)
	if len(history) != 4 || history[3].Status != invoice.Paid || history[1].Reference != p.ID {
		t.Errorf("history %+v", history)
	}

	for what, bad := range map[string]collect.NewPayment{
		"currency": {Amount: money.NewAmount(5, money.MustCurrency("USD"))}, "zero": paid(0), "negative": paid(-5),
		"future": {Amount: eur(5), ReceivedAt: w.now.Add(time.Second)}, "note": {Amount: eur(5), Note: strings.Repeat("x", 501)}, "line": {Amount: eur(5), Method: "a\nb"},
	} {
		_, _, err := w.Pay(ctx, "op", inv.ID, bad)
		w.refused(what, err, account.ErrInvalid)
	}
	_, _, err = w.Pay(ctx, "op", "inv_x", paid(5))
	w.refused("no invoice", err, account.ErrNotFound)
	_, _, err = w.Pay(ctx, "", inv.ID, paid(5))
	w.refused("nobody pays", err, account.ErrInvalid)
}

func TestBalance(t *testing.T) {
	t.Parallel()
	w, ctx := newWorld(t, t.TempDir()), t.Context()
	_, err := w.Deposit(ctx, "op", "acme", collect.NewPayment{Amount: eur(500), Reference: "r"})
	w.ok(err)
	_, err = w.Deposit(ctx, "op", "cus_1", collect.NewPayment{Amount: eur(500), Reference: "r"})
	w.ok(err)
	w.balanceIs(500)
	_, err = w.Withdraw(ctx, "op", "acme", paid(501))
	w.refused("more than there is", err, account.ErrState)
	w.balanceIs(500)
	_, err = w.Withdraw(ctx, "op", "acme", paid(500))
	w.ok(err)
	w.balanceIs(0)
	w.conserved()
	_, err = w.Deposit(ctx, "op", "nobody", paid(1))
	w.refused("no customer", err, account.ErrNotFound)
	_, err = w.Deposit(ctx, "op", "acme", collect.NewPayment{Amount: money.NewAmount(1, money.MustCurrency("USD"))})
	w.refused("other currency", err, account.ErrInvalid)
}

func TestVoid(t *testing.T) {
	t.Parallel()
	w, ctx := newWorld(t, t.TempDir()), t.Context()
	inv := w.finalize(14, 19, 1000)
	_, err := w.Void(ctx, "op", inv.ID, "")
	w.refused("without a reason", err, account.ErrInvalid)
	v, err := w.Void(ctx, "op", inv.ID, "wrong customer")
	w.ok(err)
	if v.Shown != invoice.Void || v.Reason != "wrong customer" || v.Actor != "op" {
		t.Errorf("%+v", v)
	}
	w.stands(inv, invoice.Void, 0)
	entries, err := w.Entries(ctx, store.EntryQuery{Reference: inv.ID})
	w.ok(err)
	sums := map[string]int64{}
	for _, e := range entries {
		for _, p := range e.Postings {
			sums[string(p.Account)] += p.Amount.Minor()
		}
	}
	for a, n := range sums {
		if n != 0 {
			t.Errorf("%s still has %d of a void invoice", a, n)
		}
	}
	_, _, err = w.Pay(ctx, "op", inv.ID, paid(5))
	w.refused("pay a void one", err, account.ErrState)
	_, err = w.Void(ctx, "op", inv.ID, "again")
	w.refused("void twice", err, account.ErrState)
	_, _, err = w.CreditNote(ctx, "op", inv.ID, nil, "r")
	w.refused("credit a void one", err, account.ErrState)

	part := w.finalize(14, 0, 100)
	_, _, err = w.Pay(ctx, "op", part.ID, paid(1))
	w.ok(err)
	_, err = w.Void(ctx, "op", part.ID, "r")
	w.refused("void what is paid in part", err, account.ErrState)
	lost := w.finalize(14, 0, 100)
	_, err = w.Uncollectible(ctx, "op", lost.ID, "r")
	w.ok(err)
	_, err = w.Void(ctx, "op", lost.ID, "r")
	w.ok(err)
	w.stands(lost, invoice.Void, 0)
}

func TestUncollectibleIsRevivedByAPayment(t *testing.T) {
	t.Parallel()
	w, ctx := newWorld(t, t.TempDir()), t.Context()
	inv := w.finalize(14, 0, 1000)
	_, err := w.Uncollectible(ctx, "op", inv.ID, "bankrupt")
	w.ok(err)
	w.stands(inv, invoice.Uncollectible, 1000)
	owed, err := w.Owed(ctx, "cus_1")
	w.ok(err)
	if owed.Minor() != 0 {
		t.Errorf("%s are owed of what was given up", owed)
	}
	_, _, err = w.Pay(ctx, "op", inv.ID, paid(300))
	w.ok(err)
	w.stands(inv, invoice.Finalized, 700)
	_, err = w.Uncollectible(ctx, "op", inv.ID, "again")
	w.ok(err)
	w.stands(inv, invoice.Uncollectible, 700)
	_, _, err = w.Pay(ctx, "op", inv.ID, paid(800))
	w.ok(err)
	w.stands(inv, invoice.Paid, 0)
	w.balanceIs(100)
	_, err = w.Uncollectible(ctx, "op", inv.ID, "r")
	w.refused("give up what is paid", err, account.ErrState)
}

func TestCreditNotes(t *testing.T) {
	t.Parallel()
	w, ctx := newWorld(t, t.TempDir()), t.Context()
	inv := w.finalize(14, 19, 1000, 333, -100) // 1233 and 234 of tax
	take := func(line string, minor int64) collect.TakeBack {
		return collect.TakeBack{Line: line, Amount: eur(minor)}
	}
	for what, parts := range map[string][]collect.TakeBack{
		"more than the line": {take("1", 1001)}, "a line of no invoice": {take("4", 1)}, "a discount": {take("3", 5)}, "nothing": {take("1", 0)},
		"a line twice": {take("1", 5), take(inv.Lines[0].ID, 5)}, "less than nothing": {take("1", -5)},
		"other currency":        {{Line: "1", Amount: money.NewAmount(5, money.MustCurrency("USD"))}},
		"more than the invoice": {take("1", 1000), take("2", 333)},
	} {
		_, _, err := w.CreditNote(ctx, "op", inv.ID, parts, "r")
		w.refused(what, err, account.ErrInvalid)
	}
	_, _, err := w.CreditNote(ctx, "op", inv.ID, nil, "")
	w.refused("without a reason", err, account.ErrInvalid)
	note, v, err := w.CreditNote(ctx, "op", inv.ID, []collect.TakeBack{take("1", 100)}, "outage")
	w.ok(err)
	if note.Number != 1 || note.Net != eur(100) || note.Tax != eur(19) || note.Off != eur(119) || v.Remaining != eur(1467-119) {
		t.Errorf("%+v %+v", note, v)
	}
	_, _, err = w.Pay(ctx, "op", inv.ID, paid(1000))
	w.ok(err)
	w.stands(inv, invoice.Finalized, 348)
	_, err = w.Void(ctx, "op", inv.ID, "r")
	w.refused("void after a credit note", err, account.ErrState)
	note, v, err = w.CreditNote(ctx, "op", inv.ID, nil, "all of it")
	w.ok(err)
	if note.Number != 2 || note.Total != eur(1348) || note.Tax != eur(234-19) || note.Off != eur(348) || v.Shown != invoice.Paid || len(note.Lines) != 3 {
		t.Errorf("%+v %+v", note, v)
	}
	w.balanceIs(1000)
	w.stands(inv, invoice.Paid, 0)
	_, _, err = w.CreditNote(ctx, "op", inv.ID, nil, "more")
	w.refused("nothing is left", err, account.ErrInvalid)
	list, err := w.CreditNotes(ctx, store.RecordQuery{InvoiceID: inv.ID})
	w.ok(err)
	if len(list) != 2 || list[0].ID != note.ID {
		t.Errorf("%+v", list)
	}
}

// TestOlderInvoices posts what was finalized before there was a ledger.
func TestOlderInvoices(t *testing.T) {
	t.Parallel()
	w := newWorld(t, t.TempDir())
	inv, nothing := w.finalize(14, 19, 100), w.finalize(14, 0, 0)
	w.stands(nothing, invoice.Paid, 0)
	w.ok(w.tick())
	owed, err := w.Owed(t.Context(), "cus_1")
	w.ok(err)
	if owed != eur(119) {
		t.Errorf("owed %s", owed)
	}
	w.stands(inv, invoice.Finalized, 119)
	w.ok(w.tick())
	if h, err := w.History(t.Context(), nothing.ID); err != nil || len(h) != 1 {
		t.Errorf("%+v %v", h, err)
	}
}
