package file

import (
	"errors"
	"fmt"
	"slices"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file/base"
	"github.com/tallystick/tallystick/internal/store/file/folder"
	"github.com/tallystick/tallystick/internal/store/file/index"
	"github.com/tallystick/tallystick/internal/store/file/record"
	"github.com/tallystick/tallystick/internal/store/file/segment"
)

// failed is the sticky error after a failed sync: what is on disk is unknown then, and a second sync may lie.
func (j *Journal) failed() error {
	if err := j.broken.Load(); err != nil {
		return *err
	}
	return nil
}

func (j *Journal) breakDown(what string, cause error) error {
	err := fmt.Errorf("%s: %w: %w", what, cause, store.ErrBroken)
	j.broken.CompareAndSwap(nil, &err)
	return err
}

// commit stages the calls of a group, writes and syncs them as one frame, applies them to the index and leaves each its
// outcome. Only the leader runs it.
func (j *Journal) commit(calls []*call) {
	j.commitGroup(calls)
	if err := j.group.Close(); err != nil {
		for _, c := range calls {
			if c.err == nil {
				c.err = err // some of what it read may be wrong
			}
		}
	}
}

func (j *Journal) commitGroup(calls []*call) {
	if err := j.failed(); err != nil {
		for _, c := range calls {
			c.err = err
		}
		return
	}
	j.group.Reset()
	j.placed = j.placed[:0]
	j.frame = segment.BeginFrame(j.frame)
	apply := func() { j.index.Apply(j.group) }
	if err := j.prepareGroup(calls); err != nil {
		for _, c := range calls {
			c.err = err
		}
		return
	}
	if first := calls[0]; first.alone != nil {
		j.group.Begin()
		apply, first.err = first.alone()
		first.decided = verdict(first.err)
		if first.err != nil {
			j.count(first.err)
			return
		}
		first.pending = true
	} else {
		for i, c := range calls {
			c.err = j.stage(c)
			if c.decided = verdict(c.err); !c.decided && c.command > 0 {
				calls = calls[:i] // what follows in the order must not be written before it
				break
			}
		}
	}
	if len(j.frame) == segment.FrameHeader { // nothing new
		return
	}
	if err := j.write(); err != nil {
		for _, c := range calls {
			if c.err == nil && c.pending { // what was durable before stays true
				c.err, c.decided = err, false
				j.count(err)
			}
		}
		return
	}
	j.mu.Lock()
	apply()
	j.mu.Unlock()
	if cap(j.frame) > keepFrame {
		j.frame = nil
	}
}

// prepareGroup looks at once up who holds the identities of a group. It refuses when too much waits for a checkpoint.
func (j *Journal) prepareGroup(calls []*call) error {
	if err := j.stuck.Load(); err != nil && j.index.Size() >= refuseAt*j.cfg.Checkpoint {
		j.stats.full.Add(1)
		return fmt.Errorf("the index cannot be written: %w: %w", *err, store.ErrFull)
	}
	if calls[0].alone != nil { // it looks up for itself
		return nil
	}
	j.ids = j.ids[:0]
	for _, c := range calls {
		for i := range c.entries {
			j.ids = append(j.ids, c.entries[i].identity)
		}
		for i := range c.batch.Marks {
			j.ids = append(j.ids, meter.IdentityOf(c.batch.Marks[i].Source, c.batch.Marks[i].ID))
		}
	}
	return j.group.LookAll(j.ids)
}

// keepFrame is how much room the leader keeps for the next frame.
const keepFrame = 8 << 20

func (j *Journal) count(err error) {
	if errors.Is(err, store.ErrFull) {
		j.stats.full.Add(1)
	}
}

// verdict says whether an error of staging, or none, is what the call comes to wherever it is carried out, rather than a fault
// of this machine.
func verdict(err error) bool {
	for _, is := range []error{store.ErrInvalid, store.ErrNotFound, store.ErrConflict, store.ErrFull, money.ErrOverflow} {
		if errors.Is(err, is) {
			return true
		}
	}
	return err == nil
}

// errConflict takes an atomic batch back that has a conflict in it.
var errConflict = errors.New("a conflict in an atomic batch")

// stage adds a call to the group, or leaves the group as it was.
func (j *Journal) stage(c *call) error {
	g := j.group
	before, length := g.Begin(), len(j.frame)
	err := j.stageBatch(c)
	if err == nil {
		return nil
	}
	g.Rollback(before)
	j.cutFrame(length)
	if errors.Is(err, errConflict) {
		return nil
	}
	j.count(err)
	return err
}

func (j *Journal) stageBatch(c *call) error {
	g := j.group
	head := len(j.frame)
	first := g.Position()
	j.put(c, c.head) // taken back when nothing follows and no total changed
	wrote, err := j.stageEntries(c)
	if err != nil {
		return err
	}
	if c.batch.Atomic && slices.ContainsFunc(c.results, func(r store.Result) bool { return r.Outcome == store.Conflict }) {
		for i := range c.results {
			if c.results[i].Position > first {
				c.results[i].Position = 0 // none of it is written
			}
		}
		return errConflict
	}
	totalled, err := g.Totals(c.batch.Node, c.batch.Epoch, c.batch.Totals)
	if err != nil {
		return err
	}
	marked, err := j.stageMarks(c)
	if err != nil {
		return err
	}
	if wrote || marked || totalled {
		c.pending = true
		return nil
	}
	j.cutFrame(head)
	g.Back()
	return nil
}

func (j *Journal) stageEntries(c *call) (wrote bool, err error) {
	g := j.group
	for i := range c.entries {
		e := &c.entries[i]
		res := &c.results[i]
		res.Digest = e.digest
		held, ok, err := g.Lookup(e.identity)
		if err != nil {
			return false, fmt.Errorf("entry %d: %w", i, err)
		}
		if ok {
			res.Outcome, res.Position, res.Stored = store.Duplicate, held.Position, e.digest
			if held.Fingerprint != base.Fingerprint(e.digest) {
				res.Outcome = store.Conflict
				if res.Stored, err = j.digest(held.Position); err != nil {
					return false, fmt.Errorf("entry %d: %w", i, err)
				}
			}
			c.pending = c.pending || held.Pending
			continue
		}
		entry := &c.batch.Entries[i]
		j.put(c, e.record)
		if err := g.Event(e.identity, e.digest, entry); err != nil {
			return false, fmt.Errorf("entry %d: %w", i, err)
		}
		res.Outcome, res.Position, res.Stored = store.Accepted, g.Position(), e.digest
		if len(entry.Resolutions) == 0 && !entry.Flags.Uncounted() {
			res.Outcome = store.Unmatched
		}
		wrote = true
	}
	return wrote, nil
}

// digest of the content that an event was accepted with.
func (j *Journal) digest(position uint64) ([16]byte, error) {
	if d, ok := j.group.Digest(position); ok {
		return d, nil
	}
	r, err := j.read(record.KindEvent, position)
	return r.Digest, err
}

// cutFrame takes records back.
func (j *Journal) cutFrame(length int) {
	j.frame = j.frame[:length]
	for n := len(j.placed); n > 0 && j.placed[n-1].at >= length; n-- {
		j.placed = j.placed[:n-1]
	}
}

// placed is where a record lies in the frame.
type placed struct {
	position uint64
	at       int
}

// put copies a call's record into the frame under the next position.
func (j *Journal) put(c *call, s span) {
	at := len(j.frame)
	j.frame = append(j.frame, c.buf[s.from:s.to]...)
	record.Seal(j.frame[at:], j.group.Next())
	if n := len(j.placed); n == 0 || at >= j.placed[n-1].at+index.SpotBytes {
		j.placed = append(j.placed, placed{j.group.Position(), at})
	}
}

func (j *Journal) stageMarks(c *call) (changed bool, err error) {
	for i := range c.batch.Marks {
		m := &c.batch.Marks[i]
		held, ok, err := j.group.Lookup(meter.IdentityOf(m.Source, m.ID))
		if err == nil && !ok {
			err = fmt.Errorf("event %q of %q: %w", m.ID, m.Source, store.ErrNotFound)
		}
		marked := false
		if err == nil {
			marked, err = j.group.Mark(held.Position, m.Flags)
		}
		if err != nil {
			return false, fmt.Errorf("mark %d: %w", i, err)
		}
		c.pending = c.pending || held.Pending
		if marked {
			j.put(c, c.marks[i])
			changed = true
		}
	}
	return changed, nil
}

// write appends the frame to the last segment and syncs it. The log ends where it did when it fails with ErrFull.
func (j *Journal) write() error {
	segment.EndFrame(j.frame)
	if j.rotating || j.size > segment.HeaderSize && j.size+int64(len(j.frame)) > j.cfg.SegmentBytes {
		if err := j.rotate(); err != nil {
			return err
		}
	}
	all := *j.segments.Load()
	s := all[len(all)-1]
	if _, err := s.File.WriteAt(j.frame, j.size); err != nil {
		if cut := s.File.Truncate(j.size); cut != nil {
			return j.breakDown("take back a failed write to "+s.Name, fmt.Errorf("%w, after %w", cut, err))
		}
		return j.writeFault("write "+s.Name, err)
	}
	if err := s.File.Sync(); err != nil {
		return j.breakDown("sync "+s.Name, err)
	}
	for _, p := range j.placed {
		j.group.Spot(base.Spot{Position: p.position, Segment: s.Number, Offset: j.size + int64(p.at)})
	}
	j.size += int64(len(j.frame))
	j.durable.Store(&extent{s.Number, j.size})
	j.stats.bytes.Add(int64(len(j.frame)))
	j.stats.groups.Add(1)
	return nil
}

func (j *Journal) writeFault(what string, err error) error {
	if segment.IsFull(err) {
		return fmt.Errorf("%s: %w: %w", what, err, store.ErrFull)
	}
	return j.breakDown(what, err)
}

// rotate begins the next segment. A leftover of an earlier attempt is written over; until that has succeeded nothing more goes to
// the segment before, since only the last file of the folder may be torn.
func (j *Journal) rotate() error {
	j.rotating = true
	err := j.begin(uint32(len(*j.segments.Load()))+1, j.index.Position()+1)
	j.rotating = err != nil
	return err
}

// extent is how much of the last segment is durable, in bytes. The two are told together: a reader that took the size of one
// segment for another's would miss records.
type extent struct {
	segment uint32
	size    int64
}

// begin makes a segment and its name durable before anything is written to it.
func (j *Journal) begin(number uint32, first uint64) error {
	name := segment.Path(j.cfg.Dir, number)
	f, err := j.fs.Open(name, true)
	if err != nil {
		if segment.IsFull(err) {
			return fmt.Errorf("begin a segment: %w: %w", err, store.ErrFull)
		}
		return fmt.Errorf("begin a segment: %w", err) // nothing is lost, the next attempt may work
	}
	if err := j.beginIn(f, name, segment.EncodeHeader(number, first)); err != nil {
		_ = f.Close() // the first error counts
		return err
	}
	j.size = segment.HeaderSize
	j.durable.Store(&extent{number, j.size}) // before anybody sees the segment
	j.addSegment(&segment.Segment{Name: name, Number: number, First: first, File: folder.NewHandle(f)})
	j.stats.bytes.Add(segment.HeaderSize)
	return nil
}

func (j *Journal) beginIn(f File, name string, header []byte) error {
	if err := f.Truncate(0); err != nil {
		return j.writeFault("truncate "+name, err)
	}
	if _, err := f.WriteAt(header, 0); err != nil {
		return j.writeFault("write "+name, err)
	}
	if err := f.Sync(); err != nil {
		return j.breakDown("sync "+name, err)
	}
	if err := j.fs.SyncDir(j.cfg.Dir); err != nil {
		return j.breakDown("sync folder "+j.cfg.Dir, err)
	}
	return nil
}
