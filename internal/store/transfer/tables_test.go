package transfer_test

import (
	"database/sql"
	"errors"
	"path/filepath"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver
	_ "modernc.org/sqlite"             // the driver

	"github.com/tallystick/tallystick/internal/store/pgtest"
	"github.com/tallystick/tallystick/internal/store/transfer"
)

const (
	sqliteTables = `CREATE TABLE parents (id TEXT PRIMARY KEY, ready INTEGER NOT NULL, body BLOB, at INTEGER NOT NULL) STRICT;
CREATE TABLE children (n INTEGER PRIMARY KEY, parent TEXT NOT NULL REFERENCES parents(id), note TEXT) STRICT;
CREATE TRIGGER stern BEFORE INSERT ON children BEGIN SELECT RAISE(ABORT, 'no') WHERE new.n < 8; END`
	postgresTables = `CREATE TABLE children_of (x int);
DROP TABLE children_of;
CREATE TABLE parents (id text PRIMARY KEY, ready boolean NOT NULL, body bytea, at timestamptz NOT NULL);
CREATE TABLE children (n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, parent text NOT NULL REFERENCES parents(id), note text)`
	rows = `INSERT INTO parents VALUES ('a', 1, x'00ff', 1700000000123456), ('ß', 0, NULL, 0);
INSERT INTO children VALUES (1, 'a', 'one'), (7, 'ß', NULL)`
)

func database(t *testing.T, driver, dsn, script string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := db.ExecContext(t.Context(), script); err != nil {
		t.Fatal(err)
	}
	return db
}

func lite(t *testing.T, script string) transfer.Database {
	t.Helper()
	return transfer.Database{DB: database(t, "sqlite", "file:"+filepath.Join(t.TempDir(), "x.db")+"?_pragma=foreign_keys(1)", script), Dialect: transfer.SQLite}
}

// From SQLite to PostgreSQL and back, all values are the same.
func TestTablesThereAndBack(t *testing.T) {
	t.Parallel()
	from := lite(t, sqliteTables+"; DROP TRIGGER stern; "+rows)
	there := transfer.Database{DB: database(t, "pgx", pgtest.Database(t), postgresTables), Dialect: transfer.Postgres}
	back := lite(t, sqliteTables)
	moved, err := transfer.Tables(t.Context(), from, there)
	if err != nil {
		t.Fatal(err)
	}
	if len(moved) != 2 || moved[0].Name != "parents" || moved[0].Rows != 2 || moved[1].Rows != 2 {
		t.Errorf("moved %+v", moved)
	}
	again, err := transfer.Tables(t.Context(), from, there)
	if err != nil || again[0] != moved[0] {
		t.Errorf("once more: %+v, %v", again, err)
	}
	last, err := transfer.Tables(t.Context(), there, back)
	if err != nil || last[0] != moved[0] || last[1] != moved[1] {
		t.Errorf("back: %+v, %v", last, err)
	}
	if _, err := back.DB.ExecContext(t.Context(), "INSERT INTO children VALUES (2, 'a', '')"); err == nil {
		t.Error("the trigger is not back")
	}
	var n int64
	if err := there.DB.QueryRowContext(t.Context(), "INSERT INTO children (parent) VALUES ('a') RETURNING n").Scan(&n); err != nil || n != 8 {
		t.Errorf("the next child is %d (%v)", n, err)
	}
	if _, err := transfer.Tables(t.Context(), from, there); !errors.Is(err, transfer.ErrDiffers) {
		t.Errorf("a target with rows of its own: %v", err)
	}
	if _, err := transfer.Tables(t.Context(), from, lite(t, sqliteTables+"; ALTER TABLE children ADD COLUMN more TEXT")); !errors.Is(err, transfer.ErrDiffers) {
		t.Errorf("a target with another column: %v", err)
	}
}
