package credits

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// ErrUsedUp says that a coupon was redeemed as often as it may be. It is an account.ErrState.
var ErrUsedUp = fmt.Errorf("%w: the coupon is used up", account.ErrState)

// Redeem has a customer use a coupon of the newest catalog from now on. Its terms are pinned to that version. Limits count ended
// redemptions too. govern.Invalid, ErrUsedUp; account.ErrNotFound: no such customer; account.ErrState: the customer has it already.
func (s *Service) Redeem(ctx context.Context, actor, ref, coupon, reason string) (r account.Redemption, err error) {
	if err := checkReason(reason); err != nil {
		return r, err
	}
	c, err := s.customer(ref)
	if err != nil {
		return r, err
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	now, cat := s.now(), s.cfg.Directory.Current()
	o, ok := cat.Coupon(coupon)
	if !ok {
		return r, invalid("/coupon", fmt.Sprintf("there is no coupon %q", coupon), "`tally catalog get` has them")
	}
	if err := redeemable(&o, c, now); err != nil {
		return r, err
	}
	r = account.Redemption{CustomerID: c.ID, Coupon: o.Key, CatalogVersion: cat.Version, RedeemedAt: now, Actor: actor, Reason: reason}
	if r.ID, err = account.NewID("rdm", now, s.cfg.Random); err != nil {
		return r, err
	}
	a, err := s.audit(now, actor, "coupon.redeem", c.ID, map[string]string{"redemption": r.ID, "coupon": o.Key, "reason": reason})
	if err != nil {
		return r, err
	}
	err = s.cfg.Records.Redeem(ctx, r, store.RedemptionLimits{InAll: o.Limit, PerCustomer: o.PerCustomer}, a)
	switch {
	case errors.Is(err, store.ErrFull):
		return r, fmt.Errorf("%w: %s", ErrUsedUp, bounds(&o))
	case errors.Is(err, store.ErrConflict):
		return r, fmt.Errorf("%w: the customer has coupon %q already; end it first", account.ErrState, o.Key)
	case err != nil:
		return r, fmt.Errorf("redeem coupon %q: %w", o.Key, err)
	}
	s.cfg.Directory.PutRedemption(r)
	return r, nil
}

// redeemable says whether a coupon may be used by a customer at now, apart from how often it was.
func redeemable(o *catalog.Coupon, c account.Customer, now time.Time) error {
	if o.Until != "" {
		until, err := time.Parse(time.RFC3339, o.Until)
		if err != nil {
			return fmt.Errorf("coupon %q: until %q: %w", o.Key, o.Until, err)
		}
		if !now.Before(until) {
			return invalid("/coupon", fmt.Sprintf("%q could be redeemed until %s", o.Key, period.Format(until)), "apply a catalog with a later until, or another coupon")
		}
	}
	if o.Amount != nil && o.Currency != c.Currency {
		return invalid("/coupon", fmt.Sprintf("%q takes off %s, the customer pays %s", o.Key, o.Currency, c.Currency), "a coupon with a percentage, or in the customer's currency")
	}
	return nil
}

// EndRedemption has no later invoice use a redemption. Doing it again keeps the first time. account.ErrNotFound.
func (s *Service) EndRedemption(ctx context.Context, actor, id string) (account.Redemption, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	now := s.now()
	a, err := s.audit(now, actor, "coupon.end", id, map[string]string{"redemption": id})
	if err != nil {
		return account.Redemption{}, err
	}
	r, err := s.cfg.Records.EndRedemption(ctx, id, now, a)
	if err != nil {
		return r, absent("redemption", id, err)
	}
	s.cfg.Directory.PutRedemption(r)
	return r, nil
}

// ListRedemptions pages through all, newest first; a CustomerID in the query may be a key.
func (s *Service) ListRedemptions(ctx context.Context, q store.Query) ([]account.Redemption, error) {
	q, err := s.query(q)
	if err != nil {
		return nil, err
	}
	return s.cfg.Records.ListRedemptions(ctx, q)
}

// bounds says how often a coupon may be redeemed.
func bounds(o *catalog.Coupon) string {
	var list []string
	if o.Limit > 0 {
		list = append(list, fmt.Sprintf("%d in all", o.Limit))
	}
	if o.PerCustomer > 0 {
		list = append(list, fmt.Sprintf("%d by one customer", o.PerCustomer))
	}
	return "redemptions are bounded to " + strings.Join(list, " and ")
}
