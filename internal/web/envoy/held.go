package envoy

import (
	"container/list"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/money"
)

// tickMax is how many admissions one Tick charges.
const tickMax = 1000

// admission is one that was allowed, with what its end needs.
type admission struct {
	*enforce.Admission
	route *catalog.Route
	cost  *money.Decimal // in place of what the route reserves; nil: that
	since time.Time
}

// name is the short id of a decision: it runs through reservation, event and decision, and names the admission to the end.
func name(decisionID string) string {
	short, _, _ := strings.Cut(decisionID, ".")
	return short
}

// reserved is what the admission took, in the meter's unit.
func (a *admission) reserved() money.Decimal {
	if a.cost != nil {
		return *a.cost
	}
	return a.route.Reserve()
}

// held are admissions whose end is told later, oldest first.
type held struct {
	mu     sync.Mutex // guards byName, queue
	byName map[string]*list.Element
	queue  *list.List // of admission
	max    int

	expired, full, unknown atomic.Int64
}

func (h *held) open(limit int) {
	h.byName, h.queue, h.max = map[string]*list.Element{}, list.New(), limit
}

// put keeps an admission; false: there is no room.
func (h *held) put(a admission) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.byName) >= h.max {
		h.full.Add(1)
		return false
	}
	h.byName[name(a.DecisionID)] = h.queue.PushBack(a)
	return true
}

// take removes an admission by its name; it ends once.
func (h *held) take(decision string) (admission, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e := h.byName[name(decision)]
	if e == nil {
		h.unknown.Add(1)
		return admission{}, false
	}
	return h.remove(e), true
}

// remove needs the lock.
func (h *held) remove(e *list.Element) admission {
	a, ok := h.queue.Remove(e).(admission)
	if !ok {
		panic("envoy: the queue of admissions holds something else")
	}
	delete(h.byName, name(a.DecisionID))
	return a
}

// due removes those that are open since before an instant, at most tickMax.
func (h *held) due(before time.Time) []admission {
	return h.cut(func(a admission) bool { return a.since.Before(before) })
}

// all removes whatever is open, at most tickMax.
func (h *held) all() []admission { return h.cut(func(admission) bool { return true }) }

func (h *held) cut(while func(admission) bool) (out []admission) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for e := h.queue.Front(); e != nil && len(out) < tickMax; e = h.queue.Front() {
		if a, ok := e.Value.(admission); !ok || !while(a) {
			break
		}
		out = append(out, h.remove(e))
	}
	return out
}

func (h *held) count() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return int64(len(h.byName))
}
