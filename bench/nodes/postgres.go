package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/tallystick/tallystick/bench/load"
)

// figure is what one benchmark of a package says.
type figure struct {
	name  string
	rates []float64 // of each round
}

// benchmarks runs a package's benchmarks, rounds times, and reads the metric that ends with /s.
func benchmarks(ctx context.Context, o options, pkg, pattern, unit string) (out []figure, err error) {
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", pattern, "-benchtime", o.each.String(), "-count", strconv.Itoa(o.rounds), pkg)
	cmd.Stderr = os.Stderr
	text, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%v: %w\n%s", cmd.Args, err, text)
	}
	for line := range strings.Lines(string(bytes.TrimSpace(text))) {
		f := strings.Fields(line)
		at := slices.Index(f, unit)
		if !strings.HasPrefix(line, "Benchmark") || at < 1 {
			continue
		}
		rate, err := strconv.ParseFloat(f[at-1], 64)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", line, err)
		}
		_, name, _ := strings.Cut(f[0], "/")
		if cut := strings.LastIndexByte(name, '-'); cut > 0 { // the number of processors
			name = name[:cut]
		}
		i := slices.IndexFunc(out, func(x figure) bool { return x.name == name })
		if i < 0 {
			out, i = append(out, figure{name: name}), len(out)
		}
		out[i].rates = append(out[i].rates, rate)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s: no benchmark says %s", pkg, unit)
	}
	return out, nil
}

// compareLeases prints grants by the product's batched rows beside one transaction for each.
func compareLeases(ctx context.Context, o options) error {
	list, err := benchmarks(ctx, o, "./internal/store/postgres", "^BenchmarkLeases$", "grants/s")
	if err != nil {
		return err
	}
	i := slices.IndexFunc(list, func(f figure) bool { return f.name == "single_rows" })
	if i < 0 {
		return errors.New("no benchmark of single rows")
	}
	floor := load.Median(list[i].rates)
	fmt.Printf("\nleases granted in PostgreSQL, fsync on, one caller; single_rows: one UPDATE and one commit for each grant; load %s\n", load.Machine())
	fmt.Printf("  %-24s %10s %14s\n", "", "grants/s", "of single rows")
	for _, f := range list {
		fmt.Printf("  %-24s %10.0f %14.2f\n", f.name, load.Median(f.rates), load.Median(f.rates)/floor)
	}
	return nil
}

// compareJournal prints appends beside COPY of as many rows by as many writers.
func compareJournal(ctx context.Context, o options) error {
	list, err := benchmarks(ctx, o, "./internal/store/postgres/journal", "^BenchmarkAppend$", "events/s")
	if err != nil {
		return err
	}
	fmt.Printf("\njournal in PostgreSQL beside COPY into a bare table with a unique id, fsync on; writers × events of a batch; load %s\n", load.Machine())
	fmt.Printf("  %-12s %16s %16s %6s\n", "", "append, events/s", "COPY, events/s", "ratio")
	for _, f := range list {
		shape, ok := strings.CutPrefix(f.name, "append/")
		floor := slices.IndexFunc(list, func(x figure) bool { return x.name == "copy/"+shape })
		if !ok || floor < 0 {
			continue
		}
		var ratios []float64
		for i := range min(len(f.rates), len(list[floor].rates)) {
			ratios = append(ratios, f.rates[i]/list[floor].rates[i])
		}
		fmt.Printf("  %-12s %16.0f %16.0f %6.2f\n", shape, load.Median(f.rates), load.Median(list[floor].rates), load.Median(ratios))
	}
	return nil
}
