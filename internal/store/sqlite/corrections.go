package sqlite

import (
	"context"
	"database/sql"

	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/column"
)

const (
	backfillColumns = `SELECT id, name, reason, state, opened_at, opened_by, changed_at, changed_by, changed_for,
		cursor, events, counted, unmatched, voided FROM backfills`
	aliasColumns = "SELECT id, kind, name, target, created_at, created_by FROM aliases"
)

func scanBackfill(row scanner) (b store.Backfill, err error) {
	err = row.Scan(&b.ID, &b.Name, &b.Reason, &b.State, column.Time(&b.OpenedAt), &b.OpenedBy, column.Time(&b.ChangedAt), &b.ChangedBy, &b.ChangedFor,
		&b.Cursor, &b.Events, &b.Counted, &b.Unmatched, &b.Voided)
	return b, err
}

// PutBackfill implements store.Backfills. It only adds: a taken id is store.ErrExists as well.
func (r *Records) PutBackfill(ctx context.Context, b store.Backfill, mostOpen int, a store.Audit) error {
	return r.writeAudited(ctx, "put backfill "+b.Name, a, func(tx *sql.Tx) error {
		var open int
		if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM backfills WHERE state NOT IN ('closed', 'reverted')").Scan(&open); err != nil {
			return err
		}
		if open >= mostOpen {
			return conflict("%d backfills are open already", open)
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO backfills (id, name, reason, state, opened_at, opened_by, changed_at, changed_by)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
			b.ID, b.Name, b.Reason, b.State, b.OpenedAt.UnixMicro(), b.OpenedBy, b.ChangedAt.UnixMicro(), b.ChangedBy)
		return err
	})
}

// Backfill implements store.Backfills.
func (r *Records) Backfill(ctx context.Context, ref string) (store.Backfill, error) {
	b, err := scanBackfill(r.reader.QueryRowContext(ctx, backfillColumns+" WHERE id = ?1 OR name = ?1 ORDER BY id = ?1 DESC LIMIT 1", ref))
	return b, r.wrap("backfill "+ref, err)
}

// ListBackfills implements store.Backfills.
func (r *Records) ListBackfills(ctx context.Context, q store.Query) ([]store.Backfill, error) {
	return page(ctx, r, "list backfills", q.Limit, scanBackfill, backfillColumns+" WHERE (?1 = '' OR id < ?1) ORDER BY id DESC", q.Cursor)
}

// WorkingBackfills implements store.Backfills.
func (r *Records) WorkingBackfills(ctx context.Context) ([]store.Backfill, error) {
	all, err := list(ctx, r.reader, scanBackfill, backfillColumns+" WHERE state IN ('closing', 'reverting') ORDER BY changed_at, id")
	return all, r.wrap("working backfills", err)
}

// MoveBackfill implements store.Backfills.
func (r *Records) MoveBackfill(ctx context.Context, id string, from, to store.BackfillState, reason string, a store.Audit) (b store.Backfill, err error) {
	err = r.writeAudited(ctx, "move backfill "+id, a, func(tx *sql.Tx) error {
		if b, err = scanBackfill(tx.QueryRowContext(ctx, backfillColumns+" WHERE id = ?", id)); err != nil {
			return err
		}
		if b.State != from {
			return conflict("it is %s, not %s", b.State, from)
		}
		if _, err := tx.ExecContext(ctx, `UPDATE backfills SET state = ?, changed_at = ?, changed_by = ?, changed_for = ?,
			cursor = '', events = 0, counted = 0, unmatched = 0, voided = 0 WHERE id = ?`, to, a.Time.UnixMicro(), a.Actor, reason, id); err != nil {
			return err
		}
		b, err = scanBackfill(tx.QueryRowContext(ctx, backfillColumns+" WHERE id = ?", id))
		return err
	})
	if err != nil {
		return store.Backfill{}, err
	}
	return b, nil
}

// StepBackfill implements store.Backfills.
func (r *Records) StepBackfill(ctx context.Context, b store.Backfill, from store.BackfillState) error {
	return r.write(ctx, "step backfill "+b.ID, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, `UPDATE backfills SET state = ?, cursor = ?, events = ?, counted = ?, unmatched = ?, voided = ?
			WHERE id = ? AND state = ?`, b.State, b.Cursor, b.Events, b.Counted, b.Unmatched, b.Voided, b.ID, from)
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		if err == nil && n == 0 {
			return conflict("it is not there, or not %s any more", from)
		}
		return err
	})
}

func scanAlias(row scanner) (al store.Alias, err error) {
	err = row.Scan(&al.ID, &al.Kind, &al.From, &al.To, column.Time(&al.CreatedAt), &al.CreatedBy)
	return al, err
}

// PutAlias implements store.Aliases. It only adds: a taken id is store.ErrExists as well.
func (r *Records) PutAlias(ctx context.Context, al store.Alias, most int, a store.Audit) error {
	return r.writeAudited(ctx, "put alias "+al.From, a, func(tx *sql.Tx) error {
		var n int
		if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM aliases").Scan(&n); err != nil {
			return err
		}
		if n >= most {
			return conflict("there are %d aliases already", n)
		}
		_, err := tx.ExecContext(ctx, "INSERT INTO aliases (id, kind, name, target, created_at, created_by) VALUES (?, ?, ?, ?, ?, ?)",
			al.ID, al.Kind, al.From, al.To, al.CreatedAt.UnixMicro(), al.CreatedBy)
		return err
	})
}

// DeleteAlias implements store.Aliases.
func (r *Records) DeleteAlias(ctx context.Context, kind store.AliasKind, from string, a store.Audit) (al store.Alias, err error) {
	err = r.writeAudited(ctx, "delete alias "+from, a, func(tx *sql.Tx) error {
		if al, err = scanAlias(tx.QueryRowContext(ctx, aliasColumns+" WHERE kind = ? AND name = ?", kind, from)); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "DELETE FROM aliases WHERE id = ?", al.ID)
		return err
	})
	if err != nil {
		return store.Alias{}, err
	}
	return al, nil
}

// ListAliases implements store.Aliases.
func (r *Records) ListAliases(ctx context.Context, q store.Query) ([]store.Alias, error) {
	return page(ctx, r, "list aliases", q.Limit, scanAlias, aliasColumns+" WHERE (?1 = '' OR id < ?1) ORDER BY id DESC", q.Cursor)
}
