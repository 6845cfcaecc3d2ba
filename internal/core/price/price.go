// Package price turns a quantity into exact charges.
package price

import "github.com/tallystick/tallystick/internal/core/money"

type Model uint8

const (
	Flat Model = iota + 1
	Graduated
)

type Charge uint8

const (
	InArrears Charge = iota + 1
	InAdvance
)

// Tier is one band; UpTo is inclusive, on the period's cumulative quantity; nil on the last one.
type Tier struct {
	UpTo       *money.Decimal `json:"up_to,omitempty"`
	UnitAmount money.Decimal  `json:"unit_amount"`
	FlatAmount money.Decimal  `json:"flat_amount"`
}

// Price charges one meter (graduated) or nothing measured (flat). Every is "month" here.
type Price struct {
	Key    string
	Meter  string // empty for Flat
	Model  Model
	Amount money.Decimal // Flat only
	Every  string
	Charge Charge
	Tiers  []Tier
}

// TierCharge is one band's share of a charge. Tier is 1-based.
type TierCharge struct {
	Tier       int           `json:"tier"`
	Quantity   money.Decimal `json:"quantity"`
	UnitAmount money.Decimal `json:"unit_amount"`
	FlatAmount money.Decimal `json:"flat_amount"`
	Amount     money.Decimal `json:"amount"`
}

// Rate charges a period's whole quantity, exactly. Flat ignores the quantity.
func (p Price) Rate(quantity money.Decimal) (amount money.Decimal, tiers []TierCharge, err error) {
	panic("skeleton")
}

// Ceiling is the largest quantity in units of 10^-scale whose charge does not pass cap; unlimited is true where none does.
// Prices here are monotone, so every smaller quantity costs no more.
func (p Price) Ceiling(cap money.Decimal, scale int) (units int64, unlimited bool, err error) {
	panic("skeleton")
}
