package declare

import (
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/catalog/rules"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/price"
)

// wantField says what a field holds that the model needs.
func wantField(m price.Model, name string) string {
	if m == price.Package && name == "amount" {
		return `what one package costs, such as "5.00"`
	}
	return map[string]string{
		"amount":      `what it costs each period, such as "20.00"`,
		"unit_amount": `what one unit costs, such as "0.0004"`,
		"tiers":       "at least one tier, the last one without up_to",
		"size":        "how many units are one package, such as 1000",
		"percent":     `a share of the amount; "2.9" is 2.9 %`,
		"cells":       `what a unit costs by dimensions, such as [{when: {model: large}, unit_amount: "0.01"}]`,
		"flat_amount": `what the tier costs once it is entered, such as "20.00"`,
	}[name]
}

func (r *reader) price(n node) price.Price {
	var p price.Price
	var tiers []node
	present := r.fields(n, slices.Concat(r.priceBase(&p), r.priceModel(&p, &tiers), r.priceTerms(&p)))
	if present == nil {
		return p
	}
	r.belonging(n, &p, present)
	if filter := join(n.path, "filter"); r.broken[filter] || r.around[filter] {
		r.breaks(join(n.path, "meter")) // what it shares with other prices is not known
	}
	for i, t := range tiers {
		r.tierFields(t, p.Model, &p.Tiers[i])
	}
	if !present["charge"] {
		p.Charge = price.InArrears
		if p.Licensed() && !r.broken[join(n.path, "meter")] {
			p.Charge = price.InAdvance
		}
	}
	return p
}

// priceBase are the fields that say what is charged.
func (r *reader) priceBase(p *price.Price) []field {
	models := []option[price.Model]{}
	for _, m := range price.Models() {
		models = append(models, option[price.Model]{m.String(), m})
	}
	return []field{
		{"key", wantKey, func(n node) { p.Key, _ = r.text(n) }},
		{"name", "", func(n node) { p.Name, _ = r.text(n) }},
		{"model", "flat, unit, graduated or another model", func(n node) { p.Model, _ = choose(r, n, models...) }},
		{"meter", "", func(n node) {
			if p.Meter, _ = r.text(n); p.Meter == "" && !r.broken[n.path] {
				r.wrong(n, "is empty", "a meter; leave it out for what the subscription has, such as seats", "")
			}
		}},
		{"filter", "", func(n node) { p.Filter = r.dimensions(n) }},
		{"every", "", func(n node) { p.Every = r.every(n) }},
		{"charge", "", func(n node) {
			p.Charge, _ = choose(r, n, option[price.Charge]{"in_advance", price.InAdvance}, option[price.Charge]{"in_arrears", price.InArrears})
		}},
	}
}

// priceModel are the fields of catalog.ModelFields. It keeps the nodes of the tiers, whose fields depend on the model.
func (r *reader) priceModel(p *price.Price, tiers *[]node) []field {
	return []field{
		{"amount", "", func(n node) { p.Amount, _ = r.decimal(n) }},
		{"unit_amount", "", func(n node) { p.UnitAmount, _ = r.decimal(n) }},
		{"tiers", "", func(n node) {
			r.list(n, "tiers", func(n node) {
				*tiers = append(*tiers, n)
				p.Tiers = append(p.Tiers, r.tier(n))
			})
		}},
		{"size", "", func(n node) { p.Size, _ = r.decimal(n) }},
		{"free", "", func(n node) { p.Free, _ = r.decimal(n) }},
		{"percent", "", func(n node) { p.Percent, _ = r.decimal(n) }},
		{"fixed", "", func(n node) { p.Fixed, _ = r.decimal(n) }},
		{"free_events", "", func(n node) {
			i, _ := r.integer(n, "a whole number of events, such as 10")
			p.FreeEvents = int64(i)
		}},
		{"free_amount", "", func(n node) { p.FreeAmount = r.optional(n) }},
		{"min", "", func(n node) { p.Min = r.optional(n) }},
		{"max", "", func(n node) { p.Max = r.optional(n) }},
		{"cells", "", func(n node) {
			r.list(n, "cells", func(n node) { p.Cells = append(p.Cells, r.cell(n)) })
		}},
	}
}

// priceTerms are the fields that all models may have.
func (r *reader) priceTerms(p *price.Price) []field {
	ways := []option[price.Proration]{}
	for way := price.ProrateSeconds; way <= price.ProrateNone; way++ {
		ways = append(ways, option[price.Proration]{catalog.ProrationWord(way), way})
	}
	return []field{
		{"included", "", func(n node) { p.Included, _ = r.decimal(n) }},
		{"minimum_spend", "", func(n node) { p.MinimumSpend = r.optional(n) }},
		{"maximum_spend", "", func(n node) { p.MaximumSpend = r.optional(n) }},
		{"waive_at_zero", "", func(n node) { p.WaiveAtZero = r.boolean(n) }},
		{"prorate", "", func(n node) { p.Prorate, _ = choose(r, n, ways...) }},
		{"prorate_minimum", "", func(n node) { p.ProrateMin = r.boolean(n) }},
		{"product", "", func(n node) { p.Product, _ = r.text(n) }},
	}
}

// belonging reports the fields that the model makes necessary, and those of other models. One of 0 is like none in the value,
// so that is said here and not by rules.Validate.
func (r *reader) belonging(n node, p *price.Price, present map[string]bool) {
	if p.Model == 0 {
		return
	}
	must, _ := catalog.PriceFields(p.Model)
	for _, name := range catalog.ModelFields() {
		switch {
		case !present[name] && slices.Contains(must, name):
			r.missing(n, name, wantField(p.Model, name))
		case present[name] && !catalog.Belongs(p.Model, name) && zero(p, name):
			r.extra(n, name, "does not go with model "+p.Model.String(), rules.WantField(p.Model, name))
		}
	}
}

func zero(p *price.Price, name string) bool {
	_, set := catalog.FieldOf(p, name)
	return !set
}

func (r *reader) tier(n node) price.Tier {
	var t price.Tier
	r.fields(n, []field{
		{"up_to", "", func(n node) { t.UpTo = r.optional(n) }},
		{"unit_amount", "", func(n node) { t.UnitAmount, _ = r.decimal(n) }},
		{"flat_amount", "", func(n node) { t.FlatAmount, _ = r.decimal(n) }},
		{"percent", "", func(n node) { t.Percent, _ = r.decimal(n) }},
	})
	return t
}

// tierFields is belonging for a tier.
func (r *reader) tierFields(n node, m price.Model, t *price.Tier) {
	must, may := catalog.TierFields(m)
	if _, ok := n.value.(*ast.MappingNode); !ok || len(must) == 0 {
		return
	}
	_, flat := r.places[join(n.path, "flat_amount")]
	for _, f := range []struct {
		name  string
		value money.Decimal
	}{{"unit_amount", t.UnitAmount}, {"flat_amount", t.FlatAmount}, {"percent", t.Percent}} {
		_, present := r.places[join(n.path, f.name)]
		switch {
		case !present && slices.Contains(must, f.name) && !flat:
			r.missing(n, f.name, wantField(m, f.name))
		case present && f.value.IsZero() && !slices.Contains(must, f.name) && !slices.Contains(may, f.name):
			r.extra(n, f.name, "does not go with model "+m.String(), rules.OneOf(slices.Concat(must, may)))
		}
	}
}

func (r *reader) cell(n node) price.Cell {
	var c price.Cell
	r.fields(n, []field{
		{"when", "values of dimensions, such as {model: large}", func(n node) { c.When = r.dimensions(n) }},
		{"unit_amount", `what one unit costs, such as "0.0004"`, func(n node) { c.UnitAmount, _ = r.decimal(n) }},
	})
	return c
}

// dimensions reads a mapping of dimensions to one value each. They stand in the order of their names, however they are written.
func (r *reader) dimensions(n node) (out []meter.Dimension) {
	const want = "a mapping of dimensions to values, such as {region: eu}"
	mapping, ok := n.value.(*ast.MappingNode)
	switch {
	case !ok:
		r.wrong(n, "is "+kind(n.value), want, "")
		return nil
	case len(mapping.Values) == 0:
		r.wrong(n, "is empty", want, "")
	}
	for _, entry := range mapping.Values {
		key := entry.Key.GetToken()
		at := r.enter(entry.Value, join(n.path, key.Value), join(n.shown, clip(key.Value)), key)
		if _, list := at.value.(*ast.SequenceNode); list {
			r.wrong(at, "is a list", "one value; a price of its own for each", "")
			continue
		}
		if value := r.word(at, nil); len(value) == 1 {
			out = append(out, meter.Dimension{Name: key.Value, Value: value[0]})
		}
	}
	slices.SortStableFunc(out, func(a, b meter.Dimension) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func (r *reader) every(n node) period.Every {
	text, ok := r.text(n)
	if !ok {
		return period.Every{}
	}
	e, err := period.ParseEvery(text)
	if err != nil {
		r.wrong(n, "is no interval"+got(text), `day, week, month, quarter, year, or a multiple such as "2 weeks"`, guessEvery(text))
	}
	return e
}

// guessEvery is the interval that was probably meant: "monthly", "2 week", "annual".
func guessEvery(text string) string {
	words := map[string]string{"daily": "day", "weekly": "week", "monthly": "month", "quarterly": "quarter", "yearly": "year", "annual": "year", "annually": "year"}
	if word, ok := words[strings.ToLower(text)]; ok {
		return word
	}
	for _, guess := range []string{strings.ToLower(text), text + "s", strings.TrimSuffix(text, "s"), strings.ToLower(strings.TrimSpace(text))} {
		if e, err := period.ParseEvery(guess); err == nil {
			return fmt.Sprintf("%q", e.String())
		}
	}
	return catalog.Suggest(text, []string{"day", "week", "month", "quarter", "year"})
}
