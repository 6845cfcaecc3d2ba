package journal

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file/record"
)

// Revise implements store.Journal.
func (j *Journal) Revise(ctx context.Context, r store.Revisions) ([]uint64, error) {
	if err := j.enter(ctx); err != nil {
		return nil, fmt.Errorf("revise: %w", err)
	}
	defer j.leave()
	if err := record.CheckRevisions(&r); err != nil {
		return nil, fmt.Errorf("revise: %w", err)
	}
	for i := range r.List {
		if err := keepableAll(r.List[i].Resolutions); err != nil {
			return nil, fmt.Errorf("revise: revision %d: %w", i, err)
		}
	}
	if len(r.List) == 0 {
		return []uint64{}, nil
	}
	v := &revision{Revisions: r, results: make([]uint64, len(r.List))}
	size := 0
	for i := range r.List {
		v.records = append(v.records, v.record(i))
		n := len(v.records[i].Append(nil))
		if size += n; n > record.BodyMax || size > record.MaxBatchBytes {
			return nil, fmt.Errorf("revise: %w", invalid("the revisions have more than %d bytes: send them in parts", record.MaxBatchBytes))
		}
	}
	if err := j.submit(ctx, &call{size: size, stage: v.stage, alone: true}); err != nil {
		return nil, wrap("revise", err)
	}
	return v.results, nil
}

// revision is a Revise on its way.
type revision struct {
	store.Revisions
	records []record.Record
	results []uint64
}

func (v *revision) record(i int) record.Record {
	one := &v.List[i]
	rec := record.Record{
		Kind: record.RevisionKind(one.Kind), ReceivedAt: v.At, Event: meter.Event{Time: time.UnixMicro(0)},
		Reference: &record.Reference{Target: 1 << 63, Reason: v.Reason, Actor: v.Actor},
	}
	if one.Kind != store.Void {
		rec.Resolutions = one.Resolutions
	}
	if one.Kind == store.Amend {
		amended(&rec.Event, &one.Event)
		rec.Digest = rec.Event.Digest()
	}
	return rec
}

func (v *revision) stage(ctx context.Context, g *group) error {
	states, err := v.states(ctx, g.tx)
	if err != nil {
		return faulty(err)
	}
	if err := v.look(ctx, g, states); err != nil {
		return faulty(err)
	}
	for i := range v.List {
		one := &v.List[i]
		id := identity(meter.IdentityOf(one.Source, one.ID))
		was := states[id]
		if was == nil {
			return fmt.Errorf("revision %d: event %q of %q: %w", i, one.ID, one.Source, store.ErrNotFound)
		}
		if one.If != store.AnyRevision && one.If != was.Revision {
			return fmt.Errorf("revision %d: event %q of %q was revised at position %d, not %d: read it again: %w", i, one.ID, one.Source,
				was.Revision, one.If, store.ErrConflict)
		}
		now := after(was, one)
		if !differs(was, &now) {
			v.results[i] = was.Revision
			continue
		}
		v.records[i].Reference.Target = was.Position
		now.Revision = g.put(was.Position, v.records[i].Append(nil))
		if err := g.revise(ctx, one.Kind, was, &now); err != nil {
			return fmt.Errorf("revision %d: %w", i, err)
		}
		g.now.revisions[id] = revised{position: now.Revision, unmatched: len(now.Resolutions) == 0 && !now.Voided && !now.Flags.Uncounted()}
		states[id], v.results[i] = &now, now.Revision
	}
	if len(g.now.others) == 0 {
		return errTakenBack
	}
	return nil
}

// states are how the events count now.
func (v *revision) states(ctx context.Context, tx pgx.Tx) (map[identity]*store.Record, error) {
	ids := column(v.List, func(r *store.Revision) identity { return meter.IdentityOf(r.Source, r.ID) })
	found, err := byIdentity(ctx, tx, ids)
	if err != nil {
		return nil, err
	}
	var keys []identity
	var rows []*row
	for id, r := range found {
		keys, rows = append(keys, id), append(rows, r)
	}
	list, err := currents(ctx, tx, rows)
	if err != nil {
		return nil, err
	}
	states := map[identity]*store.Record{}
	for i := range list {
		states[keys[i]] = &list[i]
	}
	return states, nil
}

// look loads the series that the events counted for and will count for.
func (v *revision) look(ctx context.Context, g *group, states map[identity]*store.Record) error {
	n := needs{}
	for i := range v.List {
		if was := states[meter.IdentityOf(v.List[i].Source, v.List[i].ID)]; was != nil {
			at := was.Event.Time.UnixMicro()
			n.resolutions(was.Resolutions, at)
			n.resolutions(v.List[i].Resolutions, at)
		}
	}
	b := &pgx.Batch{}
	g.queueSeries(b, &n)
	return g.tx.SendBatch(ctx, b).Close()
}

// after is the state that follows from a revision.
func after(was *store.Record, v *store.Revision) store.Record {
	now := *was
	now.Flags &^= store.Held | store.Filtered
	now.Voided, now.Resolutions = v.Kind == store.Void, nil
	if !now.Voided {
		now.Resolutions = v.Resolutions
	}
	if v.Kind == store.Amend {
		amended(&now.Event, &v.Event)
	}
	return now
}

// differs says whether the two differ in more than their revision.
func differs(was, now *store.Record) bool {
	same := was.Voided == now.Voided && was.Flags.Uncounted() == now.Flags.Uncounted() && was.Event.Type == now.Event.Type &&
		was.Event.Subject == now.Event.Subject && bytes.Equal(was.Event.Data, now.Event.Data) &&
		slices.EqualFunc(was.Resolutions, now.Resolutions, func(a, b meter.Resolution) bool {
			return a.CatalogVersion == b.CatalogVersion && sameReading(&a, &b)
		})
	return !same
}

// sameReading leaves the catalog version out: it changes no figure.
func sameReading(a, b *meter.Resolution) bool {
	return a.CustomerID == b.CustomerID && a.Meter == b.Meter && a.Value.Equal(b.Value) && a.Distinct == b.Distinct && slices.Equal(a.Dimensions, b.Dimensions)
}

// revise takes what the event counted for and adds what it counts for now; an amendment does so with all of it.
func (g *group) revise(ctx context.Context, kind store.RevisionKind, was, now *store.Record) error {
	c := contribution{cause: now.Revision, event: was.Position, at: was.Event.Time.UnixMicro(), origin: was.Origin, taken: true}
	if err := g.differ(ctx, kind, c, was.Resolutions, now.Resolutions); err != nil {
		return err
	}
	c.taken = false
	return g.differ(ctx, kind, c, now.Resolutions, was.Resolutions)
}

func (g *group) differ(ctx context.Context, kind store.RevisionKind, c contribution, these, others []meter.Resolution) error {
	for i := range these {
		if kind != store.Amend && slices.ContainsFunc(others, func(o meter.Resolution) bool { return sameReading(&these[i], &o) }) {
			continue
		}
		var err error
		if c.traits, err = traitsOf(&these[i]); err != nil {
			return err
		}
		if err := g.contribute(ctx, &these[i], c); err != nil {
			return err
		}
	}
	return nil
}
