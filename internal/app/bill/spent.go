package bill

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tallystick/tallystick/internal/core/credit"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/ledger"
	"github.com/tallystick/tallystick/internal/core/period"
)

// Spent is what a customer's usage came to up to an instant, as their next invoices will take it to what credits pay: piece by
// piece, by one position of the journal. Minima wait for the end of their period. account.ErrNotFound.
func (s *Service) Spent(ctx context.Context, customerID string, at time.Time) (out credit.Spent, err error) {
	customer, ok := s.cfg.Directory.Customer(customerID)
	if !ok {
		return out, absent(fmt.Sprintf("there is no customer %q", customerID))
	}
	position, err := s.position(ctx)
	if err != nil {
		return out, err
	}
	var uses []use
	for _, sub := range s.cfg.Directory.SubscriptionsOf(customer.ID) {
		if sub.Start.After(at) {
			continue
		}
		t, err := s.term(ctx, sub.ID, customer, s.cfg.Now())
		if err != nil {
			return out, err
		}
		st, err := s.spending(ctx, &t, position, at)
		if err != nil {
			return out, err
		}
		if err := st.rate(ctx); err != nil {
			return out, fmt.Errorf("subscription %s: %w", t.ID, err)
		}
		more, err := st.uses()
		if err != nil {
			return out, fmt.Errorf("subscription %s: %w", t.ID, err)
		}
		uses, out.Usage = append(uses, more...), append(out.Usage, st.measured()...)
	}
	slices.SortStableFunc(uses, func(a, b use) int { return a.At.Compare(b.At) })
	out.Uses = make([]ledger.Use, len(uses))
	for i := range uses {
		out.Uses[i] = uses[i].Use
		if uses[i].end.After(at) {
			if out.Open, err = out.Open.Add(uses[i].Quantity); err != nil {
				return out, err
			}
		}
	}
	return out, nil
}

// spending is a statement of all usage of a subscription up to an instant, that of the open period as far as it goes. A plan's
// maximum holds for it already.
func (s *Service) spending(ctx context.Context, t *term, position uint64, at time.Time) (*statement, error) {
	end := at
	if p, ok := t.period(at); ok {
		end = p.End
	}
	c := closing{in: period.Interval{Start: end, End: end}, position: position, known: s.cfg.Now(), changes: len(t.history.Changes)}
	st := &statement{service: s, term: t, closing: c, book: &invoice.Book{}, everything: true}
	st.grants = s.cfg.Directory.Grants(t.customer.ID)
	if err := st.list(ctx); err != nil {
		return nil, fmt.Errorf("subscription %s: %w", t.ID, err)
	}
	st.charges = slices.DeleteFunc(st.charges, func(c *charge) bool { return c.Price.Licensed() || c.Service.Start.After(at) })
	for _, c := range st.charges {
		if c.Period.End.After(at) {
			c.Position = c.Position.Open()
		}
	}
	st.split()
	return st, nil
}

// measured is the usage of the charges; several on the same usage tell of it once.
func (st *statement) measured() []credit.Usage {
	type place struct {
		meter string
		at    int64
	}
	var out []credit.Usage
	seen := map[place]bool{}
	for _, c := range st.charges {
		for i := range c.pieces {
			p := &c.pieces[i]
			at := place{c.Price.Meter, p.Start.UnixMicro()}
			if !seen[at] {
				seen[at] = true
				out = append(out, credit.Usage{Meter: c.Price.Meter, At: p.Start, Quantity: p.quantity, Paid: p.paid})
			}
		}
	}
	return out
}
