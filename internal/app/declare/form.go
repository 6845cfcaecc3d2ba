package declare

import (
	"strconv"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/app/reading"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/price"
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

func (r *reader) price(n node) price.Price {
	var p price.Price
	present := r.fields(n, []field{
		{"key", wantKey, func(n node) { p.Key, _ = r.text(n) }},
		{"model", "flat or graduated", func(n node) {
			p.Model, _ = choose(r, n, option[price.Model]{"flat", price.Flat}, option[price.Model]{"graduated", price.Graduated})
		}},
		{"meter", "", func(n node) { p.Meter, _ = r.text(n) }},
		{"amount", "", func(n node) { p.Amount, _ = r.decimal(n) }},
		{"every", "", func(n node) { p.Every = r.every(n) }},
		{"charge", "", func(n node) {
			p.Charge, _ = choose(r, n, option[price.Charge]{"in_advance", price.InAdvance}, option[price.Charge]{"in_arrears", price.InArrears})
		}},
		{"tiers", "", func(n node) {
			r.list(n, "tiers", func(n node) { p.Tiers = append(p.Tiers, r.tier(n)) })
		}},
	})
	if p.Model == price.Flat && present != nil && !present["amount"] {
		r.missing(n, "amount", `what it costs each month, such as "20.00"`)
	}
	// An amount of 0 is like none in the value, so this is said here.
	if p.Model == price.Graduated && present["amount"] && p.Amount.IsZero() {
		r.extra(n, "amount", "does not go with model graduated", "tiers, or model: flat")
	}
	if !present["charge"] {
		p.Charge = price.InArrears
		if p.Model == price.Flat {
			p.Charge = price.InAdvance
		}
	}
	return p
}

func (r *reader) every(n node) period.Every {
	text, ok := r.text(n)
	if !ok {
		return period.Every{}
	}
	e, err := period.ParseEvery(text)
	if err != nil {
		r.wrong(n, "is no interval"+got(text), `day, week, month, quarter, year, or a multiple such as "2 weeks"`, "")
	}
	return e
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

func (r *reader) tier(n node) price.Tier {
	var t price.Tier
	r.fields(n, []field{
		{"up_to", "", func(n node) { t.UpTo = r.optional(n) }},
		{"unit_amount", `what one unit costs, such as "0.0004"`, func(n node) { t.UnitAmount, _ = r.decimal(n) }},
		{"flat_amount", "", func(n node) { t.FlatAmount, _ = r.decimal(n) }},
	})
	return t
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
