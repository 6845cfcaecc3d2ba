// Package shape lets requests wait a little for their turn before they are refused: first come, first served for each key, and the
// keys of a limit in turn. All queues are bounded, in length and in time.
package shape

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tallystick/tallystick/internal/core/catalog"
)

// pollEvery is how often the first in a queue tries again when nobody can say when it will be let through.
const pollEvery = 20 * time.Millisecond

// Lane is a counter of one limit of a customer: those who wait for it wait for each other.
type Lane struct {
	Customer, Scope string
	Limit           *catalog.Shape
}

// Caller is who asks for what. Requests of one caller keep their order.
type Caller struct{ Key, Route, User string }

// Result is how a wait ended.
type Result uint8

// The results.
const (
	Decided Result = iota + 1 // try said so
	Full                      // the key's queue was full; it did not wait
	Expired                   // it would take longer than MaxWait
	Gone                      // the context was over
	Closed                    // the program ends
)

// Queues are the queues of a gateway. They are safe for concurrent use.
type Queues struct {
	mu      sync.Mutex
	lanes   map[string]map[Lane]*lane // by customer
	callers map[Caller]*joined
	waiting atomic.Int64
	closed  chan struct{}
	once    sync.Once
}

// New makes empty queues.
func New() *Queues {
	return &Queues{lanes: map[string]map[Lane]*lane{}, callers: map[Caller]*joined{}, closed: make(chan struct{})}
}

// joined is where a caller's requests wait.
type joined struct {
	lane Lane
	n    int
}

// lane has the lines of its keys; the first waiter of the first line has the turn.
type lane struct{ lines []*line }

type line struct {
	key     string
	waiters []*waiter
}

type waiter struct {
	lane   Lane
	caller Caller
	turn   chan struct{} // closed when it has the turn
	poke   chan struct{} // something ended: try again
}

// Waiting is how many requests wait.
func (q *Queues) Waiting() int64 { return q.waiting.Load() }

// Behind says whether requests of the caller wait already, so that the next one must line up, and where.
func (q *Queues) Behind(c Caller) (Lane, bool) {
	if q.waiting.Load() == 0 {
		return Lane{}, false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	j := q.callers[c]
	if j == nil {
		return Lane{}, false
	}
	return j.lane, true
}

// Wait lines up and calls try when it is the caller's turn, until try is done. clearsIn is after how long that may be; 0: not
// known. try says whether it is done, and if not, when to try again.
func (q *Queues) Wait(ctx context.Context, l Lane, c Caller, clearsIn time.Duration, try func() (done bool, clearsIn time.Duration)) Result {
	if clearsIn > l.Limit.MaxWait {
		return Expired
	}
	w, ok := q.enter(l, c)
	if !ok {
		return Full
	}
	defer q.leave(w)
	deadline := time.NewTimer(l.Limit.MaxWait)
	defer deadline.Stop()
	select {
	case <-w.turn: // nobody is before it: what it knows holds
	default:
		if r := q.until(ctx, w.turn, deadline.C); r != 0 {
			return r
		}
		var done bool
		if done, clearsIn = try(); done {
			return Decided
		}
	}
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		wait := clearsIn
		if wait <= 0 {
			wait = pollEvery
		}
		again.Reset(wait)
		select {
		case <-again.C:
		case <-w.poke:
		case <-deadline.C:
			return Expired
		case <-ctx.Done():
			return Gone
		case <-q.closed:
			return Closed
		}
		var done bool
		if done, clearsIn = try(); done {
			return Decided
		}
	}
}

// until waits for the turn; 0: it came.
func (q *Queues) until(ctx context.Context, turn <-chan struct{}, deadline <-chan time.Time) Result {
	select {
	case <-turn:
		return 0
	case <-deadline:
		return Expired
	case <-ctx.Done():
		return Gone
	case <-q.closed:
		return Closed
	}
}

// Poke tells that a request of a customer ended, so that another may fit.
func (q *Queues) Poke(customer string) {
	if q.waiting.Load() == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, l := range q.lanes[customer] {
		select {
		case l.first().poke <- struct{}{}:
		default: // it was told already
		}
	}
}

// Close ends all waits, those to come too.
func (q *Queues) Close() { q.once.Do(func() { close(q.closed) }) }

// first has the turn. A lane has at least one waiter.
func (l *lane) first() *waiter { return l.lines[0].waiters[0] }

func (q *Queues) enter(at Lane, c Caller) (*waiter, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.lanes[at.Customer][at]
	if l == nil {
		l = &lane{}
	}
	i := slices.IndexFunc(l.lines, func(x *line) bool { return x.key == c.Key })
	if at.Limit.Queue <= 0 || i >= 0 && len(l.lines[i].waiters) >= at.Limit.Queue {
		return nil, false
	}
	if i < 0 {
		i = len(l.lines)
		l.lines = append(l.lines, &line{key: c.Key})
	}
	w := &waiter{lane: at, caller: c, turn: make(chan struct{}), poke: make(chan struct{}, 1)}
	l.lines[i].waiters = append(l.lines[i].waiters, w)
	if l.first() == w {
		close(w.turn)
	}
	if q.lanes[at.Customer] == nil {
		q.lanes[at.Customer] = map[Lane]*lane{}
	}
	q.lanes[at.Customer][at] = l
	if q.callers[c] == nil {
		q.callers[c] = &joined{lane: at}
	}
	q.callers[c].n++
	q.waiting.Add(1)
	return w, true
}

// leave takes a waiter out. If it had the turn, the next key is on.
func (q *Queues) leave(w *waiter) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting.Add(-1)
	if j := q.callers[w.caller]; j.n == 1 {
		delete(q.callers, w.caller)
	} else {
		j.n--
	}
	l := q.lanes[w.lane.Customer][w.lane]
	had := l.first() == w
	i := slices.IndexFunc(l.lines, func(x *line) bool { return x.key == w.caller.Key })
	x := l.lines[i]
	x.waiters = slices.DeleteFunc(x.waiters, func(y *waiter) bool { return y == w })
	if had || len(x.waiters) == 0 {
		l.lines = slices.Delete(l.lines, i, i+1)
		if len(x.waiters) > 0 {
			l.lines = append(l.lines, x)
		}
	}
	if len(l.lines) == 0 {
		delete(q.lanes[w.lane.Customer], w.lane)
		if len(q.lanes[w.lane.Customer]) == 0 {
			delete(q.lanes, w.lane.Customer)
		}
		return
	}
	if had {
		close(l.first().turn)
	}
}
