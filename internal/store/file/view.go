package file

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"sort"
	"time"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// View implements store.Journal.
func (j *Journal) View(ctx context.Context, read func(store.View) error) error {
	if err := j.enter(ctx); err != nil {
		return fmt.Errorf("view: %w", err)
	}
	defer j.leave()
	j.mu.RLock()
	defer j.mu.RUnlock()
	return read(view{j})
}

// view reads the index under the journal's read lock.
type view struct{ j *Journal }

func (v view) Position() uint64 { return v.j.index.position }

// limits are an interval's bounds in microseconds; zero times are open.
func limits(in period.Interval) (from, to int64) {
	from, to = math.MinInt64, math.MaxInt64
	if !in.Start.IsZero() {
		from = in.Start.UnixMicro()
	}
	if !in.End.IsZero() {
		to = in.End.UnixMicro()
	}
	return from, to
}

// buckets finds the buckets of an interval whose bounds must be told apart.
func (v view) buckets(k store.SeriesKey, in period.Interval) ([]*bucket, error) {
	if err := v.boundaries(k.CustomerID, in); err != nil {
		return nil, err
	}
	from, to := limits(in)
	return v.j.index.series[k].span(from, to), nil
}

func (v view) boundaries(customerID string, in period.Interval) error {
	c := v.j.index.customers[customerID]
	for _, t := range []time.Time{in.Start, in.End} {
		if !t.IsZero() && (!c.boundary(t.UnixMicro()) || t.Nanosecond()%1000 != 0) {
			return invalid("%s lies neither on the 15-minute grid nor on a cut of %s", t.UTC().Format(time.RFC3339Nano), customerID)
		}
	}
	return nil
}

func (v view) Usage(k store.SeriesKey, in period.Interval) (meter.Rollup, error) {
	buckets, err := v.buckets(k, in)
	if err != nil {
		return meter.Rollup{}, fmt.Errorf("usage: %w", err)
	}
	var sum meter.Rollup
	for _, b := range buckets {
		if sum, err = sum.Merge(b.rollup); err != nil {
			return meter.Rollup{}, fmt.Errorf("usage: %w", err)
		}
	}
	return sum, nil
}

func (v view) Windows(k store.SeriesKey, in period.Interval) ([]store.Window, error) {
	buckets, err := v.buckets(k, in)
	if err != nil {
		return nil, fmt.Errorf("windows: %w", err)
	}
	c := v.j.index.customers[k.CustomerID]
	windows := make([]store.Window, 0, len(buckets))
	for _, b := range buckets {
		windows = append(windows, store.Window{
			Interval: period.Interval{Start: time.UnixMicro(b.start).UTC(), End: time.UnixMicro(c.end(b.start)).UTC()},
			Rollup:   b.rollup,
		})
	}
	return windows, nil
}

// Late reads what came since it was last asked the same: appends wait for it, and the books ask again and again.
func (v view) Late(k store.SeriesKey, in period.Interval, after uint64) (money.Decimal, error) {
	buckets, err := v.buckets(k, in)
	if err != nil {
		return money.Decimal{}, fmt.Errorf("late usage: %w", err)
	}
	from, to := limits(in)
	key := lateKey{v.j.index.series[k], from, to, after}
	known := v.j.late.get(key)
	sum, since, read := known.sum, max(after, known.upTo), false
	var buf []byte
	for _, b := range buckets {
		if v.j.index.events.get(b.refs[len(b.refs)-1]).position <= since {
			continue
		}
		read = true
		var late money.Decimal
		if late, buf, err = v.lateIn(k, b, since, buf); err == nil {
			sum, err = sum.Add(late)
		}
		if err != nil {
			return money.Decimal{}, fmt.Errorf("late usage: %w", err)
		}
	}
	if read {
		v.j.late.put(key, lateSum{sum, v.Position()})
	}
	return sum, nil
}

// lateIn reads the late events of a bucket, or the others where these are fewer.
func (v view) lateIn(k store.SeriesKey, b *bucket, after uint64, buf []byte) (late money.Decimal, room []byte, err error) {
	events := &v.j.index.events
	n := len(b.refs)
	first := sort.Search(n, func(i int) bool { return events.get(b.refs[i]).position > after })
	read := b.refs[first:]
	if first < n-first {
		read = b.refs[:first]
	}
	var sum money.Decimal
	for _, ref := range read {
		var p part
		if p, buf, err = v.j.partOf(*events.get(ref), k, buf); err != nil {
			return late, nil, err
		}
		if sum, err = sum.Add(p.value); err != nil {
			return late, nil, err
		}
	}
	if first < n-first {
		sum, err = b.rollup.Sum.Sub(sum)
	}
	return sum, buf, err
}

func (v view) Admitted(k store.SeriesKey, periodStart int64) (money.Decimal, error) {
	var sum money.Decimal
	s := v.j.index.series[k]
	if s == nil {
		return sum, nil
	}
	for _, total := range s.admitted[periodStart] {
		var err error
		if sum, err = sum.Add(total); err != nil {
			return money.Decimal{}, fmt.Errorf("admitted total: %w", err)
		}
	}
	return sum, nil
}

func (v view) Reported(k store.SeriesKey, in period.Interval) (money.Decimal, error) {
	var sum money.Decimal
	if err := v.boundaries(k.CustomerID, in); err != nil {
		return sum, fmt.Errorf("reported usage: %w", err)
	}
	s := v.j.index.series[k]
	if s == nil {
		return sum, nil
	}
	from, to := limits(in)
	i, _ := slices.BinarySearchFunc(s.reported, from, tallyByStart)
	for ; i < len(s.reported) && s.reported[i].start < to; i++ {
		var err error
		if sum, err = sum.Add(s.reported[i].sum); err != nil {
			return money.Decimal{}, fmt.Errorf("reported usage: %w", err)
		}
	}
	return sum, nil
}

func (v view) Series() []store.Series {
	all := make([]store.Series, 0, len(v.j.index.series))
	for k, s := range v.j.index.series {
		one := store.Series{SeriesKey: k}
		if n := len(s.buckets); n > 0 {
			one.First, one.Last = time.UnixMicro(s.buckets[0].start).UTC(), time.UnixMicro(s.buckets[n-1].start).UTC()
		}
		all = append(all, one)
	}
	slices.SortFunc(all, func(a, b store.Series) int {
		return cmp.Or(cmp.Compare(a.CustomerID, b.CustomerID), cmp.Compare(a.Meter, b.Meter))
	})
	return all
}

func (v view) AdmittedPeriods(k store.SeriesKey) []int64 {
	s := v.j.index.series[k]
	if s == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(s.admitted))
}
