// Package segment reads and writes the files of a journal: a header, then frames of records, each checked. It is also the
// border to the disk. docs/formats/journal.md describes the form.
package segment

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file/record"
)

// Version of the format that this package writes, and the newest that it reads.
const Version = 1

// A segment begins with: magic, version (2 bytes), 2 reserved, number (4), position of its first record (8), 4 reserved,
// CRC-32C of all that (4). Every version keeps this layout. All integers are little endian.
const (
	HeaderSize = 32

	magic = "TALLYJNL"
)

// A frame is one commit: magic, payload length (4 bytes), CRC-32C over length and payload (4), payload = records.
// The magic is not valid UTF-8, as texts in records are: only a frame begins like a frame.
const (
	FrameHeader = 12
	FrameMax    = 64 << 20

	frameMagic = "\xf5TJ\xff"
)

// Segment is an open segment file. Its reader may be used by many goroutines.
type Segment struct {
	Name   string // path, for messages
	Number uint32
	First  uint64 // position of its first record
	File   File
}

// Path is a segment's file in a journal's folder.
func Path(dir string, number uint32) string {
	return filepath.Join(dir, fmt.Sprintf("%08d.log", number))
}

// List names the segments of a folder in order. They are numbered from 1 without a gap, else ErrCorrupt.
func List(fs FS, dir string) ([]uint32, error) {
	names, err := fs.List(dir)
	if err != nil {
		return nil, err
	}
	var numbers []uint32
	for _, name := range names {
		if base, ok := strings.CutSuffix(name, ".log"); ok && len(base) == 8 {
			if n, err := strconv.ParseUint(base, 10, 32); err == nil {
				numbers = append(numbers, uint32(n))
			}
		}
	}
	slices.Sort(numbers)
	for i, n := range numbers {
		if want := uint32(i) + 1; n != want {
			return nil, Corrupt(Path(dir, want), 0, "this segment is missing, a later one is there")
		}
	}
	return numbers, nil
}

// EncodeHeader is the header of a segment; first is the position of its first record.
func EncodeHeader(number uint32, first uint64) []byte {
	b := append(make([]byte, 0, HeaderSize), magic...)
	b = binary.LittleEndian.AppendUint16(b, Version)
	b = append(b, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, number)
	b = binary.LittleEndian.AppendUint64(b, first)
	b = append(b, 0, 0, 0, 0)
	return binary.LittleEndian.AppendUint32(b, record.Checksum(nil, b))
}

// ErrHeader says that bytes are no segment header.
var ErrHeader = errors.New("the segment header is damaged")

// DecodeHeader reverses EncodeHeader. ErrHeader, store.ErrNewer.
func DecodeHeader(b []byte) (number uint32, first uint64, err error) {
	if len(b) < HeaderSize || string(b[:8]) != magic || binary.LittleEndian.Uint32(b[28:]) != record.Checksum(nil, b[:28]) {
		return 0, 0, ErrHeader
	}
	if v := binary.LittleEndian.Uint16(b[8:]); v > Version {
		return 0, 0, fmt.Errorf("journal format %d, this program reads %d: use the program that wrote it or a newer one: %w",
			v, Version, store.ErrNewer)
	}
	return binary.LittleEndian.Uint32(b[12:]), binary.LittleEndian.Uint64(b[16:]), nil
}

// Corrupt is store.ErrCorrupt that names what is damaged and what to do about it.
func Corrupt(name string, offset int64, what string) error {
	return fmt.Errorf("%s at byte %d: %s; stop here, keep a copy of the folder, and restore this file from a backup: %w",
		name, offset, what, store.ErrCorrupt)
}

// BeginFrame starts a frame in dst's room. Append records to it, then EndFrame.
func BeginFrame(dst []byte) []byte {
	return append(dst[:0], make([]byte, FrameHeader)...)
}

// IsFrame says whether bytes begin a frame; no record's length looks like that.
func IsFrame(b []byte) bool {
	return len(b) >= FrameHeader && string(b[:len(frameMagic)]) == frameMagic
}

// EndFrame fills the frame's header in.
func EndFrame(frame []byte) {
	copy(frame, frameMagic)
	binary.LittleEndian.PutUint32(frame[4:], uint32(len(frame)-FrameHeader))
	binary.LittleEndian.PutUint32(frame[8:], record.Checksum(frame[4:8], frame[FrameHeader:]))
}

// Window reads a file front to back through a buffer that grows to the largest frame.
type Window struct {
	Chunk int // bytes to read at a time, at least; 0: 1 MiB

	file File
	size int64
	at   int64 // file offset of buf[0]
	buf  []byte
}

// Reset turns the window to a file; the buffer is kept.
func (w *Window) Reset(f File) error {
	size, err := f.Size()
	*w = Window{Chunk: w.Chunk, file: f, size: size, buf: w.buf[:0]}
	return err
}

// Limit leaves out what lies behind an offset.
func (w *Window) Limit(size int64) { w.size = min(w.size, size) }

// Size is the file's size, or the limit.
func (w *Window) Size() int64 { return w.size }

const windowMin = 1 << 20

// Bytes returns n bytes at an offset; fewer at the end of the file. They are good until the next call.
func (w *Window) Bytes(offset int64, n int) ([]byte, error) {
	n = int(min(int64(n), w.size-offset))
	if n <= 0 {
		return nil, nil
	}
	if offset < w.at || offset+int64(n) > w.at+int64(len(w.buf)) {
		chunk := w.Chunk
		if chunk == 0 {
			chunk = windowMin
		}
		want := int(min(int64(max(n, chunk)), w.size-offset))
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

// FrameAt returns the frame at an offset, header included. ok is false when no whole, valid frame is there.
func (w *Window) FrameAt(offset int64) (frame []byte, ok bool, err error) {
	head, err := w.Bytes(offset, FrameHeader)
	if err != nil || len(head) < FrameHeader || string(head[:4]) != frameMagic {
		return nil, false, err
	}
	size := binary.LittleEndian.Uint32(head[4:])
	if size == 0 || size > FrameMax {
		return nil, false, nil
	}
	frame, err = w.Bytes(offset, FrameHeader+int(size))
	if err != nil || len(frame) < FrameHeader+int(size) {
		return nil, false, err
	}
	sum := record.Checksum(frame[4:8], frame[FrameHeader:])
	return frame, sum == binary.LittleEndian.Uint32(frame[8:]), nil
}

// NextFrame finds a valid frame that begins behind an offset. It tells damage from a torn tail: frames are written one
// after the other, each synced before the next, so what stands before a valid frame was once whole.
func (w *Window) NextFrame(offset int64) (int64, bool, error) {
	for offset++; ; offset++ {
		b, err := w.Bytes(offset, windowMin)
		if err != nil || len(b) < FrameHeader {
			return 0, false, err
		}
		i := bytes.Index(b, []byte(frameMagic))
		if i < 0 {
			offset += int64(len(b) - len(frameMagic)) // one may begin in the last bytes
			continue
		}
		offset += int64(i)
		if _, ok, err := w.FrameAt(offset); ok || err != nil {
			return offset, ok, err
		}
	}
}

// ReadRecord reads one record alone and checks it. The result lies in buf or replaces it.
func (s *Segment) ReadRecord(offset int64, buf []byte) ([]byte, error) {
	const guess = 1024
	if cap(buf) < guess {
		buf = make([]byte, guess)
	}
	buf = buf[:cap(buf)]
	n, err := s.File.ReadAt(buf, offset)
	if n < record.HeaderSize {
		return nil, s.readFault(offset, err)
	}
	size := int(binary.LittleEndian.Uint32(buf))
	if size < record.BodyMin || size > record.BodyMax {
		return nil, Corrupt(s.Name, offset, "a record has a bad length")
	}
	if end := record.HeaderSize + size; end > n {
		whole := make([]byte, end+end/4)
		copy(whole, buf[:n])
		buf = whole
		if m, err := s.File.ReadAt(buf[n:end], offset+int64(n)); m < end-n {
			return nil, s.readFault(offset, err)
		}
	}
	body := buf[record.HeaderSize : record.HeaderSize+size]
	if record.Checksum(buf[:4], body) != binary.LittleEndian.Uint32(buf[4:]) {
		return nil, Corrupt(s.Name, offset, "the checksum of a record does not match")
	}
	return buf, nil
}

func (s *Segment) readFault(offset int64, err error) error {
	if errors.Is(err, io.EOF) {
		return Corrupt(s.Name, offset, "a record is missing")
	}
	return fmt.Errorf("read %s at byte %d: %w", s.Name, offset, err)
}
