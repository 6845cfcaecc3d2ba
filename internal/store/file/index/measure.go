package index

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file/base"
)

// MaxGroups bounds the groups of one measure.
const MaxGroups = 100_000

// Measure implements store.View. store.ErrInvalid beyond MaxGroups.
func (v *View) Measure(k store.SeriesKey, in period.Interval, m store.Measure) ([]store.Group, error) {
	groups, err := v.measure(k, in, m)
	if err != nil {
		return nil, fmt.Errorf("measure: %w", err)
	}
	return groups, nil
}

// collection gathers the readings that a measure asks for, by group.
type collection struct {
	m      *store.Measure
	groups map[string]*collected
	room   []byte
}

// collected is one group at work.
type collected struct {
	dimensions []meter.Dimension
	readings   []meter.Reading
	level      meter.Level
	carried    bool
}

func (v *View) measure(k store.SeriesKey, in period.Interval, m store.Measure) ([]store.Group, error) {
	err := v.boundaries(k.CustomerID, in)
	switch {
	case err != nil:
		return nil, err
	case m.Aggregation < meter.Count || m.Aggregation > meter.TimeWeighted:
		return nil, invalid("unknown aggregation %d", m.Aggregation)
	case m.Aggregation == meter.TimeWeighted && (in.Start.IsZero() || !in.End.After(in.Start)):
		return nil, invalid("a time-weighted level needs an interval with a start and an end")
	}
	c := &collection{m: &m, groups: map[string]*collected{}}
	from, to := limits(in)
	s := v.x.series[k]
	if err := v.collect(c, s, from, to); err != nil {
		return nil, err
	}
	if m.Aggregation == meter.TimeWeighted {
		if err := v.carry(c, s, from); err != nil {
			return nil, err
		}
		for _, g := range c.groups {
			g.level.From, g.level.To = from, to
		}
	}
	return c.fold()
}

// collect reads what contributed to a span of time: an event's own before what its revisions changed.
func (v *View) collect(c *collection, s *series, from, to int64) error {
	if err := v.x.own(v.r, s, from, to, 0, c.add); err != nil {
		return err
	}
	return v.x.later(v.r, s, from, to, 0, c.add)
}

func (c *collection) add(one *base.Contribution) (bool, error) {
	if c.m.UpTo > 0 && one.Cause > c.m.UpTo {
		return true, nil
	}
	for _, d := range c.m.Where {
		if dimension(one.Traits, d.Name) != d.Value {
			return true, nil
		}
	}
	c.room = c.room[:0]
	for _, name := range c.m.GroupBy {
		c.room = append(append(c.room, dimension(one.Traits, name)...), 0xff) // no byte of a text
	}
	g := c.groups[string(c.room)]
	if g == nil {
		if len(c.groups) >= MaxGroups {
			return false, invalid("more than %d groups: group by fewer dimensions", MaxGroups)
		}
		g = &collected{}
		for _, name := range c.m.GroupBy {
			g.dimensions = append(g.dimensions, meter.Dimension{Name: name, Value: dimension(one.Traits, name)})
		}
		c.groups[string(c.room)] = g
	}
	r := meter.Reading{Time: one.Time, Position: one.Event, Value: one.Value, Taken: one.Taken}
	if one.Traits != nil {
		r.Distinct = one.Traits.Distinct
	}
	g.readings = append(g.readings, r)
	return true, nil
}

// dimension of traits; a missing one is empty.
func dimension(t *base.Traits, name string) string {
	if t != nil {
		for i := range t.Dimensions {
			if t.Dimensions[i].Name == name {
				return t.Dimensions[i].Value
			}
		}
	}
	return ""
}

// carry finds the level of each group at the start: that of the latest event before. Without groups it looks at one bucket
// after the other from the newest on; groups may begin anywhere, so that all of the series' past is read for them.
func (v *View) carry(c *collection, s *series, from int64) error {
	if len(c.m.GroupBy) > 0 {
		past := &collection{m: c.m, groups: map[string]*collected{}}
		if err := v.collect(past, s, math.MinInt64, from); err != nil {
			return err
		}
		return c.levels(past)
	}
	if c.groups[""] == nil {
		c.groups[""] = &collected{}
	}
	return v.x.partsBack(v.r, s, math.MinInt64, from, func(p *base.Part) (bool, error) {
		bucket := &collection{m: c.m, groups: map[string]*collected{}}
		if err := v.collect(bucket, s, p.Start, min(from, s.customer.end(p.Start))); err != nil {
			return false, err
		}
		err := c.levels(bucket)
		return !c.groups[""].carried, err
	})
}

// levels takes the last level of each group of the past over.
func (c *collection) levels(past *collection) error {
	for key, old := range past.groups {
		last, ok := meter.Newest(meter.Live(old.readings))
		if !ok {
			continue
		}
		g := c.groups[key]
		if g == nil {
			if len(c.groups) >= MaxGroups {
				return invalid("more than %d groups: group by fewer dimensions", MaxGroups)
			}
			g = &collected{dimensions: old.dimensions}
			c.groups[key] = g
		}
		g.carried, g.level.Before = true, last.Value
	}
	return nil
}

func (c *collection) fold() ([]store.Group, error) {
	if len(c.m.GroupBy) == 0 && len(c.groups) == 0 {
		return []store.Group{{}}, nil
	}
	all := make([]store.Group, 0, len(c.groups))
	for _, g := range c.groups {
		f, err := meter.Fold(c.m.Aggregation, g.readings, g.level)
		if err != nil {
			return nil, err
		}
		if f.Events > 0 || g.carried || len(c.m.GroupBy) == 0 {
			all = append(all, store.Group{Dimensions: g.dimensions, Value: f.Value, Events: f.Events, Inexact: f.Inexact})
		}
	}
	slices.SortFunc(all, func(a, b store.Group) int {
		return slices.CompareFunc(a.Dimensions, b.Dimensions, func(a, b meter.Dimension) int { return strings.Compare(a.Value, b.Value) })
	})
	return all, nil
}
