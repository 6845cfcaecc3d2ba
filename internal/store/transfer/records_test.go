package transfer_test

import (
	"path/filepath"
	"testing"

	"github.com/tallystick/tallystick/internal/store/pgtest"
	"github.com/tallystick/tallystick/internal/store/postgres"
	"github.com/tallystick/tallystick/internal/store/sqlite"
	"github.com/tallystick/tallystick/internal/store/transfer"
)

// The records of both drivers have the same tables with the same columns.
func TestRecordsOfBothDriversAreAlike(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "records.db")
	r, err := sqlite.Scratch(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	raw, err := sqlite.Raw(path)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	dsn := pgtest.Database(t)
	p, err := postgres.Open(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	there := transfer.Database{DB: database(t, "pgx", dsn, "SELECT 1"), Dialect: transfer.Postgres}
	if _, err := transfer.Tables(t.Context(), transfer.Database{DB: raw, Dialect: transfer.SQLite}, there); err != nil {
		t.Fatal(err)
	}
}
