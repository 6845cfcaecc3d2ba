package postgres

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/column"
)

const refundColumns = "SELECT id, customer_id, day, route, meter, reason, refused, count, cost FROM refunds"

func scanRefund(row scanner) (f store.Refund, err error) {
	err = row.Scan(&f.ID, &f.CustomerID, column.Time(&f.Day), &f.Route, &f.Meter, &f.Reason, &f.Refused, &f.Count, column.Decimal(&f.Cost))
	return f, err
}

// AddRefunds implements store.Refunds.
func (r *Records) AddRefunds(ctx context.Context, all []store.Refund) error {
	if len(all) == 0 {
		return nil
	}
	return r.write(ctx, "add refunds", lockRefunds, func(tx pgx.Tx) error {
		for _, f := range all {
			if err := addRefund(ctx, tx, f); err != nil {
				return err
			}
		}
		return nil
	})
}

func addRefund(ctx context.Context, tx pgx.Tx, f store.Refund) error {
	have, err := scanRefund(tx.QueryRow(ctx, refundColumns+" WHERE customer_id = $1 AND day = $2 AND route = $3 AND meter = $4 AND reason = $5 AND refused = $6",
		f.CustomerID, f.Day.UnixMicro(), f.Route, f.Meter, f.Reason, f.Refused))
	if errors.Is(err, pgx.ErrNoRows) {
		_, err = tx.Exec(ctx, "INSERT INTO refunds (customer_id, day, route, meter, reason, refused, count, cost) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
			f.CustomerID, f.Day.UnixMicro(), f.Route, f.Meter, f.Reason, f.Refused, f.Count, f.Cost.String())
		return err
	}
	if err != nil {
		return err
	}
	var cost money.Decimal
	if cost, err = have.Cost.Add(f.Cost); err != nil {
		return fmt.Errorf("refunds of %s: %w", f.CustomerID, err)
	}
	count := have.Count
	if f.Count > math.MaxInt64-count {
		count = math.MaxInt64 - f.Count
	}
	_, err = tx.Exec(ctx, "UPDATE refunds SET count = $1, cost = $2 WHERE id = $3", count+f.Count, cost.String(), have.ID)
	return err
}

// ListRefunds implements store.Refunds.
func (r *Records) ListRefunds(ctx context.Context, q store.Query) ([]store.Refund, error) {
	below := int64(math.MaxInt64)
	if q.Cursor != "" {
		n, err := strconv.ParseInt(q.Cursor, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("records: list refunds: cursor %q: %w", q.Cursor, store.ErrInvalid)
		}
		below = n
	}
	return page(ctx, r, "list refunds", q.Limit, scanRefund, refundColumns+" WHERE id < $1 AND ($2 = '' OR customer_id = $2) ORDER BY id DESC", below, q.CustomerID)
}

// PruneRefunds implements store.Refunds.
func (r *Records) PruneRefunds(ctx context.Context, before time.Time) error {
	return r.write(ctx, "prune refunds", lockRefunds, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "DELETE FROM refunds WHERE day < $1", before.UnixMicro())
		return err
	})
}
