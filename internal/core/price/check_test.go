package price_test

import (
	"errors"
	"testing"

	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/price"
)

// TestInvalidNamesTheField looks at what the calculator, which reads prices strictly, lets nobody reach.
func TestInvalidNamesTheField(t *testing.T) {
	t.Parallel()
	one, minus := money.FromInt(1), money.FromInt(-1)
	unit := price.Price{Key: "p", Model: price.Unit, UnitAmount: one}
	tests := []struct {
		name    string
		price   price.Price
		usage   price.Usage
		pointer string
		ofUsage bool
	}{
		{"no model", price.Price{}, price.Usage{}, "/model", false},
		{"a negative amount", price.Price{Model: price.Flat, Amount: minus}, price.Usage{}, "/amount", false},
		{"negative free events", price.Price{Model: price.Percentage, FreeEvents: -1}, price.Usage{}, "/free_events", false},
		{"free events of another model", price.Price{Model: price.Unit, FreeEvents: 1}, price.Usage{}, "/free_events", false},
		{"tiers of another model", price.Price{Model: price.Unit, Tiers: make([]price.Tier, 1)}, price.Usage{}, "/tiers", false},
		{"cells of another model", price.Price{Model: price.Unit, Cells: make([]price.Cell, 1)}, price.Usage{}, "/cells", false},
		{"a negative cell", price.Price{Model: price.Matrix, Cells: []price.Cell{{When: dims("a", "b"), UnitAmount: minus}}}, price.Usage{}, "/cells/0/unit_amount", false},
		{"a negative percentage", price.Price{Model: price.GraduatedPercentage, Tiers: []price.Tier{{Percent: minus}}}, price.Usage{}, "/tiers/0/percent", false},
		{"a position that is none", unit, price.Usage{Position: price.Last + 1}, "/position", true},
		{"negative events before", unit, price.Usage{Prior: price.Prior{Events: -1}}, "/prior_events", true},
		{"an empty discount", unit, price.Usage{Discounts: make([]price.Discount, 1)}, "/discounts/0", true},
		{"a negative discount", unit, price.Usage{Discounts: []price.Discount{{Amount: &minus}}}, "/discounts/0/amount", true},
		{"a negative minimum", unit, price.Usage{Minimum: &minus}, "/minimum_spend", true},
		{"events that are not the quantity", price.Price{Model: price.Dynamic}, price.Usage{Quantity: one, Events: make([]price.Event, 1)}, "/quantity", true},
		{
			"a negative event of a matrix",
			price.Price{Model: price.Matrix, Cells: []price.Cell{{When: dims("a", "b")}}},
			price.Usage{Events: []price.Event{{Quantity: one}, {Quantity: minus}}},
			"/events/1", true,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := tt.price.ChargeFor(tt.usage)
			var got *price.Invalid
			if !errors.As(err, &got) || !errors.Is(err, price.ErrInvalid) {
				t.Fatalf("ChargeFor: %v, want an Invalid", err)
			}
			if got.Pointer != tt.pointer || got.OfUsage != tt.ofUsage || got.Detail == "" {
				t.Errorf("%+v, want %s of the usage %v", got, tt.pointer, tt.ofUsage)
			}
		})
	}
}

func TestMonotone(t *testing.T) {
	t.Parallel()
	for _, m := range price.Models() {
		p := price.Price{Model: m}
		want := m != price.Volume && m != price.Stairstep && m != price.Matrix
		if p.Monotone() != want {
			t.Errorf("%s: Monotone is %v", m, !want)
		}
	}
	for name, p := range map[string]price.Price{
		"fixed": {Model: price.Percentage, Fixed: money.FromInt(1)},
		"free":  {Model: price.Percentage, FreeEvents: 1},
		"min":   {Model: price.Percentage, Min: new(money.FromInt(1))},
		"max":   {Model: price.Percentage, Max: new(money.FromInt(1))},
	} {
		if p.Monotone() {
			t.Errorf("%s: a percentage of single events is called monotone", name)
		}
		if _, _, err := p.Ceiling(money.FromInt(1), 0); !errors.Is(err, price.ErrInvalid) {
			t.Errorf("%s: Ceiling: %v", name, err)
		}
	}
}
