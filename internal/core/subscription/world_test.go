package subscription_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/price"
	"github.com/tallystick/tallystick/internal/core/subscription"
)

func at(s string) time.Time {
	for _, layout := range []string{"2006-01-02", "2006-01-02 15:04", time.RFC3339} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC()
		}
	}
	panic(s)
}

func dec(s string) money.Decimal { return money.MustDecimal(s) }

func flat(key, amount, every string) price.Price {
	return price.Price{Key: key, Model: price.Flat, Amount: dec(amount), Every: period.MustEvery(every), Charge: price.InAdvance}
}

func seats(amount string) price.Price {
	return price.Price{Key: "seats", Model: price.Unit, UnitAmount: dec(amount), Every: period.MustEvery("month"), Charge: price.InAdvance}
}

func calls(amount string) price.Price {
	return price.Price{Key: "calls", Meter: "calls", Model: price.Unit, UnitAmount: dec(amount), Every: period.MustEvery("month"), Charge: price.InArrears}
}

func by(p price.Price, how price.Proration) price.Price { p.Prorate = how; return p }

// world has two versions; in the second one only the plan pro charges more, for seats.
func world() subscription.Plans {
	usd, eur := money.MustCurrency("USD"), money.MustCurrency("EUR")
	version := func(seat string) *catalog.Catalog {
		tokens := price.Price{
			Key: "tokens", Meter: "tokens", Model: price.Unit, UnitAmount: dec("0.1"), Every: period.MustEvery("month"),
			Charge: price.InArrears, Filter: []meter.Dimension{{Name: "model", Value: "big"}},
		}
		none := by(flat("fee", "7", "month"), price.ProrateNone)
		late := by(flat("late", "7", "month"), price.ProrateNone)
		late.Charge = price.InArrears
		return &catalog.Catalog{
			Plans: []catalog.Plan{
				{Key: "free", Currency: usd},
				{Key: "pro", Currency: usd, Prices: []price.Price{flat("platform", "20", "month"), seats(seat), calls("0.001"), flat("support", "120", "year")}},
				{Key: "max", Currency: usd, Prices: []price.Price{flat("platform", "50", "month"), seats("9"), calls("0.0005")}},
				{Key: "days", Currency: usd, Prices: []price.Price{by(flat("platform", "30", "month"), price.ProrateDays), by(seats("5"), price.ProrateDays)}},
				{Key: "fees", Currency: usd, Prices: []price.Price{none, late, by(seats("5"), price.ProrateNone)}},
				{Key: "yearly", Currency: usd, Prices: []price.Price{flat("platform", "200", "year")}},
				{Key: "calendar", Currency: usd, Prices: []price.Price{flat("platform", "20", "month"), calls("0.001")}, Terms: catalog.Terms{Calendar: true}},
				{Key: "trial", Currency: usd, Prices: []price.Price{flat("platform", "20", "month"), calls("0.001")}, Terms: catalog.Terms{TrialDays: 14}},
				{Key: "euro", Currency: eur},
			},
			AddOns: []catalog.AddOn{
				{Key: "support", Currency: usd, Prices: []price.Price{flat("desk", "10", "month"), tokens}},
				{Key: "weekly", Currency: usd, Prices: []price.Price{flat("week", "10", "week")}},
				{Key: "clash", Currency: usd, Prices: []price.Price{flat("platform", "10", "month")}},
				{Key: "euro", Currency: eur, Prices: []price.Price{flat("help", "10", "month")}},
				{Key: "elsewhere", Currency: usd, Plans: []string{"max"}, Prices: []price.Price{flat("lounge", "10", "month")}},
			},
		}
	}
	one, two := version("5"), version("6")
	return subscription.Catalogs(func(v int64) *catalog.Catalog {
		switch v {
		case 1:
			return one
		case 2:
			return two
		}
		return nil
	})
}

// history is a subscription to plan from start on. Each change is decided a second after the one before it.
func history(plan, start string, changes ...subscription.Change) subscription.History {
	s := at(start)
	h := subscription.History{Subscription: account.Subscription{ID: "sub_1", Plan: plan, CatalogVersion: 1, Start: s, BillingDay: s.Day()}}
	for i, c := range changes {
		if c.CreatedAt.IsZero() {
			c.CreatedAt = at("2020-01-01").Add(time.Duration(i) * time.Second)
		}
		c.ID = fmt.Sprintf("sch_%03d", i)
		if c.Version == 0 {
			c.Version = 1
		}
		h.Changes = append(h.Changes, c)
	}
	return h
}

func change(kind subscription.Kind, when string) subscription.Change {
	return subscription.Change{Kind: kind, At: at(when)}
}

func toPlan(plan, when string) subscription.Change {
	c := change(subscription.ToPlan, when)
	c.Plan = plan
	return c
}

func quantity(key, n, when string) subscription.Change {
	c := change(subscription.Quantity, when)
	c.Key, c.Quantity = key, dec(n)
	return c
}

func addOn(key, n, when string) subscription.Change {
	c := quantity(key, n, when)
	c.Kind = subscription.SetAddOn
	return c
}

func segments(t *testing.T, h subscription.History, zone string) []subscription.Segment {
	t.Helper()
	list, err := h.Segments(period.MustZone(zone), world())
	if err != nil {
		t.Fatalf("segments: %v", err)
	}
	return list
}

// lines are charges as text: what, service, ratio, quantity, due.
func lines(t *testing.T, h subscription.History, zone, from, to string) string {
	t.Helper()
	list, err := subscription.Charges(segments(t, h, zone), period.MustZone(zone), world(), period.Interval{Start: at(from), End: at(to)})
	if err != nil {
		t.Fatalf("charges: %v", err)
	}
	return text(list)
}

func text(list []subscription.Charge) string {
	var b strings.Builder
	for _, c := range list {
		name := c.Plan + "/" + c.Price.Key
		if c.AddOn != "" {
			name = "+" + c.AddOn + "/" + c.Price.Key
		}
		fmt.Fprintf(&b, "%s %s..%s", name, short(c.Service.Start), short(c.Service.End))
		if c.Price.Licensed() {
			fmt.Fprintf(&b, " %s x %s", c.Ratio, c.Quantity)
		} else {
			fmt.Fprintf(&b, " %s", [...]string{"single", "first", "middle", "last"}[c.Position])
		}
		fmt.Fprintf(&b, " due %s\n", short(c.Due))
	}
	return b.String()
}

func short(t time.Time) string {
	return strings.TrimSuffix(t.UTC().Format("2006-01-02 15:04"), " 00:00")
}
