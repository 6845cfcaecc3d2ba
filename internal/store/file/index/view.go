package index

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file/base"
)

// View reads the index, under the journal's read lock. It is for one goroutine; close it. It implements store.View.
type View struct {
	x *Index
	r *base.Reader
}

var _ store.View = (*View)(nil)

// View reads the index.
func (x *Index) View() *View { return &View{x, x.reader()} }

// Close ends the reading.
func (v *View) Close() error { return v.r.Close() }

// Position implements store.View.
func (v *View) Position() uint64 { return v.x.position }

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

// parts calls do with the buckets of an interval whose bounds must be told apart.
func (v *View) parts(k store.SeriesKey, in period.Interval, do func(s *series, p *base.Part) error) error {
	if err := v.boundaries(k.CustomerID, in); err != nil {
		return err
	}
	from, to := limits(in)
	s := v.x.series[k]
	return v.x.parts(v.r, s, from, to, func(p *base.Part) (bool, error) { return true, do(s, p) })
}

func (v *View) boundaries(customerID string, in period.Interval) error {
	c := v.x.customers[customerID]
	for _, t := range []time.Time{in.Start, in.End} {
		if !t.IsZero() && (!c.boundary(t.UnixMicro()) || t.Nanosecond()%1000 != 0) {
			return invalid("%s lies neither on the 15-minute grid nor on a cut of %s", t.UTC().Format(time.RFC3339Nano), customerID)
		}
	}
	return nil
}

// Usage implements store.View.
func (v *View) Usage(k store.SeriesKey, in period.Interval) (meter.Rollup, error) {
	var sum meter.Rollup
	err := v.parts(k, in, func(_ *series, p *base.Part) (err error) {
		sum, err = sum.Merge(p.Rollup)
		return err
	})
	if err != nil {
		return meter.Rollup{}, fmt.Errorf("usage: %w", err)
	}
	return sum, nil
}

// Windows implements store.View.
func (v *View) Windows(k store.SeriesKey, in period.Interval) ([]store.Window, error) {
	c := v.x.customers[k.CustomerID]
	windows := []store.Window{}
	err := v.parts(k, in, func(_ *series, p *base.Part) error {
		if p.Rollup.Count != 0 { // else all of it was voided
			if len(windows) == cap(windows) {
				windows = slices.Grow(windows, len(windows)+16)
			}
			windows = append(windows, store.Window{
				Interval: period.Interval{Start: time.UnixMicro(p.Start).UTC(), End: time.UnixMicro(c.end(p.Start)).UTC()},
				Rollup:   p.Rollup,
			})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("windows: %w", err)
	}
	return windows, nil
}

// Late implements store.View. It looks at what came since it was last asked the same: appends wait for it, and the books ask
// again and again.
func (v *View) Late(k store.SeriesKey, in period.Interval, after uint64) (money.Decimal, error) {
	from, to := limits(in)
	key := lateKey{v.x.series[k], from, to, after}
	known := v.x.late.get(key)
	sum, since, read := known.sum, max(after, known.upTo), false
	c := v.x.customers[k.CustomerID]
	add := func(one *base.Contribution) (bool, error) {
		var err error
		sum, err = sum.Add(one.Signed())
		return true, err
	}
	err := v.parts(k, in, func(s *series, p *base.Part) error {
		if p.Last <= since {
			return nil
		}
		read = true
		end := c.end(p.Start)
		if err := v.x.own(v.r, s, p.Start, end, since, add); err != nil || !p.Revised {
			return err
		}
		return v.x.later(v.r, s, p.Start, end, since, add)
	})
	if err != nil {
		return money.Decimal{}, fmt.Errorf("late usage: %w", err)
	}
	if read {
		v.x.late.put(key, lateSum{sum, v.Position()})
	}
	return sum, nil
}

// Admitted implements store.View.
func (v *View) Admitted(k store.SeriesKey, periodStart int64) (money.Decimal, error) {
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
func (v *View) Reported(k store.SeriesKey, in period.Interval) (money.Decimal, error) {
	var sum money.Decimal
	err := v.parts(k, in, func(_ *series, p *base.Part) (err error) {
		sum, err = sum.Add(p.Reported)
		return err
	})
	if err != nil {
		return money.Decimal{}, fmt.Errorf("reported usage: %w", err)
	}
	return sum, nil
}

// Voided implements store.View.
func (v *View) Voided(k store.SeriesKey, in period.Interval) (money.Decimal, error) {
	var sum money.Decimal
	err := v.parts(k, in, func(_ *series, p *base.Part) (err error) {
		sum, err = sum.Add(p.Voided)
		return err
	})
	if err != nil {
		return money.Decimal{}, fmt.Errorf("voided usage: %w", err)
	}
	return sum, nil
}

// Series implements store.View.
func (v *View) Series() []store.Series {
	all := make([]store.Series, 0, len(v.x.series))
	for k, s := range v.x.series {
		one := store.Series{SeriesKey: k}
		if s.some {
			one.First, one.Last = time.UnixMicro(s.first).UTC(), time.UnixMicro(s.last).UTC()
		}
		all = append(all, one)
	}
	slices.SortFunc(all, func(a, b store.Series) int {
		return cmp.Or(cmp.Compare(a.CustomerID, b.CustomerID), cmp.Compare(a.Meter, b.Meter))
	})
	return all
}

// AdmittedPeriods implements store.View.
func (v *View) AdmittedPeriods(k store.SeriesKey) []int64 {
	s := v.x.series[k]
	if s == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(s.admitted))
}
