package bill

import (
	"cmp"
	"container/heap"
	"context"
	"fmt"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// due is a closing whose time has come.
type due struct {
	subscriptionID string
	customer       account.Customer
	in             period.Interval
	progressive    bool
	failed         error // why it cannot be closed; nil: it is tried
	alone          bool  // it was begun before, or cannot be: what follows it is not known
}

// before is the order in which periods are closed.
func (d *due) before(o *due) int {
	return cmp.Or(d.in.End.Compare(o.in.End), cmp.Compare(d.customer.Key, o.customer.Key),
		d.in.Start.Compare(o.in.Start), cmp.Compare(d.subscriptionID, o.subscriptionID))
}

// pageMost bounds the closings that are known to be due at a time: the first ones of all. What follows is found by another look
// at all subscriptions.
const pageMost = 10_000

// queue is the page of closings that are due, the first one first. Its zero value is empty. Service.ticking guards it.
type queue struct {
	only   string // a customer's id; empty: those of all
	page   dueHeap
	full   bool // more is due than the page has
	last   due  // the last one that the page had room for, when full
	failed map[string]bool
	coming map[string]upcoming
}

// upcoming is when a subscription's next closing is, as long as nothing changes.
type upcoming struct {
	changes int      // of the history when it was looked at
	last    *closing // the last done close; nil: there is none
	known   bool     // that last was read
	in      period.Interval
	due     time.Time // when it is, without grace
	none    bool      // nothing follows, as far as is known
	end     time.Time // of the subscription; zero: it has none
	// progressive: a plan of it bills usage in the middle of periods; looked is when that was looked at last.
	progressive bool
	looked      time.Time
}

type dueHeap []due

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].before(&h[j]) < 0 }
func (h dueHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *dueHeap) Push(x any) {
	if d, ok := x.(due); ok {
		*h = append(*h, d)
	}
}

func (h *dueHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}

// lastFirst is a heap with what comes last on top, so that it can be dropped.
type lastFirst struct{ dueHeap }

func (h lastFirst) Less(i, j int) bool { return h.dueHeap[i].before(&h.dueHeap[j]) > 0 }

func (q *queue) clear() { q.page, q.full = nil, false }

// fail leaves a subscription out until all others had their turn. Its closes are read again then: what was begun goes first.
func (q *queue) fail(subscriptionID string) {
	delete(q.coming, subscriptionID)
	if q.failed == nil {
		q.failed = map[string]bool{}
	}
	q.failed[subscriptionID] = true
}

// head is the first closing that is due; it stays. Where the page is used up, all subscriptions are looked at again.
func (q *queue) head(ctx context.Context, s *Service, now time.Time) (*due, error) {
	if len(q.page) == 0 {
		if err := q.look(ctx, s, now); err != nil {
			return nil, err
		}
	}
	if len(q.page) == 0 {
		q.failed = nil
		return nil, nil
	}
	return &q.page[0], nil
}

// pop takes the head.
func (q *queue) pop() due {
	d, _ := heap.Pop(&q.page).(due)
	return d
}

// look fills the page with the first closings that are due.
func (q *queue) look(ctx context.Context, s *Service, now time.Time) error {
	q.full = false
	page := lastFirst{}
	err := s.eachSubscription(q.only, now, func(id string, customer account.Customer) error {
		if q.failed[id] {
			return nil
		}
		d, ok, err := q.dueOf(ctx, s, id, customer, now)
		if err != nil || !ok {
			return err
		}
		heap.Push(&page, d)
		if page.Len() > pageMost {
			q.full = true
			heap.Pop(&page)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if page.Len() > 0 {
		q.last = page.dueHeap[0]
	}
	q.page = page.dueHeap
	heap.Init(&q.page)
	return nil
}

// closed follows up a closing: the next one of the subscription, if it is due, and its turn is on this page. It says whether it is due.
func (q *queue) closed(ctx context.Context, s *Service, d *due, c *store.Close, now time.Time) bool {
	q.coming[d.subscriptionID] = upcoming{known: true, changes: -1, last: new(closingOf(c))}
	next, ok, err := q.dueOf(ctx, s, d.subscriptionID, d.customer, now)
	if err != nil {
		delete(q.coming, d.subscriptionID) // the next look tells
	}
	if err != nil || !ok {
		return false
	}
	if !q.full || next.before(&q.last) <= 0 {
		heap.Push(&q.page, next)
	}
	return true
}

// dueOf is the subscription's next closing, if it is due. One that cannot be told is due as failed: the others go on.
func (q *queue) dueOf(ctx context.Context, s *Service, id string, customer account.Customer, now time.Time) (d due, ok bool, err error) {
	d, ok, err = q.regular(ctx, s, id, customer, now)
	if err != nil || ok {
		return d, ok, err
	}
	u := q.coming[id]
	at := period.BucketStart(now)
	if u.none || !u.progressive || u.last == nil || !at.After(u.last.in.End) || !at.After(u.looked) || !at.Before(u.due) {
		return d, false, nil
	}
	u.looked = at
	q.coming[id] = u
	ok, err = s.passed(ctx, id, customer, u.last, at, now)
	return due{subscriptionID: id, customer: customer, in: period.Interval{Start: at, End: at}, progressive: true, failed: err}, ok || err != nil, nil
}

// regular is the next closing that follows from the history, if it is due. What it read is remembered: until something changes, it
// is asked of memory.
func (q *queue) regular(ctx context.Context, s *Service, id string, customer account.Customer, now time.Time) (d due, ok bool, err error) {
	if q.coming == nil {
		q.coming = map[string]upcoming{}
	}
	d = due{subscriptionID: id, customer: customer}
	u := q.coming[id]
	if !u.known {
		closes, err := s.cfg.Invoices.Closes(ctx, id)
		if err != nil {
			return d, false, fmt.Errorf("read closes of subscription %s: %w", id, err)
		}
		u = upcoming{known: true, changes: -1}
		for i := range closes {
			c := &closes[i]
			if !c.Done { // begun before a crash: it goes first
				d.in, d.progressive, d.alone = c.Period, c.Progressive, true
				return d, true, nil
			}
			u.last = new(closingOf(c))
		}
	}
	history, _ := s.cfg.Directory.History(id)
	if changes := len(history.Changes); u.changes != changes {
		t, err := s.term(ctx, id, customer, now)
		if err != nil {
			// It is closed, and fails, so that it is named.
			d.in, d.alone, d.failed = period.Interval{Start: now, End: now}, true, err
			return d, true, nil //nolint:nilerr // it is in d
		}
		u.changes = changes
		in, at, ok := t.next(u.last)
		u.in, u.due, u.none, u.end, u.progressive = in, at, !ok, t.end(), t.progressive()
	}
	q.coming[id] = u
	if u.none {
		return q.afterEnd(ctx, s, id, customer, now)
	}
	wait := s.grace()
	if u.in.Empty() {
		wait = 0
	}
	d.in = u.in
	return d, !now.Before(u.due.Add(wait)), nil
}

// afterEnd is a closing for usage that came, or was revised, after the last one of a subscription that has ended, on the day on
// which that is found. It is looked at once a day, by UTC, as long as late usage is found at all.
func (q *queue) afterEnd(ctx context.Context, s *Service, id string, customer account.Customer, now time.Time) (d due, ok bool, err error) {
	u := q.coming[id]
	at := now.UTC().Truncate(24 * time.Hour)
	if u.last == nil || u.end.IsZero() || u.last.in.End.Before(u.end) || now.After(u.end.Add(LookBack)) || !at.After(u.last.in.End) || !at.After(u.looked) {
		return d, false, nil
	}
	u.looked = at
	q.coming[id] = u
	c := closing{in: period.Interval{Start: at, End: at}}
	inv, err := s.outlook(ctx, id, customer, c, u.last, now)
	return due{subscriptionID: id, customer: customer, in: c.in, alone: true, failed: err}, len(inv.Lines) > 0 || err != nil, nil
}
