package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tallystick/tallystick/internal/store"
)

// Open recovers the spool in a directory, or begins an empty one. What a crash left half written at the end of the log is cut
// (see Recovery); damage anywhere else is store.ErrCorrupt, naming file and byte, and nothing is changed. Records that were
// not synced may be lost in a power cut while later ones were kept, since a disk writes its sectors in any order: where a
// sector is still empty, the records around it were never durable, and all behind it is cut too.
func Open(cfg Config) (*Spool, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("spool: %w", fullOr(err))
	}
	s := &Spool{cfg: cfg, datasync: datasync, synced: -1}
	if err := s.recover(); err != nil {
		for _, g := range s.segments {
			err = errors.Join(err, g.file.Close())
		}
		return nil, err
	}
	return s, nil
}

func (s *Spool) recover() error {
	firsts, err := listSegments(s.cfg.Dir)
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	written := make([]int64, len(firsts)) // file position behind the last byte that is not zero
	damaged := make([]bool, len(firsts))  // a sound record stands behind one that was once whole
	killed := make([]bool, len(firsts))   // it ends with a record that a kill left unfinished
	var content []byte
	for i, first := range firsts {
		if content, err = s.openSegment(first, content); err != nil {
			return err
		}
		s.segments[i].end, written[i] = scan(content)
		damaged[i] = damagedAt(content, s.segments[i].end, written[i])
		killed[i] = unfinished(content, s.segments[i].end, written[i])
		if written[i] > headerBytes {
			s.current = i
		}
	}
	if len(s.segments) == 0 {
		g, err := createSegment(s.cfg.Dir, 0, s.cfg.SegmentBytes)
		if err != nil {
			return fmt.Errorf("spool: create segment: %w", err)
		}
		s.segments, s.kept = []*segment{g}, g.size
		return nil
	}
	for i, g := range s.segments[:s.current] {
		if g.end < written[i] || g.end == headerBytes {
			return corrupt(g, g.end)
		}
	}
	if g := s.segments[s.current]; damaged[s.current] {
		return corrupt(g, g.end)
	}
	s.dropped = s.segments[0].first
	if err := s.cutTail(s.segments[s.current], written[s.current], killed[s.current]); err != nil {
		return err
	}
	// A copy of the files may have lost their room to holes.
	for _, g := range s.segments[s.current:] {
		if err := preallocate(g.file, g.end, g.size); err != nil {
			return fmt.Errorf("spool: allocate %s: %w", g.name, fullOr(err))
		}
	}
	return nil
}

// listSegments removes unfinished segments and lists the first offsets of the others, in order.
func listSegments(dir string) ([]int64, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var firsts []int64
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), suffix+tempSuffix) {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return nil, err
			}
		}
		if first, ok := parseName(e.Name()); ok {
			firsts = append(firsts, first)
		}
	}
	slices.Sort(firsts)
	return firsts, nil
}

// openSegment appends a segment to s.segments once its header and its place are right, and returns its content in buf.
func (s *Spool) openSegment(first int64, buf []byte) ([]byte, error) {
	name := filepath.Join(s.cfg.Dir, segmentName(first))
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	g := &segment{name: name, file: f, end: headerBytes}
	s.segments = append(s.segments, g)
	content, err := readSegment(f, buf)
	if err != nil {
		return nil, fmt.Errorf("spool: read %s: %w", name, err)
	}
	if g.first, g.size, err = decodeHeader(content); err != nil {
		return nil, fmt.Errorf("spool: %s at byte 0: %w", name, err)
	}
	if g.first != first || int64(len(content)) > g.size {
		return nil, fmt.Errorf("spool: %s: %w: name or size does not match its header", name, store.ErrCorrupt)
	}
	if n := len(s.segments); n > 1 && s.segments[n-2].next() != first {
		return nil, fmt.Errorf("spool: %s: %w: the segment before it, at offset %d, is missing", name, store.ErrCorrupt, s.segments[n-2].next())
	}
	s.kept += g.size
	return content, nil
}

// cutTail zeroes what lies between the last sound record and the last written byte. It is durable before new records follow,
// so that no old bytes can come back behind them.
func (s *Spool) cutTail(g *segment, written int64, killed bool) error {
	if written <= g.end {
		return nil
	}
	s.recovery = Recovery{File: g.name, Offset: g.offset(g.end), Bytes: written - g.end, Unfinished: killed}
	if err := writeZeros(g.file, g.end, written); err != nil {
		return fmt.Errorf("spool: cut %s: %w", g.name, err)
	}
	if err := s.datasync(g.file); err != nil {
		return fmt.Errorf("spool: cut %s: %w: %w", g.name, store.ErrBroken, err)
	}
	return nil
}
