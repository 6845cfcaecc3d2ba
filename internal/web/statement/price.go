package statement

import (
	"fmt"
	"strings"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/price"
	"github.com/tallystick/tallystick/internal/web/ui"
)

// partsShown bounds the tiers or cells that one line tells.
const partsShown = 4

// PriceText says in one plain line what a price is: "$0.50 per 1 000 started, the first 250 free; each month".
func PriceText(p *price.Price, c money.Currency) string {
	text := modelText(p, c)
	if len(p.Filter) > 0 {
		text += ", where " + whenText(p.Filter)
	}
	if !p.Included.IsZero() {
		text += ", the first " + ui.Count(p.Included) + " included"
	}
	if p.MinimumSpend != nil {
		text += ", at least " + ui.Money(*p.MinimumSpend, c)
	}
	if p.MaximumSpend != nil {
		text += ", at most " + ui.Money(*p.MaximumSpend, c)
	}
	every := p.Every.String()
	if strings.Contains(every, " ") {
		return text + "; every " + every
	}
	return text + "; each " + every
}

func modelText(p *price.Price, c money.Currency) string {
	switch p.Model {
	case price.Flat:
		return ui.Money(p.Amount, c)
	case price.Unit:
		return ui.Money(p.UnitAmount, c) + " each"
	case price.Graduated, price.Stairstep, price.GraduatedPercentage:
		return tiersText(p, c)
	case price.Volume:
		if len(p.Tiers) == 1 {
			return tiersText(p, c)
		}
		return tiersText(p, c) + "; all at the rate that is reached"
	case price.Package:
		text := ui.Money(p.Amount, c) + " per " + ui.Count(p.Size) + " started"
		if !p.Free.IsZero() {
			text += ", the first " + ui.Count(p.Free) + " free"
		}
		return text
	case price.Percentage:
		return percentageText(p, c)
	case price.Dynamic:
		return "what each event says that it costs"
	case price.Matrix:
		return matrixText(p, c)
	}
	return "a price of a kind that this page does not know"
}

// tiersText is "up to 10 000 free, above $0.0004 each".
func tiersText(p *price.Price, c money.Currency) string {
	var parts []string
	for i := range p.Tiers {
		t := &p.Tiers[i]
		switch {
		case len(p.Tiers) == 1:
			return tierRate(p.Model, t, c)
		case i >= partsShown && i < len(p.Tiers)-1:
			continue
		case t.UpTo == nil:
			if more := i - partsShown; more > 0 {
				parts = append(parts, fmt.Sprintf("%d more tiers", more))
			}
			parts = append(parts, "above "+tierRate(p.Model, t, c))
		default:
			parts = append(parts, "up to "+ui.Count(*t.UpTo)+" "+tierRate(p.Model, t, c))
		}
	}
	return strings.Join(parts, ", ")
}

// tierRate is "$0.0004 each + $2.00", "$10.00 in all", "3 % + $1.00" or "free".
func tierRate(m price.Model, t *price.Tier, c money.Currency) string {
	flat := ui.Money(t.FlatAmount, c)
	var rate string
	switch {
	case !t.Percent.IsZero():
		rate = percentText(t.Percent)
	case !t.UnitAmount.IsZero():
		rate = ui.Money(t.UnitAmount, c) + " each"
	case t.FlatAmount.IsZero():
		return "free"
	case m == price.Stairstep:
		return flat + " in all"
	default:
		return flat
	}
	if t.FlatAmount.IsZero() {
		return rate
	}
	return rate + " + " + flat
}

// percentageText is "2.9 % + $0.30 per event, of that at least $0.50; the first 5 events and at most $100.00 of them free".
func percentageText(p *price.Price, c money.Currency) string {
	text := percentText(p.Percent) + " of the amount"
	if !p.Fixed.IsZero() {
		text = percentText(p.Percent) + " + " + ui.Money(p.Fixed, c) + " per event"
	}
	if p.Min != nil {
		text += ", at least " + ui.Money(*p.Min, c) + " per event"
	}
	if p.Max != nil {
		text += ", at most " + ui.Money(*p.Max, c) + " per event"
	}
	switch {
	case p.FreeEvents > 0 && p.FreeAmount != nil:
		text += ", the first " + ui.Int(p.FreeEvents) + " events free, up to " + ui.Money(*p.FreeAmount, c)
	case p.FreeEvents > 0:
		text += ", the first " + ui.Int(p.FreeEvents) + " events free"
	case p.FreeAmount != nil && !p.FreeAmount.IsZero():
		text += ", the first " + ui.Money(*p.FreeAmount, c) + " free"
	}
	return text
}

// matrixText is "$0.01 each where model is large, else $0.001 each".
func matrixText(p *price.Price, c money.Currency) string {
	var parts []string
	for i := range p.Cells[:min(len(p.Cells), partsShown)] {
		parts = append(parts, ui.Money(p.Cells[i].UnitAmount, c)+" each where "+whenText(p.Cells[i].When))
	}
	if more := len(p.Cells) - partsShown; more > 0 {
		parts = append(parts, fmt.Sprintf("%d more of such", more))
	}
	return strings.Join(append(parts, "else "+ui.Money(p.UnitAmount, c)+" each"), ", ")
}

func percentText(d money.Decimal) string { return ui.Count(d) + "\u00a0%" }

// whenText is "region is eu and tier is gold".
func whenText(list []meter.Dimension) string {
	parts := make([]string, len(list))
	for i, d := range list {
		parts[i] = ui.Words(d.Name) + " is " + d.Value
	}
	return strings.Join(parts, " and ")
}

// priceName is what the invoice calls it.
func priceName(p *price.Price) string {
	if p.Name != "" {
		return p.Name
	}
	return ui.Words(p.Key)
}
