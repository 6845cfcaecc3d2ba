package bill

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// PeriodEnd is the latest current period end plus grace, over all active subscriptions: the target of `clock advance
// --to period-end`. At that instant the period is due. account.ErrNotFound without a subscription.
func (s *Service) PeriodEnd(_ context.Context) (time.Time, error) {
	now := s.cfg.Now()
	var latest time.Time
	for _, customer := range s.cfg.Directory.Customers() {
		sub, ok := s.cfg.Directory.ActiveSubscription(customer.ID, now)
		if !ok {
			continue
		}
		if p, ok := (term{sub, customer}).period(now); ok && p.End.After(latest) {
			latest = p.End
		}
	}
	if latest.IsZero() {
		return time.Time{}, absent("there is no active subscription, so no billing period ends; create one with `tally subscriptions create`")
	}
	return latest.Add(s.cfg.Grace), nil
}

// Preview is the next invoice as if the current period closed now: usage so far and next period's in-advance prices.
// Status preview; nothing is stored. account.ErrNotFound for an unknown customer or one without an active subscription.
func (s *Service) Preview(ctx context.Context, customerRef string) (invoice.Invoice, error) {
	standing, err := s.Standing(ctx, customerRef)
	if err != nil {
		return invoice.Invoice{}, err
	}
	if !standing.HasPlan {
		return invoice.Invoice{}, absent(fmt.Sprintf("customer %q has no active subscription; create one with `tally subscriptions create`", customerRef))
	}
	return standing.Preview, nil
}

// Accrual is the usage charges of the open periods so far in one currency.
type Accrual struct {
	Currency string
	Open     money.Decimal // all preview usage lines, exact
}

// Accrued sums the previews of all active subscriptions at one cut, by currency. Currencies are sorted; one without
// usage charges stands with 0. A subscription whose usage cannot be rated is logged and left out.
func (s *Service) Accrued(ctx context.Context) ([]Accrual, error) {
	now := s.cfg.Now()
	type open struct {
		contract contract
		period   period.Interval
		usage    []invoice.Usage
	}
	var list []open
	for _, customer := range s.cfg.Directory.Customers() {
		c, ok, err := s.active(ctx, customer, now)
		if err != nil {
			return nil, fmt.Errorf("accrued: %w", err)
		}
		if !ok {
			continue
		}
		if p, ok := c.period(now); ok {
			list = append(list, open{contract: c, period: p})
		}
	}
	var position uint64
	err := s.cfg.Journal.View(ctx, func(v store.View) (err error) {
		position = v.Position()
		for i, o := range list {
			if list[i].usage, err = o.contract.usage(v, o.period, nil); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("accrued: %w", err)
	}
	sums := map[string]money.Decimal{}
	for _, o := range list {
		code := o.contract.plan.Currency.Code()
		sum := sums[code]
		inv, err := o.contract.draft(o.period, o.usage, position, true)
		if err == nil {
			sum, err = addUsage(sum, inv.Lines)
		}
		if err != nil {
			s.cfg.Log.LogAttrs(ctx, slog.LevelError, "usage left out of what accrued: it cannot be rated",
				slog.String("customer", o.contract.customer.Key), slog.String("error", err.Error()))
			sum = sums[code]
		}
		sums[code] = sum
	}
	out := make([]Accrual, 0, len(sums))
	for code, sum := range sums {
		out = append(out, Accrual{code, sum})
	}
	slices.SortFunc(out, func(a, b Accrual) int { return cmp.Compare(a.Currency, b.Currency) })
	return out, nil
}

// addUsage adds the exact amounts of the usage lines.
func addUsage(sum money.Decimal, lines []invoice.Line) (money.Decimal, error) {
	for _, l := range lines {
		if l.Kind != invoice.UsageLine {
			continue
		}
		var err error
		if sum, err = sum.Add(l.Exact); err != nil {
			return money.Decimal{}, err
		}
	}
	return sum, nil
}

// Standing is what a customer's page and portal show: the current period and its preview, both at one cut.
type Standing struct {
	Customer     account.Customer
	Subscription account.Subscription
	HasPlan      bool // false: no active subscription, and all that follows is empty
	Period       period.Interval
	Preview      invoice.Invoice
	Daily        []DayUsage // days of the period in the customer's zone, up to now, oldest first
	Meter        string     // that Daily shows: the first priced one, else the first limited one; empty: none
}

// DayUsage is a local day's usage, on the period's first day from its start on.
type DayUsage struct {
	Day   time.Time // local start
	Value money.Decimal
}

// Standing reads a customer's current period. account.ErrNotFound for an unknown customer.
func (s *Service) Standing(ctx context.Context, customerRef string) (Standing, error) {
	now := s.cfg.Now()
	customer, err := s.customer(customerRef)
	if err != nil {
		return Standing{}, err
	}
	out := Standing{Customer: customer}
	c, ok, err := s.active(ctx, customer, now)
	if err != nil {
		return Standing{}, fmt.Errorf("standing: %w", err)
	}
	if !ok {
		return out, nil
	}
	if out.Period, ok = c.period(now); !ok {
		return out, nil
	}
	out.Subscription, out.HasPlan, out.Meter = c.Subscription, true, s.shown(c)
	var usage []invoice.Usage
	var position uint64
	err = s.cfg.Journal.View(ctx, func(v store.View) (err error) {
		position = v.Position()
		if usage, err = c.usage(v, out.Period, nil); err != nil {
			return err
		}
		key := store.SeriesKey{CustomerID: customer.ID, Meter: out.Meter}
		out.Daily, err = daily(v, key, c.kinds[out.Meter], out.Period, customer.Zone, now)
		return err
	})
	if err != nil {
		return Standing{}, fmt.Errorf("standing of customer %s: %w", customer.Key, err)
	}
	if out.Preview, err = c.draft(out.Period, usage, position, true); err != nil {
		return Standing{}, fmt.Errorf("standing of customer %s: %w", customer.Key, err)
	}
	return out, nil
}

// shown is the meter that a customer's chart is of. Limits follow the newest catalog.
func (s *Service) shown(c contract) string {
	if len(c.meters) > 0 {
		return c.meters[0]
	}
	plan, _ := s.cfg.Directory.Current().Plan(c.Plan)
	for _, l := range plan.Limits {
		if l.Meter != "" {
			return l.Meter
		}
	}
	return ""
}

// daily splits the part of a period up to now by local days. Local midnights lie on the rollups' grid.
func daily(v store.View, k store.SeriesKey, kind meter.Aggregation, in period.Interval, zone period.Zone, now time.Time) ([]DayUsage, error) {
	if k.Meter == "" {
		return nil, nil
	}
	var days []DayUsage
	y, m, first := zone.Date(in.Start)
	for d := first; ; d++ {
		start, next := zone.StartOfDay(y, m, d), zone.StartOfDay(y, m, d+1)
		if !start.Before(in.End) || start.After(now) {
			return days, nil
		}
		part := period.Interval{Start: start, End: next}
		if start.Before(in.Start) {
			part.Start = in.Start
		}
		if next.After(in.End) {
			part.End = in.End
		}
		if part.Empty() {
			continue // a day that the zone skipped
		}
		value, err := dayValue(v, k, kind, part)
		if err != nil {
			return nil, fmt.Errorf("usage of the day %s: %w", period.Format(part.Start), err)
		}
		days = append(days, DayUsage{start, value})
	}
}

func dayValue(v store.View, k store.SeriesKey, kind meter.Aggregation, in period.Interval) (money.Decimal, error) {
	if apart(kind) {
		return measure(v, k, in, kind, nil)
	}
	used, err := v.Usage(k, in)
	return used.Sum, err
}
