package enforce

import (
	"context"
	"sync/atomic"
)

// generations bounds how many waits for older requests can overlap before a slot is used again.
const generations = 64

// inflight counts open reservations by generation, so that a close of a period can wait for those decided before it
// without a list of them. Settled moves to a new generation and waits until the others are empty.
type inflight struct {
	now     atomic.Uint32
	open    [generations]atomic.Int64
	drained chan struct{} // holds one token after a generation may have emptied
}

// enter must come before the decision instant is read.
func (f *inflight) enter() uint32 {
	g := f.now.Load() % generations
	f.open[g].Add(1)
	return g
}

func (f *inflight) leave(g uint32) {
	if f.open[g].Add(-1) == 0 && g != f.now.Load()%generations {
		select {
		case f.drained <- struct{}{}:
		default:
		}
	}
}

func (f *inflight) total() (n int64) {
	for i := range f.open {
		n += f.open[i].Load()
	}
	return n
}

// wait returns when all that entered before the call have left, or with ctx's error.
func (f *inflight) wait(ctx context.Context) error {
	g := f.now.Add(1) % generations
	for {
		var older int64
		for i := range f.open {
			if uint32(i) != g {
				older += f.open[i].Load()
			}
		}
		if older == 0 {
			return nil
		}
		select {
		case <-f.drained:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
