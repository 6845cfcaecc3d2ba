package price

import (
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
)

// Position is where a split stands in its period. A period without splits is one Single.
type Position uint8

// The positions. What is due once a period is due on a Single or First one (the first tier's flat amount at zero usage), or on
// a Single or Last one (the minimum spend).
const (
	Single Position = iota
	First
	Middle
	Last
)

// Open is the position of a split whose period is not over: what is due at the end is not due yet.
func (p Position) Open() Position {
	switch p {
	case Single:
		return First
	case Last:
		return Middle
	case First, Middle:
	}
	return p
}

// Event is one event as percentage, dynamic and matrix prices see it. For a matrix, events of equal dimensions may stand as one.
type Event struct {
	Quantity   money.Decimal // of percentage and dynamic prices: an amount of money
	Dimensions []meter.Dimension
}

// Prior is what the earlier splits of the same period had.
type Prior struct {
	Quantity money.Decimal  // Usage.Quantity of all of them
	Events   int64          // how many, at most 2^53; 0 with a Quantity is one
	Amount   money.Rational // what was charged for them in all
}

// Discount is a part of a charge that is taken off: Percent of what is left, or Amount of it, never more than is left.
type Discount struct {
	Percent, Amount *money.Decimal // exactly one
}

// Usage is what a price charges in one split of its period.
type Usage struct {
	Quantity  money.Decimal // with Events: their sum, or 0 and they are added up
	Events    []Event       // in rating order (time, source, id); for models ByEvent. A Quantity without them is one event
	Prior     Prior
	Position  Position
	Free      money.Decimal // units of the period off before the price is looked up, beside the price's Included
	Discounts []Discount
	// Minimum and Maximum take the place of the price's own.
	Minimum, Maximum *money.Decimal
}

// LineKind says what a line of a charge is.
type LineKind string

// The kinds of lines, in the order in which they stand; each tier has its usage, then its flat amount.
const (
	UsageLine    LineKind = "usage"
	FlatLine     LineKind = "flat"
	DiscountLine LineKind = "discount"
	MaximumLine  LineKind = "maximum"
	MinimumLine  LineKind = "minimum"
)

// Line is one part of a charge.
type Line struct {
	Kind       LineKind
	Tier       int // 1-based; 0: of no tier
	Cell       int // of a matrix, 1-based; 0: of no cell
	Quantity   money.Decimal
	UnitAmount money.Decimal
	Amount     money.Rational // negative for discounts
}

// Result is a charge: the sum of its lines.
type Result struct {
	Amount money.Rational
	Lines  []Line
}
