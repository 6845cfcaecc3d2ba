package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"time"

	"github.com/tallystick/tallystick/bench/load"
)

// sample is one round.
type sample struct {
	rate                 float64 // checks a second
	p50, p99             float64 // milliseconds
	gateways, rest       float64 // microseconds of CPU a check, until all is in the journal
	leases, usage, other float64 // round trips per 1,000 checks
	drain                float64 // seconds from the load's end until all was in the journal
	failed               int64   // checks that were refused or failed, though no limit is near
}

// check loads the gateways from one number up to another.
func (w *world) check(ctx context.Context, from, to int, c load.Checks) (s sample, err error) {
	gates := w.fleet.Gateways[from:to]
	c.Addresses, c.Conns, c.Depth = w.doors[from:to], w.o.conns, w.o.depth
	text, err := json.Marshal(c)
	if err != nil {
		return s, err
	}
	self, err := os.Executable()
	if err != nil {
		return s, err
	}
	before, err := w.metrics(ctx, gates)
	if err != nil {
		return s, err
	}
	gates0, rest0, err := w.cpu(gates)
	if err != nil {
		return s, err
	}
	cmd := exec.CommandContext(ctx, self, "load", string(text))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return s, fmt.Errorf("load: %w", err)
	}
	after, err := w.metrics(ctx, gates)
	if err != nil {
		return s, err
	}
	var r load.Result
	if err := json.Unmarshal(out, &r); err != nil {
		return s, err
	}
	if r.Failed == r.Calls {
		return s, errors.New("no check was admitted")
	}
	ended := time.Now()
	if err := w.drained(ctx); err != nil {
		return s, err
	}
	s.drain = time.Since(ended).Seconds()
	gates1, rest1, err := w.cpu(gates)
	if err != nil {
		return s, err
	}
	calls := float64(r.Calls)
	s.failed = r.Failed
	s.rate, s.p50, s.p99 = calls/r.Took.Seconds(), r.P50.Seconds()*1e3, r.P99.Seconds()*1e3
	s.gateways, s.rest = (gates1-gates0).Seconds()*1e6/calls, (rest1-rest0).Seconds()*1e6/calls
	for _, call := range []string{"draw", "draws", "return", "answers", "batches", "beat", "reports", "past"} {
		name := fmt.Sprintf("tally_server_calls_total{call=%q}", call)
		trips := (after[name] - before[name]) * 1000 / calls
		switch call {
		case "draw", "draws", "return", "answers":
			s.leases += trips
		case "batches":
			s.usage += trips
		default:
			s.other += trips
		}
	}
	return s, nil
}

// row is a line of the table: its rounds beside those of one gateway.
type row struct {
	keys      string
	gateways  int
	saturated []sample
	paced     []sample
	failed    int64 // in all rounds, that which warms up among them
}

func compareGateways(ctx context.Context, o options) error {
	w, err := newWorld(ctx, o)
	if err != nil {
		return err
	}
	defer w.close()
	var rows []*row
	first := &row{keys: fmt.Sprintf("%d, the first check of each", o.keys), gateways: 1}
	for _, set := range []struct {
		name, file string
		many       bool
	}{{"one", w.hot, false}, {fmt.Sprint(o.keys), w.many, true}} {
		if set.many { // each gateway draws its leases
			if err := w.firsts(ctx, first); err != nil {
				return err
			}
		}
		var some []*row
		for _, n := range numbers() {
			some = append(some, &row{keys: set.name, gateways: n})
		}
		for i := range o.rounds + 1 {
			for _, r := range some {
				for _, rate := range []int{0, o.rate} {
					s, err := w.check(ctx, 0, r.gateways, load.Checks{File: set.file, Random: set.many, Plan: load.Plan{Rate: rate, For: o.each}})
					if err != nil {
						return err
					}
					r.failed += s.failed
					if o.verbose {
						fmt.Printf("  round %d, %s keys, %d gateways, %d checks/s wanted: %+v; load %s\n", i, r.keys, r.gateways, rate, s, load.Machine())
					}
					switch {
					case i == 0: // it warms up
					case rate == 0:
						r.saturated = append(r.saturated, s)
					default:
						r.paced = append(r.paced, s)
					}
				}
			}
		}
		rows = append(rows, some...)
	}
	printGateways(o, append(rows, first))
	return nil
}

// firsts checks each key once at each gateway in turn; the first gateway's are measured.
func (w *world) firsts(ctx context.Context, first *row) error {
	for n := range w.doors {
		s, err := w.check(ctx, n, n+1, load.Checks{File: w.many, Plan: load.Plan{For: drainMax, Calls: w.o.keys}})
		if err != nil {
			return err
		}
		if w.o.verbose {
			fmt.Printf("  first checks at gateway %d: %+v; load %s\n", n+1, s, load.Machine())
		}
		first.failed += s.failed
		if n == 0 {
			first.saturated = append(first.saturated, s)
		}
	}
	return nil
}

// printGateways prints the table. What is compared are medians of the same run.
func printGateways(o options, rows []*row) {
	fmt.Printf(`
checks over gRPC at 1, 2 and 4 gateways, %d connections × %d calls in all; one server, records in PostgreSQL, journal: %s
Load, gateways, server and PostgreSQL share %d cores, so more gateways cannot be faster here: compare the gateways' CPU a check.
CPU is counted until all usage is in the journal. Round trips to the server are per 1,000 checks while the load runs: leases are
draws, returns and recalls; usage goes in batches, beats and reports by the clock: their share falls as the rate rises.
No limit is near; refused: 429 or an error all the same, in all rounds and the one that warms up.
`, o.conns, o.depth, o.journal, runtime.NumCPU())
	fmt.Printf("  %-28s %8s %9s %6s %8s %8s %8s %6s %8s %9s %7s %7s %9s %7s\n", "keys", "gateways", "checks/s", "of 1", "p50 ms", "p99 ms",
		"CPU us", "of 1", "rest us", "leases", "usage", "other", fmt.Sprintf("p99@%d", o.rate), "refused")
	var one *row
	for _, r := range rows {
		if r.gateways == 1 {
			one = r
		}
		of := func(field func(sample) float64) float64 { // by pairs of rounds
			var v []float64
			for i := range r.saturated {
				v = append(v, field(r.saturated[i])/field(one.saturated[i]))
			}
			return load.Median(v)
		}
		rate, cpu := func(s sample) float64 { return s.rate }, func(s sample) float64 { return s.gateways }
		paced := "-"
		if len(r.paced) > 0 {
			paced = fmt.Sprintf("%.2f", middle(r.paced, func(s sample) float64 { return s.p99 }))
		}
		fmt.Printf("  %-28s %8d %9.0f %6.2f %8.2f %8.2f %8.1f %6.2f %8.1f %9.3f %7.3f %7.3f %9s %7d\n", r.keys, r.gateways, middle(r.saturated, rate), of(rate),
			middle(r.saturated, func(s sample) float64 { return s.p50 }), middle(r.saturated, func(s sample) float64 { return s.p99 }),
			middle(r.saturated, cpu), of(cpu), middle(r.saturated, func(s sample) float64 { return s.rest }),
			middle(r.saturated, func(s sample) float64 { return s.leases }), middle(r.saturated, func(s sample) float64 { return s.usage }),
			middle(r.saturated, func(s sample) float64 { return s.other }), paced, r.failed)
	}
}

func middle(ss []sample, of func(sample) float64) float64 {
	var v []float64
	for _, s := range ss {
		v = append(v, of(s))
	}
	return load.Median(v)
}
