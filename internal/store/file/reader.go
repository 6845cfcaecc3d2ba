package file

import (
	"encoding/binary"
	"fmt"
	"math"
	"sort"

	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file/folder"
	"github.com/tallystick/tallystick/internal/store/file/record"
	"github.com/tallystick/tallystick/internal/store/file/segment"
)

// readerChunk is what a reader takes from the disk at a time: a little more than lies between two places that the index knows.
const readerChunk = 48 << 10

// reader finds records of the log by their position. It keeps its place, so that going on from one record to the next is
// quick. It is for one goroutine at a time.
type reader struct {
	j      *Journal
	seg    *segment.Segment
	window segment.Window
	at     int64  // offset of the record next, or of the header of its frame
	next   uint64 // 0: none
	buf    []byte
	parsed record.Parsed
}

func newReader(j *Journal) *reader { return &reader{j: j, window: segment.Window{Chunk: readerChunk}} }

// log lends a reader; giveBack must follow.
func (j *Journal) log() *reader {
	r, _ := j.logs.Get().(*reader)
	r.seg, r.next = nil, 0 // what it has read may be old
	return r
}

func (j *Journal) giveBack(r *reader) { j.logs.Put(r) }

// segmentOf finds the segment that holds a position.
func (j *Journal) segmentOf(position uint64) (*segment.Segment, error) {
	all := *j.segments.Load()
	i := sort.Search(len(all), func(i int) bool { return all[i].First > position })
	if i == 0 {
		return nil, fmt.Errorf("no segment holds record %d: %w", position, store.ErrCorrupt)
	}
	return all[i-1], nil
}

// find reads and checks the durable record at a position. What it returns is good until the next call.
func (r *reader) find(position uint64) (*record.Parsed, error) {
	s, err := r.j.segmentOf(position)
	if err != nil {
		return nil, err
	}
	body, at, err := r.body(s, position)
	if err != nil {
		r.seg = nil // what it had read may have been a commit at work, or the segment was sealed meanwhile
		if body, at, err = r.body(s, position); err != nil {
			return nil, err
		}
	}
	if err := r.parsed.Parse(body); err != nil {
		return nil, segment.Corrupt(s.Name, at, err.Error())
	}
	if r.parsed.Position() != position {
		return nil, segment.Corrupt(s.Name, at, fmt.Sprintf("expected record %d, found record %d", position, r.parsed.Position()))
	}
	return &r.parsed, nil
}

// body reads a record: from its block where the segment is sealed, else going from a place that is known.
func (r *reader) body(s *segment.Segment, position uint64) (body []byte, at int64, err error) {
	rec, ok, err := folder.Record(s, position, r.buf)
	if err != nil {
		return nil, 0, err
	}
	if !ok {
		return r.walk(s, position)
	}
	r.buf = rec
	return record.Body(rec), 0, nil
}

// walk goes from a place that is known to the record.
func (r *reader) walk(s *segment.Segment, position uint64) (body []byte, at int64, err error) {
	if err := r.start(s, position); err != nil {
		return nil, 0, err
	}
	for {
		head, err := r.bytes(r.at, segment.FrameHeader+record.HeaderSize+record.BodyMin)
		if err != nil {
			return nil, 0, err
		}
		if segment.IsFrame(head) {
			r.at += segment.FrameHeader
			head = head[segment.FrameHeader:]
		}
		if len(head) < record.HeaderSize+record.BodyMin {
			return nil, 0, r.lost(r.at, "a record is missing")
		}
		size := int64(binary.LittleEndian.Uint32(head))
		here := r.at
		found := binary.LittleEndian.Uint64(head[record.HeaderSize+1:])
		if size < record.BodyMin || size > record.BodyMax || found != r.next {
			return nil, 0, r.lost(here, fmt.Sprintf("expected record %d, found something else", r.next))
		}
		r.at += record.HeaderSize + size
		r.next++
		if found < position {
			continue
		}
		rec, err := r.bytes(here, int(record.HeaderSize+size))
		if err != nil {
			return nil, 0, err
		}
		if int64(len(rec)) < record.HeaderSize+size {
			return nil, 0, r.lost(here, "a record is missing")
		}
		if record.Checksum(rec[:4], rec[record.HeaderSize:]) != binary.LittleEndian.Uint32(rec[4:]) {
			return nil, 0, r.lost(here, "the checksum of a record does not match")
		}
		return rec[record.HeaderSize:], here, nil
	}
}

// bytes reads from the segment, which may have grown since.
func (r *reader) bytes(at int64, n int) ([]byte, error) {
	if at+int64(n) > r.window.Size() {
		if err := r.reset(r.seg); err != nil {
			return nil, err
		}
	}
	return r.window.Bytes(at, n)
}

// reset turns the window to a segment. A commit at work is left out: it may be taken back, and another one written in its place.
func (r *reader) reset(s *segment.Segment) error {
	end := int64(math.MaxInt64)
	if d := r.j.durable.Load(); d != nil && d.segment == s.Number {
		end = d.size
	}
	err := r.window.Reset(s.File)
	r.window.Limit(end)
	return err
}

func (r *reader) lost(at int64, what string) error {
	r.next = 0
	return segment.Corrupt(r.seg.Name, at, what)
}

// start goes to the nearest place before a record.
func (r *reader) start(s *segment.Segment, position uint64) error {
	if r.seg == s && r.next == position {
		return nil
	}
	known, offset := s.First, int64(segment.HeaderSize)
	r.j.mu.RLock()
	spot, ok := r.j.index.Spot(position)
	r.j.mu.RUnlock()
	if ok && spot.Segment == s.Number && spot.Position >= s.First {
		known, offset = spot.Position, spot.Offset
	}
	near := r.seg == s && r.next > 0 && r.next <= position && r.next >= known
	if r.seg != s {
		if err := r.reset(s); err != nil {
			return err
		}
	}
	r.seg = s
	if !near {
		r.next, r.at = known, offset
	}
	return nil
}

// read copies one record of the log out.
func (j *Journal) read(kind record.Kind, position uint64) (Record, error) {
	l := j.log()
	defer j.giveBack(l)
	return l.read(kind, position)
}

func (r *reader) read(kind record.Kind, position uint64) (Record, error) {
	p, err := r.find(position)
	if err != nil {
		return Record{}, err
	}
	if p.Kind() != kind {
		return Record{}, fmt.Errorf("expected a record of kind %d at position %d, found kind %d: %w", kind, position, p.Kind(), store.ErrCorrupt)
	}
	rec, err := p.Record(&record.Interner{})
	if err != nil {
		return Record{}, fmt.Errorf("record %d: %w: %w", position, err, store.ErrCorrupt)
	}
	r.j.mask(&rec)
	return rec, nil
}
