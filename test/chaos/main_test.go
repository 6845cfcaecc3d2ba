// Package chaos_test runs servers, gateways and a PostgreSQL primary with a synchronous standby as processes of one machine,
// breaks them and what is between them, and checks the promises from outside: no acknowledged event lost, none twice, no hard
// limit passed, in no stretch of time more than a token bucket allows, books 0.
package chaos_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tallystick/tallystick/test/fleet"
	"github.com/tallystick/tallystick/test/process"
)

var (
	rounds  = flag.Int("rounds", 1, "rounds of faults, each with customers of its own")
	seed    = flag.Uint64("seed", uint64(time.Now().UnixNano()), "of the faults")
	servers = flag.Int("servers", 3, "servers on PostgreSQL; 0: one server with a folder, no PostgreSQL")
	faults  = flag.Int("faults", 8, "faults of a round")
	journal = flag.String("journal", "postgres", "where servers on PostgreSQL keep events: postgres, or file, a folder that the leader has")
	only    = flag.String("only", "", "kinds of faults, separated by commas; empty: all")
	logs    = flag.String("logs", "", "folder for what the processes wrote")
)

// Bounds of the run.
const (
	gateways  = 3
	patience  = 90 * time.Second // for every wait: much more than a loaded machine needs
	upstreams = 10 * time.Millisecond
)

// The plans: one limit is reached early, while much is broken, one late, and one refills all the time.
const catalogText = `tallystick: 1
meters:
  - {key: api_calls, event: request, aggregation: count}
  - {key: jobs, event: job, aggregation: count}
plans:
  - key: tight
    currency: USD
    prices:
      - {key: calls, meter: api_calls, model: graduated, every: month, tiers: [{unit_amount: "0.0004"}]}
      - {key: jobs, meter: jobs, model: graduated, every: month, tiers: [{unit_amount: "0.01"}]}
    limits:
      - {key: daily, meter: api_calls, quota: "1000", window: day, enforcement: hard}
  - key: wide
    currency: USD
    prices:
      - {key: calls, meter: api_calls, model: graduated, every: month, tiers: [{unit_amount: "0.0004"}]}
    limits:
      - {key: daily, meter: api_calls, quota: "4000", window: day, enforcement: hard}
  - key: paced
    currency: USD
    prices:
      - {key: calls, meter: api_calls, model: graduated, every: month, tiers: [{unit_amount: "0.0004"}]}
    limits:
      - {key: pace, meter: api_calls, token_bucket: {rate: "%d/s", burst: %d}}
gateway:
  routes:
    - {match: "GET /hello", upstream: "%s", meter: api_calls, cost: "1"}
`

// limits are those of a day, by plan; paced has none.
var limits = map[string]int{"tight": 1000, "wide": 4000}

// world is the deployment with its proxies and the API behind it.
type world struct {
	t        *testing.T
	fleet    *fleet.Fleet
	database *database // nil without PostgreSQL
	gates    []*link   // between gateway i and the servers
	upstream *upstream
	random   *rand.Rand
	paced    int // rounds that put the bucket to the test

	mu        sync.Mutex // guards processes
	processes []*process.Process
}

// TestChaos is the run of the acceptance.
func TestChaos(t *testing.T) {
	if *rounds < 1 || *faults < 1 {
		t.Fatal("-rounds and -faults are at least 1: without a fault nothing is shown")
	}
	began := time.Now()
	w := newWorld(t)
	t.Logf("-seed %d: %d servers, %d gateways, up after %.1f s", *seed, len(w.fleet.Servers), gateways, time.Since(began).Seconds())
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	kept := make(chan error, 1)
	go func() { kept <- w.fleet.Keep(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-kept; err != nil {
			t.Error(err)
		}
	})
	for round := range *rounds {
		w.round(round + 1)
		if t.Failed() {
			return
		}
	}
	if w.paced*2 < *rounds {
		t.Errorf("the bucket was put to the test in %d of %d rounds", w.paced, *rounds)
	}
	if err := w.fleet.Stop(patient(t)); err != nil {
		t.Errorf("at the end each must ship and stop well: %v", err)
	}
}

func newWorld(t *testing.T) *world {
	t.Helper()
	dir := t.TempDir()
	tally, err := process.Build(dir)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, upstream: newUpstream(t), random: rand.New(rand.NewPCG(*seed, 29))}
	catalog := filepath.Join(dir, "tally.yaml")
	if err := os.WriteFile(catalog, fmt.Appendf(nil, catalogText, bucketRate, bucketBurst, w.upstream.URL), 0o600); err != nil {
		t.Fatal(err)
	}
	c := fleet.Config{Binary: tally, Dir: dir, Servers: max(1, *servers), Gateways: gateways, ServerArgs: []string{"--catalog", catalog}, Started: w.started}
	if *servers > 0 {
		w.database = newDatabase(t)
		for i := range *servers {
			w.database.links = append(w.database.links, newLink(t, fmt.Sprintf("server-%d↔PostgreSQL", i+1), w.database.primary.Addr))
		}
		c.Storage = func(i int) []string {
			url := fleet.URL(w.database.links[i].Addr(), "tally")
			if *journal == "file" {
				return []string{"--records", url, "--journal", "file://" + filepath.Join(dir, "journal")}
			}
			return []string{"--records", url, "--journal", url}
		}
	}
	c.Path = func(i int) string { return "http://" + w.gates[i].Addr() }
	if w.fleet, err = fleet.New(c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.fleet.Close()
		w.sound()
	})
	for i := range gateways {
		w.gates = append(w.gates, newLink(t, fmt.Sprintf("gate-%d↔servers", i+1), w.fleet.API.Addr))
	}
	if err := w.fleet.Start(patient(t)); err != nil {
		t.Fatal(err)
	}
	return w
}

func patient(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func (w *world) started(p *process.Process) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.processes = append(w.processes, p)
}

// sound fails when a process wrote what no process of ours should.
func (w *world) sound() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, p := range w.processes {
		text := p.Stderr.Bytes()
		for _, bad := range []string{"panic:", "panic serving", "DATA RACE", "fatal error:"} {
			if at := strings.Index(string(text), bad); at >= 0 {
				w.t.Errorf("a process wrote %q:\n%.4000s", bad, text[at:])
			}
		}
		if *logs != "" {
			if err := os.WriteFile(filepath.Join(*logs, fmt.Sprintf("%03d.log", i)), text, 0o600); err != nil {
				w.t.Error(err)
			}
		}
	}
}

// wait waits, or until the test ends.
func (w *world) wait(d time.Duration) {
	select {
	case <-time.After(d):
	case <-w.t.Context().Done():
	}
}

// command runs a command until it succeeds: between two leaders it may fail.
func (w *world) command(v any, args ...string) {
	w.t.Helper()
	ctx, last := patient(w.t), error(nil)
	for {
		err := w.fleet.Command(ctx, v, args...)
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			w.t.Fatalf("tally %v fails for %v: %v", args, patience, last)
		}
		last = err
		w.wait(200 * time.Millisecond)
	}
}

// noonZone is a zone in which it is about noon: no round crosses its midnight.
func noonZone(now time.Time) string {
	switch east := 12 - now.UTC().Hour(); {
	case east > 0:
		return fmt.Sprintf("Etc/GMT-%d", east)
	case east < 0:
		return fmt.Sprintf("Etc/GMT+%d", -east)
	}
	return "Etc/UTC"
}

// upstream is the API behind the gateways. It counts for itself.
type upstream struct {
	*httptest.Server

	mu    sync.Mutex     // guards calls
	calls map[string]int // by customer
}

func newUpstream(t *testing.T) *upstream {
	u := &upstream{calls: map[string]int{}}
	u.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u.mu.Lock()
		u.calls[r.Header.Get("Tally-Customer")]++
		u.mu.Unlock()
		select {
		case <-time.After(upstreams):
		case <-r.Context().Done():
			return
		}
		if _, err := w.Write([]byte("{\"hello\":true}\n")); err != nil && !errors.Is(err, http.ErrHandlerTimeout) {
			return // the gateway is gone
		}
	}))
	t.Cleanup(func() {
		u.CloseClientConnections()
		u.Close()
	})
	return u
}

func (u *upstream) count(customer string) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.calls[customer]
}
