// Package commit writes what many callers have for the records in one transaction each: a group commit without a goroutine of its
// own. The first to wait leads.
package commit

import (
	"context"
	"sync"

	"github.com/tallystick/tallystick/internal/store"
)

// Writer writes leases of many calls in one transaction. Who leads writes for all who came while the transaction before was
// under way. It is safe for concurrent use.
type Writer struct {
	write func(context.Context, []store.Lease) error
	turn  chan struct{} // holds one token while a transaction runs

	mu   sync.Mutex // guards next
	next *group     // collects what comes; nil: nothing yet
}

// group is one transaction.
type group struct {
	rows []store.Lease
	done chan struct{} // closed when err is known
	err  error
}

// NewWriter writes by a function that is never called twice at once.
func NewWriter(write func(context.Context, []store.Lease) error) *Writer {
	return &Writer{write: write, turn: make(chan struct{}, 1)}
}

// Ticket is a place in a group. The holder must call Wait, once.
type Ticket struct {
	group *group
	leads bool
}

// Enqueue takes a place. Rows of one lease are written in the order of their enqueuing; who cares for it holds a lock.
func (c *Writer) Enqueue(rows []store.Lease) Ticket {
	c.mu.Lock()
	defer c.mu.Unlock()
	leads := c.next == nil
	if leads {
		c.next = &group{done: make(chan struct{})}
	}
	c.next.rows = append(c.next.rows, rows...)
	return Ticket{c.next, leads}
}

// Wait returns when the ticket's rows are durable, or failed. It does not end early: others wait for the same.
func (c *Writer) Wait(ctx context.Context, t Ticket) error {
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
