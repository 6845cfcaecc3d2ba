package doors

import (
	"container/heap"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/web/answer"
)

// held are the admissions that wait for what they did cost: bounded, each until its time.
type held struct {
	max     int
	full    atomic.Int64
	expired atomic.Int64

	mu   sync.Mutex // guards all below
	byID map[string]*entry
	next byExpiry
}

type entry struct {
	*enforce.Admission
	route *catalog.Route
	until time.Time
	at    int // in the heap
}

// keep holds an admission; false: there is no room.
func (h *held) keep(a *enforce.Admission, route *catalog.Route, until time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.byID) >= h.max {
		h.full.Add(1)
		return false
	}
	e := &entry{Admission: a, route: route, until: until}
	h.byID[a.DecisionID] = e
	heap.Push(&h.next, e)
	return true
}

// take gives an admission out, once.
func (h *held) take(id string) *entry {
	h.mu.Lock()
	defer h.mu.Unlock()
	e := h.byID[id]
	if e == nil {
		return nil
	}
	delete(h.byID, id)
	heap.Remove(&h.next, e.at)
	return e
}

// due gives out one whose time is over; all says that everyone's is.
func (h *held) due(now time.Time, all bool) *enforce.Admission {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.next) == 0 || (!all && h.next[0].until.After(now)) {
		return nil
	}
	e := h.next[0]
	heap.Remove(&h.next, 0)
	delete(h.byID, e.DecisionID)
	h.expired.Add(1)
	return e.Admission
}

func (h *held) len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.byID)
}

// byExpiry is a heap, soonest first.
type byExpiry []*entry

func (b byExpiry) Len() int           { return len(b) }
func (b byExpiry) Less(i, j int) bool { return b[i].until.Before(b[j].until) }
func (b byExpiry) Swap(i, j int)      { b[i], b[j] = b[j], b[i]; b[i].at, b[j].at = i, j }

// Push implements heap.Interface.
func (b *byExpiry) Push(x any) {
	if e, ok := x.(*entry); ok {
		e.at = len(*b)
		*b = append(*b, e)
	}
}

// Pop implements heap.Interface.
func (b *byExpiry) Pop() any {
	last := len(*b) - 1
	e := (*b)[last]
	(*b)[last], *b = nil, (*b)[:last]
	return e
}

// Tick charges in full what nobody told the cost of in time. It does not wait.
func (d *Door) Tick(context.Context) error { return d.expire(false) }

// Close charges all that is still held. No request may follow.
func (d *Door) Close() error { return d.expire(true) }

func (d *Door) expire(all bool) error {
	var errs []error
	for {
		a := d.held.due(d.cfg.Now(), all)
		if a == nil {
			return errors.Join(errs...)
		}
		if err := a.Settle(enforce.Actual{}); err != nil {
			errs = append(errs, err)
		}
	}
}

// report is the body of POST /doors/settle.
type report struct {
	DecisionID string         `json:"decision_id"`
	Status     int            `json:"status"` // of the API's answer; the route's policy says which give the cost back
	Cost       *money.Decimal `json:"cost"`   // in the meter's unit; absent: what was reserved
}

// reportMax bounds the body in bytes.
const reportMax = 4 << 10

// settle ends a held admission with what it did cost.
func (d *Door) settle(w http.ResponseWriter, r *http.Request) {
	if p := d.peer(r); p != nil {
		d.refused.Add(1)
		answer.Write(w, *p)
		return
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		answer.Write(w, answer.Problem{
			Code: "method_not_allowed", Status: http.StatusMethodNotAllowed, Detail: "What a request did cost is told by POST.", Fix: "Use POST.",
		})
		return
	}
	var in report
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, reportMax))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&in); err != nil || in.DecisionID == "" || (in.Status != 0 && (in.Status < 100 || in.Status > 599)) || (in.Cost != nil && in.Cost.Sign() < 0) {
		answer.Write(w, *malformed("The body does not say which decision ended, and how.", `Send {"decision_id":"dec_…","status":200,"cost":"12"}; status and cost may be left out.`))
		return
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		answer.Write(w, *malformed("The body is more than one document.", "Send one report a request."))
		return
	}
	a := d.held.take(in.DecisionID)
	if a == nil {
		answer.Write(w, answer.Problem{
			Code: "reservation_unknown", Status: http.StatusNotFound, Detail: "No admission with this id waits for its cost.",
			Fix: "Report within the hold of the door's address, and once.",
		})
		return
	}
	var err error
	if in.Status != 0 && a.route.Refund.Refunds(catalog.Answered, in.Status) {
		err = a.Release(enforce.Failed)
	} else {
		err = a.Settle(enforce.Actual{Status: in.Status, Cost: in.Cost})
	}
	if err != nil {
		answer.Write(w, unavailable(a.DecisionID))
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
