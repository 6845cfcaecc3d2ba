package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/tallystick/tallystick/internal/store"
)

// A segment file is a header, then frames without gaps, then zeros to its fixed size.
//
//	header: magic [8] | version u32 | first offset u64 | file size u64 | CRC32C of the bytes before u32
//	frame:  payload length u32 | CRC32C of length and payload u32 | payload
//
// All numbers are little-endian. A length of zero marks the unwritten rest. The logical offset of a byte is the header's
// first offset plus its distance from the header's end; the next segment's first offset counts the unwritten rest too.
const (
	magic       = "TLYSPOOL"
	version     = 1
	headerBytes = 32
	frameHead   = 8
	maxFrame    = frameHead + MaxPayload

	suffix     = ".seg"
	tempSuffix = ".tmp"
)

type segment struct {
	name  string // of the file, with its directory
	file  *os.File
	first int64 // logical offset of the first frame
	size  int64 // of the file
	end   int64 // file position behind the last frame; for the current segment guarded by Spool.mu, else fixed
}

func (g *segment) room() int64            { return g.size - g.end }
func (g *segment) offset(pos int64) int64 { return g.first + pos - headerBytes }
func (g *segment) next() int64            { return g.offset(g.size) }

func segmentName(first int64) string { return fmt.Sprintf("%016x%s", first, suffix) }

// parseName returns the first offset in a segment's file name.
func parseName(name string) (int64, bool) {
	digits, ok := strings.CutSuffix(name, suffix)
	if !ok || len(digits) != 16 {
		return 0, false
	}
	first, err := strconv.ParseInt(digits, 16, 64)
	return first, err == nil
}

func checksum(parts ...[]byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	var sum uint32
	for _, p := range parts {
		sum = crc32.Update(sum, table, p)
	}
	return sum
}

func encodeHeader(first, size int64) []byte {
	h := append(make([]byte, 0, headerBytes), magic...)
	h = binary.LittleEndian.AppendUint32(h, version)
	h = binary.LittleEndian.AppendUint64(h, uint64(first))
	h = binary.LittleEndian.AppendUint64(h, uint64(size))
	return binary.LittleEndian.AppendUint32(h, checksum(h))
}

// decodeHeader checks a header. Its file name and its neighbours are the caller's to check.
func decodeHeader(h []byte) (first, size int64, err error) {
	if len(h) < headerBytes || string(h[:len(magic)]) != magic {
		return 0, 0, fmt.Errorf("%w: not a spool segment", store.ErrCorrupt)
	}
	if v := binary.LittleEndian.Uint32(h[8:]); v > version {
		return 0, 0, fmt.Errorf("%w: segment version %d, this program knows up to %d", store.ErrNewer, v, version)
	}
	if binary.LittleEndian.Uint32(h[8:]) != version || binary.LittleEndian.Uint32(h[28:]) != checksum(h[:28]) {
		return 0, 0, fmt.Errorf("%w: segment header", store.ErrCorrupt)
	}
	first, size = int64(binary.LittleEndian.Uint64(h[12:])), int64(binary.LittleEndian.Uint64(h[20:]))
	if first < 0 || first > maxOffset || size < MinSegmentBytes || size > MaxSegmentBytes {
		return 0, 0, fmt.Errorf("%w: segment header out of range", store.ErrCorrupt)
	}
	return first, size, nil
}

// frameAt returns the payload of the frame that begins data, or nil where there is no whole, sound frame.
func frameAt(data []byte) []byte {
	if len(data) < frameHead {
		return nil
	}
	n := int64(binary.LittleEndian.Uint32(data))
	if n == 0 || n > MaxPayload || n > int64(len(data)-frameHead) {
		return nil
	}
	payload := data[frameHead : frameHead+n]
	if binary.LittleEndian.Uint32(data[4:]) != checksum(data[:4], payload) {
		return nil
	}
	return payload
}

// scan finds where the frames of a segment's content end (file position), and where its last byte that is not zero ends.
// Both are equal in a sound segment; else the bytes between are torn or damaged.
func scan(content []byte) (end, written int64) {
	pos := headerBytes
	for {
		payload := frameAt(content[pos:])
		if payload == nil {
			break
		}
		pos += frameHead + len(payload)
	}
	last := len(content)
	for last > pos && content[last-1] == 0 {
		last--
	}
	return int64(pos), int64(last)
}

// sector is what a disk writes wholly or not at all.
const sector = 512

// damagedAt tells damage at a file position from a tail that a crash tore; written is where the segment's last byte ends. It is damage when a sound frame follows, unless an
// empty sector between the two shows that the disk kept later bytes before earlier ones.
func damagedAt(content []byte, pos, written int64) bool {
	next := pos + 1
	for next < written && frameAt(content[next:]) == nil {
		next++
	}
	if next >= written {
		return false
	}
	for from := pos; ; {
		to := (from/sector + 1) * sector
		if to > next {
			return true
		}
		if len(bytes.TrimLeft(content[from:to], "\x00")) == 0 {
			return false
		}
		from = to
	}
}

const (
	page     = 4096 // divides every page size: a write that is killed ends at the end of a page
	zerosMax = 64   // how many zeros in a row a record's content may have at that place
)

// unfinished says whether the bytes between pos and written, where a segment's last byte ends, are a frame of which only whole
// pages were written.
func unfinished(content []byte, pos, written int64) bool {
	cut := (written + page - 1) / page * page
	if cut <= pos || cut >= int64(len(content)) || cut-written > zerosMax {
		return false
	}
	if cut-pos < frameHead {
		return true
	}
	n := int64(binary.LittleEndian.Uint32(content[pos:]))
	return n > 0 && n <= MaxPayload && pos+frameHead+n > cut
}

// createSegment makes a whole, durable, empty segment, or leaves nothing. The temporary name keeps a crash from leaving a
// segment without its header or its room.
func createSegment(dir string, first, size int64) (*segment, error) {
	final := filepath.Join(dir, segmentName(first))
	f, err := os.OpenFile(final+tempSuffix, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fullOr(err)
	}
	err = fillSegment(f, first, size)
	if err == nil {
		err = os.Rename(f.Name(), final)
	}
	if err != nil {
		return nil, errors.Join(fullOr(err), f.Close(), os.Remove(f.Name()))
	}
	if err := syncDir(dir); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", store.ErrBroken, err), f.Close())
	}
	return &segment{name: final, file: f, first: first, size: size, end: headerBytes}, nil
}

func fillSegment(f *os.File, first, size int64) error {
	if err := preallocate(f, 0, size); err != nil {
		return fmt.Errorf("allocate %d bytes: %w", size, err)
	}
	if _, err := f.WriteAt(encodeHeader(first, size), 0); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("%w: sync new segment: %w", store.ErrBroken, err)
	}
	return nil
}

// fullOr marks errors that mean "no space left" as store.ErrFull.
func fullOr(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", store.ErrFull, err)
	}
	return err
}

func writeZeros(f *os.File, from, to int64) error {
	zeros := make([]byte, 64<<10)
	for from < to {
		n, err := f.WriteAt(zeros[:min(int64(len(zeros)), to-from)], from)
		if err != nil {
			return err
		}
		from += int64(n)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	if err := d.Sync(); err != nil {
		return errors.Join(fmt.Errorf("sync directory: %w", err), d.Close())
	}
	return d.Close()
}

// readSegment reads a whole file, up to one byte more than any segment may have.
func readSegment(f *os.File, buf []byte) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	size := min(info.Size(), MaxSegmentBytes+1)
	if int64(cap(buf)) < size {
		buf = make([]byte, size)
	}
	n, err := f.ReadAt(buf[:size], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return buf[:n], nil
}
