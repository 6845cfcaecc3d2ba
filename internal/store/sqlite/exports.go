package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/column"
)

const exportColumns = `SELECT id, name, sink, events, entries, paused, created_at, position, entry, moved_at, failures, next_at, last_error,
	failed_at FROM exports`

func scanExport(row scanner) (e store.Export, err error) {
	var position int64
	err = row.Scan(&e.ID, &e.Name, &e.To, &e.Events, &e.Entries, &e.Paused, column.Time(&e.CreatedAt), &position, &e.Entry, column.Time(&e.MovedAt),
		&e.Failures, column.Time(&e.NextAt), &e.LastError, column.Time(&e.FailedAt))
	e.Position = uint64(position)
	return e, err
}

// PutExport implements store.Exports.
func (r *Records) PutExport(ctx context.Context, e store.Export, a store.Audit) error {
	return r.writeAudited(ctx, "put export "+e.Name, a, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO exports (id, name, sink, events, entries, paused, created_at, position, entry, moved_at, failures,
			next_at, last_error, failed_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			e.ID, e.Name, e.To, e.Events, e.Entries, e.Paused, e.CreatedAt.UnixMicro(), int64(e.Position), e.Entry, column.Micros(e.MovedAt), e.Failures,
			column.Micros(e.NextAt), e.LastError, column.Micros(e.FailedAt))
		return err
	})
}

// Export implements store.Exports.
func (r *Records) Export(ctx context.Context, ref string) (store.Export, error) {
	e, err := scanExport(r.reader.QueryRowContext(ctx, exportColumns+" WHERE id = ?1 OR name = ?1", ref))
	return e, r.wrap("export "+ref, err)
}

// ListExports implements store.Exports. The query's CustomerID does not matter.
func (r *Records) ListExports(ctx context.Context, q store.Query) ([]store.Export, error) {
	return page(ctx, r, "list exports", q.Limit, scanExport, exportColumns+" WHERE (?1 = '' OR id < ?1) ORDER BY id DESC", q.Cursor)
}

// PauseExport implements store.Exports.
func (r *Records) PauseExport(ctx context.Context, id string, paused bool, a store.Audit) (e store.Export, err error) {
	err = r.write(ctx, "pause export "+id, func(tx *sql.Tx) (err error) {
		if e, err = scanExport(tx.QueryRowContext(ctx, exportColumns+" WHERE id = ?", id)); err != nil || e.Paused == paused {
			return err
		}
		if e.Paused = paused; !paused {
			e.NextAt = time.Time{}
		}
		if _, err := tx.ExecContext(ctx, "UPDATE exports SET paused = ?, next_at = ? WHERE id = ?", e.Paused, column.Micros(e.NextAt), id); err != nil {
			return err
		}
		return insertAudit(ctx, tx, a)
	})
	if err != nil {
		return store.Export{}, err
	}
	return e, nil
}

// DeleteExport implements store.Exports.
func (r *Records) DeleteExport(ctx context.Context, id string, a store.Audit) error {
	return r.writeAudited(ctx, "delete export "+id, a, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, "DELETE FROM exports WHERE id = ?", id)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n > 0 {
			return err
		}
		return sql.ErrNoRows
	})
}

// MoveExport implements store.Exports.
func (r *Records) MoveExport(ctx context.Context, id string, from, to store.Cursor, at time.Time) error {
	if to.Position < from.Position || to.Entry < from.Entry {
		return fmt.Errorf("records: move export %s: %w: from %d/%d back to %d/%d", id, store.ErrInvalid, from.Position, from.Entry, to.Position, to.Entry)
	}
	return r.write(ctx, "move export "+id, func(tx *sql.Tx) error {
		if err := exportAt(ctx, tx, id, from); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "UPDATE exports SET position = ?, entry = ?, moved_at = ?, failures = 0, next_at = NULL WHERE id = ?",
			int64(to.Position), to.Entry, at.UnixMicro(), id)
		return err
	})
}

// FailExport implements store.Exports.
func (r *Records) FailExport(ctx context.Context, id string, from store.Cursor, f store.ExportFailure) error {
	return r.write(ctx, "fail export "+id, func(tx *sql.Tx) error {
		if err := exportAt(ctx, tx, id, from); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "UPDATE exports SET failures = failures + 1, next_at = ?, last_error = ?, failed_at = ? WHERE id = ?",
			column.Micros(f.NextAt), f.Error, f.At.UnixMicro(), id)
		return err
	})
}

// exportAt is an error unless the export's cursor is where the caller believes it.
func exportAt(ctx context.Context, tx *sql.Tx, id string, from store.Cursor) error {
	e, err := scanExport(tx.QueryRowContext(ctx, exportColumns+" WHERE id = ?", id))
	if err == nil && e.Cursor != from {
		err = conflict("it is at %d/%d, not at %d/%d", e.Position, e.Entry, from.Position, from.Entry)
	}
	return err
}

// EntriesAfter implements store.EntryLog. One connection writes, so numbers and visibility have the same order.
func (r *Records) EntriesAfter(ctx context.Context, after int64, limit int) ([]store.NumberedEntry, error) {
	stored, err := page(ctx, r, "entries after", limit, scanEntry, entryColumns+" WHERE n > ? ORDER BY n", after)
	if err != nil {
		return nil, err
	}
	whole, err := readPostings(ctx, r.reader, stored)
	if err != nil {
		return nil, r.wrap("entries after", err)
	}
	out := make([]store.NumberedEntry, len(whole))
	for i, e := range whole {
		out[i] = store.NumberedEntry{Number: stored[i].n, Entry: e}
	}
	return out, nil
}

// LastEntry implements store.EntryLog.
func (r *Records) LastEntry(ctx context.Context) (n int64, err error) {
	err = r.reader.QueryRowContext(ctx, "SELECT coalesce(max(n), 0) FROM ledger_entries").Scan(&n)
	return n, r.wrap("last entry", err)
}
