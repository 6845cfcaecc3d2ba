package bill_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/bill"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/price"
	"github.com/tallystick/tallystick/internal/core/subscription"
	"github.com/tallystick/tallystick/internal/store"
)

// shop is a catalog with what the scenarios need.
func shop() *catalog.Catalog {
	d := money.MustDecimal
	usd := money.MustCurrency("USD")
	fee := func(amount string) price.Price {
		return price.Price{Key: "platform", Model: price.Flat, Amount: d(amount), Charge: price.InAdvance}
	}
	tiers := func(up, first, rest string) price.Price {
		return price.Price{
			Key: "calls", Meter: calls, Model: price.Graduated, Charge: price.InArrears,
			Tiers: []price.Tier{{UpTo: new(d(up)), UnitAmount: d(first)}, {UnitAmount: d(rest)}},
		}
	}
	seats := price.Price{Key: "seats", Model: price.Unit, UnitAmount: d("10"), Charge: price.InAdvance}
	bounded := tiers("1000", "0.01", "0.005")
	bounded.MinimumSpend, bounded.MaximumSpend = new(d("5")), new(d("20"))
	eu := price.Price{Key: "eu", Meter: calls, Model: price.Unit, UnitAmount: d("0.02"), Charge: price.InArrears, Filter: []meter.Dimension{{Name: "region", Value: "eu"}}}
	us := eu
	us.Key, us.UnitAmount, us.Filter = "us", d("0.03"), []meter.Dimension{{Name: "region", Value: "us"}}
	cells := price.Price{
		Key: "matrix", Meter: calls, Model: price.Matrix, UnitAmount: d("1"), Charge: price.InArrears,
		Cells: []price.Cell{{When: []meter.Dimension{{Name: "region", Value: "eu"}}, UnitAmount: d("0.5")}},
	}
	fees := price.Price{Key: "fees", Meter: calls, Model: price.Percentage, Percent: d("2"), Fixed: d("0.30"), FreeEvents: 1, Charge: price.InArrears}
	yearly := price.Price{Key: "licence", Model: price.Flat, Amount: d("1200"), Charge: price.InAdvance, Every: period.MustEvery("year")}
	return &catalog.Catalog{
		Meters: []catalog.Meter{{Key: calls, Event: "request", Aggregation: meter.Sum, Dimensions: []string{"region"}}},
		Plans: []catalog.Plan{
			{Key: "pro", Name: "Pro", Currency: usd, Prices: []price.Price{fee("31"), tiers("1000", "0.01", "0.005")}},
			{Key: "max", Name: "Max", Currency: usd, Prices: []price.Price{fee("62"), tiers("1000", "0.02", "0.001")}},
			{Key: "team", Name: "Team", Currency: usd, Prices: []price.Price{seats}},
			{Key: "bounded", Name: "Bounded", Currency: usd, Prices: []price.Price{bounded}},
			{Key: "committed", Name: "Committed", Currency: usd, Prices: []price.Price{tiers("1000", "0.01", "0.005")}, Terms: catalog.Terms{Minimum: new(d("8")), Maximum: new(d("12"))}},
			{Key: "trial", Name: "Trial", Currency: usd, Prices: []price.Price{fee("31"), tiers("1000", "0.01", "0.005")}, Terms: catalog.Terms{TrialDays: 10}},
			{Key: "regions", Name: "Regions", Currency: usd, Prices: []price.Price{eu, us}},
			{Key: "matrix", Name: "Matrix", Currency: usd, Prices: []price.Price{cells}},
			{Key: "payments", Name: "Payments", Currency: usd, Prices: []price.Price{fees}},
			{Key: "annual", Name: "Annual", Currency: usd, Prices: []price.Price{yearly, tiers("1000", "0.01", "0.005")}},
			{Key: "threshold", Name: "Threshold", Currency: usd, Prices: []price.Price{tiers("1000", "0.01", "0.005")}, Terms: catalog.Terms{Threshold: new(d("5"))}},
		},
		Coupons: []catalog.Coupon{
			{Key: "tenth", Name: "10 % off", Percent: new(d("10"))},
			{Key: "gift", Name: "Gift", Amount: new(d("50")), Currency: usd, Periods: 1},
		},
	}
}

type coupons map[string][]account.Redemption

func (c coupons) Redemptions(customerID string) []account.Redemption { return c[customerID] }

// story is one customer's.
type story struct {
	*world
	sub     account.Subscription
	n       int
	coupons coupons
}

func tell(t *testing.T, plan string, change func(*catalog.Catalog)) *story {
	t.Helper()
	w := newWorld(t, t.TempDir(), date(2026, 1, 1))
	c := shop()
	if change != nil {
		change(c)
	}
	w.people.catalogs[1] = &catalog.Compiled{Version: 1, Catalog: c}
	s := &story{world: w, coupons: coupons{}}
	w.restart(func(c *bill.Config) { c.Coupons, c.Balances = s.coupons, w.records })
	s.sub = w.subscribe("acme", plan, "UTC", date(2026, 1, 1), 1)
	w.tick()
	return s
}

// at moves the clock, closing what comes due on the way.
func (s *story) at(t time.Time) {
	s.tb.Helper()
	s.now = t
	s.tick()
	s.balanced()
}

func (s *story) use(at time.Time, value int64, region string) string {
	s.tb.Helper()
	s.n++
	id := fmt.Sprintf("u%d", s.n)
	e := entry(s.sub.CustomerID, id, meter.Reported, at, value)
	if region != "" {
		e.Resolutions[0].Dimensions = []meter.Dimension{{Name: "region", Value: region}}
	}
	s.append(store.Batch{Producer: "api/tok_1", Entries: []store.Entry{e}})
	return id
}

func (s *story) change(c subscription.Change) {
	s.tb.Helper()
	s.n++
	c.ID, c.SubscriptionID, c.CreatedAt = fmt.Sprintf("sch_%026d", s.n), s.sub.ID, s.now
	if c.At.IsZero() {
		c.At = s.now
	}
	if err := s.journal.Cut(context.Background(), s.sub.CustomerID, c.At); err != nil {
		s.tb.Fatal(err)
	}
	s.people.changes[s.sub.ID] = append(s.people.changes[s.sub.ID], c)
}

func (s *story) grant(g account.Grant) {
	s.n++
	g.ID, g.CustomerID, g.CreatedAt = fmt.Sprintf("grt_%026d", s.n), s.sub.CustomerID, s.now
	if g.EffectiveAt.IsZero() {
		g.EffectiveAt = s.now
	}
	s.people.grants[s.sub.CustomerID] = append(s.people.grants[s.sub.CustomerID], g)
}

func (s *story) redeem(key string) {
	s.n++
	r := account.Redemption{ID: fmt.Sprintf("rdm_%026d", s.n), CustomerID: s.sub.CustomerID, Coupon: key, CatalogVersion: 1, RedeemedAt: s.now}
	s.coupons[s.sub.CustomerID] = append(s.coupons[s.sub.CustomerID], r)
}

// told are all invoices as text.
func (s *story) told() string {
	var b strings.Builder
	for _, inv := range s.invoices() {
		fmt.Fprintf(&b, "%s..%s %s subtotal %s tax %s total %s balance %s due %s\n", day(inv.Period.Start), day(inv.Period.End), inv.Plan, inv.Subtotal,
			inv.Tax, inv.Total, inv.Balance, inv.Due)
		for _, l := range inv.Lines {
			fmt.Fprintf(&b, "  %s", text(&l))
		}
	}
	return b.String()
}

func text(l *invoice.Line) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", l.Kind, l.Price)
	for _, extra := range []string{l.Plan, l.Name, l.Ratio} {
		if extra != "" {
			fmt.Fprintf(&b, " [%s]", extra)
		}
	}
	fmt.Fprintf(&b, " %s..%s", day(l.Period.Start), day(l.Period.End))
	if !l.Quantity.IsZero() {
		fmt.Fprintf(&b, " × %s", l.Quantity)
	}
	if !l.Credited.IsZero() {
		fmt.Fprintf(&b, " credited %s", l.Credited)
	}
	fmt.Fprintf(&b, " = %s (%s)\n", l.Rounded, l.Exact)
	return b.String()
}

func day(t time.Time) string {
	if t.Equal(period.BucketStart(t)) && t.Hour() == 0 {
		return t.Format("01-02")
	}
	return t.Format("01-02T15:04")
}

func TestStories(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		plan    string
		catalog func(*catalog.Catalog)
		tell    func(*story)
	}{
		"upgrade": {"pro", nil, func(s *story) {
			s.use(date(2026, 1, 5), 800, "")
			s.at(date(2026, 1, 11))
			s.change(subscription.Change{Kind: subscription.ToPlan, Plan: "max", Version: 1, Now: true})
			s.use(date(2026, 1, 12), 400, "")
			s.at(date(2026, 1, 11).Add(time.Hour))
			s.at(date(2026, 3, 1))
		}},
		"downgrade": {"max", nil, func(s *story) {
			s.at(date(2026, 1, 11))
			s.change(subscription.Change{Kind: subscription.ToPlan, Plan: "pro", Version: 1, Now: true})
			s.at(date(2026, 3, 1))
		}},
		"seats": {"team", nil, func(s *story) {
			s.at(date(2026, 1, 11))
			s.change(subscription.Change{Kind: subscription.Quantity, Key: "seats", Quantity: money.FromInt(3)})
			s.at(date(2026, 2, 10))
			s.change(subscription.Change{Kind: subscription.Quantity, Key: "seats", Quantity: money.FromInt(2), Now: true})
			s.at(date(2026, 3, 1))
		}},
		"backdated": {"team", nil, func(s *story) {
			s.at(date(2026, 3, 10))
			s.change(subscription.Change{Kind: subscription.Quantity, Key: "seats", Quantity: money.FromInt(2), At: date(2026, 1, 15)})
			s.at(date(2026, 4, 1))
		}},
		"cancel": {"pro", nil, func(s *story) {
			s.use(date(2026, 1, 5), 800, "")
			s.at(date(2026, 1, 16))
			s.change(subscription.Change{Kind: subscription.Cancel})
			s.at(date(2026, 3, 1))
		}},
		"pause": {"pro", nil, func(s *story) {
			s.at(date(2026, 1, 16))
			s.change(subscription.Change{Kind: subscription.Pause})
			s.at(date(2026, 2, 15))
			s.change(subscription.Change{Kind: subscription.Resume})
			s.at(date(2026, 4, 1))
		}},
		"trial": {"trial", nil, func(s *story) {
			s.use(date(2026, 1, 5), 800, "")
			s.use(date(2026, 1, 12), 80, "")
			s.at(date(2026, 3, 1))
		}},
		"late": {"pro", nil, func(s *story) {
			s.use(date(2026, 1, 5), 800, "")
			s.at(date(2026, 2, 1))
			s.use(date(2026, 1, 31), 300, "")
			s.at(date(2026, 3, 1))
			s.at(date(2026, 4, 1))
		}},
		"void": {"pro", nil, func(s *story) {
			s.use(date(2026, 1, 5), 800, "")
			id := s.use(date(2026, 1, 6), 500, "")
			s.at(date(2026, 2, 1))
			s.void("api " + id)
			s.use(date(2026, 1, 7), 500, "") // plus and minus make nothing
			s.at(date(2026, 3, 1))
			s.void("api " + id)
			s.void("api u1")
			s.at(date(2026, 4, 1))
		}},
		"bounded": {"bounded", nil, func(s *story) {
			s.at(date(2026, 2, 1))
			s.use(date(2026, 2, 2), 5000, "")
			s.at(date(2026, 3, 1))
		}},
		"committed": {"committed", nil, func(s *story) {
			s.use(date(2026, 1, 5), 300, "")
			s.at(date(2026, 2, 1))
			s.use(date(2026, 1, 6), 200, "")
			s.use(date(2026, 2, 2), 5000, "")
			s.at(date(2026, 3, 1))
			s.use(date(2026, 1, 6), 1000, "")
			s.at(date(2026, 4, 1))
		}},
		"regions": {"regions", nil, func(s *story) {
			s.use(date(2026, 1, 5), 300, "eu")
			s.use(date(2026, 1, 5), 200, "us")
			s.use(date(2026, 1, 5), 7, "asia")
			s.at(date(2026, 2, 1))
			s.use(date(2026, 1, 5), 10, "eu")
			s.at(date(2026, 3, 1))
		}},
		"matrix": {"matrix", nil, func(s *story) {
			s.use(date(2026, 1, 5), 300, "eu")
			s.use(date(2026, 1, 5), 200, "us")
			s.at(date(2026, 2, 1))
		}},
		"payments": {"payments", nil, func(s *story) {
			s.use(date(2026, 1, 6), 100, "")
			s.use(date(2026, 1, 5), 50, "") // the first one, and free
			id := s.use(date(2026, 1, 7), 10, "")
			s.at(date(2026, 2, 1))
			s.void("api " + id)
			s.use(date(2026, 1, 4), 10, "")
			s.at(date(2026, 3, 1))
		}},
		"annual": {"annual", nil, func(s *story) {
			s.use(date(2026, 1, 5), 100, "")
			s.at(date(2026, 3, 1))
			s.change(subscription.Change{Kind: subscription.Cancel, Now: true})
			s.at(date(2026, 4, 1))
		}},
		"credits": {"pro", nil, func(s *story) {
			s.grant(account.Grant{Amount: money.MustDecimal("5"), Kind: account.Promotional})
			s.use(date(2026, 1, 5), 400, "")
			s.at(date(2026, 2, 1))
			s.use(date(2026, 1, 6), 50, "")
			s.use(date(2026, 2, 6), 500, "")
			s.at(date(2026, 3, 1))
		}},
		"units": {"pro", nil, func(s *story) {
			s.at(date(2026, 1, 10))
			s.grant(account.Grant{Meter: calls, Amount: money.MustDecimal("500"), Kind: account.Promotional, ExpiresAt: date(2026, 2, 10)})
			s.use(date(2026, 1, 5), 100, "")
			s.use(date(2026, 1, 15), 300, "")
			s.at(date(2026, 2, 1))
			s.use(date(2026, 2, 5), 300, "")
			s.use(date(2026, 2, 15), 300, "")
			s.at(date(2026, 3, 1))
		}},
		"expiring": {"pro", nil, func(s *story) {
			s.grant(account.Grant{Amount: money.MustDecimal("5"), Kind: account.Promotional, ExpiresAt: date(2026, 1, 10)})
			s.use(date(2026, 1, 5), 200, "")
			s.use(date(2026, 1, 15), 900, "")
			s.at(date(2026, 2, 1))
		}},
		"coupon": {"pro", nil, func(s *story) {
			s.redeem("tenth")
			s.redeem("gift")
			s.use(date(2026, 1, 5), 400, "")
			s.at(date(2026, 2, 1))
			s.use(date(2026, 1, 6), 100, "")
			s.at(date(2026, 3, 1))
			s.at(date(2026, 4, 1))
		}},
		"tax": {"pro", func(c *catalog.Catalog) {
			c.Taxes = catalog.Taxes{Rules: []catalog.TaxRule{{Key: "vat", Name: "VAT", Percent: money.MustDecimal("19")}}}
		}, func(s *story) {
			s.use(date(2026, 1, 5), 401, "")
			s.at(date(2026, 2, 1))
		}},
		"inclusive": {"pro", func(c *catalog.Catalog) {
			c.Taxes = catalog.Taxes{Inclusive: true, Rules: []catalog.TaxRule{{Key: "vat", Name: "VAT", Percent: money.MustDecimal("19")}}}
		}, func(s *story) {
			s.use(date(2026, 1, 5), 401, "")
			s.at(date(2026, 2, 1))
		}},
		"threshold": {"threshold", nil, func(s *story) {
			s.use(date(2026, 1, 5), 400, "")
			s.at(date(2026, 1, 6))
			s.use(date(2026, 1, 7), 400, "")
			s.at(date(2026, 1, 8))
			s.use(date(2026, 1, 9), 600, "")
			s.at(date(2026, 1, 10))
			s.change(subscription.Change{Kind: subscription.ToPlan, Plan: "pro", Version: 1, Now: true})
			s.use(date(2026, 1, 12), 100, "")
			s.at(date(2026, 1, 11))
			s.at(date(2026, 2, 1))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := tell(t, tt.plan, tt.catalog)
			tt.tell(s)
			s.balanced()
			golden(t, "stories/"+name+".txt", []byte(s.told()))
			c, err := s.records.Conservation(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range c {
				if x.Difference.Minor() != 0 {
					t.Errorf("the ledger: %+v", x)
				}
			}
		})
	}
}
