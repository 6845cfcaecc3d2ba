package httpapi

import (
	"sync"
	"time"
)

// The bounds of what is remembered of reservations with a ref.
const (
	refsMax = 100_000
	refKept = 10 * time.Minute
)

// refs finds the reservation that a repeated call made before. It is in memory alone: a lost answer is asked for again within
// seconds, and two writes to the disk for every reservation would be a high price. The zero value is empty.
type refs struct {
	mu    sync.Mutex // guards all below
	byRef map[string]*reserved
	order []refAt // oldest first
}

type refAt struct {
	ref string
	r   *reserved
}

// reserved is what a call with a ref did. id is empty while it runs.
type reserved struct {
	asked        string // what was asked for
	id, decision string
	at           time.Time
}

// begin is nil for a first call, which has to tell its end.
func (r *refs) begin(ref, asked string, now time.Time) *reserved {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.order) > 0 && (len(r.order) >= refsMax || now.Sub(r.order[0].r.at) > refKept) {
		if old := r.order[0]; r.byRef[old.ref] == old.r {
			delete(r.byRef, old.ref)
		}
		r.order = r.order[1:]
	}
	if first := r.byRef[ref]; first != nil {
		copied := *first
		return &copied
	}
	if r.byRef == nil {
		r.byRef = map[string]*reserved{}
	}
	e := &reserved{asked: asked, at: now}
	r.byRef[ref] = e
	r.order = append(r.order, refAt{ref, e})
	return nil
}

// end tells what a first call did; an empty id: nothing, and it may be made again.
func (r *refs) end(ref, id, decision string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.byRef[ref]
	switch {
	case e == nil: // so many came after it
	case id == "":
		delete(r.byRef, ref)
	default:
		e.id, e.decision = id, decision
	}
}
