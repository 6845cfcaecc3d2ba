// Package index is everything that is derived from the log: who holds an identity, what each event counts for, the rollups
// and tallies of every series, and what was done to events since. The leader of a commit is its only writer; it may read
// without a lock, everybody else reads under the journal's read lock, which it holds while it applies a group.
package index

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file/segment"
)

// Index is the whole of it.
type Index struct {
	ids       map[[16]byte]uint32 // identity → ordinal
	events    slab                // by ordinal, which is the order in the log
	series    map[store.SeriesKey]*series
	customers map[string]*customer
	marks     map[uint32]store.Flags // by ordinal
	revisions map[uint32][]Revision  // by ordinal, oldest first
	revised   uint64                 // position of the newest revision
	unmatched []uint32               // ordinals, ascending
	units     map[string][]uint32    // ordinals of the events of a backfill
	position  uint64                 // of the last record
	counts    Counts
	traits    map[string]*traits // interned
	late      lateSums
}

// Counts are figures for metrics.
type Counts struct{ Events, Series, Buckets, Cuts, Totals, Marks, Revisions, Unmatched int }

type customer struct {
	cuts   []int64 // sorted
	series []*series
}

type series struct {
	key      store.SeriesKey
	customer *customer                             // nil until it is in the index
	buckets  []*bucket                             // sorted by start
	tallies  []tally                               // sorted by start
	admitted map[int64]map[nodeEpoch]money.Decimal // by period start
}

// bucket is the rollup of a 15-minute span, or of a part of it between cuts.
type bucket struct {
	start  int64
	rollup meter.Rollup
	own    []contribution // what events brought themselves, by event
	later  []contribution // what revisions changed, by the revision
}

// contribution is what one record adds to a bucket, or takes from it.
type contribution struct {
	cause  uint64 // position of the record: the event's own, or its revision's
	event  uint64 // position
	time   int64
	value  money.Decimal
	traits *traits // nil: none
	origin meter.Origin
	taken  bool
}

func (c *contribution) signed() money.Decimal {
	if c.taken {
		return c.value.Neg()
	}
	return c.value
}

// reported says whether it counts for the tally of what did not come from a gateway's running total.
func (c *contribution) reported() bool {
	return !c.taken && (c.origin == meter.Reported || c.cause != c.event)
}

// traits are what usage can be grouped by; shared, as few differ.
type traits struct {
	dimensions []meter.Dimension
	distinct   string
}

// maxTraits bounds the traits that are shared.
const maxTraits = 1 << 16

// traitsOf shares equal traits. Only the leader calls it.
func (x *Index) traitsOf(r *meter.Resolution) *traits {
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
	t := &traits{distinct: strings.Clone(r.Distinct), dimensions: make([]meter.Dimension, len(r.Dimensions))}
	for i, d := range r.Dimensions {
		t.dimensions[i] = meter.Dimension{Name: strings.Clone(d.Name), Value: strings.Clone(d.Value)}
	}
	if len(x.traits) >= maxTraits {
		clear(x.traits)
	}
	x.traits[string(b)] = t
	return t
}

// tally is kept apart from rollups so that the two can be compared.
type tally struct {
	start            int64
	reported, voided money.Decimal
}

func (t *tally) add(c *contribution) (err error) {
	if c.taken {
		t.voided, err = t.voided.Add(c.value)
	} else if c.reported() {
		t.reported, err = t.reported.Add(c.value)
	}
	return err
}

type nodeEpoch struct {
	node  uint16
	epoch uint32
}

// Entry is an event's place in the log.
type Entry struct {
	Digest   [16]byte
	Position uint64
	At       segment.Location
}

// Revision is a revision's place in the log.
type Revision struct {
	Kind     store.RevisionKind
	Position uint64
	At       segment.Location
}

// slab is an append-only list that never copies what it holds.
type slab struct {
	chunks [][]Entry
	count  int
}

const slabChunk = 1 << 12

func (s *slab) add(e Entry) {
	if s.count%slabChunk == 0 {
		s.chunks = append(s.chunks, make([]Entry, 0, slabChunk))
	}
	last := len(s.chunks) - 1
	s.chunks[last] = append(s.chunks[last], e)
	s.count++
}

func (s *slab) get(ordinal uint32) *Entry { return &s.chunks[ordinal/slabChunk][ordinal%slabChunk] }

// after is the first ordinal whose position is above.
func (s *slab) after(position uint64) int {
	low, high := 0, s.count
	for low < high {
		mid := int(uint(low+high) / 2)
		if s.get(uint32(mid)).Position > position {
			high = mid
		} else {
			low = mid + 1
		}
	}
	return low
}

// New makes an empty index.
func New() *Index {
	return &Index{
		ids: map[[16]byte]uint32{}, series: map[store.SeriesKey]*series{}, customers: map[string]*customer{},
		marks: map[uint32]store.Flags{}, revisions: map[uint32][]Revision{}, units: map[string][]uint32{}, traits: map[string]*traits{},
	}
}

// Position is that of the last record.
func (x *Index) Position() uint64 { return x.position }

// Counts reads the figures.
func (x *Index) Counts() Counts {
	c := x.counts
	c.Events, c.Series, c.Marks, c.Revisions, c.Unmatched = x.events.count, len(x.series), len(x.marks), len(x.revisions), len(x.unmatched)
	return c
}

const bucketMicros = int64(period.BucketLength / time.Microsecond)

// gridStart is the 15-minute grid point at or before t, as period.BucketStart has it.
func gridStart(t int64) int64 {
	r := t % bucketMicros
	if r < 0 {
		r += bucketMicros
	}
	return t - r
}

// start is the start of the bucket that a customer's event at t belongs to: the latest cut or grid point at or before t.
func (c *customer) start(t int64) int64 {
	grid := gridStart(t)
	if c == nil || len(c.cuts) == 0 {
		return grid
	}
	i, found := slices.BinarySearch(c.cuts, t)
	if found {
		return t
	}
	if i > 0 && c.cuts[i-1] > grid {
		return c.cuts[i-1]
	}
	return grid
}

// end is the end of the bucket that starts there.
func (c *customer) end(start int64) int64 {
	end := gridStart(start) + bucketMicros
	if c != nil {
		i, found := slices.BinarySearch(c.cuts, start)
		if found {
			i++
		}
		if i < len(c.cuts) {
			end = min(end, c.cuts[i])
		}
	}
	return end
}

// boundary says whether buckets of the customer can be told apart at t.
func (c *customer) boundary(t int64) bool { return c.start(t) == t }

func (x *Index) makeCustomer(id string) *customer {
	c := x.customers[id]
	if c == nil {
		c = &customer{}
		x.customers[strings.Clone(id)] = c
	}
	return c
}

// newSeries makes a series that is not in the index yet. It owns its names.
func newSeries(k store.SeriesKey) *series {
	return &series{key: store.SeriesKey{CustomerID: strings.Clone(k.CustomerID), Meter: strings.Clone(k.Meter)}}
}

func (x *Index) addSeries(s *series) {
	s.customer = x.makeCustomer(s.key.CustomerID)
	s.customer.series = append(s.customer.series, s)
	x.series[s.key] = s
}

func (x *Index) makeSeries(k store.SeriesKey) *series {
	s := x.series[k]
	if s == nil {
		s = newSeries(k)
		x.addSeries(s)
	}
	return s
}

func byStart(b *bucket, start int64) int { return cmp.Compare(b.start, start) }

func (s *series) find(start int64) *bucket {
	if s == nil || len(s.buckets) == 0 {
		return nil
	}
	if last := s.buckets[len(s.buckets)-1]; last.start <= start {
		if last.start == start {
			return last
		}
		return nil
	}
	if i, ok := slices.BinarySearchFunc(s.buckets, start, byStart); ok {
		return s.buckets[i]
	}
	return nil
}

// put adds a bucket that is not there yet.
func (s *series) put(b *bucket) {
	i, _ := slices.BinarySearchFunc(s.buckets, b.start, byStart)
	s.buckets = slices.Insert(s.buckets, i, b)
}

// span is the part of the sorted buckets with from ≤ start < to.
func (s *series) span(from, to int64) []*bucket {
	if s == nil {
		return nil
	}
	i, _ := slices.BinarySearchFunc(s.buckets, from, byStart)
	j, _ := slices.BinarySearchFunc(s.buckets, to, byStart)
	return s.buckets[i:max(i, j)]
}

func tallyByStart(t tally, start int64) int { return cmp.Compare(t.start, start) }

func (s *series) tally(start int64) tally {
	if s != nil {
		if i, ok := slices.BinarySearchFunc(s.tallies, start, tallyByStart); ok {
			return s.tallies[i]
		}
	}
	return tally{start: start}
}

func (s *series) setTally(t tally) {
	i, ok := slices.BinarySearchFunc(s.tallies, t.start, tallyByStart)
	if !ok {
		s.tallies = slices.Insert(s.tallies, i, t)
	}
	s.tallies[i] = t
}

// admittedTotal is the highest total seen for a key.
func (x *Index) admittedTotal(k totalKey) money.Decimal {
	if s := x.series[k.SeriesKey]; s != nil {
		return s.admitted[k.period][k.nodeEpoch]
	}
	return money.Decimal{}
}
