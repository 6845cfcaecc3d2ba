package lessee

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/store"
)

const (
	sweepEvery  = time.Second            // a customer's counters are looked through
	sweepCost   = 100 * time.Microsecond // and so much later for each counter
	sweepBatch  = 256                    // customers at a time
	idleSweeps  = 60                     // sweeps without a request after which a set is let go
	pressedPart = 4                      // when less than a quarter of the room is left, sets go after one sweep
)

// Tick gives back the leases of windows that have passed and of counters that nobody has used for a while. One call looks through
// a bounded number of customers.
func (l *Lessee) Tick(ctx context.Context) error {
	l.sweepMu.Lock()
	defer l.sweepMu.Unlock()
	if err := l.renew(ctx); err != nil {
		return err
	}
	if err := l.giveBack(ctx, l.takeDue(), false); err != nil {
		return err
	}
	mono := l.mono()
	if len(l.sweeping) == 0 {
		if mono-l.sweptAt < int64(sweepEvery) {
			return nil
		}
		l.sweptAt, l.sweeping = mono, l.all()
	}
	n := min(sweepBatch, len(l.sweeping))
	batch := l.sweeping[:n]
	l.sweeping = l.sweeping[n:]
	return l.giveBack(ctx, batch, false)
}

// hurry has a customer swept with the next tick. Its lock is held.
func (l *Lessee) hurry(c *customer) {
	c.sweepAt = 0
	if c.hurried {
		return
	}
	c.hurried = true
	l.dueMu.Lock()
	defer l.dueMu.Unlock()
	l.due = append(l.due, c)
}

func (l *Lessee) takeDue() []*customer {
	l.dueMu.Lock()
	defer l.dueMu.Unlock()
	n := min(len(l.due), sweepBatch)
	out := l.due[:n:n]
	if l.due = l.due[n:]; len(l.due) == 0 {
		l.due = nil
	}
	return out
}

// Close gives all leases back. Nothing may be admitted any more.
func (l *Lessee) Close(ctx context.Context) error {
	l.sweepMu.Lock()
	defer l.sweepMu.Unlock()
	var errs []error
	for batch := range slices.Chunk(l.all(), sweepBatch) {
		errs = append(errs, l.giveBack(ctx, batch, true))
	}
	return errors.Join(errs...)
}

// returned is a lease on its way back.
type returned struct {
	c      *customer
	ctr    *counter
	closed bool
	spent  int64
	said   uint64
}

// giveBack sweeps some customers, tells the authority of all they let go, and then forgets it.
func (l *Lessee) giveBack(ctx context.Context, batch []*customer, all bool) error {
	var errs []error
	for i := 0; i < len(batch); {
		var backs []authority.Back
		var out []returned
		var flown []*customer
		f := &flight{done: make(chan struct{})}
		for ; i < len(batch) && len(backs) < authority.MaxBacks/2; i++ {
			c := batch[i]
			c.mu.Lock()
			b, r := l.sweep(c, authority.MaxBacks-len(backs), all)
			if len(b) > 0 { // those who want to draw on them meanwhile wait for the answer
				c.flight = f
				flown = append(flown, c)
			}
			backs, out = append(backs, b...), append(out, r...)
			c.mu.Unlock()
		}
		if len(backs) == 0 {
			continue
		}
		sent := l.mono()
		err := l.cfg.Authority.Return(ctx, l.cfg.Node, l.cfg.Epoch, backs)
		if err == nil {
			l.hear(sent, 0)
		}
		l.unreachable(err)
		l.landed(out, err)
		for _, c := range flown {
			c.mu.Lock()
			c.flight = nil
			c.mu.Unlock()
		}
		close(f.done)
		if err != nil {
			errs = append(errs, fmt.Errorf("give leases back: %w", err))
		}
	}
	return errors.Join(errs...)
}

// landed forgets the leases that were closed, or takes them up again when nobody heard of it.
func (l *Lessee) landed(out []returned, err error) {
	for _, r := range out {
		r.c.mu.Lock()
		switch {
		case err != nil: // of one that a recall took meanwhile nobody knows whether its answer arrived
			r.ctr.stay()
		case r.closed && r.ctr.open == 0 && r.ctr.spent() == r.spent:
			if r.ctr.named && l.cfg.Closed != nil {
				l.cfg.Closed(r.ctr.lease, r.ctr.key, r.ctr.end, r.spent)
			}
			r.c.gen++
			r.c.leaseGen++
			if r.ctr.wanted { // requests wait for it
				r.ctr.forget()
				break
			}
			delete(r.c.counters, r.ctr.id)
			l.held.Add(-1)
		case r.closed: // a request has taken it up meanwhile
			r.ctr.stay()
		}
		r.c.mu.Unlock()
	}
}

// sweep lets idle sets go and returns the leases of counters that no set needs any more. The counters stay until the authority
// has heard of it, and cannot be used before they have been asked for again.
func (l *Lessee) sweep(c *customer, room int, all bool) (backs []authority.Back, out []returned) {
	mono, now := l.mono(), l.cfg.Now().UnixMicro()
	c.hurried = false
	if c.flight != nil || !all && mono < c.sweepAt {
		return nil, nil
	}
	c.sweepAt = mono + int64(sweepEvery) + int64(len(c.counters))*int64(sweepCost)
	needed := c.letSetsGo(now, l.idleSweeps(), all)
	for _, ctr := range c.counters {
		if len(backs) >= room {
			c.sweepAt = 0 // the rest in the next round
			break
		}
		past := ctr.end != 0 && ctr.end <= now
		switch {
		case ctr.leaving || needed[ctr] && !past && !all:
			continue
		case ctr.open > 0:
			if past && !ctr.shrunk && ctr.known { // what its requests come to is told when the last of them has ended
				ctr.shrunk = true
				ctr.said = l.seq.Add(1)
				backs, out = append(backs, ctr.shrink(now, 0)), append(out, returned{c: c, ctr: ctr})
			}
			continue
		case !past && !all:
			l.stats.evicted.Add(1)
		}
		if !ctr.known && ctr.owed == nil { // nothing was ever asked for
			delete(c.counters, ctr.id)
			l.held.Add(-1)
			continue
		}
		spent := ctr.spent()
		if ctr.known {
			ctr.said = l.seq.Add(1)
			backs = append(backs, ctr.close(now))
		} else {
			backs = append(backs, *ctr.owed)
		}
		ctr.ready, ctr.leaving = false, true
		out = append(out, returned{c: c, ctr: ctr, closed: true, spent: spent})
	}
	if len(out) > 0 {
		c.gen++
	}
	return backs, out
}

// idleSweeps is after how many sweeps without a request a set goes.
func (l *Lessee) idleSweeps() int {
	if most := int64(l.cfg.MaxCounters); l.held.Load() > most-most/pressedPart {
		return 1
	}
	return idleSweeps
}

// letSetsGo drops sets that are past or idle and returns the counters that the others need.
func (c *customer) letSetsGo(now int64, idle int, all bool) map[*counter]bool {
	needed := make(map[*counter]bool, len(c.counters))
	for _, t := range c.routes {
		for w, s := range t.sets {
			if s.used {
				s.used, s.idle = false, 0
			} else {
				s.idle++
			}
			if all || s.idle >= idle || now >= s.until {
				delete(t.sets, w)
				if t.last == s {
					t.last = nil
				}
				continue
			}
			for _, ctr := range s.counters {
				needed[ctr] = true
			}
			for _, ctr := range s.strays {
				needed[ctr] = true
			}
		}
	}
	return needed
}

// Recall gives back what is idle of the counters, at once. One that is not held is answered as closed; one that is on its way back
// is answered as it is.
func (l *Lessee) Recall(_ context.Context, counters []store.CounterKey) ([]authority.Back, error) {
	now := l.cfg.Now().UnixMicro()
	out := make([]authority.Back, 0, len(counters))
	for _, k := range counters {
		out = l.recall(out, k, now)
	}
	return out, nil
}

func (l *Lessee) recall(out []authority.Back, k store.CounterKey, now int64) []authority.Back {
	// Numbered before it is looked up: should the counter be taken up meanwhile, or before this arrives, this is the older message.
	gone := authority.Back{Counter: k, Epoch: l.cfg.Epoch, Seq: l.seq.Add(1), Closed: true}
	c := l.known(k.CustomerID)
	if c == nil {
		return append(out, gone)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	found := false
	for kind := range classes {
		ctr := c.counters[counterID{k, kind}]
		if ctr == nil {
			continue
		}
		found = true
		// While a draw is on its way, what is said here is older than it. If the authority has answered that draw, this is void for
		// it, and the answer, which is cumulative, holds; if not, the answer will know of this. A part of a bucket takes its debt
		// along, which the answer would not bring back: then it is the answer that is void.
		said := ctr.before
		if !ctr.asking || kind == bucket {
			ctr.said = l.seq.Add(1)
			said = ctr.said
		}
		if ctr.leaving {
			ctr.gone = true
		}
		b := gone
		switch {
		case ctr.owed != nil:
			b = *ctr.owed
		case !ctr.known:
			b.Kind, b.Heard = ctr.limit.Kind, ctr.took
			if n := ctr.first().Consumed; kind == atOnce && n > 0 { // requests run on
				b.Spent, b.Keep, b.Closed = n, n, false
			}
		case ctr.gone:
			b = ctr.close(now)
		default:
			b = ctr.shrink(now, ctr.usedAt)
		}
		b.Epoch, b.Seq = l.cfg.Epoch, said
		out = append(out, b)
	}
	if !found {
		out = append(out, gone)
	}
	return out
}

// Tell says what is held of the counters and what it was spent on. Nothing is given back.
func (l *Lessee) Tell(_ context.Context, counters []store.CounterKey) ([]authority.Back, error) {
	out := make([]authority.Back, 0, len(counters))
	for _, k := range counters {
		c := l.known(k.CustomerID)
		if c == nil {
			continue
		}
		c.mu.Lock()
		for _, kind := range []class{units, atOnce} {
			ctr := c.counters[counterID{k, kind}]
			if ctr == nil || !ctr.known || ctr.owed != nil || ctr.leaving {
				continue
			}
			out = append(out, authority.Back{Counter: k, Kind: ctr.limit.Kind, Epoch: l.cfg.Epoch, Spent: ctr.spent(), Keep: ctr.granted})
		}
		c.mu.Unlock()
	}
	return out, nil
}

// warn logs what must not stop a loop.
func (l *Lessee) warn(ctx context.Context, text string, err error) {
	l.cfg.Log.WarnContext(ctx, text, slog.Any("error", err))
}
