package story

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/app/collect"
	"github.com/tallystick/tallystick/internal/app/correct"
	"github.com/tallystick/tallystick/internal/app/credits"
	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/app/ingest"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/subscription"
)

// on lets something happen at noon of a day.
func (y *year) on(m time.Month, day int, what string, do func(ctx context.Context) error) {
	y.acts = append(y.acts, act{noon(m, day), what, do})
}

// plot is all that happens, but for usage and payments.
func (y *year) plot() {
	for i := range y.cast {
		c := &y.cast[i]
		y.on(c.joins, c.day-1, c.key+" joins", func(ctx context.Context) error { return y.join(ctx, c) })
	}
	y.changes()
	y.prices()
	y.credit()
	y.corrections()
	y.collections()
}

// join makes a customer with its address, its coupon, and its subscription from the next local day on.
func (y *year) join(ctx context.Context, c *customer) error {
	made, err := y.Govern.CreateCustomer(ctx, actor, govern.NewCustomer{Key: c.key, Name: c.name, Zone: c.zone, Currency: c.currency()})
	if err != nil {
		return err
	}
	c.id = made.ID
	if _, err := y.Govern.UpdateCustomer(ctx, actor, c.id, func(_ *string, d *account.BillingDetails) { c.details(d) }); err != nil {
		return err
	}
	if c.coupon != "" {
		if _, err := y.Credits.Redeem(ctx, actor, c.id, c.coupon, "on joining"); err != nil {
			return err
		}
	}
	sub, err := y.Govern.CreateSubscription(ctx, actor, govern.NewSubscription{
		Customer: c.id, Plan: c.plan, Start: made.Zone.StartOfDay(Year, c.joins, c.day), Quantities: c.quantities(),
	})
	c.sub = sub.ID
	return err
}

// change changes a customer's subscription.
func (y *year) change(ctx context.Context, key string, n govern.NewChange) error {
	n.Reason = "as agreed"
	_, err := y.Govern.ChangeSubscription(ctx, actor, y.named(key).sub, n, false)
	return err
}

// changed lets subscriptions change on a day, all at the same instant, which is noon where nothing else is said.
func (y *year) changed(m time.Month, day int, key string, list ...govern.NewChange) {
	y.on(m, day, key+" changes its subscription", func(ctx context.Context) error {
		for _, n := range list {
			if n.At == "" {
				n.At = period.Format(noon(m, day))
			}
			if err := y.change(ctx, key, n); err != nil {
				return err
			}
		}
		return nil
	})
}

// seats is a change of how many there are.
func seats(key string, n int) govern.NewChange {
	return govern.NewChange{Kind: subscription.Quantity, Key: key, Quantity: money.MustDecimal(fmt.Sprint(n))}
}

// addOn is a change that takes one add-on.
func addOn(key string) govern.NewChange {
	return govern.NewChange{Kind: subscription.SetAddOn, Key: key, Quantity: money.MustDecimal("1")}
}

// changes are those of subscriptions.
func (y *year) changes() {
	y.changed(time.February, 12, "bluefin", seats("team-seats", 9))
	y.changed(time.February, 16, "isola", govern.NewChange{Kind: subscription.ToPlan, Plan: "team"}, seats("team-seats", 3))
	y.changed(time.February, 20, "krone", govern.NewChange{Kind: subscription.Trial, Until: noon(time.March, 10)})
	y.changed(time.March, 14, "arbor", addOn("hosting"))
	y.changed(time.March, 14, "polder", addOn("hosting"))
	y.changed(time.March, 21, "cedar", addOn("support"), seats("scale-seats", 18))
	y.changed(time.April, 3, "juniper", govern.NewChange{Kind: subscription.ToPlan, Plan: "team-usd", Now: true}, seats("team-seats", 5))
	y.changed(time.May, 2, "basalt", govern.NewChange{Kind: subscription.Pause}, govern.NewChange{Kind: subscription.Resume, At: period.Format(noon(time.June, 14))})
	y.changed(time.May, 9, "zephyr", govern.NewChange{Kind: subscription.Cancel, At: govern.PeriodEnd})
	y.changed(time.May, 25, "tulip", govern.NewChange{Kind: subscription.Cancel})
	y.changed(time.June, 9, "vega", govern.NewChange{Kind: subscription.ToPlan, Plan: "scale", Now: true}, seats("scale-seats", 6))
	y.changed(time.June, 18, "ember", govern.NewChange{Kind: subscription.ToPlan, Plan: "team-usd", At: govern.PeriodEnd})
	y.changed(time.July, 11, "yokohama", seats("team-seats", 13))
	y.changed(time.July, 25, "polder", govern.NewChange{Kind: subscription.SetAddOn, Key: "hosting"})
	y.changed(time.August, 9, "pampa", govern.NewChange{Kind: subscription.Quantity, Key: "team-seats", Quantity: money.MustDecimal("2"), At: period.Format(noon(time.August, 1))})
	y.changed(time.September, 6, "glacier", govern.NewChange{Kind: subscription.ToPlan, Plan: "team"}, seats("team-seats", 4))
	y.changed(time.October, 17, "delta", govern.NewChange{Kind: subscription.ToPlan, Plan: "scale-usd", At: govern.PeriodEnd})
	y.changed(time.November, 11, "quarry", seats("yearly-seats", 9))
	y.changed(time.November, 21, "vega", govern.NewChange{Kind: subscription.ToPlan, Plan: "team", At: govern.PeriodEnd})
	y.changed(time.December, 5, "harbor", govern.NewChange{Kind: subscription.Cancel, At: govern.PeriodEnd})
}

// raised are the prices of Team from July on, old and new by turns.
var raised = strings.NewReplacer( //nolint:gochecknoglobals // a table
	`model: unit, unit_amount: "19.00", charge: in_advance`, `model: unit, unit_amount: "22.00", charge: in_advance`,
	`model: unit, unit_amount: "21.00", charge: in_advance`, `model: unit, unit_amount: "24.00", charge: in_advance`,
	`{up_to: "1000000", unit_amount: "0.00048"}`, `{up_to: "1000000", unit_amount: "0.00045"}`,
)

// prices are the new ones of summer: those who join later have them, some of the others are moved, one has prices of its own.
func (y *year) prices() {
	y.on(time.June, 20, "new prices", func(ctx context.Context) error {
		_, _, err := y.Govern.ApplyCatalog(ctx, actor, "year.yaml", []byte(raised.Replace(string(y.Catalog))))
		return err
	})
	for _, key := range []string{"bluefin", "fjord", "kestrel", "isola", "willow", "compass", "mesa"} {
		y.on(time.June, 28, key+" is moved to the new prices", func(ctx context.Context) error {
			plan := y.named(key).plan
			if key == "isola" {
				plan = "team"
			}
			moved, err := y.Govern.Migrate(ctx, actor, govern.Migration{Plan: plan, Customer: key, At: govern.PeriodEnd, Reason: "prices of July"}, false)
			if err == nil && (len(moved) != 1 || moved[0].Refused != "") {
				err = fmt.Errorf("moved %v: %w", moved, errNothing)
			}
			return err
		})
	}
	y.changed(time.August, 21, "lumen", govern.NewChange{Kind: subscription.SetPrice, Key: "scale-requests", Price: json.RawMessage(
		`{"key":"scale-requests","name":"Requests, as agreed","meter":"requests","model":"volume","product":"software",` +
			`"tiers":[{"up_to":"500000","unit_amount":"0.0004"},{"unit_amount":"0.0003"}]}`,
	)})
}

// granted gives usage credits on a day, good from an hour later for so many days; 0: for ever.
func (y *year) granted(m time.Month, day, days int, n credits.NewGrant) {
	y.on(m, day, n.Customer+" gets credits", func(ctx context.Context) error {
		n.EffectiveAt = noon(m, day).Add(time.Hour)
		if days > 0 {
			n.ExpiresAt = noon(m, day+days)
		}
		_, err := y.Credits.CreateGrant(ctx, actor, n)
		return err
	})
}

// credit are usage credits, coupons and deposits.
func (y *year) credit() {
	y.granted(time.January, 9, 120, credits.NewGrant{Customer: "delta", Meter: "requests", Amount: "2000000", Kind: account.Prepaid, Paid: "700", Reason: "order 1207"})
	y.granted(time.January, 17, 0, credits.NewGrant{Customer: "sierra", Meter: "requests", Amount: "30000", Every: "month", MaxRollover: "10000", Reason: "a rescue service"})
	y.granted(time.February, 6, 60, credits.NewGrant{Customer: "kestrel", Amount: "40", Reason: "the outage of 5 February"})
	y.granted(time.March, 6, 365, credits.NewGrant{Customer: "arbor", Amount: "1500", Kind: account.Prepaid, Paid: "1400", Meters: []string{"requests"}, Reason: "order 1311"})
	y.granted(time.April, 12, 30, credits.NewGrant{Customer: "ebisu", Amount: "9000", Reason: "a trial of routes"})
	y.granted(time.August, 3, 90, credits.NewGrant{Customer: "compass", Amount: "500", Kind: account.Prepaid, Paid: "500", Reason: "order 1502"})
	y.granted(time.August, 4, 30, credits.NewGrant{Customer: "compass", Amount: "60", Priority: -1, Reason: "back to school"})
	y.on(time.November, 13, "sierra's credits end", func(ctx context.Context) error {
		grants := y.Govern.Grants(y.named("sierra").id)
		_, err := y.Credits.VoidGrant(ctx, actor, grants[len(grants)-1].ID, "the agreement ended")
		return err
	})
	y.on(time.April, 24, "coupons", func(ctx context.Context) error {
		if _, err := y.Credits.Redeem(ctx, actor, "oak", "spring", "a reminder in April"); err != nil {
			return err
		}
		_, err := y.Credits.Redeem(ctx, actor, "granit", "welcome", "a reminder in April")
		return err
	})
	y.on(time.January, 19, "a deposit", func(ctx context.Context) error {
		_, err := y.Collect.Deposit(ctx, actor, "granit", collect.NewPayment{Amount: euros(200000), Method: "transfer", Reference: "bank deposit 1"})
		return err
	})
}

// euros are so many cents.
func euros(cents int64) money.Amount { return money.NewAmount(cents, money.MustCurrency("EUR")) }

// corrections are of usage: late, amended, voided, and loaded afterwards.
func (y *year) corrections() {
	y.on(time.March, 11, "usage of February comes late", func(ctx context.Context) error {
		var list []meter.Event
		for _, key := range []string{"kestrel", "nagoya", "cedar"} {
			list = append(list, y.named(key).extra("late", noon(time.February, 9), 40)...)
		}
		return y.send(ctx, list)
	})
	y.on(time.April, 5, "events are corrected", func(ctx context.Context) error {
		if _, err := y.Correct.Amend(ctx, correct.Change{Source: "maps/edge", ID: "umbra-2028-03-07-0", Actor: actor, Reason: "counted tenfold"}, correct.Content{
			Data: json.RawMessage(`{"api":"tiles","count":310,"region":"eu"}`),
		}); err != nil {
			return err
		}
		for _, day := range []string{"05", "06", "07"} {
			c := correct.Change{Source: "maps/edge", ID: "vega-2028-03-" + day + "-0", Actor: actor, Reason: "a test of the customer's"}
			if _, err := y.Correct.Void(ctx, c); err != nil {
				return err
			}
		}
		return nil
	})
	y.on(time.October, 4, "usage of August is loaded", func(ctx context.Context) error { return y.backfill(ctx, "harbor") })
}

// extra are events of a customer, one an hour from an instant on.
func (c *customer) extra(name string, from time.Time, n int) []meter.Event {
	list := make([]meter.Event, n)
	for i := range list {
		list[i] = c.event(name, i, "maps.requests", from.Add(time.Duration(i)*time.Hour), `{"api":"geocode","count":2500,"region":"us"}`)
	}
	return list
}

// backfill loads forgotten usage as a unit that could be taken back.
func (y *year) backfill(ctx context.Context, key string) error {
	const name = "forgotten-august"
	if _, err := y.Correct.OpenBackfill(ctx, actor, name, "a log that was found"); err != nil {
		return err
	}
	unit, done, err := y.Correct.Load(ctx, name)
	if err != nil {
		return err
	}
	list := y.named(key).extra("backfill", noon(time.August, 14), 60)
	outcomes, err := y.Ingest.Take(ctx, ingest.Call{Producer: actor, Events: list, Unit: unit})
	done()
	if err != nil {
		return err
	}
	for _, o := range outcomes {
		if o.Status != "accepted" {
			return fmt.Errorf("event %s: %s %s", o.ID, o.Status, o.Rule)
		}
	}
	y.told.Events += int64(len(list))
	if _, err := y.Correct.CloseBackfill(ctx, actor, name); err != nil {
		return err
	}
	for more := true; more && err == nil; {
		more, err = y.Correct.Tick(ctx)
	}
	return err
}

// collections are what becomes of invoices, but for payments.
func (y *year) collections() {
	y.on(time.April, 14, "a void", func(ctx context.Context) error {
		inv, err := y.latest("willow")
		if err == nil {
			_, err = y.Collect.Void(ctx, actor, inv.ID, "made out to the wrong company")
		}
		return err
	})
	y.on(time.May, 16, "a credit note over a part", func(ctx context.Context) error {
		inv, err := y.latest("rhein")
		if err != nil {
			return err
		}
		line, err := largest(inv)
		if err == nil {
			_, _, err = y.Collect.CreditNote(ctx, actor, inv.ID, []collect.TakeBack{{Line: line.ID, Amount: half(line.Rounded)}}, "the outage of 2 May")
		}
		return err
	})
	y.on(time.September, 14, "a credit note over all", func(ctx context.Context) error {
		inv, err := y.latest("willow")
		if err == nil {
			_, _, err = y.Collect.CreditNote(ctx, actor, inv.ID, nil, "goodwill")
		}
		return err
	})
	y.on(time.November, 16, "one is given up", func(ctx context.Context) error {
		inv, err := y.latest("rhein")
		if err == nil {
			_, err = y.Collect.Uncollectible(ctx, actor, inv.ID, "not worth a lawsuit")
		}
		return err
	})
}

// largest is an invoice's line of the highest amount.
func largest(inv invoice.Invoice) (invoice.Line, error) {
	var best invoice.Line
	for _, l := range inv.Lines {
		if best.ID == "" || l.Rounded.Minor() > best.Rounded.Minor() {
			best = l
		}
	}
	if best.Rounded.Minor() <= 0 {
		return best, fmt.Errorf("invoice %d has no line above 0: %w", inv.Number, errNothing)
	}
	return best, nil
}
