package calc

import (
	"strconv"

	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/tax"
)

// Bounds of taxes.
const (
	linesMax = 1_000
	ratesMax = 20
	scaleMax = 18 // decimals of a percentage
)

// taxed is the answer of taxes.
type taxed struct {
	Tax   string     `json:"tax"`
	Total string     `json:"total"`
	Taxes []rateLine `json:"taxes"`
}

// rateLine is one rate in it.
type rateLine struct {
	Percent string `json:"percent"`
	Amount  string `json:"amount"`
}

// taxes has the same rates on all lines, by tax.Compute.
func taxes(in *object) (any, *Fault) {
	r := tax.Request{Currency: in.currency(), Inclusive: in.maybeBool("inclusive"), PerLine: in.word("level", "invoice", "line") == "line"}
	var rates []tax.Rate
	in.each("rates", ratesMax, func(i int, in *object) {
		rate := tax.Rate{Key: strconv.Itoa(i), Percent: in.positive("percent"), Compound: in.maybeBool("compound")}
		if rate.Percent.Cmp(money.FromInt(tax.PercentMax)) > 0 {
			in.fail("percent", "above %d %%", tax.PercentMax)
		}
		if rate.Percent.Scale() > scaleMax {
			in.fail("percent", "more than %d decimals", scaleMax)
		}
		rates = append(rates, rate)
	})
	in.member("lines", list)
	in.each("lines", linesMax, func(_ int, in *object) {
		r.Lines = append(r.Lines, tax.Line{Amount: in.decimal("amount").Rational(), Rates: rates})
	})
	if fault := in.done(); fault != nil {
		return nil, fault
	}
	result, err := tax.Compute(r)
	if err != nil {
		return nil, faulty(err)
	}
	p := printer{currency: r.Currency}
	answer := taxed{Tax: p.posted(result.Tax), Total: p.posted(result.Total), Taxes: []rateLine{}}
	for i := range rates { // without lines, a rate makes nothing
		var amount money.Rational
		if i < len(result.Taxes) {
			amount = result.Taxes[i].Amount
		}
		answer.Taxes = append(answer.Taxes, rateLine{Percent: rates[i].Percent.String(), Amount: p.posted(amount)})
	}
	return answer, nil
}
