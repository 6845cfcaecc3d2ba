// Package postgres keeps the records in PostgreSQL, for any number of servers on the same database, and decides who of them
// leads.
//
// A write is one transaction; it is durable when its method returns. What SQLite promises because it has one writer holds here
// because the writes that would meet take the same advisory lock, or lock the customer's row, before they look: numbers have no
// gaps, ledger entries become visible in the order of their numbers, a balance is not spent twice. Isolation is READ COMMITTED:
// each statement sees all that was committed when it began, and the lock is held by then. Deadlocks and serialization failures
// are tried again, a bounded number of times.
//
// A handle of Fenced writes only as long as its lead stands; see store.Leaders.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/column"
)

const (
	poolDefault = 16
	leadConns   = 2
	attemptsMax = 10 // of a transaction that met others in a deadlock
	oldest      = 14 // version of PostgreSQL

	// idleMax ends a transaction whose process has stopped: until then it keeps a new leader waiting.
	idleMax = 10 * time.Second
)

// Records implements store.Records, store.Leaders and store.Changes. It is safe for concurrent use.
type Records struct {
	db    *shared
	fence uint64 // 0: its writes check none
}

// shared is what all handles on it share.
type shared struct {
	pool   *pgxpool.Pool
	leads  *pgxpool.Pool // of its own, so that a lead is kept while all other connections wait
	closed atomic.Bool
	zones  column.Zones
}

var (
	_ store.Records = (*Records)(nil)
	_ store.Leaders = (*Records)(nil)
	_ store.Changes = (*Records)(nil)
)

// Open connects to the database of a URL (or of a "key=value" text) and brings its schema to the newest migration, once however
// many open it together. store.ErrNewer: a newer program has left a schema that this one cannot use; see Status.
func Open(ctx context.Context, dsn string) (*Records, error) {
	cfg, err := config(dsn)
	if err != nil {
		return nil, fmt.Errorf("records: %w", err)
	}
	if err := ensure(ctx, cfg.ConnConfig); err != nil {
		return nil, fmt.Errorf("records: open %s: %w", place(cfg.ConnConfig), err)
	}
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("records: open %s: %w", place(cfg.ConnConfig), err)
	}
	cfg = cfg.Copy()
	cfg.MaxConns = leadConns
	leads, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		pool.Close()
		return nil, fmt.Errorf("records: open %s: %w", place(cfg.ConnConfig), err)
	}
	return &Records{db: &shared{pool: pool, leads: leads}}, nil
}

// config reads a DSN and fills in what it leaves open.
func config(dsn string) (*pgxpool.Config, error) {
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("the database's URL: %w: %w", store.ErrInvalid, err) // pgx leaves the password out
	}
	if !strings.Contains(dsn, "pool_max_conns") {
		cfg.MaxConns = poolDefault
	}
	set := cfg.ConnConfig.RuntimeParams
	if set["application_name"] == "" {
		set["application_name"] = "tally"
	}
	if set["idle_in_transaction_session_timeout"] == "" {
		set["idle_in_transaction_session_timeout"] = strconv.FormatInt(idleMax.Milliseconds(), 10)
	}
	cfg.AfterConnect = func(ctx context.Context, c *pgx.Conn) error {
		// A write that returned is on disk, and on the synchronous standby if there is one, whatever the database's default is.
		_, err := c.Exec(ctx, `SELECT set_config('synchronous_commit', 'on', false)
			WHERE current_setting('synchronous_commit') IN ('off', 'local', 'remote_write')`)
		return err
	}
	return cfg, nil
}

// place names a database without its password.
func place(c *pgx.ConnConfig) string {
	return fmt.Sprintf("database %s at %s:%d", c.Database, c.Host, c.Port)
}

// Fenced is a handle on the same database whose every write fails with store.ErrConflict once another one leads than the holder
// of this fence. Closing either closes both.
func (r *Records) Fenced(fence uint64) *Records { return &Records{db: r.db, fence: fence} }

// Pool is the connections, for what keeps other tables in the same database.
func (r *Records) Pool() *pgxpool.Pool { return r.db.pool }

// Ping asks the database for an answer.
func (r *Records) Ping(ctx context.Context) error { return r.wrap("ping", r.db.pool.Ping(ctx)) }

// Close waits for running calls and closes the connections. Later calls fail with store.ErrClosed; closing again does nothing.
func (r *Records) Close() error {
	if !r.db.closed.Swap(true) {
		r.db.pool.Close()
		r.db.leads.Close()
	}
	return nil
}

// lock names what writes must not do at the same time; noLock: nothing.
type lock string

const (
	noLock        lock = ""
	lockBooks     lock = "books" // numbers of invoices and credit notes, the ledger, what is bought
	lockCatalog   lock = "catalog"
	lockBackfills lock = "backfills"
	lockAliases   lock = "aliases"
	lockNodes     lock = "nodes"
	lockNotices   lock = "notices"
	lockProducers lock = "producers"
	lockRecounts  lock = "recounts"
	lockRefunds   lock = "refunds"
	lockRuns      lock = "runs"
	lockSeals     lock = "seals"
)

// key is the lock's number; the others in the same database are those of River and of journals.
func (l lock) key() int64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte("tally records " + string(l))) // it cannot fail
	return int64(h.Sum64())                              //nolint:gosec // any number will do
}

// begin is how a write transaction begins: the fence first, so that the lock is not waited for in vain.
func (r *Records) begin(under lock) string {
	q := "BEGIN"
	if r.fence != 0 {
		q += "; SELECT tally_fence(" + strconv.FormatUint(r.fence, 10) + ")"
	}
	if under != noLock {
		q += "; SELECT pg_advisory_xact_lock(" + strconv.FormatInt(under.key(), 10) + ")"
	}
	return q
}

// write runs do in one durable transaction, under a lock. what names it in errors. do may run several times; only what the last
// one did stays.
func (r *Records) write(ctx context.Context, what string, under lock, do func(tx pgx.Tx) error) error {
	return r.writeOn(ctx, r.db.pool, what, r.begin(under), do)
}

func (r *Records) writeOn(ctx context.Context, pool *pgxpool.Pool, what, begin string, do func(tx pgx.Tx) error) error {
	if r.db.closed.Load() {
		return fmt.Errorf("records: %s: %w", what, store.ErrClosed)
	}
	var err error
	for range attemptsMax {
		if err = attempt(ctx, pool, begin, do); err == nil || !again(err) || ctx.Err() != nil {
			break
		}
	}
	return r.wrap(what, err)
}

func attempt(ctx context.Context, pool *pgxpool.Pool, begin string, do func(tx pgx.Tx) error) error {
	tx, err := pool.BeginTx(ctx, pgx.TxOptions{BeginQuery: begin})
	if err != nil {
		if stale(err) {
			err = fmt.Errorf("%w: %w", errAgain, err)
		}
		return err
	}
	if err := do(tx); err != nil {
		// The cause is err. The caller may be gone; a connection that cannot roll back is dropped.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), idleMax)
		defer cancel()
		_ = tx.Rollback(ctx)
		return err
	}
	return tx.Commit(ctx)
}

// errAgain asks write for another attempt.
var errAgain = errors.New("tried several times")

// stale says whether a transaction could not begin because its connection was gone, as all are after PostgreSQL was restarted.
// A database that takes no connections is none of that.
func stale(err error) bool {
	if pe := (*pgconn.PgError)(nil); errors.As(err, &pe) {
		return pe.Code == "57P01" || pe.Code == "57P02" || pe.Code == "25P03" // ended by the administrator, a crash, its idleness
	}
	connect := (*pgconn.ConnectError)(nil)
	return !errors.As(err, &connect) && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}

// again says whether a transaction that failed so left nothing and may succeed when it is tried again.
func again(err error) bool {
	if pe := (*pgconn.PgError)(nil); errors.As(err, &pe) {
		return pe.Code == "40001" || pe.Code == "40P01" // serialization failure, deadlock
	}
	return errors.Is(err, errAgain) || pgconn.SafeToRetry(err)
}

// writeAudited is write with the operator action that it is part of.
func (r *Records) writeAudited(ctx context.Context, what string, under lock, a store.Audit, do func(tx pgx.Tx) error) error {
	return r.write(ctx, what, under, func(tx pgx.Tx) error {
		if err := do(tx); err != nil {
			return err
		}
		return insertAudit(ctx, tx, a)
	})
}

// lockCustomer holds off other writes that lock the customer, but none that only refer to it. An unknown one is no error: what
// refers to it will fail.
func lockCustomer(ctx context.Context, tx pgx.Tx, id string) error {
	_, err := tx.Exec(ctx, "SELECT 1 FROM customers WHERE id = $1 FOR NO KEY UPDATE", id)
	return err
}

// scanner is a row or the current row of many.
type scanner interface{ Scan(dest ...any) error }

// queryer is a transaction or a pool.
type queryer interface {
	Query(ctx context.Context, query string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, query string, args ...any) pgx.Row
}

// list reads all rows. Its result is never nil.
func list[T any](ctx context.Context, q queryer, scan func(scanner) (T, error), query string, args ...any) ([]T, error) {
	rows, err := q.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := []T{}
	for rows.Next() {
		one, err := scan(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, rows.Err()
}

// limitMax is one more than a page may have: services ask for one more to know whether there is a next page.
const limitMax = 1001

// page reads a page of rows. query has a condition for the cursor already.
func page[T any](ctx context.Context, r *Records, what string, limit int, scan func(scanner) (T, error), query string, args ...any) ([]T, error) {
	if limit < 1 || limit > limitMax {
		return nil, fmt.Errorf("records: %s: limit %d is outside 1..%d", what, limit, limitMax)
	}
	all, err := list(ctx, r.db.pool, scan, query+" LIMIT "+strconv.Itoa(limit), args...)
	return all, r.wrap(what, err)
}

// conflict is store.ErrConflict with its reason.
func conflict(format string, args ...any) error {
	return fmt.Errorf("%w: %s", store.ErrConflict, fmt.Sprintf(format, args...))
}
