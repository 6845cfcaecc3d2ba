package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"

	driver "modernc.org/sqlite"

	"github.com/tallystick/tallystick/internal/store"
)

// Copied is what a copy of the records holds.
type Copied struct {
	Schema     int64             // version
	Deployment string            // its id; empty: none yet
	Checkpoint *store.Checkpoint // the newest one; nil: none yet
}

// Copy writes the records, as they are at one instant, into a new file, while another process may write to them. The copy is not
// synced. store.ErrCorrupt: they are damaged, or not ours.
func Copy(ctx context.Context, path, to string) (c Copied, err error) {
	r := &Records{path: path}
	if owned, err := r.owned(ctx); err != nil || !owned {
		return c, r.wrap("open "+path, errors.Join(err, whenNot(owned, store.ErrCorrupt)))
	}
	db, err := r.pool(1, "query_only(1)")
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	conn, err := db.Conn(ctx)
	if err != nil {
		return c, r.wrap("open "+path, err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if err := conn.Raw(func(dc any) error { return copyAll(ctx, dc, to) }); err != nil {
		return c, r.wrap("copy the records", err)
	}
	copied := &Records{path: to}
	return copied.about(ctx)
}

func whenNot(ok bool, err error) error {
	if ok {
		return nil
	}
	return err
}

// copyAll copies all pages in one step, which is one read transaction: writers go on meanwhile.
func copyAll(_ context.Context, dc any, to string) (err error) {
	source, ok := dc.(interface {
		NewBackup(uri string) (*driver.Backup, error)
	})
	if !ok {
		return errors.New("the driver cannot copy")
	}
	abs, err := filepath.Abs(to)
	if err != nil {
		return err
	}
	dsn := url.URL{Scheme: "file", Path: abs, RawQuery: url.Values{"_pragma": {"synchronous(off)"}}.Encode()}
	b, err := source.NewBackup(dsn.String())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Finish()) }()
	for more := true; more; {
		if more, err = b.Step(-1); err != nil {
			return err
		}
	}
	return nil
}

// about checks the copy's pages and reads what it holds, without changing it.
func (r *Records) about(ctx context.Context) (c Copied, err error) {
	db, err := r.pool(1, "query_only(1)")
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var sound string
	if err := db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&sound); err != nil {
		return c, r.wrap("check the copy", err)
	}
	if sound != "ok" {
		return c, fmt.Errorf("records: %w: %s", store.ErrCorrupt, sound)
	}
	if err := db.QueryRowContext(ctx, "SELECT coalesce(max(version_id), 0) FROM goose_db_version").Scan(&c.Schema); err != nil {
		return c, r.wrap("read the schema version", err)
	}
	err = db.QueryRowContext(ctx, "SELECT value FROM settings WHERE name = 'deployment.id'").Scan(&c.Deployment)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return c, r.wrap("read the deployment", err)
	}
	list, err := (&Records{path: r.path, reader: db}).Checkpoints(ctx, 0, 1)
	if err == nil && len(list) > 0 {
		c.Checkpoint = &list[0]
	}
	return c, err
}
