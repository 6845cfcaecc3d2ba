package file

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/tallystick/tallystick/internal/store"
)

// queue holds the calls that wait for a commit. The first of them leads: it commits a group with as many followers as the
// bounds allow, then hands the lead to the next. There is no goroutine of our own.
type queue struct {
	mu      sync.Mutex
	waiting []*call
	bytes   int
	led     bool // somebody leads
}

func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting)
}

// join adds a call; it leads if nobody does. ok is false when the queue is full.
func (q *queue) join(c *call) (lead, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) >= MaxWaiters || len(q.waiting) > 0 && q.bytes+c.size() > MaxWaitingBytes {
		return false, false
	}
	q.waiting = append(q.waiting, c)
	q.bytes += c.size()
	c.queued = true
	if !q.led {
		q.led, c.leading = true, true
	}
	return c.leading, true
}

// abandon takes a call out unless it is being committed or leads.
func (q *queue) abandon(c *call) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !c.queued || c.leading {
		return false
	}
	for i, w := range q.waiting {
		if w == c {
			q.waiting = append(q.waiting[:i], q.waiting[i+1:]...)
			q.bytes -= c.size()
			c.queued = false
			return true
		}
	}
	return false
}

// take removes the next group from the front. A call that stages for itself is a group of its own.
func (q *queue) take(group []*call) []*call {
	q.mu.Lock()
	defer q.mu.Unlock()
	entries, bytes := 0, 0
	for _, c := range q.waiting {
		if len(group) > 0 && (c.alone != nil || group[0].alone != nil || entries+len(c.entries) > MaxGroupEntries || bytes+c.size() > MaxGroupBytes) {
			break
		}
		entries += len(c.entries)
		bytes += c.size()
		c.queued = false
		group = append(group, c)
	}
	rest := copy(q.waiting, q.waiting[len(group):])
	clear(q.waiting[rest:])
	q.waiting = q.waiting[:rest]
	q.bytes -= bytes
	return group
}

// handOver makes the next call the leader and returns it; nil when none waits.
func (q *queue) handOver() *call {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		q.led = false
		return nil
	}
	q.waiting[0].leading = true
	return q.waiting[0]
}

// submit brings a call through a commit.
func (j *Journal) submit(ctx context.Context, c *call) error {
	if err := j.failed(); err != nil {
		return err
	}
	lead, ok := j.queue.join(c)
	if !ok {
		j.stats.full.Add(1)
		return fmt.Errorf("%d calls are waiting for the disk: %w", MaxWaiters, store.ErrFull)
	}
	if !lead {
		select {
		case <-c.wake:
		case <-ctx.Done():
			if j.queue.abandon(c) {
				return ctx.Err()
			}
			<-c.wake
		}
		lead = c.leading // ordered by wake
	}
	if lead {
		j.lead()
	}
	return c.err
}

// lead commits one group, whose first call is the leader's own. Whatever happens, the lead goes on to the next.
func (j *Journal) lead() {
	j.calling = j.queue.take(j.calling[:0])
	defer func() {
		if next := j.queue.handOver(); next != nil {
			next.wake <- struct{}{}
		}
	}()
	j.commitLed()
	j.relieve()
}

var errPanicked = errors.New("a fault of the program")

// commitLed commits the group and answers those who wait for it, also when a panic is on its way up: a server that survives that
// must not keep them waiting for ever.
func (j *Journal) commitLed() {
	done := false
	j.leading.Lock()
	defer func() {
		if !done {
			err := j.breakDown("commit", errPanicked)
			for _, c := range j.calling {
				c.err = errors.Join(c.err, err)
			}
		}
		j.leading.Unlock()
		for _, c := range j.calling[1:] {
			c.wake <- struct{}{}
		}
		clear(j.calling)
	}()
	j.commit(j.calling)
	done = true
}
