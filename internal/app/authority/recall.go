package authority

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/tallystick/tallystick/internal/app/authority/commit"
	"github.com/tallystick/tallystick/internal/store"
)

// held is a registered holder with its ship calls, which are shared: one that begins after a caller came does for all of them.
type held struct {
	Holder
	ships *commit.Writer[struct{}]
}

// Register makes a node's holder known, so that it can be asked for what it holds idle. A later one takes its place.
func (s *Service) Register(number uint16, h Holder) (unregister func()) {
	s.mu.Lock()
	n := s.makeNode(number)
	s.mu.Unlock()
	longest := shipMax
	if number == s.cfg.Local {
		longest = shipOwnMax
	}
	mine := &held{h, commit.NewWriter(func(ctx context.Context, _ []struct{}) error {
		ctx, cancel := context.WithTimeout(ctx, longest)
		defer cancel()
		return h.Ship(ctx)
	})}
	n.mu.Lock()
	n.holder = mine
	n.mu.Unlock()
	n.silent.Store(0)
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.holder == mine {
			n.holder = nil
		}
	}
}

// askable is the node's holder when there is one that lately answered.
func (s *Service) askable(n *node) *held {
	if int64(s.cfg.Mono()) < n.silent.Load() {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.holder
}

// mute leaves a holder alone for a while.
func (s *Service) mute(n *node) {
	n.silent.Store(int64(s.cfg.Mono() + silentFor))
	s.stats.silent.Add(1)
}

// recall asks each node for what it holds idle of counters, all at once, and returns when the last has answered or RecallMax is
// over. What comes later is taken all the same.
func (s *Service) recall(ctx context.Context, from map[*node][]store.CounterKey) {
	if s.cfg.Serial {
		for _, n := range inOrder(slices.Collect(maps.Keys(from))) {
			if h := s.askable(n); h != nil {
				s.stats.recalls.Add(1)
				s.recallOne(ctx, n, h, from[n])
			}
		}
		return
	}
	ctx, cancel := context.WithTimeout(ctx, RecallMax)
	defer cancel()
	var wg sync.WaitGroup
	asked := make(map[*node]*atomic.Bool, len(from))
	for n, keys := range from {
		h := s.askable(n)
		if h == nil {
			continue
		}
		answered := &atomic.Bool{}
		asked[n] = answered
		s.stats.recalls.Add(1)
		wg.Go(func() {
			s.recallOne(ctx, n, h, keys)
			answered.Store(true)
		})
	}
	all := make(chan struct{})
	go func() { wg.Wait(); close(all) }()
	select {
	case <-all:
		return
	case <-ctx.Done():
	}
	for n, answered := range asked {
		if !answered.Load() {
			s.mute(n)
		}
	}
}

// inOrder sorts nodes by number.
func inOrder(nodes []*node) []*node {
	slices.SortFunc(nodes, func(a, b *node) int { return cmp.Compare(a.number, b.number) })
	return nodes
}

// recallOne asks one node, and leaves it alone for a while where it does not answer.
func (s *Service) recallOne(ctx context.Context, n *node, h *held, keys []store.CounterKey) {
	if err := s.recallFrom(ctx, n, h, keys); err != nil {
		s.mute(n)
		s.cfg.Log.DebugContext(ctx, "a gateway did not give back what it holds idle", slog.Int("node", int(n.number)), slog.Any("error", err))
	}
}

func (s *Service) recallFrom(ctx context.Context, n *node, h *held, keys []store.CounterKey) error {
	n.run.RLock()
	epoch := n.epoch
	n.run.RUnlock()
	backs, err := h.Recall(ctx, keys)
	if err != nil {
		return err
	}
	n.run.RLock()
	defer n.run.RUnlock()
	for i := range backs {
		if backs[i].Epoch == 0 {
			backs[i].Epoch = epoch
		}
	}
	return s.take(context.WithoutCancel(ctx), n, backs)
}

// shipAll has all holders hand over what they decided so far. One in another process that does not is passed over: what it
// decided on leases is charged in the records.
func (s *Service) shipAll(ctx context.Context) error {
	s.mu.RLock()
	nodes := make([]*node, 0, len(s.nodes))
	for _, n := range s.nodes {
		nodes = append(nodes, n)
	}
	s.mu.RUnlock()
	var wg sync.WaitGroup
	var mu sync.Mutex // guards failed
	var failed error
	ship := func(n *node, h *held) {
		err := h.ships.Wait(ctx, h.ships.Enqueue(nil))
		switch {
		case err == nil:
		case n.number == s.cfg.Local:
			mu.Lock()
			defer mu.Unlock()
			failed = fmt.Errorf("ship what was decided: %w", err)
		default:
			s.mute(n)
		}
	}
	for _, n := range inOrder(nodes) {
		h := s.askable(n)
		switch {
		case h == nil:
		case s.cfg.Serial:
			ship(n, h)
		default:
			wg.Go(func() { ship(n, h) })
		}
	}
	wg.Wait()
	return failed
}
