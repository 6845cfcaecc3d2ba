package declare

import (
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/tallystick/tallystick/internal/core/catalog"
)

func (r *reader) addOn(n node) catalog.AddOn {
	var a catalog.AddOn
	r.fields(n, []field{
		{"key", wantKey, func(n node) { a.Key, _ = r.text(n) }},
		{"name", "", func(n node) { a.Name, _ = r.text(n) }},
		{"currency", "an ISO 4217 code, such as USD", func(n node) { a.Currency = r.currency(n) }},
		{"plans", "", func(n node) { a.Plans = r.keys(n, "plans") }},
		{"prices", "at least one price", func(n node) {
			r.list(n, "prices", func(n node) { a.Prices = append(a.Prices, r.price(n)) })
		}},
	})
	return a
}

// keys reads a list of references, which is not empty.
func (r *reader) keys(n node, of string) (out []string) {
	r.list(n, of, func(n node) {
		key, _ := r.text(n)
		out = append(out, key)
	})
	if len(out) == 0 && !r.broken[n.path] {
		r.wrong(n, "is empty", "at least one; leave it out for all "+of, "")
	}
	return out
}

func (r *reader) coupon(n node) catalog.Coupon {
	var o catalog.Coupon
	r.fields(n, []field{
		{"key", wantKey, func(n node) { o.Key, _ = r.text(n) }},
		{"name", "", func(n node) { o.Name, _ = r.text(n) }},
		{"percent", "", func(n node) { o.Percent = r.optional(n) }},
		{"amount", "", func(n node) { o.Amount = r.optional(n) }},
		{"currency", "", func(n node) { o.Currency = r.currency(n) }},
		{"periods", "once, forever, or a number of invoices, such as 3", func(n node) { o.Periods = r.periods(n) }},
		{"plans", "", func(n node) { o.Plans = r.keys(n, "plans") }},
		{"prices", "", func(n node) { o.Prices = r.keys(n, "prices") }},
		{"limit", "", func(n node) {
			o.Limit = r.positive(n, "how many redemptions there are in all, such as 500; leave it out for no bound")
		}},
		{"per_customer", "", func(n node) {
			o.PerCustomer = r.positive(n, "how many redemptions a customer has, such as 1; leave it out for no bound")
		}},
		{"until", "", func(n node) { o.Until, _ = r.text(n) }},
	})
	return o
}

// periods reads once, forever or a number.
func (r *reader) periods(n node) int {
	switch literal(n) {
	case "once":
		return 1
	case "forever":
		return 0
	}
	const want = "once, forever, or a number of invoices, such as 3"
	if text, ok := n.value.(*ast.StringNode); ok {
		if _, err := strconv.Atoi(text.Value); err != nil {
			r.wrong(n, "is not supported"+got(text.Value), want, catalog.Suggest(text.Value, []string{"once", "forever"}))
			return 0
		}
	}
	return r.positive(n, want)
}

// positive reads a whole number above 0.
func (r *reader) positive(n node, want string) int {
	i, ok := r.integer(n, want)
	if ok && i <= 0 {
		r.wrong(n, "is not above 0"+got(literal(n)), want, "")
	}
	return i
}

func (r *reader) taxes(n node) (t catalog.Taxes) {
	r.fields(n, []field{
		{"prices_include_tax", "", func(n node) { t.Inclusive = r.boolean(n) }},
		{"round", "", func(n node) { t.PerLine, _ = choose(r, n, option[bool]{"invoice", false}, option[bool]{"line", true}) }},
		{"rules", "at least one rule", func(n node) {
			r.list(n, "rules", func(n node) { t.Rules = append(t.Rules, r.taxRule(n)) })
		}},
	})
	return t
}

func (r *reader) taxRule(n node) catalog.TaxRule {
	var t catalog.TaxRule
	r.fields(n, []field{
		{"key", wantKey, func(n node) { t.Key, _ = r.text(n) }},
		{"name", "", func(n node) { t.Name, _ = r.text(n) }},
		{"percent", `the rate, such as "19"`, func(n node) { t.Percent, _ = r.decimal(n) }},
		{"country", "", func(n node) { t.Country = r.country(n) }},
		{"region", "", func(n node) { t.Region, _ = r.text(n) }},
		{"products", "", func(n node) { t.Products = r.keys(n, "products") }},
		{"compound", "", func(n node) { t.Compound = r.boolean(n) }},
		{"reverse_charge", "", func(n node) { t.ReverseCharge = r.boolean(n) }},
	})
	return t
}

// country reads a code; Validate looks at it.
func (r *reader) country(n node) string {
	code, ok := r.text(n)
	if ok && code == "" {
		r.wrong(n, "is empty", "two capitals of ISO 3166, such as DE", "")
	}
	return code
}

func (r *reader) billing(n node) (b catalog.Billing) {
	r.fields(n, []field{
		{"rounding", "", func(n node) {
			b.HalfEven, _ = choose(r, n, option[bool]{"half_up", false}, option[bool]{"half_even", true})
		}},
		{"series", "", func(n node) { b.Series, _ = r.text(n) }},
		{"grace", "", func(n node) { b.Grace = r.grace(n) }},
		{"seller", "", func(n node) { b.Seller = r.seller(n) }},
		{"dunning", "", func(n node) { b.Dunning = r.dunning(n) }},
	})
	return b
}

// grace reads how long after its end a period is closed; 0 is at once.
func (r *reader) grace(n node) string {
	const want = `a number with s, m, h or d, such as "2h"`
	d, ok := catalog.ParseSpan(literal(n))
	if !ok {
		r.unclear(n, "a duration", want, "h", func(s string) bool { _, ok := catalog.ParseSpan(s); return ok })
		return ""
	}
	return d.String()
}

func (r *reader) seller(n node) (s catalog.Seller) {
	text := func(to *string) func(node) { return func(n node) { *to, _ = r.text(n) } }
	r.fields(n, []field{
		{"name", "the seller's legal name", text(&s.Name)},
		{"tax_id", "", text(&s.TaxID)},
		{"street", "", text(&s.Street)},
		{"city", "", text(&s.City)},
		{"postal_code", "", text(&s.PostalCode)},
		{"region", "", text(&s.Region)},
		{"country", "two capitals of ISO 3166, such as DE", func(n node) { s.Country = r.country(n) }},
		{"email", "", text(&s.Email)},
		{"iban", "", text(&s.IBAN)},
		{"note", "", text(&s.Note)},
	})
	return s
}

func (r *reader) dunning(n node) (d catalog.Dunning) {
	r.fields(n, []field{
		{"reminders", "", func(n node) {
			r.list(n, "days after the due date", func(n node) {
				i, _ := r.integer(n, "whole days after the due date, such as 7")
				d.Reminders = append(d.Reminders, i)
			})
		}},
		{"after", "", func(n node) { d.After = r.positive(n, "whole days after the due date, such as 30") }},
		{"then", "", func(n node) {
			d.Then, _ = choose(r, n, option[string]{catalog.ThenSuspend, catalog.ThenSuspend}, option[string]{catalog.ThenUncollectible, catalog.ThenUncollectible})
		}},
	})
	return d
}

// days reads whole days above 0: "14 days".
func (r *reader) days(n node, want string) int {
	text := literal(n)
	i, ok := catalog.ParseDays(text)
	switch {
	case ok && i > 0:
		return i
	case ok:
		r.wrong(n, "is not above 0"+got(text), want+"; leave it out for none", "")
		return 0
	}
	right := func(s string) bool { i, ok := catalog.ParseDays(s); return ok && i > 0 }
	unit := " days"
	for _, guess := range []string{strings.TrimSuffix(text, "d") + " days", text + "s", strings.TrimSuffix(text, "s")} {
		if right(guess) {
			text = guess
		}
	}
	if right(text) {
		r.wrong(n, "is not a number of days"+got(literal(n)), want, strconv.Quote(text))
		return 0
	}
	if d, ok := catalog.ParseSpan(text); ok && d > 0 && d%(24*time.Hour) == 0 {
		r.wrong(n, "is not a number of days"+got(text), want, strconv.Quote(catalog.FormatDays(int(d/(24*time.Hour)))))
		return 0
	}
	r.unclear(n, "a number of days", want, unit, right)
	return 0
}
