package cli_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/tallystick/tallystick/test/process"
)

// clusterMax is how long a cluster may take to be ready on a machine that has other work.
const clusterMax = 2 * patience

// cluster builds what make cluster runs. Its command line is that of tally demo, without the word demo.
func cluster(t *testing.T) (tally process.Binary, begin starter, clean func(dir string) error) {
	t.Helper()
	dir := t.TempDir()
	var program process.Binary
	tally, err := process.Build(dir)
	if err == nil {
		program, err = process.BuildCluster(dir)
	}
	if err != nil {
		t.Fatal(err)
	}
	begin = func(dir string, args ...string) (*process.Process, error) {
		if len(args) == 0 || args[0] != "demo" {
			return nil, fmt.Errorf("a cluster is started as a demo, not as %v", args)
		}
		return program.Start(dir, append([]string{"--tally", string(tally)}, args[1:]...)...)
	}
	return tally, begin, func(dir string) error {
		r, err := program.Run(context.Background(), "--clean", "--dir", dir)
		if err == nil && r.Code != 0 {
			err = fmt.Errorf("--clean ended with %d: %s", r.Code, r.Stderr)
		}
		return err
	}
}

// TestClusterTour runs the scripts of the first minute and of the invoice, unchanged, against what make cluster starts.
func TestClusterTour(t *testing.T) {
	t.Parallel()
	tally, begin, clean := cluster(t)
	p := params(tally, begin, clusterMax)
	p.Files = []string{filepath.Join("testdata", "first-minute.txtar"), filepath.Join("testdata", "invoice.txtar")}
	setup := p.Setup
	p.Setup = func(e *testscript.Env) error {
		e.Defer(func() {
			if err := clean(filepath.Join(e.WorkDir, "tally-data")); err != nil {
				t.Error(err)
			}
		})
		return setup(e)
	}
	testscript.Run(t, p)
}

// TestClusterLimit sends calls through all three gateways at once: a limit of 100 admits 100. Then it kills a server, a gateway and
// at last everything: what ends is started again, and nothing is lost.
func TestClusterLimit(t *testing.T) {
	t.Parallel()
	tally, begin, clean := cluster(t)
	dir := t.TempDir()
	data := filepath.Join(dir, "tally-data")
	t.Cleanup(func() {
		if err := clean(data); err != nil {
			t.Error(err)
		}
	})
	w := startCluster(t, begin, dir)
	if n := w.admitted(t, 100); n != 100 {
		t.Errorf("three gateways admitted %d, the limit is 100", n)
	}
	if err := tally.JSON(t.Context(), new(any), "clock", "advance", "--by", "24h", "--dir", data); err != nil {
		t.Fatal(err)
	}
	w.broken = true
	sum := w.admitted(t, 5)
	for _, n := range []node{w.Gateways[0], w.Servers[0]} { // of the servers it is the one that leads
		if err := syscall.Kill(n.PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		w.said(t, n.Name+" was killed and is started again", n.Name+" is ready again")
		sum += w.admitted(t, 5)
	}
	if err := w.process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-w.process.Ended()
	w = startCluster(t, begin, dir)
	if sum += w.admitted(t, 100); sum != 100 {
		t.Errorf("with everything killed in between %d were admitted, the limit is 100", sum)
	}
	var books struct{ Difference string }
	if err := tally.JSON(t.Context(), &books, "books", "--dir", data); err != nil || books.Difference != "0" {
		t.Errorf("books: %+v, %v", books, err)
	}
	if err := w.process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code, err := w.process.Wait(w.ctx); err != nil || code != 0 {
		t.Errorf("it ended with %d, %v: %s", code, err, w.process.Stderr.Bytes())
	}
	for _, n := range append(w.Servers, w.Gateways...) {
		if err := syscall.Kill(n.PID, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("%s runs on: %v", n.Name, err)
		}
	}
}

type node struct {
	Name, Gateway string
	PID           int
}

// running is a cluster with what it said of itself.
type running struct {
	Servers, Gateways []node
	process           *process.Process
	ctx               context.Context //nolint:containedctx // of the test, with its time-out
	broken            bool            // calls may fail, since something was killed
}

func startCluster(t *testing.T, begin starter, dir string) *running {
	t.Helper()
	p, err := begin(dir, "demo", "--api", "127.0.0.1:0", "--gateway", "127.0.0.1:0", "--output", "json")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	w := &running{process: p}
	ctx, cancel := context.WithTimeout(context.Background(), 3*patience)
	t.Cleanup(cancel)
	w.ctx = ctx
	text, err := p.Stdout.Until(ctx, json.Valid)
	if err != nil {
		t.Fatalf("%v: %s", err, p.Stderr.Bytes())
	}
	if err := json.Unmarshal(text, w); err != nil || len(w.Servers) != 2 || len(w.Gateways) != 3 {
		t.Fatalf("%s: %v", text, err)
	}
	return w
}

// said waits until the cluster has said all of it, in this order.
func (w *running) said(t *testing.T, words ...string) {
	t.Helper()
	if _, err := w.process.Stderr.Until(w.ctx, func(text []byte) bool {
		rest := string(text)
		for _, word := range words {
			_, after, ok := strings.Cut(rest, word)
			if !ok {
				return false
			}
			rest = after
		}
		return true
	}); err != nil {
		t.Fatalf("it did not say %q: %v", words, err)
	}
}

// admitted sends n calls to each gateway, all gateways at once over several connections, and says how many passed. While nothing is
// broken, all others must have been refused for a limit.
func (w *running) admitted(t *testing.T, n int) int {
	t.Helper()
	const lines = 8
	var passed atomic.Int64
	var wg sync.WaitGroup
	for _, g := range w.Gateways {
		var todo atomic.Int64
		todo.Store(int64(n))
		for range lines {
			wg.Go(func() {
				for todo.Add(-1) >= 0 {
					switch code, err := call(w.ctx, g.Gateway+"/hello"); {
					case code == http.StatusOK:
						passed.Add(1)
					case w.broken:
					case err != nil:
						t.Error(err)
					case code != http.StatusTooManyRequests:
						t.Errorf("%s answered %d", g.Name, code)
					}
				}
			})
		}
	}
	wg.Wait()
	return int(passed.Load())
}

func call(ctx context.Context, url string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer demo_free")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}
