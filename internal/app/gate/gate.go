// Package gate lets calls in until it is closed, and waits for the last of them.
package gate

import (
	"context"
	"sync"
)

// Gate counts the calls that run. The zero Gate is open. mu guards all fields.
type Gate struct {
	mu      sync.Mutex
	closed  bool
	running int
	idle    chan struct{} // closed when none runs; nil: nobody waits
}

// Enter lets a call in; false: the gate is closed. Who was let in calls Leave.
func (g *Gate) Enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	g.running++
	return true
}

// Leave ends a call.
func (g *Gate) Leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.running--; g.running == 0 && g.idle != nil {
		close(g.idle)
		g.idle = nil
	}
}

// Close lets none in any more, and returns when those that run have left, or with the error of ctx.
func (g *Gate) Close(ctx context.Context) error {
	g.mu.Lock()
	g.closed = true
	if g.running == 0 {
		g.mu.Unlock()
		return nil
	}
	if g.idle == nil {
		g.idle = make(chan struct{})
	}
	idle := g.idle
	g.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
