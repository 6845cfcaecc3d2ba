package index

import (
	"math"
	"slices"
	"sort"

	"github.com/tallystick/tallystick/internal/store"
)

// Candidate is an event that a scan may return. It stays as it is when the lock is given back.
type Candidate struct {
	Entry
	Bucket    int64       // start, in a scan of one series
	Flags     store.Flags // added by marks
	Revisions []Revision  // oldest first
}

// Changed is the position at which the event was appended, or last revised.
func (c *Candidate) Changed() uint64 {
	if n := len(c.Revisions); n > 0 {
		return c.Revisions[n-1].Position
	}
	return c.Position
}

// Cursor is where a page ended: a bucket and a position in it. A scan over all events has no bucket.
type Cursor struct {
	Set      bool
	Bucket   int64
	Position uint64
}

// Find looks an identity up.
func (x *Index) Find(identity [16]byte) (Candidate, bool) {
	ordinal, ok := x.ids[identity]
	if !ok {
		return Candidate{}, false
	}
	return x.candidate(ordinal, 0), true
}

// At finds the event at a position. The ordinal is what a group calls it.
func (x *Index) At(position uint64) (ordinal uint32, c Candidate, ok bool) {
	i := x.events.after(position - 1)
	if position == 0 || i == x.events.count || x.events.get(uint32(i)).Position != position {
		return 0, Candidate{}, false
	}
	return uint32(i), x.candidate(uint32(i), 0), true
}

// Of is the event with an ordinal.
func (x *Index) Of(ordinal uint32) Candidate { return x.candidate(ordinal, 0) }

// Before finds the last event at or before a position.
func (x *Index) Before(position uint64) (Entry, bool) {
	i := x.events.after(position)
	if i == 0 {
		return Entry{}, false
	}
	return *x.events.get(uint32(i - 1)), true
}

func (x *Index) candidate(ordinal uint32, bucket int64) Candidate {
	return Candidate{Entry: *x.events.get(ordinal), Bucket: bucket, Flags: x.marks[ordinal], Revisions: x.revisions[ordinal]}
}

// Candidates are the next n events behind a cursor that a scan may ask for; none at the end.
func (x *Index) Candidates(s store.Scan, at Cursor, n int) []Candidate {
	if s.Unmatched {
		return x.pick(len(x.unmatched), func(i int) uint32 { return x.unmatched[i] }, s.NewestFirst, at, n)
	}
	if s.CustomerID != "" && s.Meter != "" {
		return x.byBucket(s, at, n)
	}
	if s.Unit != "" {
		unit := x.units[s.Unit]
		return x.pick(len(unit), func(i int) uint32 { return unit[i] }, s.NewestFirst, at, n)
	}
	first := x.events.after(s.After)
	early := x.revisedSince(s.After, first)
	return x.pick(len(early)+x.events.count-first, func(i int) uint32 {
		if i < len(early) {
			return early[i]
		}
		return uint32(first + i - len(early))
	}, s.NewestFirst, at, n)
}

// revisedSince lists those of the first events that were revised after a position.
func (x *Index) revisedSince(after uint64, first int) []uint32 {
	if x.revised <= after {
		return nil
	}
	var early []uint32
	for ordinal, list := range x.revisions {
		if int(ordinal) < first && list[len(list)-1].Position > after {
			early = append(early, ordinal)
		}
	}
	slices.Sort(early)
	return early
}

// pick reads a list of ordinals from the cursor on.
func (x *Index) pick(length int, get func(int) uint32, newestFirst bool, at Cursor, n int) []Candidate {
	position := func(i int) uint64 { return x.events.get(get(i)).Position }
	var found []Candidate
	if newestFirst {
		next := length
		if at.Set {
			next = sort.Search(length, func(i int) bool { return position(i) >= at.Position })
		}
		for i := next - 1; i >= 0 && len(found) < n; i-- {
			found = append(found, x.candidate(get(i), 0))
		}
		return found
	}
	next := 0
	if at.Set {
		next = sort.Search(length, func(i int) bool { return position(i) > at.Position })
	}
	for i := next; i < length && len(found) < n; i++ {
		found = append(found, x.candidate(get(i), 0))
	}
	return found
}

func (x *Index) byBucket(s store.Scan, at Cursor, n int) []Candidate {
	from, to := limits(s.In)
	if !s.In.Start.IsZero() {
		from = x.customers[s.CustomerID].start(from)
	}
	if at.Set && s.NewestFirst {
		to = at.Bucket
		if to < math.MaxInt64 {
			to++
		}
		_, end := limits(s.In)
		to = min(to, end)
	} else if at.Set {
		from = max(from, at.Bucket)
	}
	buckets := x.series[s.SeriesKey].span(from, to)
	var found []Candidate
	for i := range buckets {
		b := buckets[i]
		if s.NewestFirst {
			b = buckets[len(buckets)-1-i]
		}
		here := at
		here.Set = at.Set && b.start == at.Bucket
		length, event := b.counting()
		ordinal := func(i int) uint32 { return uint32(x.events.after(event(i)) - 1) }
		for _, c := range x.pick(length, ordinal, s.NewestFirst, here, n-len(found)) {
			c.Bucket = b.start
			found = append(found, c)
		}
		if len(found) == n {
			return found
		}
	}
	return found
}

// counting lists the events that count in the bucket, by position.
func (b *bucket) counting() (length int, event func(int) uint64) {
	if len(b.later) == 0 {
		return len(b.own), func(i int) uint64 { return b.own[i].event }
	}
	changed := map[uint64]bool{} // by revisions: whether it counts
	for i := range b.later {
		changed[b.later[i].event] = !b.later[i].taken
	}
	all := make([]uint64, 0, len(b.own))
	for i := range b.own {
		if _, ok := changed[b.own[i].event]; !ok {
			all = append(all, b.own[i].event)
		}
	}
	for event, counts := range changed {
		if counts {
			all = append(all, event)
		}
	}
	slices.Sort(all)
	return len(all), func(i int) uint64 { return all[i] }
}
