package sqlite

import (
	"database/sql"
	"io/fs"
	"path/filepath"
	"testing"

	"github.com/pressly/goose/v3"

	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// TestLeasesOfBeforeScopes migrates records that were written when a counter had neither scope nor length.
func TestLeasesOfBeforeScopes(t *testing.T) {
	t.Parallel()
	path, ctx := filepath.Join(t.TempDir(), "records.db"), t.Context()
	db, err := sql.Open("sqlite", path)
	ok(t, err)
	dir, err := fs.Sub(migrations, "migrations")
	ok(t, err)
	p, err := goose.NewProvider(goose.DialectSQLite3, db, dir, goose.WithDisableGlobalRegistry(true))
	ok(t, err)
	_, err = p.UpTo(ctx, 5)
	ok(t, err)
	for _, q := range []string{
		"PRAGMA application_id = 1413565529",
		"INSERT INTO leases (customer_id, meter, window, window_start, node, epoch, boot, window_end, charged) VALUES ('cus_1', 'calls', 2, 1000, 1, 7, 'b', 2000, 50)",
		`INSERT INTO leases (customer_id, meter, window, window_start, node, epoch, boot, window_end, charged, written_off, closed)
			VALUES ('cus_1', 'calls', 2, 1000, 1, 6, 'a', 2000, 30, 4, 1)`,
	} {
		_, err := db.ExecContext(ctx, q)
		ok(t, err)
	}
	ok(t, db.Close())
	r := mustOpen(t, path)
	k := store.CounterKey{CustomerID: "cus_1", Meter: "calls", Window: period.Day, Start: 1000}
	got, err := r.LeasesOf(ctx, k)
	ok(t, err)
	want := []store.Lease{
		{CounterKey: k, Node: 1, Epoch: 6, Boot: "a", WindowEnd: 2000, Charged: 30, WrittenOff: 4, Closed: true},
		{CounterKey: k, Node: 1, Epoch: 7, Boot: "b", WindowEnd: 2000, Charged: 50},
	}
	if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("leases %+v, want %+v", got, want)
	}
}
