package client

import (
	"math/rand/v2"
	"sync"
	"time"
)

const (
	breakerFailures = 3
	breakerFirst    = 500 * time.Millisecond
	breakerMax      = 10 * time.Second
)

// breaker keeps requests from waiting for a server that does not answer: after three failures in a row calls fail at once, but
// for one at a time that tries whether it is back.
type breaker struct {
	mu      sync.Mutex // guards all below
	failed  int
	pause   time.Duration
	until   time.Time
	probing bool
}

// enter says whether a call may be made. Each that may is followed by leave.
func (b *breaker) enter(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failed < breakerFailures {
		return true
	}
	if b.probing || now.Before(b.until) {
		return false
	}
	b.probing = true
	return true
}

// leave tells how the call went. A caller who gave up says nothing about the server.
func (b *breaker) leave(now time.Time, answered, gaveUp bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.probing = false
	switch {
	case answered:
		b.failed, b.pause = 0, 0
		return
	case gaveUp:
		return
	}
	if b.failed++; b.failed < breakerFailures {
		return
	}
	b.pause = min(max(2*b.pause, breakerFirst), breakerMax)
	b.until = now.Add(jitter(b.pause))
}

// shut says that calls fail at once.
func (b *breaker) shut(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failed >= breakerFailures && (b.probing || now.Before(b.until))
}

// jitter is half of d to d, so that many do not come back at once.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }
