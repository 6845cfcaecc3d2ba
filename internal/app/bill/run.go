package bill

import (
	"context"
	"slices"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/store"
)

// Due counts the closings of a part that are due now, the next one of each subscription, without those of thresholds. It closes
// nothing. What it looked up is remembered, so the next count and Tick read little.
func (s *Service) Due(ctx context.Context, part Part) (n int, err error) {
	s.ticking.Lock()
	defer s.ticking.Unlock()
	s.queue.clear() // what became due since is looked for
	now := s.cfg.Now()
	err = s.eachSubscription(part.CustomerID, now, func(id string, customer account.Customer) error {
		d, ok, err := s.queue.regular(ctx, s, id, customer, now)
		if ok && part.has(&d) {
			n++
		}
		return err
	})
	return n, err
}

// eachSubscription hands over those that have started, of one customer or of all (empty).
func (s *Service) eachSubscription(customerID string, now time.Time, each func(id string, customer account.Customer) error) error {
	customers := s.cfg.Directory.Customers()
	if customerID != "" {
		customers = nil
		if c, ok := s.cfg.Directory.Customer(customerID); ok {
			customers = []account.Customer{c}
		}
	}
	for _, customer := range customers {
		for _, sub := range s.cfg.Directory.SubscriptionsOf(customer.ID) {
			if now.Before(sub.Start) {
				continue
			}
			if err := each(sub.ID, customer); err != nil {
				return err
			}
		}
	}
	return nil
}

// Forecast is what a subscription would be billed.
type Forecast struct {
	Customer       account.Customer
	SubscriptionID string
	Invoices       []invoice.Invoice // oldest first, none without lines
	Err            error             // why it could not be billed
}

// DryRun hands over what a run at an instant would finalize, as previews, subscription by subscription, in no particular order; zero:
// now. An instant to come is a what-if: the usage so far, and what is decided by now. Invoices of thresholds are left out. Only subscriptions with invoices or an error
// are handed over. It stores nothing. An error of each ends it.
func (s *Service) DryRun(ctx context.Context, part Part, each func(Forecast) error) error {
	now := s.cfg.Now()
	if part.Until.IsZero() {
		part.Until = now
	}
	position, err := s.position(ctx)
	if err != nil {
		return err
	}
	return s.eachSubscription(part.CustomerID, part.Until, func(id string, customer account.Customer) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		f := Forecast{Customer: customer, SubscriptionID: id}
		if f.Invoices, f.Err = s.forecast(ctx, id, customer, position, part.Until, now); f.Err == nil && len(f.Invoices) == 0 {
			return nil
		}
		return each(f)
	})
}

// forecast is the invoices of all closings of a subscription that are due at an instant.
func (s *Service) forecast(ctx context.Context, id string, customer account.Customer, position uint64, at, now time.Time) ([]invoice.Invoice, error) {
	t, err := s.term(ctx, id, customer, now)
	if err != nil {
		return nil, err
	}
	closes, err := s.cfg.Invoices.Closes(ctx, id)
	if err != nil {
		return nil, err
	}
	last := (&billed{closes: closes}).last()
	if in, due, ok := t.next(last); !ok || !s.isDue(in.Empty(), due, at) { // most are not
		if !slices.ContainsFunc(closes, func(c store.Close) bool { return !c.Done }) {
			return nil, nil
		}
	}
	b := billed{closes: closes}
	if b.book, err = s.bookOf(ctx, &t, time.Time{}, time.Time{}); err != nil {
		return nil, err
	}
	all, err := s.ahead(ctx, &t, b, position, at)
	list := slices.DeleteFunc(all, func(inv invoice.Invoice) bool {
		return !s.isDue(inv.Period.Empty(), inv.Period.End, at) || len(inv.Lines) == 0
	})
	return list, err
}

// isDue says whether a closing's time has come at an instant.
func (s *Service) isDue(empty bool, end, at time.Time) bool {
	if !empty {
		end = end.Add(s.grace())
	}
	return !at.Before(end)
}
