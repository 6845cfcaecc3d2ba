package console

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/app/credits"
	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/web/statement"
	"github.com/tallystick/tallystick/internal/web/ui"
)

// allowancesShown bounds the overrides on a customer's page, and the grants of each meter.
const allowancesShown = 20

// allowances are what a customer is allowed apart from the plan, and what the forms about it need.
type allowances struct {
	overrides []account.Override
	balances  []credits.Balance
	hints     map[string]string // the ends of keys, by id
	limits    []string          // keys of the plan's limits
	meters    []string
	refusedForm
}

// refusedForm is a form that was refused; the zero value: none was.
type refusedForm struct {
	wrong   string // why
	wrongOf string // which of the page's forms
	form    url.Values
}

// The forms of the page.
const (
	overrideForm = "override"
	grantForm    = "grant"
	changeForm   = "change"
	couponForm   = "coupon"
	depositForm  = "deposit"
	billingForm  = "billing"
)

// field is what was typed into a form that was refused.
func (v refusedForm) field(form, name string) string {
	if v.wrongOf != form {
		return ""
	}
	return v.form.Get(name)
}

func (c *console) allowances(ctx context.Context, s statement.Statement, keys []account.APIKey) (v allowances, err error) {
	q := govern.Query{CustomerID: s.Customer.ID, Limit: allowancesShown}
	if v.overrides, err = c.Govern.ListOverrides(ctx, q); err != nil {
		return v, err
	}
	if v.balances, _, err = c.cfg.Credits.Balances(ctx, s.Customer.ID); err != nil {
		return v, err
	}
	v.hints = map[string]string{}
	for _, k := range keys {
		v.hints[k.ID] = k.Hint
	}
	cat := c.Govern.Current()
	plan, _ := cat.Plan(s.Subscription.Plan)
	for _, l := range plan.Limits {
		v.limits = append(v.limits, l.Key)
	}
	for _, m := range cat.Meters {
		v.meters = append(v.meters, m.Key)
	}
	return v, nil
}

// lifetime is a choice of how long an override or grant holds.
type lifetime struct{ value, text string }

func lifetimes() []lifetime {
	return []lifetime{{"", "without end"}, {"1h", "1 hour"}, {"24h", "24 hours"}, {"168h", "7 days"}, {"720h", "30 days"}, {"8760h", "365 days"}}
}

// until is when what begins now is over.
func (c *console) until(form url.Values) (time.Time, error) {
	text := form.Get("for")
	if text == "" {
		return time.Time{}, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return time.Time{}, &govern.Invalid{Pointer: "/for", Rule: "is no duration", Fix: "choose one of the list"}
	}
	return c.Clock.Now().Add(d), nil
}

func (c *console) createOverride(r *http.Request) (answer, error) {
	return c.allow(r, overrideForm, func(ctx context.Context, customerID string, form url.Values) error {
		until, err := c.until(form)
		if err != nil {
			return err
		}
		_, err = c.Govern.CreateOverride(ctx, operatorActor, govern.NewOverride{
			Customer: customerID, Limit: form.Get("limit"), Value: strings.TrimSpace(form.Get("value")), Burst: strings.TrimSpace(form.Get("burst")),
			Reason: strings.TrimSpace(form.Get("reason")), ExpiresAt: until,
		})
		return err
	})
}

func (c *console) endOverride(r *http.Request) (answer, error) {
	return c.allow(r, overrideForm, func(ctx context.Context, _ string, form url.Values) error {
		_, err := c.Govern.EndOverride(ctx, operatorActor, form.Get("id"))
		return err
	})
}

func (c *console) createGrant(r *http.Request) (answer, error) {
	return c.allow(r, grantForm, func(ctx context.Context, customerID string, form url.Values) error {
		until, err := c.until(form)
		if err != nil {
			return err
		}
		priority := 0
		if text := strings.TrimSpace(form.Get("priority")); text != "" {
			if priority, err = strconv.Atoi(text); err != nil {
				return &govern.Invalid{Pointer: "/priority", Rule: "is no whole number", Fix: "leave it out, or give a number such as 10"}
			}
		}
		_, err = c.cfg.Credits.CreateGrant(ctx, operatorActor, credits.NewGrant{
			Customer: customerID, Meter: form.Get("meter"), Amount: strings.TrimSpace(form.Get("amount")), Kind: account.GrantKind(form.Get("kind")),
			Priority: priority, Reason: strings.TrimSpace(form.Get("reason")), ExpiresAt: until,
		})
		return err
	})
}

func (c *console) voidGrant(r *http.Request) (answer, error) {
	return c.allow(r, grantForm, func(ctx context.Context, _ string, form url.Values) error {
		_, err := c.cfg.Credits.VoidGrant(ctx, operatorActor, form.Get("id"), strings.TrimSpace(form.Get("reason")))
		return err
	})
}

// allow does what a form on a customer's page asks for, and shows the page again.
func (c *console) allow(r *http.Request, which string, do func(ctx context.Context, customerID string, form url.Values) error) (answer, error) {
	form, err := eventForm(r)
	if err != nil {
		return answer{}, err
	}
	cust, ok := c.Govern.Customer(r.PathValue("ref"))
	if !ok {
		return answer{}, fmt.Errorf("customer %q: %w", r.PathValue("ref"), account.ErrNotFound)
	}
	if err = do(r.Context(), cust.ID, form); err == nil {
		return answer{to: root.Customer(cust.Key) + "#" + which + "s-title"}, nil
	}
	text, ok := refusal(err)
	if !ok {
		return answer{}, err
	}
	v, err := c.customerView(r)
	if err != nil {
		return answer{}, err
	}
	v.refusedForm = refusedForm{text, which, form}
	return answer{status: http.StatusUnprocessableEntity, page: customerPage(c.frame(r, v.Customer.Key), v)}, nil
}

// overrideState is how an override stands, and how that looks.
func overrideState(o account.Override, now time.Time) (tone, text string) {
	switch {
	case !o.EndedAt.IsZero():
		return "plain", "ended"
	case o.Active(now):
		return statement.Good, "active"
	}
	return "plain", "expired"
}

// overrideValue is the number that an override sets.
func overrideValue(o account.Override) string {
	switch {
	case o.Burst == "":
		return o.Value
	case o.Value == "":
		return "burst " + o.Burst
	}
	return o.Value + ", burst " + o.Burst
}

// grantState is how a grant stands, and how that looks.
func grantState(g *account.Grant, now time.Time) (tone, text string) {
	text = credits.Status(g, now)
	if text == credits.Active {
		return statement.Good, text
	}
	return "plain", text
}

// newest are the last grants of a balance, the newest first.
func newest(b *credits.Balance) []credits.GrantBalance {
	list := slices.Clone(b.Grants)
	slices.Reverse(list)
	return list[:min(len(list), allowancesShown)]
}

// creditName is what a balance is of.
func creditName(b *credits.Balance, currency string) string {
	if b.Meter == "" {
		return currency
	}
	return b.Meter
}

// exactly is a quantity as the pages show numbers; what does not end is cut.
func exactly(r money.Rational) string {
	d, inexact, err := r.Decimal()
	if err != nil {
		return r.String()
	}
	if inexact {
		if d, err = r.RoundTo(quantityShown); err != nil {
			return r.String()
		}
	}
	return ui.Count(d)
}

// quantityShown is how many decimals of a fraction are shown.
const quantityShown = 6
