package store

import (
	"context"
	"errors"
	"time"

	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/ledger"
	"github.com/tallystick/tallystick/internal/core/money"
)

// ErrUncovered is an entry that would take a customer's money balance below 0.
var ErrUncovered = errors.New("the balance does not cover it")

// EntryQuery asks for a page of ledger entries, newest first.
type EntryQuery struct {
	Query
	Account   ledger.Account // only entries that post to it; empty: all
	Reference string         // only those of one invoice, payment, credit note or grant; empty: all
}

// Conservation is what must hold in one currency: Sum is 0, and what the ledger says of each customer is what the invoices,
// payments and credit notes say.
type Conservation struct {
	Currency   money.Currency
	Sum        money.Amount // of all postings
	Receivable money.Amount // by the ledger
	Open       money.Amount // what is owed by the invoices
	Balance    money.Amount // by the ledger: what customers have with the seller
	Deposited  money.Amount // by payments, credit notes and invoices below 0: what came to balances, less what left them
	// Wrong are customers of whom the two say different things, at most 100; Difference is the sum of the differences' sizes, with
	// that of Sum.
	Wrong      []string
	Difference money.Amount
}

// Told is what the ledger and the documents say of one customer, in minor units.
type Told struct {
	Currency            money.Currency
	CustomerID          string
	Receivable, Balance int64 // by the ledger
	Open, Deposits      int64 // by invoices, payments and credit notes
}

// wrongMax bounds the customers that Conservation names.
const wrongMax = 100

// Conserved adds up by currency what is told of all customers, in the order of their currencies. sums are those of all postings.
func Conserved(told []Told, sums []money.Amount) ([]Conservation, error) {
	all := []Conservation{}
	for _, s := range told {
		if len(all) == 0 || all[len(all)-1].Currency != s.Currency {
			zero := money.NewAmount(0, s.Currency)
			all = append(all, Conservation{Currency: s.Currency, Sum: zero, Receivable: zero, Open: zero, Balance: zero, Deposited: zero, Difference: zero})
		}
		c := &all[len(all)-1]
		off := magnitude(s.Receivable-s.Open) + magnitude(s.Balance-s.Deposits)
		for _, x := range []struct {
			to  *money.Amount
			add int64
		}{{&c.Receivable, s.Receivable}, {&c.Open, s.Open}, {&c.Balance, s.Balance}, {&c.Deposited, s.Deposits}, {&c.Difference, off}} {
			var err error
			if *x.to, err = x.to.Add(money.NewAmount(x.add, s.Currency)); err != nil {
				return nil, err
			}
		}
		if off != 0 && len(c.Wrong) < wrongMax {
			c.Wrong = append(c.Wrong, s.CustomerID)
		}
	}
	for _, sum := range sums {
		for i := range all {
			if all[i].Currency != sum.Currency() {
				continue
			}
			all[i].Sum = sum
			var err error
			if all[i].Difference, err = all[i].Difference.Add(money.NewAmount(magnitude(sum.Minor()), sum.Currency())); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

func magnitude(n int64) int64 {
	if n < 0 {
		return -n
	}
	return n
}

// Ledger keeps entries, which never change. An entry is stored whole and balanced or not at all.
type Ledger interface {
	// PutEntries stores all in one durable transaction. An entry that is there already with the same content is left alone; with
	// other content under its key it is ErrConflict, as is the currency of another customer. ErrUncovered; ledger.ErrInvalid.
	PutEntries(ctx context.Context, entries []ledger.Entry, a Audit) error
	// Balance is the sum of a customer's postings to an account that is kept for each customer: above 0 a debit.
	Balance(ctx context.Context, customerID string, a ledger.Account) (money.Amount, error)
	Entries(ctx context.Context, q EntryQuery) ([]ledger.Entry, error)
	// Conservation reads the whole ledger: it is for now and then. By currency.
	Conservation(ctx context.Context) ([]Conservation, error)
}

// PaymentKind says which way money went.
type PaymentKind string

// The kinds of payments.
const (
	PaymentIn  PaymentKind = "payment"
	PaymentOut PaymentKind = "refund" // out of the balance
)

// Payment is money that came in or went out. It is never changed.
type Payment struct {
	ID                    string // pay_…
	Kind                  PaymentKind
	CustomerID, InvoiceID string       // InvoiceID empty: for the balance
	Amount                money.Amount // above 0
	Applied               money.Amount // what of it paid the invoice; the rest went to the balance
	Method                string       // "transfer", "card": as the operator says
	Reference             string       // of the bank or provider, unique for a customer; empty: none
	Note                  string
	ReceivedAt, CreatedAt time.Time
	Actor                 string
}

// CreditNote takes back a part of an invoice. It is never changed.
type CreditNote struct {
	ID                    string // crn_…
	Number                int64  // 1, 2, 3… without gaps; the driver gives it
	InvoiceID, CustomerID string
	Lines                 []CreditNoteLine
	Net, Tax, Total       money.Amount
	Off                   money.Amount // what it took off the invoice's due; the rest went to the balance
	Reason, Actor         string
	CreatedAt             time.Time
}

// CreditNoteLine is what is taken back of one line: Net as the line counts, with Tax where the prices do not contain it; else Tax
// is the part of it that was tax.
type CreditNoteLine struct {
	LineID   string
	Net, Tax money.Amount
}

// Movement is one change of what is owed, with all that follows from it.
type Movement struct {
	// Standing is the invoice's next one; nil: no invoice is concerned. ErrConflict unless it follows the stored one.
	Standing   *invoice.Standing
	Entries    []ledger.Entry
	Payment    *Payment    // ErrExists: one with its customer and reference is there
	CreditNote *CreditNote // gets its number
}

// RecordQuery asks for a page of payments or credit notes, newest first.
type RecordQuery struct {
	Query
	InvoiceID string // empty: all
	Reference string // of payments; empty: all
	ID        string // of credit notes: only this one; empty: all
}

// OpenQuery asks for open invoices, by due date and id.
type OpenQuery struct {
	DueBefore  time.Time         // zero: all
	After      *invoice.Standing // the last one of the page before
	CustomerID string            // empty: all
	Limit      int               // 1..1000
}

// Collections keeps what became of finalized invoices.
type Collections interface {
	// Move stores a movement in one durable transaction. An entry's rules are those of PutEntries.
	Move(ctx context.Context, m Movement, a Audit) error
	// Standings are the newest ones, by invoice id; one that is missing was finalized by an older version and is not posted.
	Standings(ctx context.Context, invoiceIDs []string) (map[string]invoice.Standing, error)
	StandingHistory(ctx context.Context, invoiceID string) ([]invoice.Standing, error) // oldest first
	OpenInvoices(ctx context.Context, q OpenQuery) ([]invoice.Standing, error)         // finalized, not paid
	// Unposted are ids of invoices without a standing, in the order in which they were finalized. after is what the call before
	// answered as next, 0 at first; next stays behind what may still be without one.
	Unposted(ctx context.Context, after int64, limit int) (ids []string, next int64, err error)
	Payments(ctx context.Context, q RecordQuery) ([]Payment, error)
	CreditNotes(ctx context.Context, q RecordQuery) ([]CreditNote, error)
}

// DunningStep is something that was done about an invoice that is not paid. Each is done once.
type DunningStep struct {
	InvoiceID string
	Step      string // "reminder/7", "suspend"
	At        time.Time
}

// Dunnings keeps the steps that were done.
type Dunnings interface {
	// PutStep is false when the step was there already.
	PutStep(ctx context.Context, s DunningStep) (bool, error)
	Steps(ctx context.Context, invoiceID string) ([]DunningStep, error) // oldest first
	// Suspended are the customers with an open invoice that has the step, by id.
	Suspended(ctx context.Context, step string) ([]string, error)
}

// Money keeps what is owed and paid.
type Money interface {
	Ledger
	Collections
	Dunnings
}
