package index

import (
	"cmp"
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

// View reads the index, under the journal's read lock. It implements store.View.
type View struct{ x *Index }

var _ store.View = View{}

// View reads the index.
func (x *Index) View() View { return View{x} }

// Position implements store.View.
func (v View) Position() uint64 { return v.x.position }

func invalid(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, store.ErrInvalid)...)
}

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
func (v View) buckets(k store.SeriesKey, in period.Interval) ([]*bucket, error) {
	if err := v.boundaries(k.CustomerID, in); err != nil {
		return nil, err
	}
	from, to := limits(in)
	return v.x.series[k].span(from, to), nil
}

func (v View) boundaries(customerID string, in period.Interval) error {
	c := v.x.customers[customerID]
	for _, t := range []time.Time{in.Start, in.End} {
		if !t.IsZero() && (!c.boundary(t.UnixMicro()) || t.Nanosecond()%1000 != 0) {
			return invalid("%s lies neither on the 15-minute grid nor on a cut of %s", t.UTC().Format(time.RFC3339Nano), customerID)
		}
	}
	return nil
}

// Usage implements store.View.
func (v View) Usage(k store.SeriesKey, in period.Interval) (meter.Rollup, error) {
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

// Windows implements store.View.
func (v View) Windows(k store.SeriesKey, in period.Interval) ([]store.Window, error) {
	buckets, err := v.buckets(k, in)
	if err != nil {
		return nil, fmt.Errorf("windows: %w", err)
	}
	c := v.x.customers[k.CustomerID]
	windows := make([]store.Window, 0, len(buckets))
	for _, b := range buckets {
		if b.rollup.Count == 0 {
			continue // all of it was voided
		}
		windows = append(windows, store.Window{
			Interval: period.Interval{Start: time.UnixMicro(b.start).UTC(), End: time.UnixMicro(c.end(b.start)).UTC()},
			Rollup:   b.rollup,
		})
	}
	return windows, nil
}

// Late implements store.View. It looks at what came since it was last asked the same: appends wait for it, and the books ask
// again and again.
func (v View) Late(k store.SeriesKey, in period.Interval, after uint64) (money.Decimal, error) {
	buckets, err := v.buckets(k, in)
	if err != nil {
		return money.Decimal{}, fmt.Errorf("late usage: %w", err)
	}
	from, to := limits(in)
	key := lateKey{v.x.series[k], from, to, after}
	known := v.x.late.get(key)
	sum, since, read := known.sum, max(after, known.upTo), false
	for _, b := range buckets {
		for _, list := range [][]contribution{b.own, b.later} {
			for i := sort.Search(len(list), func(i int) bool { return list[i].cause > since }); i < len(list); i++ {
				read = true
				if sum, err = sum.Add(list[i].signed()); err != nil {
					return money.Decimal{}, fmt.Errorf("late usage: %w", err)
				}
			}
		}
	}
	if read {
		v.x.late.put(key, lateSum{sum, v.Position()})
	}
	return sum, nil
}

// Admitted implements store.View.
func (v View) Admitted(k store.SeriesKey, periodStart int64) (money.Decimal, error) {
	var sum money.Decimal
	s := v.x.series[k]
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

// Reported implements store.View.
func (v View) Reported(k store.SeriesKey, in period.Interval) (money.Decimal, error) {
	sum, err := v.tallied(k, in, func(t *tally) money.Decimal { return t.reported })
	if err != nil {
		return sum, fmt.Errorf("reported usage: %w", err)
	}
	return sum, nil
}

// Voided implements store.View.
func (v View) Voided(k store.SeriesKey, in period.Interval) (money.Decimal, error) {
	sum, err := v.tallied(k, in, func(t *tally) money.Decimal { return t.voided })
	if err != nil {
		return sum, fmt.Errorf("voided usage: %w", err)
	}
	return sum, nil
}

func (v View) tallied(k store.SeriesKey, in period.Interval, of func(*tally) money.Decimal) (sum money.Decimal, err error) {
	if err := v.boundaries(k.CustomerID, in); err != nil {
		return sum, err
	}
	s := v.x.series[k]
	if s == nil {
		return sum, nil
	}
	from, to := limits(in)
	i, _ := slices.BinarySearchFunc(s.tallies, from, tallyByStart)
	for ; i < len(s.tallies) && s.tallies[i].start < to; i++ {
		if sum, err = sum.Add(of(&s.tallies[i])); err != nil {
			return money.Decimal{}, err
		}
	}
	return sum, nil
}

// Series implements store.View.
func (v View) Series() []store.Series {
	all := make([]store.Series, 0, len(v.x.series))
	for k, s := range v.x.series {
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

// AdmittedPeriods implements store.View.
func (v View) AdmittedPeriods(k store.SeriesKey) []int64 {
	s := v.x.series[k]
	if s == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(s.admitted))
}
