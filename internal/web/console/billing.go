package console

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/app/collect"
	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/subscription"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/web/statement"
	"github.com/tallystick/tallystick/internal/web/ui"
)

// Bounds of the lists of money on a customer's page.
const (
	redemptionsShown = 20
	paymentsShown    = 10
)

// billing is what a customer is billed for, and what the forms about it need.
type billing struct {
	timeline      *govern.Timeline // nil: no subscription is in force or to come
	plans         []string         // that the customer can change to
	quantities    []string         // keys of prices whose quantity is the subscription's
	addOns        []string
	coupons       []string
	redemptions   []account.Redemption
	balance, owed money.Amount
	payments      []store.Payment
}

func (c *console) billing(ctx context.Context, s statement.Statement, subscriptions []account.Subscription) (v billing, err error) {
	cust := s.Customer
	id := s.Subscription.ID
	for _, sub := range subscriptions {
		if id == "" && (sub.End.IsZero() || sub.End.After(s.Now)) {
			id = sub.ID
		}
	}
	if id != "" {
		t, err := c.Govern.Timeline(ctx, id)
		if err != nil {
			return v, err
		}
		v.timeline = &t
	}
	v.sold(c, s)
	q := govern.Query{CustomerID: cust.ID, Limit: redemptionsShown}
	if v.redemptions, err = c.cfg.Credits.ListRedemptions(ctx, q); err != nil {
		return v, err
	}
	if v.balance, err = c.Collect.BalanceOf(ctx, cust.ID); err != nil {
		return v, err
	}
	if v.owed, err = c.Collect.Owed(ctx, cust.ID); err != nil {
		return v, err
	}
	q.Limit = paymentsShown
	v.payments, err = c.Collect.Payments(ctx, store.RecordQuery{Query: q})
	return v, err
}

// sold fills in what the newest catalog offers the customer.
func (v *billing) sold(c *console, s statement.Statement) {
	cat := c.Govern.Current()
	for i := range cat.Plans {
		if p := &cat.Plans[i]; p.Currency == s.Customer.Currency {
			v.plans = append(v.plans, p.Key)
		}
	}
	for i := range s.Plan.Prices {
		if p := &s.Plan.Prices[i]; p.Licensed() {
			v.quantities = append(v.quantities, p.Key)
		}
	}
	for i := range cat.AddOns {
		if a := &cat.AddOns[i]; a.For(&s.Plan) {
			v.addOns = append(v.addOns, a.Key)
		}
	}
	for i := range cat.Coupons {
		v.coupons = append(v.coupons, cat.Coupons[i].Key)
	}
}

// changeView is a change before it is made.
type changeView struct {
	customer      account.Customer
	form          url.Values // what it was asked with
	change        subscription.Change
	now           time.Time
	before, after invoice.Invoice // the next invoice without and with it
	money         bool            // there is one
	difference    money.Amount
}

// changeSubscription shows what a change costs, and makes it once that was seen.
func (c *console) changeSubscription(r *http.Request) (answer, error) {
	var asked *changeView
	a, err := c.allow(r, changeForm, func(ctx context.Context, customerID string, form url.Values) error {
		n, err := newChange(form)
		if err != nil {
			return err
		}
		confirmed := form.Get("confirm") == "yes"
		t, err := c.Govern.ChangeSubscription(ctx, operatorActor, form.Get("subscription"), n, !confirmed)
		if err != nil || confirmed {
			return err
		}
		cust, _ := c.Govern.Customer(customerID)
		asked = &changeView{customer: cust, form: form, change: t.History.Changes[len(t.History.Changes)-1], now: c.Clock.Now()}
		return c.costs(ctx, t.History.ID, asked)
	})
	if err == nil && asked != nil {
		return answer{page: changePage(c.frame(r, "A change for "+asked.customer.Key), asked)}, nil
	}
	return a, err
}

// costs fills in the next invoice without and with a change.
func (c *console) costs(ctx context.Context, id string, v *changeView) (err error) {
	c.Flush(ctx)
	v.before, v.after, err = c.Bill.PreviewChange(ctx, id, []subscription.Change{v.change})
	if errors.Is(err, account.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	v.money = true
	if v.after.Currency.Code() == "" { // the subscription ends with it
		v.after.Currency, v.after.Total = v.before.Currency, money.NewAmount(0, v.before.Currency)
	}
	v.difference, err = v.after.Total.Add(money.NewAmount(-v.before.Total.Minor(), v.before.Currency))
	return err
}

func newChange(form url.Values) (n govern.NewChange, err error) {
	n = govern.NewChange{
		Kind: subscription.Kind(form.Get("kind")), At: form.Get("at"), Plan: form.Get("plan"), Key: form.Get("key"), Now: form.Get("now") == "yes",
		Reason: strings.TrimSpace(form.Get("reason")),
	}
	if n.Kind == subscription.Quantity || n.Kind == subscription.SetAddOn {
		if n.Quantity, err = money.ParseDecimal(strings.TrimSpace(form.Get("quantity"))); err != nil {
			return n, &govern.Invalid{Pointer: "/quantity", Rule: "is no number", Fix: "give a plain one, such as 5"}
		}
	}
	return n, nil
}

// changeText says what a change does.
func changeText(ch *subscription.Change) string {
	switch ch.Kind {
	case subscription.ToPlan:
		return "to plan " + ch.Plan
	case subscription.ToPrices:
		return "to the prices of catalog version " + ui.Int(ch.Version)
	case subscription.Quantity:
		return ui.Count(ch.Quantity) + " " + ui.Words(ch.Key)
	case subscription.SetAddOn:
		return "add-on " + ch.Key + ": " + ui.Count(ch.Quantity)
	case subscription.SetPrice:
		if ch.Price == nil {
			return "price " + ch.Key + " of the plan again"
		}
		return "own price " + ch.Key
	case subscription.Trial:
		return "another end of the trial"
	case subscription.Pause, subscription.Resume, subscription.Cancel, subscription.Revive:
	}
	return string(ch.Kind)
}

// held is what a segment bills for beside the plan.
func held(g *subscription.Segment) string {
	var out []string
	for _, key := range slices.Sorted(maps.Keys(g.Quantities)) {
		out = append(out, ui.Count(g.Quantities[key])+" "+ui.Words(key))
	}
	for _, a := range g.AddOns {
		out = append(out, ui.Count(a.Quantity)+" × "+a.Key)
	}
	return strings.Join(out, ", ")
}

// state is what a segment is, where it is not charged as usual.
func state(g *subscription.Segment, now time.Time) (tone, text string) {
	switch {
	case g.Paused:
		return statement.Notice, "paused"
	case g.Trial:
		return statement.Notice, "trial"
	case g.Contains(now):
		return statement.Good, "now"
	case g.Start.After(now):
		return "plain", "to come"
	}
	return "plain", "past"
}

// paused says whether the subscription is paused, and cancelled that an end is set that has not come.
func (v *billing) paused(now time.Time) bool {
	return slices.ContainsFunc(v.timeline.Segments, func(g subscription.Segment) bool { return g.Paused && g.Contains(now) })
}

func (v *billing) cancelled(now time.Time) bool { return v.timeline.End.After(now) }

func (c *console) redeem(r *http.Request) (answer, error) {
	return c.allow(r, couponForm, func(ctx context.Context, customerID string, form url.Values) error {
		_, err := c.cfg.Credits.Redeem(ctx, operatorActor, customerID, form.Get("coupon"), strings.TrimSpace(form.Get("reason")))
		return err
	})
}

func (c *console) endRedemption(r *http.Request) (answer, error) {
	return c.allow(r, couponForm, func(ctx context.Context, _ string, form url.Values) error {
		_, err := c.cfg.Credits.EndRedemption(ctx, operatorActor, form.Get("id"))
		return err
	})
}

func (c *console) deposit(r *http.Request) (answer, error) {
	return c.allow(r, depositForm, func(ctx context.Context, customerID string, form url.Values) error {
		cust, _ := c.Govern.Customer(customerID)
		p, err := payment(form, cust.Currency)
		if err == nil {
			_, err = c.Collect.Deposit(ctx, operatorActor, customerID, p)
		}
		return err
	})
}

// payment reads the fields of a payment.
func payment(form url.Values, currency money.Currency) (collect.NewPayment, error) {
	amount, err := amountIn(form.Get("amount"), currency)
	return collect.NewPayment{
		Amount: amount, Method: strings.TrimSpace(form.Get("method")), Reference: strings.TrimSpace(form.Get("reference")), Note: strings.TrimSpace(form.Get("note")),
	}, err
}

// amountIn reads money as people write it.
func amountIn(text string, currency money.Currency) (money.Amount, error) {
	d, err := money.ParseDecimal(strings.TrimSpace(text))
	if err == nil {
		var minor int64
		if minor, err = d.Scaled(currency.Digits()); err == nil {
			return money.NewAmount(minor, currency), nil
		}
	}
	return money.Amount{}, &govern.Invalid{Pointer: "/amount", Rule: fmt.Sprintf("must be a number with at most %d decimals", currency.Digits()), Fix: "such as 12.34"}
}

// billTo changes who invoices are made out to.
func (c *console) billTo(r *http.Request) (answer, error) {
	return c.allow(r, billingForm, func(ctx context.Context, customerID string, form url.Values) error {
		_, err := c.Govern.UpdateCustomer(ctx, operatorActor, customerID, func(_ *string, d *account.BillingDetails) {
			for _, f := range billingFields(d) {
				*f.value = strings.TrimSpace(form.Get(f.name))
			}
			d.Exempt = form.Get("exempt") == "yes"
		})
		return err
	})
}

// billingField is a field of the form of billing details.
type billingField struct {
	name, label, hint string
	value             *string
}

func billingFields(d *account.BillingDetails) []billingField {
	return []billingField{
		{"legal_name", "Legal name", "", &d.LegalName},
		{"street", "Street", "", &d.Street},
		{"postal_code", "Postal code", "", &d.PostalCode},
		{"city", "City", "", &d.City},
		{"region", "Region", "", &d.Region},
		{"country", "Country", "two letters, such as FR", &d.Country},
		{"tax_id", "Tax id", "", &d.TaxID},
		{"email", "E-mail", "", &d.Email},
	}
}
