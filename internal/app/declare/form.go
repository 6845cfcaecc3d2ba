package declare

import (
	"strconv"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/app/reading"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
)

// formVersion is what "tallystick:" must say.
const formVersion = 1

const (
	timeoutDefault = 30 * time.Second
	wantKey        = "a key of your own, such as api_calls"
)

func (r *reader) catalog(root node) *catalog.Catalog {
	c := &catalog.Catalog{}
	root.at = place{line: 1, column: 1}
	if root.value != nil {
		root.at.line, root.at.column = position(root.value, nil)
	}
	r.places[""] = root.at
	r.fields(root, []field{
		{"tallystick", "1, the version of this form", r.version},
		{"events", "", func(n node) {
			r.list(n, "event types", func(n node) { c.Events = append(c.Events, r.eventType(n)) })
		}},
		{"ingest", "", func(n node) { c.Ingest = r.ingest(n) }},
		{"meters", "", func(n node) {
			r.list(n, "meters", func(n node) { c.Meters = append(c.Meters, r.meter(n)) })
			if r.broken[n.path] {
				c.Meters = append(c.Meters, catalog.Meter{}) // without a key: keeps Validate from calling references to meters unknown
			}
		}},
		{"plans", "", func(n node) {
			r.list(n, "plans", func(n node) { c.Plans = append(c.Plans, r.plan(n)) })
		}},
		{"add_ons", "", func(n node) {
			r.list(n, "add-ons", func(n node) { c.AddOns = append(c.AddOns, r.addOn(n)) })
		}},
		{"coupons", "", func(n node) {
			r.list(n, "coupons", func(n node) { c.Coupons = append(c.Coupons, r.coupon(n)) })
		}},
		{"taxes", "", func(n node) { c.Taxes = r.taxes(n) }},
		{"billing", "", func(n node) { c.Billing = r.billing(n) }},
		{"gateway", "", func(n node) { r.gateway(n, c) }},
	})
	return c
}

func (r *reader) version(n node) {
	if v, ok := r.integer(n, "1"); ok && v != formVersion {
		r.wrong(n, "is a version of the form that this program does not know"+got(literal(n)), "1", "1")
	}
}

func (r *reader) meter(n node) catalog.Meter {
	var m catalog.Meter
	var value node
	r.fields(n, []field{
		{"key", wantKey, func(n node) { m.Key, _ = r.text(n) }},
		{"event", "the type of the events it counts", func(n node) { m.Event, _ = r.text(n) }},
		{"aggregation", "count, sum, min, max, latest, unique, time_weighted or custom", func(n node) { r.aggregation(n, &m) }},
		{"value", "", func(n node) { value = n; m.Value, _ = r.text(n) }},
		{"filter", "", func(n node) { m.Filter = r.filter(n) }},
		{"unit", "", func(n node) { m.Unit, _ = r.text(n) }},
		{"scale", "", func(n node) { m.Scale, _ = r.integer(n, "the decimals to keep, 0 to 9") }},
		{"dimensions", "", func(n node) {
			r.list(n, "names", func(n node) { r.dimension(n, &m) })
		}},
	})
	if m.Custom && strings.TrimSpace(m.Value) != "" {
		r.expression(value, m.Value, reading.Quantity)
	}
	return m
}

// aggregation reads the meter's aggregation; a custom one sums up what its expression is.
func (r *reader) aggregation(n node, m *catalog.Meter) {
	const custom meter.Aggregation = 0
	options := []option[meter.Aggregation]{}
	for _, a := range meter.Aggregations() {
		options = append(options, option[meter.Aggregation]{a.String(), a})
	}
	chosen, ok := choose(r, n, append(options, option[meter.Aggregation]{"custom", custom})...)
	if ok && chosen == custom {
		m.Custom, chosen = true, meter.Sum
	}
	m.Aggregation = chosen
}

func (r *reader) plan(n node) catalog.Plan {
	var p catalog.Plan
	r.fields(n, []field{
		{"key", wantKey, func(n node) { p.Key, _ = r.text(n) }},
		{"name", "", func(n node) { p.Name, _ = r.text(n) }},
		{"currency", "an ISO 4217 code, such as USD", func(n node) { p.Currency = r.currency(n) }},
		{"prices", "", func(n node) {
			r.list(n, "prices", func(n node) { p.Prices = append(p.Prices, r.price(n)) })
		}},
		{"limits", "", func(n node) {
			r.list(n, "limits", func(n node) { p.Limits = append(p.Limits, r.limit(n)) })
		}},
		{"entitlements", "", func(n node) { p.Entitlements = r.entitlements(n) }},
		{"baseline", "", func(n node) { p.Baseline = r.baseline(n) }},
		{"trial", "", func(n node) { p.Terms.TrialDays = r.days(n, `whole days, such as "14 days"`) }},
		{"billing_anchor", "", func(n node) {
			p.Terms.Calendar, _ = choose(r, n, option[bool]{"anniversary", false}, option[bool]{"calendar", true})
		}},
		{"minimum_spend", "", func(n node) { p.Terms.Minimum = r.optional(n) }},
		{"maximum_spend", "", func(n node) { p.Terms.Maximum = r.optional(n) }},
		{"bill_at", "", func(n node) { p.Terms.Threshold = r.optional(n) }},
		{"due", "", func(n node) { p.Terms.DueDays = r.days(n, `whole days, such as "30 days"`) }},
	})
	return p
}

func (r *reader) currency(n node) money.Currency {
	code, ok := r.text(n)
	if !ok {
		return money.Currency{}
	}
	c, err := money.ParseCurrency(code)
	if err != nil {
		suggestion := ""
		if upper, err := money.ParseCurrency(strings.ToUpper(clip(code))); err == nil {
			suggestion = upper.Code()
		}
		r.wrong(n, "is not a currency"+got(code), "an ISO 4217 code, such as USD", suggestion)
	}
	return c
}

// missing reports a field that only other fields make necessary, extra one that they forbid.
func (r *reader) missing(n node, name, want string) {
	path := join(n.path, name)
	if !r.broken[path] {
		r.fault(n.at, path, join(n.shown, name), "is missing", want, "")
	}
}

func (r *reader) extra(n node, name, message, want string) {
	path := join(n.path, name)
	if !r.broken[path] {
		r.fault(r.places[path], path, join(n.shown, name), message, want, "")
	}
}

func (r *reader) optional(n node) *money.Decimal {
	if d, ok := r.decimal(n); ok {
		return &d
	}
	return nil
}

func (r *reader) duration(n node) time.Duration {
	d, err := time.ParseDuration(literal(n))
	if err != nil {
		r.unclear(n, "a duration", `a number with ms, s or m, such as "30s"`, "s", func(s string) bool { _, err := time.ParseDuration(s); return err == nil })
	}
	return d
}

// unclear reports a number that needs a unit; with the usual unit it may be right.
func (r *reader) unclear(n node, what, want, unit string, right func(string) bool) {
	text, isScalar := scalar(n.value)
	if !isScalar {
		r.wrong(n, "is "+kind(n.value), want, "")
		return
	}
	suggestion := ""
	if guess := text + unit; len(guess) <= maxShown && right(guess) {
		suggestion = strconv.Quote(guess)
	}
	r.wrong(n, "is not "+what+got(text), want, suggestion)
}

// literal is the text of a scalar, else "".
func literal(n node) string {
	text, _ := scalar(n.value)
	return text
}
