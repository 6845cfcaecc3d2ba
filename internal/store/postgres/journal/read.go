package journal

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file/record"
)

// queryer is a transaction or a pool.
type queryer interface {
	Query(ctx context.Context, query string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, query string, args ...any) pgx.Row
}

// row is an event's.
type row struct {
	first    record.Record
	marks    store.Flags
	revision uint64
	bucket   int64 // of a scan of a series
}

// rowColumns are those of an event e.
var rowColumns = fmt.Sprintf(bodyAt, "e.position") + ", e.marks, e.revision" //nolint:gochecknoglobals // a constant

func (r *row) scan(rows pgx.Row, more ...any) error {
	var body []byte
	if err := rows.Scan(append([]any{&body, &r.marks, &r.revision}, more...)...); err != nil {
		return err
	}
	return r.decode(body)
}

func (r *row) decode(body []byte) (err error) {
	if r.first, err = record.Decode(body); err == nil && r.first.Kind != record.KindEvent {
		err = fmt.Errorf("record %d is no event: %w", r.first.Position, store.ErrCorrupt)
	}
	return err
}

// byIdentities are the events e of the identities $1. LATERAL: each is looked up in its partition alone, and by its key, whatever
// the planner knows of the tables.
const byIdentities = "unnest($1::uuid[]) AS w (identity) CROSS JOIN LATERAL (SELECT * FROM journal_events e WHERE e.identity = w.identity LIMIT 1) e"

// byIdentity finds rows of events. One that is not there is nil.
func byIdentity(ctx context.Context, q queryer, ids []identity) (map[identity]*row, error) {
	found := map[identity]*row{}
	rows, err := q.Query(ctx, "SELECT "+rowColumns+", e.identity FROM "+byIdentities, plain(ids))
	return found, rowsOf(rows, err, func(rows pgx.Rows) error {
		r := &row{}
		var id [16]byte
		if err := r.scan(rows, &id); err != nil {
			return err
		}
		found[id] = r
		return nil
	})
}

func plain(ids []identity) [][16]byte { return column(ids, func(id *identity) [16]byte { return *id }) }

// revisionsOf reads the revisions of events, each's oldest first, by the event's position.
func revisionsOf(ctx context.Context, q queryer, events []uint64) (map[uint64][]record.Record, error) {
	all := map[uint64][]record.Record{}
	if len(events) == 0 {
		return all, nil
	}
	positions := column(events, func(p *uint64) int64 { return int64(*p) })
	rows, err := q.Query(ctx, "SELECT "+fmt.Sprintf(bodyAt, "r.position")+" FROM journal_revisions r WHERE r.target = ANY($1) ORDER BY r.target, r.position", positions)
	return all, rowsOf(rows, err, func(rows pgx.Rows) error {
		var body []byte
		if err := rows.Scan(&body); err != nil {
			return err
		}
		r, err := record.Decode(body)
		if err != nil {
			return err
		}
		if r.Reference == nil {
			return fmt.Errorf("record %d refers to no event: %w", r.Position, store.ErrCorrupt)
		}
		all[r.Reference.Target] = append(all[r.Reference.Target], r)
		return nil
	})
}

// current is an event as it counts now.
func (r *row) current(revisions []record.Record) store.Record {
	f := &r.first
	now := store.Record{
		Entry: store.Entry{
			Event: f.Event, Origin: f.Origin, Resolutions: f.Resolutions, Receipt: f.Receipt, Flags: f.Flags | r.marks, KeyID: f.KeyID, Unit: f.Unit,
		},
		Position: f.Position, Digest: f.Digest, ReceivedAt: f.ReceivedAt, Erased: f.Erased > 0,
	}
	if len(revisions) == 0 {
		return now
	}
	now.Flags &^= store.Held | store.Filtered
	for i := range revisions {
		v := &revisions[i]
		if v.Kind == record.KindAmend {
			amended(&now.Event, &v.Event)
			now.Erased = f.Erased > 0 || v.Erased > 0
		}
	}
	newest := &revisions[len(revisions)-1]
	now.Revision, now.Voided, now.Resolutions = newest.Position, newest.Kind == record.KindVoid, newest.Resolutions
	if now.Voided {
		now.Resolutions = nil
	}
	return now
}

// amended puts new content into an event.
func amended(e, content *meter.Event) {
	e.Type, e.Subject, e.Data = content.Type, content.Subject, content.Data
}

// currents are events as they count now, in the order of the rows.
func currents(ctx context.Context, q queryer, rows []*row) ([]store.Record, error) {
	var revised []uint64
	for _, r := range rows {
		if r.revision > 0 {
			revised = append(revised, r.first.Position)
		}
	}
	revisions, err := revisionsOf(ctx, q, revised)
	if err != nil {
		return nil, err
	}
	out := make([]store.Record, len(rows))
	for i, r := range rows {
		out[i] = r.current(revisions[r.first.Position])
	}
	return out, nil
}

// snapshot runs do in one transaction that sees one state of the journal.
func (j *Journal) snapshot(ctx context.Context, do func(tx pgx.Tx) error) error {
	tx, err := j.pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	for range readers { // connections that the server has ended meanwhile
		if ce := (*pgconn.ConnectError)(nil); err == nil || ctx.Err() != nil || errors.As(err, &ce) {
			break
		}
		tx, err = j.pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	}
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // it only reads
	return do(tx)
}

// Event implements store.Journal.
func (j *Journal) Event(ctx context.Context, source, id string) (r store.Record, err error) {
	if err := j.enter(ctx); err != nil {
		return r, fmt.Errorf("event: %w", err)
	}
	defer j.leave()
	err = j.snapshot(ctx, func(tx pgx.Tx) error {
		key := identity(meter.IdentityOf(source, id))
		found, err := byIdentity(ctx, tx, []identity{key})
		if err == nil && found[key] == nil {
			err = store.ErrNotFound
		}
		if err != nil {
			return err
		}
		list, err := currents(ctx, tx, []*row{found[key]})
		if err == nil {
			r = list[0]
		}
		return err
	})
	if err == nil && (r.Event.Source != source || r.Event.ID != id) {
		err = fmt.Errorf("the journal has another event there: %w", store.ErrCorrupt)
	}
	return r, wrap(fmt.Sprintf("event %q of %q", id, source), err)
}

// History implements store.Journal.
func (j *Journal) History(ctx context.Context, source, id string) (all []store.Revised, err error) {
	if err := j.enter(ctx); err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	defer j.leave()
	err = j.snapshot(ctx, func(tx pgx.Tx) error {
		key := identity(meter.IdentityOf(source, id))
		found, err := byIdentity(ctx, tx, []identity{key})
		if err == nil && found[key] == nil {
			err = store.ErrNotFound
		}
		if err != nil {
			return err
		}
		first := &found[key].first
		revisions, err := revisionsOf(ctx, tx, []uint64{first.Position})
		if err != nil {
			return err
		}
		all = historyOf(first, revisions[first.Position])
		return nil
	})
	return all, wrap(fmt.Sprintf("history of event %q of %q", id, source), err)
}

func historyOf(first *record.Record, revisions []record.Record) []store.Revised {
	content := first.Event
	all := []store.Revised{{Position: first.Position, At: first.ReceivedAt, Event: content, Resolutions: first.Resolutions}}
	for i := range revisions {
		r := &revisions[i]
		one := store.Revised{Position: r.Position, At: r.ReceivedAt, Actor: r.Reference.Actor, Reason: r.Reference.Reason, Resolutions: r.Resolutions}
		switch r.Kind { //nolint:exhaustive // only revisions have a target
		case record.KindAmend:
			one.Kind = store.Amend
			amended(&content, &r.Event)
		case record.KindVoid:
			one.Kind = store.Void
		default:
			one.Kind = store.Resolve
		}
		one.Event = content
		all = append(all, one)
	}
	return all
}
