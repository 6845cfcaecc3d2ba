package file

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file/index"
	"github.com/tallystick/tallystick/internal/store/file/record"
)

func revisionKind(k record.Kind) (store.RevisionKind, bool) {
	for _, r := range []store.RevisionKind{store.Amend, store.Void, store.Resolve} {
		if record.RevisionKind(r) == k {
			return r, true
		}
	}
	return 0, false
}

// revisedState is the state after a revision.
func revisedState(was *index.State, kind store.RevisionKind, content meter.Event, resolutions []meter.Resolution) *index.State {
	now := &index.State{Revision: was.Revision, Event: was.Event, Origin: was.Origin, Voided: kind == store.Void}
	if kind != store.Void {
		now.Resolutions = resolutions
	}
	if kind == store.Amend {
		amended(&now.Event, &content)
	}
	return now
}

// changes says whether the two differ in more than their revision.
func changes(was, now *index.State) bool {
	same := was.Voided == now.Voided && was.Uncounted == now.Uncounted && was.Event.Type == now.Event.Type &&
		was.Event.Subject == now.Event.Subject && bytes.Equal(was.Event.Data, now.Event.Data) &&
		slices.EqualFunc(was.Resolutions, now.Resolutions, func(a, b meter.Resolution) bool {
			return a.CustomerID == b.CustomerID && a.Meter == b.Meter && a.CatalogVersion == b.CatalogVersion &&
				a.Value.Equal(b.Value) && a.Distinct == b.Distinct && slices.Equal(a.Dimensions, b.Dimensions)
		})
	return !same
}

// Revise implements store.Journal.
func (j *Journal) Revise(ctx context.Context, r store.Revisions) ([]uint64, error) {
	if err := j.enter(ctx); err != nil {
		return nil, fmt.Errorf("revise: %w", err)
	}
	defer j.leave()
	c, _ := j.pool.Get().(*call)
	defer j.recycle(c)
	results, err := j.prepareRevisions(c, &r)
	if err == nil && len(r.List) > 0 {
		err = j.submit(ctx, c)
	}
	if err != nil {
		return nil, fmt.Errorf("revise: %w", err)
	}
	return results, nil
}

// prepareRevisions checks them and has the call stage them; the results are filled in then.
func (j *Journal) prepareRevisions(c *call, r *store.Revisions) (results []uint64, err error) {
	if err := record.CheckRevisions(r); err != nil {
		return nil, err
	}
	records := make([]record.Record, len(r.List))
	size := 0
	for i := range r.List {
		records[i] = revisionRecord(r, i)
		s := c.encode(&records[i])
		if size += s.to - s.from; s.to-s.from > record.BodyMax || size > record.MaxBatchBytes {
			return nil, invalid("the revisions have more than %d bytes: send them in parts", record.MaxBatchBytes)
		}
		c.buf = c.buf[:0] // the target is not known yet
	}
	results = make([]uint64, len(r.List))
	c.alone = func() (apply func(), err error) {
		return func() { j.index.Apply(j.group) }, j.stageRevisions(c, r.List, records, results)
	}
	return results, nil
}

func revisionRecord(r *store.Revisions, i int) record.Record {
	v := &r.List[i]
	rec := record.Record{
		Kind: record.RevisionKind(v.Kind), ReceivedAt: r.At, Event: meter.Event{Time: time.UnixMicro(0)},
		Reference: &record.Reference{Target: 1 << 63, Reason: r.Reason, Actor: r.Actor},
	}
	if v.Kind != store.Void {
		rec.Resolutions = v.Resolutions
	}
	if v.Kind == store.Amend {
		amended(&rec.Event, &v.Event)
		rec.Digest = rec.Event.Digest()
	}
	return rec
}

// stageRevisions puts those into the frame that change something.
func (j *Journal) stageRevisions(c *call, list []store.Revision, records []record.Record, results []uint64) error {
	command := c.command // on the first that is written
	for i := range list {
		v := &list[i]
		held, ok, err := j.group.Lookup(meter.IdentityOf(v.Source, v.ID))
		if err == nil && !ok {
			err = fmt.Errorf("event %q of %q: %w", v.ID, v.Source, store.ErrNotFound)
		}
		var was *index.State
		if err == nil {
			was, err = j.state(held.Position)
		}
		if err != nil {
			return fmt.Errorf("revision %d: %w", i, err)
		}
		if v.If != store.AnyRevision && v.If != was.Revision {
			return fmt.Errorf("revision %d: event %q of %q was revised at position %d, not %d: read it again: %w", i, v.ID, v.Source,
				was.Revision, v.If, store.ErrConflict)
		}
		now := revisedState(was, v.Kind, v.Event, v.Resolutions)
		if !changes(was, now) {
			results[i] = was.Revision
			continue
		}
		records[i].Reference.Target = held.Position
		records[i].Command, command = command, 0
		c.buf = c.buf[:0]
		j.put(c, c.encode(&records[i]))
		if err := j.group.Revise(held.Position, v.Kind, was, now); err != nil {
			return fmt.Errorf("revision %d: %w", i, err)
		}
		results[i] = j.group.Position()
	}
	return nil
}

// History implements store.Journal.
func (j *Journal) History(ctx context.Context, source, id string) ([]store.Revised, error) {
	if err := j.enter(ctx); err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	defer j.leave()
	all, err := j.history(source, id)
	if err != nil {
		return nil, fmt.Errorf("history of event %q of %q: %w", id, source, err)
	}
	return all, nil
}

func (j *Journal) history(source, id string) ([]store.Revised, error) {
	position, e, err := j.find(source, id)
	if err != nil {
		return nil, err
	}
	l := j.log()
	defer j.giveBack(l)
	first, err := l.read(record.KindEvent, position)
	if err != nil {
		return nil, err
	}
	content := first.Event
	all := []store.Revised{{Position: position, At: first.ReceivedAt, Event: content, Resolutions: first.Resolutions}}
	for _, v := range e.Revisions {
		r, err := l.readRevision(v, position)
		if err != nil {
			return nil, err
		}
		if v.Kind == store.Amend {
			amended(&content, &r.Event)
		}
		all = append(all, store.Revised{
			Kind: v.Kind, Position: v.Position, At: r.ReceivedAt, Actor: r.Reference.Actor, Reason: r.Reference.Reason,
			Event: content, Resolutions: r.Resolutions,
		})
	}
	return all, nil
}
