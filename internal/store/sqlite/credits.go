package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/ledger"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/column"
)

const (
	grantColumns = `SELECT id, customer_id, meter, amount, grants.grant_id, grants.reason, author, created_at, effective_at, expires_at, kind, priority,
		meters, every, anchor, min_rollover, max_rollover, paid, once, grant_voids.at
		FROM grants LEFT JOIN grant_voids ON grant_voids.grant_id = grants.id`
	redemptionColumns = "SELECT id, customer_id, coupon, catalog_version, redeemed_at, ended_at, actor, reason FROM coupon_redemptions"
	topUpColumns      = "SELECT customer_id, meter, below, amount, paid, most, every, valid_days, set_at, actor FROM top_up_rules"
)

func scanGrant(row scanner) (g account.Grant, err error) {
	var every, least, most string
	err = row.Scan(&g.ID, &g.CustomerID, &g.Meter, column.Decimal(&g.Amount), &g.GrantID, &g.Reason, &g.Author,
		column.Time(&g.CreatedAt), column.Time(&g.EffectiveAt), column.Time(&g.ExpiresAt), (*string)(&g.Kind), &g.Priority,
		column.Texts(&g.Meters), &every, column.Time(&g.Anchor), &least, &most, column.Decimal(&g.Paid), &g.Once, column.Time(&g.VoidedAt))
	if err == nil && every != "" {
		g.Every = new(period.Every)
		err = column.Text(g.Every, period.ParseEvery)(every)
	}
	if err == nil && most != "" {
		g.Rollover = &account.Rollover{}
		if err = column.Decimal(&g.Rollover.Min)(least); err == nil {
			err = column.Decimal(&g.Rollover.Max)(most)
		}
	}
	return g, err
}

// PutGrant implements store.Allowances.
func (r *Records) PutGrant(ctx context.Context, g account.Grant, posted []ledger.Entry, a store.Audit) error {
	return r.writeAudited(ctx, "put grant "+g.ID, a, func(tx *sql.Tx) error {
		meters, err := column.TextsOf(g.Meters)
		if err != nil {
			return err
		}
		every, least, most := "", "", ""
		if g.Every != nil {
			every = g.Every.String()
		}
		if g.Rollover != nil {
			least, most = g.Rollover.Min.String(), g.Rollover.Max.String()
		}
		if g.Kind == "" {
			g.Kind = account.Promotional
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO grants
			(id, customer_id, meter, amount, grant_id, reason, author, created_at, effective_at, expires_at, kind, priority, meters, every, anchor,
			min_rollover, max_rollover, paid, once) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			g.ID, g.CustomerID, g.Meter, g.Amount.String(), g.GrantID, g.Reason, g.Author, g.CreatedAt.UnixMicro(), g.EffectiveAt.UnixMicro(),
			column.Micros(g.ExpiresAt), string(g.Kind), g.Priority, meters, every, column.Micros(g.Anchor), least, most, g.Paid.String(), g.Once)
		if err != nil {
			return err
		}
		return insertEntries(ctx, tx, posted)
	})
}

// VoidGrant implements store.Allowances. Voiding a voided one changes nothing and leaves no audit entry.
func (r *Records) VoidGrant(ctx context.Context, id string, at time.Time, reason string, a store.Audit) (g account.Grant, err error) {
	err = r.write(ctx, "void grant "+id, func(tx *sql.Tx) (err error) {
		if g, err = scanGrant(tx.QueryRowContext(ctx, grantColumns+" WHERE id = ?", id)); err != nil || !g.VoidedAt.IsZero() {
			return err
		}
		if g.GrantID != "" {
			return conflict("grant %s only says what grant %s lost", id, g.GrantID)
		}
		if _, err := tx.ExecContext(ctx, "INSERT INTO grant_voids (grant_id, at, actor, reason) VALUES (?, ?, ?, ?)", id, at.UnixMicro(), a.Actor, reason); err != nil {
			return err
		}
		g.VoidedAt = time.UnixMicro(at.UnixMicro()).UTC()
		return insertAudit(ctx, tx, a)
	})
	if err != nil {
		return account.Grant{}, err
	}
	return g, nil
}

// ListGrants implements store.Allowances.
func (r *Records) ListGrants(ctx context.Context, q store.Query) ([]account.Grant, error) {
	return page(ctx, r, "list grants", q.Limit, scanGrant, grantColumns+pageByCustomer, q.Cursor, q.CustomerID)
}

func scanRedemption(row scanner) (d account.Redemption, err error) {
	err = row.Scan(&d.ID, &d.CustomerID, &d.Coupon, &d.CatalogVersion, column.Time(&d.RedeemedAt), column.Time(&d.EndedAt), &d.Actor, &d.Reason)
	return d, err
}

// Redeem implements store.Redemptions. The write lock is taken at once, so that what is counted stays so.
func (r *Records) Redeem(ctx context.Context, d account.Redemption, limits store.RedemptionLimits, a store.Audit) error {
	return r.writeAudited(ctx, "redeem coupon "+d.Coupon, a, func(tx *sql.Tx) error {
		var inAll, own, open int
		err := tx.QueryRowContext(ctx, `SELECT count(*), count(*) FILTER (WHERE customer_id = ?2), count(*) FILTER (WHERE customer_id = ?2 AND ended_at IS NULL)
			FROM coupon_redemptions WHERE coupon = ?1`, d.Coupon, d.CustomerID).Scan(&inAll, &own, &open)
		switch {
		case err != nil:
			return err
		case limits.InAll > 0 && inAll >= limits.InAll:
			return fmt.Errorf("%w: coupon %q was redeemed %d times, the most there may be", store.ErrFull, d.Coupon, inAll)
		case limits.PerCustomer > 0 && own >= limits.PerCustomer:
			return fmt.Errorf("%w: the customer has redeemed coupon %q %d times, the most there may be", store.ErrFull, d.Coupon, own)
		case open > 0:
			return conflict("the customer has coupon %q already", d.Coupon)
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO coupon_redemptions (id, customer_id, coupon, catalog_version, redeemed_at, ended_at, actor, reason)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
			d.ID, d.CustomerID, d.Coupon, d.CatalogVersion, d.RedeemedAt.UnixMicro(), column.Micros(d.EndedAt), d.Actor, d.Reason)
		return err
	})
}

// EndRedemption implements store.Redemptions. Ending an ended one changes nothing and leaves no audit entry.
func (r *Records) EndRedemption(ctx context.Context, id string, at time.Time, a store.Audit) (d account.Redemption, err error) {
	err = r.write(ctx, "end redemption "+id, func(tx *sql.Tx) (err error) {
		if d, err = scanRedemption(tx.QueryRowContext(ctx, redemptionColumns+" WHERE id = ?", id)); err != nil || !d.EndedAt.IsZero() {
			return err
		}
		if _, err := tx.ExecContext(ctx, "UPDATE coupon_redemptions SET ended_at = ? WHERE id = ?", at.UnixMicro(), id); err != nil {
			return err
		}
		d.EndedAt = time.UnixMicro(at.UnixMicro()).UTC()
		return insertAudit(ctx, tx, a)
	})
	if err != nil {
		return account.Redemption{}, err
	}
	return d, nil
}

// ListRedemptions implements store.Redemptions.
func (r *Records) ListRedemptions(ctx context.Context, q store.Query) ([]account.Redemption, error) {
	return page(ctx, r, "list redemptions", q.Limit, scanRedemption, redemptionColumns+pageByCustomer, q.Cursor, q.CustomerID)
}

func scanTopUp(row scanner) (t account.TopUpRule, err error) {
	err = row.Scan(&t.CustomerID, &t.Meter, column.Decimal(&t.Below), column.Decimal(&t.Amount), column.Decimal(&t.Paid), &t.Most, column.Text(&t.Every, period.ParseEvery),
		&t.ValidDays, column.Time(&t.SetAt), &t.Actor)
	return t, err
}

// PutTopUp implements store.TopUps.
func (r *Records) PutTopUp(ctx context.Context, t account.TopUpRule, a store.Audit) error {
	return r.writeAudited(ctx, "put top-up rule", a, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT OR REPLACE INTO top_up_rules (customer_id, meter, below, amount, paid, most, every, valid_days, set_at, actor)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			t.CustomerID, t.Meter, t.Below.String(), t.Amount.String(), t.Paid.String(), t.Most, t.Every.String(), t.ValidDays, t.SetAt.UnixMicro(), t.Actor)
		return err
	})
}

// DropTopUp implements store.TopUps.
func (r *Records) DropTopUp(ctx context.Context, customerID, meter string, a store.Audit) error {
	return r.writeAudited(ctx, "drop top-up rule", a, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, "DELETE FROM top_up_rules WHERE customer_id = ? AND meter = ?", customerID, meter)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n > 0 {
			return err
		}
		return sql.ErrNoRows
	})
}

// TopUps implements store.TopUps.
func (r *Records) TopUps(ctx context.Context) ([]account.TopUpRule, error) {
	all, err := list(ctx, r.reader, scanTopUp, topUpColumns+" ORDER BY customer_id, meter")
	return all, r.wrap("list top-up rules", err)
}

// PutCreditMark implements store.TopUps.
func (r *Records) PutCreditMark(ctx context.Context, m account.CreditMark) error {
	return r.write(ctx, "put credit mark", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT OR REPLACE INTO credit_marks (customer_id, meter, percent, crossings) VALUES (?, ?, ?, ?)",
			m.CustomerID, m.Meter, m.Percent, m.Crossings)
		return err
	})
}

// CreditMarks implements store.TopUps.
func (r *Records) CreditMarks(ctx context.Context) ([]account.CreditMark, error) {
	scan := func(row scanner) (m account.CreditMark, err error) {
		err = row.Scan(&m.CustomerID, &m.Meter, &m.Percent, &m.Crossings)
		return m, err
	}
	all, err := list(ctx, r.reader, scan, "SELECT customer_id, meter, percent, crossings FROM credit_marks ORDER BY customer_id, meter")
	return all, r.wrap("list credit marks", err)
}
