package journal_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/journaltest"
	"github.com/tallystick/tallystick/internal/store/pgtest"
	"github.com/tallystick/tallystick/internal/store/postgres/journal"
)

func migrated(ctx context.Context, dsn string) error {
	j, err := journal.Open(ctx, journal.Config{URL: dsn, Unsafe: true})
	if err != nil {
		return err
	}
	return j.Close()
}

func database(t testing.TB) string {
	t.Helper()
	return pgtest.Migrated(t, "journal", migrated)
}

func open(t testing.TB, dsn string) *journal.Journal {
	t.Helper()
	j, err := journal.Open(t.Context(), journal.Config{URL: dsn, Unsafe: true})
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// TestConformance keeps the database of a folder in a file in it.
func TestConformance(t *testing.T) {
	t.Parallel()
	journaltest.Run(t, func(t *testing.T, dir string) store.Journal {
		t.Helper()
		at := filepath.Join(dir, "database")
		dsn, err := os.ReadFile(at)
		if err != nil {
			dsn = []byte(database(t))
			if err := os.WriteFile(at, dsn, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return open(t, string(dsn))
	})
}
