package enforce

import (
	"container/heap"
	"sync"

	"github.com/tallystick/tallystick/internal/app/enforce/record"
)

// heldList finds them by key. mu owns all fields. An entry's mu may be taken before it, never after.
type heldList struct {
	mu     sync.Mutex
	byKey  map[record.Key]*heldEntry
	n      int // open ones, and those that are being admitted
	expiry expiries
	ended  []endedHeld // oldest first
}

type endedHeld struct {
	key record.Key
	at  int64
}

type expiry struct {
	at int64
	h  *heldEntry
}

// expiries is a heap, soonest first. An entry that was extended is put back when its turn comes.
type expiries []expiry

func (x *expiries) Len() int           { return len(*x) }
func (x *expiries) Less(i, j int) bool { return (*x)[i].at < (*x)[j].at }
func (x *expiries) Swap(i, j int)      { (*x)[i], (*x)[j] = (*x)[j], (*x)[i] }

// Push is for heap alone.
func (x *expiries) Push(v any) {
	if e, ok := v.(expiry); ok {
		*x = append(*x, e)
	}
}

// Pop is for heap alone.
func (x *expiries) Pop() any {
	last := len(*x) - 1
	e := (*x)[last]
	(*x)[last] = expiry{}
	*x = (*x)[:last]
	return e
}

func (l *heldList) open() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.n
}

// enter takes one of the places.
func (l *heldList) enter() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.n >= HeldMax {
		return false
	}
	l.n++
	return true
}

func (l *heldList) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.n--
}

func (l *heldList) add(h *heldEntry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.byKey == nil {
		l.byKey = map[record.Key]*heldEntry{}
	}
	l.byKey[h.key] = h
	heap.Push(&l.expiry, expiry{h.expires, h})
}

// end frees the place of one that has ended, and remembers it for a while.
func (l *heldList) end(h *heldEntry, now int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.n--
	l.ended = append(l.ended, endedHeld{h.key, now})
	for len(l.ended) > 0 && (len(l.ended) > endedMax || l.ended[0].at <= now-endedKept.Microseconds()) {
		delete(l.byKey, l.ended[0].key)
		l.ended = l.ended[1:]
	}
}

// due takes the next one that has to be looked at.
func (l *heldList) due(now int64) *heldEntry {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.expiry) == 0 || l.expiry[0].at > now {
		return nil
	}
	e, _ := heap.Pop(&l.expiry).(expiry)
	return e.h
}

func (l *heldList) again(h *heldEntry, at int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	heap.Push(&l.expiry, expiry{at, h})
}
