package archive

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"
	"sync/atomic"

	"github.com/tallystick/tallystick/internal/store/file/record"
	"github.com/tallystick/tallystick/internal/store/file/segment"
)

// ErrReadOnly says that a sealed segment takes no writes.
var ErrReadOnly = errors.New("a sealed segment is read only")

// Reader is an open sealed segment. As a segment.File it shows the raw bytes. It may be used by many goroutines.
type Reader struct {
	name    string
	f       segment.File
	info    Info
	entries []entry
	footer  int64 // its offset: where the last block ends
	cache   *Cache
	id      uint64 // of the reader in the cache
	closed  atomic.Bool
}

var _ segment.File = (*Reader)(nil)

// Open opens a sealed segment and checks header and footer. store.ErrCorrupt names file and byte; store.ErrNewer.
func Open(fs segment.FS, name string, number uint32, cache *Cache) (*Reader, error) {
	f, err := fs.Open(name, false)
	if err != nil {
		return nil, err
	}
	r := &Reader{name: name, f: f, cache: cache, id: cache.newID()}
	if err := r.open(number); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return r, nil
}

func (r *Reader) open(number uint32) error {
	size, err := r.f.Size()
	if err != nil {
		return err
	}
	if size < segment.HeaderSize+chunkHeader+infoSize+trailerSize {
		return segment.Corrupt(r.name, size, "the sealed segment ends too early")
	}
	head, err := r.bytes(0, segment.HeaderSize)
	if err != nil {
		return err
	}
	n, first, err := decodeHeader(head)
	switch {
	case errors.Is(err, segment.ErrHeader):
		return segment.Corrupt(r.name, 0, err.Error())
	case err != nil:
		return fmt.Errorf("%s: %w", r.name, err)
	case n != number:
		return segment.Corrupt(r.name, 0, fmt.Sprintf("it is segment %d, expected segment %d", n, number))
	}
	r.info = Info{Number: n, First: first, Bytes: size}
	trailer, err := r.bytes(size-trailerSize, trailerSize)
	if err != nil {
		return err
	}
	at, length, ok := decodeTrailer(trailer, size)
	if !ok {
		return segment.Corrupt(r.name, size-trailerSize, "the end of the sealed segment is damaged")
	}
	footer, err := r.bytes(at, length+trailerSize)
	if err != nil {
		return err
	}
	if r.entries, ok = decodeFooter(footer, &r.info, at); !ok {
		return segment.Corrupt(r.name, at, "the list of blocks is damaged")
	}
	r.footer = at
	return nil
}

func (r *Reader) bytes(at int64, n int) ([]byte, error) {
	b := make([]byte, n)
	if got, err := r.f.ReadAt(b, at); got < n {
		if errors.Is(err, io.EOF) {
			return nil, segment.Corrupt(r.name, at, "the sealed segment ends too early")
		}
		return nil, fmt.Errorf("read %s at byte %d: %w", r.name, at, err)
	}
	return b, nil
}

// chunk reads and checks the bytes between two offsets.
func (r *Reader) chunk(at, end int64, what string) ([]byte, error) {
	if end-at < chunkHeader || end-at > 2*blockMax {
		return nil, segment.Corrupt(r.name, at, what+" has a bad length")
	}
	b, err := r.bytes(at, int(end-at))
	if err != nil {
		return nil, err
	}
	if int64(binary.LittleEndian.Uint32(b)) != end-at-chunkHeader || record.Checksum(b[:4], b[chunkHeader:]) != binary.LittleEndian.Uint32(b[4:]) {
		return nil, segment.Corrupt(r.name, at, "the checksum of "+what+" does not match")
	}
	return b[chunkHeader:], nil
}

// Info is what the segment says of itself.
func (r *Reader) Info() Info { return r.info }

// Blocks is how many there are.
func (r *Reader) Blocks() int { return len(r.entries) }

// blockEnd is where a block ends: in the raw segment, in the file, and the position behind it.
func (r *Reader) blockEnd(i int) entry {
	if i+1 < len(r.entries) {
		return r.entries[i+1]
	}
	return entry{r.info.Last + 1, r.info.RawBytes, r.footer}
}

// tables reads the segment's tables, through the cache.
func (r *Reader) tables() (*dictionary, error) {
	if d, ok := r.cache.dictionary(r.id); ok {
		return d, nil
	}
	end := r.footer
	if len(r.entries) > 0 {
		end = r.entries[0].offset
	}
	b, err := r.chunk(segment.HeaderSize, end, "the tables")
	if err != nil {
		return nil, err
	}
	size := len(b)
	u, err := r.cache.unpacker()
	if err != nil {
		return nil, err
	}
	defer r.cache.unpackers.Put(u)
	b, err = u.zstd.DecodeAll(b, nil)
	if err != nil {
		return nil, segment.Corrupt(r.name, segment.HeaderSize, "the tables do not decode")
	}
	d, err := parseDictionary(b)
	if err != nil {
		return nil, segment.Corrupt(r.name, segment.HeaderSize, err.Error())
	}
	r.cache.putDictionary(r.id, d, 3*len(b)+size)
	return d, nil
}

// block reads a block, through the cache.
func (r *Reader) block(i int) (*decoded, error) {
	if b, ok := r.cache.block(r.id, i); ok {
		return b, nil
	}
	e, end := r.entries[i], r.blockEnd(i)
	stored, err := r.chunk(e.offset, end.offset, "a block")
	if err != nil {
		return nil, err
	}
	d, err := r.tables()
	if err != nil {
		return nil, err
	}
	u, err := r.cache.unpacker()
	if err != nil {
		return nil, err
	}
	defer r.cache.unpackers.Put(u)
	raw, err := u.unpack(stored, d, e.first, int(end.raw-e.raw))
	if err != nil {
		return nil, segment.Corrupt(r.name, e.offset, err.Error())
	}
	b := &decoded{raw: raw}
	if b.offsets, err = layout(raw, nil); err != nil || uint64(len(b.offsets)) != end.first-e.first {
		return nil, segment.Corrupt(r.name, e.offset, "a block does not hold the records that it should")
	}
	r.cache.putBlock(r.id, i, b)
	return b, nil
}

// ReadAt implements io.ReaderAt over the raw bytes.
func (r *Reader) ReadAt(p []byte, at int64) (n int, err error) {
	if at < 0 {
		return 0, errors.New("negative offset")
	}
	if at < segment.HeaderSize {
		n = copy(p, segment.EncodeHeader(r.info.Number, r.info.First)[at:])
	}
	for n < len(p) {
		from := at + int64(n)
		if from >= r.info.RawBytes {
			return n, io.EOF
		}
		i := sort.Search(len(r.entries), func(i int) bool { return r.entries[i].raw > from }) - 1
		b, err := r.block(i)
		if err != nil {
			return n, err
		}
		n += copy(p[n:], b.raw[from-r.entries[i].raw:])
	}
	return n, nil
}

// Record reads one record by position, with its length and checksum in front, and checks it. The result lies in buf or
// replaces it.
func (r *Reader) Record(position uint64, buf []byte) ([]byte, error) {
	if position < r.info.First || position > r.info.Last {
		return nil, fmt.Errorf("%s holds the records %d to %d, not %d", r.name, r.info.First, r.info.Last, position)
	}
	i := sort.Search(len(r.entries), func(i int) bool { return r.entries[i].first > position }) - 1
	b, err := r.block(i)
	if err != nil {
		return nil, err
	}
	rec := b.raw[b.offsets[position-r.entries[i].first]:]
	rec = rec[:record.HeaderSize+int(binary.LittleEndian.Uint32(rec))]
	body := rec[record.HeaderSize:]
	if record.Checksum(rec[:4], body) != binary.LittleEndian.Uint32(rec[4:]) || binary.LittleEndian.Uint64(body[1:]) != position {
		return nil, segment.Corrupt(r.name, r.entries[i].offset, fmt.Sprintf("record %d is damaged in its block", position))
	}
	return append(slices.Grow(buf[:0], len(rec)), rec...), nil
}

// Offset is where a record begins in the raw segment; behind the last one it is the size.
func (r *Reader) Offset(position uint64) (int64, error) {
	if position > r.info.Last {
		return r.info.RawBytes, nil
	}
	position = max(position, r.info.First)
	i := sort.Search(len(r.entries), func(i int) bool { return r.entries[i].first > position }) - 1
	b, err := r.block(i)
	if err != nil {
		return 0, err
	}
	return r.entries[i].raw + int64(b.offsets[position-r.entries[i].first]), nil
}

// Size is that of the raw segment.
func (r *Reader) Size() (int64, error) { return r.info.RawBytes, nil }

// WriteAt implements segment.File: ErrReadOnly.
func (r *Reader) WriteAt([]byte, int64) (int, error) {
	return 0, fmt.Errorf("%s: %w", r.name, ErrReadOnly)
}

// Truncate implements segment.File: ErrReadOnly.
func (r *Reader) Truncate(int64) error { return fmt.Errorf("%s: %w", r.name, ErrReadOnly) }

// Sync implements segment.File; there is nothing to sync.
func (r *Reader) Sync() error { return nil }

// Close implements segment.File.
func (r *Reader) Close() error {
	if r.closed.Swap(true) {
		return nil
	}
	r.cache.forget(r.id)
	return r.f.Close()
}
