package remote

import (
	"sync"
	"time"
)

// Waits of a breaker between its probes.
const (
	probeFirst = 100 * time.Millisecond
	probeMax   = time.Second
)

// breaker keeps calls from a server that does not answer: after one failure all fail at once, but for a probe now and then. mu
// owns all fields.
type breaker struct {
	mu     sync.Mutex
	open   bool
	probe  time.Time     // when the next call may go through
	wait   time.Duration // until the probe after that
	opened int64         // how often it opened
}

// allow says whether a call may be made at an instant of the monotonic clock.
func (b *breaker) allow(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.open {
		return true
	}
	if now.Before(b.probe) {
		return false
	}
	b.probe = now.Add(b.wait) // this call is the probe
	return true
}

// done tells how a call went.
func (b *breaker) done(now time.Time, reached bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case reached:
		b.open, b.wait = false, 0
	case !b.open:
		b.open, b.wait = true, probeFirst
		b.probe = now.Add(b.wait)
		b.opened++
	default:
		b.wait = min(2*b.wait, probeMax)
		b.probe = now.Add(b.wait)
	}
}

// state is whether it is open, and how often it opened.
func (b *breaker) state() (open bool, opened int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.open, b.opened
}
