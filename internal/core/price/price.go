// Package price turns a quantity into exact charges, and an amount of money back into the quantity it buys.
package price

import (
	"errors"
	"fmt"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
)

// ErrInvalid is a price that cannot charge (no tiers, bounds that do not rise, a negative amount) or a negative quantity.
var ErrInvalid = errors.New("invalid price or quantity")

// Charge says on which invoice a price stands: the one that ends the service period or the one that begins it.
type Charge uint8

// InArrears is charged after the period it is for, InAdvance before it. What is measured can only be in arrears.
const (
	InArrears Charge = iota + 1
	InAdvance
)

// Tier is one band; UpTo is inclusive, on the period's cumulative quantity; nil on the last one.
// FlatAmount is due once the band is entered. The first band is entered at zero usage already.
type Tier struct {
	UpTo       *money.Decimal `json:"up_to,omitempty"`
	UnitAmount money.Decimal  `json:"unit_amount"`
	FlatAmount money.Decimal  `json:"flat_amount"`
	Percent    money.Decimal  `json:"percent,omitzero"` // GraduatedPercentage only, instead of UnitAmount
}

// Cell is one entry of a matrix: what a unit costs where all the dimensions have these values. The first cell that fits is it.
type Cell struct {
	When       []meter.Dimension
	UnitAmount money.Decimal
}

// Proration is how a price is charged for a part of its period.
type Proration uint8

// By seconds is the usual way. By days counts local days of the customer. ProrateNone charges a part in full.
const (
	ProrateSeconds Proration = iota
	ProrateDays
	ProrateNone
)

// Price charges a quantity: usage of one meter, or what the subscription has of it (seats; one, unless it says otherwise).
// Amounts are in major units of the plan's currency, never negative and never rounded. Which fields belong to which model:
//
//	Flat                 Amount
//	Unit                 UnitAmount
//	Graduated, Volume    Tiers with UnitAmount and FlatAmount
//	Stairstep            Tiers with FlatAmount
//	Package              Amount for each started Size, after Free units
//	Percentage           Percent of the amount and Fixed for each event, FreeEvents, FreeAmount, Min and Max of an event
//	GraduatedPercentage  Tiers with Percent and FlatAmount
//	Dynamic              nothing: the event carries its price, which the meter sums up
//	Matrix               Cells, and UnitAmount where no cell fits
type Price struct {
	Key    string
	Name   string            // on the invoice; empty: Key
	Meter  string            // empty: a quantity of the subscription
	Filter []meter.Dimension // only usage with all of these dimensions; empty: all of the meter
	Model  Model
	Every  period.Every
	Charge Charge

	Amount     money.Decimal
	UnitAmount money.Decimal
	Tiers      []Tier
	Size, Free money.Decimal
	Percent    money.Decimal // "2.9" is 2.9 %
	Fixed      money.Decimal
	FreeEvents int64          // whichever of FreeEvents and FreeAmount is used up first ends the free range
	FreeAmount *money.Decimal // nil: no bound by amount
	Min, Max   *money.Decimal // of one event, the fixed fee included
	Cells      []Cell

	Included     money.Decimal  // units that are free in each period, off before the price is looked up
	MinimumSpend *money.Decimal // topped up at the end of the period
	MaximumSpend *money.Decimal // what is above is a discount
	WaiveAtZero  bool           // no flat amount of the first tier without usage
	Prorate      Proration
	ProrateMin   bool   // the minimum is prorated for a part of a period
	Product      string // of tax rules; empty: the default
}

// Licensed says that the quantity comes from the subscription, not from usage.
func (p *Price) Licensed() bool { return p.Meter == "" }

// TierCharge is one band's share of a charge. Tier is 1-based.
type TierCharge struct {
	Tier       int           `json:"tier"`
	Quantity   money.Decimal `json:"quantity"`
	UnitAmount money.Decimal `json:"unit_amount"`
	FlatAmount money.Decimal `json:"flat_amount"`
	Amount     money.Decimal `json:"amount"`
}

// Rate charges a period's whole quantity, exactly. Flat ignores the quantity and has no tiers. Of a graduated price,
// tiers lists the bands that hold a part of the quantity or whose flat amount is due; their amounts add up to amount.
// ErrInvalid, money.ErrOverflow.
func (p Price) Rate(quantity money.Decimal) (amount money.Decimal, tiers []TierCharge, err error) {
	if err := p.check(); err != nil {
		return money.Decimal{}, nil, err
	}
	if p.Model == Flat {
		return p.Amount, nil, nil
	}
	if quantity.Sign() < 0 {
		return money.Decimal{}, nil, fmt.Errorf("price %q: quantity %s is negative: %w", p.Key, quantity, ErrInvalid)
	}
	var below money.Decimal // top of the bands before this one
	for i, tier := range p.Tiers {
		if i > 0 && quantity.Cmp(below) <= 0 {
			break
		}
		top := quantity
		if tier.UpTo != nil && tier.UpTo.Cmp(quantity) < 0 {
			top = *tier.UpTo
		}
		charge, err := tier.charge(i+1, below, top)
		if err != nil {
			return money.Decimal{}, nil, fmt.Errorf("price %q, tier %d: %w", p.Key, i+1, err)
		}
		if amount, err = amount.Add(charge.Amount); err != nil {
			return money.Decimal{}, nil, fmt.Errorf("price %q: %w", p.Key, err)
		}
		if !charge.Quantity.IsZero() || !charge.FlatAmount.IsZero() {
			tiers = append(tiers, charge)
		}
		below = top
	}
	return amount, tiers, nil
}

// charge is the band's flat amount and its rate over (below, top].
func (t Tier) charge(number int, below, top money.Decimal) (TierCharge, error) {
	part, err := top.Sub(below)
	if err != nil {
		return TierCharge{}, err
	}
	metered, err := part.Mul(t.UnitAmount)
	if err != nil {
		return TierCharge{}, err
	}
	amount, err := metered.Add(t.FlatAmount)
	if err != nil {
		return TierCharge{}, err
	}
	return TierCharge{Tier: number, Quantity: part, UnitAmount: t.UnitAmount, FlatAmount: t.FlatAmount, Amount: amount}, nil
}

// check refuses what would make a charge wrong or not monotone. The catalog says the same with places and suggestions.
func (p Price) check() error {
	switch p.Model {
	case Flat:
		if p.Amount.Sign() < 0 {
			return fmt.Errorf("price %q: amount %s is negative: %w", p.Key, p.Amount, ErrInvalid)
		}
		return nil
	case Graduated:
		return p.checkTiers()
	}
	return fmt.Errorf("price %q: model %d is unknown: %w", p.Key, p.Model, ErrInvalid)
}

func (p Price) checkTiers() error {
	if len(p.Tiers) == 0 {
		return fmt.Errorf("price %q: a graduated price needs a tier: %w", p.Key, ErrInvalid)
	}
	last := len(p.Tiers) - 1
	var below money.Decimal
	for i, tier := range p.Tiers {
		if tier.UnitAmount.Sign() < 0 || tier.FlatAmount.Sign() < 0 {
			return fmt.Errorf("price %q, tier %d: an amount is negative: %w", p.Key, i+1, ErrInvalid)
		}
		if (tier.UpTo == nil) != (i == last) {
			return fmt.Errorf("price %q, tier %d: every tier but the last needs up_to: %w", p.Key, i+1, ErrInvalid)
		}
		if tier.UpTo == nil {
			continue
		}
		// A first band that ends at 0 only makes zero usage free.
		if c := tier.UpTo.Cmp(below); c < 0 || (c == 0 && i > 0) {
			return fmt.Errorf("price %q, tier %d: up_to %s does not rise: %w", p.Key, i+1, tier.UpTo, ErrInvalid)
		}
		below = *tier.UpTo
	}
	return nil
}
