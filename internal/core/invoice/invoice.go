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

	Name    string            `json:"name,omitempty"`    // what the customer reads; empty: Price
	Inexact bool              `json:"inexact,omitempty"` // Exact has 34 digits of more; Rounded is of the exact value
	Plan    string            `json:"plan,omitempty"`    // whose price it is, where that is not the invoice's
	Version int64             `json:"catalog_version,omitempty"`
	Filter  map[string]string `json:"filter,omitempty"`
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

// Usage is a metered quantity of the closed period. A meter stands at most once in an Input.
type Usage struct {
	Meter    string
	Quantity money.Decimal
}

// Input is everything an invoice is a function of.
type Input struct {
	SubscriptionID, CustomerID, Plan string
	CatalogVersion                   int64
	Currency                         money.Currency
	Prices                           []price.Price
	Closing                          period.Interval // usage and in-arrears prices of this period; empty [start,start) at subscription start
	Next                             period.Interval // in-advance prices are charged for this one; zero where none follows
	Usage                            []Usage
	Position                         uint64
	Rounding                         money.Rounding
	Preview                          bool // keep zero lines
}

// Build is pure: the same input gives the same invoice, ids included, in whatever order Usage stands. Lines: usage and
// arrears first, then in-advance, in declared order. Usage of a meter without a price makes no line. A line that says
// nothing (no amount and no usage) is left out, unless for a preview. An invoice may have no line: the caller decides
// whether one is due. ErrInvalid, price.ErrInvalid, money.ErrOverflow.
func Build(in Input) (Invoice, error) {
	usage, err := in.check()
	if err != nil {
		return Invoice{}, err
	}
	inv := Invoice{
		ID:             invoiceID(in.SubscriptionID, in.Closing),
		CustomerID:     in.CustomerID,
		SubscriptionID: in.SubscriptionID,
		Plan:           in.Plan,
		Status:         Draft,
		Currency:       in.Currency,
		Period:         in.Closing,
		Lines:          []Line{},
		CatalogVersion: in.CatalogVersion,
		TZVersion:      period.TZVersion,
		Position:       in.Position,
	}
	if in.Preview {
		inv.Status = Preview
	}
	for _, step := range []struct {
		charge  price.Charge
		service period.Interval
	}{{price.InArrears, in.Closing}, {price.InAdvance, in.Next}} {
		if !step.service.Start.Before(step.service.End) {
			continue
		}
		for _, p := range in.Prices {
			if p.Charge != step.charge {
				continue
			}
			line, err := in.line(p, step.service, usage[p.Meter])
			if err != nil {
				return Invoice{}, fmt.Errorf("build invoice: %w", err)
			}
			if line.silent() && !in.Preview {
				continue
			}
			line.Number = len(inv.Lines) + 1
			inv.Lines = append(inv.Lines, line)
		}
	}
	if inv.Total, err = total(inv.Lines, in.Currency); err != nil {
		return Invoice{}, fmt.Errorf("build invoice: %w", err)
	}
	return inv, nil
}

// line rates one price over one service period.
func (in Input) line(p price.Price, service period.Interval, quantity money.Decimal) (Line, error) {
	line := Line{
		ID:       lineID(in.SubscriptionID, in.Closing, p.Key, service),
		Kind:     UsageLine,
		Price:    p.Key,
		Meter:    p.Meter,
		Period:   service,
		Quantity: quantity,
	}
	if p.Model == price.Flat {
		line.Kind, line.Meter, line.Quantity = FlatLine, "", money.FromInt(1)
	}
	var err error
	if line.Exact, line.Tiers, err = p.Rate(line.Quantity); err != nil {
		return Line{}, err
	}
	if line.Rounded, err = money.Round(line.Exact, in.Currency, in.Rounding); err != nil {
		return Line{}, fmt.Errorf("price %q: round %s: %w", p.Key, line.Exact, err)
	}
	return line, nil
}

// silent is a line with nothing to pay and nothing used. Usage within a free band is not silent.
func (l Line) silent() bool {
	return l.Exact.IsZero() && (l.Kind == FlatLine || l.Quantity.IsZero())
}

// check refuses what would bill wrongly and returns the usage by meter.
func (in Input) check() (map[string]money.Decimal, error) {
	if in.SubscriptionID == "" || in.CustomerID == "" || in.Currency.Code() == "" {
		return nil, fmt.Errorf("build invoice: subscription, customer and currency are needed: %w", ErrInvalid)
	}
	if in.Closing.Start.IsZero() || in.Closing.End.Before(in.Closing.Start) {
		return nil, fmt.Errorf("build invoice: closing period %v to %v has no start or no end: %w", in.Closing.Start, in.Closing.End, ErrInvalid)
	}
	if none := in.Next.Start.IsZero() && in.Next.End.IsZero(); !none && !in.Next.Start.Before(in.Next.End) {
		return nil, fmt.Errorf("build invoice: next period %v to %v is empty: %w", in.Next.Start, in.Next.End, ErrInvalid)
	}
	keys := make(map[string]bool, len(in.Prices))
	for _, p := range in.Prices {
		switch {
		case p.Charge == price.InArrears, p.Charge == price.InAdvance && p.Model == price.Flat:
		default:
			return nil, fmt.Errorf("build invoice: price %q is charged neither in arrears nor flat in advance: %w", p.Key, ErrInvalid)
		}
		if keys[p.Key] {
			return nil, fmt.Errorf("build invoice: price %q stands twice: %w", p.Key, ErrInvalid)
		}
		keys[p.Key] = true
	}
	usage := make(map[string]money.Decimal, len(in.Usage))
	for _, u := range in.Usage {
		if u.Quantity.Sign() < 0 {
			return nil, fmt.Errorf("build invoice: usage %s of meter %q is negative: %w", u.Quantity, u.Meter, ErrInvalid)
		}
		if _, ok := usage[u.Meter]; ok {
			return nil, fmt.Errorf("build invoice: usage of meter %q stands twice: %w", u.Meter, ErrInvalid)
		}
		usage[u.Meter] = u.Quantity
	}
	return usage, nil
}

// total is the checked sum of the rounded lines.
func total(lines []Line, c money.Currency) (money.Amount, error) {
	sum := money.NewAmount(0, c)
	for _, l := range lines {
		var err error
		if sum, err = sum.Add(l.Rounded); err != nil {
			return money.Amount{}, fmt.Errorf("total at line %d: %w", l.Number, err)
		}
	}
	return sum, nil
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
	sum, err := total(inv.Lines, inv.Currency)
	if err != nil {
		return Invoice{}, fmt.Errorf("finalize invoice %s: %w", inv.ID, err)
	}
	if sum != inv.Total {
		return Invoice{}, fmt.Errorf("finalize invoice %s: lines add up to %s, total is %s: %w", inv.ID, sum, inv.Total, ErrInvalid)
	}
	for i, l := range inv.Lines {
		if l.Number != i+1 {
			return Invoice{}, fmt.Errorf("finalize invoice %s: line %d has number %d: %w", inv.ID, i+1, l.Number, ErrInvalid)
		}
	}
	inv.Lines = slices.Clone(inv.Lines)
	for i := range inv.Lines {
		inv.Lines[i].Tiers = slices.Clone(inv.Lines[i].Tiers)
	}
	inv.Status, inv.Number, inv.FinalizedAt = Finalized, number, period.Truncate(at)
	return inv, nil
}
