package lessee

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/quota"
	"github.com/tallystick/tallystick/internal/store"
)

// basis is what all sets of a customer are built from. n counts how often it has changed.
type basis struct {
	n        uint64
	cat      *catalog.Compiled
	revision uint64
	customer account.Customer
	sub      account.Subscription
	plans    *catalog.Compiled // where the plan stands: cat, or the version that last had it
	plan     catalog.Plan      // as it is in force for the customer, but for overrides of single keys
	byKey    []account.Override
	ids      map[string]string // ids of the overrides in plan, by limit
	until    int64             // microseconds: when an override ends
	looks    []*catalog.Route  // see views
}

// rebase takes up another catalog, subscription or override. Counters and what they count stay.
func (l *Lessee) rebase(ctx context.Context, c *customer, q *Question, now int64) error {
	b := &c.basis
	p := q.Principal
	if b.cat != nil && q.Catalog.Version <= b.cat.Version && p.Revision == b.revision && p.Subscription.ID == b.sub.ID && now < b.until {
		return nil
	}
	next := basis{n: b.n + 1, cat: q.Catalog, revision: p.Revision, customer: p.Customer, sub: p.Subscription, until: math.MaxInt64, ids: map[string]string{}}
	if b.cat != nil && b.cat.Version > q.Catalog.Version { // a request that has read the catalog just before it changed
		next.cat = b.cat
	}
	next.plans = next.cat
	plan, ok := next.cat.Plan(p.Subscription.Plan)
	if !ok { // the plan left the catalog: its last known limits hold
		pinned, err := l.cfg.Directory.Version(ctx, p.Subscription.CatalogVersion)
		if err != nil {
			return err
		}
		if plan, ok = pinned.Plan(p.Subscription.Plan); !ok {
			return fmt.Errorf("plan %q is in no catalog version", p.Subscription.Plan)
		}
		next.plans = pinned
	}
	next.plan = plan
	next.plan.Limits = slices.Clone(plan.Limits)
	for _, o := range l.cfg.Directory.Overrides(c.id) {
		if !o.Active(time.UnixMicro(now)) {
			continue
		}
		if !o.ExpiresAt.IsZero() {
			next.until = min(next.until, o.ExpiresAt.UnixMicro())
		}
		if o.KeyID != "" {
			next.byKey = append(next.byKey, o)
			continue
		}
		for i := range next.plan.Limits {
			if next.plan.Limits[i].Key == o.Limit && override(&next, &next.plan.Limits[i], o) {
				next.ids[o.Limit] = o.ID
			}
		}
	}
	*b = next
	clear(c.routes)
	c.lastRoute, c.lastTemplate = nil, nil
	c.gen++
	c.strays = nil
	for _, ctr := range c.counters {
		if ctr.keep(); ctr.whose.Project == "" && ctr.whose.Key == "" && ctr.whose.User == "" {
			c.strays = append(c.strays, ctr)
		}
	}
	return nil
}

// stray finds counters that count what the set counts, and that no limit of the plan uses now. They go on counting, so that a limit
// that comes back finds what was used meanwhile. Of those of single keys or users that is not known.
func (c *customer) stray(s *Set, route *catalog.Route, now int64) {
	for _, ctr := range c.strays {
		if !ctr.known || ctr.leaving || ctr.id.class == atOnce || ctr.key.Meter != s.Meter || ctr.end != 0 && (now < ctr.key.Start || now >= ctr.end) {
			continue
		}
		if ctr.whose.Route != "" && ctr.whose.Route != route.Match || len(ctr.routes) > 0 && !slices.Contains(ctr.routes, route.Match) {
			continue
		}
		if !slices.Contains(s.counters, ctr) {
			s.strays = append(s.strays, ctr)
			if ctr.end != 0 {
				s.until = min(s.until, ctr.end)
			}
		}
	}
}

// template is what a route asks for, whoever asks: limits of the plan with the scopes they need.
type template struct {
	meter    catalog.Meter // zero for an unmetered route
	limits   []catalog.Limit
	per      uint8 // bit PerX: a limit needs it
	sets     map[quota.Whose]*Set
	last     *Set
	overKeys bool // overrides of single keys matter
}

func (t *template) needs(s catalog.Scope) bool { return t.per&(1<<s) != 0 }

// applies tells whether a limit counts requests on the route. One on money counts wherever there may be a price.
func applies(lim *catalog.Limit, cat *catalog.Compiled, route *catalog.Route) bool {
	switch {
	case len(lim.Routes) > 0 && !slices.Contains(lim.Routes, route.Match):
		return false
	case lim.Money():
		m, ok := cat.Meter(route.Meter)
		return ok && (m.Aggregation == 0 || m.Aggregation.Additive())
	case lim.Concurrency > 0 && lim.Meter == "":
		return true
	}
	return route.Meter != "" && lim.Meter == route.Meter
}

func (c *customer) template(route *catalog.Route) (*template, error) {
	t := c.routes[route]
	if t != nil {
		return t, nil
	}
	if len(c.routes) >= routesMax {
		clear(c.routes)
	}
	t = &template{sets: map[quota.Whose]*Set{}, overKeys: len(c.basis.byKey) > 0}
	if route.Meter != "" {
		m, ok := c.basis.cat.Meter(route.Meter)
		if !ok {
			return nil, fmt.Errorf("meter %q is not in catalog version %d", route.Meter, c.basis.cat.Version)
		}
		t.meter = m
	}
	for i := range c.basis.plan.Limits {
		lim := &c.basis.plan.Limits[i]
		if !applies(lim, c.basis.cat, route) {
			continue
		}
		t.limits = append(t.limits, *lim)
		for _, s := range lim.Per {
			t.per |= 1 << s
		}
	}
	c.routes[route] = t
	return t, nil
}

// whose are the values that matter on the route. Requests that name none share one counter: leaving a name out must not be a way
// around a limit. A list of limits leaves it out.
func (t *template) whose(q *Question) (w quota.Whose) {
	if t.per == 0 {
		return w
	}
	none := quota.Nobody
	if q.Listing {
		none = ""
	}
	if t.needs(catalog.PerProject) {
		w.Project = cmp.Or(q.Principal.Key.Project, none)
	}
	if t.needs(catalog.PerKey) {
		w.Key = cmp.Or(q.Principal.Key.ID, none)
	}
	if t.needs(catalog.PerUser) {
		w.User = cmp.Or(q.User, none)
	}
	return w
}

// Rule is a limit of a set apart from its numbers.
type Rule struct {
	Declared catalog.Limit // as in force for the customer
	Scope    string        // whose counter it is, as quota.ScopeText
	Override string        // id of the override in force; empty: none
	Cap      *Cap          // of a spend cap
}

// Set is what a request of one class must pass. It does not change, but for what follows unguarded.
type Set struct {
	Plan        string
	Version     int64 // of the catalog
	Meter       string
	Event       string // the meter's event type
	Scale       int
	PeriodStart int64 // billing period, microseconds
	Total       *Total
	load        *load
	Limits      []quota.Limit
	Rules       []Rule
	Anchor      period.Anchor
	Passing     atomic.Pointer[Passing] // the last answer of WouldPassOn

	customer    account.Customer
	whose       quota.Whose
	priced      int64 // microseconds: since when usage is charged as it is
	basis       uint64
	counters    []*counter
	strays      []*counter // see stray
	views       []*view
	states      []*quota.State
	from, until int64 // microseconds: when all windows are those of the set
	atOnce      bool  // a limit counts requests that run at once

	// Owner: the customer's mu.
	checked  uint64 // the customer's gen when all counters were found usable
	lapses   bool   // a counter is good only while the authority is heard, in this span
	span     uint64
	leaseGen uint64
	leases   []uint32
	used     bool // since the last sweep
	idle     int  // sweeps without use
}

// set finds or builds what a request must pass at an instant.
func (l *Lessee) set(ctx context.Context, c *customer, q *Question, now int64) (*Set, error) {
	if err := l.rebase(ctx, c, q, now); err != nil {
		return nil, err
	}
	t := c.lastTemplate
	if c.lastRoute != q.Route || t == nil {
		var err error
		if t, err = c.template(q.Route); err != nil {
			return nil, err
		}
		c.lastRoute, c.lastTemplate = q.Route, t
	}
	w := t.whose(q)
	s := t.last
	if s == nil || s.whose != w {
		s = t.sets[w]
	}
	if s != nil && s.from <= now && now < s.until {
		t.last = s
		return s, nil
	}
	if s != nil { // its leases are of the past
		l.hurry(c)
	}
	s, err := l.build(ctx, c, t, q, w, now)
	if err != nil {
		return nil, err
	}
	t.last, t.sets[w] = s, s
	return s, nil
}

func (l *Lessee) build(ctx context.Context, c *customer, t *template, q *Question, w quota.Whose, now int64) (*Set, error) {
	b := &c.basis
	s := &Set{
		Plan: b.plan.Key, Version: b.cat.Version, Meter: t.meter.Key, Event: t.meter.Event, Scale: t.meter.Scale,
		Anchor: b.sub.Anchor(b.customer.Zone), customer: b.customer, whose: w, basis: b.n, from: math.MinInt64, until: b.until,
	}
	billing, ok := s.Anchor.Period(time.UnixMicro(now))
	if !ok {
		return nil, fmt.Errorf("subscription %s has not begun", b.sub.ID)
	}
	s.PeriodStart = billing.Start.UnixMicro()
	s.priced = b.sub.Start.UnixMicro()
	if !b.sub.PricedAt.IsZero() {
		s.priced = b.sub.PricedAt.UnixMicro()
	}
	s.from, s.until = s.PeriodStart, min(s.until, billing.End.UnixMicro())
	if s.Meter != "" {
		s.Total, s.load = c.newest(s.Meter, s.PeriodStart), c.load(s.Meter)
	}
	full := w
	full.Route = q.Route.Match
	nth := map[string]int64{}
	for i := range t.limits {
		if err := l.addLimit(ctx, c, s, t.limits[i], full, nth, now); err != nil {
			return nil, err
		}
	}
	c.stray(s, q.Route, now)
	return s, nil
}

// addLimit appends a limit to the set, unless there is no value for one of its scopes.
func (l *Lessee) addLimit(ctx context.Context, c *customer, s *Set, lim catalog.Limit, w quota.Whose, nth map[string]int64, now int64) error {
	mine, ok := scoped(lim.Per, w)
	if !ok {
		return nil
	}
	b := &c.basis
	r := Rule{Scope: quota.ScopeText(mine, slices.Sorted(slices.Values(lim.Routes))), Override: b.ids[lim.Key]}
	if slices.Contains(lim.Per, catalog.PerKey) {
		for _, o := range b.byKey {
			if o.KeyID == w.Key && o.Limit == lim.Key && override(b, &lim, o) {
				r.Override = o.ID
			}
		}
	}
	r.Declared = lim
	compiled, err := compile(b, &lim, s.Meter)
	if err != nil {
		return err
	}
	if compiled.Kind == quota.SpendCap {
		if r.Cap, err = l.spendCap(ctx, b, &lim); err != nil {
			return err
		}
	}
	key, end, ok := keyOf(&compiled, s, r.Scope, nth, now)
	if !ok {
		return fmt.Errorf("limit %s has no window at this time", lim.Key)
	}
	if end != 0 {
		s.from, s.until = max(s.from, key.Start), min(s.until, end)
	}
	ctr, err := l.counter(c, key, end, &compiled, mine)
	if err != nil {
		return err
	}
	ctr.routes = lim.Routes
	s.atOnce = s.atOnce || ctr.id.class == atOnce
	v := ctr.view(&compiled, &lim)
	s.Limits, s.Rules = append(s.Limits, compiled), append(s.Rules, r)
	s.counters, s.views, s.states = append(s.counters, ctr), append(s.views, v), append(s.states, &v.state)
	return nil
}

// compile is one limit in the meter's scale.
func compile(b *basis, lim *catalog.Limit, meterKey string) (quota.Limit, error) {
	cat := b.plans.Catalog
	if _, ok := cat.Meter(meterKey); !ok && meterKey != "" {
		cat = b.cat.Catalog
	}
	plan := b.plan
	plan.Limits = []catalog.Limit{*lim}
	out, err := cat.CompileLimits(plan, meterKey)
	if err != nil {
		return quota.Limit{}, err
	}
	if len(out) != 1 {
		return quota.Limit{}, fmt.Errorf("limit %s does not count %s", lim.Key, meterKey)
	}
	return out[0], nil
}

// scoped are the values that a limit's scopes take; ok is false where one is missing.
func scoped(per []catalog.Scope, w quota.Whose) (mine quota.Whose, ok bool) {
	for _, p := range per {
		var from, to *string
		switch p {
		case catalog.PerProject:
			from, to = &w.Project, &mine.Project
		case catalog.PerKey:
			from, to = &w.Key, &mine.Key
		case catalog.PerUser:
			from, to = &w.User, &mine.User
		case catalog.PerRoute:
			from, to = &w.Route, &mine.Route
		default:
			return mine, false
		}
		if *from == "" {
			return mine, false
		}
		*to = *from
	}
	return mine, true
}

// usable tells whether the set's counters are known and their leases good. It is asked on each decision, so it looks at the
// counters only after something has changed.
func (l *Lessee) usable(c *customer, s *Set) bool {
	if s.checked == c.gen && (!s.lapses || l.heard(s.span)) {
		return true
	}
	s.lapses = false
	for _, ctr := range s.counters {
		if ctr.ready && ctr.lapses {
			if s.lapses, s.span = true, ctr.span; !l.heard(ctr.span) {
				l.lapse(c, ctr)
			}
		}
		if !ctr.ready {
			return false
		}
	}
	s.checked = c.gen
	return true
}

// Leases are the short names of the leases that the set draws on. The slice is shared and must not be changed.
func (s *Set) named(c *customer) []uint32 {
	if s.leases == nil || s.leaseGen != c.leaseGen {
		s.leaseGen = c.leaseGen
		s.leases = make([]uint32, 0, len(s.counters))
		for _, ctr := range s.counters {
			if ctr.named && ctr.lease != 0 && !slices.Contains(s.leases, ctr.lease) {
				s.leases = append(s.leases, ctr.lease)
			}
		}
	}
	return s.leases
}

// Counter is the key of limit i's counter.
func (s *Set) Counter(i int) store.CounterKey { return s.counters[i].key }
