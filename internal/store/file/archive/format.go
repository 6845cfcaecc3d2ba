package archive

import (
	"encoding/binary"
	"fmt"
	"path/filepath"

	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file/record"
	"github.com/tallystick/tallystick/internal/store/file/segment"
)

// Version of the sealed form that this package writes, and the newest that it reads.
const Version = 1

const (
	headerMagic  = "TALLYSEG"
	trailerMagic = "TALLYEND"

	chunkHeader = 8  // length and CRC, before the tables and before each block
	trailerSize = 24 // where the footer is: offset (8), length (4), CRC of all before (4), magic (8)
	entrySize   = 24
	infoSize    = 80
)

// FS is what sealing needs of a disk besides reading and writing.
type FS interface {
	segment.FS
	// Rename puts a file in another's place at once.
	Rename(from, to string) error
	// Remove deletes a file.
	Remove(name string) error
}

// Info is what a sealed segment says of itself. Times are UTC microseconds since 1970; both are 0 where there is no event.
type Info struct {
	Number      uint32 `json:"segment"`
	First       uint64 `json:"first"` // positions
	Last        uint64 `json:"last"`
	Events      int64  `json:"events"`
	Erased      int64  `json:"erased"`    // records whose payload was taken out
	Payloads    int64  `json:"payloads"`  // records that still have theirs
	ErasedTo    uint64 `json:"erased_to"` // the erasures up to this position are done here
	RawBytes    int64  `json:"raw_bytes"`
	Bytes       int64  `json:"bytes"`
	Received    int64  `json:"-"` // the newest receipt
	Earliest    int64  `json:"-"` // event times
	Latest      int64  `json:"-"`
	EventsTimed bool   `json:"-"` // there is an event
}

// Path is a sealed segment's file in a journal's folder.
func Path(dir string, number uint32) string {
	return filepath.Join(dir, fmt.Sprintf("%08d.seg", number))
}

func tempPath(dir string, number uint32) string { return Path(dir, number) + ".tmp" }

// entry is a block in the footer.
type entry struct {
	first  uint64 // position of its first record
	raw    int64  // offset of its first byte in the raw segment
	offset int64  // of its chunk in the file
}

func encodeHeader(number uint32, first uint64) []byte {
	b := append(make([]byte, 0, segment.HeaderSize), headerMagic...)
	b = binary.LittleEndian.AppendUint16(b, Version)
	b = append(b, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, number)
	b = binary.LittleEndian.AppendUint64(b, first)
	b = append(b, 0, 0, 0, 0)
	return binary.LittleEndian.AppendUint32(b, record.Checksum(nil, b))
}

// decodeHeader reverses encodeHeader. ErrHeader, store.ErrNewer.
func decodeHeader(b []byte) (number uint32, first uint64, err error) {
	if len(b) < segment.HeaderSize || string(b[:8]) != headerMagic || binary.LittleEndian.Uint32(b[28:]) != record.Checksum(nil, b[:28]) {
		return 0, 0, segment.ErrHeader
	}
	if v := binary.LittleEndian.Uint16(b[8:]); v > Version {
		return 0, 0, fmt.Errorf("sealed segment of format %d, this program reads %d: use the program that wrote it or a newer one: %w",
			v, Version, store.ErrNewer)
	}
	return binary.LittleEndian.Uint32(b[12:]), binary.LittleEndian.Uint64(b[16:]), nil
}

// appendChunk writes bytes behind their length and CRC.
func appendChunk(dst, b []byte) []byte {
	size := binary.LittleEndian.AppendUint32(nil, uint32(len(b)))
	dst = append(dst, size...)
	dst = binary.LittleEndian.AppendUint32(dst, record.Checksum(size, b))
	return append(dst, b...)
}

// encodeFooter writes what the segment is and where its blocks are, and the trailer.
func encodeFooter(info *Info, entries []entry, at int64) []byte {
	var b []byte
	put := func(v uint64) { b = binary.LittleEndian.AppendUint64(b, v) }
	put(info.Last)
	put(uint64(info.RawBytes))
	put(uint64(info.Events))
	put(uint64(info.Erased))
	put(uint64(info.Payloads))
	put(info.ErasedTo)
	put(uint64(info.Received))
	put(uint64(info.Earliest))
	put(uint64(info.Latest))
	put(uint64(len(entries)))
	for _, e := range entries {
		put(e.first)
		put(uint64(e.raw))
		put(uint64(e.offset))
	}
	size := len(b)
	put(uint64(at))
	b = binary.LittleEndian.AppendUint32(b, uint32(size))
	b = binary.LittleEndian.AppendUint32(b, record.Checksum(nil, b))
	return append(b, trailerMagic...)
}

// decodeTrailer says where the footer is in a file of a size.
func decodeTrailer(b []byte, size int64) (at int64, length int, ok bool) {
	if len(b) != trailerSize || string(b[16:]) != trailerMagic {
		return 0, 0, false
	}
	at, length = int64(binary.LittleEndian.Uint64(b)), int(binary.LittleEndian.Uint32(b[8:]))
	return at, length, at >= segment.HeaderSize+chunkHeader && at+int64(length)+trailerSize == size && length >= infoSize
}

// decodeFooter reads footer and trailer: every byte between header and footer must belong to one block or to the tables.
func decodeFooter(b []byte, info *Info, at int64) (entries []entry, ok bool) {
	end := len(b) - trailerSize
	if end < infoSize || record.Checksum(nil, b[:len(b)-12]) != binary.LittleEndian.Uint32(b[len(b)-12:]) {
		return nil, false
	}
	b = b[:end]
	next := func() uint64 {
		v := binary.LittleEndian.Uint64(b)
		b = b[8:]
		return v
	}
	info.Last, info.RawBytes, info.Events, info.Erased, info.Payloads = next(), int64(next()), int64(next()), int64(next()), int64(next())
	info.ErasedTo, info.Received, info.Earliest, info.Latest = next(), int64(next()), int64(next()), int64(next())
	info.EventsTimed = info.Events > 0
	if n := next(); n != uint64(len(b)/entrySize) || len(b)%entrySize != 0 {
		return nil, false
	}
	before := entry{first: info.First, raw: segment.HeaderSize, offset: segment.HeaderSize + chunkHeader}
	for len(b) > 0 {
		e := entry{next(), int64(next()), int64(next())}
		first := len(entries) == 0
		switch {
		case first && (e.first != before.first || e.raw != before.raw || e.offset < before.offset):
			return nil, false
		case !first && (e.first <= before.first || e.raw <= before.raw || e.raw-before.raw > blockMax || e.offset <= before.offset+chunkHeader):
			return nil, false
		}
		entries = append(entries, e)
		before = e
	}
	ok = before.first <= info.Last+1 && before.raw <= info.RawBytes && info.RawBytes-before.raw <= blockMax && before.offset <= at
	return entries, ok
}
