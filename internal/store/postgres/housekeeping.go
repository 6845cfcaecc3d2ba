package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/column"
)

const replayKey = " WHERE actor = $1 AND route = $2 AND key = $3"

func insertAudit(ctx context.Context, tx pgx.Tx, a store.Audit) error {
	_, err := tx.Exec(ctx, "INSERT INTO audits (id, time, actor, action, target, detail) VALUES ($1, $2, $3, $4, $5, $6)",
		a.ID, a.Time.UnixMicro(), a.Actor, a.Action, a.Target, a.Detail)
	return err
}

// PutAudit implements store.Housekeeping. A taken id is store.ErrExists.
func (r *Records) PutAudit(ctx context.Context, a store.Audit) error {
	return r.write(ctx, "put audit", noLock, func(tx pgx.Tx) error { return insertAudit(ctx, tx, a) })
}

// ListAudit implements store.Housekeeping. A CustomerID in the query leaves the entries whose target it is.
func (r *Records) ListAudit(ctx context.Context, q store.Query) ([]store.Audit, error) {
	scan := func(row scanner) (a store.Audit, err error) {
		err = row.Scan(&a.ID, column.Time(&a.Time), &a.Actor, &a.Action, &a.Target, &a.Detail)
		return a, err
	}
	return page(ctx, r, "list audit", q.Limit, scan, `SELECT id, time, actor, action, target, detail FROM audits
		WHERE ($1 = '' OR id < $1) AND ($2 = '' OR target = $2) ORDER BY id DESC`, q.Cursor, q.CustomerID)
}

// BeginReplay implements store.Housekeeping.
func (r *Records) BeginReplay(ctx context.Context, p store.Replay) (*store.Replay, error) {
	var first *store.Replay
	err := r.write(ctx, "begin replay", noLock, func(tx pgx.Tx) error {
		first = nil
		res, err := tx.Exec(ctx, `INSERT INTO replays (actor, route, key, body_digest, status, sealed, created_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING`, p.Actor, p.Route, p.Key, p.BodyDigest[:], p.Status, p.Sealed, p.CreatedAt.UnixMicro())
		if err != nil {
			return err
		}
		if res.RowsAffected() > 0 {
			return nil
		}
		var got store.Replay
		err = tx.QueryRow(ctx, "SELECT actor, route, key, body_digest, status, sealed, created_at FROM replays"+replayKey, p.Actor, p.Route, p.Key).
			Scan(&got.Actor, &got.Route, &got.Key, column.Digest(&got.BodyDigest), &got.Status, &got.Sealed, column.Time(&got.CreatedAt))
		if errors.Is(err, pgx.ErrNoRows) { // the first one was abandoned since
			return errAgain
		}
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
	return r.write(ctx, "finish replay", noLock, func(tx pgx.Tx) error {
		var status int
		if err := tx.QueryRow(ctx, "SELECT status FROM replays"+replayKey+" FOR UPDATE", p.Actor, p.Route, p.Key).Scan(&status); err != nil {
			return err
		}
		if status != 0 {
			return conflict("it is finished already")
		}
		_, err := tx.Exec(ctx, "UPDATE replays SET status = $4, sealed = $5"+replayKey, p.Actor, p.Route, p.Key, p.Status, p.Sealed)
		return err
	})
}

// AbandonReplay implements store.Housekeeping. A finished one stays.
func (r *Records) AbandonReplay(ctx context.Context, p store.Replay) error {
	return r.write(ctx, "abandon replay", noLock, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "DELETE FROM replays"+replayKey+" AND status = 0", p.Actor, p.Route, p.Key)
		return err
	})
}

// PruneReplays implements store.Housekeeping.
func (r *Records) PruneReplays(ctx context.Context, createdBefore time.Time) error {
	return r.write(ctx, "prune replays", noLock, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "DELETE FROM replays WHERE created_at < $1", createdBefore.UnixMicro())
		return err
	})
}

// Setting implements store.Housekeeping.
func (r *Records) Setting(ctx context.Context, name string) (value string, err error) {
	err = r.db.pool.QueryRow(ctx, "SELECT value FROM settings WHERE name = $1", name).Scan(&value)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil
	}
	return value, r.wrap("setting "+name, err)
}

// PutSetting implements store.Housekeeping.
func (r *Records) PutSetting(ctx context.Context, name, value string) error {
	return r.write(ctx, "put setting "+name, noLock, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value", name, value)
		return err
	})
}
