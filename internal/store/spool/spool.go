// Package spool is the gateway's append log in one directory of preallocated segment files.
//
// Room is taken from the disk when a segment is created, so a full disk shows there and never in the middle of a record. Room
// can be set aside for a record that must be written later: a settlement cannot fail for lack of space once its reservation
// was written.
//
// One process may use a directory at a time; the caller holds the data folder's lock.
package spool

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"sync"

	"github.com/tallystick/tallystick/internal/store"
)

const (
	// MaxPayload bounds one record, and one reserve.
	MaxPayload = 4096

	// DefaultSegmentBytes is the usual size of a segment file.
	DefaultSegmentBytes = 4 << 20
	// MinSegmentBytes holds any record.
	MinSegmentBytes = 8 << 10
	// MaxSegmentBytes bounds what Open reads into memory at once.
	MaxSegmentBytes = 64 << 20

	// DefaultMaxBytes bounds the segments kept on disk.
	DefaultMaxBytes = 256 << 20

	maxOffset = math.MaxInt64 / 2
)

// Config says where the spool lies and how much it may keep.
type Config struct {
	Dir          string // created if missing
	SegmentBytes int64  // size of new segment files; default DefaultSegmentBytes
	MaxBytes     int64  // bound on all segment files together; default DefaultMaxBytes; at least two segments
}

func (c *Config) validate() error {
	if c.SegmentBytes == 0 {
		c.SegmentBytes = DefaultSegmentBytes
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = DefaultMaxBytes
	}
	if c.Dir == "" {
		return errors.New("spool: no directory given")
	}
	if c.SegmentBytes < MinSegmentBytes || c.SegmentBytes > MaxSegmentBytes {
		return fmt.Errorf("spool: segment size %d is outside %d..%d", c.SegmentBytes, MinSegmentBytes, MaxSegmentBytes)
	}
	if c.MaxBytes < 2*c.SegmentBytes {
		return fmt.Errorf("spool: bound of %d bytes is less than two segments of %d", c.MaxBytes, c.SegmentBytes)
	}
	return nil
}

// Recovery tells what Open cut from the end of the log: bytes of records that were not wholly written. Zero Bytes: nothing.
type Recovery struct {
	File   string
	Offset int64 // logical offset of the first byte cut
	Bytes  int64
	// Unfinished: the bytes are the first part of one record, up to the end of a page. So ends a write whose process was
	// killed in the middle. Its Append never returned, and all records before it are whole.
	Unfinished bool
}

// Torn says that records whose Append returned may be lost.
func (r Recovery) Torn() bool { return r.Bytes > 0 && !r.Unfinished }

// Stats are gauges, and the count of appends refused with store.ErrFull since Open.
type Stats struct {
	Segments int
	Bytes    int64 // segment files on disk
	Reserved int64 // set aside for AppendReserved, frames included
	Refused  int64
}

// Spool implements store.Spool. It is safe for concurrent use.
type Spool struct {
	cfg      Config
	recovery Recovery
	datasync func(*os.File) error
	reads    sync.Pool // *[readBytes]byte

	// Locks are taken in this order.
	syncing sync.Mutex   // one fdatasync at a time: a failure is reported by the kernel once, and all waiters must see it
	files   sync.RWMutex // held to use segment files outside mu; exclusively to close or remove them
	mu      sync.Mutex   // guards all below

	segments []*segment // oldest first
	current  int        // takes the records; segments behind it are empty, allocated ahead for what is reserved
	kept     int64      // bytes of all segment files
	dropped  int64      // end of the last record truncated; nothing lies between it and the first segment
	reserved int64      // frames set aside
	synced   int64      // offset up to which records survive a power cut; -1: unknown
	refused  int64
	failed   error // store.ErrBroken or store.ErrClosed, for ever
	buf      [maxFrame]byte
}

var _ store.Spool = (*Spool)(nil)

// Recovery is what Open found and cut.
func (s *Spool) Recovery() Recovery { return s.recovery }

// Stats reads the gauges.
func (s *Spool) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Stats{Segments: len(s.segments), Bytes: s.kept, Reserved: s.reserved, Refused: s.refused}
}

// Append writes one record and sets room for one more of at most reserve payload bytes aside. fill appends the payload (1 to
// MaxPayload bytes) to dst; it may have run although Append fails, so it must not count on its record being there. Room set
// aside and never used is lost until Open.
func (s *Spool) Append(reserve int, fill func(dst []byte) []byte) (int64, error) {
	if reserve < 0 || reserve > MaxPayload {
		return 0, fmt.Errorf("spool: reserve of %d bytes is outside 0..%d", reserve, MaxPayload)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	frame, err := s.encode(fill)
	if err != nil {
		return 0, err
	}
	aside := int64(0)
	if reserve > 0 {
		aside = frameHead + int64(reserve)
	}
	if err := s.makeRoom(int64(len(frame)), s.reserved+aside); err != nil {
		return 0, err
	}
	offset, err := s.write(frame)
	if err == nil {
		s.reserved += aside
	}
	return offset, err
}

// AppendReserved writes a record into room that an Append with the same reserve set aside, once. A payload larger than reserve
// is an error and leaves the room set aside. After Open nothing is set aside: what an earlier process left open is settled
// with Append, before anything else is appended the room it set aside is still there.
func (s *Spool) AppendReserved(reserve int, fill func(dst []byte) []byte) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	aside := frameHead + int64(reserve)
	if reserve <= 0 || aside > s.reserved {
		return 0, fmt.Errorf("spool: no reserve of %d bytes was set aside", reserve)
	}
	frame, err := s.encode(fill)
	if err != nil {
		return 0, err
	}
	if int64(len(frame)) > aside {
		return 0, fmt.Errorf("spool: record of %d bytes is larger than its reserve of %d", len(frame)-frameHead, reserve)
	}
	offset, err := s.write(frame)
	if err == nil {
		s.reserved -= aside
	}
	return offset, err
}

// encode lets fill write into the frame buffer.
func (s *Spool) encode(fill func(dst []byte) []byte) ([]byte, error) {
	if s.failed != nil {
		return nil, s.failed
	}
	payload := fill(s.buf[frameHead:frameHead])
	if len(payload) == 0 || len(payload) > MaxPayload {
		return nil, fmt.Errorf("spool: record of %d bytes is outside 1..%d", len(payload), MaxPayload)
	}
	if &payload[0] != &s.buf[frameHead] {
		copy(s.buf[frameHead:], payload)
	}
	frame := s.buf[:frameHead+len(payload)]
	binary.LittleEndian.PutUint32(frame, uint32(len(payload)))
	binary.LittleEndian.PutUint32(frame[4:], checksum(frame[:4], frame[frameHead:]))
	return frame, nil
}

// makeRoom allocates segments ahead until a frame of n bytes can be written and reserved bytes fit behind it.
func (s *Spool) makeRoom(n, reserved int64) error {
	for !s.fits(n, reserved) {
		if err := s.extend(); err != nil {
			if errors.Is(err, store.ErrFull) {
				s.refused++
			}
			return err
		}
	}
	return nil
}

// fits says whether, once a frame of n bytes is written, frames of reserved bytes together fit behind it in any order and split.
//
// A frame never spans segments. When one does not fit, the rest of its segment is lost: at most maxFrame-1 bytes. So a segment
// that is followed by another is sure to take all but that much of its room, and the last one takes all of its room.
// AppendReserved keeps this true: it lowers the need by at least what it writes; and where it moves to the next segment, the
// rest that it loses was smaller than a frame and so not counted.
func (s *Spool) fits(n, reserved int64) bool {
	i := s.current
	if s.segments[i].room() < n {
		i++
	}
	if i == len(s.segments) {
		return false
	}
	sure, rest := int64(0), s.segments[i].room()-n
	for _, ahead := range s.segments[i+1:] {
		sure += max(0, rest-(maxFrame-1))
		rest = ahead.room()
	}
	return reserved <= sure+rest
}

// extend allocates one more segment ahead.
func (s *Spool) extend() error {
	if s.kept+s.cfg.SegmentBytes > s.cfg.MaxBytes {
		return fmt.Errorf("spool: %w: bound of %d bytes reached", store.ErrFull, s.cfg.MaxBytes)
	}
	first := s.segments[len(s.segments)-1].next()
	if first > maxOffset {
		return fmt.Errorf("spool: %w: offsets are used up", store.ErrFull)
	}
	g, err := createSegment(s.cfg.Dir, first, s.cfg.SegmentBytes)
	if errors.Is(err, store.ErrBroken) {
		return s.fail(err)
	}
	if err != nil {
		return fmt.Errorf("spool: create segment: %w", err)
	}
	s.segments = append(s.segments, g)
	s.kept += g.size
	return nil
}

// write appends a frame for which there is room.
func (s *Spool) write(frame []byte) (int64, error) {
	g := s.segments[s.current]
	if g.room() < int64(len(frame)) {
		// The old segment is durable before the next one takes a record. So only the last written segment can ever be torn.
		if err := s.datasync(g.file); err != nil {
			return 0, s.fail(fmt.Errorf("sync %s: %w", g.name, err))
		}
		s.synced = g.offset(g.end)
		s.current++
		g = s.segments[s.current]
	}
	if _, err := g.file.WriteAt(frame, g.end); err != nil {
		return 0, s.fail(fmt.Errorf("write %s: %w", g.name, err))
	}
	offset := g.offset(g.end)
	g.end += int64(len(frame))
	return offset, nil
}

// fail stops the spool for ever; the first cause is kept. mu is held.
func (s *Spool) fail(err error) error {
	if s.failed == nil {
		s.failed = fmt.Errorf("spool: %w: %w", store.ErrBroken, err)
	}
	return s.failed
}

// Sync makes all records appended before the call survive a power cut. Callers that wait share one fdatasync.
func (s *Spool) Sync(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	target := s.End()
	s.syncing.Lock()
	defer s.syncing.Unlock()
	s.files.RLock()
	defer s.files.RUnlock()

	s.mu.Lock()
	g := s.segments[s.current]
	end, done, err := g.offset(g.end), s.synced >= target, s.failed
	s.mu.Unlock()
	if err != nil || done {
		return err
	}
	err = s.datasync(g.file)

	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		return s.fail(fmt.Errorf("sync %s: %w", g.name, err))
	}
	s.synced = max(s.synced, end)
	return s.failed
}

// Start is the first offset kept.
func (s *Spool) Start() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.segments[0].first
}

// End is the offset behind the last record. The next record may get a larger offset, where a segment ends.
func (s *Spool) End() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.segments[s.current]
	return g.offset(g.end)
}

// Close syncs and closes. Later calls fail with store.ErrClosed; closing again does nothing.
func (s *Spool) Close() error {
	s.files.Lock()
	defer s.files.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if errors.Is(s.failed, store.ErrClosed) {
		return nil
	}
	var errs []error
	if s.failed == nil {
		if err := s.datasync(s.segments[s.current].file); err != nil {
			errs = append(errs, s.fail(err))
		}
	}
	for _, g := range s.segments {
		errs = append(errs, g.file.Close())
	}
	s.failed = fmt.Errorf("spool: %w", store.ErrClosed)
	return errors.Join(errs...)
}
