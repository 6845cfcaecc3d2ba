package oracle_test

import (
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/tallystick/tallystick/internal/app/bill/oracle"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/subscription"
)

// change invents what becomes of a subscription. Each change is tried as the records would: with those known before it; what
// cannot be is left out.
func (w *world) change(c *subscriber) {
	r := w.random
	h := &c.world.History
	for i := range r.IntN(7) {
		known := w.steps[r.IntN(len(w.steps))]
		if known.Before(h.Start) {
			known = w.step(h.Start)
		}
		at := known
		switch r.IntN(4) {
		case 0: // ahead of time
			at = w.instant(known, known.AddDate(0, 2, 0))
		case 1: // backdated
			at = w.instant(h.Start, known.Add(time.Hour))
		}
		x := subscription.Change{ID: fmt.Sprintf("sch_%s%021d", c.key, i), SubscriptionID: h.ID, At: at, CreatedAt: known, Now: r.IntN(4) == 0, Actor: "test"}
		w.kind(&x)
		next := *h
		next.Changes = append(slices.Clone(h.Changes), x)
		if w.possible(&next, c) {
			*h = next
		}
	}
}

// kind says what a change does.
func (w *world) kind(x *subscription.Change) {
	r := w.random
	plans := shop(1).Plans
	switch r.IntN(12) {
	case 0, 1, 2:
		x.Kind, x.Plan, x.Version = subscription.ToPlan, plans[r.IntN(len(plans))].Key, 1+r.Int64N(versions)
	case 3, 4:
		x.Kind, x.Version = subscription.ToPrices, 1+r.Int64N(versions)
	case 5, 6:
		x.Kind, x.Key, x.Quantity = subscription.Quantity, "seats", money.FromInt(r.Int64N(9))
	case 7:
		x.Kind, x.Key, x.Version, x.Quantity = subscription.SetAddOn, "backup", 1+r.Int64N(versions), money.FromInt(r.Int64N(3))
	case 8:
		x.Kind = subscription.Pause
	case 9:
		x.Kind = subscription.Resume
	case 10:
		x.Kind, x.Until = subscription.Trial, period.Truncate(x.At.Add(time.Duration(r.IntN(30*24))*time.Hour))
	case 11:
		x.Kind = subscription.Cancel
		if r.IntN(3) == 0 {
			x.Kind = subscription.Revive
		}
	}
}

// possible says that a history was sound at every instant at which something of it became known.
func (w *world) possible(h *subscription.History, c *subscriber) bool {
	plans := subscription.Catalogs(func(v int64) *catalog.Catalog { return w.catalogs[v].Catalog })
	for _, x := range h.Changes {
		known := *h
		known.Changes = slices.DeleteFunc(slices.Clone(h.Changes), func(y subscription.Change) bool { return y.CreatedAt.After(x.CreatedAt) })
		if _, err := known.Segments(c.customer.Zone, plans); err != nil {
			return false
		}
	}
	return true
}

// usage invents events: most are known at the next step, some late, some amended, some voided.
func (w *world) usage(c *subscriber) {
	r := w.random
	last := w.steps[len(w.steps)-1]
	for range r.IntN(60) {
		e := oracle.Event{At: w.instant(c.world.History.Start.Add(-48*time.Hour), last), Meter: "calls"}
		if r.IntN(3) == 0 {
			e.Meter = "bytes"
		} else {
			e.Dimensions = []meter.Dimension{{Name: "region", Value: []string{"eu", "us", "ap"}[r.IntN(3)]}}
		}
		known := w.step(e.At)
		if r.IntN(6) == 0 {
			known = w.step(known.Add(time.Duration(r.IntN(80*24)) * time.Hour))
		}
		e.Values = append(e.Values, oracle.Value{Known: known, Quantity: big.NewRat(r.Int64N(200), 1)})
		for r.IntN(8) == 0 {
			known = w.step(known.Add(time.Duration(1+r.IntN(60*24)) * time.Hour))
			quantity := big.NewRat(1+r.Int64N(200), 1)
			if r.IntN(2) == 0 {
				quantity = new(big.Rat)
			}
			e.Values = append(e.Values, oracle.Value{Known: known, Quantity: quantity})
			if quantity.Sign() == 0 {
				break
			}
		}
		for v := range e.Values {
			c.events = append(c.events, happening{e.Values[v].Known, len(c.world.Events), v})
		}
		c.world.Events = append(c.world.Events, e)
	}
	slices.SortStableFunc(c.events, func(a, b happening) int { return a.known.Compare(b.known) })
}

// redeem invents coupons.
func (w *world) redeem(c *subscriber) {
	r := w.random
	for i := range r.IntN(3) {
		keys := shop(1).Coupons
		o := keys[r.IntN(len(keys))]
		at := w.steps[r.IntN(len(w.steps))]
		id := fmt.Sprintf("rdm_%s%020d", c.key, i)
		c.coupons = append(c.coupons, account.Redemption{ID: id, CustomerID: c.customer.ID, Coupon: o.Key, CatalogVersion: 1, RedeemedAt: at})
		k := oracle.Coupon{ID: id, Periods: o.Periods, Known: at}
		if o.Percent != nil {
			k.Percent, _ = new(big.Rat).SetString(o.Percent.String())
		} else {
			k.Amount, _ = new(big.Rat).SetString(o.Amount.String())
		}
		c.world.Coupons = append(c.world.Coupons, k)
	}
	slices.SortStableFunc(c.coupons, func(a, b account.Redemption) int { return a.RedeemedAt.Compare(b.RedeemedAt) })
	slices.SortStableFunc(c.world.Coupons, func(a, b oracle.Coupon) int { return a.Known.Compare(b.Known) })
}
