package bill

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/price"
	"github.com/tallystick/tallystick/internal/store"
)

// scanPage is how many events are read at once.
const scanPage = 1000

// revised finds the charges by single events that something was appended to, or revised in, since the closing before: their sum
// may be the same for all that.
func (st *statement) revised(ctx context.Context) error {
	if st.before == nil || st.before.position == st.closing.position {
		return nil
	}
	for _, c := range st.charges {
		if c.Price.Model != price.Percentage || c.Due.After(st.since()) {
			continue
		}
		q := store.Scan{SeriesKey: c.series.SeriesKey, In: c.Service, After: st.before.position, Limit: scanPage}
		err := st.scan(ctx, q, func([]store.Record) error {
			c.pieces[0].late = true
			return errEnough
		})
		if err != nil && err != errEnough { //nolint:errorlint // it is never wrapped
			return err
		}
	}
	return nil
}

type enough struct{}

func (enough) Error() string { return "enough was read" }

var errEnough error = enough{}

// scan hands over the pages that are not empty.
func (st *statement) scan(ctx context.Context, q store.Scan, each func([]store.Record) error) error {
	for {
		page, err := st.service.cfg.Journal.Scan(ctx, q)
		if err != nil {
			return fmt.Errorf("events of meter %q: %w", q.Meter, err)
		}
		if len(page.Records) > 0 {
			if err := each(page.Records); err != nil {
				return err
			}
		}
		if q.Cursor = page.Next; q.Cursor == "" {
			return nil
		}
	}
}

// rated is one event in its order.
type rated struct {
	store.Record
	value money.Decimal
}

// chargeEvents rates a split event by event, in the order of (time, source, id), a bucket of the journal at a time: so many are
// in memory at once.
func (st *statement) chargeEvents(ctx context.Context, c *charge, prior price.Prior, minimum *money.Decimal) error {
	back, err := st.movedAway(ctx, c)
	if err != nil {
		return err
	}
	run := eventRun{charge: c, prior: prior, minimum: minimum, position: c.Position}
	var bucket []rated
	flush := func() error {
		slices.SortFunc(bucket, compareEvents)
		err := run.add(bucket)
		bucket = bucket[:0]
		return err
	}
	take := func(r rated) error {
		if len(bucket) > 0 && !period.BucketStart(bucket[0].Event.Time).Equal(period.BucketStart(r.Event.Time)) {
			if err := flush(); err != nil {
				return err
			}
		}
		bucket = append(bucket, r)
		return nil
	}
	err = st.scan(ctx, store.Scan{SeriesKey: c.series.SeriesKey, In: c.Service, Limit: scanPage}, func(page []store.Record) error {
		for i := range page {
			for len(back) > 0 && period.BucketStart(back[0].Event.Time).Before(period.BucketStart(page[i].Event.Time)) {
				if err := take(back[0]); err != nil {
					return err
				}
				back = back[1:]
			}
			r, ok, err := st.then(ctx, page[i], &c.series)
			if err != nil {
				return err
			}
			if ok {
				if err := take(r); err != nil {
					return err
				}
			}
		}
		return nil
	})
	for ; err == nil && len(back) > 0; back = back[1:] {
		err = take(back[0])
	}
	if err == nil {
		err = flush()
	}
	if err == nil {
		err = run.end()
	}
	return err
}

func compareEvents(a, b rated) int {
	return cmp.Or(a.Event.Time.Compare(b.Event.Time), cmp.Compare(a.Event.Source, b.Event.Source), cmp.Compare(a.Event.ID, b.Event.ID))
}

// then is how a record counted at the closing's position; ok is false where it did not count for the series.
func (st *statement) then(ctx context.Context, r store.Record, s *series) (out rated, ok bool, err error) {
	upTo := st.closing.position
	if r.Position > upTo {
		return out, false, nil
	}
	resolutions := r.Resolutions
	if r.Revision > upTo {
		history, err := st.service.cfg.Journal.History(ctx, r.Event.Source, r.Event.ID)
		if err != nil {
			return out, false, fmt.Errorf("history of event %q: %w", r.Event.ID, err)
		}
		resolutions = nil
		for _, h := range history {
			if h.Position <= upTo {
				resolutions = h.Resolutions
			}
		}
	}
	for _, x := range resolutions {
		if x.CustomerID == s.CustomerID && x.Meter == s.Meter && fits(x.Dimensions, s.filter) {
			return rated{r, x.Value}, true, nil
		}
	}
	return out, false, nil
}

// fits says whether dimensions are all that a filter wants; a missing one is "".
func fits(have, want []meter.Dimension) bool {
	for _, w := range want {
		i := slices.IndexFunc(have, func(d meter.Dimension) bool { return d.Name == w.Name })
		if i < 0 && w.Value != "" || i >= 0 && have[i].Value != w.Value {
			return false
		}
	}
	return true
}

// movedAway are events that counted for the series at the closing's position and do not any more, in order.
func (st *statement) movedAway(ctx context.Context, c *charge) ([]rated, error) {
	var out []rated
	err := st.scan(ctx, store.Scan{In: c.Service, After: st.closing.position, Limit: scanPage}, func(page []store.Record) error {
		for _, r := range page {
			counts := slices.ContainsFunc(r.Resolutions, func(x meter.Resolution) bool {
				return x.CustomerID == c.series.CustomerID && x.Meter == c.series.Meter
			})
			if counts {
				continue // the series' own scan finds it
			}
			was, ok, err := st.then(ctx, r, &c.series)
			if err != nil {
				return err
			}
			if ok {
				out = append(out, was)
			}
		}
		return nil
	})
	slices.SortFunc(out, compareEvents)
	return out, err
}

// eventRun charges events in parts that follow each other.
type eventRun struct {
	charge   *charge
	prior    price.Prior
	minimum  *money.Decimal
	position price.Position
	begun    bool
}

func (e *eventRun) add(bucket []rated) error {
	if len(bucket) == 0 {
		return nil
	}
	u := price.Usage{Prior: e.prior, Position: price.Middle, Minimum: e.minimum}
	if first := e.position == price.Single || e.position == price.First; first && !e.begun {
		u.Position = price.First
	}
	for _, r := range bucket {
		u.Events = append(u.Events, price.Event{Quantity: r.value})
	}
	return e.part(u)
}

// end adds what is due at the end of the split.
func (e *eventRun) end() error {
	u := price.Usage{Prior: e.prior, Position: e.position, Minimum: e.minimum}
	if e.begun && e.position == price.Single {
		u.Position = price.Last
	} else if e.begun && e.position == price.First {
		u.Position = price.Middle
	}
	if err := e.part(u); err != nil {
		return err
	}
	e.charge.pieces[0].amount = e.charge.result.Amount
	return nil
}

func (e *eventRun) part(u price.Usage) error {
	c := e.charge
	r, err := c.Price.ChargeFor(u)
	if err != nil {
		return err
	}
	var sum money.Decimal
	for _, x := range u.Events {
		if sum, err = sum.Add(x.Quantity); err != nil {
			return err
		}
	}
	if c.result.Amount, err = c.result.Amount.Add(r.Amount); err == nil {
		c.result.Lines, err = addLines(c.result.Lines, r.Lines)
	}
	if err == nil {
		e.prior.Amount, err = e.prior.Amount.Add(r.Amount)
	}
	if err == nil {
		e.prior.Quantity, err = e.prior.Quantity.Add(sum)
	}
	e.prior.Events += int64(len(u.Events))
	c.pieces[0].count += int64(len(u.Events))
	e.begun = true
	return err
}

// addLines adds lines of the same kind, tier and unit amount up.
func addLines(all, more []price.Line) ([]price.Line, error) {
	for _, m := range more {
		i := slices.IndexFunc(all, func(l price.Line) bool {
			return l.Kind == m.Kind && l.Tier == m.Tier && l.UnitAmount.Cmp(m.UnitAmount) == 0
		})
		if i < 0 {
			all = append(all, m)
			continue
		}
		var err error
		if all[i].Quantity, err = all[i].Quantity.Add(m.Quantity); err == nil {
			all[i].Amount, err = all[i].Amount.Add(m.Amount)
		}
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}
