package index

import (
	"cmp"
	"math"
	"slices"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file/base"
)

func byStart(p base.Part, start int64) int { return cmp.Compare(p.Start, start) }
func gridByStart(g grid, start int64) int  { return cmp.Compare(g.start, start) }
func (x *Index) reader() *base.Reader      { return x.base.Reader() }
func (s *series) layers() (all [2]*layer)  { return [2]*layer{s.frozen, s.active} }
func (l *layer) span(from, to int64) []base.Part {
	if l == nil {
		return nil
	}
	i, _ := slices.BinarySearchFunc(l.parts, from, byStart)
	j, _ := slices.BinarySearchFunc(l.parts, to, byStart)
	return l.parts[i:max(i, j)]
}

func (l *layer) find(start int64) *base.Part {
	if l == nil {
		return nil
	}
	if n := len(l.parts); n == 0 || start > l.last {
		return nil
	} else if start == l.last {
		return &l.parts[n-1]
	}
	if i, ok := slices.BinarySearchFunc(l.parts, start, byStart); ok {
		return &l.parts[i]
	}
	return nil
}

// put and grid look at the newest first, where most events go, without reading any other.
func (l *layer) put(r *rooms, p *base.Part) {
	n := len(l.parts)
	if n == 0 || p.Start > l.last {
		l.parts, l.last = append(r.parts.more(l.parts), *p), p.Start
		return
	}
	if p.Start == l.last {
		l.parts[n-1] = *p
		return
	}
	i, ok := slices.BinarySearchFunc(l.parts, p.Start, byStart)
	if !ok {
		l.parts = slices.Insert(r.parts.more(l.parts), i, *p)
		return
	}
	l.parts[i] = *p
}

// grid finds or makes a span of contributions.
func (l *layer) grid(r *rooms, start int64) *grid {
	n := len(l.grids)
	if n == 0 || start > l.lastGrid {
		l.grids, l.lastGrid = append(r.grids.more(l.grids), grid{start: start}), start
		return &l.grids[n]
	}
	if start == l.lastGrid {
		return &l.grids[n-1]
	}
	i, ok := slices.BinarySearchFunc(l.grids, start, gridByStart)
	if !ok {
		l.grids = slices.Insert(r.grids.more(l.grids), i, grid{start: start})
	}
	return &l.grids[i]
}

func (l *layer) gridSpan(from, to int64) []grid {
	if l == nil {
		return nil
	}
	i, _ := slices.BinarySearchFunc(l.grids, from, gridByStart)
	j, _ := slices.BinarySearchFunc(l.grids, to, gridByStart)
	return l.grids[i:max(i, j)]
}

// part reads one bucket; an absent one is empty.
func (x *Index) part(r *base.Reader, s *series, start int64) (base.Part, error) {
	if !s.some || start > s.last {
		return base.Part{Start: start}, nil
	}
	for _, l := range [2]*layer{s.active, s.frozen} {
		if p := l.find(start); p != nil {
			if p.Gone {
				return base.Part{Start: start}, nil
			}
			return *p, nil
		}
	}
	switch {
	case s.isHot && s.hot.Start == start:
		return s.hot, nil
	case !s.stored.Some || start > s.stored.Last:
		return base.Part{Start: start}, nil
	}
	p, _, err := r.Part(s.number, start)
	return p, err
}

// overlay merges what the deltas say of the buckets in a span.
func (s *series) overlay(from, to int64) []base.Part {
	frozen, active := s.frozen.span(from, to), s.active.span(from, to)
	if len(frozen) == 0 {
		return active
	}
	if len(active) == 0 {
		return frozen
	}
	all := make([]base.Part, 0, len(frozen)+len(active))
	for _, p := range frozen {
		for len(active) > 0 && active[0].Start < p.Start {
			all, active = append(all, active[0]), active[1:]
		}
		if len(active) == 0 || active[0].Start != p.Start {
			all = append(all, p)
		}
	}
	return append(all, active...)
}

// parts calls do with the buckets of a series that start in [from, to), in time order, until it says no. s may be nil.
func (x *Index) parts(r *base.Reader, s *series, from, to int64, do func(p *base.Part) (bool, error)) error {
	if s == nil || from >= to {
		return nil
	}
	over := s.overlay(from, to)
	done := false
	emit := func(p *base.Part) error {
		if p.Gone || done {
			return nil
		}
		more, err := do(p)
		done = !more
		return err
	}
	if s.stored.Some && from <= s.stored.Last {
		if err := r.Parts(s.number, from, to, func(p *base.Part) (bool, error) {
			for len(over) > 0 && over[0].Start < p.Start {
				if err := emit(&over[0]); err != nil {
					return false, err
				}
				over = over[1:]
			}
			if len(over) > 0 && over[0].Start == p.Start {
				p, over = &over[0], over[1:]
			}
			err := emit(p)
			return !done, err
		}); err != nil || done {
			return err
		}
	}
	for i := range over {
		if err := emit(&over[i]); err != nil || done {
			return err
		}
	}
	return nil
}

// partsBack is parts from the newest bucket on.
func (x *Index) partsBack(r *base.Reader, s *series, from, to int64, do func(p *base.Part) (bool, error)) error {
	if s == nil || from >= to {
		return nil
	}
	over := s.overlay(from, to)
	done := false
	emit := func(p *base.Part) error {
		if p.Gone || done {
			return nil
		}
		more, err := do(p)
		done = !more
		return err
	}
	if s.stored.Some && from <= s.stored.Last {
		if err := r.PartsBack(s.number, from, to, func(p *base.Part) (bool, error) {
			for n := len(over) - 1; n >= 0 && over[n].Start > p.Start; n-- {
				if err := emit(&over[n]); err != nil {
					return false, err
				}
				over = over[:n]
			}
			if n := len(over) - 1; n >= 0 && over[n].Start == p.Start {
				p, over = &over[n], over[:n]
			}
			err := emit(p)
			return !done, err
		}); err != nil || done {
			return err
		}
	}
	for i := range slices.Backward(over) {
		if err := emit(&over[i]); err != nil || done {
			return err
		}
	}
	return nil
}

// gridFloor is the grid point at or before t, also where there is none as early.
func gridFloor(t int64) int64 {
	if t < math.MinInt64+meter.BucketMicros {
		return math.MinInt64
	}
	return meter.GridStart(t)
}

// own calls do with what events with a time in [from, to) brought themselves and lies behind a position, by grid point and
// event within each of base and deltas, until it says no.
func (x *Index) own(r *base.Reader, s *series, from, to int64, after uint64, do func(c *base.Contribution) (bool, error)) error {
	return x.contributions(s, from, to, after, do, r.Own, func(g *grid) []base.Contribution { return g.own })
}

// later is own for what revisions changed.
func (x *Index) later(r *base.Reader, s *series, from, to int64, after uint64, do func(c *base.Contribution) (bool, error)) error {
	return x.contributions(s, from, to, after, do, r.Later, func(g *grid) []base.Contribution { return g.later })
}

type based func(series uint32, from, to int64, after, upTo uint64, do func(c *base.Contribution) (bool, error)) error

func (x *Index) contributions(s *series, from, to int64, after uint64, do func(c *base.Contribution) (bool, error), read based,
	list func(g *grid) []base.Contribution,
) error {
	if s == nil || from >= to {
		return nil
	}
	done := false
	one := func(c *base.Contribution) (bool, error) {
		if c.Time < from || c.Time >= to || c.Cause <= after {
			return true, nil
		}
		more, err := do(c)
		done = !more
		return more, err
	}
	low := gridFloor(from)
	if s.stored.Some && after < x.based {
		if err := read(s.number, low, to, after, x.based, one); err != nil || done {
			return err
		}
	}
	for _, l := range s.layers() {
		spans := l.gridSpan(low, to)
		for i := range spans {
			all := list(&spans[i])
			first, _ := slices.BinarySearchFunc(all, after+1, func(c base.Contribution, p uint64) int { return cmp.Compare(c.Cause, p) })
			for k := first; k < len(all); k++ {
				if _, err := one(&all[k]); err != nil || done {
					return err
				}
			}
		}
	}
	return nil
}

// held looks an identity up in memory.
func (x *Index) held(id *base.Identity) (base.Held, bool) {
	h, ok := x.active.ids[*id]
	if !ok && x.frozen != nil {
		h, ok = x.frozen.ids[*id]
	}
	return h, ok
}

// flags that marks have added to an event.
func (x *Index) flags(r *base.Reader, event uint64) (store.Flags, error) {
	if x.counts.Marks == 0 {
		return 0, nil
	}
	for _, d := range []*delta{x.active, x.frozen} {
		if d != nil && d.marks[event] != 0 {
			return d.marks[event], nil
		}
	}
	if event > x.based {
		return 0, nil
	}
	return r.Flags(event)
}

// revisions of an event, oldest first.
func (x *Index) revisions(r *base.Reader, event uint64) ([]base.Revision, error) {
	if x.counts.Revised == 0 {
		return nil, nil
	}
	for _, d := range []*delta{x.active, x.frozen} {
		if d != nil && d.revisions[event] != nil {
			return d.revisions[event], nil
		}
	}
	if event > x.based {
		return nil, nil
	}
	return r.Revisions(event, x.based)
}
