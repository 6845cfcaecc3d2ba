package folder

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file/archive"
	"github.com/tallystick/tallystick/internal/store/file/record"
	"github.com/tallystick/tallystick/internal/store/file/segment"
)

// Rewrite goes through the records of a journal that nobody has open, in order, and writes back those for which edit
// returns true, with all checksums mended. Positions stay as they are. It is for tools, and for tests that play the forger.
// A journal that was not closed cleanly must be opened and closed first. Other segments than those changed are left alone.
func Rewrite(dir string, edit func(*record.Record) bool) error {
	sources, err := List(segment.OS{}, dir)
	if err != nil {
		return fmt.Errorf("rewrite journal: %w", err)
	}
	for _, from := range sources {
		rewrite := rewriteSegment
		if from.Sealed {
			rewrite = rewriteSealed
		}
		if err := rewrite(dir, from.Number, edit); err != nil {
			return fmt.Errorf("rewrite journal: %w", err)
		}
	}
	return nil
}

func rewriteSegment(dir string, number uint32, edit func(*record.Record) bool) error {
	name := segment.Path(dir, number)
	f, err := segment.OS{}.Open(name, false)
	if err != nil {
		return err
	}
	out, changed, err := editSegment(name, f, edit)
	if err := errors.Join(err, f.Close()); err != nil || !changed {
		return err
	}
	return replaceFile(dir, name, out)
}

// rewriteSealed does the same with a sealed segment.
func rewriteSealed(dir string, number uint32, edit func(*record.Record) bool) (err error) {
	name := archive.Path(dir, number)
	r, err := archive.Open(segment.OS{}, name, number, archive.NewCache(0))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	// A segment is read twice while it is written: the edits are made once, by position.
	edited := map[uint64][]byte{}
	if _, err := archive.Frames(name, number, r, func(_ int64, frame []byte) error {
		return record.Split(frame[segment.FrameHeader:], func(_ int, body []byte) error {
			rec, err := record.Decode(body)
			if err != nil {
				return segment.Corrupt(name, 0, err.Error())
			}
			position := rec.Position
			if !edit(&rec) {
				return nil
			}
			rec.Position = position
			if edited[position] = rec.Append(nil)[record.HeaderSize:]; len(edited[position]) > record.BodyMax {
				return fmt.Errorf("%w: record %d has %d bytes after the change", store.ErrInvalid, position, len(edited[position]))
			}
			return nil
		})
	}); err != nil || len(edited) == 0 {
		return err
	}
	_, err = archive.Write(context.Background(), archive.Task{
		FS: segment.OS{}, Dir: dir, Number: number, Name: name, From: r, ErasedTo: r.Info().ErasedTo,
		Edit: func(body []byte) ([]byte, error) { return edited[binary.LittleEndian.Uint64(body[1:])], nil },
	})
	return err
}

func editSegment(name string, f segment.File, edit func(*record.Record) bool) (out []byte, changed bool, err error) {
	var w segment.Window
	if err := w.Reset(f); err != nil {
		return nil, false, err
	}
	head, err := w.Bytes(0, segment.HeaderSize)
	if err != nil {
		return nil, false, err
	}
	if _, _, err := segment.DecodeHeader(head); err != nil {
		return nil, false, fmt.Errorf("%s: %w", name, err)
	}
	out = append(out, head...)
	for at := int64(segment.HeaderSize); at < w.Size(); {
		frame, ok, err := w.FrameAt(at)
		if err != nil {
			return nil, false, err
		}
		if !ok {
			return nil, false, segment.Corrupt(name, at, "a damaged commit, or a torn one: open and close the journal first")
		}
		edited, did, err := editFrame(frame, edit)
		if errors.Is(err, record.ErrMalformed) {
			return nil, false, segment.Corrupt(name, at, err.Error())
		}
		if err != nil {
			return nil, false, fmt.Errorf("%s: %w", name, err)
		}
		out = append(out, edited...)
		changed = changed || did
		at += int64(len(frame))
	}
	return out, changed, nil
}

func editFrame(frame []byte, edit func(*record.Record) bool) (out []byte, changed bool, err error) {
	out = segment.BeginFrame(nil)
	err = record.Split(frame[segment.FrameHeader:], func(offset int, body []byte) error {
		r, err := record.Decode(body)
		if err != nil {
			return err
		}
		position, start := r.Position, len(out)
		if !edit(&r) {
			out = append(out, frame[segment.FrameHeader+offset:][:record.HeaderSize+len(body)]...)
			return nil
		}
		changed = true
		out = r.Append(out)
		if size := len(out) - start; size > record.BodyMax || len(out) > segment.FrameMax {
			return fmt.Errorf("%w: record %d has %d bytes after the change", store.ErrInvalid, position, size)
		}
		record.Seal(out[start:], position)
		return nil
	})
	segment.EndFrame(out)
	return out, changed, err
}

// replaceFile puts content in a file's place so that a crash leaves the old file or the new one.
func replaceFile(dir, name string, content []byte) error {
	temp := name + ".tmp"
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(temp, name); err != nil {
		return err
	}
	return segment.OS{}.SyncDir(dir)
}
