package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"time"

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
	err = r.write(ctx, "put notice "+n.ID, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, "INSERT INTO notices (id, kind, customer_id, once, at, body) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (once) DO NOTHING",
			n.ID, n.Kind, n.CustomerID, n.Once, n.At.UnixMicro(), n.Body)
		if err != nil {
			return err
		}
		rows, err := res.RowsAffected()
		if added = rows > 0; err != nil || !added {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO deliveries (notice_id, webhook_id, state, attempts, next_at, last_error)
			SELECT ?, id, 'due', 0, ?, '' FROM webhooks
			WHERE disabled_at IS NULL AND (kinds = '[]' OR EXISTS (SELECT 1 FROM json_each(kinds) WHERE value = ?))`,
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
	n, err := scanNotice(r.reader.QueryRowContext(ctx, noticeColumns+" WHERE id = ?", id))
	return n, r.wrap("notice "+id, err)
}

// PruneNotices implements store.Notices.
func (r *Records) PruneNotices(ctx context.Context, before time.Time) error {
	return r.write(ctx, "prune notices", func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "DELETE FROM deliveries WHERE notice_id IN (SELECT id FROM notices WHERE at < ?)", before.UnixMicro()); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "DELETE FROM notices WHERE at < ?", before.UnixMicro())
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
	return r.writeAudited(ctx, "put webhook "+w.ID, a, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO webhooks (id, url, kinds, created_at, disabled_at) VALUES (?, ?, ?, ?, ?)",
			w.ID, w.URL, string(kinds), w.CreatedAt.UnixMicro(), column.Micros(w.DisabledAt))
		return err
	})
}

// DisableWebhook implements store.Webhooks. Disabling a disabled one changes nothing and leaves no audit entry.
func (r *Records) DisableWebhook(ctx context.Context, id string, at time.Time, a store.Audit) (w store.Webhook, err error) {
	err = r.write(ctx, "disable webhook "+id, func(tx *sql.Tx) (err error) {
		if w, err = scanWebhook(tx.QueryRowContext(ctx, webhookColumns+" WHERE id = ?", id)); err != nil || !w.DisabledAt.IsZero() {
			return err
		}
		if _, err := tx.ExecContext(ctx, "UPDATE webhooks SET disabled_at = ? WHERE id = ?", at.UnixMicro(), id); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "UPDATE deliveries SET state = 'failed', next_at = NULL, last_error = 'the webhook was disabled' WHERE webhook_id = ? AND state = 'due'", id); err != nil {
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
		SELECT *, row_number() OVER (PARTITION BY webhook_id ORDER BY next_at, notice_id) AS turn FROM deliveries WHERE state = 'due' AND next_at <= ?)
		WHERE turn <= ? ORDER BY next_at, notice_id, webhook_id`, now.UnixMicro(), max(1, limit/10))
}

// DeliveriesOf implements store.Webhooks.
func (r *Records) DeliveriesOf(ctx context.Context, noticeID string) ([]store.Delivery, error) {
	all, err := list(ctx, r.reader, scanDelivery, deliveryColumns+" WHERE notice_id = ? ORDER BY webhook_id", noticeID)
	return all, r.wrap("deliveries of "+noticeID, err)
}

// PutDelivery implements store.Webhooks.
func (r *Records) PutDelivery(ctx context.Context, d store.Delivery) error {
	return r.write(ctx, "put delivery of "+d.NoticeID, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, "UPDATE deliveries SET state = ?, attempts = ?, next_at = ?, last_at = ?, last_error = ? WHERE notice_id = ? AND webhook_id = ?",
			string(d.State), d.Attempts, column.Micros(d.NextAt), column.Micros(d.LastAt), d.LastError, d.NoticeID, d.WebhookID)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n > 0 {
			return err
		}
		return sql.ErrNoRows
	})
}
