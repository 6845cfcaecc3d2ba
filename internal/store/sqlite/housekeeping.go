package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/column"
)

const replayKey = " WHERE actor = ? AND route = ? AND key = ?"

func insertAudit(ctx context.Context, tx *sql.Tx, a store.Audit) error {
	_, err := tx.ExecContext(ctx, "INSERT INTO audits (id, time, actor, action, target, detail) VALUES (?, ?, ?, ?, ?, ?)",
		a.ID, a.Time.UnixMicro(), a.Actor, a.Action, a.Target, a.Detail)
	return err
}

// PutAudit implements store.Housekeeping. A taken id is store.ErrExists.
func (r *Records) PutAudit(ctx context.Context, a store.Audit) error {
	return r.write(ctx, "put audit", func(tx *sql.Tx) error { return insertAudit(ctx, tx, a) })
}

// ListAudit implements store.Housekeeping. A CustomerID in the query leaves the entries whose target it is.
func (r *Records) ListAudit(ctx context.Context, q store.Query) ([]store.Audit, error) {
	scan := func(row scanner) (a store.Audit, err error) {
		err = row.Scan(&a.ID, column.Time(&a.Time), &a.Actor, &a.Action, &a.Target, &a.Detail)
		return a, err
	}
	return page(ctx, r, "list audit", q.Limit, scan, `SELECT id, time, actor, action, target, detail FROM audits
		WHERE (?1 = '' OR id < ?1) AND (?2 = '' OR target = ?2) ORDER BY id DESC`, q.Cursor, q.CustomerID)
}

// BeginReplay implements store.Housekeeping.
func (r *Records) BeginReplay(ctx context.Context, p store.Replay) (*store.Replay, error) {
	var first *store.Replay
	err := r.write(ctx, "begin replay", func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, `INSERT INTO replays (actor, route, key, body_digest, status, sealed, created_at)
			VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`, p.Actor, p.Route, p.Key, p.BodyDigest[:], p.Status, p.Sealed, p.CreatedAt.UnixMicro())
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n > 0 {
			return err
		}
		var got store.Replay
		err = tx.QueryRowContext(ctx, "SELECT actor, route, key, body_digest, status, sealed, created_at FROM replays"+replayKey, p.Actor, p.Route, p.Key).
			Scan(&got.Actor, &got.Route, &got.Key, column.Digest(&got.BodyDigest), &got.Status, &got.Sealed, column.Time(&got.CreatedAt))
		first = &got
		return err
	})
	if err != nil {
		return nil, err
	}
	return first, nil
}

// FinishReplay implements store.Housekeeping. store.ErrNotFound when it was not begun, store.ErrConflict when it is finished.
func (r *Records) FinishReplay(ctx context.Context, p store.Replay) error {
	if p.Status == 0 {
		return errors.New("records: finish replay: no status given")
	}
	return r.write(ctx, "finish replay", func(tx *sql.Tx) error {
		var status int
		if err := tx.QueryRowContext(ctx, "SELECT status FROM replays"+replayKey, p.Actor, p.Route, p.Key).Scan(&status); err != nil {
			return err
		}
		if status != 0 {
			return conflict("it is finished already")
		}
		_, err := tx.ExecContext(ctx, "UPDATE replays SET status = ?, sealed = ?"+replayKey, p.Status, p.Sealed, p.Actor, p.Route, p.Key)
		return err
	})
}

// AbandonReplay implements store.Housekeeping. A finished one stays.
func (r *Records) AbandonReplay(ctx context.Context, p store.Replay) error {
	return r.write(ctx, "abandon replay", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "DELETE FROM replays"+replayKey+" AND status = 0", p.Actor, p.Route, p.Key)
		return err
	})
}

// PruneReplays implements store.Housekeeping.
func (r *Records) PruneReplays(ctx context.Context, createdBefore time.Time) error {
	return r.write(ctx, "prune replays", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "DELETE FROM replays WHERE created_at < ?", createdBefore.UnixMicro())
		return err
	})
}

// Setting implements store.Housekeeping.
func (r *Records) Setting(ctx context.Context, name string) (value string, err error) {
	err = r.reader.QueryRowContext(ctx, "SELECT value FROM settings WHERE name = ?", name).Scan(&value)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return value, r.wrap("setting "+name, err)
}

// PutSetting implements store.Housekeeping.
func (r *Records) PutSetting(ctx context.Context, name, value string) error {
	return r.write(ctx, "put setting "+name, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO settings (name, value) VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", name, value)
		return err
	})
}
