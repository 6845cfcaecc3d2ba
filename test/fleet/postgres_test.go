package fleet

import (
	"context"
	"syscall"
	"testing"
	"time"
)

// TestFailover: what was committed before the primary was killed is at the promoted standby, also when nobody closed anything.
func TestFailover(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*postgresWait)
	defer cancel()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	primary, err := NewPostgres(ctx)
	must(err)
	defer func() { must(primary.Close()) }()
	must(primary.CreateDatabase(ctx, "tally"))
	standby, err := primary.Standby(ctx)
	must(err)
	defer func() { must(standby.Close()) }()
	must(primary.Confirm(ctx, true))
	_, err = primary.QueryIn(ctx, "tally", "CREATE TABLE t (n int); INSERT INTO t VALUES (7)")
	must(err)
	t.Logf("both stand after %v", time.Since(began).Round(time.Millisecond))
	began = time.Now()
	primary.Stop(syscall.SIGKILL)
	must(standby.Promote(ctx))
	if n, err := standby.QueryIn(ctx, "tally", "INSERT INTO t VALUES (8); SELECT sum(n) FROM t"); err != nil || n != "15" {
		t.Errorf("%s, %v", n, err)
	}
	t.Logf("promoted after %v", time.Since(began).Round(time.Millisecond))
}
