// Package statement is what a customer sees of their own: where they stand, limits, bill, invoices, decisions. The
// operators' page of a customer and the customer's portal show the same figures with the same words.
package statement

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"time"

	"github.com/tallystick/tallystick/internal/app/bill"
	"github.com/tallystick/tallystick/internal/app/clock"
	"github.com/tallystick/tallystick/internal/app/collect"
	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/app/notify"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/web/ui"
)

// Bounds of the lists on a page.
const (
	decisionsShown = 10
	invoicesShown  = 24
	eventsShown    = 100
	noticesShown   = 10
	decisionsKept  = 1024 // what enforcement keeps of the latest decisions
)

// Sources are where the figures come from; all but Notify, Ship and Collect are required.
type Sources struct {
	Govern  *govern.Service
	Enforce *enforce.Enforcer
	Bill    *bill.Service
	Clock   *clock.Clock
	Notify  *notify.Service // nil: nobody is reminded of anything
	// Ship has all gateways hand over what they settled; nil: there is only Enforce.
	Ship func(ctx context.Context) error
	// Collect knows what became of issued invoices; nil: they show as they were issued.
	Collect *collect.Service
	Log     *slog.Logger
}

// Check says what is missing.
func (s Sources) Check() error {
	if s.Govern == nil || s.Enforce == nil || s.Bill == nil || s.Clock == nil || s.Log == nil {
		return fmt.Errorf("govern, enforce, bill, clock and log are required: %w", account.ErrInvalid)
	}
	return nil
}

// Flush brings what the gateway settled into the journal, so that pages show what was admitted a moment ago. While the
// journal takes nothing, pages still answer, with what it has: behind says so.
func (s Sources) Flush(ctx context.Context) (behind bool) {
	ship := s.Ship
	if ship == nil {
		ship = s.Enforce.Flush
	}
	if err := ship(ctx); err != nil && ctx.Err() == nil { // a reader who left is no fault
		s.Log.WarnContext(ctx, "a page shows older figures: the journal takes no usage", slog.Any("error", err))
		return true
	}
	return false
}

// Root is the path under which the pages of a customer's things stand: "" for operators, "/portal" for customers.
type Root string

// Decision is the page of a decision.
func (r Root) Decision(id string) string { return string(r) + "/decisions/" + url.PathEscape(id) }

// Invoice is the page of an invoice.
func (r Root) Invoice(id string) string { return string(r) + "/invoices/" + url.PathEscape(id) }

// Line is the page of an invoice line by number.
func (r Root) Line(id string, number int) string {
	return r.Invoice(id) + "/lines/" + strconv.Itoa(number)
}

// Customer is the page of a customer, for operators.
func (r Root) Customer(ref string) string { return string(r) + "/customers/" + url.PathEscape(ref) }

// Statement is a customer's present state. Standing is of one journal cut; limits and decisions are read right after.
type Statement struct {
	bill.Standing
	Now       time.Time
	Behind    bool // the journal lacks usage that was admitted
	Plan      catalog.Plan
	Unit      string        // of Used, in words
	Used      money.Decimal // of Standing.Meter in the period
	Allowance Allowance
	Limits    []Limit
	Included  []Entitlement
	Status    Status
	Decisions []enforce.Recent
	Notices   []store.Notice // newest first
}

// Zone is the customer's.
func (s Statement) Zone() period.Zone { return s.Customer.Zone }

// Read gathers a customer's statement; ref is an id or a key. denied leaves out the decisions that admitted.
// account.ErrNotFound for an unknown customer.
func (s Sources) Read(ctx context.Context, ref string, denied bool) (Statement, error) {
	out := Statement{Behind: s.Flush(ctx), Now: s.Clock.Now()}
	var err error
	if out.Standing, err = s.Bill.Standing(ctx, ref); err != nil {
		return Statement{}, err
	}
	out.Decisions = s.decisions(out.Customer.ID, denied)
	if s.Notify != nil {
		if out.Notices, err = s.Notify.List(ctx, notify.Query{CustomerID: out.Customer.ID, Limit: noticesShown}); err != nil {
			return Statement{}, fmt.Errorf("notices of customer %s: %w", out.Customer.Key, err)
		}
	}
	if !out.HasPlan {
		out.Status = Sentence(State{Begins: s.begins(out.Customer.ID, out.Now)})
		return out, nil
	}
	version, err := s.Govern.Version(ctx, out.Subscription.CatalogVersion)
	if err != nil {
		return Statement{}, fmt.Errorf("catalog of subscription %s: %w", out.Subscription.ID, err)
	}
	out.Plan, _ = version.Plan(out.Subscription.Plan)
	if out.Used, err = used(out.Standing); err != nil {
		return Statement{}, err
	}
	out.Unit, out.Allowance = s.unit(out.Meter), AllowanceOf(out.Plan.PricesOf(out.Meter), out.Used)
	states, err := s.Enforce.Limits(ctx, out.Customer.ID)
	if err != nil {
		return Statement{}, fmt.Errorf("limits of customer %s: %w", out.Customer.Key, err)
	}
	s.limits(&out, states)
	state, err := out.state()
	if err != nil {
		return Statement{}, err
	}
	out.Status = Sentence(state)
	return out, nil
}

// limits puts a customer's limits and entitlements in words.
func (s Sources) limits(out *Statement, states []enforce.LimitStatus) {
	cat := s.Govern.Current() // limits are those of the newest catalog
	plan, _ := cat.Plan(out.Subscription.Plan)
	for _, l := range states {
		if l.Entitlement != "" {
			out.Included = append(out.Included, Entitlement{l.Key, l.Entitlement})
			continue
		}
		limit := limitOf(l, s.unit(l.Meter), out.Now)
		for i := range plan.Limits {
			if declared := &plan.Limits[i]; declared.Key == l.Key {
				m, _ := cat.Meter(declared.Meter)
				limit.graced(declared.Grace, m.Scale)
			}
		}
		out.Limits = append(out.Limits, limit)
	}
}

// used is the meter's quantity in the period: what the bill charges for, or without a price the sum of the days.
func used(s bill.Standing) (sum money.Decimal, err error) {
	first := "" // the price that measures it; its lines are parts of the period
	for _, l := range s.Preview.Lines {
		if l.Kind != invoice.UsageLine || l.Meter != s.Meter || !s.Period.Contains(l.Period.Start) || first != "" && l.Price != first {
			continue
		}
		first = l.Price
		if sum, err = sum.Add(l.Quantity); err != nil {
			return sum, fmt.Errorf("sum of the lines: %w", err)
		}
	}
	if first != "" {
		return sum, nil
	}
	for _, d := range s.Daily {
		if sum, err = sum.Add(d.Value); err != nil {
			return sum, fmt.Errorf("sum of the days: %w", err)
		}
	}
	return sum, nil
}

// state is what the sentence is made of.
func (s Statement) state() (State, error) {
	st := State{
		HasPlan: true, Meter: s.Meter != "", Unit: s.Unit, Used: s.Used, Allowance: s.Allowance, Limits: s.Limits,
		PeriodLeft: s.Period.End.Sub(s.Now),
	}
	if len(s.Preview.Lines) == 0 {
		return st, nil
	}
	st.Bill = ui.Amount(s.Preview.Total)
	var cost money.Decimal
	var err error
	for _, l := range s.Preview.Lines {
		if l.Kind != invoice.UsageLine || l.Meter != s.Meter {
			continue
		}
		if cost, err = cost.Add(l.Exact); err != nil {
			return State{}, fmt.Errorf("cost of meter %s: %w", s.Meter, err)
		}
	}
	st.Cost = ui.Money(cost, s.Preview.Currency)
	if s.Allowance.Next != nil && s.Plan.Terms.Minimum == nil && s.Plan.Terms.Maximum == nil { // they may make it cost nothing more
		st.Next = ui.Money(*s.Allowance.Next, s.Preview.Currency)
	}
	return st, nil
}

// begins is how long until the next subscription; 0 for none.
func (s Sources) begins(customerID string, now time.Time) time.Duration {
	for _, sub := range s.Govern.SubscriptionsOf(customerID) {
		if sub.Start.After(now) {
			return sub.Start.Sub(now)
		}
	}
	return 0
}

// unit names what a meter counts.
func (s Sources) unit(meterKey string) string {
	if m, ok := s.Govern.Current().Meter(meterKey); ok && m.Unit != "" {
		return m.Unit
	}
	return ui.Words(meterKey)
}

func (s Sources) decisions(customerID string, denied bool) []enforce.Recent {
	all := s.Enforce.Recent(customerID, decisionsKept)
	var out []enforce.Recent
	for _, d := range all {
		if len(out) == decisionsShown {
			break
		}
		if !denied || !Allowed(d) {
			out = append(out, d)
		}
	}
	return out
}

// Invoices are a customer's latest, finalized ones.
func (s Sources) Invoices(ctx context.Context, customerID string) ([]invoice.Invoice, error) {
	list, err := s.Bill.Invoices(ctx, govern.Query{CustomerID: customerID, Limit: invoicesShown})
	if err != nil {
		return nil, err
	}
	return list, s.Settle(ctx, list)
}

// Settle gives issued invoices their present status and what is left to pay of them.
func (s Sources) Settle(ctx context.Context, list []invoice.Invoice) error {
	if s.Collect == nil || len(list) == 0 {
		return nil
	}
	views, err := s.Collect.Views(ctx, list)
	if err != nil {
		return err
	}
	for i := range list {
		list[i].Status, list[i].Due = views[i].Status, views[i].Remaining
	}
	return nil
}
