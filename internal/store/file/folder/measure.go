package folder

import (
	"errors"

	"github.com/tallystick/tallystick/internal/store/file/archive"
	"github.com/tallystick/tallystick/internal/store/file/segment"
)

// Extent is what a segment holds of whole commits.
type Extent struct {
	Bytes  int64  // from the file's beginning; what follows was being written
	Last   uint64 // position of the last record; 0: it has none
	Events int64
}

// Measure reads a segment that a journal may be appending to, and says how far its whole commits go. last: no segment follows,
// so that an unfinished commit may stand at its end. store.ErrCorrupt names file and byte. It is fs.ErrNotExist when the segment
// was sealed meanwhile: list the folder again.
func Measure(fs segment.FS, s Source, last bool) (e Extent, err error) {
	f, info, err := s.Open(fs, archive.NewCache(1<<20))
	if err != nil {
		return e, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if s.Sealed {
		return Extent{Bytes: info.Bytes, Last: info.Last, Events: info.Events}, nil
	}
	size, err := f.Size()
	if err != nil {
		return e, err
	}
	e.Bytes = min(size, segment.HeaderSize)
	var r Report
	_, err = archive.Frames(s.Name, s.Number, fixed{f, size}, func(at int64, frame []byte) error {
		e.Bytes = at + int64(len(frame))
		return r.records(frame)
	})
	e.Last, e.Events = r.Position, r.Events
	if err != nil {
		_, err = tornAt(fixed{f, size}, err, last)
	}
	return e, err
}

// fixed is a file at the size that it had, while it grows.
type fixed struct {
	segment.File
	size int64
}

func (f fixed) Size() (int64, error) { return f.size, nil }
