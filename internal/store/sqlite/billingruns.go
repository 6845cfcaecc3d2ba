package sqlite

import (
	"context"
	"database/sql"
	"time"

	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/column"
)

const billingRunColumns = `SELECT id, until_at, customer_id, actor, state, due, done, failed, invoices, last_error, created_at, started_at,
	updated_at FROM billing_runs`

func scanBillingRun(row scanner) (b store.BillingRun, err error) {
	err = row.Scan(&b.ID, column.Time(&b.Until), &b.CustomerID, &b.Actor, &b.State, &b.Due, &b.Done, &b.Failed, &b.Invoices, &b.LastError,
		column.Time(&b.CreatedAt), column.Time(&b.StartedAt), column.Time(&b.UpdatedAt))
	return b, err
}

// PutBillingRun implements store.BillingRuns. A taken id is store.ErrExists.
func (r *Records) PutBillingRun(ctx context.Context, b store.BillingRun, a store.Audit) error {
	return r.writeAudited(ctx, "put billing run "+b.ID, a, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO billing_runs (id, until_at, customer_id, actor, state, due, done, failed, invoices, last_error,
			created_at, started_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			b.ID, column.Micros(b.Until), b.CustomerID, b.Actor, string(b.State), b.Due, b.Done, b.Failed, b.Invoices, b.LastError,
			b.CreatedAt.UnixMicro(), column.Micros(b.StartedAt), b.UpdatedAt.UnixMicro())
		return err
	})
}

// SaveBillingRun implements store.BillingRuns. What a run was begun with stays.
func (r *Records) SaveBillingRun(ctx context.Context, b store.BillingRun, failures []store.RunFailure) (saved store.BillingRun, err error) {
	err = r.write(ctx, "save billing run "+b.ID, func(tx *sql.Tx) error {
		if _, err := openRun(ctx, tx, b.ID); err != nil {
			return err
		}
		for _, f := range failures {
			_, err := tx.ExecContext(ctx, `INSERT INTO billing_run_failures (run_id, subscription_id, customer, period_start, period_end, reason)
				VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET period_start = excluded.period_start, period_end = excluded.period_end,
				reason = excluded.reason`,
				b.ID, f.SubscriptionID, f.Customer, f.Period.Start.UnixMicro(), f.Period.End.UnixMicro(), f.Reason)
			if err != nil {
				return err
			}
		}
		_, err := tx.ExecContext(ctx, `UPDATE billing_runs SET state = ?, due = ?, done = ?, invoices = ?, last_error = ?, started_at = ?,
			updated_at = ?, failed = (SELECT count(*) FROM billing_run_failures WHERE run_id = billing_runs.id) WHERE id = ?`,
			string(b.State), b.Due, b.Done, b.Invoices, b.LastError, column.Micros(b.StartedAt), b.UpdatedAt.UnixMicro(), b.ID)
		if err != nil {
			return err
		}
		saved, err = scanBillingRun(tx.QueryRowContext(ctx, billingRunColumns+" WHERE id = ?", b.ID))
		return err
	})
	return saved, err
}

// CancelBillingRun implements store.BillingRuns.
func (r *Records) CancelBillingRun(ctx context.Context, id string, at time.Time, a store.Audit) (b store.BillingRun, err error) {
	err = r.writeAudited(ctx, "cancel billing run "+id, a, func(tx *sql.Tx) error {
		if b, err = openRun(ctx, tx, id); err != nil {
			return err
		}
		b.State, b.UpdatedAt = store.RunCanceled, time.UnixMicro(at.UnixMicro()).UTC()
		_, err = tx.ExecContext(ctx, "UPDATE billing_runs SET state = ?, updated_at = ? WHERE id = ?", string(b.State), at.UnixMicro(), id)
		return err
	})
	return b, err
}

// openRun reads a run that has not ended.
func openRun(ctx context.Context, tx *sql.Tx, id string) (store.BillingRun, error) {
	b, err := scanBillingRun(tx.QueryRowContext(ctx, billingRunColumns+" WHERE id = ?", id))
	if err == nil && b.Ended() {
		err = conflict("it is %s already", b.State)
	}
	return b, err
}

// BillingRun implements store.BillingRuns.
func (r *Records) BillingRun(ctx context.Context, id string) (store.BillingRun, error) {
	b, err := scanBillingRun(r.reader.QueryRowContext(ctx, billingRunColumns+" WHERE id = ?", id))
	return b, r.wrap("billing run "+id, err)
}

// ListBillingRuns implements store.BillingRuns. The query's CustomerID does not matter.
func (r *Records) ListBillingRuns(ctx context.Context, q store.Query) ([]store.BillingRun, error) {
	return page(ctx, r, "list billing runs", q.Limit, scanBillingRun, billingRunColumns+" WHERE (?1 = '' OR id < ?1) ORDER BY id DESC", q.Cursor)
}

// OpenBillingRuns implements store.BillingRuns.
func (r *Records) OpenBillingRuns(ctx context.Context) ([]store.BillingRun, error) {
	all, err := list(ctx, r.reader, scanBillingRun, billingRunColumns+" WHERE state IN ('queued', 'running') ORDER BY id")
	return all, r.wrap("list open billing runs", err)
}

// RunFailures implements store.BillingRuns.
func (r *Records) RunFailures(ctx context.Context, id string, limit int) ([]store.RunFailure, error) {
	return page(ctx, r, "failures of billing run "+id, limit, func(row scanner) (f store.RunFailure, err error) {
		err = row.Scan(&f.SubscriptionID, &f.Customer, column.Time(&f.Period.Start), column.Time(&f.Period.End), &f.Reason)
		return f, err
	}, `SELECT subscription_id, customer, period_start, period_end, reason FROM billing_run_failures WHERE run_id = ?
		ORDER BY customer, subscription_id`, id)
}
