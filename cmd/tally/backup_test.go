package main

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/backup"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file"
	journalfolder "github.com/tallystick/tallystick/internal/store/file/folder"
	"github.com/tallystick/tallystick/internal/store/sqlite"
)

// Segments are begun, sealed and rewritten by erasures while backups are taken: each is a whole journal with all that was
// acknowledged before it.
func TestBackupWhileSegmentsAreSealed(t *testing.T) {
	t.Parallel()
	dir, kept := t.TempDir(), filepath.Join(t.TempDir(), "kept")
	records, err := sqlite.Open(t.Context(), filepath.Join(dir, "records.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer records.Close()
	salts := newSalts(records)
	j, err := file.Open(file.Config{Dir: filepath.Join(dir, "journal"), SegmentBytes: 8 << 10, Commit: salts.commit, Forget: salts.forget})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	var acked atomic.Int64
	load, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { busy(load, t, j, &acked) })
	sealed := 0
	for i := range 12 {
		for before := acked.Load(); acked.Load() < before+200 && !t.Failed(); {
			if _, err := j.Compact(t.Context()); err != nil {
				t.Error(err)
			}
		}
		before := acked.Load()
		m := backupOnce(t, dir, kept, time.Unix(int64(i+1), 0))
		if m.Files[0].Path != "records.db" || m.Counted("spool") > 0 { // the journal must have all that the records refer to
			t.Errorf("backup %d begins with %s", i, m.Files[0].Path)
		}
		if m.Events < before {
			t.Errorf("backup %d has %d events, %d were acknowledged before it", i, m.Events, before)
		}
		into := filepath.Join(t.TempDir(), "restored")
		if err := backup.Restore(t.Context(), kept, m, into); err != nil {
			t.Fatal(err)
		}
		r, err := journalfolder.Check(t.Context(), file.OS{}, filepath.Join(into, "journal"))
		if err != nil || r.Position != m.Position || r.Events != m.Events || r.Torn != 0 {
			t.Errorf("backup %d of %d events up to %d is %+v, %v", i, m.Events, m.Position, r, err)
		}
		sealed = r.Sealed
	}
	stop()
	wg.Wait()
	if sealed == 0 { // how many depends on the machine
		t.Error("no segment was sealed")
	}
}

func busy(ctx context.Context, t *testing.T, j *file.Journal, acked *atomic.Int64) {
	at := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	for n := 0; ctx.Err() == nil; n++ {
		b := store.Batch{Producer: "api/tok_1", ReceivedAt: at}
		for i := range 10 {
			b.Entries = append(b.Entries, store.Entry{
				Event: meter.Event{Source: "api", ID: fmt.Sprint(n, "/", i), Type: "call", Subject: fmt.Sprint("user_", n%50), Time: at, Data: fmt.Appendf(nil, `{"n":%d}`, n)}, Origin: meter.Reported,
			})
		}
		if _, err := j.Append(context.WithoutCancel(ctx), b); err != nil {
			t.Error(err)
			return
		}
		acked.Add(int64(len(b.Entries)))
		if n%60 == 59 {
			if _, err := j.Erase(context.WithoutCancel(ctx), fmt.Sprint("user_", n%50), "op", "asked", at); err != nil {
				t.Error(err)
				return
			}
		}
	}
}

func backupOnce(t *testing.T, dir, kept string, at time.Time) *backup.Manifest {
	t.Helper()
	run, err := backup.Begin(kept, at, "test")
	if err != nil {
		t.Fatal(err)
	}
	defer run.Close()
	taking := taking{run: run, dir: dir, facts: backup.Manifest{Running: true}}
	if err := taking.take(t.Context()); err != nil {
		t.Fatal(err)
	}
	m, err := run.Publish(taking.facts)
	if err != nil {
		t.Fatal(err)
	}
	return m
}
