package index

import (
	"maps"
	"math"
	"slices"

	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file/base"
)

// Candidate is a record that a scan may return.
type Candidate struct {
	Position uint64
	Bucket   int64 // start, in a scan of one series
}

// Cursor is where a page ended: a bucket and a position in it. A scan over all events has no bucket.
type Cursor struct {
	Set      bool
	Bucket   int64
	Position uint64
}

// Event is what is known of an event beside its record.
type Event struct {
	Flags     store.Flags     // added by marks
	Revisions []base.Revision // oldest first
}

// Changed is the position at which the event was last revised; 0: never.
func (e *Event) Changed() uint64 {
	if n := len(e.Revisions); n > 0 {
		return e.Revisions[n-1].Position
	}
	return 0
}

// Find looks an identity up.
func (v *View) Find(id base.Identity) (position uint64, ok bool, err error) {
	h, ok := v.x.held(&id)
	if ok || v.x.base == nil {
		return h.Position, ok, nil
	}
	err = v.r.Known([]base.Identity{id}, v.x.based, func(_ int, held base.Held) { h, ok = held, true })
	return h.Position, ok, err
}

// Event reads what is known of the event at a position.
func (v *View) Event(position uint64) (e Event, err error) {
	if e.Flags, err = v.x.flags(v.r, position); err == nil {
		e.Revisions, err = v.x.revisions(v.r, position)
	}
	return e, err
}

// Candidates are the next n records behind a cursor that a scan may ask for; none at the end. In a scan without series, unit
// and inbox they are any records, event or not.
func (v *View) Candidates(s *store.Scan, at Cursor, n int) ([]Candidate, error) {
	if s.After >= v.x.position {
		return nil, nil
	}
	if !s.Unmatched && s.CustomerID != "" && s.Meter != "" {
		return v.byBucket(s, at, n)
	}
	from := at.Position + 1
	if s.NewestFirst {
		if from = v.x.position; at.Set {
			from = max(at.Position, 1) - 1
		}
	}
	switch {
	case from == 0:
		return nil, nil
	case s.Unmatched:
		return v.unmatched(from, s.NewestFirst, n)
	case s.Unit != "":
		return v.unit(s.Unit, from, s.NewestFirst, n)
	case s.After > 0:
		return v.since(s, from, n)
	}
	return v.all(1, from, s.NewestFirst, n), nil
}

// all lists the positions from one on, or down to the first.
func (v *View) all(first, from uint64, newestFirst bool, n int) (found []Candidate) {
	if newestFirst {
		for p := min(from, v.x.position); p >= first && len(found) < n; p-- {
			found = append(found, Candidate{Position: p})
		}
		return found
	}
	for p := max(first, from); p <= v.x.position && len(found) < n; p++ {
		found = append(found, Candidate{Position: p})
	}
	return found
}

// since lists what came after a position, and before that what was revised after it.
func (v *View) since(s *store.Scan, from uint64, n int) ([]Candidate, error) {
	early := map[uint64]bool{}
	if v.x.lastRevision > s.After {
		add := func(event uint64) {
			if event <= s.After {
				early[event] = true
			}
		}
		if v.x.base != nil {
			if err := v.r.RevisedSince(s.After, v.x.based, add); err != nil {
				return nil, err
			}
		}
		for _, d := range v.x.deltas() {
			for _, r := range d.since {
				if r.revision > s.After {
					add(r.event)
				}
			}
		}
	}
	before := slices.Sorted(maps.Keys(early))
	if s.NewestFirst {
		found := v.all(s.After+1, from, true, n)
		for _, event := range slices.Backward(before) {
			if event <= from && len(found) < n {
				found = append(found, Candidate{Position: event})
			}
		}
		return found, nil
	}
	var found []Candidate
	for _, event := range before {
		if event >= from && len(found) < n {
			found = append(found, Candidate{Position: event})
		}
	}
	return append(found, v.all(s.After+1, from, false, n-len(found))...), nil
}

func (v *View) unmatched(from uint64, newestFirst bool, n int) ([]Candidate, error) {
	over := map[uint64]bool{}
	for _, d := range v.x.deltas() {
		maps.Copy(over, d.unmatched)
	}
	var extra []uint64
	for event, in := range over {
		if in {
			extra = append(extra, event)
		}
	}
	return v.merged(extra, from, newestFirst, n, func(do func(event uint64) bool) error {
		return v.r.Unmatched(from, newestFirst, func(event uint64) bool {
			if _, ok := over[event]; ok || event > v.x.based {
				return true
			}
			return do(event)
		})
	})
}

func (v *View) unit(unit string, from uint64, newestFirst bool, n int) ([]Candidate, error) {
	var extra []uint64
	for _, d := range v.x.deltas() {
		for _, u := range d.units {
			if u.unit == unit {
				extra = append(extra, u.event)
			}
		}
	}
	return v.merged(extra, from, newestFirst, n, func(do func(event uint64) bool) error {
		return v.r.Unit(unit, from, newestFirst, func(event uint64) bool { return event > v.x.based || do(event) })
	})
}

// merged are the next n of the base's events and of the others.
func (v *View) merged(extra []uint64, from uint64, newestFirst bool, n int, based func(do func(event uint64) bool) error) ([]Candidate, error) {
	all := slices.DeleteFunc(extra, func(event uint64) bool { return newestFirst && event > from || !newestFirst && event < from })
	if v.x.base != nil {
		count := 0
		if err := based(func(event uint64) bool {
			all = append(all, event)
			count++
			return count < n
		}); err != nil {
			return nil, err
		}
	}
	slices.Sort(all)
	if newestFirst {
		slices.Reverse(all)
	}
	var found []Candidate
	for _, event := range all[:min(n, len(all))] {
		found = append(found, Candidate{Position: event})
	}
	return found, nil
}

func (v *View) byBucket(s *store.Scan, at Cursor, n int) (found []Candidate, err error) {
	from, to := limits(s.In)
	c := v.x.customers[s.CustomerID]
	if !s.In.Start.IsZero() {
		from = c.start(from)
	}
	if at.Set && s.NewestFirst {
		if at.Bucket < math.MaxInt64 {
			to = min(to, at.Bucket+1)
		}
	} else if at.Set {
		from = max(from, at.Bucket)
	}
	one := v.x.series[s.SeriesKey]
	bucket := func(p *base.Part) (bool, error) {
		here := at
		here.Set = at.Set && p.Start == at.Bucket
		events, err := v.counting(one, p, c.end(p.Start), here, s.NewestFirst, n-len(found))
		for _, event := range events {
			found = append(found, Candidate{Position: event, Bucket: p.Start})
		}
		return len(found) < n, err
	}
	if s.NewestFirst {
		err = v.x.partsBack(v.r, one, from, to, bucket)
	} else {
		err = v.x.parts(v.r, one, from, to, bucket)
	}
	return found, err
}

// counting lists the next n events that count in a bucket, by position.
func (v *View) counting(s *series, p *base.Part, end int64, at Cursor, newestFirst bool, n int) (all []uint64, err error) {
	changed := map[uint64]bool{} // by revisions: whether it counts
	if p.Revised {
		if err := v.x.later(v.r, s, p.Start, end, 0, func(c *base.Contribution) (bool, error) {
			changed[c.Event] = !c.Taken
			return true, nil
		}); err != nil {
			return nil, err
		}
	}
	behind := func(event uint64) bool {
		return !at.Set || newestFirst && event < at.Position || !newestFirst && event > at.Position
	}
	after := uint64(0)
	if at.Set && !newestFirst {
		after = at.Position
	}
	if err := v.x.own(v.r, s, p.Start, end, after, func(c *base.Contribution) (bool, error) {
		if _, ok := changed[c.Event]; !ok && behind(c.Event) {
			all = append(all, c.Event)
		}
		return newestFirst || len(all) < n, nil
	}); err != nil {
		return nil, err
	}
	for event, counts := range changed {
		if counts && behind(event) {
			all = append(all, event)
		}
	}
	slices.Sort(all)
	if newestFirst {
		slices.Reverse(all)
	}
	return all[:min(n, len(all))], nil
}
