package spool

import (
	"errors"
	"fmt"
	"os"

	"github.com/tallystick/tallystick/internal/store"
)

// readBytes is how much of a segment Read takes into memory at once.
const readBytes = 64 << 10

// Read calls each for the records from offset on, at least one where there is one, then as many as keep their frames within
// maxBytes together. The payload is valid only inside each. When each fails, next is its record's offset. from must be a
// record's offset, or a next, Start or End; where records were
// truncated from there on it is store.ErrNotFound. each may append and truncate.
func (s *Spool) Read(from int64, maxBytes int, each func(offset int64, payload []byte) error) (next int64, err error) {
	pooled := s.reads.Get()
	buf, ok := pooled.(*[readBytes]byte)
	if !ok {
		buf = new([readBytes]byte)
	}
	defer s.reads.Put(buf)
	for taken := 0; ; {
		at, content, err := s.load(from, buf[:0])
		if err != nil || len(content) == 0 {
			return at, err
		}
		from = at
		for first := true; len(content) > 0; first = false {
			payload := frameAt(content)
			if payload == nil && first {
				return from, s.damaged(from)
			}
			if payload == nil {
				break // cut by the end of buf
			}
			frame := frameHead + len(payload)
			if taken > 0 && taken+frame > maxBytes {
				return from, nil
			}
			if err := each(from, payload); err != nil {
				return from, err
			}
			taken += frame
			from += int64(frame)
			content = content[frame:]
		}
	}
}

// load reads written bytes from an offset on. An offset behind the last record of a full segment moves to the next segment.
func (s *Spool) load(from int64, buf []byte) (at int64, content []byte, err error) {
	s.files.RLock()
	defer s.files.RUnlock()
	g, pos, n, err := s.locate(from)
	if err != nil {
		return from, nil, err
	}
	content = buf[:min(n, int64(cap(buf)))]
	if _, err := g.file.ReadAt(content, pos); err != nil {
		return from, nil, fmt.Errorf("spool: read %s: %w", g.name, err)
	}
	return g.offset(pos), content, nil
}

// locate finds the segment and file position of an offset, and how many bytes are written from there.
func (s *Spool) locate(from int64) (g *segment, pos, n int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil {
		return nil, 0, 0, s.failed
	}
	if from < s.dropped {
		return nil, 0, 0, fmt.Errorf("spool: offset %d: %w: the spool begins at %d", from, store.ErrNotFound, s.segments[0].first)
	}
	for i, g := range s.segments[:s.current+1] {
		if from >= g.next() && i < s.current {
			continue
		}
		pos := headerBytes + max(0, from-g.first)
		if pos >= g.end && i < s.current {
			continue
		}
		if pos <= g.end {
			return g, pos, g.end - pos, nil
		}
	}
	return nil, 0, 0, fmt.Errorf("spool: offset %d: %w: it lies behind the last record", from, store.ErrNotFound)
}

func (s *Spool) damaged(offset int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.segments {
		if offset < g.next() {
			return corrupt(g, offset-g.first+headerBytes)
		}
	}
	return fmt.Errorf("spool: offset %d: %w", offset, store.ErrCorrupt)
}

func corrupt(g *segment, pos int64) error {
	return fmt.Errorf("spool: %s at byte %d (offset %d): %w", g.name, pos, g.offset(pos), store.ErrCorrupt)
}

// Truncate removes whole segments whose last record ends at or before an offset, never the current one.
func (s *Spool) Truncate(before int64) error {
	s.files.Lock()
	defer s.files.Unlock()
	for {
		g, err := s.oldest(before)
		if g == nil {
			return err
		}
		// Oldest first, each durably: a crash must not leave a gap.
		if err := os.Remove(g.name); err != nil {
			return fmt.Errorf("spool: truncate: %w", err)
		}
		if err := errors.Join(s.drop(syncDir(s.cfg.Dir)), g.file.Close()); err != nil {
			return fmt.Errorf("spool: truncate: %w", err)
		}
	}
}

// oldest is the first segment, when it can be removed.
func (s *Spool) oldest(before int64) (*segment, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.segments[0]
	if s.failed != nil || s.current == 0 || g.offset(g.end) > before {
		return nil, s.failed
	}
	return g, nil
}

// drop forgets the oldest segment, whose removal was synced with this result.
func (s *Spool) drop(synced error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept -= s.segments[0].size
	s.dropped = s.segments[0].offset(s.segments[0].end)
	s.segments = append(s.segments[:0], s.segments[1:]...)
	s.current--
	if synced != nil {
		return s.fail(synced)
	}
	return nil
}
