package index

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// MaxGroups bounds the groups of one measure.
const MaxGroups = 100_000

// Measure implements store.View. store.ErrInvalid beyond MaxGroups.
func (v View) Measure(k store.SeriesKey, in period.Interval, m store.Measure) ([]store.Group, error) {
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

func (v View) measure(k store.SeriesKey, in period.Interval, m store.Measure) ([]store.Group, error) {
	buckets, err := v.buckets(k, in)
	switch {
	case err != nil:
		return nil, err
	case m.Aggregation < meter.Count || m.Aggregation > meter.TimeWeighted:
		return nil, invalid("unknown aggregation %d", m.Aggregation)
	case m.Aggregation == meter.TimeWeighted && (in.Start.IsZero() || !in.End.After(in.Start)):
		return nil, invalid("a time-weighted level needs an interval with a start and an end")
	}
	c := &collection{m: &m, groups: map[string]*collected{}}
	for _, b := range buckets {
		if err := c.bucket(b); err != nil {
			return nil, err
		}
	}
	if m.Aggregation == meter.TimeWeighted {
		if err := c.carry(v.x.series[k], in); err != nil {
			return nil, err
		}
	}
	return c.fold()
}

func (c *collection) bucket(b *bucket) error {
	for _, list := range [][]contribution{b.own, b.later} { // an event's own stands before its revisions'
		for i := range list {
			if err := c.add(&list[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *collection) add(one *contribution) error {
	if c.m.UpTo > 0 && one.cause > c.m.UpTo {
		return nil
	}
	for _, d := range c.m.Where {
		if one.traits.value(d.Name) != d.Value {
			return nil
		}
	}
	c.room = c.room[:0]
	for _, name := range c.m.GroupBy {
		c.room = append(append(c.room, one.traits.value(name)...), 0xff) // no byte of a text
	}
	g := c.groups[string(c.room)]
	if g == nil {
		if len(c.groups) >= MaxGroups {
			return invalid("more than %d groups: group by fewer dimensions", MaxGroups)
		}
		g = &collected{}
		for _, name := range c.m.GroupBy {
			g.dimensions = append(g.dimensions, meter.Dimension{Name: name, Value: one.traits.value(name)})
		}
		c.groups[string(c.room)] = g
	}
	r := meter.Reading{Time: one.time, Position: one.event, Value: one.value, Taken: one.taken}
	if one.traits != nil {
		r.Distinct = one.traits.distinct
	}
	g.readings = append(g.readings, r)
	return nil
}

// value of a dimension; a missing one is empty.
func (t *traits) value(name string) string {
	if t != nil {
		for i := range t.dimensions {
			if t.dimensions[i].Name == name {
				return t.dimensions[i].Value
			}
		}
	}
	return ""
}

// carry finds the level of each group at the start: that of the latest event before. Groups may begin anywhere, so that all
// of the series' past is read when there are some.
func (c *collection) carry(s *series, in period.Interval) error {
	from, to := limits(in)
	if len(c.m.GroupBy) == 0 && c.groups[""] == nil {
		c.groups[""] = &collected{}
	}
	var past []*bucket
	if s != nil {
		past = s.span(-1<<63, from)
	}
	for _, b := range slices.Backward(past) {
		before := &collection{m: c.m, groups: map[string]*collected{}}
		if err := before.bucket(b); err != nil {
			return err
		}
		for key, old := range before.groups {
			last, ok := meter.Newest(meter.Live(old.readings))
			g := c.groups[key]
			if !ok || g != nil && g.carried {
				continue
			}
			if g == nil {
				if len(c.groups) >= MaxGroups {
					return invalid("more than %d groups: group by fewer dimensions", MaxGroups)
				}
				g = &collected{dimensions: old.dimensions}
				c.groups[key] = g
			}
			g.carried, g.level.Before = true, last.Value
		}
		if len(c.m.GroupBy) == 0 && c.groups[""].carried {
			break
		}
	}
	for _, g := range c.groups {
		g.level.From, g.level.To = from, to
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
