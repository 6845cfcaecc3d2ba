package authority

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/tallystick/tallystick/internal/app/authority/arith"
	"github.com/tallystick/tallystick/internal/core/quota"
	"github.com/tallystick/tallystick/internal/store"
)

// bucket is a token bucket that is cut into shares. What no share has is the pool; it always goes to the next who asks, as a
// whole. A share that moves takes its debt along, so that all debts together are never less than what one bucket with the same
// admissions would owe. Owner: customer.mu.
type bucket struct {
	rate, per, burst int64 // of the limit, in a fine unit of time
	debt, last       int64 // of the pool, in units×per at an instant
	shares           []share
	used             time.Duration
}

// share is one holder's part, in its own per.
type share struct {
	node             uint16
	epoch            uint32
	rate, per, burst int64
	// What was added with the last answer, while the holder has not shown that it has it: the share before, and the debt that came
	// with the addition.
	wasRate, wasBurst int64
	addDebt, addLast  int64
	pending           bool
	stamp             uint64 // of that answer: Answer.Stamp
	answered          uint64 // Seq of the Draw that it answered
	lacked            bool   // and whether that needed more
	told              uint64 // Seq of the last Back of it
	seq               uint64
}

// in gives a share's rate and burst in the bucket's unit, the rate rounded up.
func (b *bucket) in(sh *share) (rate, burst int64) {
	if sh.per == 0 {
		return 0, sh.burst
	}
	return arith.Convert(sh.rate, b.per, sh.per), sh.burst
}

// pool is what no share has; below 0 where the limit was lowered.
func (b *bucket) pool() (rate, burst int64) {
	rate, burst = b.rate, b.burst
	for i := range b.shares {
		r, n := b.in(&b.shares[i])
		rate, burst = arith.Sub(rate, r), arith.Sub(burst, n)
	}
	return rate, burst
}

// settle lets the pool refill until now.
func (b *bucket) settle(now int64) {
	rate, _ := b.pool()
	b.debt = arith.Drained(b.debt, rate, b.last, now)
	b.last = max(b.last, now)
}

// change takes the limit's numbers as they are now.
func (b *bucket) change(l *rule, now int64) {
	rate, per := l.Fine()
	if b.rate == rate && b.per == per && b.burst == l.Burst {
		return
	}
	b.settle(now)
	b.debt = arith.Convert(b.debt, per, b.per)
	b.rate, b.per, b.burst = rate, per, l.Burst
}

// owe gives a part of a share back to the pool with its debt, in the share's unit.
func (b *bucket) owe(debt, per int64) { b.debt = arith.Add(b.debt, arith.Convert(debt, b.per, per)) }

// find is the share of an epoch, or -1.
func (b *bucket) find(node uint16, epoch uint32) int {
	for i := range b.shares {
		if b.shares[i].node == node && b.shares[i].epoch == epoch {
			return i
		}
	}
	return -1
}

// forfeit takes back shares whose holder is gone: when that was, they owed all that they can.
func (b *bucket) forfeit(gone func(node uint16, epoch uint32) (since int64, gone bool), now int64) {
	b.settle(now)
	kept := b.shares[:0]
	for _, sh := range b.shares {
		if since, over := gone(sh.node, sh.epoch); over {
			if !unknownOwed {
				continue
			}
			b.owe(arith.Drained(arith.Times(sh.burst, sh.per), sh.rate, min(since, now), now), sh.per)
			continue
		}
		kept = append(kept, sh)
	}
	clear(b.shares[len(kept):])
	b.shares = kept
}

// bucket finds one or takes it up.
func (w *draw) bucket(ctx context.Context, i int) (*bucket, *rule, error) {
	a := &w.Asks[i]
	if len(w.limits[i]) != 1 || w.limits[i][0].Kind != quota.TokenBucket {
		return nil, nil, fmt.Errorf("a bucket is one limit's, not of %q: %w", a.Limits, store.ErrInvalid)
	}
	l, now := &w.limits[i][0], w.s.cfg.Now().UnixMicro()
	b := w.c.buckets[a.Counter]
	if b == nil {
		rate, per := l.Fine()
		b = &bucket{rate: rate, per: per, burst: l.Burst, last: now}
		if err := w.s.beginBucket(ctx, b, l, a, now, w.rules.scale(a.Counter.Meter)); err != nil {
			return nil, nil, err
		}
		w.c.buckets[a.Counter] = b
	}
	b.change(l, now)
	b.used = w.s.cfg.Mono()
	return b, l, nil
}

// beginBucket finds what a bucket owes that comes into use: all that was admitted in the quarter hours that its burst time
// touches, as much as it could owe, or more. Of a scope the journal knows nothing: it owes what the whole customer was admitted
// before this start, and nothing of later times.
func (s *Service) beginBucket(ctx context.Context, b *bucket, l *rule, a *Ask, now int64, scale int) error {
	if !unknownOwed {
		return nil
	}
	full := arith.Times(b.burst, b.per)
	until, usedUp := s.usedUp()
	span := arith.Times(l.Burst, l.Per)/max(1, l.Rate) + 1
	if usedUp && arith.Sub(now, span) <= until {
		b.debt, b.last = full, until
		return nil
	}
	from := arith.Sub(now, min(span, now))
	if a.Counter.Scope != "" && from >= s.started {
		return nil
	}
	used, err := s.admittedSince(ctx, a.Counter, from, scale)
	if err != nil {
		return err
	}
	if a.Fresh {
		used = arith.Add(used, max(0, a.Open))
	}
	b.debt = min(full, arith.Times(used, b.per))
	return nil
}

// drawShare gives the pool to who asks, or, without grant, finds out whether that is too little and others have more.
func (w *draw) drawShare(ctx context.Context, i int, grant bool) error {
	a := &w.Asks[i]
	b, l, err := w.bucket(ctx, i)
	if err != nil {
		return err
	}
	clock := w.s.cfg.Now().UnixMicro()
	now := max(b.last, clock)
	b.settle(now)
	b.forfeit(func(node uint16, _ uint32) (int64, bool) {
		since, gone := w.s.lapsed(node, now)
		return since, gone && node != w.Node
	}, now)
	k := b.find(w.Node, w.Epoch)
	if k < 0 {
		k = len(b.shares)
		b.shares = append(b.shares, share{node: w.Node, epoch: w.Epoch, per: b.per})
	}
	own := &b.shares[k]
	switch {
	case w.Seq == 0:
	case w.Seq < own.seq: // an old message: it is told how things stand, and gets nothing
		w.tell(i, b, own, l, share{})
		w.answers[i].Stamp = 0
		return nil
	case w.Seq == own.answered: // it comes once more, and gets the same answer: nobody knows which of the two arrives
		w.tell(i, b, own, l, share{addDebt: own.addDebt, addLast: own.addLast})
		if own.lacked && a.Need > 0 {
			w.refuse(i, l, 0)
		}
		return nil
	}
	b.reconcile(own, a, now)
	own.seq = w.Seq
	rate, burst := b.pool()
	lacks := burst <= 0 || max(0, arith.Sub(arith.Times(burst, b.per), b.debt))/b.per < a.Need
	if !grant {
		for n := range b.shares {
			if sh := &b.shares[n]; lacks && sh.node != w.Node && sh.burst > 0 {
				w.askFor(sh.node, a.Counter)
			}
		}
		return nil
	}
	added := share{rate: rate, burst: burst, addDebt: b.debt, addLast: b.last}
	if clock < b.last { // until then nothing is known, and nothing refills
		added, lacks = share{}, true
	} else {
		w.give(b, own, added)
		own.lacked = lacks
	}
	w.tell(i, b, own, l, added)
	if lacks && a.Need > 0 {
		w.refuse(i, l, b.last-clock)
	}
	return nil
}

// reconcile compares a share with what its holder says that it has. What was added and never arrived goes back to the pool as it
// came; what is gone without a word owes all that it can. What the holder says may be of a share that an earlier run gave it.
func (b *bucket) reconcile(own *share, a *Ask, now int64) {
	b.settle(now)
	b.owe(own.settle(a.Heard, now), own.per)
	rate, burst := a.Rate, a.Burst
	switch {
	case a.Fresh:
		rate, burst = 0, 0
	case a.Per == 0: // the holder does not say
		return
	case a.Per != own.per && own.per > 0:
		rate = arith.Convert(rate, own.per, a.Per)
	}
	b.owe(arith.Times(max(0, own.burst-burst), own.per), own.per)
	own.rate, own.burst = min(rate, own.rate), min(burst, own.burst)
}

// settle makes a share what its holder has heard of. What was added by an answer that has not arrived is taken off again, and debt is
// what that owes by now.
func (sh *share) settle(heard uint64, now int64) (debt int64) {
	if sh.pending && heard != sh.stamp {
		debt = arith.Drained(sh.addDebt, max(0, sh.rate-sh.wasRate), sh.addLast, now)
		sh.rate, sh.burst = min(sh.rate, sh.wasRate), min(sh.burst, sh.wasBurst)
	}
	sh.pending = false
	return debt
}

// give adds the pool to a share, or takes from it where the limit was lowered.
func (w *draw) give(b *bucket, own *share, added share) {
	rate, burst := b.in(own)
	own.wasRate, own.wasBurst = rate, burst
	own.rate, own.per, own.burst = max(0, arith.Add(rate, added.rate)), b.per, max(0, arith.Add(burst, added.burst))
	own.addDebt, own.addLast, own.pending, own.stamp, own.answered = added.addDebt, added.addLast, true, w.s.stamp(), w.Seq
	b.debt = 0
	if added.burst > 0 {
		w.s.stats.granted.Add(1)
	}
}

// tell is the answer about a bucket.
func (w *draw) tell(i int, b *bucket, own *share, l *rule, added share) {
	out := &w.answers[i]
	out.Rate, out.Per, out.Burst = own.rate, own.per, own.burst
	out.Debt, out.Last, out.Stamp = added.addDebt, added.addLast, own.stamp
	out.Ceiling, out.Ceilings = l.Burst, nil
	rate, burst := b.in(own)
	out.Shared = rate < b.rate || burst < b.burst // others have the rest, or it is not given out yet: it is asked for again
	out.ValidFor = w.s.validity(w.Node, true)
}

// refuse says when a bucket may have what is lacking, which begins to refill after a while, in microseconds.
func (w *draw) refuse(i int, l *rule, after int64) {
	a, out := &w.Asks[i], &w.answers[i]
	w.s.stats.denied.Add(1)
	if a.Need <= l.Burst && l.Rate > 0 {
		out.ClearsAt = arith.Add(arith.Add(w.Now, max(0, after)), arith.Add(arith.Times(a.Need, l.Per)/l.Rate, 1))
	}
	switch {
	case after > 0:
		out.AskAgain = arith.Add(w.Now, after)
	case out.Shared:
		out.AskAgain = arith.Add(w.Now, askAgainIn.Microseconds())
	case out.ClearsAt == 0:
		out.AskAgain = math.MaxInt64
	default:
		out.AskAgain = out.ClearsAt
	}
}

// returnShare takes back what a holder gives of its share; present: in the node's present epoch.
func (b *bucket) returnShare(node uint16, epoch uint32, r *Back, present bool, now int64) {
	k := b.find(node, epoch)
	if k < 0 {
		return
	}
	own := &b.shares[k]
	if r.before(own.seq, present) || r.Seq != 0 && r.Seq == own.told { // it comes once more
		return
	}
	own.seq, own.told = max(own.seq, r.Seq), r.Seq
	b.settle(now)
	all := own.burst // with what may be on its way to the holder
	debt := own.settle(r.Heard, now)
	rate, burst := r.Rate, r.Burst
	if r.Closed {
		rate, burst = 0, 0
	} else if r.Per > 0 && own.per > 0 && r.Per != own.per {
		rate = arith.Convert(rate, own.per, r.Per)
	}
	rate, burst = min(max(0, rate), own.rate), min(max(0, burst), own.burst)
	per := r.Per
	if per <= 0 {
		per = own.per
	}
	debt = arith.Add(debt, arith.Times(max(0, own.burst-max(0, r.Had)), own.per))
	debt = arith.Add(debt, arith.Convert(max(0, r.Debt), own.per, per))
	if !r.Closed { // else it owes what an actual cost had beyond the bucket's size, too
		debt = min(debt, arith.Times(all-burst, own.per))
	}
	b.owe(debt, own.per)
	own.rate, own.burst = rate, burst // one that is closed stays for its seq: older messages may still come
}

// free says that nobody has a share.
func (b *bucket) free() bool {
	return !slices.ContainsFunc(b.shares, func(sh share) bool { return sh.rate > 0 || sh.burst > 0 })
}
