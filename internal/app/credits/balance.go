package credits

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/credit"
	"github.com/tallystick/tallystick/internal/core/ledger"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// Balance is what is left of a customer's credits of one meter, or of money, at an instant.
type Balance struct {
	Meter      string // empty: money
	Grants     []GrantBalance
	Left       money.Rational // of all grants
	Burned     money.Rational // by all grants since they were made
	Overage    money.Rational // used in this usage period, and not paid by any grant
	Granted    money.Decimal  // what the active grants came to at first
	NextExpiry time.Time      // of something that is left; zero: none
}

// GrantBalance is one grant and what became of it. Oldest first.
type GrantBalance struct {
	account.Grant
	Left, Burned money.Rational
}

// Balances are those of a customer now: of money first, then by meter. Only what was ever granted has one. account.ErrNotFound.
func (s *Service) Balances(ctx context.Context, ref string) (list []Balance, at time.Time, err error) {
	c, err := s.customer(ref)
	if err != nil {
		return nil, at, err
	}
	if err := s.cfg.Flush(ctx); err != nil {
		return nil, at, err
	}
	at = s.now()
	list = []Balance{}
	for _, meterKey := range s.purses(c.ID) {
		b, err := s.balance(ctx, c, meterKey, at)
		if err != nil {
			return nil, at, err
		}
		list = append(list, b)
	}
	return list, at, nil
}

// purses are the meters that a customer has grants of; "" stands for money.
func (s *Service) purses(customerID string) []string {
	var keys []string
	for _, g := range s.cfg.Directory.Grants(customerID) {
		keys = append(keys, g.Meter)
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

func (s *Service) holder(c account.Customer) credit.Holder {
	return credit.Holder{Zone: c.Zone, Subscriptions: s.cfg.Directory.SubscriptionsOf(c.ID), Grants: s.cfg.Directory.Grants(c.ID)}
}

// balance burns one pool with all that the journal counts.
func (s *Service) balance(ctx context.Context, c account.Customer, meterKey string, now time.Time) (b Balance, err error) {
	h := s.holder(c)
	pool := h.Units(meterKey, now)
	var uses []ledger.Use
	if meterKey == "" {
		var spent credit.Spent
		spent, err = s.cfg.Spent(ctx, c.ID, now)
		uses = spent.Uses
	} else {
		err = s.cfg.Journal.View(ctx, func(v store.View) (err error) {
			uses, err = unitUses(v, store.SeriesKey{CustomerID: c.ID, Meter: meterKey}, &pool, now)
			return err
		})
	}
	if err != nil {
		return b, fmt.Errorf("usage of customer %s: %w", c.ID, err)
	}
	burned, err := pool.Burn(uses, now)
	if err != nil {
		return b, fmt.Errorf("credits of customer %s: %w", c.ID, err)
	}
	b = Balance{Meter: meterKey, Left: burned.Left, Overage: burned.Overage, NextExpiry: pool.NextExpiry(&burned, now)}
	if b.Granted, err = pool.Granted(now); err != nil {
		return b, err
	}
	for _, g := range h.Grants {
		if g.Meter != meterKey || g.GrantID != "" {
			continue
		}
		one := GrantBalance{Grant: g, Left: burned.Grants[g.ID], Burned: burned.Burned[g.ID]}
		if b.Burned, err = b.Burned.Add(one.Burned); err != nil {
			return b, err
		}
		b.Grants = append(b.Grants, one)
	}
	return b, nil
}

// Spending is what a customer's usage costs, and the credits in money that pay for it, by what the journal knows.
func (s *Service) Spending(ctx context.Context, customerID string) (charged money.Rational, b Balance, err error) {
	c, err := s.customer(customerID)
	if err != nil {
		return charged, b, err
	}
	now := s.now()
	spent, err := s.cfg.Spent(ctx, c.ID, now)
	if err == nil {
		b, err = s.balance(ctx, c, "", now)
	}
	return spent.Open, b, err
}

// Wallet is what the quota authority admits by: what credits in money have left for usage of a meter.
func (s *Service) Wallet(ctx context.Context, customerID, meterKey string, at time.Time) (out authority.Wallet, err error) {
	c, ok := s.cfg.Directory.Customer(customerID)
	if !ok {
		return out, nil
	}
	h := s.holder(c)
	pool := h.Money(at)
	if len(pool.Grants) == 0 {
		return out, nil
	}
	spent, err := s.cfg.Spent(ctx, c.ID, at)
	if err != nil {
		return out, err
	}
	b, err := pool.Burn(spent.Uses, at)
	if err != nil {
		return out, err
	}
	out.Usage = spent.Usage
	out.Left, err = pool.Payable(&b, meterKey, at)
	return out, err
}

// unitUses are the usage of a meter in each slice of a pool.
func unitUses(v store.View, k store.SeriesKey, pool *credit.Pool, now time.Time) (uses []ledger.Use, err error) {
	for _, in := range pool.Slices(now) {
		r, err := v.Usage(k, in)
		if err != nil {
			return nil, err
		}
		if r.Sum.Sign() > 0 { // amendments may leave a slice below 0 for a moment: it burns nothing
			uses = append(uses, ledger.Use{At: in.Start, Quantity: r.Sum.Rational(), Meter: k.Meter})
		}
	}
	return uses, nil
}

// Units is what the quota authority admits by: what the journal counts of a meter since its credits burn, and what is left of them
// after that.
func (s *Service) Units(v store.View, customerID, meterKey string, at time.Time) (out authority.Credit, err error) {
	c, ok := s.cfg.Directory.Customer(customerID)
	if !ok {
		return out, nil
	}
	h := s.holder(c)
	pool := h.Units(meterKey, at)
	if len(pool.Grants) == 0 {
		return out, nil
	}
	k := store.SeriesKey{CustomerID: c.ID, Meter: meterKey}
	uses, err := unitUses(v, k, &pool, at)
	if err != nil {
		return out, err
	}
	b, err := pool.Burn(uses, at)
	if err != nil {
		return out, err
	}
	net, err := b.Left.Sub(b.Overage)
	if err != nil {
		return out, err
	}
	out.Since = pool.Start
	if out.Granted, err = pool.Granted(at); err != nil {
		return out, err
	}
	if out.Left, _, err = net.Decimal(); err != nil { // exact: units are never divided
		return out, err
	}
	open := period.Interval{Start: pool.Start}
	r, err := v.Usage(k, open)
	if err != nil {
		return out, err
	}
	out.Used = r.Sum
	if out.Reported, err = v.Reported(k, open); err != nil {
		return out, err
	}
	out.Voided, err = v.Voided(k, open)
	return out, err
}
