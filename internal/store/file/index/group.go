package index

import (
	"fmt"
	"slices"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file/segment"
)

// Group is what one commit writes: staged beside the index, so that nothing of it is seen before it is durable, and an
// overflow is found before anything is written. It belongs to the leader.
type Group struct {
	index    *Index
	max      int // events that the index may hold
	position uint64
	events   []staged
	revised  []revised
	states   map[uint32]*State   // what is staged of revised events, by ordinal
	ids      map[[16]byte]uint32 // identity → ordinal it will have
	stages   []stage
	byKey    map[stageKey]int
	fresh    map[store.SeriesKey]*series // not in the index yet
	totals   map[totalKey]money.Decimal
	marks    map[uint32]store.Flags

	// What the batch at work has changed, for its undoing.
	batch      int
	undoStages []stageUndo
	undoTotals []totalUndo
	undoMarks  []markUndo
}

// staged is a new event.
type staged struct {
	identity  [16]byte
	unmatched bool
	unit      string
	Entry
}

// revised is a new revision.
type revised struct {
	ordinal   uint32
	unmatched bool // afterwards
	Revision
}

type stageKey struct {
	series *series
	start  int64
}

// stage is a bucket's state after the group.
type stage struct {
	key    stageKey
	bucket *bucket // nil: not in the index yet
	rollup meter.Rollup
	tally  tally
	own    []contribution
	later  []contribution
	batch  int // that touched it last
}

type totalKey struct {
	store.SeriesKey
	period int64
	nodeEpoch
}

type stageUndo struct {
	stage      int
	rollup     meter.Rollup
	tally      tally
	own, later int
}

type totalUndo struct {
	key totalKey
	was money.Decimal
	had bool
}

type markUndo struct {
	ordinal uint32
	was     store.Flags
}

// NewGroup makes the group of a journal that holds at most so many events.
func NewGroup(x *Index, maxEvents int) *Group {
	g := &Group{index: x, max: maxEvents}
	g.Reset()
	return g
}

// Position is that of the last record staged.
func (g *Group) Position() uint64 { return g.position }

// Next takes the next position.
func (g *Group) Next() uint64 {
	g.position++
	return g.position
}

// Back gives the last position back: its record is not written.
func (g *Group) Back() { g.position-- }

// Staged counts the new events.
func (g *Group) Staged() int { return len(g.events) }

// keepMax bounds what a group keeps for the next one: clearing a large map costs its size.
const keepMax, keepStages = 512, 8192

// Reset makes the group empty, behind the index.
func (g *Group) Reset() {
	g.position = g.index.position
	g.events, g.revised = g.events[:0], g.revised[:0]
	g.stages = g.stages[:0]
	if cap(g.stages) > keepStages {
		g.stages = nil
	}
	if g.ids == nil || len(g.ids) > keepMax {
		g.ids = map[[16]byte]uint32{}
	}
	if g.byKey == nil || len(g.byKey) > keepMax {
		g.byKey = map[stageKey]int{}
	}
	if g.fresh == nil || len(g.fresh) > keepMax {
		g.fresh = map[store.SeriesKey]*series{}
	}
	if g.totals == nil || len(g.totals) > keepMax {
		g.totals = map[totalKey]money.Decimal{}
	}
	if g.marks == nil || len(g.marks) > keepMax {
		g.marks = map[uint32]store.Flags{}
	}
	if g.states == nil || len(g.states) > keepMax {
		g.states = map[uint32]*State{}
	}
	clear(g.states)
	clear(g.ids)
	clear(g.byKey)
	clear(g.fresh)
	clear(g.totals)
	clear(g.marks)
}

// Savepoint is the group before a batch.
type Savepoint struct {
	position uint64
	events   int
}

// Begin starts a batch.
func (g *Group) Begin() Savepoint {
	g.batch++
	g.undoStages, g.undoTotals, g.undoMarks = g.undoStages[:0], g.undoTotals[:0], g.undoMarks[:0]
	return Savepoint{g.position, len(g.events)}
}

// Rollback takes back what was staged since Begin.
func (g *Group) Rollback(s Savepoint) {
	for _, u := range g.undoStages {
		st := &g.stages[u.stage]
		st.rollup, st.tally, st.own, st.later = u.rollup, u.tally, st.own[:u.own], st.later[:u.later]
	}
	for _, u := range g.undoTotals {
		if u.had {
			g.totals[u.key] = u.was
		} else {
			delete(g.totals, u.key)
		}
	}
	for _, u := range slices.Backward(g.undoMarks) {
		if g.marks[u.ordinal] = u.was; u.was == 0 {
			delete(g.marks, u.ordinal)
		}
	}
	for _, e := range g.events[s.events:] {
		delete(g.ids, e.identity)
	}
	g.events = g.events[:s.events]
	g.position = s.position
}

// Lookup finds who holds an identity; pending says that it is not durable yet. nil: nobody.
func (g *Group) Lookup(identity [16]byte) (ordinal uint32, e *Entry, pending bool) {
	if ordinal, ok := g.index.ids[identity]; ok {
		return ordinal, g.index.events.get(ordinal), false
	}
	if ordinal, ok := g.ids[identity]; ok {
		return ordinal, &g.events[int(ordinal)-g.index.events.count].Entry, true
	}
	return 0, nil, false
}

// Full is store.ErrFull when there is no room for one more event. What is in the log already is taken in all the same.
func (g *Group) Full() error {
	if g.index.events.count+len(g.events) >= g.max {
		return fmt.Errorf("the index holds its limit of %d events; raise MaxEvents: %w", g.max, store.ErrFull)
	}
	return nil
}

// Event stages a new event that nobody holds the identity of, at the group's position. money.ErrOverflow.
func (g *Group) Event(identity, digest [16]byte, at segment.Location, e *store.Entry) error {
	c := contribution{cause: g.position, event: g.position, time: e.Event.Time.UnixMicro(), origin: e.Origin}
	for i := range e.Resolutions {
		if err := g.contribute(&e.Resolutions[i], c); err != nil {
			return err
		}
	}
	g.ids[identity] = uint32(g.index.events.count + len(g.events))
	g.events = append(g.events, staged{
		identity: identity, unmatched: len(e.Resolutions) == 0 && e.Flags&store.Held == 0, unit: e.Unit,
		Entry: Entry{Digest: digest, Position: g.position, At: at},
	})
	return nil
}

func (g *Group) contribute(r *meter.Resolution, c contribution) error {
	k := store.SeriesKey{CustomerID: r.CustomerID, Meter: r.Meter}
	s := g.series(k)
	of := s.customer
	if of == nil {
		of = g.index.customers[k.CustomerID]
	}
	i := g.stage(stageKey{s, of.start(c.time)})
	st := &g.stages[i]
	if st.batch != g.batch {
		st.batch = g.batch
		g.undoStages = append(g.undoStages, stageUndo{i, st.rollup, st.tally, len(st.own), len(st.later)})
	}
	c.value, c.traits = r.Value, g.index.traitsOf(r)
	var err error
	if st.rollup, err = folded(st.rollup, &c); err == nil {
		err = st.tally.add(&c)
	}
	if err != nil {
		return fmt.Errorf("customer %s, meter %s: %w", k.CustomerID, k.Meter, err)
	}
	if c.cause == c.event {
		st.own = append(st.own, c)
	} else {
		st.later = append(st.later, c)
	}
	return nil
}

func folded(r meter.Rollup, c *contribution) (meter.Rollup, error) {
	if c.taken {
		return r.Unfold(c.origin, c.value)
	}
	return r.Fold(c.origin, c.value)
}

// stage finds or makes a bucket's staged state.
func (g *Group) stage(k stageKey) int {
	if i, ok := g.byKey[k]; ok {
		return i
	}
	i := len(g.stages)
	if cap(g.stages) > i {
		g.stages = g.stages[:i+1] // keeps the room of an earlier group's lists
	} else {
		g.stages = append(g.stages, stage{})
	}
	st := &g.stages[i]
	*st = stage{key: k, bucket: k.series.find(k.start), tally: k.series.tally(k.start), own: st.own[:0], later: st.later[:0]}
	if st.bucket != nil {
		st.rollup = st.bucket.rollup
	}
	g.byKey[k] = i
	return i
}

// series finds a series in the index, or makes one that apply will add.
func (g *Group) series(k store.SeriesKey) *series {
	s := g.index.series[k]
	if s == nil {
		s = g.fresh[k]
	}
	if s == nil {
		s = newSeries(k)
		g.fresh[s.key] = s
	}
	return s
}

// MaxTotals bounds the admitted totals of all gateway epochs.
const MaxTotals = 4 << 20

// Totals stages a batch's admitted totals and says whether they changed anything. full: they are too many now.
func (g *Group) Totals(node uint16, epoch uint32, totals []store.AdmittedTotal) (changed bool, full error) {
	for i := range totals {
		t := &totals[i]
		if g.total(totalKey{store.SeriesKey{CustomerID: t.CustomerID, Meter: t.Meter}, t.PeriodStart, nodeEpoch{node, epoch}}, t.Total) {
			changed = true
		}
	}
	if changed && g.index.counts.Totals+len(g.totals) > MaxTotals {
		return false, fmt.Errorf("the index holds its limit of %d admitted totals: %w", MaxTotals, store.ErrFull)
	}
	return changed, nil
}

// total stages an admitted total and says whether it changed anything.
func (g *Group) total(k totalKey, total money.Decimal) bool {
	was, had := g.totals[k]
	now := was
	if !had {
		now = g.index.admittedTotal(k)
	}
	if total.Cmp(now) <= 0 {
		return false
	}
	g.undoTotals = append(g.undoTotals, totalUndo{k, was, had})
	g.totals[k] = total
	return true
}

// Mark stages flags of an event and says whether they changed anything.
func (g *Group) Mark(ordinal uint32, flags store.Flags) bool {
	staged := g.marks[ordinal]
	if flags&^(staged|g.index.marks[ordinal]) == 0 {
		return false
	}
	g.undoMarks = append(g.undoMarks, markUndo{ordinal, staged})
	g.marks[ordinal] = staged | flags
	return true
}
