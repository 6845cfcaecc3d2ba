package catalog

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/price"
)

// number sets a field that is not 0.
func (e *entry) number(name string, n int) {
	if n != 0 {
		e.set(name, strconv.Itoa(n))
	}
}

// decimal sets a field that is not 0.
func (e *entry) decimal(name string, d money.Decimal) {
	if !d.IsZero() {
		e.set(name, d.String())
	}
}

// sales are the entries of what is sold beside plans, and of how it is billed.
func (c *Catalog) sales() []entry {
	var out []entry
	for i := range c.AddOns {
		a := &c.AddOns[i]
		e := entry{path: "add_ons." + a.Key}
		e.set("name", a.Name)
		e.set("currency", a.Currency.Code())
		e.set("plans", strings.Join(a.Plans, " "))
		out = append(out, e)
		for j := range a.Prices {
			out = append(out, priceEntries(e.path+".prices."+a.Prices[j].Key, &a.Prices[j])...)
		}
	}
	for i := range c.Coupons {
		out = append(out, c.Coupons[i].entry())
	}
	return append(append(out, c.Taxes.entries()...), c.Billing.entries()...)
}

func (t *Terms) describe(e *entry) {
	if t.TrialDays != 0 {
		e.set("trial", FormatDays(t.TrialDays))
	}
	if t.Calendar {
		e.set("billing_anchor", "calendar")
	}
	e.set("minimum_spend", optional(t.Minimum))
	e.set("maximum_spend", optional(t.Maximum))
	e.set("bill_at", optional(t.Threshold))
	if t.DueDays != 0 {
		e.set("due", FormatDays(t.DueDays))
	}
}

func (o *Coupon) entry() entry {
	e := entry{path: "coupons." + o.Key}
	e.set("name", o.Name)
	e.set("percent", optional(o.Percent))
	e.set("amount", optional(o.Amount))
	e.set("currency", o.Currency.Code())
	e.set("periods", PeriodsWord(o.Periods))
	e.set("plans", strings.Join(o.Plans, " "))
	e.set("prices", strings.Join(o.Prices, " "))
	e.number("limit", o.Limit)
	e.number("per_customer", o.PerCustomer)
	e.set("until", o.Until)
	return e
}

func (t *Taxes) entries() []entry {
	e := entry{path: "taxes"}
	e.flag("prices_include_tax", t.Inclusive)
	if t.PerLine {
		e.set("round", "line")
	}
	var out []entry
	if len(e.fields) > 0 {
		out = append(out, e)
	}
	for i := range t.Rules {
		r := &t.Rules[i]
		e := entry{path: "taxes.rules." + r.Key}
		// A compound rate stands on those before it, so their order is a part of what they say.
		e.set("place", strconv.Itoa(i+1))
		e.set("name", r.Name)
		e.set("percent", r.Percent.String())
		e.set("country", r.Country)
		e.set("region", r.Region)
		e.set("products", strings.Join(r.Products, " "))
		e.flag("compound", r.Compound)
		e.flag("reverse_charge", r.ReverseCharge)
		out = append(out, e)
	}
	return out
}

func (b *Billing) entries() []entry {
	e := entry{path: "billing"}
	if b.HalfEven {
		e.set("rounding", "half_even")
	}
	e.set("series", b.Series)
	if d, err := time.ParseDuration(b.Grace); err == nil {
		e.set("grace", FormatSpan(d))
	}
	s := entry{path: "billing.seller"}
	for _, f := range []field{
		{"name", b.Seller.Name},
		{"tax_id", b.Seller.TaxID},
		{"street", b.Seller.Street},
		{"city", b.Seller.City},
		{"postal_code", b.Seller.PostalCode},
		{"region", b.Seller.Region},
		{"country", b.Seller.Country},
		{"email", b.Seller.Email},
		{"iban", b.Seller.IBAN},
		{"note", b.Seller.Note},
	} {
		s.set(f.name, f.value)
	}
	d := entry{path: "billing.dunning"}
	if len(b.Dunning.Reminders) > 0 {
		d.set("reminders", strings.Trim(fmt.Sprint(b.Dunning.Reminders), "[]"))
	}
	d.number("after", b.Dunning.After)
	d.set("then", b.Dunning.Then)
	var out []entry
	for _, e := range []entry{e, s, d} {
		if len(e.fields) > 0 {
			out = append(out, e)
		}
	}
	return out
}

func priceEntries(path string, p *price.Price) []entry {
	e := entry{path: path}
	e.set("name", p.Name)
	e.set("model", p.Model.String())
	e.set("meter", p.Meter)
	e.set("filter", dimensionText(p.Filter))
	must, _ := PriceFields(p.Model)
	for _, name := range ModelFields() {
		// Zero is nothing said, but for what the model must have.
		if text, set := FieldOf(p, name); set || slices.Contains(must, name) {
			e.set(name, text)
		}
	}
	e.set("every", p.Every.String())
	switch p.Charge {
	case price.InAdvance:
		e.set("charge", "in_advance")
	case price.InArrears:
		e.set("charge", "in_arrears")
	}
	e.decimal("included", p.Included)
	e.set("minimum_spend", optional(p.MinimumSpend))
	e.set("maximum_spend", optional(p.MaximumSpend))
	e.flag("waive_at_zero", p.WaiveAtZero)
	if p.Prorate != price.ProrateSeconds {
		e.set("prorate", ProrationWord(p.Prorate))
	}
	e.flag("prorate_minimum", p.ProrateMin)
	e.set("product", p.Product)
	out := []entry{e}
	for i, t := range p.Tiers {
		out = append(out, tierEntry(fmt.Sprintf("%s.tiers[%d]", path, i), p.Model, t))
	}
	for i, c := range p.Cells {
		e := entry{path: fmt.Sprintf("%s.cells[%d]", path, i)}
		e.set("when", dimensionText(c.When))
		e.set("unit_amount", c.UnitAmount.String())
		out = append(out, e)
	}
	return out
}

func tierEntry(path string, m price.Model, t price.Tier) entry {
	e := entry{path: path}
	e.set("up_to", optional(t.UpTo))
	must, _ := TierFields(m)
	for _, f := range []struct {
		name  string
		value money.Decimal
	}{{"unit_amount", t.UnitAmount}, {"flat_amount", t.FlatAmount}, {"percent", t.Percent}} {
		if !f.value.IsZero() || len(must) > 0 && must[0] == f.name {
			e.set(f.name, f.value.String())
		}
	}
	return e
}

// dimensionText is "{model: large, region: eu}", and empty for none.
func dimensionText(list []meter.Dimension) string {
	if len(list) == 0 {
		return ""
	}
	parts := make([]string, len(list))
	for i, d := range list {
		parts[i] = d.Name + ": " + d.Value
	}
	return "{" + strings.Join(parts, ", ") + "}"
}
