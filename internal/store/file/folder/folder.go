// Package folder is a journal's folder: which segments it has, raw or sealed, each open under a handle that can be swapped
// while it is read, and a check of all of it.
package folder

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/store/file/archive"
	"github.com/tallystick/tallystick/internal/store/file/segment"
)

// Source is a segment of a folder, raw or sealed.
type Source struct {
	Number uint32
	Name   string
	Sealed bool
}

// List names the segments of a folder in order, each once: the sealed one where there are both, since it was whole before
// it got its name. They are numbered from 1 without a gap, else store.ErrCorrupt.
func List(fs segment.FS, dir string) ([]Source, error) {
	names, err := fs.List(dir)
	if err != nil {
		return nil, err
	}
	found := map[uint32]Source{}
	for _, name := range names {
		number, suffix, ok := splitName(name)
		if !ok || suffix != ".log" && suffix != ".seg" {
			continue
		}
		if s := found[number]; !s.Sealed {
			found[number] = Source{number, filepath.Join(dir, name), suffix == ".seg"}
		}
	}
	all := make([]Source, 0, len(found))
	for _, s := range found {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b Source) int { return int(int64(a.Number) - int64(b.Number)) })
	for i, s := range all {
		if want := uint32(i) + 1; s.Number != want {
			return nil, segment.Corrupt(segment.Path(dir, want), 0, "this segment is missing, a later one is there")
		}
	}
	return all, nil
}

func splitName(name string) (number uint32, suffix string, ok bool) {
	if len(name) < 9 || name[8] != '.' {
		return 0, "", false
	}
	n, err := strconv.ParseUint(name[:8], 10, 32)
	return uint32(n), name[8:], err == nil
}

// Tidy removes what a crash left: unfinished files, and raw segments whose sealed form is there.
func Tidy(fs archive.FS, dir string) error {
	names, err := fs.List(dir)
	if err != nil {
		return err
	}
	changed := false
	for _, name := range names {
		_, suffix, ok := splitName(name)
		sealed := ok && suffix == ".log" && slices.Contains(names, strings.TrimSuffix(name, ".log")+".seg")
		if ok && suffix == ".seg.tmp" || sealed {
			if err := fs.Remove(filepath.Join(dir, name)); err != nil {
				return fmt.Errorf("remove what a crash left: %w", err)
			}
			changed = true
		}
	}
	if !changed {
		return nil
	}
	return fs.SyncDir(dir)
}

// Open opens a segment, raw or sealed; info is that of a sealed one.
func (s Source) Open(fs segment.FS, cache *archive.Cache) (segment.File, archive.Info, error) {
	if !s.Sealed {
		f, err := fs.Open(s.Name, false)
		return f, archive.Info{}, err
	}
	r, err := archive.Open(fs, s.Name, s.Number, cache)
	if err != nil {
		return nil, archive.Info{}, err
	}
	return r, r.Info(), nil
}

// First reads where the segment begins; 0: its header is damaged, and whoever opens it says so.
func (s Source) First(fs segment.FS, cache *archive.Cache) (first uint64, err error) {
	f, in, err := s.Open(fs, cache)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if s.Sealed {
		return in.First, nil
	}
	head := make([]byte, segment.HeaderSize)
	n, err := f.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	if _, first, err = segment.DecodeHeader(head[:n]); err != nil {
		return 0, nil
	}
	return first, nil
}

// Sealed is the sealed form of a segment; nil while it is raw.
func Sealed(s *segment.Segment) *archive.Reader {
	if h, ok := s.File.(*Handle); ok {
		return h.Sealed()
	}
	return nil
}

// OnDisk is how many bytes a segment takes that has size raw ones.
func OnDisk(s *segment.Segment, size int64) int64 {
	if r := Sealed(s); r != nil {
		return r.Info().Bytes
	}
	return size
}

// Record reads one record by position; ok is false where the segment is raw and has to be walked.
func Record(s *segment.Segment, position uint64, buf []byte) (rec []byte, ok bool, err error) {
	if h, is := s.File.(*Handle); is {
		return h.Record(position, buf)
	}
	return nil, false, nil
}

// Pin holds a segment as it is, for reading it front to back; release it. In a sealed one the offset is that of the record
// from, since an erasure moves records.
func Pin(s *segment.Segment, from uint64, offset int64) (held *segment.Segment, at int64, release func(), err error) {
	h, ok := s.File.(*Handle)
	if !ok {
		return s, offset, func() {}, nil
	}
	f, release := h.Use()
	if r, ok := f.(*archive.Reader); ok {
		if offset, err = r.Offset(from); err != nil {
			release()
			return nil, 0, nil, err
		}
	}
	return &segment.Segment{Name: s.Name, Number: s.Number, File: f}, offset, release, nil
}

// First reads the position that a segment begins at.
func First(s *segment.Segment) (uint64, error) {
	head := make([]byte, segment.HeaderSize)
	if n, err := s.File.ReadAt(head, 0); n < len(head) {
		return 0, fmt.Errorf("read %s: %w", s.Name, err)
	}
	_, first, err := segment.DecodeHeader(head)
	if err != nil {
		return 0, segment.Corrupt(s.Name, 0, err.Error())
	}
	return first, nil
}

// Received reads the first receipt in a segment that has one, in microseconds.
func Received(s *segment.Segment) (at time.Time, err error) {
	_, err = archive.Frames(s.Name, s.Number, s.File, func(_ int64, frame []byte) error {
		if at = archive.Received(frame); !at.IsZero() {
			return errFound
		}
		return nil
	})
	if errors.Is(err, errFound) {
		err = nil
	}
	return at, err
}

var errFound = errors.New("found")
