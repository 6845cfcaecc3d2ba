package file

import (
	"fmt"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file/folder"
	"github.com/tallystick/tallystick/internal/store/file/index"
	"github.com/tallystick/tallystick/internal/store/file/record"
	"github.com/tallystick/tallystick/internal/store/file/segment"
)

// read fetches and checks one record of the log.
func (j *Journal) read(at segment.Location, kind record.Kind, position uint64) (Record, error) {
	s := (*j.segments.Load())[at.Segment()-1]
	buf, err := folder.Record(s, position, at.Offset())
	if err != nil {
		return Record{}, err
	}
	var p record.Parsed
	if err := p.Parse(record.Body(buf)); err != nil || p.Kind() != kind || p.Position() != position {
		return Record{}, segment.Corrupt(s.Name, at.Offset(), fmt.Sprintf("expected record %d of kind %d, found another one", position, kind))
	}
	r, err := p.Record(&record.Interner{})
	if err != nil {
		return Record{}, segment.Corrupt(s.Name, at.Offset(), err.Error())
	}
	j.mask(&r)
	return r, nil
}

// readRevision fetches one revision of an event.
func (j *Journal) readRevision(v index.Revision, event uint64) (Record, error) {
	r, err := j.read(v.At, recordKind(v.Kind), v.Position)
	if err != nil {
		return r, err
	}
	if r.Reference == nil || r.Reference.Target != event {
		s := (*j.segments.Load())[v.At.Segment()-1]
		return r, segment.Corrupt(s.Name, v.At.Offset(), fmt.Sprintf("expected a revision of event %d", event))
	}
	return r, nil
}

// current reads an event as it counts now.
func (j *Journal) current(c *index.Candidate) (store.Record, error) {
	first, err := j.read(c.At, record.KindEvent, c.Position)
	if err != nil {
		return store.Record{}, err
	}
	r := store.Record{
		Entry: store.Entry{
			Event: first.Event, Origin: first.Origin, Resolutions: first.Resolutions, Receipt: first.Receipt,
			Flags: first.Flags | c.Flags, KeyID: first.KeyID, Unit: first.Unit,
		},
		Position: first.Position, Digest: first.Digest, ReceivedAt: first.ReceivedAt, Erased: first.Erased > 0,
	}
	if len(c.Revisions) == 0 {
		return r, nil
	}
	newest := c.Revisions[len(c.Revisions)-1]
	r.Revision, r.Voided, r.Resolutions = newest.Position, newest.Kind == store.Void, nil
	r.Flags &^= store.Held
	content := false // the newest amendment has it
	for i := len(c.Revisions) - 1; i >= 0 && !content; i-- {
		v := c.Revisions[i]
		content = v.Kind == store.Amend
		if !content && (v != newest || v.Kind == store.Void) {
			continue
		}
		rev, err := j.readRevision(v, c.Position)
		if err != nil {
			return store.Record{}, err
		}
		if v == newest {
			r.Resolutions = rev.Resolutions
		}
		if content {
			amended(&r.Event, &rev.Event)
			r.Erased = r.Erased || rev.Erased > 0
		}
	}
	return r, nil
}

// amended puts new content into an event.
func amended(e, content *meter.Event) {
	e.Type, e.Subject, e.Data = content.Type, content.Subject, content.Data
}

// state is how an event counts with all that is staged.
func (j *Journal) state(ordinal uint32) (*index.State, error) {
	if s := j.group.State(ordinal); s != nil {
		return s, nil
	}
	c := j.index.Of(ordinal)
	r, err := j.current(&c)
	if err != nil {
		return nil, err
	}
	return &index.State{
		Revision: r.Revision, Voided: r.Voided, Held: r.Flags&store.Held != 0, Event: r.Event, Origin: r.Origin, Resolutions: r.Resolutions,
	}, nil
}
