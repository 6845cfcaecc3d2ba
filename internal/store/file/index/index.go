// Package index is everything that is derived from the log: who holds an identity, what each event counts for, the rollups
// and tallies of every series, and what was done to events since.
//
// What was appended since the last checkpoint is kept in memory, in a delta; the rest lies on disk, in the base. A checkpoint
// freezes the delta and begins a new one, writes the frozen one into the base while both overlay it, and drops it. Values in
// a delta are whole, not differences, and what the base holds behind its position is not looked at: so it does not matter to
// a reader whether the batch is there yet.
//
// The leader of a commit is the only writer; it may read without a lock, everybody else reads under the journal's read lock,
// which the leader's apply, a freeze and its end exclude.
package index

import (
	"slices"
	"sort"
	"strings"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file/base"
)

// Index is the whole of it.
type Index struct {
	base         *base.Store // nil: nothing was checkpointed yet
	based        uint64      // the position of the base
	position     uint64      // of the last record
	lastRevision uint64
	series       map[store.SeriesKey]*series
	numbers      []*series // by number
	customers    map[string]*customer
	spots        []base.Spot // ascending
	counts       Counts
	active       *delta
	frozen       *delta // nil: no checkpoint is at work
	traits       map[string]*base.Traits
	traitBytes   int
	meters       map[string]string // names, kept once
	made         room[series]
	late         lateSums
}

// Counts are figures for metrics.
type Counts struct{ Events, Series, Buckets, Cuts, Totals, Marks, Revised, Unmatched int }

// delta is what came since a position.
type delta struct {
	ids       map[base.Identity]base.Held
	touched   []*series // those with a layer in this delta
	marks     map[uint64]store.Flags
	revisions map[uint64][]base.Revision // all of an event's, oldest first
	since     []revised                  // by revision
	unmatched map[uint64]bool            // false: not any more
	units     []unitEvent
	totals    map[base.TotalKey]money.Decimal
	cuts      []cutAt
	fresh     []*series
	spots     []base.Spot
	size      int // contributions and events
	rooms     rooms
	position  uint64
	state     base.State // when frozen
	written   bool       // the base has taken it, though it may not be durable yet
	entries   []base.SeriesEntry
}

type revised struct{ revision, event uint64 }

type unitEvent struct {
	unit  string
	event uint64
}

type cutAt struct {
	customer string
	at       int64
}

// newDelta makes a delta that will hold about as many events as the last one.
func newDelta(events int) *delta {
	return &delta{
		ids: make(map[base.Identity]base.Held, min(events, expectMax)), marks: map[uint64]store.Flags{}, revisions: map[uint64][]base.Revision{},
		unmatched: map[uint64]bool{}, totals: map[base.TotalKey]money.Decimal{},
	}
}

// expectMax bounds the events that a delta makes room for before they come.
const expectMax = 1 << 20

// deltas are those that overlay the base, oldest first.
func (x *Index) deltas() []*delta {
	if x.frozen != nil {
		return []*delta{x.frozen, x.active}
	}
	return []*delta{x.active}
}

type customer struct {
	id     string
	cuts   meter.Cuts
	series []*series
	first  [fewMeters]named // of series: to find one without the map of all
}

// fewMeters are as many as most customers use.
const fewMeters = 6

type named struct {
	meter  string
	series *series
}

type series struct {
	number      uint32
	key         store.SeriesKey
	customer    *customer                             // nil until it is in the index
	admitted    map[int64]map[nodeEpoch]money.Decimal // by period start
	first, last int64                                 // bucket starts
	some        bool                                  // there are buckets
	stored      base.SeriesEntry                      // as the base has it
	hot         base.Part                             // the newest bucket as the base has it: most events go there
	isHot       bool                                  // else hot is not known
	active      *layer
	frozen      *layer
}

// layer is a series in a delta.
type layer struct {
	parts          []base.Part // sorted by start
	grids          []grid      // sorted by start
	last, lastGrid int64       // the newest starts
}

// grid is what contributed to a 15-minute span, whether it is cut or not.
type grid struct {
	start int64
	own   []base.Contribution // by event
	later []base.Contribution // by revision
}

type nodeEpoch struct {
	node  uint16
	epoch uint32
}

// maxTraits and maxTraitBytes bound the traits that are shared.
const maxTraits, maxTraitBytes = 1 << 16, 16 << 20

// traitsUnit is how many bytes of traits count for as much as an event when a checkpoint is due: the checkpoint writes them out
// with each contribution.
const traitsUnit = 256

// traitsOf shares equal traits. Only the leader calls it.
func (x *Index) traitsOf(r *meter.Resolution) *base.Traits {
	if len(r.Dimensions) == 0 && r.Distinct == "" {
		return nil
	}
	var room [256]byte
	b := append(room[:0], r.Distinct...)
	for _, d := range r.Dimensions {
		b = append(append(append(append(b, 0xff), d.Name...), 0xff), d.Value...) // no byte of a text
	}
	if t := x.traits[string(b)]; t != nil {
		return t
	}
	t := &base.Traits{Distinct: strings.Clone(r.Distinct), Dimensions: make([]meter.Dimension, len(r.Dimensions)), Bytes: len(b)}
	for i, d := range r.Dimensions {
		t.Dimensions[i] = meter.Dimension{Name: strings.Clone(d.Name), Value: strings.Clone(d.Value)}
	}
	if x.traitBytes += len(b); len(x.traits) >= maxTraits || x.traitBytes > maxTraitBytes {
		clear(x.traits)
		x.traitBytes = len(b)
	}
	x.traits[string(b)] = t
	return t
}

// New makes an empty index.
func New() *Index {
	return &Index{
		series: map[store.SeriesKey]*series{}, customers: map[string]*customer{}, traits: map[string]*base.Traits{}, active: newDelta(0),
		meters: map[string]string{},
	}
}

// Position is that of the last record.
func (x *Index) Position() uint64 { return x.position }

// Counts reads the figures.
func (x *Index) Counts() Counts {
	c := x.counts
	c.Series = len(x.series)
	return c
}

// Spot is where to look for a record: at or before it. false: at the start of its segment.
func (x *Index) Spot(position uint64) (base.Spot, bool) {
	i := sort.Search(len(x.spots), func(i int) bool { return x.spots[i].Position > position })
	if i == 0 {
		return base.Spot{}, false
	}
	return x.spots[i-1], true
}

func (c *customer) start(t int64) int64   { return c.split().Start(t) }
func (c *customer) end(start int64) int64 { return c.split().End(start) }

// boundary says whether buckets of the customer can be told apart at t.
func (c *customer) boundary(t int64) bool { return c.split().Boundary(t) }

// split is where the buckets of a customer are, who may be nil.
func (c *customer) split() meter.Cuts {
	if c == nil {
		return nil
	}
	return c.cuts
}

func (c *customer) addCut(at int64) bool {
	i, ok := slices.BinarySearch(c.cuts, at)
	if !ok {
		c.cuts = slices.Insert(c.cuts, i, at)
	}
	return !ok
}

func (x *Index) makeCustomer(id string) *customer {
	c := x.customers[id]
	if c == nil {
		c = &customer{id: strings.Clone(id)}
		x.customers[c.id] = c
	}
	return c
}

// newSeries makes a series that is not in the index yet. It owns its names. The customer may be nil.
func (x *Index) newSeries(k store.SeriesKey, of *customer) *series {
	s := x.made.one()
	if of != nil {
		s.key.CustomerID = of.id
	} else {
		s.key.CustomerID = strings.Clone(k.CustomerID)
	}
	name, ok := x.meters[k.Meter]
	if !ok {
		name = strings.Clone(k.Meter)
		x.meters[name] = name
	}
	s.key.Meter = name
	return s
}

// find finds a series and its customer; nil where there is none.
func (x *Index) find(k store.SeriesKey) (*customer, *series) {
	c := x.customers[k.CustomerID]
	if c == nil {
		return nil, nil
	}
	for i := range c.first {
		one := &c.first[i]
		if one.series == nil {
			return c, nil
		}
		if one.meter == k.Meter {
			return c, one.series
		}
	}
	return c, x.series[k]
}

// addSeries gives a series its number.
func (x *Index) addSeries(s *series) {
	s.number = uint32(len(x.numbers))
	c := x.makeCustomer(s.key.CustomerID)
	if n := len(c.series); n < fewMeters {
		c.first[n] = named{s.key.Meter, s}
	}
	s.customer = c
	c.series = append(c.series, s)
	x.series[s.key] = s
	x.numbers = append(x.numbers, s)
}

func (x *Index) makeSeries(k store.SeriesKey) *series {
	c, s := x.find(k)
	if s == nil {
		s = x.newSeries(k, c)
		x.addSeries(s)
		x.active.fresh = append(x.active.fresh, s)
	}
	return s
}

// admittedTotal is the highest total seen for a key.
func (x *Index) admittedTotal(k totalKey) money.Decimal {
	if s := x.series[k.SeriesKey]; s != nil {
		return s.admitted[k.period][k.nodeEpoch]
	}
	return money.Decimal{}
}

// setTotal says whether the key is new.
func (s *series) setTotal(period int64, of nodeEpoch, total money.Decimal) bool {
	if s.admitted == nil {
		s.admitted = map[int64]map[nodeEpoch]money.Decimal{}
	}
	all := s.admitted[period]
	if all == nil {
		all = map[nodeEpoch]money.Decimal{}
		s.admitted[period] = all
	}
	_, had := all[of]
	all[of] = total
	return !had
}
