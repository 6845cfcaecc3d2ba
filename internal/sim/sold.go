package sim

import (
	"context"
	"fmt"
	"time"

	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/sim/audit"
)

// tariffs are what usage costs by plan: the price list of every catalog version.
func tariffs() map[string]audit.Tariff {
	return map[string]audit.Tariff{"small": {Free: 20, Cents: 5}, "large": {Free: 100, Cents: 3}, "paced": {Cents: 2}, "sliding": {Cents: 2}}
}

// The limits of the plans of Config.Rates.
const (
	paceRate, paceSize = 3, 15 // a second; units
	slideMost          = 40
	slideLength        = time.Minute
)

// zones of the customers, without daylight saving, so that the auditor needs no zone data.
func zones() []zone {
	return []zone{{"UTC", 0}, {"Asia/Kolkata", 5*time.Hour + 30*time.Minute}, {"America/Phoenix", -7 * time.Hour}, {"Asia/Tokyo", 9 * time.Hour}}
}

type zone struct {
	name   string
	offset time.Duration
}

// terms are what the limits of a catalog version are.
type terms struct {
	small, large, month int
	rates               bool
}

func (t terms) file() []byte {
	const form = `tallystick: 1
meters:
  - {key: units, event: work, aggregation: sum, value: data.cost, scale: 0}
plans:
  - key: small
    currency: USD
    prices:
      - {key: base, model: flat, amount: "10.00", every: month, charge: in_advance}
      - {key: units, meter: units, model: graduated, every: month, tiers: [{up_to: "20", unit_amount: "0"}, {unit_amount: "0.05"}]}
    limits:
      - {key: daily, meter: units, quota: "%d", window: day, enforcement: hard}
  - key: large
    currency: USD
    prices:
      - {key: units, meter: units, model: graduated, every: month, tiers: [{up_to: "100", unit_amount: "0"}, {unit_amount: "0.03"}]}
    limits:
      - {key: daily, meter: units, quota: "%d", window: day, enforcement: hard}
      - {key: monthly, meter: units, quota: "%d", window: month, enforcement: hard}
%sgateway:
  routes:
    - {match: "POST /work", upstream: "http://127.0.0.1:9000", meter: units, cost: "1"}
`
	const rates = `  - key: paced
    currency: USD
    prices:
      - {key: units, meter: units, model: graduated, every: month, tiers: [{unit_amount: "0.02"}]}
    limits:
      - {key: pace, meter: units, token_bucket: {rate: "%d/s", burst: %d}}
  - key: sliding
    currency: USD
    prices:
      - {key: units, meter: units, model: graduated, every: month, tiers: [{unit_amount: "0.02"}]}
    limits:
      - {key: minute, meter: units, quota: "%d", rolling: %s}
`
	plans := ""
	if t.rates {
		plans = fmt.Sprintf(rates, paceRate, paceSize, slideMost, slideLength)
	}
	return fmt.Appendf(nil, form, t.small, t.large, t.month, plans)
}

// limits tells the auditor what holds for a customer from now on: the limits of its plan, and of the one that it has left, on which
// a gateway whose clock is behind still finds it.
func (w *World) limits(c *customer, t terms) {
	if w.now.Before(c.leaves) {
		w.limit(c, c.left, t)
	}
	w.limit(c, c.plan, t)
}

func (w *World) limit(c *customer, plan string, t terms) {
	day, month := t.small, int64(1)<<40
	switch plan {
	case "large":
		day, month = t.large, int64(t.month)
	case "paced", "sliding":
		return
	}
	w.log.Limit(c.ID, "daily", audit.Day, int64(day), w.now)
	w.log.Limit(c.ID, "monthly", audit.Month, month, w.now)
}

// sell sets up what is sold, and to whom.
func (w *World) sell(ctx context.Context) error {
	s := w.server
	if _, _, err := s.govern.ApplyCatalog(ctx, "sim", "sim.yaml", w.terms().file()); err != nil {
		return err
	}
	plans := []string{"small", "large", "small", "large"}
	if w.cfg.Rates {
		plans = append(plans, "paced", "sliding")
	}
	for i, plan := range plans {
		zone := zones()[i%len(zones())]
		c := &customer{plan: plan, steady: i < 2 || i > 3}
		var err error
		key := fmt.Sprintf("customer-%d", i+1)
		if c.Customer, err = s.govern.CreateCustomer(ctx, "sim", govern.NewCustomer{Key: key, Zone: zone.name, Currency: "USD"}); err != nil {
			return err
		}
		if _, c.secret, err = s.govern.CreateKey(ctx, "sim", govern.NewKey{Customer: key, Name: "key"}); err != nil {
			return err
		}
		sub, err := s.govern.CreateSubscription(ctx, "sim", govern.NewSubscription{Customer: key, Plan: c.plan, Start: born().Add(-48 * time.Hour), BillingDay: 1})
		if err != nil {
			return err
		}
		c.sub = sub.ID
		w.customers = append(w.customers, c)
		w.log.Customer(c.ID, zone.offset)
		switch plan {
		case "paced":
			w.log.Bucket(c.ID, paceRate, paceSize)
		case "sliding":
			w.log.Sliding(c.ID, slideLength, slideMost)
		}
		w.limits(c, w.terms())
	}
	return nil
}

// terms are those that are in force, or may be.
func (w *World) terms() terms {
	return terms{small: 20 + 7*w.version%19, large: 60 + 11*w.version%31, month: 400 + 50*w.version%170, rates: w.cfg.Rates}
}
