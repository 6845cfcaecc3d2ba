package bill

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/subscription"
	"github.com/tallystick/tallystick/internal/store"
)

// PeriodEnd is the latest current period end plus grace, over all active subscriptions: the target of `clock advance
// --to period-end`. At that instant the period is due. account.ErrNotFound without a subscription.
func (s *Service) PeriodEnd(ctx context.Context) (time.Time, error) {
	now := s.cfg.Now()
	var latest time.Time
	for _, customer := range s.cfg.Directory.Customers() {
		t, ok, err := s.active(ctx, customer, now)
		if err != nil {
			return time.Time{}, err
		}
		if !ok {
			continue
		}
		if p, ok := t.period(now); ok && p.End.After(latest) {
			latest = p.End
		}
	}
	if latest.IsZero() {
		return time.Time{}, absent("there is no active subscription, so no billing period ends; create one with `tally subscriptions create`")
	}
	return latest.Add(s.grace()), nil
}

// billed is what the records have of a subscription.
type billed struct {
	closes []store.Close
	book   *invoice.Book
}

func (s *Service) billed(ctx context.Context, t *term) (b billed, err error) {
	if b.closes, err = s.cfg.Invoices.Closes(ctx, t.ID); err != nil {
		return b, fmt.Errorf("read closes of subscription %s: %w", t.ID, err)
	}
	b.book, err = s.bookOf(ctx, t, time.Time{}, time.Time{})
	return b, err
}

// last is the last done close; nil: there is none.
func (b *billed) last() (last *closing) {
	for i := range b.closes {
		if b.closes[i].Done {
			last = new(closingOf(&b.closes[i]))
		}
	}
	return last
}

// aheadMost bounds the closings that a preview goes through.
const aheadMost = 2000

// ahead builds the invoices of all closings that are not done, up to the end of the current billing period as if it closed now at a
// position of the journal. What was begun keeps its own; a zero now stops there. The book takes them in. The last one is the preview.
func (s *Service) ahead(ctx context.Context, t *term, b billed, position uint64, now time.Time) ([]invoice.Invoice, error) {
	until := now
	if p, ok := t.period(now); ok {
		until = p.End
	}
	return s.aheadTo(ctx, t, b, position, now, until)
}

// aheadTo is ahead up to an instant.
func (s *Service) aheadTo(ctx context.Context, t *term, b billed, position uint64, now, until time.Time) ([]invoice.Invoice, error) {
	before := b.last()
	var after time.Time
	if before != nil {
		after = before.in.End
	}
	var steps []closing
	for _, c := range b.closes {
		if !c.Done {
			steps = append(steps, closingOf(&c))
		}
	}
	var coming []period.Interval
	if !now.IsZero() {
		coming = subscription.Closings(t.segments, after, until, aheadMost)
	}
	if in, _, ok := t.next(before); ok && !now.IsZero() && !in.End.After(until) && !slices.ContainsFunc(coming, func(c period.Interval) bool { return c.Equal(in) }) {
		coming = append(coming, in) // for decisions that came late
	}
	for _, in := range coming {
		if !slices.ContainsFunc(steps, func(c closing) bool { return c.in.Equal(in) }) {
			steps = append(steps, closing{in: in, position: position, known: now, changes: len(t.history.Changes)})
		}
	}
	slices.SortStableFunc(steps, func(a, b closing) int { return a.in.End.Compare(b.in.End) })
	var out []invoice.Invoice
	for i := range steps {
		st, err := s.statement(ctx, t, steps[i], before, b.book, i == len(steps)-1)
		if err != nil {
			return nil, err
		}
		inv, err := st.draft(ctx)
		if err == nil {
			inv.Status = invoice.Preview
			err = b.book.Add(&inv)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, inv)
		before = &steps[i]
	}
	return out, nil
}

// coming is ahead up to an instant, of what the records have now. account.ErrNotFound: nothing is to be billed.
func (s *Service) coming(ctx context.Context, t *term, position uint64, now, until time.Time) ([]invoice.Invoice, error) {
	b, err := s.billed(ctx, t)
	if err != nil {
		return nil, err
	}
	list, err := s.aheadTo(ctx, t, b, position, now, until)
	if err == nil && len(list) == 0 {
		err = absent(fmt.Sprintf("subscription %s is billed to its end", t.ID))
	}
	return list, err
}

// preview is the next invoice of a term, at a position.
func (s *Service) preview(ctx context.Context, t *term, position uint64, now time.Time) (invoice.Invoice, error) {
	b, err := s.billed(ctx, t)
	if err != nil {
		return invoice.Invoice{}, err
	}
	list, err := s.ahead(ctx, t, b, position, now)
	if err != nil {
		return invoice.Invoice{}, err
	}
	if len(list) == 0 {
		return invoice.Invoice{}, absent(fmt.Sprintf("subscription %s is billed to its end", t.ID))
	}
	return list[len(list)-1], nil
}

// position is the journal's newest.
func (s *Service) position(ctx context.Context) (position uint64, err error) {
	err = s.cfg.Journal.View(ctx, func(v store.View) error {
		position = v.Position()
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("read journal position: %w", err)
	}
	return position, nil
}

// PreviewChange is what the customer would owe by the end of the current billing period as it is, and as it would be with changes
// that nobody made: the invoices up to there, as one. A change that bills at once or begins new periods makes several; what
// the change leaves as it is, such as an earlier period in its grace, is in neither. Nothing is stored.
// account.ErrNotFound for an unknown subscription; subscription.ErrInvalid for a change that cannot be.
func (s *Service) PreviewChange(ctx context.Context, subscriptionID string, changes []subscription.Change) (before, after invoice.Invoice, err error) {
	now := s.cfg.Now()
	history, _ := s.cfg.Directory.History(subscriptionID)
	customer, ok := s.cfg.Directory.Customer(history.CustomerID)
	if !ok {
		return before, after, absent(fmt.Sprintf("there is no subscription %q", subscriptionID))
	}
	position, err := s.position(ctx)
	if err != nil {
		return before, after, err
	}
	further := slices.Clone(changes)
	for i := range further {
		further[i].SubscriptionID, further[i].CreatedAt, further[i].Now = subscriptionID, now, false
	}
	until := now
	var lists [2][]invoice.Invoice
	for i := range lists {
		t, err := s.term(ctx, subscriptionID, customer, now, further[:i*len(further)]...)
		if err != nil {
			return before, after, err
		}
		if p, ok := t.period(now); ok && i == 0 {
			until = p.End
		}
		if lists[i], err = s.coming(ctx, &t, position, now, until); err != nil && (i == 0 || !errors.Is(err, account.ErrNotFound)) {
			return before, after, fmt.Errorf("preview of a change: %w", err)
		}
	}
	for len(lists[0]) > 1 && len(lists[1]) > 1 && lists[0][0].ID == lists[1][0].ID && lists[0][0].Total == lists[1][0].Total {
		lists[0], lists[1] = lists[0][1:], lists[1][1:]
	}
	if before, err = asOne(lists[0]); err == nil {
		after, err = asOne(lists[1])
	}
	return before, after, err
}

// asOne is a list of previews as one, over the time of all, with the lines and taxes of all. Of none it is the zero invoice.
func asOne(list []invoice.Invoice) (one invoice.Invoice, err error) {
	if len(list) == 0 {
		return one, nil
	}
	one = list[len(list)-1]
	one.Lines, one.Taxes = nil, nil
	for i := range list {
		inv := &list[i]
		if inv.Period.Start.Before(one.Period.Start) {
			one.Period.Start = inv.Period.Start
		}
		one.Lines, one.Taxes = append(one.Lines, inv.Lines...), append(one.Taxes, inv.Taxes...)
		if i == len(list)-1 {
			break // it is what one began as
		}
		for _, sum := range []struct {
			to   *money.Amount
			more money.Amount
		}{{&one.Subtotal, inv.Subtotal}, {&one.Tax, inv.Tax}, {&one.Total, inv.Total}, {&one.Balance, inv.Balance}, {&one.Due, inv.Due}} {
			if sum.more == (money.Amount{}) {
				continue
			}
			if *sum.to == (money.Amount{}) {
				*sum.to = sum.more
				continue
			}
			if *sum.to, err = sum.to.Add(sum.more); err != nil {
				return one, fmt.Errorf("previews of subscription %s as one: %w", one.SubscriptionID, err)
			}
		}
	}
	return one, nil
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
	position, err := s.position(ctx)
	if err != nil {
		return nil, fmt.Errorf("accrued: %w", err)
	}
	sums := map[string]money.Decimal{}
	for _, customer := range s.cfg.Directory.Customers() {
		t, ok, err := s.active(ctx, customer, now)
		if err != nil {
			return nil, fmt.Errorf("accrued: %w", err)
		}
		if !ok {
			continue
		}
		plan, _, err := t.plan(now)
		if err != nil {
			return nil, fmt.Errorf("accrued: %w", err)
		}
		code := plan.Currency.Code()
		sum := sums[code]
		inv, err := s.preview(ctx, &t, position, now)
		if err == nil {
			sum, err = addUsage(sum, inv.Lines)
		}
		if err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			s.cfg.Log.LogAttrs(ctx, slog.LevelError, "usage left out of what accrued: it cannot be rated",
				slog.String("customer", customer.Key), slog.String("error", err.Error()))
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
	t, ok, err := s.active(ctx, customer, now)
	if err != nil {
		return Standing{}, fmt.Errorf("standing: %w", err)
	}
	if !ok {
		return out, nil
	}
	if out.Period, ok = t.period(now); !ok {
		return out, nil
	}
	out.HasPlan = true
	out.Subscription, _ = subscription.AsOf(t.Subscription, t.segments, now)
	kind := meter.Aggregation(0)
	if out.Meter, kind, err = s.shown(&t, now); err != nil {
		return Standing{}, fmt.Errorf("standing of customer %s: %w", customer.Key, err)
	}
	var position uint64
	err = s.cfg.Journal.View(ctx, func(v store.View) (err error) {
		position = v.Position()
		key := store.SeriesKey{CustomerID: customer.ID, Meter: out.Meter}
		out.Daily, err = daily(v, key, kind, out.Period, customer.Zone, now)
		return err
	})
	if err != nil {
		return Standing{}, fmt.Errorf("standing of customer %s: %w", customer.Key, err)
	}
	if out.Preview, err = s.preview(ctx, &t, position, now); err != nil {
		return Standing{}, fmt.Errorf("standing of customer %s: %w", customer.Key, err)
	}
	return out, nil
}

// shown is the meter that a customer's chart is of. Limits follow the newest catalog.
func (s *Service) shown(t *term, now time.Time) (key string, kind meter.Aggregation, err error) {
	plan, version, err := t.plan(now)
	if err != nil {
		return "", 0, err
	}
	for i := range plan.Prices {
		if p := &plan.Prices[i]; !p.Licensed() {
			return p.Meter, t.sold.kind(version, p.Meter), nil
		}
	}
	current, _ := s.cfg.Directory.Current().Plan(plan.Key)
	for _, l := range current.Limits {
		if l.Meter != "" {
			return l.Meter, 0, nil
		}
	}
	return "", 0, nil
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
	s := series{SeriesKey: k, kind: kind}
	r, err := s.read(v, in, all)
	return r.quantity, err
}
