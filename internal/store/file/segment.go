package file

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"path/filepath"

	"github.com/tallystick/tallystick/internal/store"
)

// The format version that this package writes, and the newest that it reads.
const formatVersion = 1

// A segment begins with: magic, version (2 bytes), 2 reserved, number (4), position of its first record (8), 4 reserved,
// CRC-32C of all that (4). Every version keeps this layout. All integers are little endian.
const (
	segmentMagic  = "TALLYJNL"
	segmentHeader = 32
)

// A frame is one commit: magic, payload length (4 bytes), CRC-32C over length and payload (4), payload = records.
// The magic is not valid UTF-8, as texts in records are: only a frame begins like a frame.
const (
	frameMagic  = "\xf5TJ\xff"
	frameHeader = 12
	frameMax    = 64 << 20
)

// A location is a segment's number and a record's offset in it.
const offsetBits = 40

type location uint64

func locate(segment uint32, offset int64) location {
	return location(uint64(segment)<<offsetBits | uint64(offset))
}
func (l location) segment() uint32 { return uint32(l >> offsetBits) }
func (l location) offset() int64   { return int64(l & (1<<offsetBits - 1)) }

// segment is an open segment file.
type segment struct {
	name   string // path, for messages
	number uint32
	first  uint64 // position of the first record
	file   File
}

func segmentName(dir string, number uint32) string {
	return filepath.Join(dir, fmt.Sprintf("%08d.log", number))
}

func encodeSegmentHeader(number uint32, first uint64) []byte {
	b := append(make([]byte, 0, segmentHeader), segmentMagic...)
	b = binary.LittleEndian.AppendUint16(b, formatVersion)
	b = append(b, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, number)
	b = binary.LittleEndian.AppendUint64(b, first)
	b = append(b, 0, 0, 0, 0)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli()))
}

// errHeader: the bytes are no segment header.
var errHeader = errors.New("the segment header is damaged")

func decodeSegmentHeader(b []byte) (number uint32, first uint64, err error) {
	if len(b) < segmentHeader || string(b[:8]) != segmentMagic ||
		binary.LittleEndian.Uint32(b[28:]) != crc32.Checksum(b[:28], castagnoli()) {
		return 0, 0, errHeader
	}
	if v := binary.LittleEndian.Uint16(b[8:]); v > formatVersion {
		return 0, 0, fmt.Errorf("journal format %d, this program reads %d: use the program that wrote it or a newer one: %w",
			v, formatVersion, store.ErrNewer)
	}
	return binary.LittleEndian.Uint32(b[12:]), binary.LittleEndian.Uint64(b[16:]), nil
}

// corrupt names what is damaged and what to do about it.
func corrupt(name string, offset int64, what string) error {
	return fmt.Errorf("%s at byte %d: %s; stop here, keep a copy of the folder, and restore this file from a backup: %w",
		name, offset, what, store.ErrCorrupt)
}

// beginFrame leaves room for the header.
func beginFrame(dst []byte) []byte {
	return append(dst[:0], make([]byte, frameHeader)...)
}

// endFrame fills the header in.
func endFrame(frame []byte) {
	copy(frame, frameMagic)
	binary.LittleEndian.PutUint32(frame[4:], uint32(len(frame)-frameHeader))
	binary.LittleEndian.PutUint32(frame[8:], checksum(frame[4:8], frame[frameHeader:]))
}

// window reads a file front to back through a buffer that grows to the largest frame.
type window struct {
	file File
	size int64
	at   int64 // file offset of buf[0]
	buf  []byte
}

const windowMin = 1 << 20

// bytes returns n bytes at an offset; fewer at the end of the file.
func (w *window) bytes(offset int64, n int) ([]byte, error) {
	n = int(min(int64(n), w.size-offset))
	if n <= 0 {
		return nil, nil
	}
	if offset < w.at || offset+int64(n) > w.at+int64(len(w.buf)) {
		want := int(min(int64(max(n, windowMin)), w.size-offset))
		if cap(w.buf) < want {
			w.buf = make([]byte, want)
		}
		w.buf, w.at = w.buf[:want], offset
		if got, err := w.file.ReadAt(w.buf, offset); got < want {
			w.buf = w.buf[:0]
			return nil, fmt.Errorf("read journal: %w", err)
		}
	}
	return w.buf[offset-w.at:][:n], nil
}

// frameAt returns the frame at an offset, header included. ok is false when no whole, valid frame is there.
func (w *window) frameAt(offset int64) (frame []byte, ok bool, err error) {
	head, err := w.bytes(offset, frameHeader)
	if err != nil || len(head) < frameHeader || string(head[:4]) != frameMagic {
		return nil, false, err
	}
	size := binary.LittleEndian.Uint32(head[4:])
	if size == 0 || size > frameMax {
		return nil, false, nil
	}
	frame, err = w.bytes(offset, frameHeader+int(size))
	if err != nil || len(frame) < frameHeader+int(size) {
		return nil, false, err
	}
	sum := checksum(frame[4:8], frame[frameHeader:])
	return frame, sum == binary.LittleEndian.Uint32(frame[8:]), nil
}

// nextFrame finds a valid frame that begins behind an offset. It tells damage from a torn tail: frames are written one
// after the other, each synced before the next, so what stands before a valid frame was once whole.
func (w *window) nextFrame(offset int64) (int64, bool, error) {
	for offset++; ; offset++ {
		b, err := w.bytes(offset, windowMin)
		if err != nil || len(b) < frameHeader {
			return 0, false, err
		}
		i := bytes.Index(b, []byte(frameMagic))
		if i < 0 {
			offset += int64(len(b) - len(frameMagic)) // one may begin in the last bytes
			continue
		}
		offset += int64(i)
		if _, ok, err := w.frameAt(offset); ok || err != nil {
			return offset, ok, err
		}
	}
}

// splitRecords calls each for the records of a frame's payload with their offset in it, after checking them.
func splitRecords(payload []byte, each func(offset int, body []byte) error) error {
	for at := 0; at < len(payload); {
		rest := payload[at:]
		if len(rest) < recordHeader+bodyMin {
			return fmt.Errorf("%w: a record has no end", errWire)
		}
		size := int(binary.LittleEndian.Uint32(rest))
		if size < bodyMin || size > min(bodyMax, len(rest)-recordHeader) {
			return fmt.Errorf("%w: a record has a bad length", errWire)
		}
		body := rest[recordHeader : recordHeader+size]
		if checksum(rest[:4], body) != binary.LittleEndian.Uint32(rest[4:]) {
			return fmt.Errorf("%w: checksum of a record", errWire)
		}
		if err := each(at, body); err != nil {
			return err
		}
		at += recordHeader + size
	}
	return nil
}

// readBody reads one record alone and checks it. The result lies in buf or replaces it.
func (s *segment) readBody(offset int64, buf []byte) ([]byte, error) {
	const guess = 1024
	if cap(buf) < guess {
		buf = make([]byte, guess)
	}
	buf = buf[:cap(buf)]
	n, err := s.file.ReadAt(buf, offset)
	if n < recordHeader {
		return nil, s.readFault(offset, err)
	}
	size := int(binary.LittleEndian.Uint32(buf))
	if size < bodyMin || size > bodyMax {
		return nil, corrupt(s.name, offset, "a record has a bad length")
	}
	if end := recordHeader + size; end > n {
		whole := make([]byte, end+end/4)
		copy(whole, buf[:n])
		buf = whole
		if m, err := s.file.ReadAt(buf[n:end], offset+int64(n)); m < end-n {
			return nil, s.readFault(offset, err)
		}
	}
	body := buf[recordHeader : recordHeader+size]
	if checksum(buf[:4], body) != binary.LittleEndian.Uint32(buf[4:]) {
		return nil, corrupt(s.name, offset, "the checksum of a record does not match")
	}
	return buf, nil
}

func (s *segment) readFault(offset int64, err error) error {
	if errors.Is(err, io.EOF) {
		return corrupt(s.name, offset, "a record is missing")
	}
	return fmt.Errorf("read %s at byte %d: %w", s.name, offset, err)
}

// bodyOf is the body in what readBody returned.
func bodyOf(buf []byte) []byte {
	return buf[recordHeader:][:binary.LittleEndian.Uint32(buf)]
}
