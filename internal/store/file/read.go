package file

import (
	"fmt"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file/base"
	"github.com/tallystick/tallystick/internal/store/file/index"
	"github.com/tallystick/tallystick/internal/store/file/record"
)

// readRevision fetches one revision of an event.
func (r *reader) readRevision(v base.Revision, event uint64) (Record, error) {
	rec, err := r.read(record.RevisionKind(v.Kind), v.Position)
	if err == nil && (rec.Reference == nil || rec.Reference.Target != event) {
		err = fmt.Errorf("expected a revision of event %d at position %d: %w", event, v.Position, store.ErrCorrupt)
	}
	return rec, err
}

// current reads an event as it counts now.
func (r *reader) current(position uint64, e *index.Event) (store.Record, error) {
	first, err := r.read(record.KindEvent, position)
	if err != nil {
		return store.Record{}, err
	}
	now := store.Record{
		Entry: store.Entry{
			Event: first.Event, Origin: first.Origin, Resolutions: first.Resolutions, Receipt: first.Receipt,
			Flags: first.Flags | e.Flags, KeyID: first.KeyID, Unit: first.Unit,
		},
		Position: first.Position, Digest: first.Digest, ReceivedAt: first.ReceivedAt, Erased: first.Erased > 0,
	}
	if len(e.Revisions) == 0 {
		return now, nil
	}
	newest := e.Revisions[len(e.Revisions)-1]
	now.Revision, now.Voided, now.Resolutions = newest.Position, newest.Kind == store.Void, nil
	now.Flags &^= store.Held | store.Filtered
	content := false // the newest amendment has it
	for i := len(e.Revisions) - 1; i >= 0 && !content; i-- {
		v := e.Revisions[i]
		content = v.Kind == store.Amend
		if !content && (v != newest || v.Kind == store.Void) {
			continue
		}
		rev, err := r.readRevision(v, position)
		if err != nil {
			return store.Record{}, err
		}
		if v == newest {
			now.Resolutions = rev.Resolutions
		}
		if content {
			amended(&now.Event, &rev.Event)
			now.Erased = now.Erased || rev.Erased > 0
		}
	}
	return now, nil
}

// amended puts new content into an event.
func amended(e, content *meter.Event) {
	e.Type, e.Subject, e.Data = content.Type, content.Subject, content.Data
}

// state is how an event counts with all that is staged.
func (j *Journal) state(event uint64) (*index.State, error) {
	if s := j.group.State(event); s != nil {
		return s, nil
	}
	var e index.Event
	if err := j.view(func(v *index.View) (err error) {
		e, err = v.Event(event)
		return err
	}); err != nil {
		return nil, err
	}
	l := j.log()
	defer j.giveBack(l)
	r, err := l.current(event, &e)
	if err != nil {
		return nil, err
	}
	return &index.State{
		Revision: r.Revision, Voided: r.Voided, Uncounted: r.Flags.Uncounted(), Event: r.Event, Origin: r.Origin, Resolutions: r.Resolutions,
		Revisions: e.Revisions,
	}, nil
}
