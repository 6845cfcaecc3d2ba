package index

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file/base"
)

// MaxTotals bounds the admitted totals of all gateway epochs.
const MaxTotals = 4 << 20

// SpotBytes is how far apart the places in the log are that the index remembers.
const SpotBytes = 32 << 10

// Group is what one commit writes: staged beside the index, so that nothing of it is seen before it is durable, and an
// overflow is found before anything is written. It belongs to the leader.
type Group struct {
	index    *Index
	reader   *base.Reader // of the group at work
	position uint64
	events   []staged
	ids      map[base.Identity]int // where in events
	known    map[base.Identity]base.Held
	complete bool // known holds all of the group's identities that the base has
	revised  []revision
	states   map[uint64]*State // what is staged of revised events
	stages   []stage
	brought  []brought // by cause
	byKey    map[stageKey]int
	fresh    map[store.SeriesKey]*series // not in the index yet
	totals   map[totalKey]money.Decimal
	marks    map[uint64]store.Flags // all of an event's
	newly    int                    // events that had no mark before
	spots    []base.Spot
	peaks    [7]int // how large the maps were

	// What the batch at work has changed, for its undoing.
	batch      int
	undoStages []stageUndo
	undoTotals []totalUndo
	undoMarks  []markUndo
}

// staged is a new event.
type staged struct {
	identity  base.Identity
	digest    [16]byte
	position  uint64
	unmatched bool
	unit      string
}

// revision is a new revision.
type revision struct {
	event          uint64
	unmatched, was bool            // whether it counts for nothing afterwards, and before
	all            []base.Revision // of the event, this one last
}

type stageKey struct {
	series *series
	start  int64
}

// stage is a bucket's state after the group.
type stage struct {
	key     stageKey
	part    base.Part
	brought int  // contributions
	batch   int  // that touched it last
	fresh   bool // nothing has contributed to it before
}

// brought is a contribution to a stage.
type brought struct {
	base.Contribution
	stage int
}

type totalKey struct {
	store.SeriesKey
	period int64
	nodeEpoch
}

type stageUndo struct {
	stage   int
	part    base.Part
	brought int
}

type totalUndo struct {
	key totalKey
	was money.Decimal
	had bool
}

type markUndo struct {
	event uint64
	was   store.Flags
	had   bool
	newly int
}

// NewGroup makes the group of an index.
func NewGroup(x *Index) *Group {
	g := &Group{index: x}
	g.Reset()
	return g
}

// keepMax bounds what a group keeps for a next one that is much smaller: clearing a large map costs its size.
const keepMax, keepStages, muchSmaller = 512, 8192, 16

func fresh[K comparable, V any](m *map[K]V, peak *int) {
	if *m == nil || *peak > keepMax && len(*m) < *peak/muchSmaller {
		*m, *peak = map[K]V{}, 0
	}
	*peak = max(*peak, len(*m))
	clear(*m)
}

// Reset makes the group empty, behind the index. Call Close when its work is done.
func (g *Group) Reset() {
	g.position = g.index.position
	g.events, g.revised, g.spots = g.events[:0], g.revised[:0], g.spots[:0]
	clear(g.brought)
	g.stages, g.brought, g.newly, g.complete = g.stages[:0], g.brought[:0], 0, false
	if cap(g.stages) > 2*keepStages {
		g.stages = nil
	}
	if cap(g.brought) > 2*keepStages {
		g.brought = nil
	}
	fresh(&g.ids, &g.peaks[0])
	fresh(&g.known, &g.peaks[1])
	fresh(&g.states, &g.peaks[2])
	fresh(&g.byKey, &g.peaks[3])
	fresh(&g.fresh, &g.peaks[4])
	fresh(&g.totals, &g.peaks[5])
	fresh(&g.marks, &g.peaks[6])
}

// Close ends the reading that the group has done.
func (g *Group) Close() error {
	if g.reader == nil {
		return nil
	}
	r := g.reader
	g.reader = nil
	return r.Close()
}

func (g *Group) read() *base.Reader {
	if g.reader == nil {
		g.reader = g.index.reader()
	}
	return g.reader
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

// Spot remembers where a record lies, if no other place near it is known.
func (g *Group) Spot(s base.Spot) {
	last := base.Spot{}
	if n := len(g.spots); n > 0 {
		last = g.spots[n-1]
	} else if n := len(g.index.spots); n > 0 {
		last = g.index.spots[n-1]
	}
	if s.Segment != last.Segment || s.Offset >= last.Offset+SpotBytes {
		g.spots = append(g.spots, s)
	}
}

// Savepoint is the group before a batch.
type Savepoint struct {
	position                uint64
	events, stages, brought int
}

// Begin starts a batch.
func (g *Group) Begin() Savepoint {
	g.batch++
	g.undoStages, g.undoTotals, g.undoMarks = g.undoStages[:0], g.undoTotals[:0], g.undoMarks[:0]
	return Savepoint{g.position, len(g.events), len(g.stages), len(g.brought)}
}

// Rollback takes back what was staged since Begin.
func (g *Group) Rollback(s Savepoint) {
	for _, u := range g.undoStages {
		st := &g.stages[u.stage]
		st.part, st.brought = u.part, u.brought
	}
	for i := range g.stages[s.stages:] {
		delete(g.byKey, g.stages[s.stages+i].key)
	}
	g.stages = g.stages[:s.stages]
	for _, u := range slices.Backward(g.undoTotals) {
		if u.had {
			g.totals[u.key] = u.was
		} else {
			delete(g.totals, u.key)
		}
	}
	for _, u := range slices.Backward(g.undoMarks) {
		if g.marks[u.event] = u.was; !u.had {
			delete(g.marks, u.event)
		}
		g.newly = u.newly
	}
	for _, e := range g.events[s.events:] {
		delete(g.ids, e.identity)
	}
	g.events, g.brought = g.events[:s.events], g.brought[:s.brought]
	g.position = s.position
}

// LookAll looks up all identities that the group will ask for, in memory and, together, in the base: Lookup reads neither then.
func (g *Group) LookAll(ids []base.Identity) error {
	absent := ids[:0]
	for i := range ids {
		if h, ok := g.index.held(&ids[i]); ok {
			g.known[ids[i]] = h
		} else {
			absent = append(absent, ids[i])
		}
	}
	err := g.look(absent)
	g.complete = err == nil
	return err
}

// Look looks identities up that are not in memory; Lookup finds them then. Together this is quicker than one by one.
func (g *Group) Look(ids []base.Identity) error {
	absent := ids[:0]
	for i := range ids {
		if _, ok := g.index.held(&ids[i]); !ok {
			absent = append(absent, ids[i])
		}
	}
	return g.look(absent)
}

func (g *Group) look(absent []base.Identity) error {
	if g.index.base == nil {
		return nil
	}
	slices.SortFunc(absent, func(a, b base.Identity) int { return compare(&a, &b) })
	return g.read().Known(absent, g.index.based, func(i int, h base.Held) { g.known[absent[i]] = h })
}

// compare orders identities as the base does.
func compare(a, b *base.Identity) int {
	if c := cmp.Compare(binary.BigEndian.Uint64(a[:8]), binary.BigEndian.Uint64(b[:8])); c != 0 {
		return c
	}
	return cmp.Compare(binary.BigEndian.Uint64(a[8:]), binary.BigEndian.Uint64(b[8:]))
}

// Holder is the event that holds an identity.
type Holder struct {
	base.Held
	Pending bool // it is not durable yet
}

// Recent finds who holds an identity among those in memory.
func (g *Group) Recent(id base.Identity) (position uint64, ok bool) {
	if i, ok := g.ids[id]; ok {
		return g.events[i].position, true
	}
	h, ok := g.index.held(&id)
	return h.Position, ok
}

// Lookup finds who holds an identity.
func (g *Group) Lookup(id base.Identity) (h Holder, ok bool, err error) {
	if i, ok := g.ids[id]; ok {
		e := &g.events[i]
		return Holder{base.Held{Position: e.position, Fingerprint: base.Fingerprint(e.digest)}, true}, true, nil
	}
	if h.Held, ok = g.known[id]; ok || g.complete {
		return h, ok, nil
	}
	if h.Held, ok = g.index.held(&id); ok || g.index.base == nil {
		return h, ok, nil
	}
	if err := g.Look([]base.Identity{id}); err != nil {
		return h, false, err
	}
	h.Held, ok = g.known[id]
	return h, ok, nil
}

// Digest is that of a staged event.
func (g *Group) Digest(position uint64) (digest [16]byte, ok bool) {
	i, ok := slices.BinarySearchFunc(g.events, position, func(e staged, p uint64) int { return int(int64(e.position - p)) })
	if !ok {
		return digest, false
	}
	return g.events[i].digest, true
}

// Event stages a new event that nobody holds the identity of, at the group's position. money.ErrOverflow.
func (g *Group) Event(identity base.Identity, digest [16]byte, e *store.Entry) error {
	c := base.Contribution{Cause: g.position, Event: g.position, Time: e.Event.Time.UnixMicro(), Origin: e.Origin}
	for i := range e.Resolutions {
		if err := g.contribute(&e.Resolutions[i], c); err != nil {
			return err
		}
	}
	g.ids[identity] = len(g.events)
	g.events = append(g.events, staged{
		identity: identity, digest: digest, position: g.position, unit: e.Unit,
		unmatched: len(e.Resolutions) == 0 && !e.Flags.Uncounted(),
	})
	return nil
}

func (g *Group) contribute(r *meter.Resolution, c base.Contribution) error {
	of, s := g.series(store.SeriesKey{CustomerID: r.CustomerID, Meter: r.Meter})
	i, err := g.stage(stageKey{s, of.start(c.Time)})
	if err != nil {
		return err
	}
	st := &g.stages[i]
	if st.batch != g.batch {
		st.batch = g.batch
		g.undoStages = append(g.undoStages, stageUndo{i, st.part, st.brought})
	}
	c.Value, c.Traits = r.Value, g.index.traitsOf(r)
	if err := fold(&st.part, &c); err != nil {
		return fmt.Errorf("customer %s, meter %s: %w", r.CustomerID, r.Meter, err)
	}
	st.brought++
	g.brought = append(g.brought, brought{c, i})
	return nil
}

// fold adds a contribution to a bucket.
func fold(p *base.Part, c *base.Contribution) (err error) {
	switch {
	case c.Taken:
		if p.Rollup, err = p.Rollup.Unfold(c.Origin, c.Value); err == nil {
			p.Voided, err = p.Voided.Add(c.Value)
		}
	default:
		if p.Rollup, err = p.Rollup.Fold(c.Origin, c.Value); err == nil && c.Reported() {
			p.Reported, err = p.Reported.Add(c.Value)
		}
	}
	p.Last = max(p.Last, c.Cause)
	p.Revised = p.Revised || c.Cause != c.Event
	return err
}

// stage finds or makes a bucket's staged state.
func (g *Group) stage(k stageKey) (int, error) {
	if i, ok := g.byKey[k]; ok {
		return i, nil
	}
	part, err := g.index.part(g.read(), k.series, k.start)
	if err != nil {
		return 0, err
	}
	i := len(g.stages)
	g.stages = append(g.stages, stage{key: k, part: part, fresh: part.Last == 0, batch: g.batch}) // undone by its removal
	g.byKey[k] = i
	return i, nil
}

// series finds a series and its customer in the index, or makes a series that apply will add. A customer that is not there
// is nil.
func (g *Group) series(k store.SeriesKey) (*customer, *series) {
	of, s := g.index.find(k)
	if s == nil {
		s = g.fresh[k]
	}
	if s == nil {
		s = g.index.newSeries(k, of)
		g.fresh[s.key] = s
	}
	return of, s
}

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
func (g *Group) Mark(event uint64, flags store.Flags) (bool, error) {
	staged, had := g.marks[event]
	now := staged
	if !had {
		var err error
		if now, err = g.index.flags(g.read(), event); err != nil {
			return false, err
		}
	}
	if flags&^now == 0 {
		return false, nil
	}
	g.undoMarks = append(g.undoMarks, markUndo{event, staged, had, g.newly})
	if now == 0 {
		g.newly++
	}
	g.marks[event] = now | flags
	return true, nil
}
