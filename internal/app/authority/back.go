package authority

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/tallystick/tallystick/internal/app/authority/arith"
	"github.com/tallystick/tallystick/internal/app/authority/commit"
	"github.com/tallystick/tallystick/internal/core/quota"
	"github.com/tallystick/tallystick/internal/store"
)

// Return implements Authority.
func (s *Service) Return(ctx context.Context, number uint16, epoch uint32, backs []Back) error {
	if len(backs) > MaxBacks {
		return fmt.Errorf("%d leases in one return, at most %d: %w", len(backs), MaxBacks, store.ErrInvalid)
	}
	if !s.calls.Enter() {
		return errLeft
	}
	defer s.calls.Leave()
	n, err := s.node(ctx, number)
	if err != nil {
		return err
	}
	n.run.RLock()
	defer n.run.RUnlock()
	if n.epoch != epoch {
		return fmt.Errorf("epoch %d of node %d is not its newest, %d: %w", epoch, number, n.epoch, ErrEpoch)
	}
	s.hear(n)
	return s.take(ctx, n, backs)
}

// take takes leases back, and is done when that is durable. The node's run is held.
func (s *Service) take(ctx context.Context, n *node, backs []Back) error {
	s.stats.backs.Add(int64(len(backs)))
	byCustomer := map[string][]*Back{}
	for i := range backs {
		b := &backs[i]
		byCustomer[b.Counter.CustomerID] = append(byCustomer[b.Counter.CustomerID], b)
	}
	type written struct {
		customer string
		ticket   commit.Ticket[store.Lease]
		touched  []*counter
	}
	var all []written
	var failed error
	for id, bs := range byCustomer {
		rows, touched, err := []store.Lease(nil), []*counter(nil), error(nil)
		c := s.lock(id)
		for _, b := range bs {
			if err = s.takeOne(ctx, c, n, b, &rows, &touched); err != nil {
				break
			}
		}
		if len(rows) > 0 {
			all = append(all, written{id, s.enqueue(rows, touched), touched})
		}
		c.mu.Unlock()
		if err != nil {
			failed = err
		}
	}
	for i := range all { // in the order of their places: who leads a commit comes before those that follow
		if err := s.finish(ctx, all[i].customer, all[i].ticket, all[i].touched); err != nil {
			failed = err
		}
	}
	return failed
}

// takeOne takes one lease back under the customer's lock.
func (s *Service) takeOne(ctx context.Context, c *customer, n *node, b *Back, rows *[]store.Lease, touched *[]*counter) error {
	epoch := b.Epoch
	if epoch == 0 {
		epoch = n.epoch
	}
	if bk := c.buckets[b.Counter]; bk != nil && (b.Kind == quota.TokenBucket || b.Kind == 0) {
		bk.returnShare(n.number, epoch, b, epoch == n.epoch, s.cfg.Now().UnixMicro())
	}
	if b.Kind == quota.TokenBucket {
		return nil
	}
	kinds := []quota.Kind{b.Kind}
	if b.Kind == 0 {
		kinds = []quota.Kind{quota.Quota, quota.Concurrency}
	}
	for _, kind := range kinds {
		if err := s.takeUnits(ctx, c, n, epoch, idOf(b.Counter, kind), b, rows, touched); err != nil {
			return err
		}
	}
	return nil
}

// takeUnits takes a lease of units, or of requests at once, back.
func (s *Service) takeUnits(ctx context.Context, c *customer, n *node, epoch uint32, id counterID, b *Back, rows *[]store.Lease, touched *[]*counter) error {
	ctr, err := s.held(ctx, c, id, b)
	if err != nil || ctr == nil {
		return err
	}
	l := ctr.find(n.number, epoch)
	if l == nil && epoch == n.epoch && b.Kind != 0 && b.Spent > 0 { // counted without a lease: beyond a soft limit, or without us
		l = ctr.own(n.number, epoch, n.boot, 0)
	}
	if l == nil || b.before(l.seq, epoch == n.epoch) {
		return nil
	}
	changed := false
	if !l.closed {
		l.seq = max(l.seq, b.Seq)
		changed = l.takeBack(b, ctr.id.kind == quota.Concurrency)
	}
	if !changed && ctr.writing == 0 { // else it may have been said in a call whose write fails: it is written once more
		return nil
	}
	if ctr.id.durable() {
		*rows = append(*rows, ctr.row(l))
		if !slices.Contains(*touched, ctr) {
			*touched = append(*touched, ctr)
		}
	} else if ctr.id.kind == quota.Concurrency && l.charged == 0 {
		ctr.forget(func(node uint16, e uint32) bool { return node == n.number && e == epoch })
	}
	return nil
}

// before says that a back is older than the newest message about a counter. One without a number, of a node that now numbers what
// it says, may be as old as any. Of an earlier epoch it is the new run's word for what the spool knows, and holds.
func (b *Back) before(newest uint64, present bool) bool {
	return b.Seq < newest && (b.Seq != 0 || present)
}

// takeBack changes a lease by what its holder says; false: nothing changed.
func (l *lease) takeBack(b *Back, atOnce bool) (changed bool) {
	before := *l
	spent := max(0, b.Spent)
	if b.Kind == 0 && b.Closed && b.Epoch == l.epoch && !atOnce {
		spent = max(spent, l.told) // the holder knows nothing of it any more, and has said this before
	}
	l.told = max(l.told, spent)
	if atOnce {
		l.told = spent
	}
	switch {
	case b.Closed:
		off := max(0, min(b.WrittenOff, arith.Sub(l.open(), spent)))
		l.charged = arith.Add(l.settled, arith.Add(spent, off))
		l.writtenOff, l.closed = arith.Add(l.writtenOff, off), true
		if atOnce {
			l.charged = l.settled
		}
	default:
		l.charged = arith.Add(l.settled, max(spent, min(max(0, b.Keep), l.open())))
	}
	seq := l.seq
	before.seq, before.told = seq, l.told
	return before != *l
}

// held is a counter that somebody gives something back of, nil when nothing is known of it. One that is not in memory is only
// read, so that its row can be changed; what else it counts is found when it is drawn on. Of requests that run the holder may know
// when this run of the authority does not.
func (s *Service) held(ctx context.Context, c *customer, id counterID, b *Back) (*counter, error) {
	if ctr := c.counters[id]; ctr != nil && !ctr.stale {
		return ctr, nil
	}
	switch {
	case id.durable():
		return s.read(ctx, c, id, 0)
	case id.kind == quota.Concurrency && b.Spent > 0 && !b.Closed:
		return s.read(ctx, c, id, math.MaxInt64)
	}
	return nil, nil
}
