package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/column"
)

const (
	customerColumns     = "SELECT id, key, name, zone, currency, created_at, billing FROM customers"
	subscriptionColumns = "SELECT id, customer_id, plan, catalog_version, start_at, end_at, billing_day, created_at FROM subscriptions"
	keyColumns          = "SELECT id, customer_id, name, project, digest, hint, created_at, expires_at, revoked_at FROM api_keys"

	// Ids are time-sortable, so the newest are the greatest.
	pageByCustomer = " WHERE (?1 = '' OR id < ?1) AND (?2 = '' OR customer_id = ?2) ORDER BY id DESC"

	// sameKeysMax allows one key to take over from another; customerKeysMax bounds all of a customer's live keys.
	sameKeysMax     = 2
	customerKeysMax = 1000
)

func (r *Records) scanCustomer(row scanner) (c account.Customer, err error) {
	err = row.Scan(&c.ID, &c.Key, &c.Name, r.zones.Zone(&c.Zone), column.Currency(&c.Currency), column.Time(&c.CreatedAt), column.JSON(&c.Billing))
	return c, err
}

// PutCustomer implements store.Accounts. It only adds: a taken id is store.ErrExists as well.
func (r *Records) PutCustomer(ctx context.Context, c account.Customer, a store.Audit) error {
	return r.writeAudited(ctx, "put customer "+c.Key, a, func(tx *sql.Tx) error {
		details, err := json.Marshal(c.Billing)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "INSERT INTO customers (id, key, name, zone, currency, created_at, billing) VALUES (?, ?, ?, ?, ?, ?, ?)",
			c.ID, c.Key, c.Name, c.Zone.String(), c.Currency.Code(), c.CreatedAt.UnixMicro(), string(details))
		return err
	})
}

// Customer implements store.Accounts.
func (r *Records) Customer(ctx context.Context, ref string) (account.Customer, error) {
	c, err := r.scanCustomer(r.reader.QueryRowContext(ctx, customerColumns+" WHERE id = ?1 OR key = ?1 ORDER BY id = ?1 DESC LIMIT 1", ref))
	return c, r.wrap("customer "+ref, err)
}

// ListCustomers implements store.Accounts. A CustomerID in the query leaves that one.
func (r *Records) ListCustomers(ctx context.Context, q store.Query) ([]account.Customer, error) {
	return page(ctx, r, "list customers", q.Limit, r.scanCustomer,
		customerColumns+" WHERE (?1 = '' OR id < ?1) AND (?2 = '' OR id = ?2) ORDER BY id DESC", q.Cursor, q.CustomerID)
}

func scanSubscription(row scanner) (s account.Subscription, err error) {
	err = row.Scan(&s.ID, &s.CustomerID, &s.Plan, &s.CatalogVersion, column.Time(&s.Start), column.Time(&s.End), &s.BillingDay, column.Time(&s.CreatedAt))
	return s, err
}

// PutSubscription implements store.Accounts. It only adds: a taken id is store.ErrExists; an unknown customer id is
// store.ErrNotFound.
func (r *Records) PutSubscription(ctx context.Context, s account.Subscription, a store.Audit) error {
	return r.writeAudited(ctx, "put subscription "+s.ID, a, func(tx *sql.Tx) error {
		return insertSubscription(ctx, tx, s, s.End)
	})
}

// Subscription implements store.Accounts.
func (r *Records) Subscription(ctx context.Context, id string) (account.Subscription, error) {
	s, err := scanSubscription(r.reader.QueryRowContext(ctx, subscriptionColumns+" WHERE id = ?", id))
	return s, r.wrap("subscription "+id, err)
}

// ListSubscriptions implements store.Accounts.
func (r *Records) ListSubscriptions(ctx context.Context, q store.Query) ([]account.Subscription, error) {
	return page(ctx, r, "list subscriptions", q.Limit, scanSubscription, subscriptionColumns+pageByCustomer, q.Cursor, q.CustomerID)
}

func scanKey(row scanner) (k account.APIKey, err error) {
	err = row.Scan(&k.ID, &k.CustomerID, &k.Name, &k.Project, column.Digest(&k.Digest), &k.Hint, column.Time(&k.CreatedAt), column.Time(&k.ExpiresAt), column.Time(&k.RevokedAt))
	return k, err
}

// PutKey implements store.Keys. It only adds: a taken id or digest is store.ErrExists; an unknown customer id is
// store.ErrNotFound.
func (r *Records) PutKey(ctx context.Context, k account.APIKey, a store.Audit) error {
	return r.writeAudited(ctx, "put key "+k.ID, a, func(tx *sql.Tx) error {
		var live, same int
		err := tx.QueryRowContext(ctx, `SELECT count(*), coalesce(sum(project = ? AND name = ?), 0) FROM api_keys
			WHERE customer_id = ? AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > ?)`,
			k.Project, k.Name, k.CustomerID, a.Time.UnixMicro()).Scan(&live, &same)
		if err != nil {
			return err
		}
		if same >= sameKeysMax {
			return conflict("there are %d live keys of this project and name already, revoke one first", same)
		}
		if live >= customerKeysMax {
			return conflict("the customer has %d live keys already, revoke one first", live)
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO api_keys
			(id, customer_id, name, project, digest, hint, created_at, expires_at, revoked_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			k.ID, k.CustomerID, k.Name, k.Project, k.Digest[:], k.Hint, k.CreatedAt.UnixMicro(), column.Micros(k.ExpiresAt), column.Micros(k.RevokedAt))
		return err
	})
}

// RevokeKey implements store.Keys. Revoking a revoked key changes nothing and leaves no audit entry.
func (r *Records) RevokeKey(ctx context.Context, id string, at time.Time, a store.Audit) (k account.APIKey, err error) {
	err = r.write(ctx, "revoke key "+id, func(tx *sql.Tx) error {
		if k, err = scanKey(tx.QueryRowContext(ctx, keyColumns+" WHERE id = ?", id)); err != nil {
			return err
		}
		if !k.RevokedAt.IsZero() {
			return nil
		}
		_, err := tx.ExecContext(ctx, "UPDATE api_keys SET revoked_at = ? WHERE id = ?", at.UnixMicro(), id)
		if err != nil {
			return err
		}
		k.RevokedAt = time.UnixMicro(at.UnixMicro()).UTC()
		return insertAudit(ctx, tx, a)
	})
	if err != nil {
		return account.APIKey{}, err
	}
	return k, nil
}

// Key implements store.Keys.
func (r *Records) Key(ctx context.Context, id string) (account.APIKey, error) {
	k, err := scanKey(r.reader.QueryRowContext(ctx, keyColumns+" WHERE id = ?", id))
	return k, r.wrap(fmt.Sprintf("key %s", id), err)
}

// ListKeys implements store.Keys.
func (r *Records) ListKeys(ctx context.Context, q store.Query) ([]account.APIKey, error) {
	return page(ctx, r, "list keys", q.Limit, scanKey, keyColumns+pageByCustomer, q.Cursor, q.CustomerID)
}
