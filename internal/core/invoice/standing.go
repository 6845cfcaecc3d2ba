package invoice

import (
	"fmt"
	"time"

	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
)

// PastDue is how a finalized invoice is shown that was not paid in time. It is never stored.
const PastDue Status = "past_due"

// Standing is where a finalized invoice is. Each change makes the next one, a turn later; none is ever altered. All amounts
// are in the invoice's currency.
type Standing struct {
	InvoiceID, CustomerID string
	Turn                  int64  // 1 when it was finalized
	Status                Status // Finalized, Paid, Void or Uncollectible
	Total                 money.Amount
	Applied               money.Amount // what the balance paid when it was finalized
	Paid                  money.Amount // by payments
	Credited              money.Amount // by credit notes
	CreditedDue           money.Amount // the part of Credited that took off what was owed; the rest went to the balance
	DueAt                 time.Time

	At        time.Time // of this turn
	Actor     string
	Reason    string
	Reference string // the payment or credit note of this turn
}

// Open is the first standing of a finalized invoice. Nothing to pay is paid.
func Open(inv Invoice, actor string) (Standing, error) {
	if inv.Status != Finalized || inv.FinalizedAt.IsZero() {
		return Standing{}, fmt.Errorf("open invoice %s: it is %q: %w", inv.ID, inv.Status, ErrState)
	}
	zero := money.NewAmount(0, inv.Currency)
	s := Standing{
		InvoiceID: inv.ID, CustomerID: inv.CustomerID, Turn: 1, Status: Finalized, Total: inv.Total,
		Applied: money.NewAmount(inv.Balance.Minor(), inv.Currency), Paid: zero, Credited: zero, CreditedDue: zero,
		DueAt: inv.DueAt, At: inv.FinalizedAt, Actor: actor,
	}
	if s.DueAt.IsZero() {
		s.DueAt = inv.FinalizedAt
	}
	s = s.settled()
	return s, s.Check()
}

// Currency is the invoice's.
func (s Standing) Currency() money.Currency { return s.Total.Currency() }

// Remaining is what is left to pay, also of an uncollectible invoice; 0 for a void one.
func (s Standing) Remaining() money.Amount {
	if s.Status == Void || s.Total.Minor() < 0 {
		return money.NewAmount(0, s.Currency())
	}
	return money.NewAmount(s.Total.Minor()-s.Applied.Minor()-s.Paid.Minor()-s.CreditedDue.Minor(), s.Currency())
}

// Owed is what the books say is owed: Remaining of an invoice that is neither void nor given up.
func (s Standing) Owed() money.Amount {
	if s.Status == Uncollectible {
		return money.NewAmount(0, s.Currency())
	}
	return s.Remaining()
}

// StatusAt is the status as it is shown: finalized is past due from the due date on.
func (s Standing) StatusAt(now time.Time) Status {
	if s.Status == Finalized && s.DueAt.Before(now) {
		return PastDue
	}
	return s.Status
}

// Check is ErrInvalid when the amounts contradict each other.
func (s Standing) Check() error {
	total := max(s.Total.Minor(), 0)
	sum := money.NewAmount(0, s.Currency())
	for _, a := range []money.Amount{s.Applied, s.Paid, s.CreditedDue} {
		if a.Minor() < 0 {
			return fmt.Errorf("invoice %s: a negative part %s: %w", s.InvoiceID, a, ErrInvalid)
		}
		var err error
		if sum, err = sum.Add(a); err != nil {
			return fmt.Errorf("invoice %s: %w", s.InvoiceID, err)
		}
	}
	switch {
	case s.Turn < 1, s.At.IsZero(), s.InvoiceID == "", s.CustomerID == "":
		return fmt.Errorf("invoice %q: turn %d at %v: %w", s.InvoiceID, s.Turn, s.At, ErrInvalid)
	case sum.Minor() > total, s.Credited.Minor() > total, s.CreditedDue.Minor() > s.Credited.Minor():
		return fmt.Errorf("invoice %s: %s paid and credited of %s: %w", s.InvoiceID, sum, s.Total, ErrInvalid)
	case s.Status == Paid && sum.Minor() != total, s.Status == Finalized && sum.Minor() == total:
		return fmt.Errorf("invoice %s: it is %s with %s of %s: %w", s.InvoiceID, s.Status, sum, s.Total, ErrInvalid)
	}
	return nil
}

// settled makes an open invoice paid when nothing is left.
func (s Standing) settled() Standing {
	if s.Status == Finalized && s.Remaining().Minor() == 0 {
		s.Status = Paid
	}
	return s
}

// turn begins the next one.
func (s Standing) turn(at time.Time, actor, reason, reference string) Standing {
	s.Turn++
	s.At, s.Actor, s.Reason, s.Reference = period.Truncate(at), actor, reason, reference
	return s
}

// Pay takes a payment, above 0 in the invoice's currency. applied pays what is left, the rest of it is for the balance. An
// uncollectible invoice is open again. ErrState on a void one.
func (s Standing) Pay(amount money.Amount, at time.Time, actor, reference string) (next Standing, applied money.Amount, err error) {
	switch {
	case s.Status == Void:
		return s, applied, fmt.Errorf("pay invoice %s: it is void: %w", s.InvoiceID, ErrState)
	case amount.Minor() <= 0 || amount.Currency() != s.Currency():
		return s, applied, fmt.Errorf("pay invoice %s: %s %s: %w", s.InvoiceID, amount, amount.Currency().Code(), ErrInvalid)
	}
	next = s.turn(at, actor, "", reference)
	if next.Status == Uncollectible {
		next.Status = Finalized
	}
	applied = money.NewAmount(min(amount.Minor(), s.Remaining().Minor()), s.Currency())
	if next.Paid, err = s.Paid.Add(applied); err != nil {
		return s, applied, err
	}
	next = next.settled()
	return next, applied, next.Check()
}

// Credit takes a credit note over amount, above 0, with all others at most the total. off comes off what is left to pay, the rest
// is for the balance. ErrState unless it is finalized or paid.
func (s Standing) Credit(amount money.Amount, at time.Time, actor, reason, reference string) (next Standing, off money.Amount, err error) {
	switch {
	case s.Status != Finalized && s.Status != Paid:
		return s, off, fmt.Errorf("credit invoice %s: it is %s: %w", s.InvoiceID, s.Status, ErrState)
	case amount.Minor() <= 0 || amount.Currency() != s.Currency() || amount.Minor() > s.Creditable().Minor():
		return s, off, fmt.Errorf("credit %s of invoice %s, of which %s are left to credit: %w", amount, s.InvoiceID, s.Creditable(), ErrInvalid)
	}
	next = s.turn(at, actor, reason, reference)
	off = money.NewAmount(min(amount.Minor(), s.Remaining().Minor()), s.Currency())
	if next.Credited, err = s.Credited.Add(amount); err != nil {
		return s, off, err
	}
	if next.CreditedDue, err = s.CreditedDue.Add(off); err != nil {
		return s, off, err
	}
	next = next.settled()
	return next, off, next.Check()
}

// Creditable is what no credit note took back yet.
func (s Standing) Creditable() money.Amount {
	return money.NewAmount(max(s.Total.Minor(), 0)-s.Credited.Minor(), s.Currency())
}

// Voided takes the whole invoice back. ErrState unless it is finalized or uncollectible and nothing was paid or credited.
func (s Standing) Voided(at time.Time, actor, reason string) (Standing, error) {
	if s.Status != Finalized && s.Status != Uncollectible {
		return s, fmt.Errorf("void invoice %s: it is %s: %w", s.InvoiceID, s.Status, ErrState)
	}
	if s.Paid.Minor() != 0 || s.Credited.Minor() != 0 {
		return s, fmt.Errorf("void invoice %s: %s of it are paid and %s credited, write a credit note: %w", s.InvoiceID, s.Paid, s.Credited, ErrState)
	}
	next := s.turn(at, actor, reason, "")
	next.Status = Void
	return next, next.Check()
}

// GivenUp makes an open invoice uncollectible; left is what is lost. ErrState.
func (s Standing) GivenUp(at time.Time, actor, reason string) (next Standing, left money.Amount, err error) {
	if s.Status != Finalized {
		return s, left, fmt.Errorf("give up invoice %s: it is %s: %w", s.InvoiceID, s.Status, ErrState)
	}
	next = s.turn(at, actor, reason, "")
	next.Status = Uncollectible
	return next, s.Remaining(), next.Check()
}
