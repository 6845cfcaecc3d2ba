package postgres

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/pgtest"
)

// singleRow is a grant as one might write it first: a transaction for each, under the lock of the counter's one row.
func singleRow(b *testing.B, r *Records, counter int) {
	b.Helper()
	tx, err := r.db.pool.BeginTx(b.Context(), pgx.TxOptions{})
	ok(b, err)
	_, err = tx.Exec(b.Context(), "UPDATE single_rows SET charged = charged + 1 WHERE counter = $1 AND charged + 1 <= $2", counter, int64(1)<<60)
	ok(b, err)
	ok(b, tx.Commit(b.Context()))
}

// BenchmarkLeases compares grants by DrawLeases, many in a transaction, with one transaction per grant. fsync is on.
// TALLY_TEST_PG_BIN and the machine's disk decide as much as the code.
func BenchmarkLeases(b *testing.B) {
	c := pgtest.Start(b, pgtest.Config{Fsync: true, Settings: []string{"shared_buffers=128MB"}})
	r := mustOpen(b, c.Database(b))
	epoch, err := r.BeginEpoch(b.Context(), 2, "boot", instant)
	ok(b, err)
	for _, n := range []int{1, 20, 200, 1000} {
		b.Run(fmt.Sprint("batches of ", n), func(b *testing.B) {
			draws := make([]store.Draw, n)
			for i := range draws {
				draws[i] = store.Draw{CounterKey: store.CounterKey{CustomerID: fmt.Sprint("cus_", i), Meter: "calls", Window: period.Day}, Want: 1, Ceiling: 1 << 60}
			}
			for b.Loop() {
				if _, err := r.DrawLeases(b.Context(), 2, epoch, "boot", draws); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "grants/s")
		})
	}
	_, err = r.db.pool.Exec(b.Context(), "CREATE TABLE single_rows (counter bigint PRIMARY KEY, charged bigint NOT NULL); INSERT INTO single_rows SELECT g, 0 FROM generate_series(0, 999) g")
	ok(b, err)
	b.Run("single rows", func(b *testing.B) {
		n := 0
		for b.Loop() {
			singleRow(b, r, n%1000)
			n++
		}
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "grants/s")
	})
}
