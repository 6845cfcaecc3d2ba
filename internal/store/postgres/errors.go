package postgres

import (
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tallystick/tallystick/internal/store"
)

// wrap names the operation and maps what PostgreSQL says to the store's errors. nil stays nil.
func (r *Records) wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	kind := kindOf(err)
	if r.db.closed.Load() {
		kind = store.ErrClosed
	}
	if kind == nil || errors.Is(err, kind) {
		return fmt.Errorf("records: %s: %w", what, err)
	}
	return fmt.Errorf("records: %s: %w: %w", what, kind, err)
}

// kindOf is the store's error for a cause, or nil.
func kindOf(err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return store.ErrNotFound
	}
	var pe *pgconn.PgError
	if !errors.As(err, &pe) {
		return nil
	}
	switch pe.Code {
	case "23505": // unique_violation
		return store.ErrExists
	case "23503": // foreign_key_violation
		return store.ErrNotFound
	case "TL001": // raised by our triggers and by tally_fence
		return store.ErrConflict
	case "53100": // disk_full
		return store.ErrFull
	case "22021", "22P05": // a byte sequence or a character that a text cannot hold
		return store.ErrInvalid
	case "XX001", "XX002": // data_corrupted, index_corrupted
		return store.ErrCorrupt
	}
	return nil
}
