package ledgertest

import (
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/ledger"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/store"
)

func standings(w *world) {
	ctx := w.Context()
	_, first := w.finalize(1, 1, 1000, 40)
	second, applied, err := first.Pay(eur(400), noon(41), "op", "pay_1")
	w.ok(err)
	w.same("applied", applied, eur(400))
	third, left, err := second.GivenUp(noon(50), "op", "bankrupt")
	w.ok(err)
	w.same("left", left, eur(600))
	w.refused("a turn is left out", w.r.Move(ctx, store.Movement{Standing: &third}, w.audit()), store.ErrConflict)
	for _, s := range []invoice.Standing{second, third} {
		w.ok(w.r.Move(ctx, store.Movement{Standing: &s}, w.audit()))
	}
	w.refused("a turn twice", w.r.Move(ctx, store.Movement{Standing: &second}, w.audit()), store.ErrConflict)
	got, err := w.r.Standings(ctx, []string{first.InvoiceID, "inv_x"})
	w.ok(err)
	w.same("newest", got, map[string]invoice.Standing{first.InvoiceID: third})
	history, err := w.r.StandingHistory(ctx, first.InvoiceID)
	w.ok(err)
	w.same("history", history, []invoice.Standing{first, second, third})
	bad := third
	bad.Turn, bad.Paid = 4, eur(1001)
	w.refused("amounts that contradict", w.r.Move(ctx, store.Movement{Standing: &bad}, w.audit()), invoice.ErrInvalid)
	lost := third
	lost.InvoiceID, lost.Turn = "inv_x", 1
	w.refused("no invoice", w.r.Move(ctx, store.Movement{Standing: &lost}, w.audit()), store.ErrNotFound)
}

func openInvoices(w *world) {
	ctx := w.Context()
	_, later := w.finalize(1, 1, 1000, 60)
	_, sooner := w.finalize(2, 2, 1000, 40)
	_, paid := w.finalize(3, 1, 0, 30)
	w.same("nothing to pay", paid.Status, invoice.Paid)
	_, between := w.finalize(4, 1, 1, 50)
	_, never := w.finalize(5, 2, 1, 0)
	open := func(q store.OpenQuery, want ...invoice.Standing) {
		w.Helper()
		got, err := w.r.OpenInvoices(ctx, q)
		w.ok(err)
		w.same("open", got, append([]invoice.Standing{}, want...))
	}
	open(store.OpenQuery{Limit: 9}, sooner, between, later, never)
	open(store.OpenQuery{Limit: 9, After: &later}, never)
	open(store.OpenQuery{Limit: 9, After: &never})
	open(store.OpenQuery{Limit: 9, DueBefore: noon(60)}, sooner, between)
	open(store.OpenQuery{Limit: 9, CustomerID: cus(1)}, between, later)
	open(store.OpenQuery{Limit: 1, After: &sooner}, between)
	next, _, err := sooner.Pay(eur(1000), noon(9), "op", "pay_1")
	w.ok(err)
	w.ok(w.r.Move(ctx, store.Movement{Standing: &next}, w.audit()))
	open(store.OpenQuery{Limit: 9}, between, later, never)
	ids, at, err := w.r.Unposted(ctx, 0, 10)
	w.ok(err)
	if len(ids) > 0 || at == 0 {
		w.Errorf("unposted %v, next %d", ids, at)
	}
}

func payments(w *world) {
	ctx := w.Context()
	inv, _ := w.finalize(1, 1, 1000, 40)
	first := store.Payment{
		ID: "pay_1", Kind: store.PaymentIn, CustomerID: cus(1), InvoiceID: inv.ID, Amount: eur(10), Applied: eur(9), Method: "transfer",
		Reference: "bank 7", Note: "n", ReceivedAt: noon(3), CreatedAt: noon(4), Actor: "op",
	}
	second := store.Payment{ID: "pay_2", Kind: store.PaymentOut, CustomerID: cus(2), Amount: eur(5), Applied: eur(0), ReceivedAt: noon(3), CreatedAt: noon(4), Actor: "op"}
	for _, p := range []store.Payment{first, second} {
		w.ok(w.r.Move(ctx, store.Movement{Payment: &p}, w.audit()))
	}
	again := first
	again.ID = "pay_3"
	w.refused("a reference twice", w.r.Move(ctx, store.Movement{Payment: &again}, w.audit()), store.ErrExists)
	again.CustomerID, again.InvoiceID = cus(2), ""
	w.ok(w.r.Move(ctx, store.Movement{Payment: &again}, w.audit()))
	list := func(q store.RecordQuery, want ...store.Payment) {
		w.Helper()
		q.Limit = max(q.Limit, 1)
		got, err := w.r.Payments(ctx, q)
		w.ok(err)
		w.same("payments", got, append([]store.Payment{}, want...))
	}
	list(store.RecordQuery{Query: store.Query{Limit: 9}}, again, second, first)
	list(store.RecordQuery{Query: store.Query{Limit: 1, Cursor: "pay_3"}}, second)
	list(store.RecordQuery{Query: store.Query{Limit: 9, CustomerID: cus(2)}}, again, second)
	list(store.RecordQuery{Query: store.Query{Limit: 9}, InvoiceID: inv.ID}, first)
	list(store.RecordQuery{Query: store.Query{Limit: 9, CustomerID: cus(1)}, Reference: "bank 7"}, first)
}

func creditNotes(w *world) {
	ctx := w.Context()
	var want []store.CreditNote
	for n := 1; n <= 3; n++ {
		inv, _ := w.finalize(n, 1+n%2, 1000, 40)
		note := store.CreditNote{
			ID: "crn_" + string(rune('z'-n)), InvoiceID: inv.ID, CustomerID: inv.CustomerID, Net: eur(10), Tax: eur(2), Total: eur(12), Off: eur(12),
			Lines: []store.CreditNoteLine{{LineID: inv.Lines[0].ID, Net: eur(10), Tax: eur(2)}}, Reason: "r", Actor: "op", CreatedAt: noon(n),
		}
		bad := note
		bad.Total = eur(13)
		if err := w.r.Move(ctx, store.Movement{CreditNote: &bad}, w.audit()); err == nil {
			w.Error("a total that is no sum was stored")
		}
		w.ok(w.r.Move(ctx, store.Movement{CreditNote: &note}, w.audit()))
		w.same("number", note.Number, int64(n))
		want = append([]store.CreditNote{note}, want...)
	}
	twice := want[0]
	w.refused("an id twice", w.r.Move(ctx, store.Movement{CreditNote: &twice}, w.audit()), store.ErrConflict)
	list := func(q store.RecordQuery, want ...store.CreditNote) {
		w.Helper()
		got, err := w.r.CreditNotes(ctx, q)
		w.ok(err)
		w.same("credit notes", got, append([]store.CreditNote{}, want...))
	}
	list(store.RecordQuery{Query: store.Query{Limit: 9}}, want...)
	list(store.RecordQuery{Query: store.Query{Limit: 1, Cursor: want[0].ID}}, want[1])
	list(store.RecordQuery{Query: store.Query{Limit: 9, CustomerID: cus(1)}}, want[1])
	list(store.RecordQuery{Query: store.Query{Limit: 9}, InvoiceID: "inv_1"}, want[2])
	list(store.RecordQuery{Query: store.Query{Limit: 9}, ID: want[1].ID}, want[1])
	list(store.RecordQuery{Query: store.Query{Limit: 9}, ID: "crn_none"})
}

// A movement of which one part cannot be stored leaves nothing, the number of its credit note included.
func movementsAreOne(w *world) {
	ctx := w.Context()
	inv, s := w.finalize(1, 1, 1000, 40)
	next, off, err := s.Credit(eur(100), noon(9), "op", "r", "crn_1")
	w.ok(err)
	e, err := ledger.OfCreditNote(ledger.Credit{ID: "crn_1", CustomerID: cus(1), Net: eur(100), Tax: eur(0), Receivable: off, At: noon(9)})
	w.ok(err)
	note := store.CreditNote{
		ID: "crn_1", InvoiceID: inv.ID, CustomerID: cus(1), Net: eur(100), Tax: eur(0), Total: eur(100), Off: off, Reason: "r", CreatedAt: noon(9),
	}
	m := store.Movement{Standing: &next, Entries: []ledger.Entry{e}, CreditNote: &note}
	before, err := w.r.Entries(ctx, store.EntryQuery{Query: store.Query{Limit: 9}})
	w.ok(err)
	lost := store.Payment{ID: "pay_1", Kind: store.PaymentIn, CustomerID: "cus_x", Amount: eur(1), Applied: eur(0), ReceivedAt: noon(1), CreatedAt: noon(1)}
	broken := m
	broken.Payment = &lost
	w.refused("a payment of nobody", w.r.Move(ctx, broken, w.audit()), store.ErrNotFound)
	got, err := w.r.Standings(ctx, []string{inv.ID})
	w.ok(err)
	w.same("standing", got[inv.ID], s)
	after, err := w.r.Entries(ctx, store.EntryQuery{Query: store.Query{Limit: 9}})
	w.ok(err)
	w.same("entries", after, before)
	a := w.audit()
	w.ok(w.r.Move(ctx, m, a))
	w.same("number", note.Number, int64(1))
	w.refused("an audit entry twice", w.r.PutEntries(ctx, nil, a), store.ErrExists)
}

func dunning(w *world) {
	ctx := w.Context()
	inv, s := w.finalize(1, 1, 1000, 40)
	step := store.DunningStep{InvoiceID: inv.ID, Step: "suspend", At: noon(50)}
	reminder := store.DunningStep{InvoiceID: inv.ID, Step: "reminder/3", At: noon(43)}
	for _, d := range []store.DunningStep{step, reminder} {
		added, err := w.r.PutStep(ctx, d)
		w.ok(err)
		w.same("added", added, true)
	}
	again := step
	again.At = noon(60)
	added, err := w.r.PutStep(ctx, again)
	w.ok(err)
	w.same("added twice", added, false)
	steps, err := w.r.Steps(ctx, inv.ID)
	w.ok(err)
	w.same("steps", steps, []store.DunningStep{reminder, step})
	suspended := func(want ...string) {
		w.Helper()
		got, err := w.r.Suspended(ctx, "suspend")
		w.ok(err)
		w.same("suspended", got, append([]string{}, want...))
	}
	suspended(cus(1))
	next, _, err := s.Pay(eur(1000), noon(61), "op", "pay_1")
	w.ok(err)
	w.ok(w.r.Move(ctx, store.Movement{Standing: &next}, w.audit()))
	suspended()
	_, err = w.r.PutStep(ctx, store.DunningStep{InvoiceID: "inv_x", Step: "suspend", At: noon(1)})
	w.refused("no invoice", err, store.ErrNotFound)
}

func conservationSees(w *world) {
	ctx := w.Context()
	_, s := w.finalize(1, 1, 1000, 40)
	w.finalize(2, 2, 70, 40)
	conserved := func(c store.Conservation) {
		w.Helper()
		c.Currency = money.MustCurrency("EUR")
		got, err := w.r.Conservation(ctx)
		w.ok(err)
		w.same("conservation", got, []store.Conservation{c})
	}
	conserved(store.Conservation{Sum: eur(0), Receivable: eur(1070), Open: eur(1070), Balance: eur(0), Deposited: eur(0), Difference: eur(0)})
	// A payment of 1200 whose entry is not stored with it, then only that.
	next, applied, err := s.Pay(eur(1200), noon(9), "op", "pay_1")
	w.ok(err)
	p := store.Payment{ID: "pay_1", Kind: store.PaymentIn, CustomerID: cus(1), InvoiceID: s.InvoiceID, Amount: eur(1200), Applied: applied, ReceivedAt: noon(9), CreatedAt: noon(9)}
	w.ok(w.r.Move(ctx, store.Movement{Standing: &next, Payment: &p}, w.audit()))
	conserved(store.Conservation{
		Sum: eur(0), Receivable: eur(1070), Open: eur(70), Balance: eur(0), Deposited: eur(200), Wrong: []string{cus(1)}, Difference: eur(1200),
	})
	e, err := ledger.OfPayment(ledger.Payment{ID: p.ID, CustomerID: cus(1), Amount: p.Amount, Receivable: applied, At: noon(9)})
	w.ok(err)
	w.ok(w.r.PutEntries(ctx, []ledger.Entry{e}, w.audit()))
	conserved(store.Conservation{Sum: eur(0), Receivable: eur(70), Open: eur(70), Balance: eur(200), Deposited: eur(200), Difference: eur(0)})
}
