package queue

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/tallystick/tallystick/internal/store/pgtest"
)

// TestMigrateForAnother: a role that may not change tables works with those that their owner migrated.
func TestMigrateForAnother(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	for _, applied := range []bool{false, true} {
		all, err := Status(t.Context(), dsn)
		if err != nil || len(all) == 0 {
			t.Fatalf("%d migrations, %v", len(all), err)
		}
		for i, m := range all {
			if m.Version != int64(i)+1 || m.Name == "" || m.Applied != applied || m.AppliedAt.IsZero() == applied {
				t.Errorf("applied %v: %+v", applied, m)
			}
		}
		if err := Migrate(t.Context(), dsn); err != nil {
			t.Fatal(err)
		}
	}
	pool, err := pgxpool.New(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	if _, err := pool.Exec(t.Context(), "INSERT INTO river_migration (line, version) VALUES ('main', 999)"); err != nil {
		t.Fatal(err)
	}
	if all, err := Status(t.Context(), dsn); err != nil || all[len(all)-1].Version != 999 || !all[len(all)-1].Applied {
		t.Errorf("beside a newer program: %+v, %v", all, err)
	}
	if _, err := pool.Exec(t.Context(), `CREATE ROLE jobs_only LOGIN;
		GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO jobs_only;
		GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO jobs_only;
		REVOKE CREATE ON SCHEMA public FROM PUBLIC`); err != nil {
		t.Fatal(err)
	}
	did := make(chan string, 1)
	cfg := Config{Postgres: strings.Replace(dsn, "user=tally", "user=jobs_only", 1), Poll: 10 * time.Millisecond, Kinds: []Kind{{
		Name: "bill", Work: func(_ context.Context, argument string) error { did <- argument; return nil },
	}}}
	if cfg.Postgres == dsn {
		t.Fatalf("no role in %s", dsn)
	}
	q := run(t, cfg)
	if err := q.Add(t.Context(), "bill", "now"); err != nil {
		t.Fatal(err)
	}
	if got := <-did; got != "now" {
		t.Errorf("took up %q", got)
	}
}

// TestAlone: a job that a process which died left running keeps others of its kind from being added; who has the queue alone
// takes it up at once.
func TestAlone(t *testing.T) {
	t.Parallel()
	did := make(chan string, 1)
	cfg := Config{Postgres: pgtest.Database(t), Poll: 10 * time.Millisecond, Alone: true, Kinds: []Kind{{Name: "bill", Work: func(_ context.Context, argument string) error {
		did <- argument
		return nil
	}}}}
	dead, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := dead.Add(t.Context(), "bill", "left"); err != nil {
		t.Fatal(err)
	}
	pool, err := pgxpool.New(t.Context(), cfg.Postgres)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	if _, err := pool.Exec(t.Context(), "UPDATE river_job SET state = 'running', attempt = 1, attempted_at = now()"); err != nil {
		t.Fatal(err)
	}
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	run(t, cfg)
	if got := <-did; got != "left" {
		t.Errorf("took up %q", got)
	}
}
