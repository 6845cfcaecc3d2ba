// Package commit does once for many callers what each of them waits for: a group commit without a goroutine of its own. The first
// to wait leads.
package commit

import (
	"context"
	"sync"
)

// Writer writes rows of many calls at once. Who leads writes for all who came while the write before was under way. It is safe
// for concurrent use.
type Writer[T any] struct {
	write func(context.Context, []T) error
	turn  chan struct{} // holds one token while a write runs

	mu   sync.Mutex // guards next
	next *group[T]  // collects what comes; nil: nothing yet
}

// group is what is written at once.
type group[T any] struct {
	rows []T
	done chan struct{} // closed when err is known
	err  error
}

// NewWriter writes by a function that is never called twice at once.
func NewWriter[T any](write func(context.Context, []T) error) *Writer[T] {
	return &Writer[T]{write: write, turn: make(chan struct{}, 1)}
}

// Ticket is a place in a group. The holder must call Wait, once.
type Ticket[T any] struct {
	group *group[T]
	leads bool
}

// Enqueue takes a place. Rows of one lease are written in the order of their enqueuing; who cares for it holds a lock.
func (c *Writer[T]) Enqueue(rows []T) Ticket[T] {
	c.mu.Lock()
	defer c.mu.Unlock()
	leads := c.next == nil
	if leads {
		c.next = &group[T]{done: make(chan struct{})}
	}
	c.next.rows = append(c.next.rows, rows...)
	return Ticket[T]{c.next, leads}
}

// Wait returns when the ticket's rows are durable, or failed. It does not end early: others wait for the same.
func (c *Writer[T]) Wait(ctx context.Context, t Ticket[T]) error {
	if !t.leads {
		<-t.group.done
		return t.group.err
	}
	c.turn <- struct{}{}
	c.mu.Lock()
	c.next = nil
	c.mu.Unlock()
	t.group.err = c.write(context.WithoutCancel(ctx), t.group.rows)
	<-c.turn
	close(t.group.done)
	return t.group.err
}
