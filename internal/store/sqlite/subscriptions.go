package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/price"
	"github.com/tallystick/tallystick/internal/core/subscription"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/column"
)

const changeColumns = `SELECT id, subscription_id, at, kind, plan, version, key, quantity, price, until, now, reason, actor, created_at
	FROM subscription_changes`

// overlap refuses a subscription that ends at end and meets another of its customer.
func overlap(ctx context.Context, tx *sql.Tx, s account.Subscription, end time.Time) error {
	until := int64(math.MaxInt64)
	if !end.IsZero() {
		until = end.UnixMicro()
	}
	var other string
	err := tx.QueryRowContext(ctx, `SELECT coalesce(min(id), '') FROM subscriptions
		WHERE customer_id = ? AND id <> ? AND start_at < ? AND (until_at IS NULL OR until_at > max(?, start_at)) AND ? < ?`,
		s.CustomerID, s.ID, until, s.Start.UnixMicro(), s.Start.UnixMicro(), until).Scan(&other)
	if err != nil {
		return err
	}
	if other != "" {
		return conflict("it overlaps subscription %s", other)
	}
	return nil
}

func insertSubscription(ctx context.Context, tx *sql.Tx, s account.Subscription, end time.Time) error {
	if err := overlap(ctx, tx, s, end); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO subscriptions
		(id, customer_id, plan, catalog_version, start_at, end_at, until_at, billing_day, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		s.ID, s.CustomerID, s.Plan, s.CatalogVersion, s.Start.UnixMicro(), column.Micros(s.End), column.Micros(end), s.BillingDay, s.CreatedAt.UnixMicro())
	return err
}

func insertChanges(ctx context.Context, tx *sql.Tx, subscriptionID string, changes []subscription.Change) error {
	for i := range changes {
		c := &changes[i]
		var own any
		if c.Price != nil {
			text, err := json.Marshal(c.Price)
			if err != nil {
				return fmt.Errorf("change %s: %w", c.ID, err)
			}
			own = string(text)
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO subscription_changes
			(id, subscription_id, at, kind, plan, version, key, quantity, price, until, now, reason, actor, created_at)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			c.ID, subscriptionID, c.At.UnixMicro(), string(c.Kind), c.Plan, c.Version, c.Key, c.Quantity.String(), own, column.Micros(c.Until),
			c.Now, c.Reason, c.Actor, c.CreatedAt.UnixMicro())
		if err != nil {
			return err
		}
	}
	return nil
}

// Subscribe implements store.SubscriptionChanges.
func (r *Records) Subscribe(ctx context.Context, h subscription.History, end time.Time, a store.Audit) error {
	return r.writeAudited(ctx, "put subscription "+h.ID, a, func(tx *sql.Tx) error {
		if err := insertSubscription(ctx, tx, h.Subscription, end); err != nil {
			return err
		}
		return insertChanges(ctx, tx, h.ID, h.Changes)
	})
}

// PutChanges implements store.SubscriptionChanges.
func (r *Records) PutChanges(ctx context.Context, subscriptionID string, changes []subscription.Change, end time.Time, a store.Audit) error {
	return r.writeAudited(ctx, "change subscription "+subscriptionID, a, func(tx *sql.Tx) error {
		s, err := scanSubscription(tx.QueryRowContext(ctx, subscriptionColumns+" WHERE id = ?", subscriptionID))
		if err != nil {
			return err
		}
		if err := overlap(ctx, tx, s, end); err != nil {
			return err
		}
		if err := insertChanges(ctx, tx, subscriptionID, changes); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "UPDATE subscriptions SET until_at = ? WHERE id = ?", column.Micros(end), subscriptionID)
		return err
	})
}

func scanChange(row scanner) (c subscription.Change, err error) {
	var own sql.NullString
	err = row.Scan(&c.ID, &c.SubscriptionID, column.Time(&c.At), (*string)(&c.Kind), &c.Plan, &c.Version, &c.Key, column.Decimal(&c.Quantity), &own,
		column.Time(&c.Until), &c.Now, &c.Reason, &c.Actor, column.Time(&c.CreatedAt))
	if err == nil && own.Valid {
		c.Price = &price.Price{}
		if err := json.Unmarshal([]byte(own.String), c.Price); err != nil {
			return c, fmt.Errorf("%w: the price of change %s: %w", store.ErrCorrupt, c.ID, err)
		}
	}
	return c, err
}

// ListChanges implements store.SubscriptionChanges.
func (r *Records) ListChanges(ctx context.Context, q store.Query) ([]subscription.Change, error) {
	return page(ctx, r, "list changes of subscriptions", q.Limit, scanChange, changeColumns+` WHERE (?1 = '' OR id < ?1)
		AND (?2 = '' OR subscription_id IN (SELECT id FROM subscriptions WHERE customer_id = ?2)) ORDER BY id DESC`, q.Cursor, q.CustomerID)
}

// SetCustomer implements store.SubscriptionChanges.
func (r *Records) SetCustomer(ctx context.Context, id, name string, details account.BillingDetails, a store.Audit) error {
	text, err := json.Marshal(details)
	if err != nil {
		return fmt.Errorf("records: customer %s: %w", id, err)
	}
	return r.writeAudited(ctx, "set customer "+id, a, func(tx *sql.Tx) error {
		done, err := tx.ExecContext(ctx, "UPDATE customers SET name = ?, billing = ? WHERE id = ?", name, string(text), id)
		if err != nil {
			return err
		}
		if n, err := done.RowsAffected(); err != nil || n == 1 {
			return err
		}
		return sql.ErrNoRows
	})
}
