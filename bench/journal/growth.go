package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file"
)

// growth stores many events, and measures what that does to rate, memory, disk, restart and queries.
type growth struct {
	dir    string
	events int64
	out    io.Writer
	rows   []row

	journal *file.Journal
	stop    func() error // the ticks
}

// The rate is told for each part; restart and queries are measured at halfway, or at the end of a smaller run.
const part, halfway = int64(1_000_000), int64(10_000_000)

func (g *growth) tell(what, value, aim string) {
	g.rows = append(g.rows, row{what, value, aim})
	fmt.Fprintln(g.out, what+":", value)
}

func (g *growth) open(ctx context.Context) (err error) {
	if g.journal, err = file.Open(file.Config{Dir: g.dir}); err == nil {
		g.stop = every(ctx, 50*time.Millisecond, g.journal.Tick)
	}
	return err
}

func (g *growth) close() error {
	if g.journal == nil { // it did not open
		return nil
	}
	return errors.Join(g.stop(), g.journal.Close())
}

func (g *growth) run(ctx context.Context) (err error) {
	if err := g.open(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.close(), os.RemoveAll(g.dir)) }()
	l := &load{names: newNames(), data: payload(), producers: 8, size: 1000, ids: "random", spread: 365 * 24 * time.Hour, total: g.events}
	var rates []int64
	for done := int64(0); done < g.events; {
		began, used := time.Now(), processor()
		done = min(done+part, g.events)
		before := l.next.Load()
		if err := l.upTo(done, appendTo(ctx, g.journal)); err != nil {
			return err
		}
		sent := max(l.next.Load()-before, 1)
		rates = append(rates, sent*int64(time.Second)/int64(time.Since(began)))
		fmt.Fprintf(g.out, "  million %d: %d events/s, %d ns of processor time an event\n", len(rates), rates[len(rates)-1], int64(processor()-used)/sent)
		if done == min(halfway, g.events) {
			if err := g.restart(ctx); err != nil {
				return err
			}
		}
	}
	last, first := rates[len(rates)-1], rates[0]
	g.tell(fmt.Sprintf("last million of %d", g.events), fmt.Sprintf("%d events/s, first %d, ratio %s", last, first, ratio(last, first)), "≥ 0.60")
	g.memory()
	return g.disk(ctx)
}

func (g *growth) memory() {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	g.tell("memory", fmt.Sprintf("heap %d MB, from the system %d MB, largest resident %s", m.HeapAlloc>>20, m.Sys>>20, largest()), "")
}

// largest is the most memory that the process ever had.
func largest() string {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return "not known"
	}
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	value, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(value)
}

// restart opens the journal anew and asks it.
func (g *growth) restart(ctx context.Context) error {
	if err := g.close(); err != nil {
		return err
	}
	began := time.Now()
	if err := g.open(ctx); err != nil {
		return err
	}
	g.tell(fmt.Sprintf("restart on %d events", g.journal.Stats().Events), time.Since(began).Round(time.Millisecond).String(), "≤ 10 s")
	return g.queries(ctx)
}

// queries measures usage by day of the customer with events in every bucket, and the top 100 of a month.
func (g *growth) queries(ctx context.Context) error {
	days := period.Interval{Start: first(), End: first().AddDate(1, 0, 0)}
	year := make([]time.Duration, 1000)
	for i := range year {
		began := time.Now()
		if err := g.journal.View(ctx, func(v store.View) error {
			for day := days.Start; day.Before(days.End); day = day.AddDate(0, 0, 1) {
				if _, err := v.Usage(store.SeriesKey{CustomerID: customer(0), Meter: meterName(0)}, period.Interval{Start: day, End: day.AddDate(0, 0, 1)}); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			return err
		}
		year[i] = time.Since(began)
	}
	slices.Sort(year)
	g.tell("a customer's year by day", fmt.Sprintf("p50 %v, p99 %v", year[len(year)/2].Round(time.Microsecond), year[len(year)*99/100].Round(time.Microsecond)), "p99 ≤ 10 ms")
	month := period.Interval{Start: first().AddDate(0, 5, 0), End: first().AddDate(0, 6, 0)}
	var took time.Duration
	for range 3 {
		began := time.Now()
		if err := g.journal.View(ctx, func(v store.View) error { return top(v, month) }); err != nil {
			return err
		}
		took = time.Since(began)
	}
	g.tell("the top 100 of a month", fmt.Sprintf("%v of %d customers", took.Round(time.Millisecond), customers), "≤ 300 ms")
	return nil
}

func top(v store.View, in period.Interval) error {
	sums := make([]int64, 0, customers)
	for c := range customers {
		u, err := v.Usage(store.SeriesKey{CustomerID: customer(c), Meter: meterName(0)}, in)
		if err != nil {
			return err
		}
		n, err := u.Sum.Scaled(0)
		if err != nil {
			return err
		}
		sums = append(sums, n)
	}
	slices.Sort(sums)
	return nil
}

// disk takes everything into the tree, seals all closed segments and tells what lies where.
func (g *growth) disk(ctx context.Context) error {
	raw, events := g.journal.Stats().Bytes, int64(g.journal.Stats().Events)
	p, err := openProof(ctx, g.dir, g.journal)
	if err != nil {
		return err
	}
	began, used := time.Now(), processor()
	if _, err = p.seal.Checkpoint(ctx); err != nil {
		return errors.Join(err, p.close())
	}
	g.tell("into the tree afterwards", fmt.Sprintf("%v, %d ns of processor time an event", time.Since(began).Round(time.Millisecond), int64(processor()-used)/events), "")
	if err := p.close(); err != nil {
		return err
	}
	began, used = time.Now(), processor()
	for more := true; more; {
		if more, err = g.journal.Compact(ctx); err != nil {
			return err
		}
	}
	g.tell("sealing the segments", fmt.Sprintf("%v, %d ns of processor time an event", time.Since(began).Round(time.Millisecond), int64(processor()-used)/events), "")
	if err := g.restarted(ctx); err != nil {
		return err
	}
	index, err1 := size(filepath.Join(g.dir, "index"))
	tiles, err2 := size(treeDir(g.dir))
	all, err3 := size(g.dir)
	records, err4 := size(filepath.Join(g.dir, "records.db"))
	log := all - index - tiles - records
	g.tell("disk an event", fmt.Sprintf("%d bytes: log %d (%d before it was sealed), index %d, tiles %d", (log+index+tiles)/events, log/events, raw/events, index/events, tiles/events), "≤ 110 bytes")
	g.tell("keys of subjects", fmt.Sprintf("%d bytes a customer", records/customers), "")
	return errors.Join(err1, err2, err3, err4)
}

// restarted closes and opens, so that nothing waits for its end.
func (g *growth) restarted(ctx context.Context) error {
	if err := g.close(); err != nil {
		return err
	}
	return g.open(ctx)
}

// size is that of all files below.
func size(root string) (sum int64, err error) {
	err = filepath.WalkDir(root, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) { // just now removed
			return nil
		}
		if err == nil {
			sum += info.Size()
		}
		return err
	})
	return sum, err
}
