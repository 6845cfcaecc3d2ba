package usage

import (
	"context"
	"fmt"
	"slices"

	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// cell is one window of one series that is to be measured.
type cell struct {
	series int
	in     period.Interval
}

// windows fills in the windows of the groups that are shown.
func (r *reading) windows(ctx context.Context) error {
	if r.level() && r.In.Empty() {
		return nil
	}
	var needed []int // series
	for _, g := range r.shown {
		needed = append(needed, g.sources...)
	}
	slices.Sort(needed)
	needed = slices.Compact(needed)
	var cells []cell
	err := r.inViews(ctx, len(needed), measuresMax, func(v store.View, i int) error {
		at := needed[i]
		switch same := v.Position() == r.position; {
		case same && r.tiled():
			return r.tile(v, at)
		case same && r.plain():
			return r.addUp(v, at)
		}
		list, err := r.used(v, at)
		for _, in := range list {
			cells = append(cells, cell{at, in})
		}
		if err == nil && len(cells) > MaxMeasures {
			err = &Invalid{"/window", fmt.Sprintf("would take more than %d windows to measure", MaxMeasures), "ask for a shorter time, longer windows, or fewer customers"}
		}
		return err
	})
	if err != nil {
		return err
	}
	return r.inViews(ctx, len(cells), measuresMax, func(v store.View, i int) error {
		found, err := r.measure(v, r.series[cells[i].series].key, cells[i].in)
		if err != nil {
			return err
		}
		for _, f := range found {
			if err := r.put(cells[i].series, cells[i].in, f); err != nil {
				return err
			}
		}
		return nil
	})
}

// used are the windows of a series to measure, clipped: those with a bucket that holds usage, and all of a level, which
// lasts while nothing comes.
func (r *reading) used(v store.View, series int) ([]period.Interval, error) {
	s := r.series[series]
	if r.level() {
		return r.tiles(r.plan, s.customer)
	}
	buckets, err := v.Windows(s.key, r.In)
	if err != nil {
		return nil, err
	}
	var out []period.Interval
	var whole period.Interval // around the last bucket, not clipped
	for _, b := range buckets {
		if len(out) > 0 && whole.Contains(b.Start) {
			continue
		}
		if whole, err = r.window(r.plan, s.customer, b.Start); err != nil {
			return nil, err
		}
		out = append(out, clip(whole, r.In))
	}
	return out, nil
}

// addUp adds a series' buckets up into windows. No bucket crosses the bound of a window, since every local midnight and hour
// is on the grid and every start of a subscription is a cut.
func (r *reading) addUp(v store.View, series int) error {
	s := r.series[series]
	buckets, err := v.Windows(s.key, r.In)
	if err != nil {
		return err
	}
	for i := 0; i < len(buckets); {
		whole, err := r.window(r.plan, s.customer, buckets[i].Start)
		if err != nil {
			return err
		}
		var sum store.Group
		for ; i < len(buckets) && whole.Contains(buckets[i].Start); i++ {
			if sum.Value, err = sum.Value.Add(buckets[i].Sum); err != nil {
				return err
			}
			sum.Events += buckets[i].Count
		}
		if err := r.put(series, clip(whole, r.In), sum); err != nil {
			return err
		}
	}
	return nil
}

// tile asks for the windows of a series one by one.
func (r *reading) tile(v store.View, series int) error {
	s := r.series[series]
	list, err := r.tiles(r.plan, s.customer)
	if err != nil {
		return err
	}
	for _, in := range list {
		u, err := v.Usage(s.key, in)
		if err != nil {
			return err
		}
		if err := r.put(series, in, store.Group{Value: u.Sum, Events: u.Count}); err != nil {
			return err
		}
	}
	return nil
}

// put adds what a series has in a window to the group, if it is shown.
func (r *reading) put(series int, in period.Interval, f store.Group) error {
	if f.Events == 0 && f.Value.Sign() == 0 {
		return nil
	}
	g := r.group(r.series[series].customer, f.Dimensions)
	if !g.shown {
		return nil
	}
	if r.summed() {
		if err := r.fold(&g.Figure, f); err != nil {
			return err
		}
	}
	w := g.windows[in.Start]
	if w == nil {
		if r.shownWindows++; r.shownWindows > MaxWindows {
			return tooManyWindows()
		}
		w = &WindowFigure{Interval: in}
		g.windows[in.Start] = w
	}
	return r.fold(&w.Figure, f)
}
