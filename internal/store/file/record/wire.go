package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// A field is key, value. The key is a uvarint tag<<1 | wire; wire 0 is a uvarint, wire 1 is bytes behind their uvarint
// length. Tags ascend, zero values are left out, uvarints are as short as possible: a record has one encoding only.
const (
	wireUint  = 0
	wireBytes = 1
)

// ErrMalformed is wrapped by every complaint about a record's bytes.
var ErrMalformed = errors.New("malformed record")

// Checksum is the CRC-32C of a length field and of what it measures.
func Checksum(size, body []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	return crc32.Update(crc32.Update(0, table, size), table, body)
}

func appendUint(dst []byte, tag byte, v uint64) []byte {
	if v == 0 {
		return dst
	}
	dst = append(dst, tag<<1|wireUint)
	return binary.AppendUvarint(dst, v)
}

func appendInt(dst []byte, tag byte, v int64) []byte { return appendUint(dst, tag, zigzag(v)) }

func appendBytes[T string | []byte](dst []byte, tag byte, v T) []byte {
	if len(v) == 0 {
		return dst
	}
	return appendSized(append(dst, tag<<1|wireBytes), v)
}

// appendSized writes bytes behind their length; inside a field there are no tags.
func appendSized[T string | []byte](dst []byte, v T) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(v)))
	return append(dst, v...)
}

// appendNested writes a bytes field whose content is encoded in place.
func appendNested(dst []byte, tag byte, content func(dst []byte) []byte) []byte {
	dst = append(dst, tag<<1|wireBytes, 0)
	start := len(dst)
	dst = content(dst)
	size := len(dst) - start
	if size < 0x80 {
		dst[start-1] = byte(size)
		return dst
	}
	var room [binary.MaxVarintLen64]byte
	prefix := binary.AppendUvarint(room[:0], uint64(size))
	dst = append(dst, prefix[1:]...)
	copy(dst[start-1+len(prefix):], dst[start:start+size])
	copy(dst[start-1:], prefix)
	return dst
}

func zigzag(v int64) uint64   { return uint64(v)<<1 ^ uint64(v>>63) }
func unzigzag(v uint64) int64 { return int64(v>>1) ^ -int64(v&1) }

// reader takes fields and plain values off the front of b. The first fault sticks.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(what string) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", ErrMalformed, what)
	}
	r.b = nil
}

func (r *reader) uint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || n > 1 && r.b[n-1] == 0 {
		r.fail("bad number")
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) sized() []byte {
	n := r.uint()
	if n > uint64(len(r.b)) {
		r.fail("bytes end too early")
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

// field is one decoded field.
type field struct {
	tag uint64
	num uint64
	buf []byte
}

// next reads a field whose tag is above last, or equal to it where repeated says so. Zero values are refused.
func (r *reader) next(last uint64, repeated bool) field {
	key := r.uint()
	f := field{tag: key >> 1}
	if f.tag < last || f.tag == last && !repeated {
		r.fail("fields out of order")
		return f
	}
	if key&1 == wireBytes {
		f.buf = r.sized()
	} else {
		f.num = r.uint()
	}
	if f.num == 0 && len(f.buf) == 0 {
		r.fail("a field is empty")
	}
	return f
}
