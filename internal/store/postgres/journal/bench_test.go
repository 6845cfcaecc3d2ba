package journal_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/tallystick/tallystick/internal/store/pgtest"
	"github.com/tallystick/tallystick/internal/store/postgres/journal"
)

// writers runs n writers until b.N rounds are done, each with a number of its own.
func writers(b *testing.B, n, events int, round func(i int) error) {
	b.Helper()
	var next atomic.Int64
	var g errgroup.Group
	b.ResetTimer()
	for range n {
		g.Go(func() error {
			for {
				i := next.Add(1)
				if i > int64(b.N) {
					return nil
				}
				if err := round(int(i)); err != nil {
					return err
				}
			}
		})
	}
	if err := g.Wait(); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(b.N*events)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkAppend compares Append with COPY of as many rows into a bare table, by as many writers, on the same server. fsync is on.
// TALLY_TEST_PG_BIN and the machine's disk decide as much as the code; the ratio counts.
func BenchmarkAppend(b *testing.B) {
	c := pgtest.Start(b, pgtest.Config{Fsync: true, Settings: []string{"shared_buffers=256MB", "max_wal_size=2GB"}})
	dsn := c.Migrated(b, "journal", migrated)
	j, err := journal.Open(b.Context(), journal.Config{URL: dsn})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = j.Close() }()
	pc, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		b.Fatal(err)
	}
	pc.MaxConns = 64
	pool, err := pgxpool.NewWithConfig(b.Context(), pc)
	if err != nil {
		b.Fatal(err)
	}
	defer pool.Close()
	if _, err := pool.Exec(b.Context(), "CREATE TABLE bare (identity bytea PRIMARY KEY, position bigint NOT NULL, body bytea NOT NULL)"); err != nil {
		b.Fatal(err)
	}
	var made atomic.Int64
	for _, shape := range []struct{ writers, events int }{{8, 1000}, {1, 1000}, {8, 100}, {64, 1}} {
		b.Run(fmt.Sprintf("append/%dx%d", shape.writers, shape.events), func(b *testing.B) {
			writers(b, shape.writers, shape.events, func(int) error {
				from := int(made.Add(int64(shape.events)))
				_, err := j.Append(b.Context(), batch(from, shape.events, 100))
				return err
			})
		})
		b.Run(fmt.Sprintf("copy/%dx%d", shape.writers, shape.events), func(b *testing.B) {
			writers(b, shape.writers, shape.events, func(int) error {
				from := int(made.Add(int64(shape.events)))
				list := batch(from, shape.events, 100).Entries
				_, err := pool.CopyFrom(b.Context(), pgx.Identifier{"bare"}, []string{"identity", "position", "body"}, pgx.CopyFromSlice(len(list), func(i int) ([]any, error) {
					id := list[i].Event.Identity()
					return []any{id[:], int64(from + i), make([]byte, 160)}, nil // an event's record has about as much
				}))
				return err
			})
		})
	}
}
