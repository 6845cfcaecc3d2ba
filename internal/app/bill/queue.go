package bill

import (
	"cmp"
	"container/heap"
	"context"
	"fmt"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/period"
)

// due is a closing whose time has come.
type due struct {
	subscriptionID string
	customer       account.Customer
	in             period.Interval
	progressive    bool
	failed         error // why it cannot be closed; nil: it is tried
}

// before is the order in which periods are closed.
func (d *due) before(o *due) int {
	return cmp.Or(d.in.End.Compare(o.in.End), cmp.Compare(d.customer.Key, o.customer.Key),
		d.in.Start.Compare(o.in.Start), cmp.Compare(d.subscriptionID, o.subscriptionID))
}

// pageMost bounds the closings that are known to be due at a time: the first ones of all. What follows is found by another look
// at all subscriptions.
const pageMost = 10_000

// queue is the page of closings that are due, the first one first. Its zero value is empty. Tick owns it.
type queue struct {
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

// more says whether anything is due that is not closed.
func (q *queue) more() bool { return len(q.page) > 0 || q.full }

func (q *queue) clear() { q.page, q.full = nil, false }

// fail leaves a subscription out until all others had their turn. Its closes are read again then: what was begun goes first.
func (q *queue) fail(subscriptionID string) {
	delete(q.coming, subscriptionID)
	if q.failed == nil {
		q.failed = map[string]bool{}
	}
	q.failed[subscriptionID] = true
}

// next takes the first due closing. Where the page is used up, all subscriptions are looked at again, once in a Tick.
func (q *queue) next(ctx context.Context, s *Service, now time.Time) (d due, ok bool, err error) {
	if len(q.page) == 0 {
		if err := q.look(ctx, s, now); err != nil {
			return d, false, err
		}
	}
	if len(q.page) == 0 {
		q.failed = nil
		return d, false, nil
	}
	d, ok = heap.Pop(&q.page).(due)
	return d, ok, nil
}

// look fills the page with the first closings that are due.
func (q *queue) look(ctx context.Context, s *Service, now time.Time) error {
	q.full = false
	page := lastFirst{}
	for _, customer := range s.cfg.Directory.Customers() {
		for _, sub := range s.cfg.Directory.SubscriptionsOf(customer.ID) {
			if now.Before(sub.Start) || q.failed[sub.ID] {
				continue
			}
			d, ok, err := q.dueOf(ctx, s, sub.ID, customer, now)
			if err != nil {
				return err
			}
			if !ok {
				continue
			}
			heap.Push(&page, d)
			if page.Len() > pageMost {
				q.full = true
				heap.Pop(&page)
			}
		}
	}
	if page.Len() > 0 {
		q.last = page.dueHeap[0]
	}
	q.page = page.dueHeap
	heap.Init(&q.page)
	return nil
}

// closed follows up a closing: the next one of the subscription, if it is due and its turn is on this page.
func (q *queue) closed(ctx context.Context, s *Service, d due, now time.Time) {
	delete(q.coming, d.subscriptionID)
	next, ok, err := q.dueOf(ctx, s, d.subscriptionID, d.customer, now)
	if err != nil || !ok {
		return // the next look tells
	}
	if q.full && next.before(&q.last) > 0 {
		return
	}
	heap.Push(&q.page, next)
}

// dueOf is the subscription's next closing, if it is due. One that cannot be told is due as failed: the others go on.
func (q *queue) dueOf(ctx context.Context, s *Service, id string, customer account.Customer, now time.Time) (d due, ok bool, err error) {
	if q.coming == nil {
		q.coming = map[string]upcoming{}
	}
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
				return due{id, customer, c.Period, c.Progressive, nil}, true, nil
			}
			u.last = new(closingOf(c))
		}
	}
	history, _ := s.cfg.Directory.History(id)
	if changes := len(history.Changes); u.changes != changes {
		t, err := s.term(ctx, id, customer, now)
		if err != nil {
			return due{id, customer, period.Interval{Start: now, End: now}, false, err}, true, nil //nolint:nilerr // it is in due
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
	if !now.Before(u.due.Add(wait)) {
		return due{id, customer, u.in, false, nil}, true, nil
	}
	at := period.BucketStart(now)
	if !u.progressive || u.last == nil || !at.After(u.last.in.End) || !at.After(u.looked) || !at.Before(u.due) {
		return d, false, nil
	}
	u.looked = at
	q.coming[id] = u
	ok, err = s.passed(ctx, id, customer, u.last, at, now)
	return due{id, customer, period.Interval{Start: at, End: at}, true, err}, ok || err != nil, nil
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
	return due{id, customer, c.in, false, err}, len(inv.Lines) > 0 || err != nil, nil
}
