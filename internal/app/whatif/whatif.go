// Package whatif replays recorded usage through a catalog that is not applied yet: what would have been charged, and what would
// have been refused.
package whatif

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// SpanUsual is how much is replayed where nobody says otherwise, spanMax the most.
const (
	SpanUsual = 30 * 24 * time.Hour
	spanMax   = 400 * 24 * time.Hour
)

// Bounds of a report. What is beyond them is counted, not listed.
const (
	customersMax = 1000 // those whose charges change the most
	throttlesMax = 1000
)

// Directory knows customers and the catalog in force; govern.Service fits.
type Directory interface {
	Current() *catalog.Compiled
	Customers() []account.Customer
	ActiveSubscription(customerID string, at time.Time) (account.Subscription, bool)
}

// Rater charges recorded usage; bill.Service fits. With a proposed catalog the subscription is taken to be at its prices, of the
// plan of the same key, for the whole span; nil: at the prices that it had. ok is false where nothing was in force.
type Rater interface {
	Accrue(ctx context.Context, customer account.Customer, in period.Interval, proposed *catalog.Compiled) (c money.Currency, amount money.Rational, ok bool, err error)
}

// Config is what a Service needs; all of it.
type Config struct {
	Directory Directory
	Journal   store.Journal
	Rater     Rater
	Now       func() time.Time // business clock
}

// Service is safe for concurrent use. It writes nothing.
type Service struct{ cfg Config }

// New checks cfg.
func New(cfg Config) (*Service, error) {
	if cfg.Directory == nil || cfg.Journal == nil || cfg.Rater == nil || cfg.Now == nil {
		return nil, errors.New("whatif: directory, journal, rater and clock are required")
	}
	return &Service{cfg}, nil
}

// Report is the money and the refusals of one span under the catalog in force and under the proposed one.
type Report struct {
	Span     period.Interval
	Revenue  []Revenue // by currency
	Impacts  []Impact  // customers whose charges change, the largest change first
	Up, Down int       // customers who would pay more, and less
	Same     int
	Refused  []Refusal                      // what only the proposed catalog would have refused
	Relieved []Refusal                      // what only the catalog in force refuses
	Apart    []string                       // what is not replayed, and why
	Errors   []string                       // customers that could not be rated
	Beyond   struct{ Impacts, Refused int } // left out of the lists
}

// Revenue is all charges in one currency, each customer's rounded once to its minor unit.
type Revenue struct{ Before, After, Difference money.Amount }

// Impact is one customer's charges.
type Impact struct {
	Customer, Plan            string // keys
	Before, After, Difference money.Amount
}

// Replay goes through all customers. A zero span is the last 30 days. The span ends now at the latest; account.ErrInvalid for one
// that is empty, or longer than 400 days.
func (s *Service) Replay(ctx context.Context, proposed *catalog.Compiled, in period.Interval) (Report, error) {
	in, err := s.span(in)
	if err != nil {
		return Report{}, err
	}
	out := Report{Span: in}
	notes := map[string]bool{}
	totals := map[money.Currency]*Revenue{}
	for _, c := range s.cfg.Directory.Customers() {
		if err := ctx.Err(); err != nil {
			return Report{}, err
		}
		if err := s.money(ctx, &out, totals, c, proposed); err != nil {
			return Report{}, err
		}
		if err := s.limits(ctx, &out, notes, c, proposed); err != nil {
			return Report{}, err
		}
	}
	for _, r := range totals {
		out.Revenue = append(out.Revenue, *r)
	}
	slices.SortFunc(out.Revenue, func(a, b Revenue) int {
		return cmp.Compare(a.Before.Currency().Code(), b.Before.Currency().Code())
	})
	slices.SortFunc(out.Impacts, func(a, b Impact) int {
		return cmp.Or(cmp.Compare(size(b), size(a)), cmp.Compare(a.Customer, b.Customer))
	})
	for note := range notes {
		out.Apart = append(out.Apart, note)
	}
	slices.Sort(out.Apart)
	out.bound()
	return out, nil
}

func size(i Impact) int64 { return max(i.Difference.Minor(), -i.Difference.Minor()) }

func (r *Report) bound() {
	if n := len(r.Impacts) - customersMax; n > 0 {
		r.Beyond.Impacts, r.Impacts = n, r.Impacts[:customersMax]
	}
	if n := len(r.Refused) - throttlesMax; n > 0 {
		r.Beyond.Refused, r.Refused = n, r.Refused[:throttlesMax]
	}
	if n := len(r.Relieved) - throttlesMax; n > 0 {
		r.Relieved = r.Relieved[:throttlesMax]
	}
}

// span fills in and checks what to replay, on the grid of the rollups.
func (s *Service) span(in period.Interval) (period.Interval, error) {
	now := s.cfg.Now()
	if in.End.IsZero() || in.End.After(now) {
		in.End = now
	}
	in.End = period.BucketStart(in.End)
	if in.Start.IsZero() {
		in.Start = in.End.Add(-SpanUsual)
	}
	in.Start = period.BucketStart(in.Start)
	switch {
	case in.Empty():
		return in, fmt.Errorf("the span from %s to %s is empty: %w", period.Format(in.Start), period.Format(in.End), account.ErrInvalid)
	case in.End.Sub(in.Start) > spanMax:
		return in, fmt.Errorf("the span from %s to %s is longer than 400 days: %w", period.Format(in.Start), period.Format(in.End), account.ErrInvalid)
	}
	return in, nil
}

// money adds one customer's charges. A customer that cannot be rated is named, and counts nowhere.
func (s *Service) money(ctx context.Context, out *Report, totals map[money.Currency]*Revenue, c account.Customer, proposed *catalog.Compiled) error {
	impact, ok, err := s.impact(ctx, c, out.Span, proposed)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		out.Errors = append(out.Errors, fmt.Sprintf("customer %s: %v", c.Key, err))
		return nil
	}
	if !ok {
		return nil
	}
	sum := totals[impact.Before.Currency()]
	if sum == nil {
		zero := money.NewAmount(0, impact.Before.Currency())
		sum = &Revenue{zero, zero, zero}
		totals[impact.Before.Currency()] = sum
	}
	for _, add := range []struct {
		to   *money.Amount
		what money.Amount
	}{{&sum.Before, impact.Before}, {&sum.After, impact.After}, {&sum.Difference, impact.Difference}} {
		if *add.to, err = add.to.Add(add.what); err != nil {
			return fmt.Errorf("revenue in %s: %w", impact.Before.Currency(), err)
		}
	}
	switch d := impact.Difference.Minor(); {
	case d > 0:
		out.Up++
	case d < 0:
		out.Down++
	default:
		out.Same++
		return nil
	}
	out.Impacts = append(out.Impacts, impact)
	return nil
}

func (s *Service) impact(ctx context.Context, c account.Customer, in period.Interval, proposed *catalog.Compiled) (i Impact, ok bool, err error) {
	currency, before, ok, err := s.cfg.Rater.Accrue(ctx, c, in, nil)
	if err != nil || !ok {
		return i, false, err
	}
	other, after, _, err := s.cfg.Rater.Accrue(ctx, c, in, proposed)
	if err != nil {
		return i, false, fmt.Errorf("under the proposed catalog: %w", err)
	}
	if other != currency {
		return i, false, fmt.Errorf("its plan is in %s now and would be in %s: it keeps its prices", currency, other)
	}
	i.Customer = c.Key
	if sub, ok := s.cfg.Directory.ActiveSubscription(c.ID, in.End); ok {
		i.Plan = sub.Plan
	}
	if i.Before, err = before.Round(currency, money.HalfUp); err != nil {
		return i, false, err
	}
	if i.After, err = after.Round(currency, money.HalfUp); err != nil {
		return i, false, err
	}
	i.Difference, err = i.After.Add(money.NewAmount(-i.Before.Minor(), currency))
	return i, err == nil, err
}
