// Package pitr_test restores records, and a journal, in PostgreSQL to a point in time, as docs/backup.md says, and audits them.
package pitr_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	appseal "github.com/tallystick/tallystick/internal/app/seal"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/seal"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file"
	"github.com/tallystick/tallystick/internal/store/file/tree"
	"github.com/tallystick/tallystick/internal/store/pgtest"
	"github.com/tallystick/tallystick/internal/store/postgres"
	"github.com/tallystick/tallystick/internal/store/postgres/journal"
)

const patience = time.Minute

// world is a deployment with records in PostgreSQL and a journal in files, or in the same database.
type world struct {
	cluster          *pgtest.Cluster
	url              string
	records          *postgres.Records
	journal          store.Keeper
	shared           bool // the journal is in the database too
	seal             *appseal.Service
	signer, verifier string
	events           int
	now              time.Time
}

// open opens all over a tree that is not there: it is made from the log.
func (w *world) open(t *testing.T) {
	t.Helper()
	tiles, err := tree.Open(tree.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tiles.Close(); err != nil {
			t.Error(err)
		}
	})
	if w.records, err = postgres.Open(t.Context(), w.url); err != nil {
		t.Fatal(err)
	}
	if w.shared {
		j, err := journal.Open(t.Context(), journal.Config{URL: w.url, Unsafe: true}) // the cluster of tests does not sync
		if err != nil {
			t.Fatal(err)
		}
		w.journal = j
	}
	if w.seal, err = appseal.Open(t.Context(), appseal.Config{
		Seals: w.records, Keys: w.records, Invoices: w.records, Journal: w.journal, Tiles: tiles, Signer: w.signer, Verifier: w.verifier,
		Now: func() time.Time { return w.now }, Random: rand.Reader, Log: slog.New(slog.DiscardHandler),
	}); err != nil {
		t.Fatal(err)
	}
}

// work stores events, signs a checkpoint over them and notes how far it is among the records.
func (w *world) work(t *testing.T, step string) {
	t.Helper()
	w.now = w.now.Add(time.Hour)
	b := store.Batch{Producer: "api/tok_1", ReceivedAt: w.now}
	for range 400 {
		w.events++
		b.Entries = append(b.Entries, store.Entry{
			Event:  meter.Event{Source: "api", ID: fmt.Sprint(w.events), Type: "call", Subject: fmt.Sprint("user_", w.events), Time: w.now, Data: []byte(`{"a":1}`)},
			Origin: meter.Reported, Resolutions: []meter.Resolution{{CustomerID: "cus_1", Meter: "calls", Value: money.FromInt(1)}},
		})
	}
	if _, err := w.journal.Append(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if _, err := w.seal.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := w.records.PutSetting(t.Context(), step, "done"); err != nil {
		t.Fatal(err)
	}
}

// ask reads one value of the cluster.
func (w *world) ask(ctx context.Context, statement string, args ...any) (v string, err error) {
	conn, err := pgx.Connect(ctx, w.cluster.URL("postgres"))
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	rows, err := conn.Query(ctx, statement, args...)
	if err != nil {
		return "", err
	}
	defer rows.Close()
	for rows.Next() {
		if err := rows.Scan(&v); err != nil {
			return "", err
		}
	}
	return v, rows.Err()
}

// until asks again until the answer is wanted.
func (w *world) until(t *testing.T, want, statement string, args ...any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		have, err := w.ask(ctx, statement, args...)
		if err == nil && have == want {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s is %q (%v), want %q", statement, have, err, want)
		}
	}
}

func (w *world) must(t *testing.T, statement string) string {
	t.Helper()
	v, err := w.ask(t.Context(), statement)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestRecordsComeBackToAPointInTime(t *testing.T) {
	t.Parallel()
	for _, target := range []string{"lsn", "time"} {
		t.Run(target, func(t *testing.T) {
			t.Parallel()
			pointInTime(t, target, false)
		})
		t.Run(target+" with the journal", func(t *testing.T) {
			t.Parallel()
			pointInTime(t, target, true)
		})
	}
}

func pointInTime(t *testing.T, target string, shared bool) {
	t.Helper()
	w := &world{shared: shared, cluster: pgtest.Start(t, pgtest.Config{Settings: []string{"wal_level=replica", "archive_mode=on", "max_wal_senders=4"}}), now: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)}
	folder := w.cluster.Folder()
	archive := filepath.Join(folder, "archive")
	w.must(t, fmt.Sprintf("ALTER SYSTEM SET archive_command = 'mkdir -p %s && test ! -f %s/%%f && cp %%p %s/%%f'", archive, archive, archive))
	w.must(t, "SELECT pg_reload_conf()::text")
	w.url = w.cluster.Database(t)
	var err error
	if !shared {
		if w.journal, err = file.Open(file.Config{Dir: t.TempDir()}); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if err := w.journal.Close(); err != nil {
			t.Error(err)
		}
	})
	if w.signer, w.verifier, err = seal.NewKey(rand.Reader, seal.Origin("test")); err != nil {
		t.Fatal(err)
	}
	w.open(t)
	w.work(t, "before the base backup")
	if err := w.cluster.Run(t.Context(), "pg_basebackup", "-h", folder, "-U", "tally", "-D", filepath.Join(folder, "base"), "-c", "fast", "-X", "stream"); err != nil {
		t.Fatal(err)
	}
	w.work(t, "before the point")
	last, err := w.records.Checkpoints(t.Context(), 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	point := w.must(t, "SELECT pg_current_wal_insert_lsn()::text")
	if target == "time" {
		point = w.must(t, "SELECT clock_timestamp()::text")
	}
	events := w.events
	w.work(t, "after the point")
	if err := w.records.Close(); err != nil {
		t.Fatal(err)
	}
	if shared {
		w.events = events // the others are gone, with their receipts
		if err := w.journal.Close(); err != nil {
			t.Fatal(err)
		}
	}
	segment := w.must(t, "SELECT pg_walfile_name(pg_switch_wal())")
	w.until(t, "t", "SELECT CASE WHEN last_archived_wal >= $1 THEN 't' ELSE 'f' END FROM pg_stat_archiver", segment)
	w.restore(t, "recovery_target_"+target, point, archive)

	w.open(t) // as a server opens them
	defer func() {
		if err := w.records.Close(); err != nil {
			t.Error(err)
		}
	}()
	for step, want := range map[string]string{"before the base backup": "done", "before the point": "done", "after the point": ""} {
		if have, err := w.records.Setting(t.Context(), step); err != nil || have != want {
			t.Errorf("%q is %q (%v), want %q", step, have, err, want)
		}
	}
	report, err := appseal.Audit(t.Context(), appseal.Audited{
		Seals: w.records, Keys: w.records, Invoices: w.records, Journal: w.journal, Verifier: w.verifier, Random: rand.Reader, Against: last[0].Note,
	})
	if err != nil || len(report.Findings) > 0 || report.Events != int64(w.events) || report.Checkpoints != 2 {
		t.Errorf("the audit: %+v, %v", report, err)
	}
	w.work(t, "afterwards") // and it goes on
}

// restore puts the base backup in the place of what was lost, and replays the archive up to a point.
func (w *world) restore(t *testing.T, setting, point, archive string) {
	t.Helper()
	ctx, folder := t.Context(), w.cluster.Folder()
	data := filepath.Join(folder, "data")
	if err := w.cluster.Stop(ctx, "immediate"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.RemoveAll(data), os.Rename(filepath.Join(folder, "base"), data)); err != nil {
		t.Fatal(err)
	}
	conf, err := os.OpenFile(filepath.Join(data, "postgresql.auto.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = fmt.Fprintf(conf, "restore_command = 'cp %s/%%f %%p'\n%s = '%s'\nrecovery_target_action = 'promote'\n", archive, setting, point)
	if err := errors.Join(err, conf.Close(), os.WriteFile(filepath.Join(data, "recovery.signal"), nil, 0o644)); err != nil { //nolint:gosec // PostgreSQL reads it as another user
		t.Fatal(err)
	}
	if err := w.cluster.Resume(ctx); err != nil {
		t.Fatal(err)
	}
	w.until(t, "f", "SELECT CASE WHEN pg_is_in_recovery() THEN 't' ELSE 'f' END")
}
