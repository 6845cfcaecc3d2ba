package file

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file/segment"
)

// index is everything derived from the log. The leader of a commit is its only writer and holds the journal's write lock
// while it applies; it may read without a lock, everybody else reads under the read lock.
type index struct {
	ids       map[[16]byte]uint32 // identity → ordinal
	events    slab                // by ordinal, which is the order in the log
	series    map[store.SeriesKey]*series
	customers map[string]*customer
	marks     map[uint32]store.Flags // by ordinal
	position  uint64                 // of the last record
	counts    counts
}

type counts struct{ buckets, cuts, totals int }

type customer struct {
	cuts   []int64 // sorted
	series []*series
}

type series struct {
	key      store.SeriesKey
	customer *customer                             // nil until it is in the index
	buckets  []*bucket                             // sorted by start
	reported []tally                               // sorted by start
	admitted map[int64]map[nodeEpoch]money.Decimal // by period start
}

// bucket is the rollup of a 15-minute span, or of a part of it between cuts.
type bucket struct {
	start  int64
	rollup meter.Rollup
	refs   []uint32 // ordinals of its events, ascending
}

// tally is what ingest accepted, kept apart from rollups so that the two can be compared.
type tally struct {
	start int64
	sum   money.Decimal
}

type nodeEpoch struct {
	node  uint16
	epoch uint32
}

// entry is an event's place in the log.
type entry struct {
	digest   [16]byte
	position uint64
	at       segment.Location
}

// slab is an append-only list that never copies what it holds.
type slab struct {
	chunks [][]entry
	count  int
}

const slabChunk = 1 << 12

func (s *slab) add(e entry) {
	if s.count%slabChunk == 0 {
		s.chunks = append(s.chunks, make([]entry, 0, slabChunk))
	}
	last := len(s.chunks) - 1
	s.chunks[last] = append(s.chunks[last], e)
	s.count++
}

func (s *slab) get(ordinal uint32) *entry { return &s.chunks[ordinal/slabChunk][ordinal%slabChunk] }

// after is the first ordinal whose position is above.
func (s *slab) after(position uint64) int {
	low, high := 0, s.count
	for low < high {
		mid := int(uint(low+high) / 2)
		if s.get(uint32(mid)).position > position {
			high = mid
		} else {
			low = mid + 1
		}
	}
	return low
}

func newIndex() *index {
	return &index{
		ids: map[[16]byte]uint32{}, series: map[store.SeriesKey]*series{}, customers: map[string]*customer{},
		marks: map[uint32]store.Flags{},
	}
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

func (x *index) makeCustomer(id string) *customer {
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

func (x *index) addSeries(s *series) {
	s.customer = x.makeCustomer(s.key.CustomerID)
	s.customer.series = append(s.customer.series, s)
	x.series[s.key] = s
}

func (x *index) makeSeries(k store.SeriesKey) *series {
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

func (s *series) tally(start int64) money.Decimal {
	if s != nil {
		if i, ok := slices.BinarySearchFunc(s.reported, start, tallyByStart); ok {
			return s.reported[i].sum
		}
	}
	return money.Decimal{}
}

func (s *series) setTally(start int64, sum money.Decimal) {
	i, ok := slices.BinarySearchFunc(s.reported, start, tallyByStart)
	if !ok {
		s.reported = slices.Insert(s.reported, i, tally{start: start})
	}
	s.reported[i].sum = sum
}

// admittedTotal is the highest total seen for a key.
func (x *index) admittedTotal(k totalKey) money.Decimal {
	if s := x.series[k.SeriesKey]; s != nil {
		return s.admitted[k.period][k.nodeEpoch]
	}
	return money.Decimal{}
}

// apply makes a group part of the index; the group's records are durable.
func (x *index) apply(g *group) {
	for i := range g.stages {
		st := &g.stages[i]
		if len(st.refs) == 0 {
			continue
		}
		s, b := st.key.series, st.bucket
		if s.customer == nil {
			x.addSeries(s)
		}
		if b == nil {
			b = &bucket{start: st.key.start}
			s.put(b)
			x.counts.buckets++
		}
		b.rollup = st.rollup
		b.refs = append(b.refs, st.refs...)
		if st.reported {
			s.setTally(st.key.start, st.tally)
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
			x.counts.totals++
		}
		of[k.nodeEpoch] = total
	}
	for i := range g.events {
		e := &g.events[i]
		x.ids[e.identity] = uint32(x.events.count)
		x.events.add(e.entry)
	}
	for ordinal, flags := range g.marks {
		x.marks[ordinal] |= flags
	}
	x.position = g.position
}

// split is one bucket taken apart at a cut.
type split struct {
	series      *series
	bucket      *bucket
	left, right *bucket
	leftTally   money.Decimal
	rightTally  money.Decimal
	tallied     bool
}

// part says how one stored event counts in a series.
type part struct {
	time   int64
	origin meter.Origin
	value  money.Decimal
}

// splits computes how a cut takes a customer's buckets apart; read fetches an event of the log.
func (x *index) splits(customerID string, at int64, read func(ordinal uint32, k store.SeriesKey) (part, error)) ([]split, error) {
	c := x.customers[customerID]
	if c == nil {
		return nil, nil
	}
	start := c.start(at)
	var all []split
	for _, s := range c.series {
		b := s.find(start)
		if b == nil {
			continue
		}
		sp := split{series: s, bucket: b, left: &bucket{start: start}, right: &bucket{start: at}}
		for _, ref := range b.refs {
			p, err := read(ref, s.key)
			if err != nil {
				return nil, err
			}
			if err := sp.fold(ref, p, at); err != nil {
				return nil, err
			}
		}
		if !sp.addsUp() {
			return nil, fmt.Errorf("the events of meter %s at %s do not add up to their rollup: %w", s.key.Meter,
				period.Format(time.UnixMicro(start)), store.ErrCorrupt)
		}
		all = append(all, sp)
	}
	return all, nil
}

// addsUp says whether the parts make the bucket and the tally that they replace.
func (sp *split) addsUp() bool {
	sum, err := sp.left.rollup.Merge(sp.right.rollup)
	if err != nil || sum.Sum.Cmp(sp.bucket.rollup.Sum) != 0 || sum.Count != sp.bucket.rollup.Count {
		return false
	}
	tallied, err := sp.leftTally.Add(sp.rightTally)
	return err == nil && tallied.Cmp(sp.series.tally(sp.bucket.start)) == 0
}

func (sp *split) fold(ref uint32, p part, at int64) (err error) {
	side, tallied := sp.left, &sp.leftTally
	if p.time >= at {
		side, tallied = sp.right, &sp.rightTally
	}
	side.refs = append(side.refs, ref)
	if p.origin == meter.Reported {
		sp.tallied = true
		if *tallied, err = tallied.Add(p.value); err != nil {
			return err
		}
	}
	side.rollup, err = side.rollup.Fold(p.origin, p.value)
	return err
}

// cut adds a cut and replaces the buckets that it splits.
func (x *index) cut(customerID string, at int64, splits []split, position uint64) {
	c := x.makeCustomer(customerID)
	if i, ok := slices.BinarySearch(c.cuts, at); !ok {
		c.cuts = slices.Insert(c.cuts, i, at)
		x.counts.cuts++
	}
	for _, sp := range splits {
		i, _ := slices.BinarySearchFunc(sp.series.buckets, sp.bucket.start, byStart)
		var parts []*bucket
		for _, b := range []*bucket{sp.left, sp.right} {
			if len(b.refs) > 0 {
				parts = append(parts, b)
			}
		}
		sp.series.buckets = slices.Replace(sp.series.buckets, i, i+1, parts...)
		x.counts.buckets += len(parts) - 1
		if sp.tallied {
			sp.series.setTally(sp.left.start, sp.leftTally)
			sp.series.setTally(sp.right.start, sp.rightTally)
		}
	}
	x.position = position
}
