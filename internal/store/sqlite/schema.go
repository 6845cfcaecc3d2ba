package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/pressly/goose/v3"

	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/schema"
)

// Schema calls do with the file's migrations, without applying any. Who changes them must be the only one that has the file open.
func Schema(ctx context.Context, path string, do func(*schema.Schema) error) (err error) {
	if _, err := os.Stat(path); err != nil {
		return err
	}
	r := &Records{path: path}
	if owned, err := r.owned(ctx); err != nil || !owned {
		return r.wrap("open "+path, errors.Join(err, whenNot(owned, fmt.Errorf("%w: it is no file of records", store.ErrCorrupt))))
	}
	db, err := r.pool(1, "synchronous(full)", "foreign_keys(1)")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	s, err := schema.New(goose.DialectSQLite3, db, dir)
	if err != nil {
		return err
	}
	return do(s)
}

// Raw opens the file's tables for a transfer. The file must have been opened by Open before, and by nobody else now.
func Raw(path string) (*sql.DB, error) {
	return (&Records{path: path}).pool(1, "synchronous(full)", "foreign_keys(1)")
}
