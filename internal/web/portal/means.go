package portal

import (
	"context"
	"time"

	"github.com/tallystick/tallystick/internal/app/credits"
	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/web/ui"
)

// redemptionsRead bounds the coupons that are looked at for those in force.
const redemptionsRead = 100

// means are what pays or lowers a customer's bill.
type means struct {
	credits []credits.Balance
	coupons []coupon // in force
	balance money.Amount
}

// coupon is a coupon in force, in words.
type coupon struct {
	name, takes string
	since       time.Time
}

// none says that there is nothing to show.
func (m *means) none() bool {
	return len(m.credits) == 0 && len(m.coupons) == 0 && m.balance.Minor() == 0
}

func (p *portal) means(ctx context.Context, cust account.Customer) (m means, err error) {
	if p.Collect != nil {
		if m.balance, err = p.Collect.BalanceOf(ctx, cust.ID); err != nil {
			return m, err
		}
	}
	if p.cfg.Credits == nil {
		return m, nil
	}
	if m.credits, _, err = p.cfg.Credits.Balances(ctx, cust.ID); err != nil {
		return m, err
	}
	list, err := p.cfg.Credits.ListRedemptions(ctx, govern.Query{CustomerID: cust.ID, Limit: redemptionsRead})
	if err != nil {
		return m, err
	}
	now := p.Clock.Now()
	for _, r := range list {
		if !r.Active(now) {
			continue
		}
		v, err := p.Govern.Version(ctx, r.CatalogVersion)
		if err != nil {
			return m, err
		}
		declared, _ := v.Coupon(r.Coupon)
		m.coupons = append(m.coupons, couponOf(&declared, r))
	}
	return m, nil
}

func couponOf(c *catalog.Coupon, r account.Redemption) coupon {
	out := coupon{name: c.Name, since: r.RedeemedAt}
	if out.name == "" {
		out.name = r.Coupon
	}
	switch {
	case c.Percent != nil:
		out.takes = ui.Count(*c.Percent) + " % off"
	case c.Amount != nil:
		out.takes = ui.Money(*c.Amount, c.Currency) + " off"
	}
	switch {
	case c.Periods == 1:
		out.takes += ", once"
	case c.Periods > 1:
		out.takes += ", " + ui.Int(int64(c.Periods)) + " times"
	}
	return out
}

// creditName is what credits are of.
func creditName(b *credits.Balance, currency string) string {
	if b.Meter == "" {
		return currency
	}
	return ui.Words(b.Meter)
}

// left is a quantity as pages show numbers; what does not end is cut.
func left(r money.Rational) string {
	const decimals = 6
	d, inexact, err := r.Decimal()
	if err == nil && inexact {
		d, err = r.RoundTo(decimals)
	}
	if err != nil {
		return r.String()
	}
	return ui.Count(d)
}
