package catalog

import (
	"slices"
	"strconv"

	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/price"
)

// ModelFields are the fields of a price that only some models have, as the catalog names them.
func ModelFields() []string {
	return []string{"amount", "unit_amount", "tiers", "size", "free", "percent", "fixed", "free_events", "free_amount", "min", "max", "cells"}
}

// PriceFields are those of ModelFields that a model must have, and those that it may have beside them.
func PriceFields(m price.Model) (must, may []string) {
	switch m {
	case price.Flat:
		return []string{"amount"}, nil
	case price.Unit:
		return []string{"unit_amount"}, nil
	case price.Graduated, price.Volume, price.Stairstep, price.GraduatedPercentage:
		return []string{"tiers"}, nil
	case price.Package:
		return []string{"amount", "size"}, []string{"free"}
	case price.Percentage:
		return []string{"percent"}, []string{"fixed", "free_events", "free_amount", "min", "max"}
	case price.Matrix:
		return []string{"cells", "unit_amount"}, nil
	case price.Dynamic:
	}
	return nil, nil
}

// TierFields are the amounts that a tier of a model has, and those that it may have beside them or in their place; up_to goes with
// all. A tier says at least one of them, and be it 0: a forgotten amount would give it away.
func TierFields(m price.Model) (must, may []string) {
	switch m {
	case price.Graduated, price.Volume:
		return []string{"unit_amount"}, []string{"flat_amount"}
	case price.Stairstep:
		return []string{"flat_amount"}, nil
	case price.GraduatedPercentage:
		return []string{"percent"}, []string{"flat_amount"}
	case price.Flat, price.Unit, price.Package, price.Percentage, price.Dynamic, price.Matrix:
	}
	return nil, nil
}

// Belongs tells whether a model has a field of ModelFields.
func Belongs(m price.Model, field string) bool {
	must, may := PriceFields(m)
	return slices.Contains(must, field) || slices.Contains(may, field)
}

// FieldOf is a field of ModelFields as text, and whether the price has it; lists have no text, and 0 is like none.
func FieldOf(p *price.Price, name string) (text string, set bool) {
	number := func(d money.Decimal) (string, bool) { return d.String(), !d.IsZero() }
	pointer := func(d *money.Decimal) (string, bool) { return optional(d), d != nil }
	switch name {
	case "amount":
		return number(p.Amount)
	case "unit_amount":
		return number(p.UnitAmount)
	case "tiers":
		return "", len(p.Tiers) > 0
	case "size":
		return number(p.Size)
	case "free":
		return number(p.Free)
	case "percent":
		return number(p.Percent)
	case "fixed":
		return number(p.Fixed)
	case "free_events":
		return strconv.FormatInt(p.FreeEvents, 10), p.FreeEvents != 0
	case "free_amount":
		return pointer(p.FreeAmount)
	case "min":
		return pointer(p.Min)
	case "max":
		return pointer(p.Max)
	case "cells":
		return "", len(p.Cells) > 0
	}
	return "", false
}
