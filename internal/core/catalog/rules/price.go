package rules

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/price"
)

// prices checks the prices of one plan or add-on, each for itself and side by side; every is the billing period that their
// intervals must be multiples of.
func (v *validator) prices(path string, prices []price.Price, every period.Every) {
	v.count(path, len(prices), catalog.MaxPrices)
	used := map[string]string{}
	for i := range prices {
		p := &prices[i]
		at := fmt.Sprintf("%s[%d]", path, i)
		v.key(at, p.Key, used)
		v.price(at, p)
		if _, ok := p.Every.Times(every); !ok {
			v.add(at+".every", fmt.Sprintf("is no multiple of %s, the shortest interval beside it%s", every, got(p.Every.String())),
				"intervals that are whole multiples of the shortest one, all in days or all in months", "")
		}
		if i >= catalog.MaxPrices {
			continue // said; pairs would cost more than the fault is worth
		}
		for j := range i {
			if catalog.Overlap(p, &prices[j]) {
				v.add(at+".meter", fmt.Sprintf("is charged by price %q already", prices[j].Key), wantApart, "")
				break
			}
		}
	}
}

const wantApart = "one price for each meter, or filters that exclude each other: a dimension with another value in each"

func (v *validator) price(path string, p *price.Price) {
	v.text(path+".name", p.Name)
	v.product(path+".product", p.Product)
	if !slices.Contains(price.Models(), p.Model) {
		v.add(path+".model", "is unknown", OneOf(modelWords()), "")
		return
	}
	if p.Charge != price.InArrears && p.Charge != price.InAdvance {
		v.add(path+".charge", "is unknown", "in_advance or in_arrears", "")
	}
	m, known := v.measured(path, p)
	for _, name := range catalog.ModelFields() {
		if text, set := catalog.FieldOf(p, name); set && !catalog.Belongs(p.Model, name) {
			v.add(path+"."+name, "does not go with model "+p.Model.String()+got(text), WantField(p.Model, name), "")
		}
	}
	v.figures(path, p, m, known)
	switch {
	case p.Model.Tiered():
		v.tiers(path+".tiers", p, m, known)
	case p.Model == price.Matrix:
		v.cells(path+".cells", p.Cells, m, known)
	}
	v.spend(path, p)
	v.parts(path, p)
}

// product checks a word that tax rules refer to.
func (v *validator) product(path, name string) {
	if name != "" && account.ValidKey(name) != nil {
		v.add(path, "is not a name"+got(name), wantName, "")
	}
}

const wantName = "1 to 64 of a-z A-Z 0-9 . _ - with a letter or digit first"

// measured checks what the price charges: usage of a meter, or what the subscription has. known is false without a sound meter.
func (v *validator) measured(path string, p *price.Price) (m catalog.Meter, known bool) {
	amount := p.Model == price.Percentage || p.Model == price.GraduatedPercentage || p.Model == price.Dynamic
	switch {
	case p.Model == price.Flat && p.Meter != "":
		v.add(path+".meter", "does not go with model flat, which measures nothing"+got(p.Meter), "no meter, or another model", "")
		return catalog.Meter{}, false
	case p.Licensed() && (amount || p.Model == price.Matrix):
		v.add(path+".meter", "is missing: model "+p.Model.String()+" charges usage", v.oneOfMeters(), "")
		return catalog.Meter{}, false
	case p.Licensed():
		if len(p.Filter) > 0 {
			v.add(path+".filter", "has no meter to choose from", "a meter beside it, or no filter", "")
		}
		return catalog.Meter{}, false
	}
	if p.Charge == price.InAdvance {
		v.add(path+".charge", `cannot be in_advance for what is measured (got "in_advance")`, "in_arrears", "in_arrears")
	}
	m, known = v.meterRef(path+".meter", p.Meter)
	if !known || m.Aggregation == 0 {
		return m, known
	}
	switch {
	case amount && m.Aggregation != meter.Sum:
		v.add(path+".meter", fmt.Sprintf("does not go with model %s: its aggregation is %s%s", p.Model, m.Word(), got(p.Meter)),
			"a meter with aggregation sum or custom, over amounts of money", "")
	case p.Model == price.Matrix && !m.Aggregation.Additive():
		v.add(path+".meter", fmt.Sprintf("does not go with model matrix: its aggregation is %s%s", m.Word(), got(p.Meter)), wantAdditive, "")
	}
	v.dimensions(path+".filter", p.Filter, m)
	return m, known
}

// dimensions checks names and values that choose usage of a meter.
func (v *validator) dimensions(path string, chosen []meter.Dimension, m catalog.Meter) {
	v.count(path, len(chosen), catalog.MaxMatches)
	for i, d := range chosen {
		at := path + "." + d.Name
		switch {
		case !slices.Contains(m.Dimensions, d.Name):
			want := "a dimension of the meter; it has none"
			if len(m.Dimensions) > 0 {
				want = "one of " + strings.Join(m.Dimensions[:min(len(m.Dimensions), maxListed)], ", ")
			}
			v.add(at, fmt.Sprintf("is no dimension of meter %s", m.Key), want, v.suggest(d.Name, m.Dimensions))
		case slices.ContainsFunc(chosen[:i], func(o meter.Dimension) bool { return o.Name == d.Name }):
			v.add(at, "is set twice", "each dimension once", "")
		}
		if d.Value == "" || !plainText(d.Value) {
			v.add(at, "is not a value"+got(d.Value), fmt.Sprintf("a text of 1 to %d printable characters", maxText), "")
		}
	}
}

// figures checks the numbers of a model that stand by themselves, and what is included.
func (v *validator) figures(path string, p *price.Price, m catalog.Meter, known bool) {
	for _, f := range []struct {
		name  string
		value *money.Decimal
	}{
		{"amount", &p.Amount},
		{"unit_amount", &p.UnitAmount},
		{"fixed", &p.Fixed},
		{"free_amount", p.FreeAmount},
		{"min", p.Min},
		{"max", p.Max},
	} {
		if f.value != nil && catalog.Belongs(p.Model, f.name) {
			v.amount(path+"."+f.name, *f.value)
		}
	}
	if catalog.Belongs(p.Model, "percent") {
		v.percent(path+".percent", p.Percent, percentMax)
	}
	if p.FreeEvents < 0 || p.FreeEvents > maxUnits {
		v.add(path+".free_events", "is out of range"+got(fmt.Sprint(p.FreeEvents)), "0 or more events", "")
	}
	if p.Min != nil && p.Max != nil && p.Min.Cmp(*p.Max) > 0 {
		v.add(path+".max", "is below min"+got(p.Max.String()), "at least "+p.Min.String(), "")
	}
	if p.Model == price.Package {
		if v.quantity(path+".size", p.Size, m, known) && p.Size.IsZero() {
			v.add(path+".size", `is not above 0 (got "0")`, "how many units are one package, such as 1000", "")
		}
		v.quantity(path+".free", p.Free, m, known)
	}
	if p.Included.IsZero() {
		return
	}
	if p.Model == price.Flat || p.Model == price.Matrix {
		v.add(path+".included", "does not go with model "+p.Model.String()+got(p.Included.String()), wantIncluded(p.Model), "")
		return
	}
	v.quantity(path+".included", p.Included, m, known)
}

func wantIncluded(m price.Model) string {
	if m == price.Matrix {
		return `a cell with unit_amount: "0" for what is free`
	}
	return "no included"
}

// quantity checks a quantity of what the price charges, and tells whether it is sound.
func (v *validator) quantity(path string, d money.Decimal, m catalog.Meter, known bool) bool {
	if known {
		return v.units(path, d, m)
	}
	before := len(v.problems)
	v.amount(path, d)
	return len(v.problems) == before
}

// percent checks a share.
func (v *validator) percent(path string, d money.Decimal, most int64) {
	switch {
	case d.Sign() < 0:
		v.add(path, "is negative"+got(d.String()), "0 or more", "")
	case d.Cmp(money.FromInt(most)) > 0:
		v.add(path, "is absurdly large"+got(d.String()), fmt.Sprintf("at most %d; \"10\" is 10 %%", most), "")
	case d.Scale() > maxDecimals:
		v.add(path, "has too many decimals"+got(d.String()), fmt.Sprintf("at most %d decimals", maxDecimals), "")
	}
}

func (v *validator) tiers(path string, p *price.Price, m catalog.Meter, known bool) {
	if len(p.Tiers) == 0 {
		v.add(path, "is empty", "at least one tier, the last one without up_to", "")
	}
	v.count(path, len(p.Tiers), catalog.MaxTiers)
	var below money.Decimal
	for i, t := range p.Tiers {
		at := fmt.Sprintf("%s[%d]", path, i)
		switch last := i == len(p.Tiers)-1; {
		case t.UpTo == nil && !last:
			v.add(at+".up_to", "is missing", "a bound on every tier but the last", "")
		case t.UpTo != nil && last:
			v.add(at+".up_to", "stands on the last tier, so usage above it has no price"+got(t.UpTo.String()), "no up_to on the last tier", "")
		case t.UpTo != nil:
			if !v.quantity(at+".up_to", *t.UpTo, m, known) {
				break
			}
			if c := t.UpTo.Cmp(below); c < 0 || c == 0 && i > 0 { // a first tier up to 0 makes only zero usage free
				v.add(at+".up_to", "does not rise"+got(t.UpTo.String()), "more than "+below.String(), "")
			}
			below = *t.UpTo
		}
		v.tier(at, p.Model, t)
	}
}

// tier checks the amounts of one tier.
func (v *validator) tier(path string, m price.Model, t price.Tier) {
	must, may := catalog.TierFields(m)
	for _, f := range []struct {
		name  string
		value money.Decimal
	}{{"unit_amount", t.UnitAmount}, {"flat_amount", t.FlatAmount}, {"percent", t.Percent}} {
		at := path + "." + f.name
		switch {
		case !slices.Contains(must, f.name) && !slices.Contains(may, f.name):
			if !f.value.IsZero() {
				v.add(at, "does not go with model "+m.String()+got(f.value.String()), OneOf(append(must, may...)), "")
			}
		case f.name == "percent":
			v.percent(at, f.value, percentMax)
		default:
			v.amount(at, f.value)
		}
	}
}

func (v *validator) cells(path string, cells []price.Cell, m catalog.Meter, known bool) {
	if len(cells) == 0 {
		v.add(path, "is empty", "at least one cell, or model: unit", "")
	}
	v.count(path, len(cells), catalog.MaxCells)
	for i, c := range cells {
		at := fmt.Sprintf("%s[%d]", path, i)
		v.amount(at+".unit_amount", c.UnitAmount)
		if len(c.When) == 0 {
			v.add(at+".when", "is empty", "values of dimensions, such as {model: large}; unit_amount of the price is for what fits no cell", "")
			continue
		}
		if known {
			v.dimensions(at+".when", c.When, m)
		}
		if i >= catalog.MaxCells {
			continue
		}
		for j := range i {
			if len(cells[j].When) > 0 && covers(cells[j].When, c.When) {
				v.add(at+".when", fmt.Sprintf("is never reached: cell %d fits all that it fits, and comes first", j+1), "the narrower cell first", "")
				break
			}
		}
	}
}

// covers says that whatever fits narrow fits wide.
func covers(wide, narrow []meter.Dimension) bool {
	return !slices.ContainsFunc(wide, func(d meter.Dimension) bool { return !slices.Contains(narrow, d) })
}

// spend checks the least and the most that a price charges in a period.
func (v *validator) spend(path string, p *price.Price) {
	for _, f := range []struct {
		name  string
		value *money.Decimal
	}{{"minimum_spend", p.MinimumSpend}, {"maximum_spend", p.MaximumSpend}} {
		at := path + "." + f.name
		switch {
		case f.value == nil:
		case p.Model == price.Flat:
			v.add(at, "does not go with model flat, which charges one amount"+got(f.value.String()), "no "+f.name, "")
		case p.Licensed() && p.Charge == price.InAdvance:
			v.add(at, "does not go with charge in_advance: it is known at the end of the period"+got(f.value.String()), "charge: in_arrears, or no "+f.name, "")
		default:
			v.above(at, *f.value)
		}
	}
	v.rising(path, p.MinimumSpend, p.MaximumSpend)
	if p.ProrateMin && p.MinimumSpend == nil {
		v.add(path+".prorate_minimum", "has no minimum to prorate", "minimum_spend beside it", "")
	}
}

// above checks an amount that makes no sense as 0.
func (v *validator) above(path string, d money.Decimal) {
	if d.IsZero() {
		v.add(path, `is not above 0 (got "0")`, "more than 0; leave it out for none", "")
		return
	}
	v.amount(path, d)
}

// rising checks that a minimum does not pass the maximum beside it.
func (v *validator) rising(path string, least, most *money.Decimal) {
	if least != nil && most != nil && least.Cmp(*most) > 0 {
		v.add(path+".maximum_spend", "is below minimum_spend"+got(most.String()), "at least "+least.String(), "")
	}
}

// parts checks how a price is charged for a part of a period, and for no usage.
func (v *validator) parts(path string, p *price.Price) {
	switch {
	case p.Prorate > price.ProrateNone:
		v.add(path+".prorate", "is unknown", "second, day or none", "")
	case !p.Licensed() && p.Prorate != price.ProrateSeconds && !p.ProrateMin:
		v.add(path+".prorate", "does not go with usage, which is charged as it is"+got(catalog.ProrationWord(p.Prorate)), "no prorate, or prorate_minimum: true beside it", "")
	case p.ProrateMin && p.Prorate == price.ProrateNone:
		v.add(path+".prorate", `does not go with prorate_minimum (got "none")`, "second or day", "")
	}
	if p.WaiveAtZero && !p.Model.Tiered() {
		v.add(path+".waive_at_zero", "does not go with model "+p.Model.String()+got("true"), "a model with tiers", "")
	}
}

// WantField says what to write instead of a field that the model does not have.
func WantField(m price.Model, field string) string {
	var models []string
	for _, other := range price.Models() {
		if catalog.Belongs(other, field) {
			models = append(models, other.String())
		}
	}
	must, _ := catalog.PriceFields(m)
	want := strings.Join(must, " and ")
	if want == "" {
		want = "no " + field
	}
	return want + ", or model: " + OneOf(models)
}

// OneOf is "a, b or c".
func OneOf(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// modelWords are all models as the catalog says them.
func modelWords() []string {
	var out []string
	for _, m := range price.Models() {
		out = append(out, m.String())
	}
	return out
}
