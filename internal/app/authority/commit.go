package authority

import (
	"context"
	"sync"

	"github.com/tallystick/tallystick/internal/store"
)

// committer writes leases of many calls in one transaction. The first to wait leads: it writes for all who came while the
// transaction before was under way.
type committer struct {
	write func(context.Context, []store.Lease) error
	turn  chan struct{} // holds one token while a transaction runs

	mu   sync.Mutex // guards next
	next *commit    // collects what comes; nil: nothing yet
}

// commit is one transaction.
type commit struct {
	rows []store.Lease
	done chan struct{} // closed when err is known
	err  error
}

func newCommitter(write func(context.Context, []store.Lease) error) *committer {
	return &committer{write: write, turn: make(chan struct{}, 1)}
}

// ticket is a place in a commit. The holder must call wait, once.
type ticket struct {
	commit *commit
	leads  bool
}

// enqueue takes a place. Rows of one lease are written in the order of their enqueuing; the caller holds the customer's lock.
func (c *committer) enqueue(rows []store.Lease) ticket {
	c.mu.Lock()
	defer c.mu.Unlock()
	leads := c.next == nil
	if leads {
		c.next = &commit{done: make(chan struct{})}
	}
	c.next.rows = append(c.next.rows, rows...)
	return ticket{c.next, leads}
}

// wait returns when the ticket's rows are durable, or failed. It does not end early: others wait for the same.
func (c *committer) wait(ctx context.Context, t ticket) error {
	if !t.leads {
		<-t.commit.done
		return t.commit.err
	}
	c.turn <- struct{}{}
	c.mu.Lock()
	c.next = nil
	c.mu.Unlock()
	t.commit.err = c.write(context.WithoutCancel(ctx), t.commit.rows)
	<-c.turn
	close(t.commit.done)
	return t.commit.err
}
