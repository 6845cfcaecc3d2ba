package index

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file/base"
)

// Size is how much has come since the last checkpoint began: events, contributions and revisions.
func (x *Index) Size() int { return x.active.size }

// Base is what lies on disk; nil: nothing yet.
func (x *Index) Base() *base.Store { return x.base }

// Freezing says whether a checkpoint is at work.
func (x *Index) Freezing() bool { return x.frozen != nil }

// Frozen is the position of the checkpoint at work.
func (x *Index) Frozen() uint64 { return x.frozen.position }

// Freeze begins a checkpoint, under the write lock: what came until now is written by Write.
func (x *Index) Freeze() {
	d := x.active
	x.frozen, x.active = d, newDelta(len(d.ids))
	for _, s := range d.touched {
		s.frozen, s.active = s.active, nil
	}
	d.entries = make([]base.SeriesEntry, 0, len(d.fresh)+len(d.touched))
	for _, list := range [][]*series{d.fresh, d.touched} {
		for _, s := range list {
			d.entries = append(d.entries, base.SeriesEntry{Number: s.number, Key: s.key, First: s.first, Last: s.last, Some: s.some})
		}
	}
	d.position = x.position
	d.state = base.State{
		Position: x.position, Events: x.counts.Events, Buckets: x.counts.Buckets, Marks: x.counts.Marks, Revised: x.counts.Revised,
		Unmatched: x.counts.Unmatched, LastRevision: x.lastRevision,
	}
}

// Write writes what is frozen into the base and returns when it is durable. Nobody else writes to the base meanwhile. The
// checksum ties the base to the record at its position.
func (x *Index) Write(b *base.Store, checksum uint32) error {
	d := x.frozen
	if !d.written {
		if err := x.writeBatch(b, checksum); err != nil {
			return err
		}
		d.written = true
	}
	return b.Wait()
}

// batchBytes is about what an event or a contribution takes in a checkpoint.
const batchBytes = 64

type identity struct {
	identity base.Identity
	held     base.Held
}

// identities are those of the delta, in their order. They are hashes: their first bytes tell well where each belongs.
func (d *delta) identities() []identity {
	const buckets = 1 << 16
	all := make([]identity, len(d.ids))
	ends := make([]uint32, buckets+1) // of the bucket before
	for id := range d.ids {
		ends[uint(id[0])<<8+uint(id[1])+1]++
	}
	for i := range buckets {
		ends[i+1] += ends[i]
	}
	for id, held := range d.ids {
		end := &ends[uint(id[0])<<8+uint(id[1])]
		all[*end] = identity{id, held}
		*end++
	}
	from := uint32(0)
	for _, to := range ends[:buckets] {
		if to-from > 1 {
			slices.SortFunc(all[from:to], func(a, b identity) int { return compare(&a.identity, &b.identity) })
		}
		from = to
	}
	return all
}

func (x *Index) writeBatch(b *base.Store, checksum uint32) error {
	d := x.frozen
	w := b.Batch(d.size * batchBytes)
	for _, u := range d.units {
		w.Unit(u.unit, u.event)
	}
	for _, c := range d.cuts {
		w.Cut(c.customer, c.at)
	}
	for _, e := range d.identities() {
		w.Identity(&e.identity, e.held)
	}
	touched := slices.SortedFunc(slices.Values(d.touched), func(a, b *series) int { return cmp.Compare(a.number, b.number) })
	for _, s := range touched {
		for i := range s.frozen.grids {
			g := &s.frozen.grids[i]
			for k := range g.later {
				w.Later(s.number, g.start, &g.later[k])
			}
		}
	}
	for _, event := range slices.Sorted(maps.Keys(d.marks)) {
		w.Mark(event, d.marks[event])
	}
	for _, s := range touched {
		for i := range s.frozen.grids {
			g := &s.frozen.grids[i]
			for k := range g.own {
				w.Own(s.number, g.start, &g.own[k])
			}
		}
	}
	for _, s := range d.spots {
		w.Spot(s)
	}
	if err := writeDays(b, w, touched); err != nil {
		return err
	}
	d.sortEntries()
	for i := range d.entries {
		w.Series(&d.entries[i])
	}
	for k, total := range d.totals {
		w.Total(k, total)
	}
	for _, event := range slices.Sorted(maps.Keys(d.unmatched)) {
		w.Unmatched(event, d.unmatched[event])
	}
	for _, event := range slices.Sorted(maps.Keys(d.revisions)) {
		w.Revisions(event, d.revisions[event])
	}
	for _, r := range d.since {
		w.RevisionAt(r.revision, r.event)
	}
	state := d.state
	state.Checksum = checksum
	return w.Commit(state)
}

// sortEntries is not the freeze's work: appends wait for that.
func (d *delta) sortEntries() {
	slices.SortFunc(d.entries, func(a, b base.SeriesEntry) int { return cmp.Compare(a.Number, b.Number) })
	d.entries = slices.CompactFunc(d.entries, func(a, b base.SeriesEntry) bool { return a.Number == b.Number })
}

// writeDays brings the rows of buckets up to date.
func writeDays(b *base.Store, w *base.Batch, touched []*series) error {
	r := b.Reader()
	err := func() error {
		for _, s := range touched {
			for parts := s.frozen.parts; len(parts) > 0; {
				n := 1
				for n < len(parts) && base.SameDay(parts[n].Start, parts[0].Start) {
					n++
				}
				row := parts[:n]
				from, to := base.DaySpan(parts[0].Start)
				if s.stored.Some && from <= s.stored.Last {
					var err error
					if row, err = mergedRow(r, s, row, from, to); err != nil {
						return err
					}
				}
				w.Day(s.number, row)
				parts = parts[n:]
			}
		}
		return nil
	}()
	if end := r.Close(); err == nil {
		err = end
	}
	return err
}

func mergedRow(r *base.Reader, s *series, over []base.Part, from, to int64) (row []base.Part, err error) {
	err = r.Parts(s.number, from, to, func(p *base.Part) (bool, error) {
		for len(over) > 0 && over[0].Start < p.Start {
			row, over = append(row, over[0]), over[1:]
		}
		if len(over) > 0 && over[0].Start == p.Start {
			p, over = &over[0], over[1:]
		}
		row = append(row, *p)
		return true, nil
	})
	return append(row, over...), err
}

// Finish ends a checkpoint, under the write lock: what was frozen is read from the base from now on.
func (x *Index) Finish(b *base.Store) {
	d := x.frozen
	x.base, x.based, x.frozen = b, d.position, nil
	for _, s := range d.touched {
		l := s.frozen
		s.frozen = nil
		if s.isHot && l.find(s.hot.Start) != nil {
			s.isHot = false // it changed
		}
		if n := len(l.parts); n > 0 && !l.parts[n-1].Gone && (!s.isHot || l.parts[n-1].Start > s.hot.Start) {
			s.hot, s.isHot = l.parts[n-1], true
		}
	}
	for i := range d.entries {
		x.numbers[d.entries[i].Number].stored = d.entries[i]
	}
}

// Load takes a base up that holds the journal up to its position.
func (x *Index) Load(b *base.Store, state base.State) error {
	x.base, x.based, x.position = b, state.Position, state.Position
	x.active.position, x.lastRevision = state.Position, state.LastRevision
	x.counts = Counts{Events: state.Events, Buckets: state.Buckets, Marks: state.Marks, Revised: state.Revised, Unmatched: state.Unmatched}
	r := b.Reader()
	err := r.Load(base.Small{
		Series: func(e base.SeriesEntry) {
			s := x.newSeries(e.Key, x.customers[e.Key.CustomerID])
			s.stored, s.first, s.last, s.some = e, e.First, e.Last, e.Some
			x.addSeries(s)
		},
		Total: func(k base.TotalKey, total money.Decimal) {
			if int(k.Series) < len(x.numbers) && x.numbers[k.Series].setTotal(k.Period, nodeEpoch{k.Node, k.Epoch}, total) {
				x.counts.Totals++
			}
		},
		Cut: func(customerID string, at int64) {
			if x.makeCustomer(customerID).addCut(at) {
				x.counts.Cuts++
			}
		},
		Spot: func(s base.Spot) { x.spots = append(x.spots, s) },
	})
	if end := r.Close(); err == nil {
		err = end
	}
	return err
}

// Unknown checks that nobody held the identities of a group that is replayed.
func (g *Group) Unknown() error {
	if g.index.base == nil {
		return nil
	}
	ids := make([]base.Identity, len(g.events))
	for i := range g.events {
		ids[i] = g.events[i].identity
	}
	if err := g.Look(ids); err != nil {
		return err
	}
	for i := range g.events {
		if h, ok := g.known[g.events[i].identity]; ok {
			return fmt.Errorf("event %d has the identity of event %d: %w", g.events[i].position, h.Position, store.ErrCorrupt)
		}
	}
	return nil
}
