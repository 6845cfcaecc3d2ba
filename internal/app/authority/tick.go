package authority

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/tallystick/tallystick/internal/core/quota"
)

// counters count since this start.
type counters struct {
	begins, draws, granted, denied, recalls, silent, backs, evicted atomic.Int64
}

// Stats are for metrics; all but the last three count since the start.
type Stats struct {
	Begins  int64 // epochs
	Draws   int64 // calls
	Granted int64 // asks that got something
	Denied  int64 // asks that got less than they needed
	Recalls int64 // times that a holder was asked
	Silent  int64 // times that one did not answer
	Backs   int64 // leases that were told of
	Evicted int64 // counters dropped from memory

	Customers, Counters, Buckets int64 // held in memory
}

// Stats looks at all customers for a moment.
func (s *Service) Stats() Stats {
	out := Stats{
		Begins: s.stats.begins.Load(), Draws: s.stats.draws.Load(), Granted: s.stats.granted.Load(), Denied: s.stats.denied.Load(),
		Recalls: s.stats.recalls.Load(), Silent: s.stats.silent.Load(), Backs: s.stats.backs.Load(), Evicted: s.stats.evicted.Load(),
	}
	for _, c := range s.all() {
		c.mu.Lock()
		out.Customers++
		out.Counters += int64(len(c.counters))
		out.Buckets += int64(len(c.buckets))
		c.mu.Unlock()
	}
	return out
}

func (s *Service) all() []*customer {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make([]*customer, 0, len(s.customers))
	for _, c := range s.customers {
		out = append(out, c)
	}
	return out
}

// Tick does what has become due: leases in memory of holders that are silent come back, what nobody uses is dropped from memory,
// and old leases from the records.
func (s *Service) Tick(ctx context.Context) error {
	if !s.calls.Enter() {
		return nil // it is handed over
	}
	defer s.calls.Leave()
	if _, err := s.node(ctx, s.cfg.Local); err != nil { // who is silent is known only when all are
		return err
	}
	now := s.cfg.Mono()
	for _, c := range s.all() {
		s.sweep(c, now)
	}
	last := time.Duration(s.prunedAt.Load())
	if last != 0 && now-last < pruneEvery || !s.prunedAt.CompareAndSwap(int64(last), int64(max(1, now))) {
		return nil
	}
	return s.cfg.Leases.PruneLeases(ctx, s.cfg.Now().Add(-leasesKept).UnixMicro())
}

// sweep drops what is idle of a customer, and the customer when nothing is left.
func (s *Service) sweep(c *customer, now time.Duration) {
	at := s.cfg.Now().UnixMicro()
	silent := func(node uint16, _ uint32) bool { return s.expired(node) }
	c.mu.Lock()
	for key, b := range c.buckets {
		b.forfeit(func(node uint16, _ uint32) (int64, bool) { return s.lapsed(node, at) }, at)
		if b.free() && b.debt == 0 && now-b.used > idleAfter {
			delete(c.buckets, key)
			s.stats.evicted.Add(1)
		}
	}
	for id, ctr := range c.counters {
		if id.kind == quota.Concurrency {
			ctr.forget(silent)
		}
		if now-ctr.used > idleAfter && ctr.writing == 0 && ctr.droppable(at) {
			delete(c.counters, id)
			s.stats.evicted.Add(1)
			if f := familyKey(id); c.families[f] != nil {
				delete(c.families, f) // its slots are looked for again
			}
		}
	}
	empty := len(c.counters) == 0 && len(c.buckets) == 0
	c.dropped = empty
	c.mu.Unlock()
	if empty {
		s.mu.Lock()
		if s.customers[c.id] == c {
			delete(s.customers, c.id)
		}
		s.mu.Unlock()
	}
}

// droppable says that a counter can be had again as it is, or counts nothing any more.
func (c *counter) droppable(now int64) bool {
	if !c.id.durable() {
		return len(c.leases) == 0 || c.past(now)
	}
	for i := range c.leases {
		if c.leases[i].open() > 0 {
			return c.end <= now
		}
	}
	return true
}
