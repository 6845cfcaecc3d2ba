package calc

import (
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/price"
)

// Bounds of a rating, beside those of a request.
const (
	discountsMax = 100
	namesMax     = 16      // dimensions of one event, cell or filter
	countMax     = 1 << 53 // of events
)

// rate charges a quantity, or events, by a price as the catalog has it.
func rate(in *object) (any, *Fault) {
	currency := in.currency()
	var p price.Price
	readPrice(in.object("price"), &p)
	u := readUsage(in, &p)
	if fault := in.done(); fault != nil {
		return nil, fault
	}
	result, err := p.ChargeFor(u)
	if err != nil {
		return nil, ratingFault(err, in.has("events"))
	}
	out := printer{currency: currency}
	return out.rating(&result), nil
}

// ratingFault leads the pointer of a price's error to its place in the request.
func ratingFault(err error, byEvents bool) *Fault {
	var what *price.Invalid
	if !errors.As(err, &what) {
		return faulty(err)
	}
	pointer := what.Pointer
	switch {
	case !what.OfUsage:
		pointer = "/price" + pointer
	case pointer == "/quantity" && byEvents:
		pointer = "/events"
	}
	return &Fault{Code: CodeInvalid, Detail: what.Detail, Pointer: pointer}
}

// rating prints the answer of the op "rate". It is the one op that is called by the hundred thousand, so it is printed without a
// detour: amount, inexact and rounded as in a figure, then lines of kind, tier, quantity, unit_amount, amount and inexact. tier is
// left out where there is none; discounts, maximum and minimum have an amount alone.
func (p *printer) rating(r *price.Result) encoded {
	b := make([]byte, 0, 128+128*len(r.Lines))
	b = appendAmount(append(b, '{'), r.Amount)
	if p.currency != (money.Currency{}) {
		b = append(append(append(b, `,"rounded":"`...), p.rounded(r.Amount)...), '"')
	}
	b = append(b, `,"lines":[`...)
	for i := range r.Lines {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendLine(b, &r.Lines[i])
	}
	return append(b, "]}"...)
}

func appendLine(b []byte, line *price.Line) []byte {
	b = append(append(append(b, `{"kind":"`...), line.Kind...), `",`...)
	if line.Tier > 0 {
		b = append(strconv.AppendInt(append(b, `"tier":`...), int64(line.Tier), 10), ',')
	}
	if line.Kind == price.UsageLine || line.Kind == price.FlatLine {
		b = appendDecimal(append(b, `"quantity":"`...), line.Quantity)
		b = append(appendDecimal(append(b, `","unit_amount":"`...), line.UnitAmount), `",`...)
	}
	return append(appendAmount(b, line.Amount), '}')
}

// appendAmount appends the members amount and inexact.
func appendAmount(b []byte, r money.Rational) []byte {
	b, inexact := r.AppendDigits(append(b, `"amount":"`...))
	b = append(b, '"')
	if inexact {
		b = append(b, `,"inexact":true`...)
	}
	return b
}

func appendDecimal(b []byte, d money.Decimal) []byte {
	b, _ = d.AppendText(b) // it has no errors
	return b
}

// readUsage reads what the price is to charge: a quantity, or events in any order.
func readUsage(in *object, p *price.Price) price.Usage {
	u := price.Usage{
		Prior:   price.Prior{Events: in.maybeCount("prior_events")},
		Minimum: in.maybeDecimal("minimum_spend"),
		Maximum: in.maybeDecimal("maximum_spend"),
	}
	in.into("prior_quantity", &u.Prior.Quantity)
	in.into("usage_discount", &u.Free)
	if d := in.maybeDecimal("prior_amount"); d != nil {
		u.Prior.Amount = d.Rational()
	}
	switch in.word("position", "single", "first", "middle", "last") {
	case "first":
		u.Position = price.First
	case "middle":
		u.Position = price.Middle
	case "last":
		u.Position = price.Last
	}
	in.each("discounts", discountsMax, func(_ int, in *object) {
		u.Discounts = append(u.Discounts, price.Discount{Percent: in.maybeDecimal("percent"), Amount: in.maybeDecimal("amount")})
	})
	switch {
	case in.has("events"):
		if in.has("quantity") {
			in.fail("quantity", "either quantity or events")
		}
		readEvents(in, p, &u)
	case in.has("quantity") || p.Model != price.Flat:
		u.Quantity = in.decimal("quantity")
	}
	return u
}

// readEvents reads the events that the price's filter takes, and puts them in the order of their times. Those of one time, or
// without one, keep their order.
func readEvents(in *object, p *price.Price, u *price.Usage) {
	type timed struct {
		at time.Time
		price.Event
	}
	var events []timed
	in.each("events", eventsMax, func(_ int, in *object) {
		event := timed{at: in.maybeTime("time"), Event: price.Event{Dimensions: in.dimensions("dimensions")}}
		name, other := "quantity", "amount"
		if in.has(other) {
			name, other = other, name
		}
		event.Quantity = in.decimal(name)
		if in.has(other) {
			in.fail(other, "either quantity or amount")
		}
		if event.Quantity.Sign() < 0 && (p.Model == price.Percentage || p.Model == price.Matrix) {
			in.fail(name, "%s is negative", event.Quantity)
		}
		if event.Fits(p.Filter) {
			events = append(events, event)
		}
	})
	slices.SortStableFunc(events, func(a, b timed) int { return a.at.Compare(b.at) })
	u.Events = make([]price.Event, len(events))
	for i := range events {
		u.Events[i] = events[i].Event
		sum, err := u.Quantity.Add(events[i].Quantity)
		if err != nil {
			in.fail("events", "%v", err)
			return
		}
		u.Quantity = sum
	}
}

// maybeCount is a whole number of events, a JSON number or a string; 0 where nothing is there.
func (o *object) maybeCount(name string) int64 {
	m := find(o.members, name)
	if m == nil {
		return 0
	}
	m.read = true
	if m.kind == null {
		return 0
	}
	n, err := strconv.ParseInt(m.text, 10, 64)
	if err != nil || n < 0 || n > countMax || m.kind != number && m.kind != text {
		o.fail(name, "expected a whole number from 0 to %d", int64(countMax))
		return 0
	}
	return n
}

// dimensions is an object of texts; nil where nothing is there.
func (o *object) dimensions(name string) []meter.Dimension {
	v := o.maybe(name, table)
	if v == nil {
		return nil
	}
	if len(v.members) > namesMax {
		o.fail(name, "more than %d", namesMax)
		return nil
	}
	out := make([]meter.Dimension, len(v.members))
	at := place{up: o.at, name: name}
	for i := range v.members {
		m := &v.members[i]
		if m.kind != text && *o.first == nil {
			*o.first = (&place{up: &at, name: m.name}).fault("expected %s, not %s", text, m.kind)
		}
		out[i] = meter.Dimension{Name: m.name, Value: m.text}
	}
	return out
}
