package file

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"

	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file/archive"
	"github.com/tallystick/tallystick/internal/store/file/folder"
	"github.com/tallystick/tallystick/internal/store/file/segment"
)

// sources lists the folder's segments, raw or sealed, after removing what a crash in the middle of sealing left.
func (j *Journal) sources() ([]folder.Source, error) {
	if fs, ok := j.fs.(archive.FS); ok {
		if err := folder.Tidy(fs, j.cfg.Dir); err != nil {
			return nil, err
		}
	}
	return folder.List(j.fs, j.cfg.Dir)
}

// openSegment opens one of them.
func (j *Journal) openSegment(from folder.Source) (*segment.Segment, error) {
	f, _, err := from.Open(j.fs, j.blocks)
	if err != nil {
		return nil, err
	}
	return &segment.Segment{Name: from.Name, Number: from.Number, File: folder.NewHandle(f)}, nil
}

// Compact does one step of what is due: it seals a closed segment, or takes erased payloads out of a sealed one. more says
// that there may be another step. It may run beside everything else, once at a time; a second call returns at once.
// A crash leaves the segment as it was or as it is to be. ErrFull: no room for the new file, try later.
func (j *Journal) Compact(ctx context.Context) (more bool, err error) {
	if err := j.enter(ctx); err != nil {
		return false, fmt.Errorf("compact: %w", err)
	}
	defer j.leave()
	if !j.compacting.TryLock() {
		return false, nil
	}
	defer j.compacting.Unlock()
	more, err = j.compact(ctx)
	if err != nil {
		if segment.IsFull(err) {
			err = errors.Join(err, store.ErrFull)
		}
		return false, fmt.Errorf("compact: %w", err)
	}
	return more, nil
}

func (j *Journal) compact(ctx context.Context) (more bool, err error) {
	fs, ok := j.fs.(archive.FS)
	if !ok {
		return false, invalid("this disk cannot rename files")
	}
	if err := j.failed(); err != nil {
		return false, err
	}
	if err := j.removeRaw(fs); err != nil {
		return false, err
	}
	erasures := j.erasing()
	if j.cfg.Commit == nil && len(erasures) > 0 {
		return false, invalid("%d erasures wait, and this journal was opened without a way to commit to what is erased", len(erasures))
	}
	if err := j.closeFor(ctx, erasures); err != nil {
		return false, err
	}
	all := *j.segments.Load()
	for i, s := range all[:len(all)-1] {
		first, last, done, err := j.extent(all, i)
		if err != nil {
			return false, err
		}
		due := archive.Due(erasures, first, last, done)
		switch {
		case folder.Sealed(s) == nil:
			return true, j.rewrite(ctx, fs, i, due, done)
		case len(due) == 0:
			continue
		}
		touched, err := archive.Touches(ctx, s.Name, s.Number, s.File, due)
		if err != nil {
			return false, err
		}
		if touched {
			return true, j.rewrite(ctx, fs, i, due, done)
		}
		j.clean[s.Number] = due[len(due)-1].Position
		return true, j.settleOrders(ctx)
	}
	return false, j.settleOrders(ctx)
}

// extent is which positions a segment holds, and up to which erasure it is done. A raw one ends where the next begins.
func (j *Journal) extent(all []*segment.Segment, i int) (first, last, done uint64, err error) {
	s := all[i]
	if r := folder.Sealed(s); r != nil {
		in := r.Info()
		return in.First, in.Last, max(in.ErasedTo, j.clean[s.Number]), nil
	}
	if first, err = folder.First(s); err != nil {
		return 0, 0, 0, err
	}
	last = math.MaxUint64
	if i+1 < len(all) {
		if last, err = folder.First(all[i+1]); err != nil {
			return 0, 0, 0, err
		}
		last--
	}
	return first, last, 0, nil
}

// rewrite writes a segment's sealed form, and puts it in the segment's place.
func (j *Journal) rewrite(ctx context.Context, fs archive.FS, i int, due []archive.Erasure, done uint64) error {
	s := (*j.segments.Load())[i]
	h, ok := s.File.(*folder.Handle)
	if !ok {
		return fmt.Errorf("%s cannot be replaced while it is open", s.Name)
	}
	t := archive.Task{FS: fs, Dir: j.cfg.Dir, Number: s.Number, Name: s.Name, From: s.File, ErasedTo: done}
	if len(due) > 0 {
		t.Edit, t.ErasedTo = archive.Erase(due, j.cfg.Commit), due[len(due)-1].Position
	}
	size, err := s.File.Size()
	if err != nil {
		return err
	}
	before := folder.OnDisk(s, size)
	raw := h.Sealed() == nil
	info, err := archive.Write(ctx, t)
	if err != nil {
		return err
	}
	name := archive.Path(j.cfg.Dir, s.Number)
	r, err := archive.Open(j.fs, name, s.Number, j.blocks)
	if err != nil {
		return err
	}
	j.renameSegment(i, name)
	if err := h.Swap(r); err != nil {
		return err
	}
	j.stats.bytes.Add(info.Bytes - before)
	if raw {
		j.leftover = s.Number
		if err := j.removeRaw(fs); err != nil {
			return err
		}
	}
	return j.settleOrders(ctx)
}

// removeRaw removes the raw form of the segment that was sealed last. Until that is done, no order to erase is.
func (j *Journal) removeRaw(fs archive.FS) error {
	if j.leftover == 0 {
		return nil
	}
	if err := fs.Remove(segment.Path(j.cfg.Dir, j.leftover)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := fs.SyncDir(j.cfg.Dir); err != nil {
		return err
	}
	j.leftover = 0
	return nil
}

// renameSegment gives a segment another name for messages; its file is the same handle.
func (j *Journal) renameSegment(i int, name string) {
	for {
		old := j.segments.Load()
		all := slices.Clone(*old)
		all[i] = &segment.Segment{Name: name, Number: all[i].Number, First: all[i].First, File: all[i].File}
		if j.segments.CompareAndSwap(old, &all) {
			return
		}
	}
}

// closeLast begins a new segment when the last one has records and needs says so, so that it can be sealed.
func (j *Journal) closeLast(ctx context.Context, needs func(s *segment.Segment) (bool, error)) error {
	c, _ := j.pool.Get().(*call)
	defer j.recycle(c)
	c.alone = func() (func(), error) {
		all := *j.segments.Load()
		if j.size <= segment.HeaderSize {
			return nil, nil
		}
		needed, err := needs(all[len(all)-1])
		if err != nil || !needed {
			return nil, err
		}
		return nil, j.rotate()
	}
	return j.submit(ctx, c)
}
