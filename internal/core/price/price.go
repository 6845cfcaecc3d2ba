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

// Rate charges a period's whole quantity, exactly: as ChargeFor does, but without the minimum, which is topped up when the period
// ends. A price of single events takes the quantity as one. Of a price with tiers, tiers lists those that hold a part of the
// quantity or whose flat amount is due. ErrInvalid, money.ErrOverflow.
func (p *Price) Rate(quantity money.Decimal) (amount money.Decimal, tiers []TierCharge, err error) {
	charge, err := p.ChargeFor(Usage{Quantity: quantity, Position: First})
	if err != nil {
		return money.Decimal{}, nil, err
	}
	if amount, err = whole(charge.Amount); err != nil {
		return money.Decimal{}, nil, fmt.Errorf("price %q: %w", p.Key, err)
	}
	for _, line := range charge.Lines {
		if line.Tier == 0 {
			continue
		}
		if tiers, err = p.include(tiers, line); err != nil {
			return money.Decimal{}, nil, fmt.Errorf("price %q, tier %d: %w", p.Key, line.Tier, err)
		}
	}
	return amount, tiers, nil
}

// include takes a line into the charge of its tier.
func (p *Price) include(tiers []TierCharge, line Line) ([]TierCharge, error) {
	if n := len(tiers); n == 0 || tiers[n-1].Tier != line.Tier {
		unit, err := p.Tiers[line.Tier-1].rate()
		if err != nil {
			return nil, err
		}
		tiers = append(tiers, TierCharge{Tier: line.Tier, UnitAmount: unit})
	}
	of := &tiers[len(tiers)-1]
	amount, err := whole(line.Amount)
	if err != nil {
		return nil, err
	}
	if line.Kind == FlatLine {
		of.FlatAmount = amount
	} else {
		of.Quantity = line.Quantity
	}
	of.Amount, err = of.Amount.Add(amount)
	return tiers, err
}

// whole is r as a decimal. More decimals than that has are an overflow.
func whole(r money.Rational) (money.Decimal, error) {
	d, inexact, err := r.Decimal()
	if err == nil && inexact {
		err = money.ErrOverflow
	}
	return d, err
}
