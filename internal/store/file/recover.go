package file

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/store"
)

// recover reads the segments, rebuilds the index, cuts a torn tail off and makes the rest durable.
func (j *Journal) recover() error {
	if err := j.fs.MkdirAll(j.cfg.Dir); err != nil {
		return err
	}
	numbers, err := listSegments(j.fs, j.cfg.Dir)
	if err != nil {
		return err
	}
	rp := &replay{j: j, in: &interner{texts: map[string]string{}, decimals: map[string]money.Decimal{}}}
	for i, number := range numbers {
		if err := j.recoverSegment(rp, number, i == len(numbers)-1); err != nil {
			return err
		}
	}
	if len(*j.segments.Load()) == 0 {
		return j.begin(1, 1)
	}
	return j.settle()
}

// listSegments names the segments in order. They are numbered from 1 without a gap.
func listSegments(fs FS, dir string) ([]uint32, error) {
	names, err := fs.List(dir)
	if err != nil {
		return nil, err
	}
	var numbers []uint32
	for _, name := range names {
		if base, ok := strings.CutSuffix(name, ".log"); ok && len(base) == 8 {
			if n, err := strconv.ParseUint(base, 10, 32); err == nil {
				numbers = append(numbers, uint32(n))
			}
		}
	}
	slices.Sort(numbers)
	for i, n := range numbers {
		if want := uint32(i) + 1; n != want {
			return nil, corrupt(segmentName(dir, want), 0, "this segment is missing, a later one is there")
		}
	}
	return numbers, nil
}

// recoverSegment opens and replays one segment.
func (j *Journal) recoverSegment(rp *replay, number uint32, last bool) error {
	j.lastFrame = 0
	s := &segment{name: segmentName(j.cfg.Dir, number), number: number}
	var err error
	if s.file, err = j.fs.Open(s.name, false); err != nil {
		return err
	}
	torn, err := rp.header(s, last)
	if err != nil {
		return errors.Join(err, s.file.Close())
	}
	if torn {
		j.stats.torn.Add(rp.window.size)
		if err := s.file.Close(); err != nil {
			return err
		}
		return j.begin(number, rp.position()+1)
	}
	j.addSegment(s)
	if j.size, err = rp.segment(s, last); err != nil {
		return err
	}
	j.stats.bytes.Add(j.size)
	return nil
}

// header checks that the expected segment follows. torn: the process ended while it made the segment, before anything was
// written to it.
func (rp *replay) header(s *segment, last bool) (torn bool, err error) {
	size, err := s.file.Size()
	if err != nil {
		return false, err
	}
	rp.window = window{file: s.file, size: size, buf: rp.window.buf[:0]}
	head, err := rp.window.bytes(0, segmentHeader)
	if err != nil {
		return false, err
	}
	number, first, err := decodeSegmentHeader(head)
	switch next := rp.position() + 1; {
	case errors.Is(err, errHeader) && last && size <= segmentHeader:
		return true, nil
	case errors.Is(err, errHeader):
		return false, corrupt(s.name, 0, err.Error())
	case err != nil:
		return false, fmt.Errorf("%s: %w", s.name, err)
	case number != s.number || first != next:
		return false, corrupt(s.name, 0, fmt.Sprintf("it is segment %d from position %d, expected segment %d from position %d",
			number, first, s.number, next))
	}
	return false, nil
}

// settle makes the end of the log durable before an event in it is called a duplicate: a process that was killed leaves
// frames that were never synced. The last frame is written once more, since after a failed sync the system may think that
// its pages are on disk when they are not.
func (j *Journal) settle() error {
	all := *j.segments.Load()
	f := all[len(all)-1].file
	if err := f.Truncate(j.size); err != nil {
		return err
	}
	end := window{file: f, size: j.size}
	frame, err := end.bytes(j.lastFrame, int(j.size-j.lastFrame)) // the header when there is no frame
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
	window      window
	in          *interner
	parsed      parsed
	resolutions []meter.Resolution
}

// replayBatch is how many events are staged before they are applied.
const replayBatch = 4096

func (rp *replay) position() uint64 { return rp.j.group.position }

func (rp *replay) flush() {
	rp.j.index.apply(rp.j.group)
	rp.j.group.reset()
}

// segment replays a segment's frames and returns where they end.
func (rp *replay) segment(s *segment, last bool) (int64, error) {
	at := int64(segmentHeader)
	for at < rp.window.size {
		frame, ok, err := rp.window.frameAt(at)
		if err != nil {
			return 0, err
		}
		if !ok {
			later, found, err := rp.window.nextFrame(at)
			switch {
			case err != nil:
				return 0, err
			case found:
				return 0, corrupt(s.name, at, fmt.Sprintf("a damaged commit, before a whole one at byte %d", later))
			case !last:
				return 0, corrupt(s.name, at, "a damaged commit in a finished segment")
			}
			rp.j.stats.torn.Add(rp.window.size - at)
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

func (rp *replay) frame(s *segment, at int64, frame []byte) error {
	g := rp.j.group
	g.begin()
	return splitRecords(frame[frameHeader:], func(offset int, body []byte) error {
		offset += frameHeader
		err := rp.record(locate(s.number, at+int64(offset)), body)
		switch {
		case err == nil:
		case errors.Is(err, store.ErrNewer):
			return fmt.Errorf("%s at byte %d: %w", s.name, at+int64(offset), err)
		case errors.Is(err, store.ErrCorrupt):
			return err
		default:
			return corrupt(s.name, at+int64(offset), err.Error())
		}
		if len(g.events) >= replayBatch {
			rp.flush()
			g.begin()
		}
		return nil
	})
}

func (rp *replay) record(at location, body []byte) error {
	p, g := &rp.parsed, rp.j.group
	if err := p.parse(body); err != nil {
		return err
	}
	if p.position != g.position+1 {
		return fmt.Errorf("%w: record %d follows record %d", errWire, p.position, g.position)
	}
	g.position++
	switch p.kind {
	case KindEvent:
		return rp.event(at)
	case KindBatch:
		return rp.batch()
	case KindMark:
		ordinal, held, _ := g.lookup(meter.IdentityOf(string(p.buf[headSource]), string(p.buf[headID])))
		if held == nil {
			return fmt.Errorf("%w: a mark without its event", errWire)
		}
		g.mark(ordinal, store.Flags(p.num[headFlags]))
		return nil
	case KindCut:
		return rp.cut()
	case KindAmend, KindVoid, KindBackfill, KindCheckpoint, KindErasure:
	}
	return fmt.Errorf("a record of kind %d, which this program does not know: use the program that wrote it: %w", p.kind, store.ErrNewer)
}

func (rp *replay) event(at location) error {
	p, g := &rp.parsed, rp.j.group
	when, origin := unzigzag(p.num[headTime]), meter.Origin(p.num[headOrigin])
	if !inRange(when) || p.num[headOrigin] > uint64(meter.Reported) || origin == 0 {
		return fmt.Errorf("%w: event %d has no time or no origin", errWire, p.position)
	}
	identity := meter.IdentityOf(string(p.buf[headSource]), string(p.buf[headID]))
	if _, held, _ := g.lookup(identity); held != nil {
		return fmt.Errorf("%w: event %d has the identity of event %d", errWire, p.position, held.position)
	}
	var digest [16]byte
	if d := p.buf[headDigest]; len(d) == len(digest) {
		digest = [16]byte(d)
	}
	rp.resolutions = rp.resolutions[:0]
	for _, b := range p.resolutions {
		r, err := decodeResolution(b, rp.in, false)
		if err != nil {
			return err
		}
		rp.resolutions = append(rp.resolutions, r)
	}
	if err := g.event(identity, digest, p.position, origin, when, rp.resolutions); err != nil {
		return err
	}
	g.events[len(g.events)-1].at = at
	return nil
}

func (rp *replay) batch() error {
	p := &rp.parsed
	of := nodeEpoch{uint16(p.num[headNode]), uint32(p.num[headEpoch])}
	for _, b := range p.totals {
		t, err := decodeTotal(b, rp.in)
		if err != nil {
			return err
		}
		rp.j.group.total(totalKey{store.SeriesKey{CustomerID: t.CustomerID, Meter: t.Meter}, t.PeriodStart, of}, t.Total)
	}
	return nil
}

// cut replays a cut: what came before it must be in the index.
func (rp *replay) cut() error {
	j, of, at := rp.j, string(rp.parsed.buf[headCustomer]), unzigzag(rp.parsed.num[headTime])
	position := j.group.position
	rp.flush()
	if !inRange(at) || j.index.customers[of].boundary(at) {
		return fmt.Errorf("%w: a cut where buckets are apart already", errWire)
	}
	splits, err := j.index.splits(of, at, j.readPart())
	if err != nil {
		return err
	}
	j.index.cut(of, at, splits, position)
	j.group.reset()
	j.group.begin()
	return nil
}
