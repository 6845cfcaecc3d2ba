package postgres

import (
	"cmp"
	"context"
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/column"
)

const (
	leaseFamily  = ` WHERE customer_id = $1 AND meter = $2 AND scope = $3 AND "window" = $4 AND length = $5`
	leaseColumns = `SELECT customer_id, meter, scope, "window", length, window_start, node, epoch, boot, window_end, charged, settled, written_off, closed
		FROM leases`
	leaseKey    = `(customer_id, meter, scope, "window", length, window_start, node, epoch)`
	newestEpoch = "SELECT coalesce(max(epoch), 0) FROM epochs WHERE node = $1"

	// counterColumns are those of counterArrays, in order.
	counterColumns = `unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[]`

	// leaseDraw grants to many counters at once, none twice: what all leases of a counter are charged with, and with the want the
	// ceiling bounds, is added to the caller's own.
	leaseDraw = `WITH d AS (
		SELECT * FROM ` + counterColumns + `, $7::bigint[], $8::bigint[], $9::bigint[]) WITH ORDINALITY
			AS d (customer_id, meter, scope, "window", length, window_start, window_end, want, ceiling, turn)),
	sums AS (
		SELECT d.*, s.total, s.own, CASE WHEN ceiling <= s.total THEN 0 ELSE greatest(0, least(want, ceiling - s.total)) END AS granted
		FROM d CROSS JOIN LATERAL (
			SELECT coalesce(sum(charged), 0)::bigint AS total, coalesce(sum(charged) FILTER (WHERE node = $10 AND epoch = $11), 0)::bigint AS own
			FROM leases l WHERE l.customer_id = d.customer_id AND l.meter = d.meter AND l.scope = d.scope AND l."window" = d."window"
				AND l.length = d.length AND l.window_start = d.window_start) s),
	written AS (
		INSERT INTO leases AS l (customer_id, meter, scope, "window", length, window_start, node, epoch, boot, window_end, charged)
		SELECT customer_id, meter, scope, "window", length, window_start, $10, $11, $12, window_end, granted FROM sums WHERE granted > 0
		ON CONFLICT ` + leaseKey + ` DO UPDATE SET charged = l.charged + excluded.charged, boot = excluded.boot, closed = false)
	SELECT granted, total - own FROM sums ORDER BY turn`

	leaseWrite = `INSERT INTO leases AS l
			(customer_id, meter, scope, "window", length, window_start, node, epoch, boot, window_end, charged, settled, written_off, closed)
		SELECT * FROM ` + counterColumns + `, $7::bigint[], $8::bigint[], $9::text[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::boolean[])
		ON CONFLICT ` + leaseKey + ` DO UPDATE SET boot = excluded.boot, window_end = excluded.window_end, charged = excluded.charged,
			settled = excluded.settled, written_off = excluded.written_off, closed = excluded.closed`

	leaseClose = `UPDATE leases l SET charged = least(l.charged, c.charged), settled = least(l.charged, c.charged, l.settled),
			written_off = least(l.charged, c.charged, c.written_off), closed = true
		FROM ` + counterColumns + `, $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[])
			AS c (customer_id, meter, scope, "window", length, window_start, node, epoch, charged, written_off)
		WHERE l.customer_id = c.customer_id AND l.meter = c.meter AND l.scope = c.scope AND l."window" = c."window" AND l.length = c.length
			AND l.window_start = c.window_start AND l.node = c.node AND l.epoch = c.epoch`
)

func counterArgs(k store.CounterKey) []any {
	return []any{k.CustomerID, k.Meter, k.Scope, int64(k.Window), k.Length, k.Start}
}

// column of many things: what unnest takes.
func each[T, C any](all []T, of func(*T) C) []C {
	out := make([]C, len(all))
	for i := range all {
		out[i] = of(&all[i])
	}
	return out
}

// counterArrays are the first six arguments of statements on many counters.
func counterArrays[T any](all []T, key func(*T) *store.CounterKey) []any {
	return []any{
		each(all, func(x *T) string { return key(x).CustomerID }), each(all, func(x *T) string { return key(x).Meter }),
		each(all, func(x *T) string { return key(x).Scope }), each(all, func(x *T) int64 { return int64(key(x).Window) }),
		each(all, func(x *T) int64 { return key(x).Length }), each(all, func(x *T) int64 { return key(x).Start }),
	}
}

func compareCounters(a, b store.CounterKey) int {
	return cmp.Or(cmp.Compare(a.CustomerID, b.CustomerID), cmp.Compare(a.Meter, b.Meter), cmp.Compare(a.Scope, b.Scope),
		cmp.Compare(a.Window, b.Window), cmp.Compare(a.Length, b.Length), cmp.Compare(a.Start, b.Start))
}

// stripes bounds the locks of one draw.
const stripes = 4096

// counterLocks are the locks of counters, sorted, each once: a draw reads the sum of all leases of a counter before it adds one.
func counterLocks(draws []store.Draw) []int64 {
	locks := make([]int64, len(draws))
	for i := range draws {
		h := fnv.New64a()
		k := &draws[i].CounterKey
		for _, part := range []string{k.CustomerID, k.Meter, k.Scope, strconv.FormatInt(k.Start, 10)} {
			_, _ = h.Write([]byte(part)) // it cannot fail
			_, _ = h.Write([]byte{0})
		}
		locks[i] = lock("leases").key() + int64(h.Sum64()%stripes)
	}
	slices.Sort(locks)
	return slices.Compact(locks)
}

// nodeLock is held by draws of a node together, and by a beginning epoch alone.
func nodeLock(node uint16) int64 { return lock("node " + strconv.Itoa(int(node))).key() }

// BeginEpoch implements store.Leases. An instant before 1970 does not count, one that no epoch can hold is store.ErrInvalid.
func (r *Records) BeginEpoch(ctx context.Context, node uint16, boot string, at time.Time) (epoch uint32, err error) {
	if at.Unix() > math.MaxUint32 {
		return 0, fmt.Errorf("begin epoch of node %d: the machine's clock says %s, but epochs are seconds since 1970 and end in 2106; set the clock: %w",
			node, period.Format(at), store.ErrInvalid)
	}
	err = r.write(ctx, fmt.Sprintf("begin epoch of node %d", node), noLock, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", nodeLock(node)); err != nil {
			return err
		}
		var newest int64
		if err := tx.QueryRow(ctx, newestEpoch, int64(node)).Scan(&newest); err != nil {
			return err
		}
		if newest >= math.MaxUint32 {
			return conflict("the epochs of the node are used up")
		}
		epoch = uint32(max(newest+1, at.Unix()))
		_, err := tx.Exec(ctx, "INSERT INTO epochs (node, epoch, boot, begun_at) VALUES ($1, $2, $3, $4)", int64(node), int64(epoch), boot, at.UnixMicro())
		return err
	})
	if err != nil {
		return 0, err
	}
	return epoch, nil
}

// NewestEpochs implements store.Epochs.
func (r *Records) NewestEpochs(ctx context.Context) ([]store.Epoch, error) {
	all, err := list(ctx, r.db.pool, func(row scanner) (e store.Epoch, err error) {
		err = row.Scan(&e.Node, &e.Epoch, &e.Boot, column.Time(&e.BegunAt), &e.Leases)
		return e, err
	}, `SELECT e.node, e.epoch, e.boot, e.begun_at, EXISTS (SELECT 1 FROM leases l WHERE NOT l.closed AND l.node = e.node)
		FROM epochs e WHERE e.epoch = (SELECT max(epoch) FROM epochs n WHERE n.node = e.node) ORDER BY e.node`)
	return all, r.wrap("newest epochs", err)
}

// WriteLeases implements store.Leases, in one statement.
func (r *Records) WriteLeases(ctx context.Context, ls []store.Lease) error {
	ls = distinct(ls)
	if len(ls) == 0 {
		return nil
	}
	args := append(counterArrays(ls, func(l *store.Lease) *store.CounterKey { return &l.CounterKey }),
		each(ls, func(l *store.Lease) int64 { return int64(l.Node) }), each(ls, func(l *store.Lease) int64 { return int64(l.Epoch) }),
		each(ls, func(l *store.Lease) string { return l.Boot }), each(ls, func(l *store.Lease) int64 { return l.WindowEnd }),
		each(ls, func(l *store.Lease) int64 { return l.Charged }), each(ls, func(l *store.Lease) int64 { return l.Settled }),
		each(ls, func(l *store.Lease) int64 { return l.WrittenOff }), each(ls, func(l *store.Lease) bool { return l.Closed }))
	return r.write(ctx, "write leases", noLock, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, leaseWrite, args...)
		return err
	})
}

// distinct sorts leases by key, so that writes of the same ones meet in the same order, and keeps the last of each.
func distinct(ls []store.Lease) []store.Lease {
	compare := func(a, b store.Lease) int {
		return cmp.Or(compareCounters(a.CounterKey, b.CounterKey), cmp.Compare(a.Node, b.Node), cmp.Compare(a.Epoch, b.Epoch))
	}
	ls = slices.Clone(ls)
	slices.SortStableFunc(ls, compare)
	out := ls[:0]
	for i := range ls {
		if i+1 < len(ls) && compare(ls[i], ls[i+1]) == 0 {
			continue
		}
		out = append(out, ls[i])
	}
	return out
}

// DrawLeases implements store.Leases. Only the newest epoch of a node may draw: another is store.ErrConflict, so that a process
// that was declared dead gets nothing more. A draw on a lease that the same epoch closed opens it again.
//
// It locks the counters and writes their leases in one statement; draws on other counters go on meanwhile. Only a counter that is
// named twice costs another statement.
func (r *Records) DrawLeases(ctx context.Context, node uint16, epoch uint32, boot string, draws []store.Draw) ([]store.Grant, error) {
	grants := make([]store.Grant, len(draws))
	err := r.write(ctx, "draw leases", noLock, func(tx pgx.Tx) error {
		var newest int64
		// What is locked is read by the next statement, which sees what was committed until then.
		b := &pgx.Batch{}
		b.Queue("SELECT pg_advisory_xact_lock_shared($1)", nodeLock(node))
		b.Queue("SELECT pg_advisory_xact_lock(k) FROM unnest($1::bigint[]) AS k", counterLocks(draws))
		b.Queue(newestEpoch, int64(node)).QueryRow(func(row pgx.Row) error { return row.Scan(&newest) })
		if err := tx.SendBatch(ctx, b).Close(); err != nil {
			return err
		}
		if newest != int64(epoch) {
			return conflict("epoch %d of node %d is not its newest, %d", epoch, node, newest)
		}
		for _, round := range rounds(draws) {
			if err := drawRound(ctx, tx, node, epoch, boot, draws, round, grants); err != nil {
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

// rounds splits draws into lists of their indexes that name no counter twice, in order.
func rounds(draws []store.Draw) [][]int {
	var out [][]int
	times := make(map[store.CounterKey]int, len(draws))
	for i := range draws {
		n := times[draws[i].CounterKey]
		times[draws[i].CounterKey]++
		if n == len(out) {
			out = append(out, nil)
		}
		out[n] = append(out[n], i)
	}
	return out
}

func drawRound(ctx context.Context, tx pgx.Tx, node uint16, epoch uint32, boot string, draws []store.Draw, round []int, grants []store.Grant) error {
	of := each(round, func(i *int) store.Draw { return draws[*i] })
	args := append(counterArrays(of, func(d *store.Draw) *store.CounterKey { return &d.CounterKey }),
		each(of, func(d *store.Draw) int64 { return d.WindowEnd }), each(of, func(d *store.Draw) int64 { return d.Want }),
		each(of, func(d *store.Draw) int64 { return d.Ceiling }), int64(node), int64(epoch), boot)
	got, err := list(ctx, tx, func(row scanner) (g store.Grant, err error) {
		err = row.Scan(&g.Granted, &g.Others)
		return g, err
	}, leaseDraw, args...)
	if err != nil {
		return err
	}
	for i, at := range round {
		grants[at] = got[i]
	}
	return nil
}

// CloseLeases implements store.Leases, in one statement. Leases that are not there are passed over.
func (r *Records) CloseLeases(ctx context.Context, ls []store.Lease) error {
	ls = distinct(ls)
	if len(ls) == 0 {
		return nil
	}
	args := append(counterArrays(ls, func(l *store.Lease) *store.CounterKey { return &l.CounterKey }),
		each(ls, func(l *store.Lease) int64 { return int64(l.Node) }), each(ls, func(l *store.Lease) int64 { return int64(l.Epoch) }),
		each(ls, func(l *store.Lease) int64 { return l.Charged }), each(ls, func(l *store.Lease) int64 { return l.WrittenOff }))
	return r.write(ctx, "close leases", noLock, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, leaseClose, args...)
		return err
	})
}

func scanLease(row scanner) (l store.Lease, err error) {
	err = row.Scan(&l.CustomerID, &l.Meter, &l.Scope, &l.Window, &l.Length, &l.Start, &l.Node, &l.Epoch, &l.Boot, &l.WindowEnd,
		&l.Charged, &l.Settled, &l.WrittenOff, &l.Closed)
	return l, err
}

// OpenLeases implements store.Leases.
func (r *Records) OpenLeases(ctx context.Context, node uint16, before uint32) ([]store.Lease, error) {
	all, err := list(ctx, r.db.pool, scanLease, leaseColumns+` WHERE NOT closed AND node = $1 AND epoch < $2
		ORDER BY epoch, customer_id, meter, scope, "window", length, window_start`, int64(node), int64(before))
	return all, r.wrap("open leases", err)
}

// settled has a reader wait for transactions that have changed a row and have not ended: the authority reads leases again when it has
// not heard what became of a write, which may still be waiting for a standby.
const settled = " FOR SHARE"

// LeasesOf implements store.Leases.
func (r *Records) LeasesOf(ctx context.Context, k store.CounterKey) ([]store.Lease, error) {
	all, err := list(ctx, r.db.pool, scanLease, leaseColumns+leaseFamily+" AND window_start = $6 ORDER BY node, epoch"+settled, counterArgs(k)...)
	return all, r.wrap("leases of customer "+k.CustomerID, err)
}

// LeasesFrom implements store.Leases.
func (r *Records) LeasesFrom(ctx context.Context, k store.CounterKey, from, to int64) ([]store.Lease, error) {
	all, err := list(ctx, r.db.pool, scanLease, leaseColumns+leaseFamily+" AND window_start >= $6 AND window_start < $7 ORDER BY window_start, node, epoch"+settled,
		k.CustomerID, k.Meter, k.Scope, int64(k.Window), k.Length, from, to)
	return all, r.wrap("leases of customer "+k.CustomerID, err)
}

// PruneLeases implements store.Leases.
func (r *Records) PruneLeases(ctx context.Context, windowEndBefore int64) error {
	return r.write(ctx, "prune leases", noLock, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "DELETE FROM leases WHERE closed AND window_end < $1", windowEndBefore)
		return err
	})
}
