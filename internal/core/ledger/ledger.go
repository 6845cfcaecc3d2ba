// Package ledger is money as double entries, and usage credits as grants that burn. Values in, values out: what was posted is in
// the records, what was used comes from the journal.
package ledger

import (
	"errors"
	"time"

	"github.com/tallystick/tallystick/internal/core/money"
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

// Posting is one side of an entry: above 0 a debit, below 0 a credit.
type Posting struct {
	Account    Account      `json:"account"`
	CustomerID string       `json:"customer_id,omitempty"`
	Amount     money.Amount `json:"amount"`
}

// Entry is one movement of money. It is never changed; it is taken back by its reversal. Its postings sum to zero.
type Entry struct {
	ID         string    `json:"id"`  // led_…, derived from Key
	Key        string    `json:"key"` // names what was done, so that it is done once: "invoice/inv_…", "payment/pay_…"
	Kind       string    `json:"kind"`
	CustomerID string    `json:"customer_id"`
	Reference  string    `json:"reference"` // the invoice, payment, credit note or grant
	At         time.Time `json:"at"`
	Postings   []Posting `json:"postings"`
}
