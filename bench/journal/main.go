// Command journal measures the journal beside its floor: the same bytes appended to a bare file with the same group commit
// and fdatasync, and no index; and beside SQLite doing the same. All run in turns; the ratios count, the rates are this
// machine's. The processor's time an event moves less than they do.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

func main() {
	var c config
	flag.StringVar(&c.dir, "dir", "", "folder to measure in; empty: a temporary one")
	flag.DurationVar(&c.span, "span", 1500*time.Millisecond, "length of one run")
	flag.IntVar(&c.rounds, "rounds", 3, "runs of each shape; 0: none")
	flag.IntVar(&c.only, "only", 0, "1 to 3: only this shape, with random ids and without sealing and SQLite; 0: all")
	flag.IntVar(&c.grow, "grow", 0, "events to store for the figures on growth, disk, restart and queries; 0: leave them out")
	profile := flag.String("cpuprofile", "", "file to write a processor profile of the whole run to")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := profiled(*profile, func() error { return c.run(ctx, os.Stdout) }); err != nil {
		fmt.Fprintln(os.Stderr, "journal bench:", err)
		os.Exit(1)
	}
}

func profiled(name string, run func() error) (err error) {
	if name == "" {
		return run()
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := pprof.StartCPUProfile(f); err != nil {
		return err
	}
	defer pprof.StopCPUProfile()
	return run()
}

type config struct {
	dir                string
	span               time.Duration
	rounds, only, grow int
}

// row is one line of the table.
type row struct{ what, value, aim string }

func (c *config) run(ctx context.Context, out io.Writer) (err error) {
	if c.dir == "" {
		if c.dir, err = os.MkdirTemp("", "journal-bench"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(c.dir)) }()
	}
	rows := []row{{"machine load before", machineLoad(), ""}}
	if c.rounds > 0 {
		measured, err := c.shapes(ctx, out)
		if err != nil {
			return err
		}
		rows = append(rows, measured...)
	}
	if c.grow > 0 {
		g := growth{dir: filepath.Join(c.dir, "grown"), events: int64(c.grow), out: out}
		if err := g.run(ctx); err != nil {
			return err
		}
		rows = append(rows, g.rows...)
	}
	rows = append(rows, row{"machine load after", machineLoad(), ""})
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nwhat\tvalue\taim")
	for _, r := range rows {
		fmt.Fprintf(t, "%s\t%s\t%s\n", r.what, r.value, r.aim)
	}
	return t.Flush()
}

func machineLoad() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "not known"
	}
	return strings.Join(strings.Fields(string(b))[:3], " ")
}

type shape struct {
	producers, size int
	aim             string
}

// measured is what one run came to: events a second, and nanoseconds of processor time an event, its making included.
type measured struct{ rate, cost int64 }

// middle is the run with the median rate.
func middle(runs []measured) measured {
	slices.SortFunc(runs, func(a, b measured) int { return int(a.rate - b.rate) })
	return runs[len(runs)/2]
}

func ratio(a, b int64) string { return fmt.Sprintf("%d.%02d", a/max(b, 1), a*100/max(b, 1)%100) }

// engine is something that is measured.
type engine struct {
	name string
	run  func(ctx context.Context, dir string, l *load, span time.Duration) (measured, error)
}

func (c *config) shapes(ctx context.Context, out io.Writer) (rows []row, err error) {
	known := newNames()
	for i, s := range []shape{{64, 1, "0.75"}, {8, 100, "0.70"}, {8, 1000, "0.20"}} {
		for _, ids := range []string{"v7", "random"} {
			if c.only > 0 && (i+1 != c.only || ids == "v7") {
				continue
			}
			engines := []engine{{"load", runLoad}, {"floor", runFloor}, {"journal", runJournal}}
			if ids == "random" && c.only == 0 {
				engines = append(engines, engine{"sealing", runSealing})
				if s.size == 1000 {
					engines = append(engines, engine{"sqlite", runSQLite})
				}
			}
			l := load{producers: s.producers, size: s.size, ids: ids, names: known, data: payload()}
			got, err := c.rounded(ctx, &l, engines)
			if err != nil {
				return nil, err
			}
			these := s.rows(ids, got)
			rows = append(rows, these...)
			for _, r := range these {
				fmt.Fprintln(out, r.what+":", r.value)
			}
		}
	}
	return rows, nil
}

// rounded runs the engines in turns.
func (c *config) rounded(ctx context.Context, l *load, engines []engine) (map[string]measured, error) {
	runs := map[string][]measured{}
	for round := range c.rounds {
		for _, e := range engines {
			one := load{producers: l.producers, size: l.size, ids: l.ids, names: l.names, data: l.data}
			dir := filepath.Join(c.dir, fmt.Sprint(e.name, round))
			m, err := e.run(ctx, dir, &one, c.span)
			if err = errors.Join(err, os.RemoveAll(dir)); err != nil {
				return nil, fmt.Errorf("%s: %w", e.name, err)
			}
			runs[e.name] = append(runs[e.name], m)
		}
	}
	got := map[string]measured{}
	for name, all := range runs {
		got[name] = middle(all)
	}
	return got, nil
}

func (s shape) rows(ids string, got map[string]measured) []row {
	name := fmt.Sprintf("%d × %d, %s ids", s.producers, s.size, ids)
	floor, ours := got["floor"], got["journal"]
	rows := []row{
		{name, fmt.Sprintf("%d events/s, floor %d, ratio %s", ours.rate, floor.rate, ratio(ours.rate, floor.rate)), "≥ " + s.aim},
		{"  processor time an event", fmt.Sprintf("%d ns, floor %d ns, load alone %d ns", ours.cost, floor.cost, got["load"].cost), ""},
	}
	if sealed, ok := got["sealing"]; ok {
		rows = append(rows, row{"  with sealing on", fmt.Sprintf("%d events/s, ratio %s, %d ns", sealed.rate, ratio(sealed.rate, floor.rate), sealed.cost), ""})
	}
	if lite, ok := got["sqlite"]; ok {
		rows = append(rows, row{"  SQLite", fmt.Sprintf("%d events/s, the journal is %s times as fast, %d ns", lite.rate, ratio(ours.rate, lite.rate), lite.cost), "≥ 5 times"})
	}
	return rows
}
