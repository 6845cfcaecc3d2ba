package client

import (
	"math"
	"sync"
	"time"
)

// series is what has blocks of its own.
type series struct {
	keyID, customer, user string
	meter, route          string
	scale                 int
}

// block is quota that an open reservation of the server holds. Its entry's mu owns all fields that change.
type block struct {
	id       string // res_…
	decision string // Decision-Id
	total    int64
	left     int64 // below 0: requests did cost more than was admitted
	flying   int   // requests under way
	taken    time.Time
	until    time.Time       // it is not drawn from later; the server ends it soon after
	held     time.Time       // when it was put to the old ones
	again    time.Time       // an end that failed is not tried earlier
	charge   int64           // fixed once its end was tried; -1: not
	ending   bool            // somebody is at it
	orphan   *NewReservation // its answer was lost: whether it is there is not known, nor its id
	asked    bool            // the next one was asked for early
}

// spendable says whether a request of that cost fits.
func (b *block) spendable(cost int64, now time.Time) bool {
	return b != nil && b.left >= cost && now.Before(b.until)
}

// entry is a series with its blocks.
type entry struct {
	s    series
	hold time.Duration

	mu          sync.Mutex    // guards all below
	cur         *block        // requests draw from it
	next        *block        // taken ahead of need
	old         []*block      // not drawn from any more
	busy        chan struct{} // a call is on its way; closed at its end
	waiting     int
	size        int64 // of the next block, in cost units
	unit        int64 // cost of the last request
	last        time.Time
	denied      *Problem
	deniedCost  int64
	deniedUntil time.Time
	inRow       bool      // the last ask was denied
	quiet       time.Time // nothing is asked for ahead of need before
	owed        int64     // cost units to be charged with the next block that ends
	gone        bool      // it is no longer in the table
}

// draw admits a request if a block has room for it. mu is held.
func (e *entry) draw(cost int64, now time.Time) *block {
	b := e.cur
	if !b.spendable(cost, now) {
		if !e.next.spendable(cost, now) {
			return nil
		}
		e.rotate(now)
		b = e.cur
	}
	b.left -= cost
	b.flying++
	e.last, e.unit = now, cost
	return b
}

// rotate puts the next block in the place of the present one, and learns from how that one was used. mu is held.
func (e *entry) rotate(now time.Time) {
	e.retire(now)
	e.cur, e.next = e.next, nil
}

// The time in which a spent block was too small.
const spentFast = 250 * time.Millisecond

// retire lets nobody draw from the present block any more. mu is held.
func (e *entry) retire(now time.Time) {
	b := e.cur
	if b == nil {
		return
	}
	switch {
	case b.left <= b.total/4 && now.Sub(b.taken) < spentFast:
		e.size = mulSat(b.total, 2)
	case b.left > b.total/2:
		e.size = b.total - b.left
	}
	b.held = now
	e.old = append(e.old, b)
	e.cur = nil
}

// finish ends a request: actual is what it did cost. What a block that has ended can no longer take is owed, or stays charged: kept.
// over: nobody needs the block any more.
func (e *entry) finish(b *block, cost, actual int64) (kept int64, over bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case b == nil:
		e.owed = addSat(e.owed, actual)
	case b.charge >= 0:
		b.flying--
		if actual < cost {
			return cost - actual, false
		}
		e.owed = addSat(e.owed, actual-cost)
	default:
		b.flying--
		b.left = addSat(b.left, cost-actual)
		return 0, b.flying == 0 && (b.left <= 0 || b != e.cur && b != e.next)
	}
	return 0, false
}

// spentOf fixes what a block is charged with at its end. mu is held.
func (e *entry) spentOf(b *block) int64 {
	if b.charge < 0 {
		b.charge = addSat(b.total-b.left, e.owed)
		e.owed = 0
	}
	return b.charge
}

// drop forgets an old block. mu is held.
func (e *entry) drop(b *block) {
	for i, o := range e.old {
		if o == b {
			e.old = append(e.old[:i], e.old[i+1:]...)
			return
		}
	}
}

// bare says that nothing is lost with the entry but what is owed. mu is held.
func (e *entry) bare() bool { return e.cur == nil && e.next == nil && len(e.old) == 0 && e.busy == nil }

func addSat(a, b int64) int64 {
	switch {
	case b > 0 && a > math.MaxInt64-b:
		return math.MaxInt64
	case b < 0 && a < math.MinInt64-b:
		return math.MinInt64
	}
	return a + b
}

// mulSat is for factors of 0 or more.
func mulSat(a, b int64) int64 {
	if b != 0 && a > math.MaxInt64/b {
		return math.MaxInt64
	}
	return a * b
}

const (
	lruSample  = 16
	waitingMax = 4096 // requests that wait for one block
	entryKept  = time.Minute
)

// table has the entries. Those that were put out for want of room are kept until their blocks have ended.
type table struct {
	mu     sync.RWMutex // guards all below; an entry's mu is taken before it or not at all
	live   map[series]*entry
	ending map[*entry]struct{}
	most   int
}

func (t *table) init(most int) {
	t.live, t.ending, t.most = map[series]*entry{}, map[*entry]struct{}{}, most
}

// find makes the entry where there is none. made: the background has something new to look at. nil: there is no room.
func (t *table) find(s *series, hold time.Duration, now time.Time) (e *entry, made bool) {
	t.mu.RLock()
	e = t.live[*s]
	t.mu.RUnlock()
	if e != nil {
		return e, false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if e = t.live[*s]; e != nil {
		return e, false
	}
	if len(t.live) >= t.most {
		if len(t.ending) >= t.most || !t.putOut(now) {
			return nil, false
		}
	}
	e = &entry{s: *s, hold: hold, last: now}
	t.live[*s] = e
	return e, true
}

// putOut takes away the entry that was used the longest ago among a few.
func (t *table) putOut(now time.Time) bool {
	var oldest *entry
	var at time.Time
	looked := 0
	for _, e := range t.live { // in no order
		if e.mu.TryLock() { // find is called with no entry locked, but others may want the table
			if last := e.last; e.busy == nil && (oldest == nil || last.Before(at)) {
				oldest, at = e, last
			}
			e.mu.Unlock()
		}
		if looked++; looked == lruSample {
			break
		}
	}
	if oldest == nil || !oldest.mu.TryLock() {
		return false
	}
	defer oldest.mu.Unlock()
	oldest.leave(now)
	delete(t.live, oldest.s)
	t.ending[oldest] = struct{}{}
	return true
}

// leave puts all blocks to the old ones. mu is held.
func (e *entry) leave(now time.Time) {
	e.retire(now)
	if e.next != nil {
		e.rotate(now)
		e.retire(now)
	}
	e.gone = true
}

// all are the entries as they are now.
func (t *table) all(into []*entry) []*entry {
	t.mu.RLock()
	defer t.mu.RUnlock()
	into = into[:0]
	for _, e := range t.live {
		into = append(into, e)
	}
	for e := range t.ending {
		into = append(into, e)
	}
	return into
}

// remove forgets an entry. mu of the entry is held.
func (t *table) remove(e *entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e.gone = true
	if t.live[e.s] == e {
		delete(t.live, e.s)
	}
	delete(t.ending, e)
}
