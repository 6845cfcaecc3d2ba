package pgtest

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
)

func query(t *testing.T, dsn, statement string) (n int) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if err := conn.QueryRow(t.Context(), statement).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestDatabasesAreFreshAndTemplatesAreMadeOnce(t *testing.T) {
	made := 0
	migrate := func(ctx context.Context, dsn string) error {
		made++
		conn, err := pgx.Connect(ctx, dsn)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close(ctx) }()
		_, err = conn.Exec(ctx, "CREATE TABLE t (n int); INSERT INTO t VALUES (7)")
		return err
	}
	for range 2 {
		dsn := Migrated(t, "one", migrate)
		if n := query(t, dsn, "INSERT INTO t VALUES (1) RETURNING (SELECT sum(n)::int FROM t)"); n != 7 {
			t.Errorf("the sum before was %d, want 7: the database is not fresh", n)
		}
	}
	if made != 1 {
		t.Errorf("migrated %d times, want once", made)
	}
	if n := query(t, Database(t), "SELECT count(*)::int FROM pg_tables WHERE schemaname = 'public'"); n != 0 {
		t.Errorf("%d tables in an empty database", n)
	}
}

func TestClusterOfItsOwnSurvivesACrash(t *testing.T) {
	c := Start(t, Config{Fsync: true})
	dsn := c.Database(t)
	query(t, dsn, "WITH x AS (SELECT 1 AS n) SELECT n FROM x")
	if err := c.Stop(t.Context(), "immediate"); err != nil {
		t.Fatal(err)
	}
	if err := c.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	query(t, dsn, "SELECT 1")
}
