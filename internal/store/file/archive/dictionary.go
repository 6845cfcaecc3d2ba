package archive

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
)

// Bounds of a segment's tables.
const (
	tableMax     = 1<<16 - codeTable // places in a column's table
	templatesMax = 64                // JSON templates whose values have columns
	dictMax      = 16 << 20          // bytes of all tables together

	countMax      = 1 << 19  // values counted while a segment is read for the first time
	countBytesMax = 32 << 20 // and their bytes
	valueMax      = 256      // a longer value is not counted, templates and shapes excepted
)

// dictionary has a table for each column whose values repeat in the segment.
type dictionary struct {
	tables map[column][][]byte
	places map[column]map[string]int // for writing only
}

func (d *dictionary) large(c column) bool { return len(d.tables[c]) > smallTable }

func (d *dictionary) place(c column, v []byte) (int, bool) {
	i, ok := d.places[c][string(v)]
	return i, ok
}

func (d *dictionary) at(c column, place int) ([]byte, bool) {
	t := d.tables[c]
	if place < 0 || place >= len(t) {
		return nil, false
	}
	return t[place], true
}

// encode writes the tables; each value behind what it shares with the one before.
func (d *dictionary) encode() []byte {
	dst := binary.AppendUvarint(nil, uint64(len(d.tables)))
	for _, c := range slices.Sorted(maps.Keys(d.tables)) {
		t := d.tables[c]
		dst = binary.AppendUvarint(dst, uint64(c))
		dst = binary.AppendUvarint(dst, uint64(len(t)))
		var before []byte
		for _, v := range t {
			shared := 0
			for shared < min(len(v), len(before)) && v[shared] == before[shared] {
				shared++
			}
			dst = binary.AppendUvarint(dst, uint64(shared))
			dst = binary.AppendUvarint(dst, uint64(len(v)-shared))
			dst = append(dst, v[shared:]...)
			before = v
		}
	}
	return dst
}

// parseDictionary reverses append.
func parseDictionary(b []byte) (*dictionary, error) {
	d := &dictionary{tables: map[column][][]byte{}}
	bad := fmt.Errorf("%w: its tables", errBlock)
	next := func() uint64 {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			b = nil
			return 0
		}
		b = b[n:]
		return v
	}
	room := 0
	for range min(next(), columnsMax) {
		c, n := next(), next()
		if c > columnsMax || n > tableMax || n > uint64(len(b)) {
			return nil, bad
		}
		t := make([][]byte, 0, n)
		var before []byte
		for range n {
			shared, size := next(), next()
			if shared > uint64(len(before)) || size > uint64(len(b)) {
				return nil, bad
			}
			if room += int(shared + size); room > 2*dictMax {
				return nil, bad
			}
			before = append(slices.Clone(before[:shared]), b[:size]...)
			t = append(t, before)
			b = b[size:]
		}
		d.tables[column(c)] = t
	}
	if len(b) > 0 {
		return nil, bad
	}
	return d, nil
}

// counter counts the values of a segment to find those that are worth a place in a table.
type counter struct {
	counts    map[column]map[string]int
	templates map[string]int // numbered as they come
	values    int
	bytes     int
	p         parsed
	template  []byte
	slots     [][]byte
	shape     []byte
}

func newCounter() *counter {
	return &counter{counts: map[column]map[string]int{}, templates: map[string]int{}}
}

func (k *counter) count(c column, v []byte) {
	of := k.counts[c]
	if of == nil {
		of = map[string]int{}
		k.counts[c] = of
	}
	if n, ok := of[string(v)]; ok {
		of[string(v)] = n + 1
		return
	}
	if len(v) > valueMax && c != colTemplate || k.values >= countMax || k.bytes+len(v) > countBytesMax || len(of) > 2*tableMax {
		return
	}
	if packs(v) {
		return
	}
	of[string(v)] = 1
	k.values++
	k.bytes += len(v)
}

// packs says that a value is short without a table.
func packs(v []byte) bool {
	_, uuid := uuidOf(v)
	_, hexed := hexOf(v)
	_, number := numberOf(v)
	return uuid || hexed || number
}

// record counts the values of one record.
func (k *counter) record(body []byte) {
	if k.p.parse(body) != nil {
		return
	}
	k.shape = k.p.appendShape(k.shape[:0])
	k.count(colShape, k.shape)
	for _, f := range k.p.head {
		switch {
		case f.key&1 != wireBytes || f.tag() >= fieldsMax || f.tag() == headDigest || f.tag() == headCommitment:
		case f.tag() == headResolution:
			if r, ok := splitResolution(f.buf); ok {
				k.count(colCustomer, r.customer)
				k.count(colMeter, r.meter)
				k.count(colValue, r.value)
				k.count(colDimensions, r.rest)
			}
		default:
			k.count(colHead+column(f.tag()), f.buf)
		}
	}
	for _, f := range k.p.payload {
		switch {
		case f.key&1 != wireBytes || f.tag() >= fieldsMax:
		case f.tag() == payloadData:
			k.document(f.buf)
		default:
			k.count(colPayload+column(f.tag()), f.buf)
		}
	}
}

const templatesCounted = 512

func (k *counter) document(doc []byte) {
	var ok bool
	if k.template, k.slots, ok = splitJSON(doc, k.template, k.slots); !ok || len(k.template) > 4*valueMax {
		return
	}
	n, known := k.templates[string(k.template)]
	if !known {
		if n = len(k.templates); n >= templatesCounted {
			return
		}
		k.templates[string(k.template)] = n
	}
	k.count(colTemplate, k.template)
	for i, v := range k.slots {
		k.count(slotColumn(n, i), v)
	}
}

// dictionary keeps what occurs more than once.
func (k *counter) dictionary() *dictionary {
	d := &dictionary{tables: map[column][][]byte{}, places: map[column]map[string]int{}}
	room := 0
	templates := k.often(colTemplate, templatesMax, &room)
	d.add(colTemplate, templates)
	moved := map[int]int{} // number as counted → place in the table
	for place, t := range templates {
		moved[k.templates[string(t)]] = place
	}
	for _, c := range slices.Sorted(maps.Keys(k.counts)) {
		as := c
		if c >= colSlots {
			n := int(c - colSlots)
			place, ok := moved[n>>slotBits]
			if !ok {
				continue
			}
			as = slotColumn(place, n&(1<<slotBits-1))
		}
		if c != colTemplate {
			d.add(as, k.often(c, tableMax, &room))
		}
	}
	return d
}

func (d *dictionary) add(c column, values [][]byte) {
	if len(values) == 0 {
		return
	}
	slices.SortFunc(values, bytes.Compare)
	places := make(map[string]int, len(values))
	for i, v := range values {
		places[string(v)] = i
	}
	d.tables[c], d.places[c] = values, places
}

// often lists the values that repeat, at most n, those that occur most.
func (k *counter) often(c column, n int, room *int) [][]byte {
	of := k.counts[c]
	var all []string
	for v, times := range of {
		if times > 1 {
			all = append(all, v)
		}
	}
	slices.SortFunc(all, func(a, b string) int {
		if by := cmp.Compare(of[b], of[a]); by != 0 {
			return by
		}
		return cmp.Compare(a, b)
	})
	var values [][]byte
	for _, v := range all[:min(n, len(all))] {
		if *room += len(v); *room > dictMax {
			break
		}
		values = append(values, []byte(v))
	}
	return values
}
