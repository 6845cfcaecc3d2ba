package sqlite

import (
	"database/sql"
	"errors"
	"fmt"
	"syscall"

	driver "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/tallystick/tallystick/internal/store"
)

// wrap names the operation and maps what SQLite says to the store's errors. nil stays nil.
func (r *Records) wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	kind := r.kind(err)
	if kind == nil || errors.Is(err, kind) {
		return fmt.Errorf("records: %s: %w", what, err)
	}
	if errors.Is(kind, store.ErrBroken) {
		r.broken.Store(true)
	}
	return fmt.Errorf("records: %s: %w: %w", what, kind, err)
}

// kind is the store's error for a cause, or nil.
func (r *Records) kind(err error) error {
	var se *driver.Error
	switch {
	case r.closed.Load():
		return store.ErrClosed
	case errors.Is(err, sql.ErrNoRows):
		return store.ErrNotFound
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return store.ErrFull
	case !errors.As(err, &se):
		return nil
	}
	switch se.Code() {
	case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
		return store.ErrExists
	case sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY:
		return store.ErrNotFound
	case sqlite3.SQLITE_CONSTRAINT_TRIGGER:
		return store.ErrConflict
	case sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC:
		return store.ErrBroken
	case sqlite3.SQLITE_IOERR_SHMSIZE: // no room for the index of the write-ahead log
		return store.ErrFull
	}
	switch se.Code() & 0xff {
	case sqlite3.SQLITE_FULL:
		return store.ErrFull
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return store.ErrCorrupt
	}
	return nil
}
