package cli_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tallystick/tallystick/test/process"
)

// TestIngestGoesOn: an ingest that is interrupted, and one whose server is killed, go on where outcomes are known; nothing is
// lost and nothing counts twice.
func TestIngestGoesOn(t *testing.T) {
	t.Parallel()
	const total = 40_000
	tally, err := process.Build(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	catalog, events, data := filepath.Join(dir, "catalog.yaml"), filepath.Join(dir, "events.ndjson"), filepath.Join(dir, "data")
	var text strings.Builder
	for i := range total {
		fmt.Fprintf(&text, `{"specversion":"1.0","source":"generator","id":"e-%d","type":"completion","subject":"acme"}`+"\n", i)
	}
	for path, text := range map[string]string{
		events: text.String(), catalog: "tallystick: 1\nmeters: [{key: calls, event: completion, aggregation: count}]\nplans: [{key: free, currency: USD}]\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	serve := func() *process.Process {
		t.Helper()
		p, err := tally.Start(dir, "serve", "--dir", data, "--catalog", catalog, "--mode", "test", "--api", "127.0.0.1:0", "--gateway", "127.0.0.1:0", "--output", "json")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Close)
		if _, err := p.Stdout.Until(ctx, json.Valid); err != nil {
			t.Fatal(err)
		}
		return p
	}
	server := serve()
	for _, args := range [][]string{{"customers", "create", "acme"}, {"subscriptions", "create", "acme", "free"}} {
		if err := tally.JSON(ctx, &struct{}{}, append(args, "--dir", data)...); err != nil {
			t.Fatal(err)
		}
	}
	cut := func(what func(ingest *process.Process)) {
		t.Helper()
		p, err := tally.Start(dir, "ingest", events, "--dir", data, "--parallel", "1", "--tries", "1")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Close)
		noted(ctx, t, p, events+".tally-ingest")
		what(p)
		code, err := p.Wait(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if said := string(p.Stderr.Bytes()); code != 1 || !strings.Contains(said, "run the same command again to go on there") || len(p.Stdout.Bytes()) > 0 {
			t.Fatalf("exit code %d: %s", code, said)
		}
	}
	cut(func(ingest *process.Process) {
		if err := ingest.Signal(syscall.SIGINT); err != nil {
			t.Error(err)
		}
	})
	cut(func(*process.Process) { server.Close() })
	server = serve()
	result, err := tally.Run(ctx, "ingest", events, "--dir", data, "--output", "json")
	if err != nil {
		t.Fatal(err)
	}
	var counts struct{ Accepted, Duplicate, Conflict, Rejected, Unmatched int }
	if err := process.Document(result.Stdout, &counts); err != nil {
		t.Fatalf("%v: %s", err, result.Stderr)
	}
	if counts.Accepted+counts.Duplicate != total || counts.Conflict+counts.Rejected+counts.Unmatched != 0 || !strings.Contains(string(result.Stderr), "going on at byte ") {
		t.Errorf("%+v: %s", counts, result.Stderr)
	}
	var usage struct{ Value string }
	if err := tally.JSON(ctx, &usage, "usage", "acme", "--meter", "calls", "--dir", data); err != nil || usage.Value != fmt.Sprint(total) {
		t.Errorf("usage %s, %v", usage.Value, err)
	}
}

// noted waits until a run has noted how far it is: further than it was noted before.
func noted(ctx context.Context, t *testing.T, p *process.Process, path string) {
	t.Helper()
	before, _ := os.ReadFile(path) // none: the first run
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		if now, err := os.ReadFile(path); err == nil && string(now) != string(before) {
			return
		}
		select {
		case <-tick.C:
		case <-p.Ended():
			t.Fatalf("it ended before it was interrupted: %s", p.Stderr.Bytes())
		case <-ctx.Done():
			t.Fatal(ctx.Err())
		}
	}
}
