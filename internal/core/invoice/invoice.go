// Package invoice builds invoices: lines with one rounding each, totals, and the step from draft to finalized.
package invoice

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/price"
)

var (
	// ErrInvalid is an input no invoice can be built from, or an invoice whose figures do not agree.
	ErrInvalid = errors.New("invalid invoice")
	// ErrState is a step that the invoice's status does not allow.
	ErrState = errors.New("wrong invoice state")
)

// Status is how far an invoice is. Finalized ones never change.
type Status string

// A preview is computed at any time and not kept; a draft is of a closed period and has no number yet. A finalized invoice
// becomes paid, void or uncollectible; its content never changes, and its status is kept apart.
const (
	Preview       Status = "preview"
	Draft         Status = "draft"
	Finalized     Status = "finalized"
	Paid          Status = "paid"
	Void          Status = "void"
	Uncollectible Status = "uncollectible"
)

// LineKind tells lines with a metered quantity from those without.
type LineKind string

// The kinds. A flat line is of the subscription's own quantity and has no meter. Discounts, maxima and minima belong to the price
// of the line that they are Of, a commitment to the plan. An adjustment changes what an earlier invoice billed.
const (
	FlatLine       LineKind = "flat"
	UsageLine      LineKind = "usage"
	DiscountLine   LineKind = "discount"
	MaximumLine    LineKind = "maximum"
	MinimumLine    LineKind = "minimum"
	CreditLine     LineKind = "credit" // a usage credit in money
	CouponLine     LineKind = "coupon"
	AdjustmentLine LineKind = "adjustment"
)

// Line is one price's charge for one service period. Exact has no rounding, Rounded is its one rounding.
type Line struct {
	ID       string             `json:"id"` // iln_…, derived
	Number   int                `json:"number"`
	Kind     LineKind           `json:"kind"`
	Price    string             `json:"price"`
	Meter    string             `json:"meter,omitempty"`
	Period   period.Interval    `json:"period"` // service period
	Quantity money.Decimal      `json:"quantity"`
	Tiers    []price.TierCharge `json:"tiers,omitempty"`
	Exact    money.Decimal      `json:"exact"`
	Rounded  money.Amount       `json:"rounded"`

	Name    string `json:"name,omitempty"`    // what the customer reads; empty: Price
	Inexact bool   `json:"inexact,omitempty"` // Exact has 34 digits of more; Rounded is of the exact value
	// Fraction is the exact value where Exact is not; 0: Exact is it.
	Fraction money.Rational `json:"fraction,omitzero"`
	Plan     string         `json:"plan,omitempty"`   // whose price it is, where that is not the invoice's
	AddOn    string         `json:"add_on,omitempty"` // whose price it is, where that is no plan
	Version  int64          `json:"catalog_version,omitempty"`
	// Begins is where the price's own period begins, where that is not where the line's does. With plan, add-on and price it is
	// the key under which the charge is billed.
	Begins time.Time         `json:"price_period_start,omitzero"`
	Filter map[string]string `json:"filter,omitempty"`
	// Ratio is the part of the price's whole period that is charged, an exact fraction such as "12/31"; empty: the whole.
	Ratio string `json:"ratio,omitempty"`
	// Credited are units of Quantity that usage credits paid for, Included those that the price gives.
	Credited money.Decimal `json:"credited,omitzero"`
	Included money.Decimal `json:"included,omitzero"`
	Of       string        `json:"of,omitempty"`         // the line that this one takes from, adds to or adjusts
	Adjusts  string        `json:"of_invoice,omitempty"` // of an adjustment: the invoice of that line
	Source   string        `json:"source,omitempty"`     // the grant or the redemption of a coupon that pays
	Product  string        `json:"product,omitempty"`    // of tax rules
	Taxes    []string      `json:"taxes,omitempty"`      // keys of the invoice's taxes that apply
}

// Tax is one rate over the lines that it applies to.
type Tax struct {
	Key     string        `json:"key"`
	Name    string        `json:"name"`
	Percent money.Decimal `json:"percent"`
	Base    money.Amount  `json:"base"`
	Amount  money.Amount  `json:"amount"`
	// ReverseCharge: the customer owes it to the state, and Amount is 0.
	ReverseCharge bool `json:"reverse_charge,omitempty"`
	Exempt        bool `json:"exempt,omitempty"`
	Compound      bool `json:"compound,omitempty"`
}

// Party is a seller or a buyer as it stands on an invoice.
type Party struct {
	Name       string `json:"name,omitempty"`
	Street     string `json:"street,omitempty"`
	City       string `json:"city,omitempty"`
	PostalCode string `json:"postal_code,omitempty"`
	Region     string `json:"region,omitempty"`
	Country    string `json:"country,omitempty"` // ISO 3166 alpha-2
	TaxID      string `json:"tax_id,omitempty"`
	Email      string `json:"email,omitempty"`
	IBAN       string `json:"iban,omitempty"`
}

// Invoice is what a customer owes for one step of a subscription. Its JSON form is what is stored and shown.
type Invoice struct {
	ID             string          `json:"id"`     // inv_…, derived from (subscription, period, revision)
	Number         int64           `json:"number"` // 1, 2, 3… without gaps per deployment; 0 before finalizing
	CustomerID     string          `json:"customer_id"`
	SubscriptionID string          `json:"subscription_id"`
	Plan           string          `json:"plan"`
	Status         Status          `json:"status"`
	Currency       money.Currency  `json:"currency"`
	Period         period.Interval `json:"period"` // the closed (or, in a preview, current) billing period; empty [start,start) on the invoice at subscription start
	Lines          []Line          `json:"lines"`
	Total          money.Amount    `json:"total"` // sum of the rounded lines, and of the taxes where prices do not contain them
	CatalogVersion int64           `json:"catalog_version"`
	TZVersion      string          `json:"tz_version"`
	Position       uint64          `json:"position"` // journal position it was rated at
	FinalizedAt    time.Time       `json:"finalized_at,omitzero"`

	Series   string       `json:"series,omitempty"` // before the number
	Revision int          `json:"revision,omitempty"`
	Seller   Party        `json:"seller,omitzero"`
	Buyer    Party        `json:"buyer,omitzero"`
	Note     string       `json:"note,omitempty"`
	Subtotal money.Amount `json:"subtotal,omitzero"` // sum of the rounded lines
	Taxes    []Tax        `json:"taxes,omitempty"`
	Tax      money.Amount `json:"tax,omitzero"`
	// Inclusive: the lines contain the tax, and Total is Subtotal.
	Inclusive bool `json:"tax_inclusive,omitempty"`
	// Balance is what the customer's money balance paid at once; Due is Total less Balance, 0 where Total is negative: that
	// much goes to the balance then.
	Balance money.Amount `json:"balance_applied,omitzero"`
	Due     money.Amount `json:"amount_due,omitzero"`
	DueAt   time.Time    `json:"due_at,omitzero"`
}

// Usage is a metered quantity of the closed period. A meter stands at most once in a list.
type Usage struct {
	Meter    string
	Quantity money.Decimal
}

// Finalize numbers a draft. The input is not changed. It checks the figures once more, since what it returns is final.
// ErrState if inv is no draft; ErrInvalid for a number below 1, a zero time, or lines that do not add up.
func Finalize(inv Invoice, number int64, at time.Time) (Invoice, error) {
	if inv.Status != Draft {
		return Invoice{}, fmt.Errorf("finalize invoice %s: it is %q, not a draft: %w", inv.ID, inv.Status, ErrState)
	}
	if number < 1 || at.IsZero() {
		return Invoice{}, fmt.Errorf("finalize invoice %s: number %d at %v: %w", inv.ID, number, at, ErrInvalid)
	}
	if inv.Subtotal == (money.Amount{}) && len(inv.Taxes) == 0 { // made without taxes
		full, err := AddTaxes(inv, nil, false)
		if err != nil {
			return Invoice{}, fmt.Errorf("finalize invoice %s: %w", inv.ID, err)
		}
		full.Total, inv = inv.Total, full
	}
	subtotal, tax, total, err := inv.sums()
	if err != nil {
		return Invoice{}, fmt.Errorf("finalize invoice %s: %w", inv.ID, err)
	}
	if subtotal != inv.Subtotal || tax != inv.Tax || total != inv.Total {
		return Invoice{}, fmt.Errorf("finalize invoice %s: lines and taxes add up to %s, total is %s: %w", inv.ID, total, inv.Total, ErrInvalid)
	}
	if paid, err := Pay(inv, inv.Balance); err != nil || paid.Balance != inv.Balance || paid.Due != inv.Due {
		return Invoice{}, fmt.Errorf("finalize invoice %s: total %s, balance %s, due %s: %w", inv.ID, inv.Total, inv.Balance, inv.Due, ErrInvalid)
	}
	for i, l := range inv.Lines {
		if l.Number != i+1 {
			return Invoice{}, fmt.Errorf("finalize invoice %s: line %d has number %d: %w", inv.ID, i+1, l.Number, ErrInvalid)
		}
	}
	inv.Lines, inv.Taxes = slices.Clone(inv.Lines), slices.Clone(inv.Taxes)
	for i := range inv.Lines {
		inv.Lines[i].Tiers = slices.Clone(inv.Lines[i].Tiers)
	}
	inv.Status, inv.Number, inv.FinalizedAt = Finalized, number, period.Truncate(at)
	return inv, nil
}
