package archive

import (
	"context"
	"errors"
	"fmt"

	"github.com/klauspost/compress/zstd"

	"github.com/tallystick/tallystick/internal/store/file/record"
	"github.com/tallystick/tallystick/internal/store/file/segment"
)

// Edit may replace a record's body while a segment is written anew: nil leaves it as it is. A body has at most
// record.BodyMax bytes, and keeps kind and position.
type Edit func(body []byte) ([]byte, error)

// Task is one segment to be sealed, or to be written anew with other content.
type Task struct {
	FS       FS
	Dir      string
	Number   uint32
	Name     string       // of the source, for messages
	From     segment.File // raw, or a Reader
	Edit     Edit         // nil: nothing changes
	ErasedTo uint64       // the erasures up to this position are done by Edit
}

// Write makes the sealed file and gives it its name durably. A sealed file that is there is replaced at once; a raw one
// stays and is the caller's to remove. After a crash there is the old file or the new one.
func Write(ctx context.Context, t Task) (Info, error) {
	_, info, err := t.writeAll(ctx)
	if err != nil {
		return info, fmt.Errorf("seal segment %d: %w", t.Number, err)
	}
	return info, nil
}

func (t *Task) writeAll(ctx context.Context) (w *writer, info Info, err error) {
	count := newCounter()
	first, err := t.walk(ctx, func(frame []byte) error {
		return record.Split(frame[segment.FrameHeader:], func(_ int, body []byte) error {
			count.record(body)
			return nil
		})
	})
	if err != nil {
		return nil, info, err
	}
	temp := tempPath(t.Dir, t.Number)
	f, err := t.FS.Open(temp, true)
	if err != nil {
		return nil, info, err
	}
	w = &writer{f: f, next: first, info: Info{Number: t.Number, First: first, ErasedTo: t.ErasedTo, RawBytes: segment.HeaderSize}}
	err = w.begin(count.dictionary())
	if err == nil {
		if _, err = t.walk(ctx, w.frame); err == nil {
			err = w.end()
		}
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, info, errors.Join(err, t.FS.Remove(temp))
	}
	if err := t.FS.Rename(temp, Path(t.Dir, t.Number)); err != nil {
		return nil, info, errors.Join(err, t.FS.Remove(temp))
	}
	return w, w.info, t.FS.SyncDir(t.Dir)
}

// walk reads the source's frames in order, edited.
func (t *Task) walk(ctx context.Context, each func(frame []byte) error) (first uint64, err error) {
	return Frames(t.Name, t.Number, t.From, func(_ int64, frame []byte) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if t.Edit != nil {
			if frame, err = editFrame(frame, t.Edit); err != nil {
				return err
			}
		}
		return each(frame)
	})
}

func editFrame(frame []byte, edit Edit) ([]byte, error) {
	out := segment.BeginFrame(nil)
	err := record.Split(frame[segment.FrameHeader:], func(at int, body []byte) error {
		changed, err := edit(body)
		if err != nil {
			return err
		}
		if changed == nil {
			out = append(out, frame[segment.FrameHeader+at:][:record.HeaderSize+len(body)]...)
			return nil
		}
		out = appendBody(out, changed)
		return nil
	})
	segment.EndFrame(out)
	return out, err
}

// Frames reads the frames of a closed segment in order, with their offsets, and returns the position of its first record.
// Every frame and record is checked; store.ErrCorrupt names file and byte.
func Frames(name string, number uint32, f segment.File, each func(at int64, frame []byte) error) (first uint64, err error) {
	var w segment.Window
	if err := w.Reset(f); err != nil {
		return 0, err
	}
	head, err := w.Bytes(0, segment.HeaderSize)
	if err != nil {
		return 0, err
	}
	n, first, err := segment.DecodeHeader(head)
	switch {
	case errors.Is(err, segment.ErrHeader):
		return 0, segment.Corrupt(name, 0, err.Error())
	case err != nil:
		return 0, fmt.Errorf("%s: %w", name, err)
	case n != number:
		return 0, segment.Corrupt(name, 0, fmt.Sprintf("it is segment %d, expected segment %d", n, number))
	}
	next := first
	var p parsed
	for at := int64(segment.HeaderSize); at < w.Size(); {
		frame, ok, err := w.FrameAt(at)
		if err != nil {
			return 0, err
		}
		if !ok {
			return first, &damage{at, segment.Corrupt(name, at, "a damaged commit in a finished segment")}
		}
		err = record.Split(frame[segment.FrameHeader:], func(_ int, body []byte) error {
			if err := p.parse(body); err != nil {
				return err
			}
			if p.position != next {
				return fmt.Errorf("%w: record %d follows record %d", record.ErrMalformed, p.position, next-1)
			}
			next++
			return nil
		})
		if errors.Is(err, record.ErrMalformed) {
			return first, segment.Corrupt(name, at, err.Error())
		}
		if err == nil {
			err = each(at, frame)
		}
		if err != nil {
			return first, err
		}
		at += int64(len(frame))
	}
	return first, nil
}

// damage is a frame that is not whole; at the end of the last segment it is a commit that was never acknowledged.
type damage struct {
	at int64
	error
}

func (d *damage) Unwrap() error { return d.error }

// Unfinished says that reading frames ended at one that is not whole, as may be at the end of a segment being written to, and
// where.
func Unfinished(err error) (at int64, ok bool) {
	if d, ok := errors.AsType[*damage](err); ok {
		return d.at, true
	}
	return 0, false
}

// writer writes a sealed file.
type writer struct {
	f       segment.File
	at      int64
	pack    *packer
	info    Info
	entries []entry
	next    uint64 // position of the next record
	p       parsed

	raw   []byte // the block being filled
	first uint64 // its first record
}

func (w *writer) put(b []byte) error {
	_, err := w.f.WriteAt(b, w.at)
	w.at += int64(len(b))
	return err
}

func (w *writer) begin(d *dictionary) (err error) {
	if err := w.f.Truncate(0); err != nil {
		return err
	}
	if w.pack, err = newPacker(d); err != nil {
		return err
	}
	w.first = w.next
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false), zstd.WithEncoderLevel(zstd.SpeedBestCompression))
	if err != nil {
		return err
	}
	head := encodeHeader(w.info.Number, w.info.First)
	return w.put(appendChunk(head, enc.EncodeAll(d.encode(), nil)))
}

// frame adds a frame: into one block with others where it fits, else over several.
func (w *writer) frame(frame []byte) error {
	if len(w.raw)+len(frame) > blockTarget {
		if err := w.flush(); err != nil {
			return err
		}
	}
	w.raw = append(w.raw, frame[:segment.FrameHeader]...)
	return record.Split(frame[segment.FrameHeader:], func(at int, body []byte) error {
		if len(w.raw) >= blockTarget {
			if err := w.flush(); err != nil {
				return err
			}
		}
		w.note(body)
		w.next++
		w.raw = append(w.raw, frame[segment.FrameHeader+at:][:record.HeaderSize+len(body)]...)
		return nil
	})
}

// note adds a record to what the segment says of itself.
func (w *writer) note(body []byte) {
	if w.p.parse(body) != nil {
		return
	}
	if received := unzigzag(find(w.p.head, headReceived).num); received > w.info.Received {
		w.info.Received = received
	}
	if find(w.p.head, headErased).num > 0 {
		w.info.Erased++
	}
	if len(w.p.payload) > 0 {
		w.info.Payloads++
	}
	if record.Kind(w.p.kind) != record.KindEvent {
		return
	}
	at := unzigzag(find(w.p.head, headTime).num)
	if w.info.Events == 0 {
		w.info.Earliest, w.info.Latest = at, at
	}
	w.info.Events++
	w.info.Earliest, w.info.Latest = min(w.info.Earliest, at), max(w.info.Latest, at)
}

func (w *writer) flush() error {
	if len(w.raw) == 0 {
		return nil
	}
	w.entries = append(w.entries, entry{w.first, w.info.RawBytes, w.at})
	if err := w.put(appendChunk(nil, w.pack.pack(w.raw, w.first))); err != nil {
		return err
	}
	w.info.RawBytes += int64(len(w.raw))
	w.raw, w.first = w.raw[:0], w.next
	return nil
}

func (w *writer) end() error {
	if err := w.flush(); err != nil {
		return err
	}
	w.info.Last, w.info.EventsTimed = w.next-1, w.info.Events > 0
	if err := w.put(encodeFooter(&w.info, w.entries, w.at)); err != nil {
		return err
	}
	w.info.Bytes = w.at
	return w.f.Sync()
}
