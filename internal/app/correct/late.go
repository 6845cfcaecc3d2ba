package correct

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/app/ingest"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// Bounds of one page of late arrivals: closed periods looked at, and events counted for one arrival.
const (
	lateCloses = 2000
	lateEvents = 10_000
)

// Arrival is a closed billing period whose usage of a meter changed after its close: by events that came late, and by what was
// amended or voided since.
type Arrival struct {
	Customer account.Customer
	Meter    string
	Close    store.Close
	AtClose  money.Decimal // what the close rated
	Change   money.Decimal // since
	Events   int64         // that came or were revised since
	Complete bool          // false: more than were counted
	// When the first and the last of them came, or were revised.
	First, Last time.Time
}

// LateQuery asks for a page of arrivals.
type LateQuery struct {
	CustomerID string // an id or a key; empty: all
	Cursor     string
	Limit      int // 0: 100, at most 1000
}

// Late lists arrivals by customer, then by subscription and period, oldest first. A page may hold fewer than the limit, even
// none, and yet have a next one. Only meters whose usage adds up are looked at, and a change of 0 is none.
// account.ErrNotFound for an unknown customer; store.ErrInvalid for a bad cursor.
func (s *Service) Late(ctx context.Context, q LateQuery) (list []Arrival, next string, err error) {
	if err := s.flush(ctx); err != nil {
		return nil, "", err
	}
	customers := s.cfg.Directory.Customers()
	if q.CustomerID != "" {
		c, ok := s.cfg.Directory.Customer(q.CustomerID)
		if !ok {
			return nil, "", fmt.Errorf("there is no customer %q: %w", q.CustomerID, account.ErrNotFound)
		}
		customers = []account.Customer{c}
	}
	at, err := parsePlace(q.Cursor)
	if err != nil {
		return nil, "", err
	}
	if q.Limit <= 0 {
		q.Limit = pageUsual
	}
	w := lateWalk{s: s, limit: min(q.Limit, pageMax), from: at}
	if err := s.cfg.Journal.View(ctx, func(v store.View) error {
		w.series = seriesOf(v)
		return nil
	}); err != nil {
		return nil, "", fmt.Errorf("late arrivals: %w", err)
	}
	for _, c := range customers {
		if c.Key < at.customer {
			continue
		}
		if full, err := w.customer(ctx, c); err != nil || full {
			return w.found, w.place.text(), err
		}
	}
	return w.found, "", nil
}

// place is where a page ended: the last close looked at.
type place struct {
	customer, subscription string
	start                  int64
}

func (p place) text() string {
	return p.customer + "/" + p.subscription + "/" + strconv.FormatInt(p.start, 36)
}

func parsePlace(cursor string) (p place, err error) {
	if cursor == "" {
		return p, nil
	}
	parts := strings.Split(cursor, "/")
	if len(parts) != 3 {
		return p, fmt.Errorf("cursor %q: take it from the page before: %w", cursor, store.ErrInvalid)
	}
	p.customer, p.subscription = parts[0], parts[1]
	if p.start, err = strconv.ParseInt(parts[2], 36, 64); err != nil {
		return p, fmt.Errorf("cursor %q: take it from the page before: %w", cursor, store.ErrInvalid)
	}
	return p, nil
}

// seriesOf are the series by customer.
func seriesOf(v store.View) map[string][]store.Series {
	out := map[string][]store.Series{}
	for _, x := range v.Series() {
		if !x.First.IsZero() {
			out[x.CustomerID] = append(out[x.CustomerID], x)
		}
	}
	return out
}

// lateWalk collects a page. from is where the page before ended, place where this one stands.
type lateWalk struct {
	s      *Service
	limit  int
	looked int
	series map[string][]store.Series
	found  []Arrival
	from   place
	place  place
}

// customer looks at one's closes. full: the page ends here.
func (w *lateWalk) customer(ctx context.Context, c account.Customer) (full bool, err error) {
	if len(w.series[c.ID]) == 0 {
		return false, nil
	}
	// The cursor may stand in this customer: skip up to its close. Subscriptions are oldest first, as closes are.
	skip := c.Key == w.from.customer
	for _, sub := range w.s.cfg.Directory.SubscriptionsOf(c.ID) {
		if skip && sub.ID != w.from.subscription {
			continue
		}
		closes, err := w.s.cfg.Closes.Closes(ctx, sub.ID)
		if err != nil {
			return false, fmt.Errorf("closes of subscription %s: %w", sub.ID, err)
		}
		for _, close := range closes {
			start := close.Period.Start.UnixMicro()
			if close.Period.Empty() || !close.Done || skip && start <= w.from.start {
				continue
			}
			if err := w.close(ctx, c, close); err != nil {
				return false, err
			}
			w.place = place{c.Key, sub.ID, start}
			if w.looked++; w.looked >= lateCloses || len(w.found) >= w.limit {
				return true, nil
			}
		}
		skip = false
	}
	return false, nil
}

// close finds the arrivals of one closed period.
func (w *lateWalk) close(ctx context.Context, c account.Customer, closed store.Close) error {
	aggregations := w.s.aggregations()
	first := len(w.found)
	err := w.s.cfg.Journal.View(ctx, func(v store.View) error {
		for _, x := range w.series[c.ID] {
			if a, ok := aggregations[x.Meter]; ok && !a.Additive() || !x.First.Before(closed.Period.End) {
				continue
			}
			change, err := v.Late(x.SeriesKey, closed.Period, closed.Position)
			if err != nil {
				return err
			}
			if change.IsZero() {
				continue
			}
			now, err := usage(v, x.SeriesKey, closed.Period, meter.Sum)
			if err != nil {
				return err
			}
			before, err := now.Sub(change)
			if err != nil {
				return err
			}
			w.found = append(w.found, Arrival{Customer: c, Meter: x.Meter, Close: closed, AtClose: before, Change: change})
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("late usage of customer %s in %s: %w", c.Key, period.Format(closed.Period.Start), err)
	}
	for i := first; i < len(w.found); i++ {
		if err := w.s.count(ctx, &w.found[i]); err != nil {
			return err
		}
	}
	return nil
}

// count looks at the events behind an arrival.
func (s *Service) count(ctx context.Context, a *Arrival) error {
	q := store.Scan{SeriesKey: store.SeriesKey{CustomerID: a.Customer.ID, Meter: a.Meter}, In: a.Close.Period, After: a.Close.Position, Limit: pageMax}
	for {
		page, err := s.cfg.Journal.Scan(ctx, q)
		if err != nil {
			return fmt.Errorf("late events of meter %s: %w", a.Meter, err)
		}
		for _, r := range page.Records {
			a.Events++
			seen := r.ReceivedAt
			if r.Position <= a.Close.Position {
				if seen, err = s.revisedAt(ctx, r); err != nil {
					return err
				}
			}
			if a.First.IsZero() || seen.Before(a.First) {
				a.First = seen
			}
			if seen.After(a.Last) {
				a.Last = seen
			}
		}
		q.Cursor = page.Next
		if a.Complete = q.Cursor == ""; a.Complete || a.Events >= lateEvents {
			return nil
		}
	}
}

func (s *Service) revisedAt(ctx context.Context, r store.Record) (time.Time, error) {
	list, err := s.cfg.Journal.History(ctx, r.Event.Source, r.Event.ID)
	if err != nil || len(list) == 0 {
		return r.ReceivedAt, err
	}
	return list[len(list)-1].At, nil
}

// LateEvents lists the events behind an arrival, oldest first: those of a meter in a closed billing period that came or were
// revised after its close. account.ErrNotFound; *ingest.Invalid when no closed period begins at start; store.ErrInvalid for a
// bad cursor.
func (s *Service) LateEvents(ctx context.Context, customerRef, meterKey string, start time.Time, cursor string, limit int) (store.Page, error) {
	c, ok := s.cfg.Directory.Customer(customerRef)
	if !ok {
		return store.Page{}, fmt.Errorf("there is no customer %q: %w", customerRef, account.ErrNotFound)
	}
	if limit <= 0 {
		limit = pageUsual
	}
	for _, sub := range slices.Backward(s.cfg.Directory.SubscriptionsOf(c.ID)) {
		closes, err := s.cfg.Closes.Closes(ctx, sub.ID)
		if err != nil {
			return store.Page{}, fmt.Errorf("closes of subscription %s: %w", sub.ID, err)
		}
		for _, closed := range closes {
			if !closed.Done || closed.Period.Empty() || !closed.Period.Start.Equal(start) {
				continue
			}
			page, err := s.cfg.Journal.Scan(ctx, store.Scan{
				SeriesKey: store.SeriesKey{CustomerID: c.ID, Meter: meterKey}, In: closed.Period, After: closed.Position,
				Cursor: cursor, Limit: min(limit, pageMax),
			})
			if err != nil && !errors.Is(err, store.ErrInvalid) {
				err = fmt.Errorf("late events: %w", err)
			}
			return page, err
		}
	}
	return store.Page{}, &ingest.Invalid{Pointer: "/period", Rule: "is not the start of a closed billing period of this customer", Fix: "take it from `tally late list`"}
}
