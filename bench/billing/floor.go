package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"time"

	"github.com/tallystick/tallystick/internal/app/bill"
	"github.com/tallystick/tallystick/internal/core/invoice"
)

// floor stores documents of an invoice's size in a bare SQLite file, as many in a synced transaction as billing closes at once.
func floor(ctx context.Context, path string, rows int, inv invoice.Invoice) (took time.Duration, err error) {
	document, err := json.Marshal(inv)
	if err != nil {
		return 0, err
	}
	db, err := sql.Open("sqlite", "file:"+path+"?_txlock=immediate&_pragma=journal_mode(wal)&_pragma=synchronous(full)")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxOpenConns(1)
	if _, err := db.ExecContext(ctx, "CREATE TABLE documents (n INTEGER PRIMARY KEY, document TEXT NOT NULL)"); err != nil {
		return 0, err
	}
	began := time.Now()
	for n := 0; n < rows; {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return 0, err
		}
		for i := 0; i < bill.MaxCloses && n < rows; i++ {
			if _, err := tx.ExecContext(ctx, "INSERT INTO documents (document) VALUES (?)", string(document)); err != nil {
				return 0, errors.Join(err, tx.Rollback())
			}
			n++
		}
		if err := tx.Commit(); err != nil {
			return 0, err
		}
	}
	return time.Since(began), nil
}
