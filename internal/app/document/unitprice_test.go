package document

import (
	"testing"

	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/price"
)

// TestUnitPrice: a price stands beside a quantity only where it is the price of one of these.
func TestUnitPrice(t *testing.T) {
	t.Parallel()
	number := money.MustDecimal
	for name, x := range map[string]struct {
		quantity, included, charged string
		want                        bool
	}{
		"units":               {"8", "0", "8", true},
		"above the included":  {"312789", "200000", "112789", true},
		"packages of 1000":    {"399638", "0", "300", false},
		"above a free amount": {"59.9397", "0", "9.9397", false},
	} {
		l := invoice.Line{
			Kind: invoice.UsageLine, Quantity: number(x.quantity), Included: number(x.included),
			Tiers: []price.TierCharge{{Quantity: number(x.charged), UnitAmount: number("78")}},
		}
		if _, got := unitPrice(&l); got != x.want {
			t.Errorf("%s: shown is %t", name, got)
		}
	}
}
