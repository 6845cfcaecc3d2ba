package tax

import (
	"slices"

	"github.com/tallystick/tallystick/internal/core/catalog"
)

// Place is what the taxes of a customer depend on.
type Place struct {
	Country string // ISO 3166
	Region  string
	TaxID   string // of a business; empty: none is known
	Exempt  bool   // from all taxes
}

// Select finds the rates for a customer and a product: of all rules whose country, region and products fit, in the order in which
// they are declared. A rule with products does not fit a product without a name. Where a rule has a reverse charge and the customer
// a tax id, the rate has it too. Who is exempt has no rates.
func Select(rules catalog.Taxes, where Place, product string) []Rate {
	if where.Exempt {
		return nil
	}
	var rates []Rate
	for i := range rules.Rules {
		r := &rules.Rules[i]
		if r.Country != "" && r.Country != where.Country || r.Region != "" && r.Region != where.Region {
			continue
		}
		if len(r.Products) > 0 && !slices.Contains(r.Products, product) {
			continue
		}
		rates = append(rates, Rate{
			Key: r.Key, Name: r.Name, Percent: r.Percent, Compound: r.Compound,
			ReverseCharge: r.ReverseCharge && where.TaxID != "",
		})
	}
	return rates
}
