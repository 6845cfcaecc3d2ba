package lessee

import (
	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/app/authority/arith"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/quota"
	"github.com/tallystick/tallystick/internal/store"
)

// counter is one counter of a customer with its lease. Owner: the customer's mu.
type counter struct {
	key    store.CounterKey
	id     counterID
	limit  quota.Limit // one of those that use it: how it counts
	whose  quota.Whose
	routes []string // of the limits that use it; empty: all of the meter
	end    int64    // of its window, microseconds; 0: none

	// views are its state under each limit that uses it: they consume alike and differ in their ceilings. Without any, kept is it.
	views []*view
	kept  quota.State

	ready   bool   // the authority has been asked, and nothing has happened since that makes its answer void
	known   bool   // kept or the views count something: the next ask is not a fresh one
	base    int64  // consumed in the window apart from this lease
	granted int64  // of this lease, cumulative
	before  uint64 // said, before the draw that is on its way
	asking  bool   // a draw about it is on its way
	took    uint64 // Stamp of the last answer that was taken in
	said    uint64 // Seq of what was last said of it to the authority
	lapses  bool   // it lives in memory only, and is good as long as the authority is heard
	span    uint64 // of hearing it in which it was told: see Lessee.hear
	lease   uint32
	named   bool            // lease is the name of this lease
	open    int             // requests that hold a part of it
	usedAt  int64           // decision instant of the last of them
	alone   int64           // admitted without a lease since the authority was last heard
	spare   quota.State     // of a bucket: what its failure mode lets pass
	shrunk  bool            // what was idle of a past window is given back
	leaving bool            // it is on its way back, and closed once the authority has heard
	gone    bool            // it was closed in answer to a recall, while it was leaving
	wanted  bool            // a set has come to use it while it was leaving
	owed    *authority.Back // the end of a lease that has lapsed, which the authority has not heard of
	told    map[string]int  // by limit: the last notice, in percent
}

// view is a counter under one limit.
type view struct {
	state    quota.State
	limit    string
	lim      quota.Limit
	declared *catalog.Limit
	noticeAt int64 // the consumption at which the next notice is due
	told     int   // percent of the last one
}

// counter finds or makes one.
func (l *Lessee) counter(c *customer, k store.CounterKey, end int64, lim *quota.Limit, w quota.Whose) (*counter, error) {
	id := counterID{k, classOf(lim.Kind)}
	ctr := c.counters[id]
	if ctr != nil && ctr.leaving {
		ctr.wanted = true
	}
	if ctr == nil {
		if most := int64(l.cfg.MaxCounters); l.held.Load() >= most || int64(len(c.counters)) >= max(1, most/2) {
			l.stats.crowded.Add(1)
			return nil, ErrCrowded
		}
		l.held.Add(1)
		ctr = &counter{key: k, id: id, end: end, whose: w, said: l.seq.Add(1)}
		if before := c.counters[counterID{previous(k), units}]; lim.Kind == quota.Rolling && before != nil {
			ctr.told = before.tell() // a sliding window goes on
		}
		c.counters[id] = ctr
		c.gen++
	}
	if ctr.limit.Kind == quota.TokenBucket && ctr.limit.Per != lim.Per { // another rate: debts count in its unit
		ctr.convert(&ctr.limit, lim)
	}
	ctr.limit = *lim
	return ctr, nil
}

// previous is the slot before.
func previous(k store.CounterKey) store.CounterKey {
	k.Start -= k.Length
	return k
}

// tell is what was told of the counter's limits.
func (ctr *counter) tell() map[string]int {
	var out map[string]int
	for _, v := range ctr.views {
		if v.told > 0 {
			if out == nil {
				out = map[string]int{}
			}
			out[v.limit] = v.told
		}
	}
	if out == nil {
		return ctr.told
	}
	return out
}

// convert puts the debt of a whole bucket into the unit of another rate. A share keeps its own.
func (ctr *counter) convert(from, to *quota.Limit) {
	for _, st := range ctr.all() {
		if st.Per == 0 {
			st.Debt = arith.Convert(st.Debt, to.Per, from.Per)
		}
	}
}

// all are the states that count.
func (ctr *counter) all() []*quota.State {
	if len(ctr.views) == 0 {
		return []*quota.State{&ctr.kept}
	}
	out := make([]*quota.State, len(ctr.views))
	for i, v := range ctr.views {
		out[i] = &v.state
	}
	return out
}

// first is the state that stands for all.
func (ctr *counter) first() *quota.State {
	if len(ctr.views) == 0 {
		return &ctr.kept
	}
	return &ctr.views[0].state
}

// keep lets the views go when the limits may have changed; what they count stays. The authority is asked what holds now.
func (ctr *counter) keep() {
	ctr.kept, ctr.told = *ctr.first(), ctr.tell()
	ctr.views = nil
	ctr.ready = false
}

// count adds a cost that no limit on the counter was asked about, or, below 0, takes it back; at is the decision instant.
func (ctr *counter) count(cost, at int64) {
	for _, st := range ctr.all() {
		limit, states := []quota.Limit{ctr.limit}, []*quota.State{st}
		switch {
		case cost < 0:
			quota.Return(limit, states, -cost, at)
		case ctr.id.class == bucket:
			if st.Per == 0 {
				*st = ctr.limit.Whole(*st)
			}
			st.Merge(quota.State{Per: st.Per, Debt: arith.Times(cost, st.Per), Last: at}, at)
			st.Debt = min(st.Debt, arith.Times(st.Burst, st.Per))
		default:
			quota.Settle(limit, states, 0, cost, at)
		}
	}
}

// lapse forgets a lease that lived in memory and was not renewed. Requests that run still do; what the lease was spent on is owed to
// the authority, which hears of it before it is asked again.
func (l *Lessee) lapse(c *customer, ctr *counter) {
	c.gen++
	if ctr.id.class != atOnce {
		ctr.said = l.seq.Add(1)
		ctr.owed = new(ctr.close(l.cfg.Now().UnixMicro()))
	}
	for _, st := range ctr.all() {
		switch ctr.id.class {
		case atOnce:
			st.Consumed = max(0, st.Consumed-ctr.base)
		case units:
			st.Consumed = 0
		case bucket, classes:
		}
	}
	ctr.known, ctr.ready, ctr.base, ctr.granted = false, false, 0, 0
}

// forget makes a counter whose lease was closed one that was never asked for. Sets may use it.
func (ctr *counter) forget() {
	for _, st := range ctr.all() {
		*st = quota.State{WindowStart: ctr.key.Start, WindowEnd: ctr.end}
	}
	ctr.known, ctr.ready, ctr.base, ctr.granted, ctr.lease, ctr.named = false, false, 0, 0, 0, false
	ctr.alone, ctr.spare, ctr.owed = 0, quota.State{}, nil
	ctr.stay()
}

// stay says that a counter is not on its way back any more.
func (ctr *counter) stay() {
	ctr.leaving, ctr.gone, ctr.wanted, ctr.shrunk = false, false, false, false
}

// run counts requests that begin to run at once, or end.
func (ctr *counter) run(n int64) {
	for _, st := range ctr.all() {
		st.Consumed = max(0, arith.Add(st.Consumed, n))
	}
}

// view finds or makes the counter's state under a limit.
func (ctr *counter) view(lim *quota.Limit, declared *catalog.Limit) *view {
	for _, v := range ctr.views {
		if v.limit == lim.Key {
			return v
		}
	}
	v := &view{state: *ctr.first(), limit: lim.Key, lim: *lim, declared: declared, told: ctr.told[lim.Key]}
	v.state.WindowStart, v.state.WindowEnd = ctr.key.Start, ctr.end
	ctr.views = append(ctr.views, v)
	v.rearm()
	return v
}

// spent is what this lease was spent on, or is reserved.
func (ctr *counter) spent() int64 { return max(0, ctr.first().Consumed-ctr.base) }

// heard puts an answer into the counter. It is left unused when something else was said of the counter since it was asked for: the
// answer may be older than what was given back.
func (ctr *counter) heard(ask *authority.Ask, a *authority.Answer, seq uint64, now int64) bool {
	if ctr.said != seq {
		return false
	}
	delta := a.Base - ctr.base
	ctr.base, ctr.granted, ctr.lapses = a.Base, a.Granted, a.ValidFor > 0
	ctr.alone, ctr.spare = 0, quota.State{}
	for _, st := range ctr.all() {
		st.Shared, st.AskAgain, st.ClearsAt = a.Shared, a.AskAgain, a.ClearsAt
		if ctr.limit.Kind == quota.TokenBucket {
			ctr.share(st, ask, a, now)
			continue
		}
		st.Consumed, st.Granted, st.Ceiling = max(0, arith.Add(st.Consumed, delta)), arith.Add(a.Base, a.Granted), a.Ceiling
	}
	for _, v := range ctr.views {
		for i, key := range ask.Limits {
			if key == v.limit && i < len(a.Ceilings) {
				v.state.Ceiling = a.Ceilings[i]
			}
		}
		v.rearm()
	}
	ctr.known, ctr.ready, ctr.took = true, true, a.Stamp
	return true
}

// share takes over what the holder now has of a bucket. What was added to the share that the ask named brings its debt with it; so
// does what the answer to an earlier ask, which was lost, had added. All counts by this gateway's clock: by the authority's, when
// that is ahead, what was just charged would have been refilling since the answer before.
func (ctr *counter) share(st *quota.State, ask *authority.Ask, a *authority.Answer, now int64) {
	if ask.Fresh {
		st.Rate, st.Per, st.Burst, st.Debt, st.Last = a.Rate, a.Per, a.Burst, a.Debt, now
		return
	}
	own := *st
	if own.Per == 0 {
		own = ctr.limit.Whole(own)
	}
	if own.Per != a.Per && a.Per > 0 { // the limit's rate has changed: debts count in another unit
		own.Merge(quota.State{Last: now}, now)
		own.Debt, own.Rate, own.Per = arith.Convert(own.Debt, a.Per, own.Per), arith.Convert(own.Rate, a.Per, own.Per), a.Per
	}
	own.Merge(quota.State{Rate: max(0, a.Rate-own.Rate), Per: own.Per, Debt: a.Debt, Last: now}, now)
	st.Debt, st.Last = own.Debt, own.Last
	st.Rate, st.Per, st.Burst = a.Rate, a.Per, a.Burst
}

// shrink gives back what is idle: of units all, of a bucket what one who used it at that instant gives up (0: all of it).
func (ctr *counter) shrink(now, usedAt int64) authority.Back {
	b := authority.Back{Counter: ctr.key, Kind: ctr.limit.Kind, Seq: ctr.said, Heard: ctr.took}
	if ctr.limit.Kind != quota.TokenBucket {
		b.Spent = ctr.spent()
		b.Keep = b.Spent
		ctr.granted = min(ctr.granted, b.Keep)
		for _, st := range ctr.all() {
			st.Granted = min(st.Granted, arith.Add(ctr.base, b.Keep))
			st.Shared, st.AskAgain, st.ClearsAt = true, 0, 0
		}
		return b
	}
	st := ctr.first()
	if st.Per == 0 {
		*st = ctr.limit.Whole(*st)
	}
	b.Had = st.Burst
	rate, burst := st.Recalled(usedAt, now)
	part := st.Split(rate, burst, burst, now)
	st.Shared, st.AskAgain, st.ClearsAt = true, 0, 0
	b.Rate, b.Per, b.Burst, b.Debt, b.Last = st.Rate, st.Per, st.Burst, part.Debt, part.Last
	return b
}

// close gives all back for good. What a bucket owes beyond its size goes along.
func (ctr *counter) close(now int64) authority.Back {
	b := ctr.shrink(now, 0)
	if b.Closed = true; ctr.id.class == bucket {
		b.Debt = arith.Add(b.Debt, ctr.first().Debt)
	}
	return b
}
