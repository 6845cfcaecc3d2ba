package postgres

import (
	"context"
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/column"
)

const (
	noticeColumns   = "SELECT id, kind, customer_id, once, at, body FROM notices"
	webhookColumns  = "SELECT id, url, kinds, created_at, disabled_at FROM webhooks"
	deliveryColumns = "SELECT notice_id, webhook_id, state, attempts, next_at, last_at, last_error FROM deliveries"
)

func scanNotice(row scanner) (n store.Notice, err error) {
	err = row.Scan(&n.ID, &n.Kind, &n.CustomerID, &n.Once, column.Time(&n.At), &n.Body)
	return n, err
}

func scanWebhook(row scanner) (w store.Webhook, err error) {
	kinds := column.Text(&w.Kinds, func(s string) (list []string, err error) {
		err = json.Unmarshal([]byte(s), &list)
		return list, err
	})
	err = row.Scan(&w.ID, &w.URL, kinds, column.Time(&w.CreatedAt), column.Time(&w.DisabledAt))
	return w, err
}

func scanDelivery(row scanner) (d store.Delivery, err error) {
	err = row.Scan(&d.NoticeID, &d.WebhookID, (*string)(&d.State), &d.Attempts, column.Time(&d.NextAt), column.Time(&d.LastAt), &d.LastError)
	return d, err
}

// PutNotice implements store.Notices.
func (r *Records) PutNotice(ctx context.Context, n store.Notice) (added bool, err error) {
	err = r.write(ctx, "put notice "+n.ID, lockNotices, func(tx pgx.Tx) error {
		res, err := tx.Exec(ctx, "INSERT INTO notices (id, kind, customer_id, once, at, body) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (once) DO NOTHING",
			n.ID, n.Kind, n.CustomerID, n.Once, n.At.UnixMicro(), n.Body)
		if err != nil {
			return err
		}
		if added = res.RowsAffected() > 0; !added {
			return nil
		}
		_, err = tx.Exec(ctx, `INSERT INTO deliveries (notice_id, webhook_id, state, attempts, next_at, last_error)
			SELECT $1::text, id, 'due', 0, $2::bigint, '' FROM webhooks
			WHERE disabled_at IS NULL AND (kinds = '[]' OR kinds::jsonb ? $3)`,
			n.ID, n.At.UnixMicro(), n.Kind)
		return err
	})
	return added && err == nil, err
}

// ListNotices implements store.Notices.
func (r *Records) ListNotices(ctx context.Context, q store.Query) ([]store.Notice, error) {
	return page(ctx, r, "list notices", q.Limit, scanNotice, noticeColumns+pageByCustomer, q.Cursor, q.CustomerID)
}

// Notice implements store.Notices.
func (r *Records) Notice(ctx context.Context, id string) (store.Notice, error) {
	n, err := scanNotice(r.db.pool.QueryRow(ctx, noticeColumns+" WHERE id = $1", id))
	return n, r.wrap("notice "+id, err)
}

// PruneNotices implements store.Notices.
func (r *Records) PruneNotices(ctx context.Context, before time.Time) error {
	return r.write(ctx, "prune notices", lockNotices, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "DELETE FROM deliveries WHERE notice_id IN (SELECT id FROM notices WHERE at < $1)", before.UnixMicro()); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "DELETE FROM notices WHERE at < $1", before.UnixMicro())
		return err
	})
}

// PutWebhook implements store.Webhooks.
func (r *Records) PutWebhook(ctx context.Context, w store.Webhook, a store.Audit) error {
	if w.Kinds == nil {
		w.Kinds = []string{}
	}
	kinds, err := json.Marshal(w.Kinds)
	if err != nil {
		return r.wrap("put webhook "+w.ID, err)
	}
	return r.writeAudited(ctx, "put webhook "+w.ID, lockNotices, a, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO webhooks (id, url, kinds, created_at, disabled_at) VALUES ($1, $2, $3, $4, $5)",
			w.ID, w.URL, string(kinds), w.CreatedAt.UnixMicro(), column.Micros(w.DisabledAt))
		return err
	})
}

// DisableWebhook implements store.Webhooks. Disabling a disabled one changes nothing and leaves no audit entry.
func (r *Records) DisableWebhook(ctx context.Context, id string, at time.Time, a store.Audit) (w store.Webhook, err error) {
	err = r.write(ctx, "disable webhook "+id, lockNotices, func(tx pgx.Tx) (err error) {
		if w, err = scanWebhook(tx.QueryRow(ctx, webhookColumns+" WHERE id = $1", id)); err != nil || !w.DisabledAt.IsZero() {
			return err
		}
		if _, err := tx.Exec(ctx, "UPDATE webhooks SET disabled_at = $1 WHERE id = $2", at.UnixMicro(), id); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "UPDATE deliveries SET state = 'failed', next_at = NULL, last_error = 'the webhook was disabled' WHERE webhook_id = $1 AND state = 'due'", id); err != nil {
			return err
		}
		w.DisabledAt = time.UnixMicro(at.UnixMicro()).UTC()
		return insertAudit(ctx, tx, a)
	})
	if err != nil {
		return store.Webhook{}, err
	}
	return w, nil
}

// ListWebhooks implements store.Webhooks.
func (r *Records) ListWebhooks(ctx context.Context, q store.Query) ([]store.Webhook, error) {
	return page(ctx, r, "list webhooks", q.Limit, scanWebhook, webhookColumns+pageByID, q.Cursor)
}

// DueDeliveries implements store.Webhooks.
func (r *Records) DueDeliveries(ctx context.Context, now time.Time, limit int) ([]store.Delivery, error) {
	return page(ctx, r, "due deliveries", limit, scanDelivery, `SELECT notice_id, webhook_id, state, attempts, next_at, last_at, last_error FROM (
		SELECT *, row_number() OVER (PARTITION BY webhook_id ORDER BY next_at, notice_id) AS turn FROM deliveries WHERE state = 'due' AND next_at <= $1) due
		WHERE turn <= $2 ORDER BY next_at, notice_id, webhook_id`, now.UnixMicro(), max(1, limit/10))
}

// DeliveriesOf implements store.Webhooks.
func (r *Records) DeliveriesOf(ctx context.Context, noticeID string) ([]store.Delivery, error) {
	all, err := list(ctx, r.db.pool, scanDelivery, deliveryColumns+" WHERE notice_id = $1 ORDER BY webhook_id", noticeID)
	return all, r.wrap("deliveries of "+noticeID, err)
}

// PutDelivery implements store.Webhooks.
func (r *Records) PutDelivery(ctx context.Context, d store.Delivery) error {
	return r.write(ctx, "put delivery of "+d.NoticeID, lockNotices, func(tx pgx.Tx) error {
		res, err := tx.Exec(ctx, "UPDATE deliveries SET state = $1, attempts = $2, next_at = $3, last_at = $4, last_error = $5 WHERE notice_id = $6 AND webhook_id = $7",
			string(d.State), d.Attempts, column.Micros(d.NextAt), column.Micros(d.LastAt), d.LastError, d.NoticeID, d.WebhookID)
		if err != nil {
			return err
		}
		if res.RowsAffected() > 0 {
			return nil
		}
		return pgx.ErrNoRows
	})
}
