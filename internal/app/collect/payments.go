package collect

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/app/notify"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/ledger"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// NewPayment is money to be recorded.
type NewPayment struct {
	Amount     money.Amount // above 0, in the customer's currency
	Method     string
	Reference  string // of the bank or provider: of two payments of a customer with the same one is recorded; empty: none
	Note       string
	ReceivedAt time.Time // zero: now; not after it
}

func (p *NewPayment) check(now time.Time, currency money.Currency) error {
	switch {
	case p.Amount.Currency() != currency:
		return &Invalid{Pointer: "/amount/currency", Rule: "must be " + currency.Code() + ", the customer's currency", Fix: "change the amount into it"}
	case p.Amount.Minor() <= 0:
		return &Invalid{Pointer: "/amount/amount", Rule: "must be above 0", Fix: "to give money back, write a credit note or refund the balance"}
	case p.ReceivedAt.After(now):
		return &Invalid{Pointer: "/received_at", Rule: "must not lie in the future", Fix: "record it when the money is there"}
	}
	if p.ReceivedAt.IsZero() {
		p.ReceivedAt = now
	}
	p.ReceivedAt = period.Truncate(p.ReceivedAt)
	return errors.Join(checkText("/method", p.Method, false), checkText("/reference", p.Reference, false), checkText("/note", p.Note, false))
}

// Pay records a payment of an invoice: what is left of it is paid, the rest goes to the balance. An uncollectible invoice is
// open again with it. A payment that is recorded already, by its reference, is answered as it was. *Invalid;
// account.ErrNotFound; account.ErrState: the invoice is void; account.ErrExists: the reference is of another payment.
func (s *Service) Pay(ctx context.Context, actor, invoiceID string, p NewPayment) (store.Payment, View, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pay(ctx, actor, invoiceID, p)
}

func (s *Service) pay(ctx context.Context, actor, invoiceID string, p NewPayment) (store.Payment, View, error) {
	now := s.now()
	st, err := s.standing(ctx, invoiceID)
	if err != nil {
		return store.Payment{}, View{}, err
	}
	if err := p.check(now, st.Currency()); err != nil {
		return store.Payment{}, View{}, err
	}
	if have, ok, err := s.recorded(ctx, st.CustomerID, invoiceID, store.PaymentIn, p); err != nil || ok {
		return have, s.view(st), err
	}
	out, err := s.newPayment(now, actor, st.CustomerID, store.PaymentIn, p)
	if err != nil {
		return out, View{}, err
	}
	out.InvoiceID = invoiceID
	next, applied, err := st.Pay(p.Amount, now, actor, out.ID)
	if err != nil {
		return out, View{}, state(err)
	}
	out.Applied = applied
	entries, err := s.revived(ctx, st, now)
	if err != nil {
		return out, View{}, err
	}
	e, err := ledger.OfPayment(ledger.Payment{ID: out.ID, CustomerID: st.CustomerID, Amount: p.Amount, Receivable: applied, At: now})
	if err != nil {
		return out, View{}, err
	}
	a, err := s.audit(now, actor, "invoice.pay", invoiceID, map[string]string{"payment": out.ID, "amount": p.Amount.String(), "reference": p.Reference})
	if err != nil {
		return out, View{}, err
	}
	if err := s.move(ctx, store.Movement{Standing: &next, Entries: append(entries, e), Payment: &out}, a); err != nil {
		return out, View{}, err
	}
	return out, s.view(next), s.settled(ctx, st, next)
}

// newPayment is a payment with an id; nothing of it is applied yet.
func (s *Service) newPayment(now time.Time, actor, customerID string, kind store.PaymentKind, p NewPayment) (store.Payment, error) {
	id, err := account.NewID("pay", now, s.cfg.Random)
	return store.Payment{
		ID: id, Kind: kind, CustomerID: customerID, Amount: p.Amount, Applied: money.NewAmount(0, p.Amount.Currency()), Method: p.Method,
		Reference: p.Reference, Note: p.Note, ReceivedAt: p.ReceivedAt, CreatedAt: now, Actor: actor,
	}, err
}

// recorded finds the payment that has the reference already.
func (s *Service) recorded(ctx context.Context, customerID, invoiceID string, kind store.PaymentKind, p NewPayment) (have store.Payment, ok bool, err error) {
	if p.Reference == "" {
		return have, false, nil
	}
	list, err := s.cfg.Records.Payments(ctx, store.RecordQuery{Query: store.Query{Limit: 1, CustomerID: customerID}, Reference: p.Reference})
	if err != nil || len(list) == 0 {
		return have, false, err
	}
	have = list[0]
	if have.InvoiceID != invoiceID || have.Kind != kind || have.Amount != p.Amount {
		return have, false, fmt.Errorf("payment %s of %s has the reference %q already: %w", have.ID, have.Amount, p.Reference, account.ErrExists)
	}
	return have, true, nil
}

// revived takes back what was written off of an invoice that is paid after all; mu is held.
func (s *Service) revived(ctx context.Context, st invoice.Standing, now time.Time) ([]ledger.Entry, error) {
	if st.Status != invoice.Uncollectible {
		return nil, nil
	}
	return s.reversals(ctx, st, now, func(e ledger.Entry) bool { return e.Kind == ledger.WrittenOff })
}

// settled does what follows when an invoice has nothing left to pay: a notice, and the end of a suspension.
func (s *Service) settled(ctx context.Context, before, after invoice.Standing) error {
	if after.Status == invoice.Paid && before.Status != invoice.Paid {
		if err := s.tell(ctx, notify.InvoicePaid, after, 0); err != nil {
			s.cfg.Log.WarnContext(ctx, "a paid invoice was not told of", slog.String("invoice", after.InvoiceID), slog.Any("error", err))
		}
	}
	if s.suspended[after.CustomerID] && after.Status != invoice.Finalized {
		return s.suspensions(ctx)
	}
	return nil
}

// Deposit records money for a customer's balance, which pays later invoices. Errors as Pay's.
func (s *Service) Deposit(ctx context.Context, actor, ref string, p NewPayment) (store.Payment, error) {
	return s.balance(ctx, actor, ref, store.PaymentIn, "balance.deposit", p)
}

// Withdraw records money that was given back out of a customer's balance. account.ErrState: the balance does not cover it.
func (s *Service) Withdraw(ctx context.Context, actor, ref string, p NewPayment) (store.Payment, error) {
	return s.balance(ctx, actor, ref, store.PaymentOut, "balance.refund", p)
}

func (s *Service) balance(ctx context.Context, actor, ref string, kind store.PaymentKind, action string, p NewPayment) (store.Payment, error) {
	c, ok := s.cfg.Directory.Customer(ref)
	if !ok {
		return store.Payment{}, fmt.Errorf("there is no customer %q; `tally customers list` shows all: %w", ref, account.ErrNotFound)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if err := p.check(now, c.Currency); err != nil {
		return store.Payment{}, err
	}
	if have, ok, err := s.recorded(ctx, c.ID, "", kind, p); err != nil || ok {
		return have, err
	}
	out, err := s.newPayment(now, actor, c.ID, kind, p)
	if err != nil {
		return out, err
	}
	var e ledger.Entry
	if kind == store.PaymentOut {
		e, err = ledger.OfRefund(out.ID, c.ID, p.Amount, now)
	} else {
		e, err = ledger.OfPayment(ledger.Payment{ID: out.ID, CustomerID: c.ID, Amount: p.Amount, Receivable: out.Applied, At: now})
	}
	if err != nil {
		return out, err
	}
	a, err := s.audit(now, actor, action, c.ID, map[string]string{"payment": out.ID, "amount": p.Amount.String(), "reference": p.Reference})
	if err != nil {
		return out, err
	}
	return out, s.move(ctx, store.Movement{Entries: []ledger.Entry{e}, Payment: &out}, a)
}

// state turns an invoice's refusals into those of the layers above.
func state(err error) error {
	for _, x := range []struct{ theirs, ours error }{{invoice.ErrState, account.ErrState}, {invoice.ErrInvalid, account.ErrInvalid}} {
		if errors.Is(err, x.theirs) {
			return fmt.Errorf("%w: %s", x.ours, strings.TrimSuffix(err.Error(), ": "+x.theirs.Error()))
		}
	}
	return err
}
