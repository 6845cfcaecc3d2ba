// Command billing measures `tally calc`, a run of billing over real stores beside the disk's floor, and previews with many events
// stored. The ratios count; the rates are this machine's.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/pprof"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

type config struct {
	dir, binary, profile string
	sizes                string
	events               int
	only                 string
}

// row is one line of the table.
type row struct{ what, value, aim string }

func main() {
	var c config
	flag.StringVar(&c.dir, "dir", "", "folder to measure in; empty: a temporary one")
	flag.StringVar(&c.binary, "tally", "bin/tally", "the binary whose calc is measured")
	flag.StringVar(&c.sizes, "subscriptions", "10000,100000", "sizes of the runs")
	flag.IntVar(&c.events, "events", 200_000, "events stored when previews are asked for; the aim is for 10000000")
	flag.StringVar(&c.only, "only", "", "calc, run or preview; empty: all")
	flag.StringVar(&c.profile, "cpuprofile", "", "file to write a processor profile of the billing runs to")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := c.run(ctx, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "billing bench:", err)
		os.Exit(1)
	}
}

func (c *config) run(ctx context.Context, out io.Writer) (err error) {
	if c.dir == "" {
		if c.dir, err = os.MkdirTemp("", "billing-bench"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(c.dir)) }()
	}
	rows := []row{{"machine load before", machineLoad(), ""}}
	for _, part := range []struct {
		name    string
		measure func(context.Context, io.Writer) ([]row, error)
	}{{"calc", c.calc}, {"run", c.billing}, {"preview", c.preview}} {
		if c.only != "" && c.only != part.name {
			continue
		}
		measured, err := part.measure(ctx, out)
		if err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
		rows = append(rows, measured...)
	}
	rows = append(rows, row{"machine load after", machineLoad(), ""})
	table := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, "\t\taim")
	for _, r := range rows {
		fmt.Fprintf(table, "%s\t%s\t%s\n", r.what, r.value, r.aim)
	}
	return table.Flush()
}

// billing runs each size and compares the last with the first.
func (c *config) billing(ctx context.Context, out io.Writer) (rows []row, err error) {
	if c.profile != "" {
		f, err := os.Create(c.profile)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		if err := pprof.StartCPUProfile(f); err != nil {
			return nil, err
		}
		defer pprof.StopCPUProfile()
	}
	var first, last measured
	for i, text := range strings.Split(c.sizes, ",") {
		n, err := strconv.Atoi(text)
		if err != nil {
			return nil, err
		}
		if last, err = c.runOf(ctx, out, n); err != nil {
			return nil, err
		}
		if i == 0 {
			first = last
		}
		rows = append(rows,
			row{text + " subscriptions: time", last.took.Round(10 * time.Millisecond).String(), ""},
			row{text + " subscriptions: invoices/s", rate(last.invoices, last.took), ""},
			row{text + " subscriptions: lines/s", rate(last.lines, last.took), ""},
			row{text + " subscriptions: live heap, directory loaded", mib(last.heapBefore), ""},
			row{text + " subscriptions: live heap, run done", mib(last.heapAfter), ""},
			row{text + " subscriptions: most memory from the system", mib(last.peak), ""},
			row{text + " subscriptions: floor, 100 documents and a sync a time, documents/s", rate(last.floorRows, last.floor), ""})
	}
	if first.subscriptions != last.subscriptions {
		rows = append(rows, row{
			fmt.Sprintf("time, %d against %d subscriptions", last.subscriptions, first.subscriptions),
			fmt.Sprintf("%.1f times", last.took.Seconds()/first.took.Seconds()), fmt.Sprintf("at most %.0f", 1.2*float64(last.subscriptions)/float64(first.subscriptions)),
		})
	}
	return rows, nil
}

func rate(n int, took time.Duration) string { return strconv.Itoa(int(float64(n) / took.Seconds())) }

func mib(bytes uint64) string { return fmt.Sprintf("%d MiB", bytes>>20) }

func machineLoad() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "not known"
	}
	return strings.Join(strings.Fields(string(b))[:3], " ")
}
