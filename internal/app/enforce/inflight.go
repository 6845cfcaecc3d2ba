package enforce

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
)

// generations bounds how many instants can be waited for at once.
const generations = 64

// inflight counts open reservations by generation, so that a close of a period can wait for those decided before its end
// without a list of them. A new generation begins when somebody waits for an instant that the present one may lie before.
type inflight struct {
	now  atomic.Uint32 // the present generation
	open [generations]atomic.Int64

	mu      sync.Mutex         // guards all below
	began   [generations]int64 // business microseconds: no request of the generation was decided before it
	changed chan struct{}      // closed when an older generation may have emptied
}

var errGenerations = errors.New("too many waits for running requests at once")

// enter must come before the decision instant is read.
func (f *inflight) enter() uint32 {
	g := f.now.Load()
	f.open[g].Add(1)
	return g
}

func (f *inflight) leave(g uint32) {
	if f.open[g].Add(-1) == 0 && g != f.now.Load() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.changed != nil {
			close(f.changed)
			f.changed = nil
		}
	}
}

func (f *inflight) total() (n int64) {
	for i := range f.open {
		n += f.open[i].Load()
	}
	return n
}

// wait returns when all requests decided before an instant have left, or with ctx's error. Later ones do not hold it up. The
// instant has passed: now is at or after it.
func (f *inflight) wait(ctx context.Context, before, now int64) error {
	for {
		older, changed, err := f.older(before, now)
		if err != nil || older == 0 {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// older counts the open requests that may have been decided before an instant.
func (f *inflight) older(before, now int64) (n int64, changed <-chan struct{}, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if g := f.now.Load(); f.began[g] < before {
		next, err := f.free(g)
		if err != nil {
			return 0, nil, err
		}
		f.began[next] = now
		f.now.Store(next)
	}
	if f.changed == nil {
		f.changed = make(chan struct{})
	}
	for i := range f.open {
		if f.began[i] < before {
			n += f.open[i].Load()
		}
	}
	return n, f.changed, nil
}

// free finds a generation that nobody is in. One that a request enters at this very moment is only waited for too long.
func (f *inflight) free(present uint32) (uint32, error) {
	for i := uint32(1); i < generations; i++ {
		if g := (present + i) % generations; f.open[g].Load() == 0 {
			return g, nil
		}
	}
	return 0, errGenerations
}
