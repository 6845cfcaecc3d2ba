package postgres

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/column"
)

const recountColumns = `SELECT id, meter, from_at, to_at, dry_run, include_closed, actor, reason, catalog_version, created_at,
	state, updated_at, cursor, done, total, last, seen, read, changed, closed, admitted, unreadable, difference, problem FROM recounts`

func scanRecount(row scanner) (c store.Recount, err error) {
	err = row.Scan(&c.ID, &c.Meter, column.Time(&c.In.Start), column.Time(&c.In.End), &c.DryRun, &c.IncludeClosed, &c.Actor, &c.Reason, &c.CatalogVersion,
		column.Time(&c.CreatedAt), &c.State, column.Time(&c.UpdatedAt), &c.Cursor, &c.Done, &c.Total, &c.Last, &c.Seen, &c.Read, &c.Changed, &c.Closed,
		&c.Admitted, &c.Unreadable, column.Decimal(&c.Difference), &c.Problem)
	return c, err
}

// inRange refuses positions that the table cannot hold.
func inRange(c store.Recount) error {
	if max(c.Done, c.Total, c.Seen) > math.MaxInt64 {
		return fmt.Errorf("records: recount %s: a position is out of range", c.ID)
	}
	return nil
}

// PutRecount implements store.Recounts. A taken id is store.ErrExists as well.
func (r *Records) PutRecount(ctx context.Context, c store.Recount, a store.Audit) error {
	if err := inRange(c); err != nil {
		return err
	}
	return r.writeAudited(ctx, "put recount "+c.ID, lockRecounts, a, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO recounts (id, meter, from_at, to_at, dry_run, include_closed, actor, reason, catalog_version,
			created_at, state, updated_at, cursor, done, total, last, seen, read, changed, closed, admitted, unreadable, difference, problem)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24)`,
			c.ID, c.Meter, column.Micros(c.In.Start), column.Micros(c.In.End), c.DryRun, c.IncludeClosed, c.Actor, c.Reason, c.CatalogVersion,
			c.CreatedAt.UnixMicro(), string(c.State), c.UpdatedAt.UnixMicro(), c.Cursor, int64(c.Done), int64(c.Total), c.Last, int64(c.Seen),
			c.Read, c.Changed, c.Closed, c.Admitted, c.Unreadable, c.Difference.String(), c.Problem)
		return err
	})
}

// SaveRecount implements store.Recounts. What a recount was begun with stays, but for the catalog's version.
func (r *Records) SaveRecount(ctx context.Context, c store.Recount) error {
	if err := inRange(c); err != nil {
		return err
	}
	return r.write(ctx, "save recount "+c.ID, lockRecounts, func(tx pgx.Tx) error {
		if _, err := running(ctx, tx, c.ID); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `UPDATE recounts SET catalog_version = $1, state = $2, updated_at = $3, cursor = $4, done = $5, total = $6,
			last = $7, seen = $8, read = $9, changed = $10, closed = $11, admitted = $12, unreadable = $13, difference = $14, problem = $15 WHERE id = $16`,
			c.CatalogVersion, string(c.State), c.UpdatedAt.UnixMicro(), c.Cursor, int64(c.Done), int64(c.Total), c.Last, int64(c.Seen), c.Read,
			c.Changed, c.Closed, c.Admitted, c.Unreadable, c.Difference.String(), c.Problem, c.ID)
		return err
	})
}

// CancelRecount implements store.Recounts.
func (r *Records) CancelRecount(ctx context.Context, id string, at time.Time, a store.Audit) (c store.Recount, err error) {
	err = r.writeAudited(ctx, "cancel recount "+id, lockRecounts, a, func(tx pgx.Tx) error {
		if c, err = running(ctx, tx, id); err != nil {
			return err
		}
		c.State, c.UpdatedAt = store.RecountCancelled, time.UnixMicro(at.UnixMicro()).UTC()
		_, err = tx.Exec(ctx, "UPDATE recounts SET state = $1, updated_at = $2 WHERE id = $3", string(c.State), at.UnixMicro(), id)
		return err
	})
	return c, err
}

// running reads a recount that has not ended.
func running(ctx context.Context, tx pgx.Tx, id string) (store.Recount, error) {
	c, err := scanRecount(tx.QueryRow(ctx, recountColumns+" WHERE id = $1", id))
	if err == nil && c.State != store.RecountRunning {
		err = conflict("it is %s already", c.State)
	}
	return c, err
}

// Recount implements store.Recounts.
func (r *Records) Recount(ctx context.Context, id string) (store.Recount, error) {
	c, err := scanRecount(r.db.pool.QueryRow(ctx, recountColumns+" WHERE id = $1", id))
	return c, r.wrap("recount "+id, err)
}

// ListRecounts implements store.Recounts. The query's CustomerID does not matter.
func (r *Records) ListRecounts(ctx context.Context, q store.Query) ([]store.Recount, error) {
	return page(ctx, r, "list recounts", q.Limit, scanRecount, recountColumns+" WHERE ($1 = '' OR id < $1) ORDER BY id DESC", q.Cursor)
}

// RunningRecounts implements store.Recounts.
func (r *Records) RunningRecounts(ctx context.Context) ([]store.Recount, error) {
	all, err := list(ctx, r.db.pool, scanRecount, recountColumns+" WHERE state = 'running' ORDER BY id")
	return all, r.wrap("list running recounts", err)
}
