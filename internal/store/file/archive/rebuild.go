package archive

import (
	"encoding/binary"

	"github.com/tallystick/tallystick/internal/store/file/record"
)

// appendRecord reads the next record of a block out of its columns.
func appendRecord(out []byte, s *source, p *parsed, position uint64) []byte {
	s.room = s.room[:0]
	shape := s.value(colShape)
	if len(shape) == 0 {
		s.fail()
		return out
	}
	p.kind, p.head, p.payload = shape[0], p.head[:0], p.payload[:0]
	shape = shape[1:]
	digest := -1
	payload := false
	for len(shape) > 0 && s.err == nil {
		key, n := binary.Uvarint(shape)
		if n <= 0 || key>>1 >= fieldsMax {
			s.fail()
			break
		}
		shape = shape[n:]
		switch {
		case key == 0 && !payload:
			payload = true
		case payload:
			p.payload = append(p.payload, s.payloadField(key))
		default:
			f, computed := s.headField(key)
			if computed {
				digest = len(p.head)
			}
			p.head = append(p.head, f)
		}
	}
	if !payload {
		s.fail()
	}
	if s.err != nil {
		return out
	}
	if digest >= 0 {
		d := digestOf(p)
		p.head[digest].buf = d[:]
	}
	return p.append(out, position)
}

func (s *source) headField(key uint64) (f field, computed bool) {
	f.key = key
	switch c := colHead + column(f.tag()); {
	case key&1 != wireBytes:
		f.num = s.number(c)
	case f.tag() == headDigest:
		if s.code(c) == 1 {
			return f, true
		}
		if n := s.number(c); n <= 64 {
			f.buf = s.take(c, partBits, int(n))
		} else {
			s.fail()
		}
	case f.tag() == headResolution:
		r := resolution{customer: s.value(colCustomer), meter: s.value(colMeter)}
		r.version = s.number(colVersion)
		r.value = s.value(colValue)
		r.rest = s.value(colDimensions)
		start := len(s.room)
		s.room = r.append(s.room)
		f.buf = s.room[start:len(s.room):len(s.room)]
	default:
		f.buf = s.value(c)
	}
	return f, false
}

func (s *source) payloadField(key uint64) field {
	f := field{key: key}
	switch c := colPayload + column(f.tag()); {
	case key&1 != wireBytes:
		f.num = s.number(c)
	case f.tag() == payloadData:
		f.buf = s.document(c)
	default:
		f.buf = s.value(c)
	}
	return f
}

func (s *source) document(c column) []byte {
	place := s.code(colTemplate)
	if place == 0 {
		return s.value(c)
	}
	template, ok := s.dict.at(colTemplate, place-1)
	if !ok {
		s.fail()
		return nil
	}
	var doc []byte
	slot := 0
	for _, b := range template {
		if b != 0 {
			doc = append(doc, b)
			continue
		}
		doc = append(doc, s.value(slotColumn(place-1, slot))...)
		slot++
	}
	return doc
}

// append writes a parsed record, checksum included.
func (p *parsed) append(dst []byte, position uint64) []byte {
	start := len(dst)
	dst = append(dst, 0, 0, 0, 0, 0, 0, 0, 0, p.kind)
	dst = binary.LittleEndian.AppendUint64(dst, position)
	for _, f := range p.head {
		dst = appendField(dst, f)
	}
	dst = append(dst, 0)
	for _, f := range p.payload {
		dst = appendField(dst, f)
	}
	binary.LittleEndian.PutUint32(dst[start:], uint32(len(dst)-start-record.HeaderSize))
	record.Seal(dst[start:], position)
	return dst
}

// appendBody writes a record around a body.
func appendBody(dst, body []byte) []byte {
	start := len(dst)
	dst = append(dst, 0, 0, 0, 0, 0, 0, 0, 0)
	dst = append(dst, body...)
	binary.LittleEndian.PutUint32(dst[start:], uint32(len(body)))
	record.Seal(dst[start:], binary.LittleEndian.Uint64(body[1:]))
	return dst
}
