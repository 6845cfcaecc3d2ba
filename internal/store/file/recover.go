package file

import (
	"errors"
	"fmt"
	"time"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file/archive"
	"github.com/tallystick/tallystick/internal/store/file/base"
	"github.com/tallystick/tallystick/internal/store/file/folder"
	"github.com/tallystick/tallystick/internal/store/file/record"
	"github.com/tallystick/tallystick/internal/store/file/segment"
)

// recover takes the index up, opens the segments, replays what the index does not hold, cuts a torn tail off and makes the
// rest durable.
func (j *Journal) recover() error {
	if err := j.fs.MkdirAll(j.cfg.Dir); err != nil {
		return err
	}
	if err := j.takeUp(); err != nil {
		return err
	}
	sources, err := j.sources()
	if err != nil {
		return err
	}
	j.group.Reset()
	rp := &replay{j: j, in: record.NewInterner()}
	for i, from := range sources {
		last := i == len(sources)-1
		known := false
		if !last && j.tied.Position > 0 {
			first, err := sources[i+1].First(j.fs, j.blocks)
			if err != nil {
				return err
			}
			known = first > 0 && first <= j.tied.Position+1
		}
		if err := j.recoverSegment(rp, from, last, known); err != nil {
			return err
		}
	}
	all := *j.segments.Load()
	if len(all) == 0 {
		if err := j.checkTied(); err != nil {
			return err
		}
	}
	if len(all) == 0 || folder.Sealed(all[len(all)-1]) != nil {
		if err := j.begin(uint32(len(all))+1, rp.position()+1); err != nil {
			return err
		}
	} else if err := j.settle(); err != nil {
		return err
	}
	_, err = j.settleErasures()
	return err
}

// recoverSegment opens one segment and replays what is not known of it.
func (j *Journal) recoverSegment(rp *replay, from folder.Source, last, known bool) error {
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
		if err := errors.Join(s.File.Close(), j.checkTied()); err != nil {
			return err
		}
		return j.begin(s.Number, rp.position()+1)
	}
	j.addSegment(s)
	if err := j.recoverOrders(s, rp.position()); err != nil {
		return err
	}
	switch {
	case known:
		j.size = rp.window.Size()
	default:
		if err := j.checkTied(); err != nil {
			return err
		}
		begin := int64(segment.HeaderSize)
		if s.First <= rp.position() {
			if begin, err = j.behind(s, rp.position()); err != nil {
				return err
			}
			j.lastFrame = begin // what stands before was synced before it went into the index
		}
		if j.size, err = rp.replay(s, begin, last); err != nil {
			return err
		}
	}
	j.stats.bytes.Add(folder.OnDisk(s, j.size))
	return nil
}

// behind is where the log goes on after the last record that the index holds.
func (j *Journal) behind(s *segment.Segment, position uint64) (at int64, err error) {
	l := newReader(j)
	_, err = l.find(position)
	at = l.at
	if sealed := folder.Sealed(s); sealed != nil && err == nil { // it was not walked to
		at, err = sealed.Offset(position)
		at += int64(len(l.buf))
	}
	if err != nil {
		return 0, fmt.Errorf("index %s holds the journal up to record %d, which cannot be read: %w: %w", indexDir(j.cfg.Dir), position,
			err, base.ErrDamaged)
	}
	return at, nil
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
	case number == s.Number && rp.j.tied.Position > 0 && first < next && rp.follows(first):
	case number != s.Number || first != next:
		return false, segment.Corrupt(s.Name, 0, fmt.Sprintf("it is segment %d from position %d, expected segment %d from position %d",
			number, first, s.Number, next))
	}
	s.First = first
	return false, nil
}

// follows says whether a segment that the index holds at least in part may begin at a position.
func (rp *replay) follows(first uint64) bool {
	all := *rp.j.segments.Load()
	if len(all) == 0 {
		return first == 1
	}
	return first > all[len(all)-1].First
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
	j.durable.Store(&extent{all[len(all)-1].Number, j.size})
	return j.fs.SyncDir(j.cfg.Dir)
}

// replay rebuilds the index from records. Frames are applied some at a time.
type replay struct {
	j           *Journal
	window      segment.Window
	at          int64 // of the record at work
	in          *record.Interner
	parsed      record.Parsed
	resolutions []meter.Resolution
	totals      []store.AdmittedTotal
}

// replayBatch is how many events are staged before they are applied.
const replayBatch = 4096

func (rp *replay) position() uint64 { return rp.j.group.Position() }

func (rp *replay) flush() error {
	g := rp.j.group
	if err := errors.Join(g.Unknown(), g.Close()); err != nil {
		return err
	}
	rp.j.index.Apply(g)
	g.Reset()
	return nil
}

// checkpoint writes one when much was replayed. A frame follows, so that all before it was synced.
func (rp *replay) checkpoint() error {
	if rp.j.index.Size() < rp.j.cfg.Checkpoint {
		return nil
	}
	if err := rp.flush(); err != nil {
		return err
	}
	return rp.j.checkpoint(rp.j.cfg.Checkpoint)
}

// replay reads a segment's frames from an offset on and returns where they end.
func (rp *replay) replay(s *segment.Segment, at int64, last bool) (int64, error) {
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
		if err := rp.checkpoint(); err != nil {
			return 0, err
		}
		if err := rp.frame(s, at, frame); err != nil {
			return 0, err
		}
		rp.j.lastFrame = at
		at += int64(len(frame))
	}
	return at, rp.flush()
}

func (rp *replay) frame(s *segment.Segment, at int64, frame []byte) error {
	g := rp.j.group
	g.Begin()
	err := record.Split(frame[segment.FrameHeader:], func(offset int, body []byte) error {
		offset += segment.FrameHeader
		rp.at = at + int64(offset)
		err := rp.record(s.Number, body)
		switch {
		case err == nil:
		case errors.Is(err, store.ErrNewer):
			return fmt.Errorf("%s at byte %d: %w", s.Name, at+int64(offset), err)
		case errors.Is(err, store.ErrCorrupt), errors.Is(err, base.ErrDamaged):
			return err
		default:
			return segment.Corrupt(s.Name, at+int64(offset), err.Error())
		}
		if g.Staged() >= replayBatch {
			if err := rp.flush(); err != nil {
				return err
			}
			g.Begin()
		}
		return nil
	})
	if errors.Is(err, record.ErrMalformed) {
		return segment.Corrupt(s.Name, at, err.Error())
	}
	return err
}

func (rp *replay) record(number uint32, body []byte) error {
	p, g := &rp.parsed, rp.j.group
	if err := p.Parse(body); err != nil {
		return err
	}
	if p.Position() != g.Position()+1 {
		return fmt.Errorf("%w: record %d follows record %d", record.ErrMalformed, p.Position(), g.Position())
	}
	g.Spot(base.Spot{Position: g.Next(), Segment: number, Offset: rp.at})
	switch p.Kind() {
	case record.KindEvent:
		return rp.event()
	case record.KindBatch:
		return rp.batch()
	case record.KindMark:
		held, ok, err := g.Lookup(p.Identity())
		if err == nil && !ok {
			err = fmt.Errorf("%w: a mark without its event", record.ErrMalformed)
		}
		if err == nil {
			_, err = g.Mark(held.Position, p.Flags())
		}
		return err
	case record.KindCut:
		return rp.cut()
	case record.KindAmend, record.KindVoid, record.KindResolve:
		return rp.revision()
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

func (rp *replay) event() error {
	p, g := &rp.parsed, rp.j.group
	if !record.InRange(p.Time()) || p.Origin() == 0 {
		return fmt.Errorf("%w: event %d has no time or no origin", record.ErrMalformed, p.Position())
	}
	identity := p.Identity()
	if held, ok := g.Recent(identity); ok { // the others are looked up together
		return fmt.Errorf("%w: event %d has the identity of event %d", record.ErrMalformed, p.Position(), held)
	}
	var err error
	if rp.resolutions, err = p.Resolutions(rp.resolutions[:0], rp.in); err != nil {
		return err
	}
	if p.Flags().Uncounted() && len(rp.resolutions) > 0 {
		return fmt.Errorf("%w: event %d is held or filtered and has resolutions", record.ErrMalformed, p.Position())
	}
	return g.Event(identity, p.Digest(), &store.Entry{
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
func (rp *replay) revision() error {
	j, target := rp.j, rp.parsed.Target()
	if target > j.index.Position() {
		if err := rp.flushBefore(); err != nil {
			return err
		}
	}
	if target == 0 || target > j.index.Position() {
		return fmt.Errorf("%w: a revision without its event", record.ErrMalformed)
	}
	r, err := rp.parsed.Record(rp.in)
	if err != nil {
		return err
	}
	if r.Kind == record.KindVoid && len(r.Resolutions) > 0 {
		return fmt.Errorf("%w: a void with resolutions", record.ErrMalformed)
	}
	was, err := j.state(target)
	if err != nil {
		return err
	}
	kind, _ := revisionKind(r.Kind)
	return j.group.Revise(target, kind, was, revisedState(was, kind, r.Event, r.Resolutions))
}

// flushBefore applies all that stands before the record at work.
func (rp *replay) flushBefore() error {
	g := rp.j.group
	g.Back()
	if err := rp.flush(); err != nil {
		return err
	}
	g.Next()
	g.Begin()
	return nil
}

// cut replays a cut: what came before it must be in the index.
func (rp *replay) cut() error {
	j, of, at := rp.j, rp.parsed.Customer(), rp.parsed.Time()
	if err := rp.flushBefore(); err != nil {
		return err
	}
	if !record.InRange(at) || j.index.Apart(of, at) {
		return fmt.Errorf("%w: a cut where buckets are apart already", record.ErrMalformed)
	}
	cut, err := j.group.Split(of, at)
	if err != nil {
		return err
	}
	j.index.Cut(cut, j.group)
	j.group.Reset()
	j.group.Begin()
	return nil
}
