package file

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file/folder"
	"github.com/tallystick/tallystick/internal/store/file/record"
	"github.com/tallystick/tallystick/internal/store/file/segment"
)

// Seal implements store.Journal.
func (j *Journal) Seal(ctx context.Context, document []byte) (uint64, error) {
	if err := j.enter(ctx); err != nil {
		return 0, fmt.Errorf("seal: %w", err)
	}
	defer j.leave()
	if len(document) == 0 || len(document) > MaxDocument {
		return 0, fmt.Errorf("seal: %w", invalid("a document has 1 to %d bytes", MaxDocument))
	}
	position, err := j.appendRecord(ctx, &record.Record{
		Kind: record.KindSeal, ReceivedAt: time.UnixMicro(0), Event: meter.Event{Time: time.UnixMicro(0)}, Document: document,
	})
	if err != nil {
		return 0, fmt.Errorf("seal: %w", err)
	}
	return position, nil
}

// appendRecord appends a record that the index does not look at, and returns its position after fsync.
func (j *Journal) appendRecord(ctx context.Context, r *record.Record) (position uint64, err error) {
	c, _ := j.pool.Get().(*call)
	defer j.recycle(c)
	rec := c.encode(r)
	c.alone = func() (func(), error) {
		j.put(c, rec)
		position = j.group.Position()
		return func() { j.index.Pass(position) }, nil
	}
	err = j.submit(ctx, c)
	return position, err
}

// Leaves implements store.Journal.
func (j *Journal) Leaves(ctx context.Context, from uint64, limit int, each func(store.Leaf) error) (uint64, error) {
	if err := j.enter(ctx); err != nil {
		return from, fmt.Errorf("leaves: %w", err)
	}
	defer j.leave()
	if from == 0 || limit <= 0 {
		return from, fmt.Errorf("leaves: %w", invalid("positions count from 1, and a limit is needed"))
	}
	next, err := j.leaves(ctx, from, limit, each)
	if err != nil {
		return next, fmt.Errorf("leaves: %w", err)
	}
	return next, nil
}

func (j *Journal) leaves(ctx context.Context, from uint64, limit int, each func(store.Leaf) error) (next uint64, err error) {
	j.mu.RLock()
	last := j.index.Position()
	near, ok := j.index.Before(from)
	j.mu.RUnlock()
	if !ok {
		near.At = segment.Locate(1, segment.HeaderSize)
	}
	all := *j.segments.Load()
	next = from
	at := near.At.Offset()
	for number := near.At.Segment(); limit > 0 && next <= last; number++ {
		if int(number) > len(all) {
			return next, fmt.Errorf("the log ends before record %d: %w", next, store.ErrCorrupt)
		}
		w := &walk{mask: j.maskLeaf}
		release, err := w.open(all[number-1], next, &at)
		if err != nil {
			return next, err
		}
		defer release()
		for limit > 0 && next <= last {
			if err := ctx.Err(); err != nil {
				return next, err
			}
			body, ok, err := w.record(&at)
			if err != nil {
				return next, err
			}
			if !ok {
				break
			}
			if binary.LittleEndian.Uint64(body[1:]) < next {
				continue
			}
			if err := w.leaf(body, next, at, each); err != nil {
				return next, err
			}
			next++
			limit--
		}
		at = segment.HeaderSize
	}
	return next, nil
}

// walk goes through the records of a segment.
type walk struct {
	s      *segment.Segment
	window segment.Window
	parsed record.Parsed
	mask   func(l *store.Leaf) error
}

// open turns to a segment, at an offset or at a record; release it.
func (w *walk) open(s *segment.Segment, from uint64, at *int64) (release func(), err error) {
	if w.s, *at, release, err = folder.Pin(s, from, *at); err != nil {
		return nil, err
	}
	if err := w.window.Reset(w.s.File); err != nil {
		release()
		return nil, err
	}
	return release, nil
}

// record reads the record at an offset, behind a frame's header if one stands there, and moves on. ok is false at the end of
// the segment.
func (w *walk) record(at *int64) (body []byte, ok bool, err error) {
	head, err := w.window.Bytes(*at, segment.FrameHeader)
	if err != nil {
		return nil, false, err
	}
	if len(head) == segment.FrameHeader && segment.IsFrame(head) {
		*at += segment.FrameHeader
		if head, err = w.window.Bytes(*at, record.HeaderSize); err != nil {
			return nil, false, err
		}
	}
	if len(head) < record.HeaderSize {
		return nil, false, nil
	}
	size := int(binary.LittleEndian.Uint32(head))
	if size < record.BodyMin || size > record.BodyMax {
		return nil, false, segment.Corrupt(w.s.Name, *at, "a record has a bad length")
	}
	rec, err := w.window.Bytes(*at, record.HeaderSize+size)
	if err != nil {
		return nil, false, err
	}
	if len(rec) < record.HeaderSize+size || record.Checksum(rec[:4], rec[record.HeaderSize:]) != binary.LittleEndian.Uint32(rec[4:]) {
		return nil, false, segment.Corrupt(w.s.Name, *at, "the checksum of a record does not match")
	}
	*at += int64(len(rec))
	return rec[record.HeaderSize:], true, nil
}

// leaf hands one record on, which must have the position.
func (w *walk) leaf(body []byte, position uint64, end int64, each func(store.Leaf) error) error {
	p := &w.parsed
	if err := p.Parse(body); err != nil {
		return segment.Corrupt(w.s.Name, end-int64(len(body)), err.Error())
	}
	if p.Position() != position {
		return segment.Corrupt(w.s.Name, end-int64(len(body)), fmt.Sprintf("expected record %d, found record %d", position, p.Position()))
	}
	leaf := store.Leaf{Position: position, Head: p.Head(), Subject: p.Subject(), Commitment: p.Commitment(), Document: p.Document()}
	if payload := p.Payload(); len(payload) > 0 {
		leaf.Payload = payload
	}
	if p.Kind() == record.KindEvent {
		leaf.Source, leaf.ID = p.Names()
	}
	if err := w.mask(&leaf); err != nil {
		return err
	}
	return each(leaf)
}
