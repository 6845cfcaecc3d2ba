package calc

import (
	"strings"

	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/price"
)

// Bounds of a price: what any catalog has, or more.
const (
	tiersMax = 1000
	cellsMax = 200
)

// readPrice reads a price as the catalog has it. What only matters to an invoice is read and checked as far as it can be here.
func readPrice(in *object, p *price.Price) {
	var ok bool
	if p.Model, ok = price.ParseModel(in.text("model")); !ok {
		in.fail("model", "expected one of %s", modelWords())
		return
	}
	readModel(in, p)
	in.into("included", &p.Included)
	p.MinimumSpend, p.MaximumSpend = in.maybeDecimal("minimum_spend"), in.maybeDecimal("maximum_spend")
	p.WaiveAtZero, p.ProrateMin = in.maybeBool("waive_at_zero"), in.maybeBool("prorate_minimum")
	p.Filter = in.dimensions("filter")
	for _, t := range [...]struct {
		name string
		to   *string
	}{{"key", &p.Key}, {"name", &p.Name}, {"meter", &p.Meter}, {"product", &p.Product}} {
		if v := in.maybe(t.name, text); v != nil {
			*t.to = v.text
		}
	}
	in.word("charge", "in_arrears", "in_advance")
	in.word("prorate", "second", "day", "none")
	if v := in.maybe("every", text); v != nil {
		if _, err := period.ParseEvery(v.text); err != nil {
			in.fail("every", "%v", err)
		}
	}
	for i := range in.members {
		if m := &in.members[i]; !m.read && ofSomeModels(m.name) {
			in.fail(m.name, "a %s price does not have it", p.Model)
		}
	}
	in.done()
}

func modelWords() string {
	var words []string
	for _, m := range price.Models() {
		words = append(words, m.String())
	}
	return strings.Join(words, ", ")
}

// ofSomeModels says that only some models have the field.
func ofSomeModels(field string) bool {
	switch field {
	case "amount", "unit_amount", "tiers", "size", "free", "percent", "fixed", "free_events", "free_amount", "min", "max", "cells":
		return true
	}
	return false
}

// readModel reads the fields of the model.
func readModel(in *object, p *price.Price) {
	switch p.Model {
	case price.Flat:
		p.Amount = in.decimal("amount")
	case price.Unit:
		p.UnitAmount = in.decimal("unit_amount")
	case price.Graduated, price.Volume, price.Stairstep, price.GraduatedPercentage:
		p.Tiers = make([]price.Tier, 0, len(in.list("tiers", tiersMax)))
		in.each("tiers", tiersMax, func(_ int, in *object) { p.Tiers = append(p.Tiers, readTier(in, p.Model)) })
	case price.Package:
		p.Amount, p.Size = in.decimal("amount"), in.decimal("size")
		in.into("free", &p.Free)
	case price.Percentage:
		p.Percent = in.decimal("percent")
		in.into("fixed", &p.Fixed)
		p.FreeEvents, p.FreeAmount = in.maybeCount("free_events"), in.maybeDecimal("free_amount")
		p.Min, p.Max = in.maybeDecimal("min"), in.maybeDecimal("max")
	case price.Matrix:
		in.each("cells", cellsMax, func(_ int, in *object) {
			p.Cells = append(p.Cells, price.Cell{When: in.dimensions("when"), UnitAmount: in.decimal("unit_amount")})
		})
		in.into("unit_amount", &p.UnitAmount)
	case price.Dynamic:
	}
}

// readTier reads a tier. It must charge something, and be it "0": a forgotten amount would give the tier away.
func readTier(in *object, m price.Model) price.Tier {
	t := price.Tier{UpTo: in.maybeDecimal("up_to")}
	rate := "unit_amount"
	if m == price.GraduatedPercentage {
		rate = "percent"
	}
	if m == price.Stairstep {
		rate = "flat_amount"
	}
	if !in.has("flat_amount") {
		in.decimal(rate)
	}
	switch rate {
	case "unit_amount":
		in.into(rate, &t.UnitAmount)
	case "percent":
		in.into(rate, &t.Percent)
	}
	in.into("flat_amount", &t.FlatAmount)
	for _, name := range [...]string{"unit_amount", "percent"} {
		if name == rate {
			continue
		}
		var other money.Decimal // a "0" says nothing
		if in.into(name, &other); !other.IsZero() {
			in.fail(name, "a tier of a %s price does not have it", m)
		}
	}
	return t
}
