package lessee

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/quota"
	"github.com/tallystick/tallystick/internal/store"
)

// Line is one limit of a customer now, or one entitlement. Quantities are decimals in the meter's unit, a spend cap's in its
// currency, requests at once a number.
type Line struct {
	Key, Meter, Window         string
	Kind                       quota.Kind
	Consumed, Quota, Remaining money.Decimal
	WindowStart, ResetsAt      time.Time
	Currency                   string // of limits on money only
	Credits                    bool   // of money: it is on credits
	Enforcement                string // the mode as text: "hard"
	Bound                      string // how far it can be passed: "0"
	CatalogVersion             int64

	Mode        quota.Mode
	Scope       string        // whose counter it is (quota.ScopeText); of a limit that the asker has no value for: "per user"
	Template    bool          // there are many such counters, and the asker has none of them: consumed and remaining say nothing
	Overage     money.Decimal // beyond the limit, of those that may be passed
	Failure     string        // when the authority cannot be reached: "closed"
	Override    string        // id of the override that the number comes from
	Shared      bool          // other gateways hold a part
	Entitlement string        // the value of an entitlement, which is no limit; else empty
}

// Lines lists every limit of a principal's plan with its present state, and its entitlements, in the plan's order. gateways is how
// many the bounds are stated for.
func (l *Lessee) Lines(ctx context.Context, p *account.Principal, gateways int) ([]Line, error) {
	if l.cfg.Others == nil || !l.cfg.Others.Any() {
		return l.listed(ctx, p, gateways, false, nil)
	}
	list, err := l.listed(ctx, p, gateways, true, nil) // what others hold since it was last asked
	if err != nil || !slices.ContainsFunc(list, func(n Line) bool { return n.Shared }) {
		return list, err
	}
	return l.listed(ctx, p, gateways, false, l.cfg.Others.Idle(ctx, p.Customer.ID))
}

// listed makes the list; anew: all counters are asked for. idle is what others hold and have not used.
func (l *Lessee) listed(ctx context.Context, p *account.Principal, gateways int, anew bool, idle map[store.CounterKey]authority.Idle) ([]Line, error) {
	cat := l.cfg.Directory.Current()
	c := l.customer(p.Customer.ID)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.changed.Swap(false) || anew {
		c.reread()
	}
	if anew {
		for _, ctr := range c.counters {
			ctr.ready = ctr.ready && ctr.limit.Kind != quota.Concurrency
		}
	}
	q := &Question{Catalog: cat, Principal: p, Listing: true}
	if err := l.rebase(ctx, c, q, l.cfg.Now().UnixMicro()); err != nil {
		return nil, err
	}
	list := &listing{gateways: gateways, idle: idle, lines: map[string][]Line{}, seen: map[listed]bool{}}
	for _, route := range c.views() {
		q.Route = route
		s, now, err := l.look(ctx, c, q)
		if err != nil {
			return nil, err
		}
		for i := range s.Limits {
			if err := list.add(c, s, i, now); err != nil {
				return nil, err
			}
		}
	}
	return list.inOrder(&c.basis), nil
}

// views are the routes under which all limits are seen: one without a pattern for each meter, and those that limits name.
func (c *customer) views() []*catalog.Route {
	b := &c.basis
	if b.looks == nil {
		b.looks = []*catalog.Route{{}}
		for _, m := range b.cat.Meters {
			b.looks = append(b.looks, &catalog.Route{Meter: m.Key})
		}
		byRoute := func(lim *catalog.Limit, r *catalog.Route) bool {
			return applies(lim, b.cat, r) && (len(lim.Routes) > 0 || slices.Contains(lim.Per, catalog.PerRoute))
		}
		for i := range b.cat.Routes {
			r := &b.cat.Routes[i]
			if slices.ContainsFunc(b.plan.Limits, func(lim catalog.Limit) bool { return byRoute(&lim, r) }) {
				b.looks = append(b.looks, r)
			}
		}
	}
	return b.looks
}

// look finds a set and has its counters read. Without the authority it is as it was last known.
func (l *Lessee) look(ctx context.Context, c *customer, q *Question) (s *Set, now int64, err error) {
	for range asksMax {
		now = l.cfg.Now().UnixMicro()
		if s, err = l.set(ctx, c, q, now); err != nil || l.usable(c, s) {
			return s, now, err
		}
		if err = l.draw(ctx, c, s, 0, now); errors.Is(err, authority.ErrUnreachable) {
			return s, now, nil
		}
		if err != nil {
			return nil, now, err
		}
	}
	return s, now, nil
}

// listing collects lines by limit.
type listing struct {
	gateways int
	idle     map[store.CounterKey]authority.Idle
	lines    map[string][]Line
	seen     map[listed]bool
}

type listed struct {
	limit string
	id    counterID
}

func (list *listing) add(c *customer, s *Set, i int, now int64) error {
	at := listed{s.Limits[i].Key, s.counters[i].id}
	if list.seen[at] {
		return nil
	}
	list.seen[at] = true
	n, err := s.line(i, list.unused(&s.Limits[i], s.counters[i].key, s.states[i]), now)
	if err != nil {
		return err
	}
	n.Bound = c.basis.cat.Overshoot(&c.basis.plan, &s.Rules[i].Declared, list.gateways).String()
	if n.Credits && len(list.lines[n.Key]) > 0 {
		return nil
	}
	if have := list.lines[n.Key]; n.Kind == quota.SpendCap && len(have) > 0 { // it stands with each priced meter: its spend is the sum
		if n.Consumed, err = n.Consumed.Add(have[0].Consumed); err != nil {
			return err
		}
		if n.Remaining, err = left(n.Quota, n.Consumed); err != nil {
			return err
		}
		list.lines[n.Key] = nil
	}
	list.lines[n.Key] = append(list.lines[n.Key], n)
	return nil
}

func (list *listing) inOrder(b *basis) []Line {
	var out []Line
	for i := range b.plan.Limits {
		lim := &b.plan.Limits[i]
		lines := list.lines[lim.Key]
		if len(lines) == 0 {
			lines = []Line{unknownLine(b, lim, list.gateways)}
		}
		out = append(out, lines...)
	}
	for _, e := range b.plan.Entitlements {
		out = append(out, Line{Key: e.Key, Entitlement: e.Value, CatalogVersion: b.cat.Version})
	}
	return out
}

// unknownLine is a limit that the asker has no counter of.
func unknownLine(b *basis, lim *catalog.Limit, gateways int) Line {
	n := Line{
		Key: lim.Key, Meter: lim.Meter, Mode: lim.Mode, Enforcement: lim.Mode.String(), Failure: lim.Failure.String(), Template: true,
		Override: b.ids[lim.Key], CatalogVersion: b.cat.Version, Bound: b.cat.Overshoot(&b.plan, lim, gateways).String(),
	}
	per := make([]string, len(lim.Per))
	for i, s := range lim.Per {
		per[i] = s.String()
	}
	n.Scope = "per " + strings.Join(per, ", ")
	compiled, err := compile(b, lim, lim.Meter)
	if err != nil {
		return n
	}
	scale := 0
	if m, ok := b.cat.Meter(lim.Meter); ok && compiled.Kind != quota.Concurrency {
		scale = m.Scale
	}
	n.Kind, n.Window = compiled.Kind, windowText(&compiled)
	size := compiled.Quota
	if n.Kind == quota.TokenBucket {
		size = compiled.Burst
	}
	n.Quota = money.FromScaled(size, scale)
	n.Remaining = n.Quota
	return n
}

func left(limit, consumed money.Decimal) (money.Decimal, error) {
	d, err := limit.Sub(consumed)
	if err != nil || d.Sign() < 0 {
		return money.Decimal{}, err
	}
	return d, nil
}

// windowText names what a limit counts in.
func windowText(lim *quota.Limit) string {
	switch lim.Kind {
	case quota.TokenBucket:
		return "token_bucket"
	case quota.Concurrency:
		return "concurrency"
	case quota.Credits:
		return "credits"
	case quota.Fixed:
		return "fixed " + catalog.FormatSpan(time.Duration(lim.Length)*time.Microsecond)
	case quota.Rolling:
		return "rolling " + catalog.FormatSpan(time.Duration(lim.Length)*time.Microsecond)
	case quota.Quota, quota.SpendCap:
	}
	return lim.Window.String()
}

// unused is a state without what others hold and have not used.
func (list *listing) unused(lim *quota.Limit, k store.CounterKey, st *quota.State) *quota.State {
	if len(list.idle) == 0 {
		return st
	}
	out := lim.Without(*st, func(start int64) int64 {
		k.Start = start
		if lim.Kind == quota.Concurrency {
			return list.idle[k].AtOnce
		}
		return list.idle[k].Units
	})
	return &out
}

func (s *Set) line(i int, st *quota.State, now int64) (Line, error) {
	lim, r := &s.Limits[i], &s.Rules[i]
	scale := s.Scale
	if lim.Kind == quota.Concurrency {
		scale = 0
	}
	remaining, resetAt := quota.Remaining(lim, st, now)
	n := Line{
		Key: lim.Key, Meter: lim.Meter, Kind: lim.Kind, Enforcement: lim.Mode.String(), Mode: lim.Mode, CatalogVersion: s.Version,
		Window: windowText(lim), Remaining: money.FromScaled(remaining, scale), Scope: r.Scope, Failure: r.Declared.Failure.String(),
		Override: r.Override, Shared: st.Shared,
	}
	if resetAt != 0 {
		n.ResetsAt = time.UnixMicro(resetAt).UTC()
	}
	switch lim.Kind {
	case quota.TokenBucket:
		size := lim.Burst
		if st.Per > 0 {
			size = st.Burst
		}
		n.Quota, n.Consumed = money.FromScaled(lim.Burst, scale), money.FromScaled(size-remaining, scale)
		return n, nil
	case quota.SpendCap:
		if r.Declared.Credits {
			n.Credits = true
			n.Meter, n.Window, n.Currency, n.Remaining = "", "credits", r.Cap.Currency.Code(), money.Decimal{}
			return n, nil
		}
		spent, err := r.Cap.Charge(s.Meter, st.Consumed)
		if err != nil {
			return n, err
		}
		n.Meter, n.Currency, n.Quota, n.Consumed = "", r.Cap.Currency.Code(), r.Cap.Amount, spent
		if n.Remaining, err = left(n.Quota, spent); err != nil {
			return n, err
		}
	case quota.Credits:
		n.Quota, n.Consumed = money.FromScaled(st.Ceiling, scale), money.FromScaled(st.Consumed, scale)
		return n, nil
	case quota.Concurrency, quota.Quota, quota.Fixed, quota.Rolling:
		used := Used(lim, st)
		n.Quota, n.Consumed, n.Overage = money.FromScaled(lim.Quota, scale), money.FromScaled(used, scale), money.FromScaled(max(0, used-lim.Quota), scale)
	}
	if st.WindowEnd != 0 && lim.Kind != quota.Concurrency {
		n.WindowStart = time.UnixMicro(st.WindowStart).UTC()
	}
	if lim.Kind == quota.Quota || lim.Kind == quota.SpendCap || lim.Kind == quota.Fixed {
		n.ResetsAt = time.UnixMicro(st.WindowEnd).UTC()
	}
	return n, nil
}
