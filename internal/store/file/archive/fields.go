package archive

import (
	"encoding/binary"
	"fmt"

	"github.com/tallystick/tallystick/internal/store/file/record"
)

// The fields of a record that this package knows by name; docs/formats/journal.md has them all.
const (
	headReceived   = 3
	headTime       = 4
	headID         = 6
	headType       = 7
	headDigest     = 8
	headResolution = 9
	headFirst      = 13
	headLast       = 14
	headCommitment = 20
	headErased     = 21

	payloadSubject = 1
	payloadData    = 2

	kindErasure = byte(record.KindErasure)
	wireBytes   = 1
)

// field is one field of a record: its key (tag and wire) and its value.
type field struct {
	key uint64
	num uint64
	buf []byte
}

func (f field) tag() uint64 { return f.key >> 1 }

// parsed is a record's body taken apart; its slices point into the body and are reused.
type parsed struct {
	kind          byte
	position      uint64
	head, payload []field
	payloadAt     int // offset of the payload section in the body
}

const headAt = 9 // behind kind and position

// parse takes a body apart without knowing its fields.
func (p *parsed) parse(body []byte) error {
	if len(body) < record.BodyMin {
		return fmt.Errorf("%w: too short", record.ErrMalformed)
	}
	p.kind, p.position = body[0], binary.LittleEndian.Uint64(body[1:])
	p.head, p.payload, p.payloadAt = p.head[:0], p.payload[:0], 0
	for at := headAt; at < len(body); {
		if body[at] == 0 && p.payloadAt == 0 {
			at++
			p.payloadAt = at
			continue
		}
		f, n := takeField(body[at:])
		if n == 0 {
			return fmt.Errorf("%w: bad field", record.ErrMalformed)
		}
		at += n
		if p.payloadAt == 0 {
			p.head = append(p.head, f)
		} else {
			p.payload = append(p.payload, f)
		}
	}
	if p.payloadAt == 0 {
		return fmt.Errorf("%w: the head has no end", record.ErrMalformed)
	}
	return nil
}

// takeField reads a field off the front; n is 0 when there is none.
func takeField(b []byte) (f field, n int) {
	key, k := binary.Uvarint(b)
	if k <= 0 {
		return f, 0
	}
	v, m := binary.Uvarint(b[k:])
	if m <= 0 {
		return f, 0
	}
	f.key, n = key, k+m
	if key&1 != wireBytes {
		f.num = v
		return f, n
	}
	if v > uint64(len(b)-n) {
		return f, 0
	}
	f.buf = b[n : n+int(v)]
	return f, n + int(v)
}

func appendField(dst []byte, f field) []byte {
	dst = binary.AppendUvarint(dst, f.key)
	if f.key&1 != wireBytes {
		return binary.AppendUvarint(dst, f.num)
	}
	dst = binary.AppendUvarint(dst, uint64(len(f.buf)))
	return append(dst, f.buf...)
}

// find is the first field with a tag; a zero field when there is none.
func find(fields []field, tag uint64) field {
	for _, f := range fields {
		if f.tag() == tag {
			return f
		}
	}
	return field{}
}

func zigzag(v int64) uint64   { return uint64(v)<<1 ^ uint64(v>>63) }
func unzigzag(v uint64) int64 { return int64(v>>1) ^ -int64(v&1) }

// resolution is a resolution taken apart: who and what, and all behind the value as it is.
type resolution struct {
	customer, meter, value, rest []byte
	version                      uint64
}

func splitResolution(b []byte) (r resolution, ok bool) {
	if r.customer, b, ok = takeSized(b); !ok {
		return r, false
	}
	if r.meter, b, ok = takeSized(b); !ok {
		return r, false
	}
	v, n := binary.Uvarint(b)
	if n <= 0 {
		return r, false
	}
	r.version = v
	r.value, r.rest, ok = takeSized(b[n:])
	return r, ok
}

func takeSized(b []byte) (v, rest []byte, ok bool) {
	size, n := binary.Uvarint(b)
	if n <= 0 || size > uint64(len(b)-n) {
		return nil, nil, false
	}
	return b[n : n+int(size)], b[n+int(size):], true
}

func (r resolution) append(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(r.customer)))
	dst = append(dst, r.customer...)
	dst = binary.AppendUvarint(dst, uint64(len(r.meter)))
	dst = append(dst, r.meter...)
	dst = binary.AppendUvarint(dst, r.version)
	dst = binary.AppendUvarint(dst, uint64(len(r.value)))
	dst = append(dst, r.value...)
	return append(dst, r.rest...)
}

// maxSlots bounds the values that a JSON document is taken apart into.
const maxSlots = 48

// splitJSON takes a canonical JSON document apart into a template with a zero byte for each value, and the values.
func splitJSON(doc, template []byte, slots [][]byte) ([]byte, [][]byte, bool) {
	template, slots = template[:0], slots[:0]
	for i := 0; i < len(doc); {
		switch c := doc[i]; c {
		case '{', '}', '[', ']', ',', ':':
			template = append(template, c)
			i++
		case '"':
			end := i + 1
			for end < len(doc) && doc[end] != '"' {
				if doc[end] == '\\' {
					end++
				}
				end++
			}
			if end >= len(doc) {
				return template, slots, false
			}
			if end+1 < len(doc) && doc[end+1] == ':' {
				template = append(template, doc[i:end+1]...)
			} else {
				template = append(template, '"', 0, '"')
				slots = append(slots, doc[i+1:end])
			}
			i = end + 1
		case 0:
			return template, slots, false
		default:
			end := i
			for end < len(doc) && !isPunctuation(doc[end]) {
				end++
			}
			template = append(template, 0)
			slots = append(slots, doc[i:end])
			i = end
		}
	}
	return template, slots, len(slots) <= maxSlots
}

func isPunctuation(c byte) bool {
	return c == '{' || c == '}' || c == '[' || c == ']' || c == ',' || c == ':' || c == '"' || c == 0
}
