package calc

import (
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/price"
)

// prorated is the answer of prorate.
type prorated struct {
	Ratio string `json:"ratio"` // 34 significant digits where there are more
	figure
}

// prorate takes the part of an amount that a service takes up of its period, by price.Ratio.
func prorate(in *object) (any, *Fault) {
	c, amount := in.currency(), in.decimal("amount")
	service, full := in.span("service"), in.interval("period")
	by, zone := price.ProrateSeconds, in.zone("zone")
	if in.word("by", "second", "day") == "day" {
		by = price.ProrateDays
	}
	if fault := in.done(); fault != nil {
		return nil, fault
	}
	ratio, err := price.Ratio(service, full, by, zone)
	if err != nil {
		in.fail("period", "%v", err)
		return nil, in.done()
	}
	part, err := amount.Rational().Mul(ratio)
	if err != nil {
		return nil, faulty(err)
	}
	p := printer{currency: c}
	answer := prorated{figure: p.figure(part)}
	answer.Ratio, _ = p.exact(ratio)
	return answer, nil
}

// weightsMax bounds an allocation.
const weightsMax = 10_000

// allocate divides an amount by weights, by money.Amount.Allocate.
func allocate(in *object) (any, *Fault) {
	c, amount := in.currency(), in.decimal("amount")
	items := in.list("weights", weightsMax)
	weights := make([]money.Rational, 0, len(items))
	up := &place{name: "weights"}
	for i, item := range items {
		w, err := money.ParseDecimal(item.text)
		switch at := (place{up: up, index: i, listed: true}); {
		case item.kind != text:
			return nil, at.fault("expected a string, not %s", item.kind)
		case err != nil:
			return nil, at.fault(wantDecimal)
		case w.Sign() < 0:
			return nil, at.fault("a weight is not negative")
		}
		weights = append(weights, w.Rational())
	}
	if c == (money.Currency{}) {
		in.fail("currency", "parts need a currency whose minor units they are made of")
	}
	if amount.Scale() > c.Digits() {
		in.fail("amount", "%s has %d minor digits", c, c.Digits())
	}
	if fault := in.done(); fault != nil {
		return nil, fault
	}
	whole, err := money.Round(amount, c, money.HalfUp) // nothing is rounded
	if err != nil {
		return nil, faulty(err)
	}
	parts, err := whole.Allocate(weights)
	if err != nil {
		in.fail("weights", "%v", err)
		return nil, in.done()
	}
	var answer struct {
		Parts []string `json:"parts"`
	}
	for _, part := range parts {
		answer.Parts = append(answer.Parts, part.String())
	}
	return answer, nil
}
