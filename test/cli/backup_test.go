package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/tallystick/tallystick/test/process"
)

// flip FOLDER: flips one bit in the middle of the largest file below it.
func flip(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: flip FOLDER")
	}
	largest, size := "", int64(0)
	ts.Check(filepath.WalkDir(ts.MkAbs(args[0]), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		st, err := d.Info()
		if err == nil && st.Size() > size {
			largest, size = path, st.Size()
		}
		return err
	}))
	b, err := os.ReadFile(largest)
	ts.Check(err)
	b[len(b)/2] ^= 1
	ts.Check(os.WriteFile(largest, b, 0o600))
}

const backupCatalog = `tallystick: 1
meters:
  - {key: calls, event: call, aggregation: count}
plans:
  - {key: free, currency: USD}
`

// reporter reports events of its own one after the other until it is stopped, and counts those that were acknowledged.
type reporter struct {
	url, token string
	number     int
	acked      atomic.Int64
}

func (r *reporter) run(ctx context.Context) error {
	for n := 1; ctx.Err() == nil; n++ {
		var events []map[string]any
		for i := range 20 {
			events = append(events, map[string]any{
				"specversion": "1.0", "id": fmt.Sprintf("%d-%d-%d", r.number, n, i), "source": fmt.Sprintf("load/%d", r.number), "type": "call", "subject": "acme",
				"data": map[string]any{"path": "/some/where", "n": n},
			})
		}
		body, err := json.Marshal(events)
		if err != nil {
			return err
		}
		req, err := http.NewRequestWithContext(context.WithoutCancel(ctx), http.MethodPost, r.url+"/v1/events", bytes.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+r.token)
		req.Header.Set("Content-Type", "application/cloudevents-batch+json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		if err := resp.Body.Close(); err != nil {
			return err
		}
		if resp.StatusCode/100 != 2 {
			return fmt.Errorf("reporting answered %s", resp.Status)
		}
		r.acked.Add(int64(len(events)))
	}
	return nil
}

// TestBackupUnderLoad takes backups of a server that stores events without a pause, some of them killed. Each that was finished
// holds all that was acknowledged before it began, and passes the audit.
func TestBackupUnderLoad(t *testing.T) {
	t.Parallel()
	tally, err := process.Build(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	data, kept := filepath.Join(dir, "data"), filepath.Join(dir, "kept")
	if err := os.WriteFile(filepath.Join(dir, "catalog.yaml"), []byte(backupCatalog), 0o600); err != nil {
		t.Fatal(err)
	}
	server, err := tally.Start(dir, "serve", "--dir", data, "--catalog", "catalog.yaml", "--api", "127.0.0.1:0", "--gateway", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if _, err := server.Stderr.Until(ctx, func(text []byte) bool { return bytes.Contains(text, []byte("Token  ")) }); err != nil {
		t.Fatal(err)
	}
	run(ctx, t, tally, "customers", "create", "acme", "--name", "Acme", "--dir", data)
	run(ctx, t, tally, "subscriptions", "create", "acme", "free", "--dir", data)
	var at struct{ API, Token string }
	b, err := os.ReadFile(filepath.Join(data, "client.json"))
	if err = errors.Join(err, json.Unmarshal(b, &at)); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(server.Stderr.Bytes(), []byte(at.Token)) {
		t.Error("the operator's token is in the log of a server without a terminal")
	}
	load, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	reporters := []*reporter{{url: at.API, token: at.Token, number: 1}, {url: at.API, token: at.Token, number: 2}}
	acked := func() (n int64) {
		for _, r := range reporters {
			n += r.acked.Load()
		}
		return n
	}
	for _, r := range reporters {
		wg.Go(func() {
			if err := r.run(load); err != nil {
				t.Error(err)
			}
		})
	}
	finished := 0
	for i := range 12 {
		if i%3 != 0 {
			killedBackup(ctx, t, tally, dir, data, kept, time.Duration(i)*15*time.Millisecond)
			continue
		}
		before := acked()
		var made struct {
			Backup           string
			Position, Events int64
		}
		if err := tally.JSON(ctx, &made, "backup", "--dir", data, "--to", kept); err != nil {
			t.Fatal(err)
		}
		if finished++; made.Events < before {
			t.Errorf("backup %d has %d events, %d were acknowledged before it", finished, made.Events, before)
		}
	}
	stop()
	wg.Wait()
	restoreAll(ctx, t, tally, dir, kept, finished)
}

// killedBackup kills a backup after a time, if it lasts that long.
func killedBackup(ctx context.Context, t *testing.T, tally process.Binary, dir, data, kept string, after time.Duration) {
	t.Helper()
	p, err := tally.Start(dir, "backup", "--dir", data, "--to", kept)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	wait, done := context.WithTimeout(ctx, after)
	defer done()
	if _, err := p.Wait(wait); err == nil {
		return // it was quicker
	}
	if err := p.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
	<-p.Ended()
}

// restoreAll restores the newest backups, with their audits.
func restoreAll(ctx context.Context, t *testing.T, tally process.Binary, dir, kept string, finished int) {
	t.Helper()
	var list struct{ Items []struct{ Name string } }
	if err := tally.JSON(ctx, &list, "restore", "--from", kept, "--list"); err != nil {
		t.Fatal(err)
	}
	if len(list.Items) < finished {
		t.Fatalf("%d backups were finished, %d are there", finished, len(list.Items))
	}
	for i, b := range list.Items {
		var got struct {
			Differences []string
			Usage       []struct{ Events int64 }
		}
		if err := tally.JSON(ctx, &got, "restore", "--from", kept, "--backup", b.Name, "--dir", filepath.Join(dir, b.Name)); err != nil {
			t.Errorf("backup %d, %s: %v", i, b.Name, err)
		}
	}
	t.Logf("%d backups were restored, %d of them killed or quicker than the kill", len(list.Items), len(list.Items)-finished)
}

func run(ctx context.Context, t *testing.T, tally process.Binary, args ...string) {
	t.Helper()
	r, err := tally.Run(ctx, args...)
	if err != nil || r.Code != 0 {
		t.Fatalf("tally %v: %v\n%s", args, err, r.Stderr)
	}
}
