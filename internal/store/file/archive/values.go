package archive

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strconv"
)

// column is a place for values of one sort in a block.
type column uint32

// The columns. Fields have a column each, by section and tag; a JSON template has one for each of its values.
const (
	colShape      column = 0 // kind and keys of a record
	colFrames     column = 1 // where frames begin
	colHead       column = 0x100
	colPayload    column = 0x200
	colCustomer   column = 0x300 // of a resolution, with those that follow
	colMeter      column = 0x301
	colVersion    column = 0x302
	colValue      column = 0x303
	colDimensions column = 0x304
	colTemplate   column = 0x400 // of an event's data
	colSlots      column = 0x1000

	slotBits   = 6 // maxSlots fit
	fieldsMax  = 0x100
	columnsMax = 1 << 16
)

func slotColumn(template, slot int) column { return colSlots + column(template<<slotBits|slot) }

// part is one of the streams of a column.
type part uint8

const (
	partCode   part = iota // how each value is written, or the low byte of its place in the table
	partHigh               // the high byte, in columns with a large table
	partSize               // lengths of literals
	partText               // literals
	partBits               // 16 bytes each
	partNumber             // uvarints
	partCount
)

type streamKey uint32

func keyOf(c column, p part) streamKey { return streamKey(uint32(c)<<3 | uint32(p)) }

// How a value is written: as it is, as 16 bytes in two spellings, as a number, or by its place in the column's table.
const (
	codeLiteral = iota
	codeUUID
	codeHex
	codeNumber
	codeTable
)

// smallTable fits into one byte behind the other codes.
const smallTable = 256 - codeTable

var errBlock = errors.New("a block does not decode")

// uuidOf packs a UUID in its usual spelling.
func uuidOf(b []byte) (u [16]byte, ok bool) {
	if len(b) != 36 || b[8] != '-' || b[13] != '-' || b[18] != '-' || b[23] != '-' {
		return u, false
	}
	var room [32]byte
	copy(room[:8], b[:8])
	copy(room[8:12], b[9:13])
	copy(room[12:16], b[14:18])
	copy(room[16:20], b[19:23])
	copy(room[20:], b[24:])
	return hexOf(room[:])
}

// hexOf packs 32 lower-case hexadecimal digits.
func hexOf(b []byte) (u [16]byte, ok bool) {
	if len(b) != 32 {
		return u, false
	}
	for _, c := range b {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return u, false
		}
	}
	_, err := hex.Decode(u[:], b)
	return u, err == nil
}

// numberOf packs a whole number in its only decimal spelling.
func numberOf(b []byte) (v uint64, ok bool) {
	if len(b) == 0 || len(b) > 18 || b[0] == '0' && len(b) > 1 {
		return 0, false
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		v = v*10 + uint64(c-'0')
	}
	return v, true
}

func appendUUID(dst, u []byte) []byte {
	for i, n := range []int{4, 2, 2, 2, 6} {
		if i > 0 {
			dst = append(dst, '-')
		}
		dst = hex.AppendEncode(dst, u[:n])
		u = u[n:]
	}
	return dst
}

// streams holds the streams of a block that is being written.
type streams struct {
	dict *dictionary
	data map[streamKey]*[]byte
	last map[column]uint64 // numbers are written as differences
}

func newStreams(d *dictionary) *streams {
	return &streams{dict: d, data: map[streamKey]*[]byte{}, last: map[column]uint64{}}
}

func (s *streams) at(c column, p part) *[]byte {
	k := keyOf(c, p)
	b := s.data[k]
	if b == nil {
		b = new([]byte)
		s.data[k] = b
	}
	return b
}

func (s *streams) reset() {
	for _, b := range s.data {
		*b = (*b)[:0]
	}
	clear(s.last)
}

// number writes the difference to the column's last number.
func (s *streams) number(c column, v uint64) {
	b := s.at(c, partNumber)
	*b = binary.AppendUvarint(*b, zigzag(int64(v-s.last[c])))
	s.last[c] = v
}

func (s *streams) code(c column, code int) {
	b := s.at(c, partCode)
	*b = append(*b, byte(code))
	if s.dict.large(c) {
		b = s.at(c, partHigh)
		*b = append(*b, byte(code>>8))
	}
}

// value writes bytes in the shortest of the ways above.
func (s *streams) value(c column, v []byte) {
	if place, ok := s.dict.place(c, v); ok {
		s.code(c, codeTable+place)
		return
	}
	if u, ok := uuidOf(v); ok {
		s.code(c, codeUUID)
		s.bits(c, u[:])
	} else if u, ok := hexOf(v); ok {
		s.code(c, codeHex)
		s.bits(c, u[:])
	} else if n, ok := numberOf(v); ok {
		s.code(c, codeNumber)
		b := s.at(c, partNumber)
		*b = binary.AppendUvarint(*b, n)
	} else {
		s.code(c, codeLiteral)
		b := s.at(c, partSize)
		*b = binary.AppendUvarint(*b, uint64(len(v)))
		b = s.at(c, partText)
		*b = append(*b, v...)
	}
}

func (s *streams) bits(c column, v []byte) {
	b := s.at(c, partBits)
	*b = append(*b, v...)
}

// source holds the streams of a block that is being read. The first fault sticks.
type source struct {
	dict *dictionary
	data map[streamKey]*[]byte
	last map[column]uint64
	room []byte
	err  error
}

func (s *source) fail() {
	if s.err == nil {
		s.err = errBlock
	}
}

func (s *source) take(c column, p part, n int) []byte {
	b := s.data[keyOf(c, p)]
	if b == nil || n > len(*b) || n < 0 {
		s.fail()
		return nil
	}
	v := (*b)[:n:n]
	*b = (*b)[n:]
	return v
}

func (s *source) uvarint(c column, p part) uint64 {
	b := s.data[keyOf(c, p)]
	if b == nil {
		s.fail()
		return 0
	}
	v, n := binary.Uvarint(*b)
	if n <= 0 {
		s.fail()
		return 0
	}
	*b = (*b)[n:]
	return v
}

func (s *source) number(c column) uint64 {
	v := s.last[c] + uint64(unzigzag(s.uvarint(c, partNumber)))
	s.last[c] = v
	return v
}

func (s *source) code(c column) int {
	low := s.take(c, partCode, 1)
	if s.err != nil {
		return 0
	}
	code := int(low[0])
	if s.dict.large(c) {
		if high := s.take(c, partHigh, 1); s.err == nil {
			code |= int(high[0]) << 8
		}
	}
	return code
}

// value is good until room is given back.
func (s *source) value(c column) []byte {
	code := s.code(c)
	if s.err != nil {
		return nil
	}
	start := len(s.room)
	switch code {
	case codeLiteral:
		n := s.uvarint(c, partSize)
		if n > blockMax {
			s.fail()
			return nil
		}
		return s.take(c, partText, int(n))
	case codeUUID:
		if u := s.take(c, partBits, 16); u != nil {
			s.room = appendUUID(s.room, u)
		}
	case codeHex:
		s.room = hex.AppendEncode(s.room, s.take(c, partBits, 16))
	case codeNumber:
		s.room = strconv.AppendUint(s.room, s.uvarint(c, partNumber), 10)
	default:
		v, ok := s.dict.at(c, code-codeTable)
		if !ok {
			s.fail()
		}
		return v
	}
	return s.room[start:len(s.room):len(s.room)]
}
