package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"time"

	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

const (
	leaseFamily  = " WHERE customer_id = ? AND meter = ? AND scope = ? AND window = ? AND length = ?"
	leaseCounter = leaseFamily + " AND window_start = ?"
	leaseColumns = `SELECT customer_id, meter, scope, window, length, window_start, node, epoch, boot, window_end, charged, settled, written_off, closed
		FROM leases`
	newestEpoch = "SELECT coalesce(max(epoch), 0) FROM epochs WHERE node = ?"
	leaseSums   = "SELECT coalesce(sum(charged), 0), coalesce(sum(charged) FILTER (WHERE node = ? AND epoch = ?), 0) FROM leases" + leaseCounter
	leaseDraw   = `INSERT INTO leases (customer_id, meter, scope, window, length, window_start, node, epoch, boot, window_end, charged)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET charged = charged + excluded.charged, boot = excluded.boot, closed = 0`
	leaseWrite = `INSERT INTO leases (customer_id, meter, scope, window, length, window_start, node, epoch, boot, window_end, charged, settled, written_off, closed)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET boot = excluded.boot, window_end = excluded.window_end, charged = excluded.charged, settled = excluded.settled,
		written_off = excluded.written_off, closed = excluded.closed`
	leaseClose = `UPDATE leases SET charged = min(charged, ?1), settled = min(charged, ?1, settled), written_off = min(charged, ?1, ?2), closed = 1` +
		leaseCounter + " AND node = ? AND epoch = ?"
)

func counterArgs(k store.CounterKey) []any {
	return []any{k.CustomerID, k.Meter, k.Scope, int64(k.Window), k.Length, k.Start}
}

// BeginEpoch implements store.Leases. An instant before 1970 does not count, one that no epoch can hold is store.ErrInvalid.
func (r *Records) BeginEpoch(ctx context.Context, node uint16, boot string, at time.Time) (epoch uint32, err error) {
	if at.Unix() > math.MaxUint32 {
		return 0, fmt.Errorf("begin epoch of node %d: the machine's clock says %s, but epochs are seconds since 1970 and end in 2106; set the clock: %w",
			node, period.Format(at), store.ErrInvalid)
	}
	err = r.write(ctx, fmt.Sprintf("begin epoch of node %d", node), func(tx *sql.Tx) error {
		var newest int64
		if err := tx.QueryRowContext(ctx, newestEpoch, int64(node)).Scan(&newest); err != nil {
			return err
		}
		if newest >= math.MaxUint32 {
			return conflict("the epochs of the node are used up")
		}
		epoch = uint32(max(newest+1, at.Unix()))
		_, err := tx.ExecContext(ctx, "INSERT INTO epochs (node, epoch, boot, begun_at) VALUES (?, ?, ?, ?)", int64(node), int64(epoch), boot, at.UnixMicro())
		return err
	})
	if err != nil {
		return 0, err
	}
	return epoch, nil
}

// NewestEpochs implements store.Epochs.
func (r *Records) NewestEpochs(ctx context.Context) ([]store.Epoch, error) {
	all, err := list(ctx, r.reader, func(row scanner) (e store.Epoch, err error) {
		var begun int64
		err = row.Scan(&e.Node, &e.Epoch, &e.Boot, &begun, &e.Leases)
		e.BegunAt = time.UnixMicro(begun).UTC()
		return e, err
	}, `SELECT e.node, e.epoch, e.boot, e.begun_at, EXISTS (SELECT 1 FROM leases l WHERE l.closed = 0 AND l.node = e.node)
		FROM epochs e WHERE e.epoch = (SELECT max(epoch) FROM epochs n WHERE n.node = e.node) ORDER BY e.node`)
	return all, r.wrap("newest epochs", err)
}

// WriteLeases implements store.Leases.
func (r *Records) WriteLeases(ctx context.Context, ls []store.Lease) error {
	return r.write(ctx, "write leases", func(tx *sql.Tx) error {
		stmt, err := tx.PrepareContext(ctx, leaseWrite)
		if err != nil {
			return err
		}
		defer func() { _ = stmt.Close() }() // ends with the transaction anyway
		for i := range ls {
			l := &ls[i]
			args := append(counterArgs(l.CounterKey), int64(l.Node), int64(l.Epoch), l.Boot, l.WindowEnd, l.Charged, l.Settled, l.WrittenOff, l.Closed)
			if _, err := stmt.ExecContext(ctx, args...); err != nil {
				return fmt.Errorf("customer %s, meter %s: %w", l.CustomerID, l.Meter, err)
			}
		}
		return nil
	})
}

// DrawLeases implements store.Leases. Only the newest epoch of a node may draw: another is store.ErrConflict, so that a process
// that was declared dead gets nothing more. A draw on a lease that the same epoch closed opens it again.
func (r *Records) DrawLeases(ctx context.Context, node uint16, epoch uint32, boot string, draws []store.Draw) ([]store.Grant, error) {
	grants := make([]store.Grant, len(draws))
	err := r.write(ctx, "draw leases", func(tx *sql.Tx) error {
		var newest int64
		if err := tx.QueryRowContext(ctx, newestEpoch, int64(node)).Scan(&newest); err != nil {
			return err
		}
		if newest != int64(epoch) {
			return conflict("epoch %d of node %d is not its newest, %d", epoch, node, newest)
		}
		sums, err := tx.PrepareContext(ctx, leaseSums)
		if err != nil {
			return err
		}
		defer func() { _ = sums.Close() }() // ends with the transaction anyway
		draw, err := tx.PrepareContext(ctx, leaseDraw)
		if err != nil {
			return err
		}
		defer func() { _ = draw.Close() }()
		for i, d := range draws {
			var total, own int64
			if err := sums.QueryRowContext(ctx, append([]any{int64(node), int64(epoch)}, counterArgs(d.CounterKey)...)...).Scan(&total, &own); err != nil {
				return err
			}
			grants[i] = store.Grant{Granted: grant(d, total), Others: total - own}
			if grants[i].Granted == 0 {
				continue
			}
			if _, err := draw.ExecContext(ctx, append(counterArgs(d.CounterKey), int64(node), int64(epoch), boot, d.WindowEnd, grants[i].Granted)...); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return grants, nil
}

// grant is what a draw gets when all leases of its counter are charged with total. total is never negative.
func grant(d store.Draw, total int64) int64 {
	if d.Ceiling <= total {
		return 0
	}
	return max(0, min(d.Want, d.Ceiling-total))
}

// CloseLeases implements store.Leases. Leases that are not there are passed over.
func (r *Records) CloseLeases(ctx context.Context, ls []store.Lease) error {
	return r.write(ctx, "close leases", func(tx *sql.Tx) error {
		stmt, err := tx.PrepareContext(ctx, leaseClose)
		if err != nil {
			return err
		}
		defer func() { _ = stmt.Close() }() // ends with the transaction anyway
		for _, l := range ls {
			args := append([]any{l.Charged, l.WrittenOff}, counterArgs(l.CounterKey)...)
			if _, err := stmt.ExecContext(ctx, append(args, int64(l.Node), int64(l.Epoch))...); err != nil {
				return fmt.Errorf("customer %s, meter %s: %w", l.CustomerID, l.Meter, err)
			}
		}
		return nil
	})
}

func scanLease(row scanner) (l store.Lease, err error) {
	err = row.Scan(&l.CustomerID, &l.Meter, &l.Scope, &l.Window, &l.Length, &l.Start, &l.Node, &l.Epoch, &l.Boot, &l.WindowEnd,
		&l.Charged, &l.Settled, &l.WrittenOff, &l.Closed)
	return l, err
}

// OpenLeases implements store.Leases.
func (r *Records) OpenLeases(ctx context.Context, node uint16, before uint32) ([]store.Lease, error) {
	all, err := list(ctx, r.reader, scanLease, leaseColumns+` WHERE closed = 0 AND node = ? AND epoch < ?
		ORDER BY epoch, customer_id, meter, scope, window, length, window_start`, int64(node), int64(before))
	return all, r.wrap("open leases", err)
}

// LeasesOf implements store.Leases.
func (r *Records) LeasesOf(ctx context.Context, k store.CounterKey) ([]store.Lease, error) {
	rows, err := r.leases.QueryContext(ctx, counterArgs(k)...)
	if err != nil {
		return nil, r.wrap("leases of customer "+k.CustomerID, err)
	}
	all, err := collect(rows, scanLease)
	return all, r.wrap("leases of customer "+k.CustomerID, err)
}

// LeasesFrom implements store.Leases.
func (r *Records) LeasesFrom(ctx context.Context, k store.CounterKey, from, to int64) ([]store.Lease, error) {
	all, err := list(ctx, r.reader, scanLease, leaseColumns+leaseFamily+" AND window_start >= ? AND window_start < ? ORDER BY window_start, node, epoch",
		k.CustomerID, k.Meter, k.Scope, int64(k.Window), k.Length, from, to)
	return all, r.wrap("leases of customer "+k.CustomerID, err)
}

// PruneLeases implements store.Leases.
func (r *Records) PruneLeases(ctx context.Context, windowEndBefore int64) error {
	return r.write(ctx, "prune leases", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "DELETE FROM leases WHERE closed = 1 AND window_end < ?", windowEndBefore)
		return err
	})
}
