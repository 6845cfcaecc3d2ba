package index

import (
	"slices"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file/segment"
)

// State is how an event counts at present.
type State struct {
	Revision    uint64 // 0: never revised
	Voided      bool
	Held        bool
	Event       meter.Event
	Origin      meter.Origin
	Resolutions []meter.Resolution
}

// State is what is staged of an event; nil: nothing, what is in the index holds.
func (g *Group) State(ordinal uint32) *State { return g.states[ordinal] }

// Revise stages a revision of a durable event, at the group's position, from one state to the next. money.ErrOverflow.
func (g *Group) Revise(ordinal uint32, kind store.RevisionKind, at segment.Location, was, now *State) error {
	event := g.index.events.get(ordinal).Position
	c := contribution{cause: g.position, event: event, time: was.Event.Time.UnixMicro(), origin: was.Origin}
	c.taken = true
	if err := g.differ(kind, c, was.Resolutions, now.Resolutions); err != nil {
		return err
	}
	c.taken = false
	if err := g.differ(kind, c, now.Resolutions, was.Resolutions); err != nil {
		return err
	}
	now.Revision = g.position
	g.states[ordinal] = now
	g.revised = append(g.revised, revised{
		ordinal: ordinal, unmatched: len(now.Resolutions) == 0 && !now.Voided && !now.Held,
		Revision: Revision{Kind: kind, Position: g.position, At: at},
	})
	return nil
}

// differ contributes each resolution that the others do not have; of an amendment all.
func (g *Group) differ(kind store.RevisionKind, c contribution, these, others []meter.Resolution) error {
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

// Place tells the group where its frame was written: records were staged by their offsets in it.
func (g *Group) Place(number uint32, offset int64) {
	for i := range g.events {
		g.events[i].At = segment.Locate(number, offset+int64(g.events[i].At))
	}
	for i := range g.revised {
		g.revised[i].At = segment.Locate(number, offset+int64(g.revised[i].At))
	}
}

// Apply makes a group part of the index; the group's records are durable.
func (x *Index) Apply(g *Group) {
	for i := range g.stages {
		if st := &g.stages[i]; len(st.own)+len(st.later) > 0 {
			x.applyStage(st)
		}
	}
	for k, total := range g.totals {
		s := x.makeSeries(k.SeriesKey)
		if s.admitted == nil {
			s.admitted = map[int64]map[nodeEpoch]money.Decimal{}
		}
		of := s.admitted[k.period]
		if of == nil {
			of = map[nodeEpoch]money.Decimal{}
			s.admitted[k.period] = of
		}
		if _, ok := of[k.nodeEpoch]; !ok {
			x.counts.Totals++
		}
		of[k.nodeEpoch] = total
	}
	for i := range g.events {
		e := &g.events[i]
		ordinal := uint32(x.events.count)
		x.ids[e.identity] = ordinal
		x.events.add(e.Entry)
		if e.unmatched {
			x.unmatched = append(x.unmatched, ordinal)
		}
		if e.unit != "" {
			x.units[e.unit] = append(x.units[e.unit], ordinal)
		}
	}
	for i := range g.revised {
		x.applyRevision(&g.revised[i])
	}
	for ordinal, flags := range g.marks {
		x.marks[ordinal] |= flags
	}
	x.position = g.position
}

func (x *Index) applyStage(st *stage) {
	s, b := st.key.series, st.bucket
	if s.customer == nil {
		x.addSeries(s)
	}
	if b == nil {
		b = &bucket{start: st.key.start}
		s.put(b)
		x.counts.Buckets++
	}
	b.rollup = st.rollup
	b.own = append(b.own, st.own...)
	b.later = append(b.later, st.later...)
	if was := s.tally(b.start); !was.reported.Equal(st.tally.reported) || !was.voided.Equal(st.tally.voided) {
		s.setTally(st.tally)
	}
}

func (x *Index) applyRevision(r *revised) {
	x.revisions[r.ordinal] = append(x.revisions[r.ordinal], r.Revision)
	x.revised = r.Position
	i, ok := slices.BinarySearch(x.unmatched, r.ordinal)
	if ok && !r.unmatched {
		x.unmatched = slices.Delete(x.unmatched, i, i+1)
	} else if !ok && r.unmatched {
		x.unmatched = slices.Insert(x.unmatched, i, r.ordinal)
	}
}
