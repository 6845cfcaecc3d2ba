package base

import (
	"encoding/binary"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/store"
)

// State is what the base says of itself.
type State struct {
	Position uint64 // of the last record that is in the base
	// The record at Position: what ties the base to its log.
	Checksum uint32
	Events, Buckets, Marks,
	Revised, Unmatched int
	LastRevision uint64
}

// SeriesEntry is a series and the span of its buckets.
type SeriesEntry struct {
	Number      uint32
	Key         store.SeriesKey
	First, Last int64 // bucket starts
	Some        bool  // there are buckets
}

// TotalKey names an admitted total.
type TotalKey struct {
	Series uint32
	Period int64 // start, UTC microseconds since 1970
	Node   uint16
	Epoch  uint32
}

// Spot is where a record lies in the log.
type Spot struct {
	Position uint64
	Segment  uint32
	Offset   int64
}

// Batch is a checkpoint at work. Its keys should be put in their order: letter by letter.
type Batch struct {
	s   *Store
	b   *pebble.Batch
	key []byte
	val []byte
	err error
}

// Batch begins a checkpoint of about so many bytes.
func (s *Store) Batch(size int) *Batch { return &Batch{s: s, b: s.db.NewBatchWithSize(size)} }

func (b *Batch) set(key, value []byte) {
	if b.err == nil {
		b.err = b.b.Set(key, value, nil)
	}
	b.key, b.val = key[:0], value[:0]
}

func (b *Batch) delete(key []byte) {
	if b.err == nil {
		b.err = b.b.Delete(key, nil)
	}
	b.key = key[:0]
}

// Unit puts an event into its backfill's list.
func (b *Batch) Unit(unit string, event uint64) {
	b.set(binary.BigEndian.AppendUint64(unitPrefix(unit), event), b.val)
}

// Cut of a customer.
func (b *Batch) Cut(customerID string, at int64) {
	b.set(append(instantKey(append(b.key, keyCut), at), customerID...), b.val)
}

// Identity puts who holds one.
func (b *Batch) Identity(id *Identity, h Held) {
	b.set(identityKey(b.key, id), binary.AppendUvarint(binary.BigEndian.AppendUint64(b.val, h.Fingerprint), h.Position))
}

// Later puts what a revision changed.
func (b *Batch) Later(series uint32, grid int64, c *Contribution) {
	b.set(laterKey(b.key, series, grid, c), appendContribution(b.val, grid, c))
}

// Mark puts all flags that marks have added to an event.
func (b *Batch) Mark(event uint64, flags store.Flags) {
	b.set(binary.BigEndian.AppendUint64(append(b.key, keyMark), event), binary.AppendUvarint(b.val, uint64(flags)))
}

// Own puts what an event brought itself.
func (b *Batch) Own(series uint32, grid int64, c *Contribution) {
	b.set(ownKey(b.key, series, grid, c.Event), appendContribution(b.val, grid, c))
}

// Spot puts where a record lies.
func (b *Batch) Spot(s Spot) {
	b.set(binary.BigEndian.AppendUint64(append(b.key, keySpot), s.Position),
		binary.AppendUvarint(binary.AppendUvarint(b.val, uint64(s.Segment)), uint64(s.Offset)))
}

// Day puts a series' buckets of one day, sorted; those that are gone are left out.
func (b *Batch) Day(series uint32, parts []Part) {
	day := dayOf(parts[0].Start)
	value := b.val
	for i := range parts {
		if !parts[i].Gone {
			value = appendPart(value, day, &parts[i])
		}
	}
	if len(value) == 0 {
		b.delete(dayKey(b.key, series, day))
		return
	}
	b.set(dayKey(b.key, series, day), value)
}

// SameDay says whether two buckets lie in one row.
func SameDay(a, b int64) bool { return dayOf(a) == dayOf(b) }

// DaySpan is the day that holds an instant, as an interval of bucket starts.
func DaySpan(t int64) (from, to int64) {
	from = dayOf(t)
	return from, from + dayMicros
}

// Series puts a series.
func (b *Batch) Series(e *SeriesEntry) {
	some := uint64(0)
	if e.Some {
		some = 1
	}
	v := appendInt(appendInt(binary.AppendUvarint(b.val, some), e.First), e.Last)
	b.set(seriesKey(b.key, keySeries, e.Number), appendText(appendText(v, e.Key.CustomerID), e.Key.Meter))
}

// Total puts an admitted total.
func (b *Batch) Total(k TotalKey, total money.Decimal) {
	key := instantKey(seriesKey(b.key, keyTotal, k.Series), k.Period)
	key = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(key, k.Node), k.Epoch)
	b.set(key, appendDecimal(b.val, total))
}

// Unmatched puts an event into the list of those that count for nothing, or takes it out.
func (b *Batch) Unmatched(event uint64, in bool) {
	key := binary.BigEndian.AppendUint64(append(b.key, keyUnmatched), event)
	if in {
		b.set(key, b.val)
		return
	}
	b.delete(key)
}

// Revisions puts all revisions of an event.
func (b *Batch) Revisions(event uint64, all []Revision) {
	v := b.val
	for _, r := range all {
		v = binary.AppendUvarint(append(v, byte(r.Kind)), r.Position)
	}
	b.set(binary.BigEndian.AppendUint64(append(b.key, keyRevisions), event), v)
}

// RevisionAt puts which event a revision is of.
func (b *Batch) RevisionAt(revision, event uint64) {
	b.set(binary.BigEndian.AppendUint64(append(b.key, keyRevisionAt), revision), binary.AppendUvarint(b.val, event))
}

// Commit writes all of it with the state, or nothing. It is durable when Store.Wait says so.
func (b *Batch) Commit(s State) error {
	v := binary.AppendUvarint(append(b.val, Version), s.Position)
	v = binary.AppendUvarint(v, uint64(s.Checksum))
	for _, n := range []int{s.Events, s.Buckets, s.Marks, s.Revised, s.Unmatched} {
		v = binary.AppendUvarint(v, uint64(n))
	}
	b.set([]byte{keyState}, binary.AppendUvarint(v, s.LastRevision))
	if b.err == nil {
		b.err = b.b.Commit(pebble.NoSync)
	}
	if err := b.b.Close(); b.err == nil {
		b.err = err
	}
	if b.err == nil {
		b.s.flushed, b.err = b.s.db.AsyncFlush()
	}
	if b.err != nil {
		return fmt.Errorf("write index %s: %w", b.s.dir, b.err)
	}
	return nil
}
