package journal

import (
	"context"
	"fmt"
	"maps"

	"github.com/jackc/pgx/v5"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/store"
)

type identity [16]byte

// held is the event that has an identity.
type held struct {
	position uint64
	digest   [16]byte
	marks    store.Flags
}

// series is one, perhaps not stored yet.
type series struct {
	key store.SeriesKey
	id  int32 // 0: new
}

type bucketKey struct {
	series *series
	start  int64
}

// part is the state of a bucket.
type part struct {
	rollup        meter.Rollup
	tally, voided money.Decimal
	last          uint64
}

// contribution is what one record adds to a series, or takes from it.
type contribution struct {
	series       *series
	bucket, at   int64
	cause, event uint64
	origin       meter.Origin
	taken        bool
	value        money.Decimal
	traits       []byte
}

// fold adds a contribution to its bucket. money.ErrOverflow.
func (p *part) fold(c *contribution) (err error) {
	if c.taken {
		if p.rollup, err = p.rollup.Unfold(c.origin, c.value); err == nil {
			p.voided, err = p.voided.Add(c.value)
		}
	} else {
		p.rollup, err = p.rollup.Fold(c.origin, c.value)
		if err == nil && (c.origin == meter.Reported || c.cause != c.event) {
			p.tally, err = p.tally.Add(c.value)
		}
	}
	p.last = max(p.last, c.cause)
	return err
}

type totalKey struct {
	store.SeriesKey
	period int64
	node   uint16
	epoch  uint32
}

// event is a new one.
type event struct {
	identity     identity
	position     uint64
	digest       [16]byte
	at, received int64
	unmatched    bool
	unit         string
	body         []byte
}

// other is any other record.
type other struct {
	position, target uint64 // target: of a revision, the event's position; else 0
	body             []byte
}

// revised is what a revision makes of an event's row.
type revised struct {
	position  uint64
	unmatched bool
}

// staged is what a call, or all calls of a group so far, have changed.
type staged struct {
	ids           map[identity]held
	parts         map[bucketKey]part
	totals        map[totalKey]money.Decimal
	revisions     map[identity]revised
	marked        map[identity]bool
	events        []event
	others        []other
	contributions []contribution
}

func newStaged() staged {
	return staged{
		ids: map[identity]held{}, parts: map[bucketKey]part{}, totals: map[totalKey]money.Decimal{}, revisions: map[identity]revised{}, marked: map[identity]bool{},
	}
}

// group is a transaction at work: what was loaded, what its calls have staged, and what the call at work stages.
type group struct {
	tx             pgx.Tx
	from, position uint64
	before         uint64 // the call at work
	cuts           map[string]meter.Cuts
	newCut         *cutRow  // at most one: a cut is a group of its own
	erasure        *erasure // the same
	series         map[store.SeriesKey]*series
	loaded         staged
	all, now       staged
	bodies         map[uint64][]byte // see written
	blind          bool              // identities of entries were not looked up
	met            bool              // an entry was there already
}

func newGroup(tx pgx.Tx) *group {
	return &group{tx: tx, cuts: map[string]meter.Cuts{}, series: map[store.SeriesKey]*series{}, loaded: newStaged(), all: newStaged(), now: newStaged()}
}

// room makes place for what the group will stage: to grow by and by took a tenth of the time under the head.
func (g *group) room(n *needs) {
	g.all.ids = make(map[identity]held, len(n.entries))
	g.all.events = make([]event, 0, len(n.entries))
	g.all.contributions = make([]contribution, 0, len(n.reads))
}

// begin starts a call.
func (g *group) begin() {
	g.before = g.position
	clear(g.now.ids)
	clear(g.now.parts)
	clear(g.now.totals)
	clear(g.now.revisions)
	clear(g.now.marked)
	g.now.events, g.now.others, g.now.contributions = g.now.events[:0], g.now.others[:0], g.now.contributions[:0]
}

// drop forgets what the call at work has staged.
func (g *group) drop() { g.position = g.before }

// keep makes what the call staged part of the group.
func (g *group) keep() {
	maps.Copy(g.all.ids, g.now.ids)
	maps.Copy(g.all.parts, g.now.parts)
	maps.Copy(g.all.totals, g.now.totals)
	maps.Copy(g.all.revisions, g.now.revisions)
	maps.Copy(g.all.marked, g.now.marked)
	g.all.events = append(g.all.events, g.now.events...)
	g.all.others = append(g.all.others, g.now.others...)
	g.all.contributions = append(g.all.contributions, g.now.contributions...)
}

func (g *group) next() uint64 {
	g.position++
	return g.position
}

func find[K comparable, V any](k K, in ...map[K]V) (v V, ok bool) {
	for _, m := range in {
		if v, ok = m[k]; ok {
			return v, true
		}
	}
	return v, false
}

func (g *group) held(id identity) (held, bool) { return find(id, g.now.ids, g.all.ids, g.loaded.ids) }

func (g *group) seriesOf(k store.SeriesKey) *series {
	s := g.series[k]
	if s == nil {
		s = &series{key: k}
		g.series[k] = s
	}
	return s
}

// part is a bucket's state with all that is staged.
func (g *group) part(ctx context.Context, k bucketKey) (part, error) {
	if p, ok := find(k, g.now.parts, g.all.parts, g.loaded.parts); ok || k.series.id == 0 {
		return p, nil
	}
	if err := g.loadParts(ctx, []bucketKey{k}); err != nil {
		return part{}, faulty(err)
	}
	return g.loaded.parts[k], nil
}

// contribute stages what a record adds to a series, or takes. c has the resolution's traits.
func (g *group) contribute(ctx context.Context, r *meter.Resolution, c contribution) error {
	c.series = g.seriesOf(store.SeriesKey{CustomerID: r.CustomerID, Meter: r.Meter})
	c.bucket, c.value = g.cuts[r.CustomerID].Start(c.at), r.Value
	k := bucketKey{c.series, c.bucket}
	p, err := g.part(ctx, k)
	if err != nil {
		return err
	}
	if err := p.fold(&c); err != nil {
		return fmt.Errorf("meter %s: %w", r.Meter, err)
	}
	g.now.parts[k] = p
	g.now.contributions = append(g.now.contributions, c)
	return nil
}
