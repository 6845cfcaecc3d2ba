package folder

import (
	"context"
	"errors"
	"fmt"

	"github.com/tallystick/tallystick/internal/store/file/archive"
	"github.com/tallystick/tallystick/internal/store/file/record"
	"github.com/tallystick/tallystick/internal/store/file/segment"
)

// Report is what Check found.
type Report struct {
	Segments int    `json:"segments"`
	Sealed   int    `json:"sealed"`
	Blocks   int    `json:"blocks"`
	Frames   int64  `json:"frames"`
	Records  int64  `json:"records"`
	Events   int64  `json:"events"`
	Erased   int64  `json:"erased"`    // records whose payload was taken out
	RawBytes int64  `json:"raw_bytes"` // of all segments as they were written
	Bytes    int64  `json:"bytes"`     // on disk
	Torn     int64  `json:"torn_bytes"`
	Position uint64 `json:"position"`
}

// Check reads a journal's folder that nobody has open: every segment, block, frame and record, each with its checksum, and
// positions without a gap. store.ErrCorrupt names file and byte. An unfinished commit at the end of the last segment was
// never acknowledged: it is counted in Torn, and is no damage.
func Check(ctx context.Context, fs segment.FS, dir string) (Report, error) {
	var r Report
	sources, err := List(fs, dir)
	if err != nil {
		return r, err
	}
	cache := archive.NewCache(4 << 20)
	for i, s := range sources {
		if err := r.source(ctx, fs, s, cache, i == len(sources)-1); err != nil {
			return r, err
		}
	}
	return r, nil
}

func (r *Report) source(ctx context.Context, fs segment.FS, s Source, cache *archive.Cache, last bool) (err error) {
	f, info, err := s.Open(fs, cache)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := f.Size()
	if err != nil {
		return err
	}
	bytes := size
	if sealed, ok := f.(*archive.Reader); ok {
		r.Sealed++
		r.Blocks += sealed.Blocks()
		bytes = info.Bytes
	}
	before := *r
	first, err := archive.Frames(s.Name, s.Number, f, func(_ int64, frame []byte) error {
		if r.Frames++; ctx.Err() != nil {
			return ctx.Err()
		}
		return r.records(frame)
	})
	if err != nil {
		torn, err := tornAt(f, err, last)
		if err != nil {
			return err
		}
		r.Torn += size - torn
	}
	if first > 0 && first != before.Position+1 {
		return segment.Corrupt(s.Name, 0, fmt.Sprintf("it begins at position %d, expected %d", first, before.Position+1))
	}
	r.Segments++
	r.RawBytes += size
	r.Bytes += bytes
	if s.Sealed && (info.Last != r.Position || info.Events != r.Events-before.Events || info.Erased != r.Erased-before.Erased) {
		return segment.Corrupt(s.Name, 0, "its list of blocks tells other figures than its records")
	}
	return nil
}

func (r *Report) records(frame []byte) error {
	var p record.Parsed
	return record.Split(frame[segment.FrameHeader:], func(_ int, body []byte) error {
		if err := p.Parse(body); err != nil {
			return err
		}
		r.Records++
		r.Position = p.Position()
		if p.Kind() == record.KindEvent {
			r.Events++
		}
		if p.Commitment() != nil {
			r.Erased++
		}
		return nil
	})
}

// tornAt says where an unfinished commit begins; any other fault comes back.
func tornAt(f segment.File, err error, last bool) (int64, error) {
	if !last {
		return 0, err
	}
	var w segment.Window
	if fault := w.Reset(f); fault != nil {
		return 0, fault
	}
	at, ok := archive.Unfinished(err)
	if !ok {
		if w.Size() <= segment.HeaderSize { // a segment that was never used
			return 0, nil
		}
		return 0, err
	}
	later, found, fault := w.NextFrame(at)
	if fault != nil {
		return 0, fault
	}
	if found {
		return 0, fmt.Errorf("before a whole commit at byte %d: %w", later, err)
	}
	return at, nil
}
