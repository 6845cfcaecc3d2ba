package index

import (
	"maps"
	"slices"
	"strings"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file/base"
)

// State is how an event counts at present.
type State struct {
	Revision    uint64 // 0: never revised
	Voided      bool
	Uncounted   bool // it is held or filtered
	Event       meter.Event
	Origin      meter.Origin
	Resolutions []meter.Resolution
	Revisions   []base.Revision // oldest first
}

func (s *State) unmatched() bool { return len(s.Resolutions) == 0 && !s.Voided && !s.Uncounted }

// State is what is staged of an event; nil: nothing, what is in the index holds.
func (g *Group) State(event uint64) *State { return g.states[event] }

// Revise stages a revision of a durable event, at the group's position, from one state to the next. money.ErrOverflow.
func (g *Group) Revise(event uint64, kind store.RevisionKind, was, now *State) error {
	c := base.Contribution{Cause: g.position, Event: event, Time: was.Event.Time.UnixMicro(), Origin: was.Origin, Taken: true}
	if err := g.differ(kind, c, was.Resolutions, now.Resolutions); err != nil {
		return err
	}
	c.Taken = false
	if err := g.differ(kind, c, now.Resolutions, was.Resolutions); err != nil {
		return err
	}
	now.Revision = g.position
	now.Revisions = append(slices.Clip(was.Revisions), base.Revision{Kind: kind, Position: g.position})
	g.states[event] = now
	g.revised = append(g.revised, revision{event: event, unmatched: now.unmatched(), was: was.unmatched(), all: now.Revisions})
	return nil
}

// differ contributes each resolution that the others do not have; of an amendment all.
func (g *Group) differ(kind store.RevisionKind, c base.Contribution, these, others []meter.Resolution) error {
	for i := range these {
		if kind != store.Amend && slices.ContainsFunc(others, func(o meter.Resolution) bool { return sameReading(&these[i], &o) }) {
			continue
		}
		if err := g.contribute(&these[i], c); err != nil {
			return err
		}
	}
	return nil
}

// sameReading leaves the catalog version out: it changes no figure.
func sameReading(a, b *meter.Resolution) bool {
	return a.CustomerID == b.CustomerID && a.Meter == b.Meter && a.Value.Equal(b.Value) && a.Distinct == b.Distinct &&
		slices.Equal(a.Dimensions, b.Dimensions)
}

// Apply makes a group part of the index; the group's records are durable.
func (x *Index) Apply(g *Group) {
	for i := range g.stages {
		if st := &g.stages[i]; st.brought > 0 {
			x.applyStage(st)
		}
	}
	d := x.active
	for i := range g.brought {
		d.bring(&g.stages[g.brought[i].stage], &g.brought[i].Contribution)
	}
	for k, total := range g.totals {
		s := x.makeSeries(k.SeriesKey)
		if s.setTotal(k.period, k.nodeEpoch, total) {
			x.counts.Totals++
		}
		d.totals[base.TotalKey{Series: s.number, Period: k.period, Node: k.node, Epoch: k.epoch}] = total
	}
	for i := range g.events {
		e := &g.events[i]
		d.ids[e.identity] = base.Held{Position: e.position, Fingerprint: base.Fingerprint(e.digest)}
		if e.unmatched {
			d.unmatched[e.position] = true
			x.counts.Unmatched++
		}
		if e.unit != "" {
			d.units = append(d.units, unitEvent{strings.Clone(e.unit), e.position})
		}
	}
	x.counts.Events += len(g.events)
	d.size += len(g.events)
	for i := range g.revised {
		x.applyRevision(&g.revised[i])
	}
	maps.Copy(d.marks, g.marks)
	x.counts.Marks += g.newly
	d.spots = append(d.spots, g.spots...)
	x.spots = append(x.spots, g.spots...)
	x.position, d.position = g.position, g.position
}

func (x *Index) applyStage(st *stage) {
	s := st.key.series
	if s.customer == nil {
		x.addSeries(s)
		x.active.fresh = append(x.active.fresh, s)
	}
	l := x.touch(s)
	if st.fresh {
		x.counts.Buckets++
	}
	l.put(&x.active.rooms, &st.part)
	s.reach(st.part.Start)
}

// bring adds a contribution to the span of its bucket.
func (d *delta) bring(st *stage, c *base.Contribution) {
	g := st.key.series.active.grid(&d.rooms, meter.GridStart(st.part.Start))
	list := &g.own
	if c.Cause != c.Event {
		list = &g.later
	}
	*list = append(d.rooms.contributions.more(*list), *c)
	d.size += weight(c)
}

// weight is how much a contribution counts for when a flush is due.
func weight(c *base.Contribution) int {
	if c.Traits == nil {
		return 1
	}
	return 1 + c.Traits.Bytes/traitsUnit
}

// touch makes the series part of the active delta.
func (x *Index) touch(s *series) *layer {
	if s.active == nil {
		s.active = x.active.rooms.layers.one()
		x.active.touched = append(x.active.touched, s)
	}
	return s.active
}

// reach widens the span of the series' buckets.
func (s *series) reach(start int64) {
	if !s.some {
		s.first, s.last, s.some = start, start, true
		return
	}
	s.first, s.last = min(s.first, start), max(s.last, start)
}

func (x *Index) applyRevision(r *revision) {
	d := x.active
	newest := r.all[len(r.all)-1].Position
	if len(r.all) == 1 {
		x.counts.Revised++
	}
	d.revisions[r.event] = r.all
	d.since = append(d.since, revised{newest, r.event})
	d.size++
	x.lastRevision = newest
	switch {
	case r.unmatched && !r.was:
		x.counts.Unmatched++
	case r.was && !r.unmatched:
		x.counts.Unmatched--
	}
	if r.unmatched != r.was {
		d.unmatched[r.event] = r.unmatched
	}
}
