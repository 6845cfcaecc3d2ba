// Package oracle says what a subscription's invoices must be, by other means than the engine: it looks at each event and each
// second's state anew, in fractions of big.Rat, and shares no arithmetic with internal/core. It is slow, and for tests alone.
package oracle

import (
	"fmt"
	"math/big"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/price"
	"github.com/tallystick/tallystick/internal/core/subscription"
)

// Event is one event as it counted from some instants on: its value, then what it was amended to; 0 where it was voided.
type Event struct {
	At         time.Time
	Meter      string
	Dimensions []meter.Dimension
	Values     []Value
}

// Value is a quantity that is known from an instant on.
type Value struct {
	Known    time.Time
	Quantity *big.Rat
}

// World is all that invoices are a function of. Steps are the instants at which billing ran; a close sees the changes and the
// values known by the step that closes it.
type World struct {
	Catalogs map[int64]*catalog.Catalog
	Zone     *time.Location
	History  subscription.History
	Events   []Event
	Grace    time.Duration
	Steps    []time.Time
	Coupons  []Coupon // by time of redemption
	Tax      *big.Rat // percent on everything, exclusive, rounded per invoice; nil: none
	HalfEven bool
}

// Coupon is a redemption. Exactly one of Percent and Amount is set.
type Coupon struct {
	ID              string
	Percent, Amount *big.Rat
	Periods         int // 0: forever
	Known           time.Time
}

// Invoice is what must be on one invoice, in minor units.
type Invoice struct {
	Closing              time.Time // the instant that it closes
	Lines                []Line
	Subtotal, Tax, Total int64
}

// Line is an amount on it.
type Line struct {
	What    string
	Minor   int64
	adjusts int // which invoice; 0: none
}

// String is the invoice on a few lines, to be compared.
func (i Invoice) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "%s subtotal %d tax %d total %d", i.Closing.UTC().Format(time.RFC3339Nano), i.Subtotal, i.Tax, i.Total)
	for _, l := range i.Lines {
		fmt.Fprintf(&s, "\n  %s %d", l.What, l.Minor)
	}
	return s.String()
}

// Invoices are all that have a line, in order.
func Invoices(w World) ([]Invoice, error) {
	o := &oracle{World: w, billed: map[string]*big.Rat{}, used: map[string]int64{}, first: map[string]int{}, took: map[string]map[int]bool{}, days: map[time.Time]time.Time{}}
	var out []Invoice
	for _, step := range w.Steps {
		o.now = step
		for {
			c, ok := o.nextClosing(step)
			if !ok {
				break
			}
			o.begun, o.last, o.lastStep = true, c, step
			inv, err := o.invoice(c)
			if err != nil {
				return nil, err
			}
			if len(inv.Lines) > 0 {
				out = append(out, inv)
			}
		}
	}
	return out, nil
}

type oracle struct {
	World
	now      time.Time
	billed   map[string]*big.Rat     // exact, by what it is for
	count    int                     // invoices so far
	first    map[string]int          // the invoice on which a key was billed first
	used     map[string]int64        // of coupons, by id, in minor units
	took     map[string]map[int]bool // the invoices that a coupon was on
	begun    bool                    // something was closed
	last     closing
	lastStep time.Time               // at which it was closed
	looked   time.Time               // the day on which an ended subscription was looked at last
	days     map[time.Time]time.Time // first instants of days that were looked for
}

// closing is one instant that billing closes.
type closing struct{ from, to time.Time }

// known are the changes known now, in force order.
func (o *oracle) known() []subscription.Change {
	var list []subscription.Change
	for _, c := range o.History.Changes {
		if !c.CreatedAt.After(o.now) {
			list = append(list, c)
		}
	}
	sort.SliceStable(list, func(i, j int) bool {
		a, b := list[i], list[j]
		switch {
		case !a.At.Equal(b.At):
			return a.At.Before(b.At)
		case !a.CreatedAt.Equal(b.CreatedAt):
			return a.CreatedAt.Before(b.CreatedAt)
		}
		return a.ID < b.ID
	})
	return list
}

// state is what holds at one instant.
type state struct {
	plan       string
	version    int64
	quantities map[string]*big.Rat
	addOns     map[string]addOn
	prices     map[string]price.Price
	paused     bool
	trial      bool
	anchor     time.Time
	day        int
}

type addOn struct {
	version  int64
	quantity *big.Rat
}

// end is when the subscription ends as far as is known; zero: never.
func (o *oracle) end() time.Time {
	end := o.History.End
	changes := o.known()
	sort.SliceStable(changes, func(i, j int) bool {
		a, b := changes[i], changes[j]
		return a.CreatedAt.Before(b.CreatedAt) || a.CreatedAt.Equal(b.CreatedAt) && a.ID < b.ID
	})
	for _, c := range changes {
		if c.Kind == subscription.Cancel {
			end = c.At
		}
		if c.Kind == subscription.Revive {
			end = time.Time{}
		}
	}
	return end
}

// trialEnd is the first instant that is not free.
func (o *oracle) trialEnd() time.Time {
	end := o.History.Start
	if p, ok := o.planOf(o.History.CatalogVersion, o.History.Plan); ok && p.Terms.TrialDays > 0 {
		y, m, d := o.History.Start.In(o.Zone).Date()
		end = o.firstOf(y, m, d+p.Terms.TrialDays)
	}
	for _, c := range o.known() {
		if c.Kind == subscription.Trial && (c.At.Before(end) || c.At.Equal(o.History.Start)) {
			end = c.Until
		}
	}
	return end
}

func (o *oracle) planOf(version int64, key string) (catalog.Plan, bool) {
	for _, p := range o.Catalogs[version].Plans {
		if p.Key == key {
			return p, true
		}
	}
	return catalog.Plan{}, false
}

// calendarAt is whether billing follows the calendar when a trial ends.
func (o *oracle) calendarAt(at time.Time) bool {
	plan, version := o.History.Plan, o.History.CatalogVersion
	for _, c := range o.known() {
		if c.At.After(at) {
			break
		}
		if c.Kind == subscription.ToPlan {
			plan, version = c.Plan, c.Version
		}
	}
	p, _ := o.planOf(version, plan)
	return p.Terms.Calendar
}

// at replays all changes up to an instant.
func (o *oracle) at(t time.Time) state {
	trialEnd := o.trialEnd()
	var restarts []time.Time // of the anchor; zero: none
	var moved time.Time      // the last instant of a move to another plan
	var from catalog.Plan    // before it
	s := state{
		plan: o.History.Plan, version: o.History.CatalogVersion, quantities: map[string]*big.Rat{}, addOns: map[string]addOn{},
		prices: map[string]price.Price{}, anchor: o.History.Start, day: o.History.BillingDay,
	}
	s.trial = t.Before(trialEnd)
	if trialEnd.After(o.History.Start) && !s.trial && !o.calendarAt(trialEnd) {
		restarts = append(restarts, trialEnd)
	}
	for _, c := range o.known() {
		if c.At.After(t) {
			break
		}
		switch c.Kind {
		case subscription.ToPlan:
			was, _ := o.planOf(s.version, s.plan)
			next, _ := o.planOf(c.Version, c.Plan)
			if !o.fits(s, next) {
				continue
			}
			if !c.At.Equal(moved) { // of several moves at one instant, what was before them and the last one count
				moved, from, restarts = c.At, was, append(restarts, time.Time{})
			}
			restarts[len(restarts)-1] = time.Time{}
			if from.Interval().String() != next.Interval().String() || from.Terms.Calendar != next.Terms.Calendar {
				restarts[len(restarts)-1] = c.At
			}
			s.plan, s.version = c.Plan, c.Version
		case subscription.ToPrices:
			s.version = c.Version
		case subscription.Quantity:
			plan, _ := o.planOf(s.version, s.plan)
			if slices.ContainsFunc(plan.Prices, func(p price.Price) bool { return p.Key == c.Key }) {
				s.quantities[c.Key] = rat(c.Quantity.String())
			}
		case subscription.SetAddOn:
			plan, _ := o.planOf(s.version, s.plan)
			before, had := s.addOns[c.Key]
			s.addOns[c.Key] = addOn{c.Version, rat(c.Quantity.String())}
			if !o.fits(s, plan) {
				delete(s.addOns, c.Key)
				if had {
					s.addOns[c.Key] = before
				}
			}
		case subscription.SetPrice:
			if c.Price == nil {
				delete(s.prices, c.Key)
			} else {
				s.prices[c.Key] = *c.Price
			}
		case subscription.Pause:
			s.paused = true
		case subscription.Resume:
			s.paused = false
		case subscription.Trial, subscription.Cancel, subscription.Revive:
		}
	}
	for _, at := range restarts {
		if at.After(s.anchor) {
			s.anchor, s.day = at, at.In(o.Zone).Day()
		}
	}
	return s
}

// fits says that all add-ons can stand beside a plan. A change whose ground a later decision took away does nothing.
func (o *oracle) fits(s state, plan catalog.Plan) bool {
	for key, a := range s.addOns {
		if a.quantity.Sign() == 0 {
			continue
		}
		for _, x := range o.Catalogs[a.version].AddOns {
			for _, p := range x.Prices {
				if _, whole := p.Every.Times(plan.Interval()); x.Key == key && !whole {
					return false
				}
			}
		}
	}
	return true
}

// priced is a price in force, with what names it.
type priced struct {
	price.Price
	plan, addOn string
	quantity    *big.Rat
}

// prices in force at an instant: of the plan, then of add-ons by key.
func (o *oracle) prices(s state) []priced {
	var list []priced
	add := func(p price.Price, plan, key string, quantity *big.Rat) {
		if own, ok := s.prices[p.Key]; ok {
			p = own
		}
		list = append(list, priced{p, plan, key, quantity})
	}
	plan, _ := o.planOf(s.version, s.plan)
	for _, p := range plan.Prices {
		q := s.quantities[p.Key]
		if q == nil {
			q = big.NewRat(1, 1)
		}
		add(p, s.plan, "", q)
	}
	var keys []string
	for k := range s.addOns {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		a := s.addOns[k]
		if a.quantity.Sign() == 0 {
			continue
		}
		for _, ao := range o.Catalogs[a.version].AddOns {
			if ao.Key != k {
				continue
			}
			for _, p := range ao.Prices {
				add(p, s.plan, k, a.quantity)
			}
		}
	}
	return list
}

func rat(s string) *big.Rat {
	r, ok := new(big.Rat).SetString(s)
	if !ok {
		panic("oracle: " + s + " is no number")
	}
	return r
}
