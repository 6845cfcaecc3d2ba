package sqlite

import (
	"context"
	"database/sql"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/column"
)

const (
	overrideColumns = "SELECT id, customer_id, key_id, limit_key, value, burst, reason, author, created_at, expires_at, ended_at FROM overrides"
)

func scanOverride(row scanner) (o account.Override, err error) {
	err = row.Scan(&o.ID, &o.CustomerID, &o.KeyID, &o.Limit, &o.Value, &o.Burst, &o.Reason, &o.Author,
		column.Time(&o.CreatedAt), column.Time(&o.ExpiresAt), column.Time(&o.EndedAt))
	return o, err
}

// PutOverride implements store.Allowances.
func (r *Records) PutOverride(ctx context.Context, o account.Override, a store.Audit) error {
	return r.writeAudited(ctx, "put override "+o.ID, a, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO overrides
			(id, customer_id, key_id, limit_key, value, burst, reason, author, created_at, expires_at, ended_at)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			o.ID, o.CustomerID, o.KeyID, o.Limit, o.Value, o.Burst, o.Reason, o.Author, o.CreatedAt.UnixMicro(), column.Micros(o.ExpiresAt), column.Micros(o.EndedAt))
		return err
	})
}

// EndOverride implements store.Allowances. Ending an ended one changes nothing and leaves no audit entry.
func (r *Records) EndOverride(ctx context.Context, id string, at time.Time, a store.Audit) (o account.Override, err error) {
	err = r.write(ctx, "end override "+id, func(tx *sql.Tx) (err error) {
		if o, err = scanOverride(tx.QueryRowContext(ctx, overrideColumns+" WHERE id = ?", id)); err != nil || !o.EndedAt.IsZero() {
			return err
		}
		if _, err := tx.ExecContext(ctx, "UPDATE overrides SET ended_at = ? WHERE id = ?", at.UnixMicro(), id); err != nil {
			return err
		}
		o.EndedAt = time.UnixMicro(at.UnixMicro()).UTC()
		return insertAudit(ctx, tx, a)
	})
	if err != nil {
		return account.Override{}, err
	}
	return o, nil
}

// ListOverrides implements store.Allowances.
func (r *Records) ListOverrides(ctx context.Context, q store.Query) ([]account.Override, error) {
	return page(ctx, r, "list overrides", q.Limit, scanOverride, overrideColumns+pageByCustomer, q.Cursor, q.CustomerID)
}
