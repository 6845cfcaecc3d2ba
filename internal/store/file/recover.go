package file

import (
	"errors"
	"fmt"
	"time"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file/archive"
	"github.com/tallystick/tallystick/internal/store/file/folder"
	"github.com/tallystick/tallystick/internal/store/file/record"
	"github.com/tallystick/tallystick/internal/store/file/segment"
)

// recover reads the segments, rebuilds the index, cuts a torn tail off and makes the rest durable.
func (j *Journal) recover() error {
	if err := j.fs.MkdirAll(j.cfg.Dir); err != nil {
		return err
	}
	sources, err := j.sources()
	if err != nil {
		return err
	}
	rp := &replay{j: j, in: record.NewInterner()}
	for i, from := range sources {
		if err := j.recoverSegment(rp, from, i == len(sources)-1); err != nil {
			return err
		}
	}
	if all := *j.segments.Load(); len(all) == 0 || folder.Sealed(all[len(all)-1]) != nil {
		if err := j.begin(uint32(len(all))+1, rp.position()+1); err != nil {
			return err
		}
	} else if err := j.settle(); err != nil {
		return err
	}
	_, err = j.settleErasures()
	return err
}

// recoverSegment opens and replays one segment.
func (j *Journal) recoverSegment(rp *replay, from folder.Source, last bool) error {
	j.lastFrame = 0
	s, err := j.openSegment(from)
	if err != nil {
		return err
	}
	torn, err := rp.header(s, last)
	if err != nil {
		return errors.Join(err, s.File.Close())
	}
	if torn {
		j.stats.torn.Add(rp.window.Size())
		if err := s.File.Close(); err != nil {
			return err
		}
		return j.begin(s.Number, rp.position()+1)
	}
	j.addSegment(s)
	if j.size, err = rp.replay(s, last); err != nil {
		return err
	}
	j.stats.bytes.Add(folder.OnDisk(s, j.size))
	return nil
}

// header checks that the expected segment follows. torn: the process ended while it made the segment, before anything was
// written to it.
func (rp *replay) header(s *segment.Segment, last bool) (torn bool, err error) {
	if err := rp.window.Reset(s.File); err != nil {
		return false, err
	}
	head, err := rp.window.Bytes(0, segment.HeaderSize)
	if err != nil {
		return false, err
	}
	number, first, err := segment.DecodeHeader(head)
	switch next := rp.position() + 1; {
	case errors.Is(err, segment.ErrHeader) && last && rp.window.Size() <= segment.HeaderSize:
		return true, nil
	case errors.Is(err, segment.ErrHeader):
		return false, segment.Corrupt(s.Name, 0, err.Error())
	case err != nil:
		return false, fmt.Errorf("%s: %w", s.Name, err)
	case number != s.Number || first != next:
		return false, segment.Corrupt(s.Name, 0, fmt.Sprintf("it is segment %d from position %d, expected segment %d from position %d",
			number, first, s.Number, next))
	}
	return false, nil
}

// settle makes the end of the log durable before an event in it is called a duplicate: a process that was killed leaves
// frames that were never synced. The last frame is written once more, since after a failed sync the system may think that
// its pages are on disk when they are not.
func (j *Journal) settle() error {
	all := *j.segments.Load()
	f := all[len(all)-1].File
	if err := f.Truncate(j.size); err != nil {
		return err
	}
	var end segment.Window
	if err := end.Reset(f); err != nil {
		return err
	}
	frame, err := end.Bytes(j.lastFrame, int(j.size-j.lastFrame)) // the header when there is no frame
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(frame, j.lastFrame); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return j.fs.SyncDir(j.cfg.Dir)
}

// replay rebuilds the index from records. Frames are applied some at a time.
type replay struct {
	j           *Journal
	window      segment.Window
	in          *record.Interner
	parsed      record.Parsed
	resolutions []meter.Resolution
	totals      []store.AdmittedTotal
}

// replayBatch is how many events are staged before they are applied.
const replayBatch = 4096

func (rp *replay) position() uint64 { return rp.j.group.Position() }

func (rp *replay) flush() {
	rp.j.index.Apply(rp.j.group)
	rp.j.group.Reset()
}

// replay reads a segment's frames and returns where they end.
func (rp *replay) replay(s *segment.Segment, last bool) (int64, error) {
	at := int64(segment.HeaderSize)
	for at < rp.window.Size() {
		frame, ok, err := rp.window.FrameAt(at)
		if err != nil {
			return 0, err
		}
		if !ok {
			later, found, err := rp.window.NextFrame(at)
			switch {
			case err != nil:
				return 0, err
			case found:
				return 0, segment.Corrupt(s.Name, at, fmt.Sprintf("a damaged commit, before a whole one at byte %d", later))
			case !last:
				return 0, segment.Corrupt(s.Name, at, "a damaged commit in a finished segment")
			}
			rp.j.stats.torn.Add(rp.window.Size() - at)
			break
		}
		if err := rp.frame(s, at, frame); err != nil {
			return 0, err
		}
		rp.j.lastFrame = at
		at += int64(len(frame))
	}
	rp.flush()
	return at, nil
}

func (rp *replay) frame(s *segment.Segment, at int64, frame []byte) error {
	g := rp.j.group
	g.Begin()
	err := record.Split(frame[segment.FrameHeader:], func(offset int, body []byte) error {
		offset += segment.FrameHeader
		err := rp.record(segment.Locate(s.Number, at+int64(offset)), body)
		switch {
		case err == nil:
		case errors.Is(err, store.ErrNewer):
			return fmt.Errorf("%s at byte %d: %w", s.Name, at+int64(offset), err)
		case errors.Is(err, store.ErrCorrupt):
			return err
		default:
			return segment.Corrupt(s.Name, at+int64(offset), err.Error())
		}
		if g.Staged() >= replayBatch {
			rp.flush()
			g.Begin()
		}
		return nil
	})
	if errors.Is(err, record.ErrMalformed) {
		return segment.Corrupt(s.Name, at, err.Error())
	}
	return err
}

func (rp *replay) record(at segment.Location, body []byte) error {
	p, g := &rp.parsed, rp.j.group
	if err := p.Parse(body); err != nil {
		return err
	}
	if p.Position() != g.Position()+1 {
		return fmt.Errorf("%w: record %d follows record %d", record.ErrMalformed, p.Position(), g.Position())
	}
	g.Next()
	switch p.Kind() {
	case record.KindEvent:
		return rp.event(at)
	case record.KindBatch:
		return rp.batch()
	case record.KindMark:
		ordinal, held, _ := g.Lookup(p.Identity())
		if held == nil {
			return fmt.Errorf("%w: a mark without its event", record.ErrMalformed)
		}
		g.Mark(ordinal, p.Flags())
		return nil
	case record.KindCut:
		return rp.cut()
	case record.KindAmend, record.KindVoid, record.KindResolve:
		return rp.revision(at)
	case record.KindSeal:
		return nil // the tree looks at it
	case record.KindErasure:
		if e, ok := archive.FindErasure(body); ok {
			rp.j.changeErasures(func(all []archive.Erasure) []archive.Erasure { return append(all, e) })
		}
		return nil
	case record.KindBackfill:
	}
	return fmt.Errorf("a record of kind %d, which this program does not know: use the program that wrote it: %w", p.Kind(), store.ErrNewer)
}

func (rp *replay) event(at segment.Location) error {
	p, g := &rp.parsed, rp.j.group
	if !inRange(p.Time()) || p.Origin() == 0 {
		return fmt.Errorf("%w: event %d has no time or no origin", record.ErrMalformed, p.Position())
	}
	identity := p.Identity()
	if _, held, _ := g.Lookup(identity); held != nil {
		return fmt.Errorf("%w: event %d has the identity of event %d", record.ErrMalformed, p.Position(), held.Position)
	}
	var err error
	if rp.resolutions, err = p.Resolutions(rp.resolutions[:0], rp.in); err != nil {
		return err
	}
	if p.Flags()&store.Held != 0 && len(rp.resolutions) > 0 {
		return fmt.Errorf("%w: event %d is held and has resolutions", record.ErrMalformed, p.Position())
	}
	return g.Event(identity, p.Digest(), at, &store.Entry{
		Event: meter.Event{Time: time.UnixMicro(p.Time())}, Origin: p.Origin(), Resolutions: rp.resolutions, Flags: p.Flags(), Unit: p.Unit(),
	})
}

func (rp *replay) batch() (err error) {
	if rp.totals, err = rp.parsed.Totals(rp.totals[:0], rp.in); err != nil {
		return err
	}
	node, epoch := rp.parsed.Node()
	_, _ = rp.j.group.Totals(node, epoch, rp.totals) // what is in the log is taken in, however much it is
	return nil
}

// revision replays what changed an event; that must be in the index.
func (rp *replay) revision(at segment.Location) error {
	j, target := rp.j, rp.parsed.Target()
	ordinal, _, ok := j.index.At(target)
	if !ok {
		rp.flushBefore()
		ordinal, _, ok = j.index.At(target)
	}
	if !ok {
		return fmt.Errorf("%w: a revision without its event", record.ErrMalformed)
	}
	r, err := rp.parsed.Record(rp.in)
	if err != nil {
		return err
	}
	if r.Kind == record.KindVoid && len(r.Resolutions) > 0 {
		return fmt.Errorf("%w: a void with resolutions", record.ErrMalformed)
	}
	was, err := j.state(ordinal)
	if err != nil {
		return err
	}
	kind, _ := revisionKind(r.Kind)
	return j.group.Revise(ordinal, kind, at, was, revisedState(was, kind, r.Event, r.Resolutions))
}

// flushBefore applies all that stands before the record at work.
func (rp *replay) flushBefore() {
	rp.j.group.Back()
	rp.flush()
	rp.j.group.Next()
	rp.j.group.Begin()
}

// cut replays a cut: what came before it must be in the index.
func (rp *replay) cut() error {
	j, of, at := rp.j, rp.parsed.Customer(), rp.parsed.Time()
	rp.flushBefore()
	if !inRange(at) || j.index.Apart(of, at) {
		return fmt.Errorf("%w: a cut where buckets are apart already", record.ErrMalformed)
	}
	cut, err := j.index.Split(of, at)
	if err != nil {
		return err
	}
	j.index.Cut(cut, j.group.Position())
	j.group.Reset()
	j.group.Begin()
	return nil
}
