// Package ledger is money as double entries, and usage credits as grants that burn. Values in, values out: what was posted is in
// the records, what was used comes from the journal.
package ledger

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
)

// ErrInvalid is an entry that does not balance, or a grant or a use that makes no sense.
var ErrInvalid = errors.New("invalid ledger entry")

// Account is one side of the books of the seller.
type Account string

// The accounts. All but Revenue, Tax and Cash are kept for each customer.
const (
	Receivable Account = "receivable" // what customers owe
	Revenue    Account = "revenue"    // what was earned, less discounts
	Tax        Account = "tax"        // what is owed to the states
	Cash       Account = "cash"       // what was paid
	Balance    Account = "balance"    // the customer's money, which pays totals with tax
	Prepaid    Account = "prepaid"    // usage credits that were bought and not used
	Promotion  Account = "promotion"  // what usage credits that were given away paid for
	Loss       Account = "loss"       // given up as uncollectible
)

// Known says whether a is one of the accounts.
func (a Account) Known() bool {
	switch a {
	case Receivable, Revenue, Tax, Cash, Balance, Prepaid, Promotion, Loss:
		return true
	}
	return false
}

// OfCustomer says whether the account is kept for each customer. The others are the seller's alone.
func (a Account) OfCustomer() bool { return a != Revenue && a != Tax && a != Cash }

// Posting is one side of an entry: above 0 a debit, below 0 a credit.
type Posting struct {
	Account    Account      `json:"account"`
	CustomerID string       `json:"customer_id,omitempty"` // of an account that is kept for each customer
	Amount     money.Amount `json:"amount"`
}

// Kind says what an entry is for.
type Kind string

// The kinds of entries.
const (
	Invoiced   Kind = "invoice"     // what a finalized invoice bills
	Applied    Kind = "applied"     // what the money balance paid of an invoice when it was finalized
	Paid       Kind = "payment"     // money came in for an invoice, or for the balance
	Refunded   Kind = "refund"      // money went back
	Credited   Kind = "credit_note" // a part of an invoice that is no longer owed
	WrittenOff Kind = "write_off"   // given up
	Reversed   Kind = "reversal"    // takes another entry back
	Bought     Kind = "grant"       // usage credits were bought
	Expired    Kind = "breakage"    // bought credits were lost unused
)

// Entry is one movement of money. It is never changed; it is taken back by its reversal. Its postings sum to zero.
type Entry struct {
	ID         string    `json:"id"`  // led_…, derived from Key
	Key        string    `json:"key"` // names what was done, so that it is done once: "invoice/inv_…", "payment/pay_…"
	Kind       Kind      `json:"kind"`
	CustomerID string    `json:"customer_id"`
	Reference  string    `json:"reference"` // the invoice, payment, credit note or grant
	At         time.Time `json:"at"`
	Postings   []Posting `json:"postings"`
}

// EntryID derives an entry's id from its key.
func EntryID(key string) string {
	sum := sha256.Sum256([]byte("ledger entry\x00" + key))
	return account.FormatID("led", [16]byte(sum[:16]))
}

// Currency is the one that all postings are in.
func (e *Entry) Currency() money.Currency {
	if len(e.Postings) == 0 {
		return money.Currency{}
	}
	return e.Postings[0].Amount.Currency()
}

// Of is what the entry posts to an account, 0 for nothing.
func (e *Entry) Of(a Account) int64 {
	for _, p := range e.Postings {
		if p.Account == a {
			return p.Amount.Minor()
		}
	}
	return 0
}

// Check is ErrInvalid unless the entry is whole: it has a key and the id of it, a customer and a time, two or more postings of
// one currency, none of them zero, each to another known account with its customer where it has one; and they sum to zero.
func (e *Entry) Check() error {
	invalid := func(format string, args ...any) error {
		return fmt.Errorf("entry %q: %s: %w", e.Key, fmt.Sprintf(format, args...), ErrInvalid)
	}
	switch {
	case e.Key == "" || e.ID != EntryID(e.Key):
		return invalid("id %q is not of its key", e.ID)
	case e.Kind == "" || e.CustomerID == "" || e.At.IsZero():
		return invalid("kind %q, customer %q at %v", e.Kind, e.CustomerID, e.At)
	case len(e.Postings) < 2:
		return invalid("%d postings", len(e.Postings))
	}
	seen := make(map[Account]bool, len(e.Postings))
	sum := money.NewAmount(0, e.Currency())
	for _, p := range e.Postings {
		customer := ""
		if p.Account.OfCustomer() {
			customer = e.CustomerID
		}
		switch {
		case !p.Account.Known() || seen[p.Account]:
			return invalid("account %q is unknown or stands twice", p.Account)
		case p.CustomerID != customer:
			return invalid("account %q of customer %q", p.Account, p.CustomerID)
		case p.Amount.Minor() == 0 || p.Amount.Minor() == math.MinInt64:
			return invalid("%d to account %q", p.Amount.Minor(), p.Account)
		}
		seen[p.Account] = true
		var err error
		if sum, err = sum.Add(p.Amount); err != nil {
			return fmt.Errorf("entry %q: %w: %w", e.Key, ErrInvalid, err)
		}
	}
	if sum.Minor() != 0 {
		return invalid("its postings sum to %s", sum)
	}
	return nil
}

// Reversal takes an entry back: the same postings with the other sign. An entry has one reversal, and a reversal has none.
func (e *Entry) Reversal(at time.Time) (Entry, error) {
	if err := e.Check(); err != nil {
		return Entry{}, err
	}
	if e.Kind == Reversed {
		return Entry{}, fmt.Errorf("entry %q is a reversal: %w", e.Key, ErrInvalid)
	}
	r := *e
	r.Kind, r.Key, r.At = Reversed, "reversal/"+e.Key, period.Truncate(at)
	r.ID = EntryID(r.Key)
	r.Postings = make([]Posting, len(e.Postings))
	for i, p := range e.Postings {
		p.Amount = money.NewAmount(-p.Amount.Minor(), p.Amount.Currency())
		r.Postings[i] = p
	}
	return r, r.Check()
}
