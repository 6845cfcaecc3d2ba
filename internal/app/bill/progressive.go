package bill

import (
	"context"
	"fmt"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
)

// progressive says that a plan of the subscription bills usage in the middle of its periods once a threshold is passed.
func (t *term) progressive() bool {
	for i := range t.segments {
		if p, ok := t.sold.Plan(t.segments[i].Version, t.segments[i].Plan); ok && p.Terms.Threshold != nil {
			return true
		}
	}
	return false
}

// passed says whether usage that is on no invoice has reached the plan's threshold. It is looked at once in a bucket of the journal.
func (s *Service) passed(ctx context.Context, id string, customer account.Customer, last *closing, at, now time.Time) (bool, error) {
	t, err := s.term(ctx, id, customer, now)
	if err != nil {
		return false, err
	}
	plan, _, err := t.plan(at)
	if err != nil || plan.Terms.Threshold == nil {
		return false, err
	}
	inv, err := s.outlook(ctx, id, customer, closing{in: period.Interval{Start: at, End: at}, progressive: true}, last, now)
	if err != nil {
		return false, fmt.Errorf("look at what accrued: %w", err)
	}
	var sum money.Decimal
	for i := range inv.Lines {
		if l := &inv.Lines[i]; l.Price != "" && (l.Meter != "" || l.Kind == invoice.DiscountLine || l.Kind == invoice.MaximumLine) {
			if sum, err = sum.Add(l.Exact); err != nil {
				return false, err
			}
		}
	}
	return sum.Cmp(*plan.Terms.Threshold) >= 0, nil
}

// outlook is what a closing would bill that is not begun, by what is known now.
func (s *Service) outlook(ctx context.Context, id string, customer account.Customer, c closing, last *closing, now time.Time) (inv invoice.Invoice, err error) {
	t, err := s.term(ctx, id, customer, now)
	if err != nil {
		return inv, err
	}
	if c.position, err = s.position(ctx); err != nil {
		return inv, err
	}
	c.known, c.changes = now, len(t.history.Changes)
	b, err := s.billed(ctx, &t)
	if err != nil {
		return inv, err
	}
	st, err := s.statement(ctx, &t, c, last, b.book, false)
	if err != nil {
		return inv, err
	}
	return st.draft(ctx)
}
