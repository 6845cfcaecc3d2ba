package client

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const (
	workers    = 8 // calls of the background at a time
	retryAfter = 500 * time.Millisecond
	tickBare   = time.Second // while there are no blocks, but entries to forget
	roundsMax  = 3           // of Close without progress
)

// run gives back what is idle, takes blocks ahead of need and lets those live longer that requests still need. It looks every 25 ms
// while there is a block, and rests otherwise.
func (c *Client) run() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var entries []*entry
	t := time.NewTimer(tick)
	defer t.Stop()
	for {
		entries = c.blocks.all(entries)
		blocks := c.look(ctx, entries)
		var again <-chan time.Time
		switch {
		case blocks:
			t.Reset(tick)
			again = t.C
		case len(entries) > 0:
			t.Reset(tickBare)
			again = t.C
		}
		select {
		case <-c.closing:
			return
		case <-c.wake:
		case <-again:
		}
	}
}

// job is one call that an entry needs.
type job func(context.Context)

// look does what is due for the entries. blocks: there are any.
func (c *Client) look(ctx context.Context, entries []*entry) (blocks bool) {
	now := c.cfg.Now()
	var jobs []job
	for _, e := range entries {
		e.mu.Lock()
		jobs = append(jobs, c.due(e, now)...)
		switch {
		case !e.bare():
			blocks = true
		case e.gone && e.owed == 0, e.owed == 0 && now.Sub(e.last) > entryKept:
			c.blocks.remove(e)
		case e.gone: // nothing will be taken for it any more
			c.stats.unpaid.Add(e.owed)
			c.blocks.remove(e)
		}
		e.mu.Unlock()
	}
	c.work(ctx, jobs)
	return blocks
}

// work does the jobs, a few at a time.
func (c *Client) work(ctx context.Context, jobs []job) {
	var wg sync.WaitGroup
	var at atomic.Int64
	for range min(workers, len(jobs)) {
		wg.Go(func() {
			for {
				i := int(at.Add(1)) - 1
				if i >= len(jobs) {
					return
				}
				jobs[i](ctx)
			}
		})
	}
	wg.Wait()
}

// due finds what an entry needs. e.mu is held.
func (c *Client) due(e *entry, now time.Time) (jobs []job) {
	idle := now.Sub(e.last) >= c.cfg.Idle
	if b := e.cur; b != nil {
		old := now.Sub(b.taken) >= c.cfg.Age
		switch {
		case b.left <= 0 && b.flying == 0:
			e.retire(now)
		case idle && (b.flying == 0 || b.left <= 0 || now.Sub(e.last) >= e.hold):
			e.leaveOpen(now)
		case old && e.next != nil:
			e.rotate(now)
		case old && now.Sub(b.taken) >= 2*c.cfg.Age && !c.breaker.shut(now), !now.Before(b.until):
			e.retire(now)
		case e.next == nil && e.busy == nil && !idle && b.total > e.unit && now.After(e.quiet) && (old || b.left < b.total/2):
			e.busy = make(chan struct{})
			jobs = append(jobs, func(ctx context.Context) { c.ahead(ctx, e) })
		}
	}
	for _, b := range e.old {
		switch {
		case b.ending:
		case now.After(b.until.Add(margin)): // the server has ended it
			jobs = append(jobs, func(context.Context) { c.lose(e, b) })
		case now.Before(b.again):
		case b.charge >= 0, b.flying == 0, b.left > 0 && now.Sub(b.held) >= e.hold:
			b.ending = true
			jobs = append(jobs, func(ctx context.Context) { c.settle(ctx, e, b) })
		case b.until.Sub(now) < c.cfg.TTL/2:
			b.again = now.Add(retryAfter)
			jobs = append(jobs, func(ctx context.Context) { c.extend(ctx, e, b) })
		}
	}
	return jobs
}

// leaveOpen gives both blocks back; the entry stays. mu is held.
func (e *entry) leaveOpen(now time.Time) {
	gone := e.gone
	e.leave(now)
	e.gone = gone
}

// ahead takes the next block before the present one is spent.
func (c *Client) ahead(ctx context.Context, e *entry) {
	e.mu.Lock()
	unit := max(e.unit, 1)
	want := c.sizeOf(e, e.unit)
	if b := e.cur; b != nil && b.left < b.total/2 && c.cfg.Now().Sub(b.taken) < spentFast {
		want = min(mulSat(b.total, 2), mulSat(unit, c.cfg.BlockMax))
	}
	e.mu.Unlock()
	b, p := c.take(ctx, e, max(want, 1))
	e.mu.Lock()
	defer e.mu.Unlock()
	close(e.busy)
	e.busy = nil
	now := c.cfg.Now()
	if p != nil {
		e.quiet = now.Add(deniedFor) // the present one is drawn from meanwhile
		e.size = max(want/4, 1)
		return
	}
	e.next = b
	if e.gone {
		e.leave(now)
	}
}

// settle ends a block at the server. What fails is tried again until the server has ended the block itself.
func (c *Client) settle(ctx context.Context, e *entry, b *block) bool {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	if b.orphan != nil && b.id == "" && !c.findOrphan(ctx, e, b) {
		return false
	}
	e.mu.Lock()
	if b.orphan != nil && b.id == "" { // it never was
		e.drop(b)
		e.mu.Unlock()
		return true
	}
	charge := int64(0)
	if b.orphan == nil {
		charge = e.spentOf(b)
	}
	e.mu.Unlock()
	q := call{method: http.MethodPost, path: "/v1/reservations/" + b.id + "/settle", body: settleBody{Decimal(charge, e.s.scale)}}
	if charge == 0 {
		q.path, q.body = "/v1/reservations/"+b.id+"/release", struct{}{}
	}
	var r Reservation
	err := c.once(ctx, q, &r)
	var p *Problem
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case err == nil:
		c.stats.settled.Add(1)
	case errors.As(err, &p) && (p.Code == "reservation_ended" || p.Code == "reservation_unknown"):
		c.stats.lost.Add(1)
		c.cfg.OnError(err)
	default:
		b.ending, b.again = false, c.cfg.Now().Add(retryAfter)
		return false
	}
	e.drop(b)
	return true
}

// findOrphan asks for the block whose answer was lost. false: it is still not known whether there is one. The caller ends b alone.
func (c *Client) findOrphan(ctx context.Context, e *entry, b *block) bool {
	var r Reservation
	err := c.once(ctx, call{method: http.MethodPost, path: "/v1/reservations", body: b.orphan}, &r)
	var p *Problem
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case err == nil:
		b.id = r.ID
		c.stats.blocks.Add(1)
	case !errors.As(err, &p), p.Status >= http.StatusInternalServerError, p.Code == "idempotency_in_progress":
		b.ending, b.again = false, c.cfg.Now().Add(retryAfter)
		return false
	}
	return true
}

// extend lets a block live on for the requests under way.
func (c *Client) extend(ctx context.Context, e *entry, b *block) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	now := c.cfg.Now()
	var r Reservation
	err := c.once(ctx, call{
		method: http.MethodPost, path: "/v1/reservations/" + b.id + "/extend", body: extendBody{int64(c.cfg.TTL / time.Second)},
	}, &r)
	if err != nil {
		return // it is tried again until it is too late
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	b.until, b.again = now.Add(c.cfg.TTL-margin), time.Time{}
}

// lose forgets a block that the server has charged in full.
func (c *Client) lose(e *entry, b *block) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if b.charge < 0 {
		b.charge = b.total
	}
	c.stats.lost.Add(1)
	e.drop(b)
}

// settleAll ends every block, and says how many it could not.
func (c *Client) settleAll(ctx context.Context) int {
	for rounds := 0; ; rounds++ {
		var left, ended atomic.Int64
		c.work(ctx, c.endings(&left, &ended))
		if ended.Load() > 0 {
			rounds = 0
		}
		if left.Load() == 0 || ctx.Err() != nil || rounds >= roundsMax {
			break
		}
		if ended.Load() == 0 {
			t := time.NewTimer(retryAfter)
			select {
			case <-t.C:
			case <-ctx.Done():
			}
			t.Stop()
		}
	}
	open := 0
	for _, e := range c.blocks.all(nil) {
		e.mu.Lock()
		open += len(e.old)
		c.stats.unpaid.Add(e.owed)
		e.mu.Unlock()
	}
	return open
}

// endings are the jobs that end what there is. They count what is left to be done, and what they have ended.
func (c *Client) endings(left, ended *atomic.Int64) (jobs []job) {
	now := c.cfg.Now()
	for _, e := range c.blocks.all(nil) {
		e.mu.Lock()
		if busy := e.busy; busy != nil {
			jobs = append(jobs, func(ctx context.Context) {
				left.Add(1) // what it has got
				select {
				case <-busy:
					ended.Add(1)
				case <-ctx.Done():
				}
			})
		}
		e.leave(now)
		for _, b := range e.old {
			if b.ending {
				left.Add(1)
				continue // a request is at it
			}
			b.ending = true
			jobs = append(jobs, func(ctx context.Context) {
				if c.settle(ctx, e, b) {
					ended.Add(1)
				} else {
					left.Add(1)
				}
			})
		}
		e.mu.Unlock()
	}
	return jobs
}
