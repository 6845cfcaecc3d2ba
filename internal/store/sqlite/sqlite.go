// Package sqlite keeps the records in one SQLite file.
//
// All writes go through one connection, in transactions that take the write lock at once; each is on disk when its method
// returns (WAL, synchronous=FULL). Reads have a small pool of their own and see every write that returned before.
//
// The file may have other readers (a backup), but one writing process: the caller holds the data folder's lock.
package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the driver

	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/column"
)

const (
	readers       = 4
	applicationID = 0x54414c59 // "TALY": tells our files from other databases
)

//go:embed migrations/*.sql
var migrations embed.FS

// Records implements store.Records. It is safe for concurrent use.
type Records struct {
	path   string
	writer *sql.DB // one connection
	reader *sql.DB
	leases *sql.Stmt // LeasesOf on reader: preparing it costs several times as much as running it
	closed atomic.Bool
	broken atomic.Bool // a sync failed: what later syncs say cannot be trusted
	zones  column.Zones
}

var _ store.Records = (*Records)(nil)

// Open opens or creates the file and brings it to the newest migration. store.ErrNewer: a newer program wrote it;
// store.ErrCorrupt: it is damaged, or not ours; store.ErrFull.
func Open(ctx context.Context, path string) (*Records, error) {
	return open(ctx, path, "synchronous(full)", false)
}

// open opens the file; ready says that it is ours and at the newest migration.
func open(ctx context.Context, path, synchronous string, ready bool) (*Records, error) {
	r := &Records{path: path}
	if err := r.open(ctx, synchronous, ready); err != nil {
		err = r.wrap("open "+path, err)
		return nil, errors.Join(err, r.closeAll())
	}
	return r, nil
}

func (r *Records) open(ctx context.Context, synchronous string, ready bool) (err error) {
	// SQLite would create it readable by all; it holds key digests.
	f, err := os.OpenFile(r.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	owned := ready
	if !ready {
		if owned, err = r.owned(ctx); err != nil {
			return err
		}
	}
	if r.writer, err = r.pool(1, "journal_mode(wal)", synchronous, "foreign_keys(1)", "recursive_triggers(1)", "journal_size_limit(67108864)"); err != nil {
		return err
	}
	if !owned {
		if _, err := r.writer.ExecContext(ctx, fmt.Sprintf("PRAGMA application_id = %d", applicationID)); err != nil {
			return err
		}
	}
	if !ready {
		if err := migrate(ctx, r.writer); err != nil {
			return err
		}
	}
	if r.reader, err = r.pool(readers, "query_only(1)"); err != nil {
		return err
	}
	r.leases, err = r.reader.PrepareContext(ctx, leaseColumns+leaseCounter+" ORDER BY node, epoch")
	return err
}

// pool opens connections to the file, each with these pragmas.
func (r *Records) pool(size int, pragmas ...string) (*sql.DB, error) {
	abs, err := filepath.Abs(r.path)
	if err != nil {
		return nil, err
	}
	query := url.Values{"_txlock": {"immediate"}, "_pragma": append(pragmas, "busy_timeout(10000)")}
	dsn := url.URL{Scheme: "file", Path: abs, RawQuery: query.Encode()}
	db, err := sql.Open("sqlite", dsn.String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(size)
	db.SetMaxIdleConns(size)
	return db, nil
}

// owned says whether the file bears our mark. An empty one may get it; a database of another program is refused before
// anything is written into it.
func (r *Records) owned(ctx context.Context) (owned bool, err error) {
	db, err := r.pool(1, "query_only(1)")
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var id, tables int64
	if err := db.QueryRowContext(ctx, "SELECT application_id, (SELECT count(*) FROM sqlite_schema) FROM pragma_application_id").Scan(&id, &tables); err != nil {
		return false, err
	}
	if id != applicationID && (id != 0 || tables > 0) {
		return false, fmt.Errorf("%w: it is a database of another program", store.ErrCorrupt)
	}
	return id == applicationID, nil
}

func migrate(ctx context.Context, db *sql.DB) error {
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, dir, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	current, known, err := p.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("read the schema version: %w", err)
	}
	if current > known {
		return fmt.Errorf("%w: schema version %d, this program knows up to %d", store.ErrNewer, current, known)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate from schema version %d to %d: %w", current, known, err)
	}
	return nil
}

// Close waits for running calls and closes the file. Later calls fail with store.ErrClosed; closing again does nothing.
func (r *Records) Close() error {
	if r.closed.Swap(true) {
		return nil
	}
	return r.closeAll()
}

// closeAll closes the writer last: it then folds the write-ahead log into the file.
func (r *Records) closeAll() (err error) {
	if r.leases != nil {
		err = r.leases.Close()
	}
	for _, db := range []*sql.DB{r.reader, r.writer} {
		if db != nil {
			err = errors.Join(err, db.Close())
		}
	}
	return err
}

// write runs do in one durable transaction. what names it in errors.
func (r *Records) write(ctx context.Context, what string, do func(tx *sql.Tx) error) error {
	if r.broken.Load() {
		return fmt.Errorf("records: %s: %w", what, store.ErrBroken)
	}
	tx, err := r.writer.BeginTx(ctx, nil)
	if err != nil {
		return r.wrap(what, err)
	}
	if err := do(tx); err != nil {
		_ = tx.Rollback() // the cause is err; a transaction that SQLite has ended already makes this fail
		return r.wrap(what, err)
	}
	return r.wrap(what, tx.Commit())
}

// transaction is what writes that belong together go through.
type transaction interface {
	queryer
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// repeated is a transaction that prepares each statement once, for writes of many rows. They are closed with it.
type repeated struct {
	tx       *sql.Tx
	prepared map[string]*sql.Stmt
}

func (t *repeated) statement(ctx context.Context, query string) (*sql.Stmt, error) {
	if s, ok := t.prepared[query]; ok {
		return s, nil
	}
	s, err := t.tx.PrepareContext(ctx, query)
	if err == nil {
		t.prepared[query] = s
	}
	return s, err
}

// ExecContext implements transaction.
func (t *repeated) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	s, err := t.statement(ctx, query) //nolint:sqlclosecheck // it is closed with the transaction
	if err != nil {
		return nil, err
	}
	return s.ExecContext(ctx, args...)
}

// QueryContext implements queryer.
func (t *repeated) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	s, err := t.statement(ctx, query) //nolint:sqlclosecheck // it is closed with the transaction
	if err != nil {
		return nil, err
	}
	return s.QueryContext(ctx, args...)
}

// QueryRowContext implements queryer.
func (t *repeated) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	s, err := t.statement(ctx, query) //nolint:sqlclosecheck // it is closed with the transaction
	if err != nil {
		return t.tx.QueryRowContext(ctx, query, args...) // the row has the error
	}
	return s.QueryRowContext(ctx, args...)
}

// writeMany is write for many rows of the same kinds.
func (r *Records) writeMany(ctx context.Context, what string, do func(tx transaction) error) error {
	return r.write(ctx, what, func(tx *sql.Tx) error { return do(&repeated{tx, map[string]*sql.Stmt{}}) })
}

// writeAudited is write with the operator action that it is part of.
func (r *Records) writeAudited(ctx context.Context, what string, a store.Audit, do func(tx *sql.Tx) error) error {
	return r.write(ctx, what, func(tx *sql.Tx) error {
		if err := do(tx); err != nil {
			return err
		}
		return insertAudit(ctx, tx, a)
	})
}

// scanner is a row or the current row of many.
type scanner interface{ Scan(dest ...any) error }

// queryer is a transaction or a pool.
type queryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// list reads all rows. Its result is never nil.
func list[T any](ctx context.Context, q queryer, scan func(scanner) (T, error), query string, args ...any) (all []T, err error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	return collect(rows, scan)
}

// collect reads all rows and closes them. Its result is never nil.
func collect[T any](rows *sql.Rows, scan func(scanner) (T, error)) (all []T, err error) {
	defer func() { err = errors.Join(err, rows.Close()) }()
	all = []T{}
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

// page reads a page of rows. query has a condition for the cursor already and gets the limit as its last argument.
func page[T any](ctx context.Context, r *Records, what string, limit int, scan func(scanner) (T, error), query string, args ...any) ([]T, error) {
	if limit < 1 || limit > limitMax {
		return nil, fmt.Errorf("records: %s: limit %d is outside 1..%d", what, limit, limitMax)
	}
	all, err := list(ctx, r.reader, scan, query+" LIMIT ?", append(args, limit)...)
	return all, r.wrap(what, err)
}

// conflict is store.ErrConflict with its reason.
func conflict(format string, args ...any) error {
	return fmt.Errorf("%w: %s", store.ErrConflict, fmt.Sprintf(format, args...))
}
