package subscription

import (
	"time"

	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/price"
)

// Charge is one price for one part of one of its periods: what is to be billed, whether it was billed already or not.
type Charge struct {
	Price   price.Price
	Plan    string
	AddOn   string // key of the add-on whose price it is; empty: the plan's
	Version int64  // of the catalog that the price is from
	// Period is the price's own period, cut short where the subscription begins, ends or changes its interval. Service is the
	// part of it that this charge is for; Full is what Period is a part of, or all of it.
	Period, Service, Full period.Interval
	// Due is when it stands on an invoice: in advance when Service begins, in arrears when Period ends.
	Due time.Time
	// Quantity is the subscription's, of a licensed price. Ratio is the part of Full that it is charged for (1: the whole), by the
	// price's Prorate; for usage it is 1 always.
	Quantity money.Decimal
	Ratio    money.Rational
	// Position is which split of its Period the charge is, among those of the same meter and filter, whatever plan they are of.
	Position price.Position
}

// Key names what the charge is for, through changes of quantity, version and history: charges of one key are compared with what
// was billed under that key. An add-on goes on through changes of plan, so its key has none.
type Key struct {
	Plan, AddOn, Price string
	Start              time.Time // of Period
}

// Key is the charge's.
func (c *Charge) Key() Key {
	k := Key{c.Plan, c.AddOn, c.Price.Key, c.Period.Start}
	if c.AddOn != "" {
		k.Plan = ""
	}
	return k
}
