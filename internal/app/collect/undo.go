package collect

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"github.com/tallystick/tallystick/internal/app/notify"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/ledger"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/store"
)

// reversals takes back the entries of an invoice that are wanted and were not taken back yet.
func (s *Service) reversals(ctx context.Context, st invoice.Standing, now time.Time, want func(ledger.Entry) bool) ([]ledger.Entry, error) {
	// Each turn makes at most two entries, and the first one two.
	entries, err := s.cfg.Records.Entries(ctx, store.EntryQuery{Query: store.Query{Limit: pageMax}, Reference: st.InvoiceID})
	if err != nil {
		return nil, err
	}
	if len(entries) == pageMax {
		return nil, fmt.Errorf("%w: invoice %s has too many entries", account.ErrState, st.InvoiceID)
	}
	var out []ledger.Entry
	for _, e := range slices.Backward(entries) {
		if e.Kind == ledger.Reversed || !want(e) {
			continue
		}
		back, err := e.Reversal(now)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(entries, func(x ledger.Entry) bool { return x.Key == back.Key }) {
			out = append(out, back)
		}
	}
	return out, nil
}

// Void takes a whole invoice back, of which nothing was paid or credited: all that it posted is reversed, and what the balance
// had paid is there again. *Invalid; account.ErrNotFound; account.ErrState.
func (s *Service) Void(ctx context.Context, actor, invoiceID, reason string) (View, error) {
	return s.end(ctx, actor, invoiceID, reason, "invoice.void", func(st invoice.Standing, now time.Time) (invoice.Standing, []ledger.Entry, error) {
		next, err := st.Voided(now, actor, reason)
		if err != nil {
			return st, nil, err
		}
		entries, err := s.reversals(ctx, st, now, func(ledger.Entry) bool { return true })
		return next, entries, err
	})
}

// Uncollectible gives an open invoice up: what is left of it is a loss. A payment revives it. Errors as Void's.
func (s *Service) Uncollectible(ctx context.Context, actor, invoiceID, reason string) (View, error) {
	return s.end(ctx, actor, invoiceID, reason, "invoice.uncollectible", func(st invoice.Standing, now time.Time) (invoice.Standing, []ledger.Entry, error) {
		return givenUp(st, now, actor, reason)
	})
}

func givenUp(st invoice.Standing, now time.Time, actor, reason string) (invoice.Standing, []ledger.Entry, error) {
	next, left, err := st.GivenUp(now, actor, reason)
	if err != nil {
		return st, nil, err
	}
	e, err := ledger.OfWriteOff(st.InvoiceID, st.CustomerID, next.Turn, left, now)
	return next, []ledger.Entry{e}, err
}

// end makes an invoice void or uncollectible.
func (s *Service) end(ctx context.Context, actor, invoiceID, reason, action string,
	change func(invoice.Standing, time.Time) (invoice.Standing, []ledger.Entry, error),
) (View, error) {
	if err := checkText("/reason", reason, true); err != nil {
		return View{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	st, err := s.standing(ctx, invoiceID)
	if err != nil {
		return View{}, err
	}
	next, entries, err := change(st, now)
	if err != nil {
		return View{}, state(err)
	}
	a, err := s.audit(now, actor, action, invoiceID, map[string]string{"reason": reason, "remaining": st.Remaining().String()})
	if err != nil {
		return View{}, err
	}
	if err := s.move(ctx, store.Movement{Standing: &next, Entries: entries}, a); err != nil {
		return View{}, err
	}
	if next.Status == invoice.Uncollectible {
		if err := s.tell(ctx, notify.InvoiceUncollectible, next, 0); err != nil {
			s.cfg.Log.WarnContext(ctx, "an uncollectible invoice was not told of", slog.String("invoice", next.InvoiceID), slog.Any("error", err))
		}
	}
	return s.view(next), s.settled(ctx, st, next)
}

// TakeBack is a part of a credit note: an amount of a line, as the line counts.
type TakeBack struct {
	Line   string // a number from 1, or an iln_ id
	Amount money.Amount
}

// CreditNote takes back a part of an invoice, or without parts all that is left of it. It takes off what is left to pay; the rest
// goes to the balance. *Invalid; account.ErrNotFound; account.ErrState: the invoice is void or uncollectible.
func (s *Service) CreditNote(ctx context.Context, actor, invoiceID string, parts []TakeBack, reason string) (store.CreditNote, View, error) {
	if err := checkText("/reason", reason, true); err != nil {
		return store.CreditNote{}, View{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	st, err := s.standing(ctx, invoiceID)
	if err != nil {
		return store.CreditNote{}, View{}, err
	}
	note, err := s.creditNote(ctx, invoiceID, parts)
	if err != nil {
		return note, View{}, err
	}
	if note.ID, err = account.NewID("crn", now, s.cfg.Random); err != nil {
		return note, View{}, err
	}
	note.CustomerID, note.Reason, note.Actor, note.CreatedAt = st.CustomerID, reason, actor, now
	if st.Status == invoice.Finalized || st.Status == invoice.Paid {
		if left := st.Creditable(); note.Total.Minor() <= 0 || note.Total.Minor() > left.Minor() {
			return note, View{}, &Invalid{
				Pointer: "/lines", Rule: fmt.Sprintf("come to %s with tax, of the invoice %s are left to credit", note.Total, left), Fix: "take back less",
			}
		}
	}
	next, off, err := st.Credit(note.Total, now, actor, reason, note.ID)
	if err != nil {
		return note, View{}, state(err)
	}
	note.Off = off
	e, err := ledger.OfCreditNote(ledger.Credit{ID: note.ID, CustomerID: st.CustomerID, Net: note.Net, Tax: note.Tax, Receivable: off, At: now})
	if err != nil {
		return note, View{}, err
	}
	a, err := s.audit(now, actor, "invoice.credit", invoiceID, map[string]string{"credit_note": note.ID, "total": note.Total.String(), "reason": reason})
	if err != nil {
		return note, View{}, err
	}
	if err := s.move(ctx, store.Movement{Standing: &next, Entries: []ledger.Entry{e}, CreditNote: &note}, a); err != nil {
		return note, View{}, err
	}
	return note, s.view(next), s.settled(ctx, st, next)
}

// creditNote is a note's content.
func (s *Service) creditNote(ctx context.Context, invoiceID string, parts []TakeBack) (note store.CreditNote, err error) {
	inv, err := s.invoice(ctx, invoiceID)
	if err != nil {
		return note, err
	}
	takes := make([]invoice.Take, len(parts))
	for i, p := range parts {
		at := slices.IndexFunc(inv.Lines, func(l invoice.Line) bool { return l.ID == p.Line || strconv.Itoa(l.Number) == p.Line })
		if at < 0 {
			return note, &Invalid{Pointer: fmt.Sprintf("/lines/%d/line", i), Rule: "is no line of the invoice", Fix: "a number from 1, or an iln_ id"}
		}
		takes[i] = invoice.Take{LineID: inv.Lines[at].ID, Amount: p.Amount}
	}
	var before []invoice.LineCredit
	for cursor := ""; ; {
		notes, err := s.cfg.Records.CreditNotes(ctx, store.RecordQuery{Query: store.Query{Limit: pageMax, Cursor: cursor}, InvoiceID: invoiceID})
		if err != nil {
			return note, err
		}
		for _, n := range notes {
			for _, l := range n.Lines {
				before = append(before, invoice.LineCredit(l))
			}
			cursor = n.ID
		}
		if len(notes) < pageMax {
			break
		}
	}
	lines, err := invoice.CreditLines(inv, before, takes)
	if err != nil {
		return note, &Invalid{Pointer: "/lines", Rule: "cannot be taken back: " + err.Error(), Fix: "take back what is left of each line, or leave lines out to take back all"}
	}
	zero := money.NewAmount(0, inv.Currency)
	note = store.CreditNote{InvoiceID: invoiceID, Net: zero, Tax: zero, Off: zero}
	for _, l := range lines {
		if note.Net, err = note.Net.Add(l.Net); err != nil {
			return note, err
		}
		if note.Tax, err = note.Tax.Add(l.Tax); err != nil {
			return note, err
		}
		note.Lines = append(note.Lines, store.CreditNoteLine(l))
	}
	note.Total, err = note.Net.Add(note.Tax)
	return note, err
}
