package archive

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/klauspost/compress/zstd"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/store/file/record"
	"github.com/tallystick/tallystick/internal/store/file/segment"
)

// A block holds about blockTarget raw bytes; a larger record makes a larger block.
const (
	blockTarget = 128 << 10
	blockMax    = blockTarget + record.BodyMax + 1<<10
)

// How a block is stored.
const (
	modePlain   = iota + 1 // the raw bytes, compressed
	modeColumns            // taken apart
)

// How a stream is stored.
const (
	methodRaw = iota
	methodZstd
	methodSame // one byte again and again
)

// frameLead is a frame's magic as a number: no record is that long.
const frameLead = 0xff4a54f5

// appendShape writes a record's kind and the keys of its fields.
func (p *parsed) appendShape(dst []byte) []byte {
	dst = append(dst, p.kind)
	for _, f := range p.head {
		dst = binary.AppendUvarint(dst, f.key)
	}
	dst = append(dst, 0)
	for _, f := range p.payload {
		dst = binary.AppendUvarint(dst, f.key)
	}
	return dst
}

// layout finds the records in the raw bytes of a block: their offsets, in order. Frame headers stand between them.
func layout(raw []byte, offsets []int) ([]int, error) {
	for at := 0; at < len(raw); {
		if len(raw)-at < segment.FrameHeader {
			return nil, errBlock
		}
		size := binary.LittleEndian.Uint32(raw[at:])
		if size == frameLead {
			at += segment.FrameHeader
			continue
		}
		if size < record.BodyMin || uint64(size) > uint64(len(raw)-at-record.HeaderSize) {
			return nil, errBlock
		}
		offsets = append(offsets, at)
		at += record.HeaderSize + int(size)
	}
	return offsets, nil
}

// packer turns raw blocks into stored ones. Not for concurrent use.
type packer struct {
	dict     *dictionary
	streams  *streams
	zstd     *zstd.Encoder
	unpacker *unpacker
	p        parsed
	room     []byte
	template []byte
	slots    [][]byte
	sizes    map[streamKey]int // bytes stored of each stream, for figures
}

func newPacker(d *dictionary) (*packer, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false), zstd.WithEncoderLevel(zstd.SpeedDefault))
	if err != nil {
		return nil, fmt.Errorf("make a compressor: %w", err)
	}
	un, err := newUnpacker()
	if err != nil {
		return nil, err
	}
	return &packer{dict: d, streams: newStreams(d), zstd: enc, unpacker: un, sizes: map[streamKey]int{}}, nil
}

// pack stores a block of raw bytes whose first record has the position. What would not come back exactly is stored plain.
func (k *packer) pack(raw []byte, first uint64) []byte {
	if b, ok := k.columns(raw, first); ok {
		if back, err := k.unpacker.unpack(b, k.dict, first, len(raw)); err == nil && bytes.Equal(back, raw) {
			return b
		}
	}
	return k.zstd.EncodeAll(raw, []byte{modePlain})
}

// columns takes a block apart.
func (k *packer) columns(raw []byte, first uint64) ([]byte, bool) {
	s := k.streams
	s.reset()
	next := first
	since, frames := uint64(0), s.at(colFrames, partNumber)
	for at := 0; at < len(raw); {
		if binary.LittleEndian.Uint32(raw[at:]) == frameLead {
			*frames = binary.AppendUvarint(*frames, since+1)
			since = 0
			size := int(binary.LittleEndian.Uint32(raw[at+4:]))
			if size > len(raw)-at-segment.FrameHeader { // it goes on in the next block
				s.bits(colFrames, raw[at+4:at+segment.FrameHeader])
			}
			at += segment.FrameHeader
			continue
		}
		size := int(binary.LittleEndian.Uint32(raw[at:]))
		body := raw[at+record.HeaderSize:][:size]
		if err := k.p.parse(body); err != nil || k.p.position != next {
			return nil, false
		}
		if !k.record() {
			return nil, false
		}
		next++
		since++
		at += record.HeaderSize + size
	}
	*frames = append(*frames, 0)
	return k.store(int(next - first)), true
}

// record writes the fields of the record in k.p into their columns.
func (k *packer) record() bool {
	s := k.streams
	k.room = k.p.appendShape(k.room[:0])
	s.value(colShape, k.room)
	for _, f := range k.p.head {
		if f.tag() >= fieldsMax {
			return false
		}
		switch c := colHead + column(f.tag()); {
		case f.key&1 != wireBytes:
			s.number(c, f.num)
		case f.tag() == headDigest:
			k.digest(c, f.buf)
		case f.tag() == headResolution:
			r, ok := splitResolution(f.buf)
			if !ok {
				return false
			}
			s.value(colCustomer, r.customer)
			s.value(colMeter, r.meter)
			s.number(colVersion, r.version)
			s.value(colValue, r.value)
			s.value(colDimensions, r.rest)
		default:
			s.value(c, f.buf)
		}
	}
	for _, f := range k.p.payload {
		if f.tag() >= fieldsMax {
			return false
		}
		switch c := colPayload + column(f.tag()); {
		case f.key&1 != wireBytes:
			s.number(c, f.num)
		case f.tag() == payloadData:
			k.document(c, f.buf)
		default:
			s.value(c, f.buf)
		}
	}
	return true
}

// digest leaves an event's digest out when its content gives it.
func (k *packer) digest(c column, d []byte) {
	if computed := digestOf(&k.p); bytes.Equal(d, computed[:]) {
		k.streams.code(c, 1)
		return
	}
	k.streams.code(c, 0)
	k.streams.number(c, uint64(len(d)))
	k.streams.bits(c, d)
}

func digestOf(p *parsed) [16]byte {
	return meter.Event{
		Type: string(find(p.head, headType).buf), Subject: string(find(p.payload, payloadSubject).buf), Data: find(p.payload, payloadData).buf,
	}.Digest()
}

func (k *packer) document(c column, doc []byte) {
	var ok bool
	if k.template, k.slots, ok = splitJSON(doc, k.template, k.slots); ok {
		if place, known := k.dict.place(colTemplate, k.template); known {
			k.streams.code(colTemplate, place+1)
			for i, v := range k.slots {
				k.streams.value(slotColumn(place, i), v)
			}
			return
		}
	}
	k.streams.code(colTemplate, 0)
	k.streams.value(c, doc)
}

// store writes the streams: their number, what each is, then their bytes.
func (k *packer) store(records int) []byte {
	var keys []streamKey
	for key, b := range k.streams.data {
		if len(*b) > 0 {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	out := binary.AppendUvarint([]byte{modeColumns}, uint64(records))
	out = binary.AppendUvarint(out, uint64(len(keys)))
	var all []byte
	for _, key := range keys {
		raw := *k.streams.data[key]
		start, method := len(all), methodRaw
		if same(raw) {
			all, method = append(all, raw[0]), methodSame
		} else if all = k.zstd.EncodeAll(transposed(key, raw), all); len(all)-start < len(raw) {
			method = methodZstd
		} else {
			all = append(all[:start], raw...)
		}
		before := len(out)
		out = binary.AppendUvarint(out, uint64(key))
		out = append(out, byte(method))
		out = binary.AppendUvarint(out, uint64(len(raw)))
		out = binary.AppendUvarint(out, uint64(len(all)-start))
		k.sizes[key] += len(out) - before + len(all) - start
	}
	return append(out, all...)
}

func same(b []byte) bool {
	for _, c := range b {
		if c != b[0] {
			return false
		}
	}
	return true
}

// transposed puts the first bytes of all 16-byte values together, then the second ones, and so on: what ids share, such as
// the time at their front, then compresses.
func transposed(key streamKey, b []byte) []byte {
	if part(key&7) != partBits || len(b)%16 != 0 {
		return b
	}
	n := len(b) / 16
	t := make([]byte, len(b))
	for i := range n {
		for j := range 16 {
			t[j*n+i] = b[i*16+j]
		}
	}
	return t
}

func untransposed(key streamKey, b []byte) []byte {
	if part(key&7) != partBits || len(b)%16 != 0 {
		return b
	}
	n := len(b) / 16
	t := make([]byte, len(b))
	for i := range n {
		for j := range 16 {
			t[i*16+j] = b[j*n+i]
		}
	}
	return t
}

// unpacker turns stored blocks back into raw ones. Not for concurrent use.
type unpacker struct {
	zstd *zstd.Decoder
}

func newUnpacker() (*unpacker, error) {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(2*blockMax))
	if err != nil {
		return nil, fmt.Errorf("make a decompressor: %w", err)
	}
	return &unpacker{zstd: dec}, nil
}

// unpack gives a block's raw bytes; they are the caller's.
func (u *unpacker) unpack(b []byte, d *dictionary, first uint64, size int) ([]byte, error) {
	if len(b) == 0 || size > blockMax {
		return nil, errBlock
	}
	switch b[0] {
	case modePlain:
		raw, err := u.zstd.DecodeAll(b[1:], make([]byte, 0, size))
		if err != nil || len(raw) != size {
			return nil, errBlock
		}
		return raw, nil
	case modeColumns:
		return u.columns(b[1:], d, first, size)
	}
	return nil, errBlock
}

// streams reads what store wrote.
func (u *unpacker) streams(b []byte, d *dictionary, size int) (*source, int, error) {
	s := &source{dict: d, data: map[streamKey]*[]byte{}, last: map[column]uint64{}}
	next := func() uint64 {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			s.fail()
			return 0
		}
		b = b[n:]
		return v
	}
	records, n := next(), next()
	if records > uint64(size) || n > uint64(len(b)) {
		return nil, 0, errBlock
	}
	type entry struct {
		key         streamKey
		method      byte
		raw, stored uint64
	}
	entries := make([]entry, 0, n)
	total := uint64(0)
	for range n {
		e := entry{key: streamKey(next())}
		if len(b) == 0 {
			return nil, 0, errBlock
		}
		e.method = b[0]
		b = b[1:]
		e.raw, e.stored = next(), next()
		if total += e.raw; s.err != nil || e.raw > 2*blockMax || total > 4*blockMax {
			return nil, 0, errBlock
		}
		entries = append(entries, e)
	}
	for _, e := range entries {
		if e.stored > uint64(len(b)) {
			return nil, 0, errBlock
		}
		raw, err := u.stream(b[:e.stored], e.method, int(e.raw))
		if err != nil {
			return nil, 0, err
		}
		b = b[e.stored:]
		if e.method == methodZstd {
			raw = untransposed(e.key, raw)
		}
		s.data[e.key] = &raw
	}
	if len(b) > 0 {
		return nil, 0, errBlock
	}
	return s, int(records), nil
}

func (u *unpacker) stream(b []byte, method byte, size int) ([]byte, error) {
	switch {
	case method == methodRaw && len(b) == size:
		return b, nil
	case method == methodSame && len(b) == 1:
		return bytes.Repeat(b, size), nil
	case method == methodZstd:
		raw, err := u.zstd.DecodeAll(b, make([]byte, 0, size))
		if err == nil && len(raw) == size {
			return raw, nil
		}
	}
	return nil, errBlock
}

// columns puts a block together again.
func (u *unpacker) columns(b []byte, d *dictionary, first uint64, size int) ([]byte, error) {
	s, records, err := u.streams(b, d, size)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, size)
	var p parsed
	frame := -1 // where the open frame began
	gap := s.uvarint(colFrames, partNumber)
	for i := 0; i <= records; i++ {
		if gap == 1 {
			if frame >= 0 {
				segment.EndFrame(out[frame:])
			}
			frame = len(out)
			out = append(out, make([]byte, segment.FrameHeader)...)
			if gap = s.uvarint(colFrames, partNumber); gap == 1 { // an empty frame is none that was written
				s.fail()
			}
		}
		if gap > 1 {
			gap--
		}
		if i == records || s.err != nil {
			break
		}
		if out = appendRecord(out, s, &p, first+uint64(i)); len(out) > size {
			return nil, errBlock
		}
	}
	if frame >= 0 {
		segment.EndFrame(out[frame:])
		if open := s.data[keyOf(colFrames, partBits)]; open != nil && len(*open) == segment.FrameHeader-4 {
			copy(out[frame+4:], s.take(colFrames, partBits, segment.FrameHeader-4))
		}
	}
	for _, rest := range s.data {
		if len(*rest) > 0 {
			s.fail()
		}
	}
	if s.err != nil || len(out) != size {
		return nil, errBlock
	}
	return out, nil
}
