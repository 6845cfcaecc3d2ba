package file

import (
	"fmt"
	"slices"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/store"
)

// group is what one commit writes: staged beside the index, so that nothing of it is seen before it is durable, and an
// overflow is found before anything is written. It belongs to the leader.
type group struct {
	index    *index
	max      int // events that the index may hold
	position uint64
	events   []staged
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
	identity [16]byte
	entry
}

type stageKey struct {
	series *series
	start  int64
}

// stage is a bucket's state after the group.
type stage struct {
	key      stageKey
	bucket   *bucket // nil: not in the index yet
	rollup   meter.Rollup
	tally    money.Decimal
	reported bool
	refs     []uint32
	batch    int // that touched it last
}

type totalKey struct {
	store.SeriesKey
	period int64
	nodeEpoch
}

type stageUndo struct {
	stage    int
	rollup   meter.Rollup
	tally    money.Decimal
	reported bool
	refs     int
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

func newGroup(x *index, maxEvents int) *group {
	g := &group{index: x, max: maxEvents}
	g.reset()
	return g
}

// keepMax bounds what a group keeps for the next one: clearing a large map costs its size.
const keepMax = 512

func (g *group) reset() {
	g.position = g.index.position
	g.events = g.events[:0]
	g.stages = g.stages[:0]
	if cap(g.stages) > MaxGroupEntries {
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
	clear(g.ids)
	clear(g.byKey)
	clear(g.fresh)
	clear(g.totals)
	clear(g.marks)
}

// savepoint is the group before a batch.
type savepoint struct {
	position uint64
	events   int
}

func (g *group) begin() savepoint {
	g.batch++
	g.undoStages, g.undoTotals, g.undoMarks = g.undoStages[:0], g.undoTotals[:0], g.undoMarks[:0]
	return savepoint{g.position, len(g.events)}
}

// rollback takes back what was staged since begin.
func (g *group) rollback(s savepoint) {
	for _, u := range g.undoStages {
		st := &g.stages[u.stage]
		st.rollup, st.tally, st.reported, st.refs = u.rollup, u.tally, u.reported, st.refs[:u.refs]
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

// lookup finds who holds an identity; pending says that it is not durable yet.
func (g *group) lookup(identity [16]byte) (ordinal uint32, e *entry, pending bool) {
	if ordinal, ok := g.index.ids[identity]; ok {
		return ordinal, g.index.events.get(ordinal), false
	}
	if ordinal, ok := g.ids[identity]; ok {
		return ordinal, &g.events[int(ordinal)-g.index.events.count].entry, true
	}
	return 0, nil, false
}

// event stages a new event.
func (g *group) event(identity, digest [16]byte, position uint64, origin meter.Origin, at int64, resolutions []meter.Resolution) error {
	ordinal := uint32(g.index.events.count + len(g.events))
	for i := range resolutions {
		r := &resolutions[i]
		if err := g.fold(ordinal, store.SeriesKey{CustomerID: r.CustomerID, Meter: r.Meter}, origin, at, r.Value); err != nil {
			return err
		}
	}
	g.ids[identity] = ordinal
	g.events = append(g.events, staged{identity: identity, entry: entry{digest: digest, position: position}})
	return nil
}

func (g *group) fold(ordinal uint32, k store.SeriesKey, origin meter.Origin, at int64, value money.Decimal) error {
	s := g.series(k)
	c := s.customer
	if c == nil {
		c = g.index.customers[k.CustomerID]
	}
	i := g.stage(stageKey{s, c.start(at)})
	st := &g.stages[i]
	if st.batch != g.batch {
		st.batch = g.batch
		g.undoStages = append(g.undoStages, stageUndo{i, st.rollup, st.tally, st.reported, len(st.refs)})
	}
	var err error
	if st.rollup, err = st.rollup.Fold(origin, value); err != nil {
		return fmt.Errorf("customer %s, meter %s: %w", k.CustomerID, k.Meter, err)
	}
	if origin == meter.Reported {
		st.reported = true
		if st.tally, err = st.tally.Add(value); err != nil {
			return fmt.Errorf("customer %s, meter %s: %w", k.CustomerID, k.Meter, err)
		}
	}
	st.refs = append(st.refs, ordinal)
	return nil
}

// stage finds or makes a bucket's staged state.
func (g *group) stage(k stageKey) int {
	if i, ok := g.byKey[k]; ok {
		return i
	}
	i := len(g.stages)
	if cap(g.stages) > i {
		g.stages = g.stages[:i+1] // keeps the room of an earlier group's refs
	} else {
		g.stages = append(g.stages, stage{})
	}
	st := &g.stages[i]
	*st = stage{key: k, bucket: k.series.find(k.start), tally: k.series.tally(k.start), refs: st.refs[:0]}
	if st.bucket != nil {
		st.rollup = st.bucket.rollup
	}
	g.byKey[k] = i
	return i
}

// series finds a series in the index, or makes one that apply will add.
func (g *group) series(k store.SeriesKey) *series {
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

// total stages an admitted total and says whether it changed anything.
func (g *group) total(k totalKey, total money.Decimal) bool {
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

// mark stages flags of an event and says whether they changed anything.
func (g *group) mark(ordinal uint32, flags store.Flags) bool {
	staged := g.marks[ordinal]
	if flags&^(staged|g.index.marks[ordinal]) == 0 {
		return false
	}
	g.undoMarks = append(g.undoMarks, markUndo{ordinal, staged})
	g.marks[ordinal] = staged | flags
	return true
}
