package authority

import (
	"context"
	"log/slog"
	"sync"

	"github.com/tallystick/tallystick/internal/app/authority/arith"
	"github.com/tallystick/tallystick/internal/core/quota"
	"github.com/tallystick/tallystick/internal/store"
)

// Others tells what is leased and not used. Only the process of the authority can know.
type Others interface {
	// Any says whether anybody but the local gateway can be asked.
	Any() bool
	// Idle is what others than the local gateway hold of a customer's counters and have not spent or reserved; they keep it. What a
	// holder does not tell within RecallMax counts as spent. Counters that nobody has drawn on since this start are left out.
	Idle(ctx context.Context, customerID string) map[store.CounterKey]Idle
}

// Idle is a part of a counter's leases. Buckets have none.
type Idle struct {
	Units  int64 // of its window, in the meter's scale
	AtOnce int64 // requests that could run
}

var _ Others = (*Service)(nil)

// Any implements Others.
func (s *Service) Any() bool {
	for _, n := range s.others() {
		if s.askable(n) != nil {
			return true
		}
	}
	return false
}

func (s *Service) others() []*node {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []*node
	for _, n := range s.nodes {
		if n.number != s.cfg.Local {
			out = append(out, n)
		}
	}
	return inOrder(out)
}

// Idle implements Others.
func (s *Service) Idle(ctx context.Context, customerID string) map[store.CounterKey]Idle {
	from := s.holdings(customerID)
	ctx, cancel := context.WithTimeout(ctx, RecallMax)
	defer cancel()
	var wg sync.WaitGroup
	var mu sync.Mutex // guards out
	out := map[store.CounterKey]Idle{}
	tell := func(n *node, h *held) {
		backs, err := h.Tell(ctx, from[n])
		if err != nil { // it is not left alone for that, as after a recall: an older release knows no such call
			s.cfg.Log.DebugContext(ctx, "a gateway did not tell what it holds idle", slog.Int("node", int(n.number)), slog.Any("error", err))
			return
		}
		mu.Lock()
		defer mu.Unlock()
		s.addIdle(out, customerID, n, backs)
	}
	for _, n := range s.others() {
		h := s.askable(n)
		switch {
		case h == nil || len(from[n]) == 0:
		case s.cfg.Serial:
			tell(n, h)
		default:
			wg.Go(func() { tell(n, h) })
		}
	}
	wg.Wait()
	return out
}

// holdings are the counters of a customer that each node but the local one holds something of.
func (s *Service) holdings(customerID string) map[*node][]store.CounterKey {
	out := map[*node][]store.CounterKey{}
	c := s.lock(customerID)
	defer c.mu.Unlock()
	for id, ctr := range c.counters {
		for i := range ctr.leases {
			l := &ctr.leases[i]
			if n := s.numbered(l.node); n != nil && l.node != s.cfg.Local && l.open() > 0 && len(out[n]) < MaxAsks {
				out[n] = append(out[n], id.CounterKey)
			}
		}
	}
	return out
}

// addIdle adds what a node told, as far as it is known here that the node holds it.
func (s *Service) addIdle(out map[store.CounterKey]Idle, customerID string, n *node, backs []Back) {
	n.run.RLock()
	epoch := n.epoch
	n.run.RUnlock()
	c := s.lock(customerID)
	defer c.mu.Unlock()
	for i := range backs {
		b := &backs[i]
		ctr := c.counters[idOf(b.Counter, b.Kind)]
		if ctr == nil || b.Epoch != 0 && b.Epoch != epoch {
			continue
		}
		idle := max(0, arith.Sub(min(b.Keep, ctr.find(n.number, epoch).open()), max(0, b.Spent)))
		sum := out[b.Counter]
		if b.Kind == quota.Concurrency {
			sum.AtOnce = arith.Add(sum.AtOnce, idle)
		} else {
			sum.Units = arith.Add(sum.Units, idle)
		}
		out[b.Counter] = sum
	}
}
