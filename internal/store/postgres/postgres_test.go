package postgres

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/pgtest"
	"github.com/tallystick/tallystick/internal/store/storetest"
	"github.com/tallystick/tallystick/internal/store/storetest/ledgertest"
	"github.com/tallystick/tallystick/internal/store/storetest/recounts"
	"github.com/tallystick/tallystick/internal/store/storetest/sealtest"
	"github.com/tallystick/tallystick/internal/store/storetest/sendertest"
)

var instant = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// migrated is the URL of a fresh database with the schema.
func migrated(t testing.TB) string {
	t.Helper()
	return pgtest.Migrated(t, "records", func(ctx context.Context, dsn string) error {
		_, _, err := Up(ctx, dsn)
		return err
	})
}

func mustOpen(t testing.TB, dsn string) *Records {
	t.Helper()
	r, err := Open(t.Context(), dsn)
	ok(t, err)
	t.Cleanup(func() { ok(t, r.Close()) })
	return r
}

func fresh(t *testing.T) store.Records { return mustOpen(t, migrated(t)) }

func TestConformance(t *testing.T) {
	t.Parallel()
	storetest.Records(t, fresh)
}

func TestRecounts(t *testing.T) {
	t.Parallel()
	recounts.Suite(t, fresh)
}

func TestSenders(t *testing.T) {
	t.Parallel()
	sendertest.Producers(t, fresh)
	sendertest.Gateways(t, fresh)
	sendertest.Allowances(t, fresh)
	sendertest.Notices(t, fresh)
	sendertest.Nodes(t, fresh)
	sendertest.Refunds(t, fresh)
	sendertest.Subscriptions(t, fresh)
}

func TestSeals(t *testing.T) {
	t.Parallel()
	sealtest.Seals(t, fresh)
}

// TestRestart: connections that PostgreSQL's restart cut off are no error of the next call.
func TestRestart(t *testing.T) {
	t.Parallel()
	c := pgtest.Start(t, pgtest.Config{Fsync: true})
	r := mustOpen(t, c.Database(t))
	l, err := r.TakeLead(t.Context(), "a", "http://a", time.Hour)
	ok(t, err)
	leading := r.Fenced(l.Fence)
	for i, mode := range []string{"fast", "immediate"} {
		for _, err := range together([2]*Records{leading, r}, 8, func(r *Records, n int) error {
			return r.PutSetting(t.Context(), string(rune('a'+n)), mode)
		}) {
			ok(t, err)
		}
		ok(t, c.Stop(t.Context(), mode))
		if err := leading.PutSetting(t.Context(), "x", mode); err == nil {
			t.Error("a write without a database")
		}
		ok(t, c.Resume(t.Context()))
		if _, err := r.KeepLead(t.Context(), l.Fence, time.Hour); err != nil {
			t.Errorf("restart %d: %v", i, err)
		}
		ok(t, leading.PutSetting(t.Context(), "x", mode))
		if got, err := r.Setting(t.Context(), "h"); err != nil || got != mode {
			t.Errorf("what was acknowledged before restart %d: %q, %v", i, got, err)
		}
	}
}

// A caller that went away takes its write back, and the store stays usable.
func TestCanceledWrite(t *testing.T) {
	t.Parallel()
	r := mustOpen(t, migrated(t))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.PutSetting(ctx, "a", "b"); !errors.Is(err, context.Canceled) {
		t.Fatalf("put: %v", err)
	}
	got, err := r.Setting(t.Context(), "a")
	if err != nil || got != "" {
		t.Fatalf("setting %q, %v", got, err)
	}
	ok(t, r.PutSetting(t.Context(), "a", "b"))
}

func TestLedger(t *testing.T) {
	t.Parallel()
	ledgertest.Suite(t, fresh)
}
