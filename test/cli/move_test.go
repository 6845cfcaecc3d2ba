package cli_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/store/pgtest"
	"github.com/tallystick/tallystick/test/process"
)

// moved is what tally move prints.
type moved struct {
	Tables []struct {
		Table, Digest string
		Rows          int64
	}
	Compared struct{ Records, Events int64 }
	Audit    struct {
		Root     string
		Findings []any
		Against  string
	}
}

// TestMoveThereAndBack moves the demo's records to PostgreSQL and its journal to another folder or to the same database, killed
// now and then, and both back again: nothing is different at any end.
func TestMoveThereAndBack(t *testing.T) {
	t.Parallel()
	for _, journal := range []string{"folder", "database"} {
		t.Run(journal, func(t *testing.T) {
			t.Parallel()
			thereAndBack(t, journal == "database")
		})
	}
}

func thereAndBack(t *testing.T, shared bool) {
	t.Helper()
	tally, err := process.Build(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	dir, url := t.TempDir(), ""
	if shared { // a journal is refused by a database that does not sync
		url = pgtest.Start(t, pgtest.Config{Fsync: true, Settings: []string{"full_page_writes=on"}}).Database(t)
	} else {
		url = pgtest.Database(t)
	}
	home, away, back := filepath.Join(dir, "home"), filepath.Join(dir, "away"), filepath.Join(dir, "back")
	demo := demoServer(ctx, t, tally, home)
	var used struct{ Value string }
	if err := tally.JSON(ctx, &used, "usage", "acme", "--meter", "api_calls", "--window", "month", "--dir", home); err != nil {
		t.Fatal(err)
	}
	stopServer(ctx, t, demo)
	there := []string{"move", "--from", home, "--to", away, "--to-records", url}
	again := []string{"move", "--from", away, "--from-records", url, "--to", back}
	if shared {
		there, again = append(there, "--to-journal", url), append(again, "--from-journal", url)
	}
	for i := range 6 {
		p, err := tally.Start(dir, there...)
		if err != nil {
			t.Fatal(err)
		}
		wait, done := context.WithTimeout(ctx, time.Duration(120*(i+1))*time.Millisecond)
		code, err := p.Wait(wait)
		done()
		p.Close()
		if err != nil {
			continue
		}
		if code != 0 {
			t.Fatalf("move %d ended with %d before it was killed: %s", i, code, p.Stderr.Bytes())
		}
		if err := os.Rename(away, away+".part"); err != nil { // it was quicker: as if it had been killed before its last step
			t.Fatal(err)
		}
	}
	var first, second moved
	if err := tally.JSON(ctx, &first, there...); err != nil {
		t.Fatal(err)
	}
	if err := tally.JSON(ctx, &second, again...); err != nil {
		t.Fatal(err)
	}
	if shared {
		audited := []string{"audit", "--stopped", "--dir", away, "--records", url, "--journal", url}
		var report struct {
			Events   int64
			Findings []any
		}
		if err := tally.JSON(ctx, &report, audited...); err != nil || report.Events != first.Compared.Events || len(report.Findings) > 0 {
			t.Errorf("the audit of the databases: %+v, %v", report, err)
		}
		refused, err := tally.Run(ctx, "backup", "--dir", away, "--records", url, "--to", filepath.Join(dir, "kept"))
		if err != nil || refused.Code != 1 || !bytes.Contains(refused.Stderr, []byte("docs/backup.md")) {
			t.Errorf("a backup without the records: exit %d, %s, %v", refused.Code, refused.Stderr, err)
		}
	}
	rows := int64(0)
	digests := map[string]string{}
	for _, one := range first.Tables {
		rows += one.Rows
		digests[one.Table] = one.Digest
	}
	for _, one := range second.Tables {
		if digests[one.Table] != one.Digest {
			t.Errorf("table %s has another digest after it came back", one.Table)
		}
	}
	if rows < 50 || len(first.Tables) != len(second.Tables) || first.Compared != second.Compared || first.Compared.Events < 10000 ||
		first.Audit.Root != second.Audit.Root || first.Audit.Against == "" || first.Audit.Against != second.Audit.Against || len(first.Audit.Findings)+len(second.Audit.Findings) > 0 {
		t.Errorf("there %+v\nback %+v", first, second)
	}
	demo = demoServer(ctx, t, tally, back)
	now := used
	if err := tally.JSON(ctx, &now, "usage", "acme", "--meter", "api_calls", "--window", "month", "--dir", back); err != nil || now != used {
		t.Errorf("usage is %v (%v), was %v", now, err, used)
	}
	run(ctx, t, tally, "books", "--dir", back)
	run(ctx, t, tally, "audit", "--dir", back)
	stopServer(ctx, t, demo)
}

func demoServer(ctx context.Context, t *testing.T, tally process.Binary, dir string) *process.Process {
	t.Helper()
	p, err := tally.Start(filepath.Dir(dir), "demo", "--dir", dir, "--api", "127.0.0.1:0", "--gateway", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	if _, err := p.Stdout.Until(ctx, func(text []byte) bool { return bytes.Contains(text, []byte("Stop with Ctrl-C")) }); err != nil {
		t.Fatal(err)
	}
	return p
}

func stopServer(ctx context.Context, t *testing.T, p *process.Process) {
	t.Helper()
	if err := p.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code, err := p.Wait(ctx); err != nil || code != 0 {
		t.Fatalf("it ended with %d, %v: %s", code, err, p.Stderr.Bytes())
	}
}
