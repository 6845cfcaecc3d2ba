package lessee

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/app/authority/arith"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/quota"
)

const (
	// asksMax bounds how often one request may ask the authority before it is refused as unavailable; an answer may be void because
	// another gateway took back what it gave. turnsMax bounds how often it may wait behind others.
	asksMax  = 16
	turnsMax = 1024
	// A draw asks for leaseCosts requests' worth. The authority gives a part of what is left, so that leases shrink as a limit nears.
	leaseCosts = 8192
	// For so long after a call that did not reach the authority it is not tried again.
	downFor = 100 * time.Millisecond
)

// Decide decides on all limits at once: on Allow the cost is taken from all of them and h holds it, otherwise from none. names are
// the leases that it was drawn on; they are shared and must not be changed. Errors: ErrCost; ErrCrowded;
// authority.ErrUnreachable where a limit's failure mode is closed; ctx's, for one who waited behind another request.
func (l *Lessee) Decide(ctx context.Context, q *Question) (h Hold, names []uint32, err error) {
	c := l.customer(q.Principal.Customer.ID)
	q.Set, q.Refused = nil, -1
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.changed.Load() && c.changed.Swap(false) {
		c.reread()
	}
	var unreachable error
	for asks, turns := 0, 0; asks < asksMax && turns < turnsMax; turns++ {
		now := l.cfg.Now().UnixMicro()
		s, err := l.set(ctx, c, q, now)
		if err != nil {
			return h, nil, err
		}
		q.Now = now
		if q.Set != s {
			q.Set = s
			if q.Cost, err = s.cost(q); err != nil {
				return h, nil, err
			}
		}
		if unreachable != nil {
			return l.decideAlone(c, s, q, unreachable)
		}
		q.Decision.Verdict = quota.Short
		if l.usable(c, s) {
			quota.Decide(&q.Decision, s.Limits, s.states, q.Cost, now)
		}
		switch q.Decision.Verdict {
		case quota.Allow, quota.Deny:
			s.force(q, s.states)
			h, names = l.decided(c, s, q)
			return h, names, nil
		case quota.Stale: // the window that holds now is another one than when the set was looked up
			s.until = s.from
			continue
		case quota.Short:
		}
		if c.flight == nil {
			asks++
		}
		if err := l.draw(ctx, c, s, q.Cost, now); errors.Is(err, authority.ErrUnreachable) {
			unreachable = err
		} else if err != nil {
			return h, nil, err
		}
	}
	if unreachable == nil {
		if unreachable = errors.New("quota could not be leased in time"); !q.Regardless {
			return h, nil, unreachable
		}
	}
	return l.decideAlone(c, q.Set, q, unreachable)
}

// cost is what the request reserves, in the meter's scale.
func (s *Set) cost(q *Question) (int64, error) {
	if s.Meter == "" {
		return 0, nil
	}
	d := q.Route.Reserve()
	if q.Given != nil {
		d = *q.Given
	}
	n, err := d.Scaled(s.Scale)
	if q.Given != nil && (err != nil || n < 0) {
		return 0, ErrCost
	}
	if err != nil {
		return 0, fmt.Errorf("route %s: cost: %w", q.Route.Match, err)
	}
	return n, nil
}

// decided completes an answer under the customer's lock.
func (l *Lessee) decided(c *customer, s *Set, q *Question) (h Hold, names []uint32) {
	allowed := q.Decision.Verdict == quota.Allow
	for i, v := range s.views {
		q.States[i] = v.state
		if allowed {
			s.counters[i].open++
			s.counters[i].usedAt = q.Now
			if v.state.Consumed >= v.noticeAt {
				l.notice(s, i, q.Now)
			}
		}
	}
	s.used = true
	if !allowed {
		return Hold{}, nil
	}
	if s.load != nil {
		s.load.open, s.load.lastAt = s.load.open+q.Cost, q.Now
	}
	for _, ctr := range s.strays {
		ctr.count(q.Cost, q.Now)
	}
	return Hold{c: c, set: s, cost: q.Cost, at: q.Now}, s.named(c)
}

// reread makes all counters that reported usage can change ask for it before they are used again.
func (c *customer) reread() {
	c.gen++
	for _, ctr := range c.counters {
		if ctr.limit.Kind != quota.TokenBucket && ctr.limit.Kind != quota.Concurrency {
			ctr.ready = false
		}
	}
}

// flight is a call about a customer's leases that others wait for.
type flight struct {
	done chan struct{}
	err  error // after done
}

// fly runs a call about c's leases outside of its lock; the lock is held before and after.
func (c *customer) fly(call func() error) (err error) {
	f := &flight{done: make(chan struct{})}
	c.flight = f
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.flight, f.err = nil, err
		close(f.done)
	}()
	return call()
}

// wait waits for the call that runs.
func (l *Lessee) wait(ctx context.Context, c *customer) error {
	if c.waiting >= waitersMax {
		l.stats.crowded.Add(1)
		return ErrCrowded
	}
	f := c.flight
	c.waiting++
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.waiting--
	}()
	select {
	case <-f.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	if errors.Is(f.err, authority.ErrUnreachable) {
		return f.err
	}
	return nil // whatever it was, the next one asks for itself
}

// draw asks the authority for what the set's counters lack.
func (l *Lessee) draw(ctx context.Context, c *customer, s *Set, cost, now int64) error {
	if c.flight != nil {
		return l.wait(ctx, c)
	}
	sent := l.mono()
	if sent < l.down.Load() {
		return authority.ErrUnreachable
	}
	asks, ctrs := l.asks(s, cost, now)
	anew := l.anew.Load()
	seq := l.seq.Add(1)
	var owed []authority.Back
	told := make([]*authority.Back, len(ctrs))
	for i, ctr := range ctrs {
		ctr.before, ctr.said, ctr.asking = ctr.said, seq, true
		if told[i] = ctr.owed; ctr.owed != nil {
			owed = append(owed, *ctr.owed)
		}
	}
	d := authority.Draw{
		Node: l.cfg.Node, Epoch: l.cfg.Epoch, CustomerID: c.id, SubscriptionID: c.basis.sub.ID, CatalogVersion: c.basis.cat.Version,
		Now: now, Seq: seq, Asks: asks,
	}
	var answers []authority.Answer
	err := c.fly(func() (err error) {
		// What is drawn for a client who has left serves the next one: what is durable must be known here.
		ctx := context.WithoutCancel(ctx)
		if len(owed) > 0 {
			err = l.cfg.Authority.Return(ctx, l.cfg.Node, l.cfg.Epoch, owed)
		}
		if err == nil {
			answers, err = l.cfg.Authority.Draw(ctx, d)
		}
		return err
	})
	for _, ctr := range ctrs {
		ctr.asking = false
	}
	if err == nil && len(answers) != len(asks) {
		err = fmt.Errorf("the authority gave %d answers to %d asks", len(answers), len(asks))
	}
	if err != nil {
		l.unreachable(err)
		return fmt.Errorf("draw leases: %w", err)
	}
	l.stats.draws.Add(int64(len(asks)))
	for i := range answers {
		l.hear(sent, answers[i].ValidFor)
	}
	c.gen++
	now = l.cfg.Now().UnixMicro()
	span := l.span.Load()
	if l.mono()-sent > int64(authority.RenewWithin) || anew != l.anew.Load() { // what lives in memory may be with others by now
		span = math.MaxUint64
	}
	for i, ctr := range ctrs {
		if ctr.owed == told[i] { // it has not lapsed meanwhile
			ctr.owed = nil
		}
		if !ctr.heard(&asks[i], &answers[i], seq, now) {
			continue
		}
		ctr.span = span
		if err := l.name(c, ctr); err != nil {
			return err
		}
	}
	return nil
}

// name has the lease written down when it is about to be used first. What lives in memory only needs no name.
func (l *Lessee) name(c *customer, ctr *counter) error {
	if ctr.named || ctr.granted == 0 || !ctr.limit.OnGrid() {
		return nil
	}
	id, err := l.cfg.Opened(ctr.key, ctr.end)
	if err != nil {
		ctr.ready = false
		return fmt.Errorf("write a lease down: %w", err)
	}
	ctr.lease, ctr.named = id, true
	c.leaseGen++
	return nil
}

// asks are what the set's counters lack: those that are not usable, and those without room for the cost. A counter stands there once, with all limits that use it.
func (l *Lessee) asks(s *Set, cost, now int64) (asks []authority.Ask, ctrs []*counter) {
	for i, ctr := range s.counters {
		if n := index(ctrs, ctr); n >= 0 {
			asks[n].Limits = append(asks[n].Limits, s.Limits[i].Key)
			continue
		}
		lim, st := &s.Limits[i], ctr.first()
		need, want := ctr.lacks(lim, st, cost, now)
		if ctr.ready && need == 0 {
			continue
		}
		ask := authority.Ask{
			Counter: ctr.key, WindowEnd: ctr.end, Kind: lim.Kind, Limits: []string{lim.Key}, Whose: ctr.whose,
			Need: need, Want: want, Spent: ctr.spent(), Rate: st.Rate, Per: st.Per, Burst: st.Burst, Heard: ctr.took, Fresh: !ctr.known,
		}
		if ask.Fresh && ctr.key.Scope == "" && s.load != nil && s.load.lastAt >= ctr.key.Start {
			ask.Open = s.load.open
		}
		asks = append(asks, ask)
		ctrs = append(ctrs, ctr)
	}
	return asks, ctrs
}

func index(ctrs []*counter, ctr *counter) int {
	for i, c := range ctrs {
		if c == ctr {
			return i
		}
	}
	return -1
}

// lacks is what a cost needs of the authority, 0 when what is held will do, and what is good to have at hand. Of a bucket it is
// what the share lacks, else all that the cost takes.
func (ctr *counter) lacks(lim *quota.Limit, st *quota.State, cost, now int64) (need, want int64) {
	switch {
	case lim.Mode == quota.Soft || lim.Mode == quota.Shadow:
		return 0, 0
	case lim.Kind == quota.TokenBucket:
		need = max(0, cost)
		if ctr.known {
			free, _ := quota.Remaining(lim, st, now)
			need = max(0, need-free)
		}
		return need, need
	case lim.Kind == quota.Concurrency:
		cost = 1
	}
	if ctr.known && arith.Sub(ctr.room(st), st.Consumed) >= cost {
		return 0, 0
	}
	return cost, arith.Times(max(1, cost), leaseCosts)
}

// room is up to where the lease can be used: others may have passed a ceiling meanwhile, or it was lowered.
func (ctr *counter) room(st *quota.State) int64 {
	room := st.Granted
	for _, v := range ctr.views {
		if v.lim.Mode == quota.Hard || v.lim.Mode == quota.Grace {
			room = min(room, v.state.Ceiling)
		}
	}
	return room
}

// decideAlone decides without the authority: what the leases lack follows each limit's failure mode.
func (l *Lessee) decideAlone(c *customer, s *Set, q *Question, unreachable error) (h Hold, names []uint32, err error) {
	states := make([]*quota.State, len(s.states))
	spare := make([]quota.State, len(s.states))
	for i, ctr := range s.counters {
		lim := &s.Limits[i]
		if ctr.ready && (!ctr.lapses || l.heard(ctr.span)) {
			var d quota.Decision
			trial := s.views[i].state
			if quota.Decide(&d, s.Limits[i:i+1], []*quota.State{&trial}, q.Cost, q.Now); d.Verdict != quota.Short {
				states[i] = s.states[i]
				continue
			}
		}
		if !q.Regardless && !ctr.mayGoOn(lim, s.Rules[i].Declared.Failure, q.Cost, q.Now) {
			q.Refused = i
			return h, nil, unreachable
		}
		spare[i] = quota.State{Granted: math.MaxInt64, Ceiling: math.MaxInt64, WindowStart: math.MinInt64, WindowEnd: math.MaxInt64}
		if lim.Kind == quota.TokenBucket { // an empty share of any size
			spare[i] = quota.State{Rate: 1, Per: 1, Burst: math.MaxInt64}
		}
		states[i] = &spare[i]
	}
	quota.Decide(&q.Decision, s.Limits, states, q.Cost, q.Now)
	s.force(q, states)
	if q.Decision.Verdict == quota.Allow {
		l.stats.alone.Add(1)
		s.overdraw(states, q.Cost, q.Now)
	}
	h, names = l.decided(c, s, q)
	return h, names, nil
}

// mayGoOn tells whether a limit's failure mode lets the cost pass without a lease.
func (ctr *counter) mayGoOn(lim *quota.Limit, f catalog.Failure, cost, now int64) bool {
	if lim.Mode == quota.Soft || lim.Mode == quota.Shadow || f.Kind == catalog.FailOpen {
		return true
	}
	if f.Kind != catalog.FailLocal {
		return false
	}
	if lim.Kind == quota.TokenBucket {
		if ctr.spare.Per == 0 {
			rate, per := lim.Fine()
			ctr.spare = quota.State{Rate: arith.Times(rate, f.Local) / 100, Per: per, Burst: arith.Times(lim.Burst, f.Local) / 100, Last: now}
		}
		var d quota.Decision
		trial := ctr.spare
		quota.Decide(&d, []quota.Limit{*lim}, []*quota.State{&trial}, cost, now)
		return d.Verdict == quota.Allow
	}
	if lim.Kind == quota.Concurrency {
		return ctr.first().Consumed < arith.Times(lim.Quota, f.Local)/100
	}
	of := lim.Quota
	switch lim.Kind {
	case quota.SpendCap, quota.Credits:
		of = ctr.first().Ceiling
	case quota.Rolling: // each slot has its part
		of /= max(1, lim.Length/max(1, lim.Slot))
	case quota.TokenBucket, quota.Concurrency, quota.Quota, quota.Fixed:
	}
	return arith.Add(ctr.alone, cost) <= arith.Times(of, f.Local)/100
}

// overdraw counts an admitted cost on the counters that had no lease for it. The authority hears of it with the next draw.
func (s *Set) overdraw(states []*quota.State, cost, now int64) {
	var seen [quota.LimitsMax]*counter
	for i, ctr := range s.counters {
		if states[i] == s.states[i] {
			continue
		}
		one := s.Limits[i : i+1]
		var d quota.Decision
		if one[0].Kind == quota.TokenBucket {
			if ctr.spare.Per != 0 {
				quota.Decide(&d, one, []*quota.State{&ctr.spare}, cost, now)
			}
			quota.Settle(one, s.states[i:i+1], 0, cost, now)
			continue
		}
		if one[0].Kind == quota.Concurrency {
			s.states[i].Consumed++
			continue
		}
		s.states[i].Consumed = arith.Add(s.states[i].Consumed, cost)
		if index(seen[:i], ctr) < 0 {
			ctr.alone = arith.Add(ctr.alone, cost)
		}
		seen[i] = ctr
	}
}
