// Package tuples writes rows in the binary form of COPY: fields one behind another, each with its length before it. pgx does the
// same for any Go value, at several times the cost.
package tuples

import (
	"encoding/binary"
	"io"
	"math"
)

// Stream is what COPY reads: N rows, made as they are read. Row appends one to b.
type Stream struct {
	N   int
	Row func(b []byte, i int) ([]byte, error)

	next  int
	buf   []byte
	at    int
	ended bool
}

const chunk = 64 << 10

// Read implements io.Reader.
func (s *Stream) Read(p []byte) (int, error) {
	if s.at == len(s.buf) {
		if s.ended {
			return 0, io.EOF
		}
		if err := s.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.buf[s.at:])
	s.at += n
	return n, nil
}

func (s *Stream) fill() (err error) {
	s.buf, s.at = s.buf[:0], 0
	if s.next == 0 {
		s.buf = append(s.buf, "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00"...) // no flags, no extension
	}
	for ; s.next < s.N && len(s.buf) < chunk; s.next++ {
		if s.buf, err = s.Row(s.buf, s.next); err != nil {
			return err
		}
	}
	if s.next == s.N {
		s.buf, s.ended = binary.BigEndian.AppendUint16(s.buf, math.MaxUint16), true
	}
	return nil
}

// Fields begins a row of n fields.
func Fields(b []byte, n uint16) []byte { return binary.BigEndian.AppendUint16(b, n) }

func size(b []byte, n int) []byte { return binary.BigEndian.AppendUint32(b, uint32(n)) } //nolint:gosec // a row is below 2 GiB

// Null appends a field without a value.
func Null(b []byte) []byte { return append(b, 0xff, 0xff, 0xff, 0xff) }

// Bytes appends a bytea, a text or a uuid; nil is none.
func Bytes(b, v []byte) []byte {
	if v == nil {
		return Null(b)
	}
	return append(size(b, len(v)), v...)
}

// Int8 appends a bigint.
func Int8[N int64 | uint64](b []byte, v N) []byte {
	return binary.BigEndian.AppendUint64(size(b, 8), uint64(v))
}

// Int4 appends an integer.
func Int4(b []byte, v int32) []byte { return binary.BigEndian.AppendUint32(size(b, 4), uint32(v)) } //nolint:gosec // the same bits

// Int2 appends a smallint.
func Int2(b []byte, v int16) []byte { return binary.BigEndian.AppendUint16(size(b, 2), uint16(v)) } //nolint:gosec // the same bits

// Bool appends a boolean.
func Bool(b []byte, v bool) []byte {
	if v {
		return append(b, 0, 0, 0, 1, 1)
	}
	return append(b, 0, 0, 0, 1, 0)
}

// Sized appends a field of which value appends the bytes.
func Sized(b []byte, value func(b []byte) ([]byte, error)) ([]byte, error) {
	start := len(b)
	b, err := value(size(b, 0))
	if err == nil {
		binary.BigEndian.PutUint32(b[start:], uint32(len(b)-start-4)) //nolint:gosec // as size
	}
	return b, err
}

// Array appends n elements of a type, at least one, each by element.
func Array(b []byte, oid uint32, n int, element func(b []byte, i int) ([]byte, error)) ([]byte, error) {
	return Sized(b, func(b []byte) (_ []byte, err error) {
		b = append(b, 0, 0, 0, 1, 0, 0, 0, 1) // one dimension; there may be nulls
		b = binary.BigEndian.AppendUint32(b, oid)
		b = append(size(b, n), 0, 0, 0, 1) // counted from 1
		for i := range n {
			if b, err = element(b, i); err != nil {
				return b, err
			}
		}
		return b, nil
	})
}
