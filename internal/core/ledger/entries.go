package ledger

import (
	"fmt"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
)

// leg is an amount for an account, in minor units of the entry's currency.
type leg struct {
	account Account
	minor   int64
}

// balanced makes the entry out of its legs, without those of zero, and posts what is missing to rest. Legs to one account are
// summed. some is false when nothing moves.
func balanced(e Entry, currency money.Currency, rest Account, legs ...leg) (entry Entry, some bool, err error) {
	e.ID, e.At = EntryID(e.Key), period.Truncate(e.At)
	sums, total := map[Account]money.Amount{}, money.NewAmount(0, currency)
	order := make([]Account, 0, len(legs)+1)
	post := func(a Account, minor int64) error {
		if _, ok := sums[a]; !ok {
			sums[a] = money.NewAmount(0, currency)
			order = append(order, a)
		}
		sums[a], err = sums[a].Add(money.NewAmount(minor, currency))
		return err
	}
	for _, l := range legs {
		if err := post(l.account, l.minor); err != nil {
			return Entry{}, false, fmt.Errorf("entry %q: %w", e.Key, err)
		}
		if total, err = total.Add(money.NewAmount(l.minor, currency)); err != nil {
			return Entry{}, false, fmt.Errorf("entry %q: %w", e.Key, err)
		}
	}
	if err := post(rest, -total.Minor()); err != nil {
		return Entry{}, false, fmt.Errorf("entry %q: %w", e.Key, err)
	}
	for _, a := range order {
		if sums[a].Minor() == 0 {
			continue
		}
		p := Posting{Account: a, Amount: sums[a]}
		if a.OfCustomer() {
			p.CustomerID = e.CustomerID
		}
		e.Postings = append(e.Postings, p)
	}
	if len(e.Postings) == 0 {
		return Entry{}, false, nil
	}
	return e, true, e.Check()
}

// one is balanced for an entry that must move something.
func one(e Entry, currency money.Currency, rest Account, legs ...leg) (Entry, error) {
	entry, some, err := balanced(e, currency, rest, legs...)
	if err == nil && !some {
		err = fmt.Errorf("entry %q moves nothing: %w", e.Key, ErrInvalid)
	}
	return entry, err
}

// OfInvoice is what a finalized invoice posts, at the instant at which it was finalized. The customer owes the total, or has so
// much more on the balance where it is negative; the tax is the states'; what usage credits in money paid comes from the
// account of their kind; the rest was earned. What the balance paid is an entry of its own. kinds is by the id of the grant
// that is the Source of a credit line. An invoice over nothing posts nothing.
func OfInvoice(inv invoice.Invoice, kinds map[string]account.GrantKind) ([]Entry, error) {
	if inv.FinalizedAt.IsZero() {
		return nil, fmt.Errorf("post invoice %s: it is not finalized: %w", inv.ID, ErrInvalid)
	}
	owed := Receivable
	if inv.Total.Minor() < 0 {
		owed = Balance
	}
	legs := []leg{{owed, inv.Total.Minor()}, {Tax, -inv.Tax.Minor()}}
	for _, l := range inv.Lines {
		if l.Kind != invoice.CreditLine {
			continue
		}
		kind, ok := kinds[l.Source]
		if !ok {
			return nil, fmt.Errorf("post invoice %s: line %d is paid by the unknown grant %q: %w", inv.ID, l.Number, l.Source, ErrInvalid)
		}
		legs = append(legs, leg{CreditAccount(kind), -l.Rounded.Minor()})
	}
	e := Entry{Key: InvoiceKey(inv.ID), Kind: Invoiced, CustomerID: inv.CustomerID, Reference: inv.ID, At: inv.FinalizedAt}
	entry, some, err := balanced(e, inv.Currency, Revenue, legs...)
	if err != nil || !some {
		return nil, err
	}
	entries := []Entry{entry}
	if paid := inv.Balance.Minor(); paid != 0 {
		if paid < 0 || paid > inv.Total.Minor() {
			return nil, fmt.Errorf("post invoice %s: the balance paid %s of %s: %w", inv.ID, inv.Balance, inv.Total, ErrInvalid)
		}
		applied := Entry{Key: AppliedKey(inv.ID), Kind: Applied, CustomerID: inv.CustomerID, Reference: inv.ID, At: inv.FinalizedAt}
		if applied, err = one(applied, inv.Currency, Receivable, leg{Balance, paid}); err != nil {
			return nil, err
		}
		entries = append(entries, applied)
	}
	return entries, nil
}

// InvoiceKey is the key of the entry of an invoice, AppliedKey that of what the balance paid of it.
func InvoiceKey(invoiceID string) string { return "invoice/" + invoiceID }

// AppliedKey is the key of the entry of what the balance paid of an invoice.
func AppliedKey(invoiceID string) string { return "applied/" + invoiceID }

// CreditAccount is the account that usage credits of a kind are in.
func CreditAccount(k account.GrantKind) Account {
	if k == account.Prepaid || k == account.TopUp {
		return Prepaid
	}
	return Promotion
}

// Payment is money from a customer. Receivable of it pays what is owed, the rest goes to the balance.
type Payment struct {
	ID, CustomerID string
	Amount         money.Amount // above 0
	Receivable     money.Amount // 0..Amount
	At             time.Time
}

// OfPayment is what a payment, or a deposit to the balance, posts.
func OfPayment(p Payment) (Entry, error) {
	if p.Amount.Minor() <= 0 || p.Receivable.Minor() < 0 || p.Receivable.Minor() > p.Amount.Minor() {
		return Entry{}, fmt.Errorf("payment %s of %s, %s of it for what is owed: %w", p.ID, p.Amount, p.Receivable, ErrInvalid)
	}
	e := Entry{Key: "payment/" + p.ID, Kind: Paid, CustomerID: p.CustomerID, Reference: p.ID, At: p.At}
	return one(e, p.Amount.Currency(), Balance, leg{Cash, p.Amount.Minor()}, leg{Receivable, -p.Receivable.Minor()})
}

// OfRefund is what money given back to a customer posts: out of the balance, above 0.
func OfRefund(id, customerID string, amount money.Amount, at time.Time) (Entry, error) {
	if amount.Minor() <= 0 {
		return Entry{}, fmt.Errorf("refund %s of %s: %w", id, amount, ErrInvalid)
	}
	e := Entry{Key: "refund/" + id, Kind: Refunded, CustomerID: customerID, Reference: id, At: at}
	return one(e, amount.Currency(), Cash, leg{Balance, amount.Minor()})
}

// Credit is a credit note: what it takes back of earnings and of tax, and the part of the sum that is still owed.
type Credit struct {
	ID, CustomerID string
	Net, Tax       money.Amount // the sum of both is above 0
	Receivable     money.Amount // takes off what is owed; the rest goes to the balance
	At             time.Time
}

// OfCreditNote is what a credit note posts.
func OfCreditNote(c Credit) (Entry, error) {
	total, err := c.Net.Add(c.Tax)
	if err != nil {
		return Entry{}, fmt.Errorf("credit note %s: %w", c.ID, err)
	}
	if total.Minor() <= 0 || c.Receivable.Minor() < 0 || c.Receivable.Minor() > total.Minor() {
		return Entry{}, fmt.Errorf("credit note %s of %s, %s of it off what is owed: %w", c.ID, total, c.Receivable, ErrInvalid)
	}
	e := Entry{Key: "credit_note/" + c.ID, Kind: Credited, CustomerID: c.CustomerID, Reference: c.ID, At: c.At}
	return one(e, total.Currency(), Balance,
		leg{Revenue, c.Net.Minor()}, leg{Tax, c.Tax.Minor()}, leg{Receivable, -c.Receivable.Minor()})
}

// OfWriteOff gives up what is left of an invoice, above 0. An invoice may be given up more than once, so turn tells them apart.
func OfWriteOff(invoiceID, customerID string, turn int64, left money.Amount, at time.Time) (Entry, error) {
	if left.Minor() <= 0 {
		return Entry{}, fmt.Errorf("write off %s of invoice %s: %w", left, invoiceID, ErrInvalid)
	}
	e := Entry{Key: WriteOffKey(invoiceID, turn), Kind: WrittenOff, CustomerID: customerID, Reference: invoiceID, At: at}
	return one(e, left.Currency(), Receivable, leg{Loss, left.Minor()})
}

// WriteOffKey is the key of the entry that gave an invoice up.
func WriteOffKey(invoiceID string, turn int64) string {
	return fmt.Sprintf("write_off/%s/%d", invoiceID, turn)
}

// OfGrant is what bought usage credits post: face is what they are worth, in money, or what was paid for them, for units.
// A face above the price is a gift, one below it is earned at once. A grant that nothing was paid for posts nothing.
func OfGrant(grantID, customerID string, paid, face money.Amount, at time.Time) (entry Entry, some bool, err error) {
	if paid.Minor() < 0 || face.Minor() < 0 {
		return Entry{}, false, fmt.Errorf("grant %s of %s for %s: %w", grantID, face, paid, ErrInvalid)
	}
	if paid.Minor() == 0 {
		return Entry{}, false, nil
	}
	rest := Promotion
	if face.Minor() < paid.Minor() {
		rest = Revenue
	}
	e := Entry{Key: "grant/" + grantID, Kind: Bought, CustomerID: customerID, Reference: grantID, At: at}
	return balanced(e, paid.Currency(), rest, leg{Cash, paid.Minor()}, leg{Prepaid, -face.Minor()})
}

// Bears is the side of the books that pays for what a grant of money takes off invoices: Prepaid where it was bought once, else
// it is a gift. What was paid for a grant that is refilled, or for units, is not what its use is worth.
func Bears(g *account.Grant) account.GrantKind {
	if g.Meter == "" && g.Every == nil && g.Paid.Sign() > 0 {
		return account.Prepaid
	}
	return account.Promotional
}

// OfBought is what a grant posts when it is made, in the customer's currency. A grant of money that was bought once is owed to the
// customer until it is used; all others post nothing.
func OfBought(g *account.Grant, c money.Currency) ([]Entry, error) {
	if Bears(g) != account.Prepaid {
		return nil, nil
	}
	paid, err := money.Round(g.Paid, c, money.HalfUp)
	if err != nil {
		return nil, err
	}
	face, err := money.Round(g.Amount, c, money.HalfUp)
	if err != nil {
		return nil, err
	}
	entry, some, err := OfGrant(g.ID, g.CustomerID, paid, face, g.CreatedAt)
	if err != nil || !some {
		return nil, err
	}
	return []Entry{entry}, nil
}

// OfBreakage is what is earned by bought usage credits that expired, were used up as units, or were voided: what is left of
// their face. Nothing left posts nothing.
func OfBreakage(grantID, customerID string, left money.Amount, at time.Time) (entry Entry, some bool, err error) {
	if left.Minor() < 0 {
		return Entry{}, false, fmt.Errorf("grant %s has %s left: %w", grantID, left, ErrInvalid)
	}
	e := Entry{Key: "breakage/" + grantID, Kind: Expired, CustomerID: customerID, Reference: grantID, At: at}
	return balanced(e, left.Currency(), Revenue, leg{Prepaid, left.Minor()})
}
