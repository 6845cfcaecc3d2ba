// Package inflight counts requests that run, so that a close of a period can wait for those decided before its end.
package inflight

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
)

// generations bounds how many instants can be waited for at once.
const generations = 64

// Count counts open reservations by generation, so that a close of a period can wait for those decided before its end
// without a list of them. A new generation begins when somebody waits for an instant that the present one may lie before.
type Count struct {
	now  atomic.Uint32 // the present generation
	_    [64]byte
	open [Stripes][generations]atomic.Int64

	mu      sync.Mutex         // guards all below
	began   [generations]int64 // business microseconds: no request of the generation was decided before it
	changed chan struct{}      // closed when an older generation may have emptied
}

var errGenerations = errors.New("too many waits for running requests at once")

// Stripes is in how many counts, of a cache line each, what every request counts is kept, so that cores do not wait for each other.
const Stripes = 8

// Entry is where a request was counted: a generation and a stripe.
type Entry struct{ generation, stripe uint8 }

// Stripe is where the entry was counted.
func (e Entry) Stripe() uint8 { return e.stripe }

// Enter must come before the decision instant is read.
func (f *Count) Enter(stripe uint8) Entry {
	at := Entry{uint8(f.now.Load()), stripe}
	f.open[at.stripe][at.generation].Add(1)
	return at
}

// Leave is called once for each entry.
func (f *Count) Leave(at Entry) {
	if f.open[at.stripe][at.generation].Add(-1) == 0 && uint32(at.generation) != f.now.Load() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.changed != nil {
			close(f.changed)
			f.changed = nil
		}
	}
}

// Total is how many run.
func (f *Count) Total() (n int64) {
	for g := range uint32(generations) {
		n += f.in(g)
	}
	return n
}

// in counts those of a generation.
func (f *Count) in(g uint32) (n int64) {
	for i := range f.open {
		n += f.open[i][g].Load()
	}
	return n
}

// Wait returns when all requests decided before an instant have left, or with ctx's error. Later ones do not hold it up. The
// instant has passed: now is at or after it.
func (f *Count) Wait(ctx context.Context, before, now int64) error {
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
func (f *Count) older(before, now int64) (n int64, changed <-chan struct{}, err error) {
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
	for g := range uint32(generations) {
		if f.began[g] < before {
			n += f.in(g)
		}
	}
	return n, f.changed, nil
}

// free finds a generation that nobody is in. One that a request enters at this very moment is only waited for too long.
func (f *Count) free(present uint32) (uint32, error) {
	for i := uint32(1); i < generations; i++ {
		if g := (present + i) % generations; f.in(g) == 0 {
			return g, nil
		}
	}
	return 0, errGenerations
}
