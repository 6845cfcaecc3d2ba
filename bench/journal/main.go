// Command journal measures the journal beside its floor: the same bytes appended to a bare file with the same group commit
// and fdatasync, and no index. Both run in turns; the ratios count, the rates are this machine's.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file"
)

func main() {
	dir := flag.String("dir", "", "folder to measure in; empty: a temporary one")
	span := flag.Duration("span", 3*time.Second, "length of one run")
	rounds := flag.Int("rounds", 3, "runs of each shape")
	grow := flag.Int("grow", 0, "events to store for the growth, restart and query figures; 0: leave them out")
	profile := flag.String("cpuprofile", "", "file to write a processor profile of the whole run to")
	only := flag.Int("only", 0, "1 to 3: only this shape, with random ids; 0: all")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if *profile != "" {
		f, err := os.Create(*profile)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		_ = pprof.StartCPUProfile(f)
		defer pprof.StopCPUProfile()
	}
	if err := run(ctx, *dir, *span, *rounds, *grow, *only); err != nil {
		fmt.Fprintln(os.Stderr, "journal bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, dir string, span time.Duration, rounds, grow, only int) (err error) {
	if dir == "" {
		if dir, err = os.MkdirTemp("", "journal-bench"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	known := newNames()
	for i, shape := range []struct {
		producers, size int
		aim             string
	}{{64, 1, "0.75"}, {8, 100, "0.70"}, {8, 1000, "0.20"}} {
		for _, ids := range []string{"v7", "random"} {
			if only > 0 && (i+1 != only || ids == "v7") {
				continue
			}
			var ours, floor []int
			for round := range rounds {
				load := &load{names: known, data: payload(), producers: shape.producers, size: shape.size, ids: ids}
				c0 := processor()
				f, err := measureFloor(ctx, filepath.Join(dir, fmt.Sprint("floor", round)), load, span)
				if err != nil {
					return err
				}
				c1 := processor()
				o, err := measureOurs(ctx, filepath.Join(dir, fmt.Sprint(ids, shape.size, round)), load, span)
				if err != nil {
					return err
				}
				c2 := processor()
				fmt.Printf("   floor %d ns/ev (%d/s)   ours %d ns/ev (%d/s)\n", (int64(c1-c0))*1e9/int64(f)/int64(span), f, int64(c2-c1)*1e9/int64(o)/int64(span), o)
				ours, floor = append(ours, o), append(floor, f)
			}
			slices.Sort(ours)
			slices.Sort(floor)
			o, f := ours[rounds/2], floor[rounds/2]
			fmt.Printf("%d × %d, %s ids: %d events/s, floor %d events/s, ratio %d.%02d (aim %s)\n", shape.producers, shape.size, ids, o, f,
				o/max(f, 1), o*100/max(f, 1)%100, shape.aim)
		}
	}
	if grow > 0 {
		return growth(ctx, filepath.Join(dir, "grown"), grow)
	}
	return nil
}

// measureOurs appends to a fresh journal for a while and returns events a second.
func measureOurs(ctx context.Context, dir string, l *load, span time.Duration) (rate int, err error) {
	j, err := file.Open(file.Config{Dir: dir})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, j.Close(), os.RemoveAll(dir)) }()
	stop := ticking(ctx, j)
	defer stop()
	return l.drive(ctx, span, func(b store.Batch) error {
		_, err := j.Append(ctx, b)
		return err
	})
}

// ticking lets the journal write its checkpoints, as the server does, until it is stopped.
func ticking(ctx context.Context, j *file.Journal) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if err := j.Tick(ctx); err != nil && ctx.Err() == nil {
					fmt.Fprintln(os.Stderr, "tick:", err)
				}
			}
		}
	})
	return func() { cancel(); wg.Wait() }
}

// growth stores many events, and measures what that does to rate, restart and queries.
func growth(ctx context.Context, dir string, events int) (err error) {
	j, err := file.Open(file.Config{Dir: dir})
	if err != nil {
		return err
	}
	stop := ticking(ctx, j)
	l := &load{names: newNames(), data: payload(), producers: 8, size: 1000, ids: "random", spread: 365 * 24 * time.Hour, total: int64(events)}
	const part = 1_000_000
	spent := processor()
	var rates []int
	for done := 0; done < events; done += part {
		began := time.Now()
		if err := l.upTo(int64(min(done+part, events)), func(b store.Batch) error {
			_, err := j.Append(ctx, b)
			return err
		}); err != nil {
			stop()
			return errors.Join(err, j.Close())
		}
		rates = append(rates, int(part*int64(time.Second)/int64(time.Since(began))))
		used := processor()
		fmt.Printf("  million %d: %d events/s, %d ns of processor time an event\n", len(rates), rates[len(rates)-1], int64(used-spent)/part)
		spent = used
	}
	stop()
	s := j.Stats()
	fmt.Printf("last million %d events/s, first %d, ratio %d.%02d (aim 0.60)\n", rates[len(rates)-1], rates[0], rates[len(rates)-1]/rates[0], rates[len(rates)-1]*100/rates[0]%100)
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	fmt.Printf("%d events: log %d B/event, index %d B/event, heap %d MB, taken from the system %d MB\n", s.Events, s.Bytes/int64(s.Events),
		s.IndexBytes/int64(s.Events), m.HeapAlloc>>20, m.Sys>>20)
	if err := j.Close(); err != nil {
		return err
	}
	began := time.Now()
	if j, err = file.Open(file.Config{Dir: dir}); err != nil {
		return err
	}
	fmt.Printf("restart: %v (aim 10 s)\n", time.Since(began).Round(time.Millisecond))
	return errors.Join(queries(ctx, j), j.Close(), os.RemoveAll(dir))
}

// processor is the time that the process has spent, its load included.
func processor() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// queries measures usage by day of the customer with events in every bucket, and the top 100 of a month.
func queries(ctx context.Context, j *file.Journal) error {
	var took []time.Duration
	for range 200 {
		began := time.Now()
		n := 0
		if err := j.View(ctx, func(v store.View) error {
			windows, err := v.Windows(store.SeriesKey{CustomerID: customer(0), Meter: meterName(0)}, period.Interval{Start: first(), End: first().AddDate(1, 0, 0)})
			n = len(windows)
			return err
		}); err != nil {
			return err
		}
		if took = append(took, time.Since(began)); len(took) == 1 {
			fmt.Printf("  %d buckets\n", n)
		}
	}
	slices.Sort(took)
	fmt.Printf("a customer's year: p50 %v, p99 %v (aim 10 ms)\n", took[len(took)/2], took[len(took)*99/100])
	for range 2 {
		began := time.Now()
		if err := j.View(ctx, func(v store.View) error {
			for c := range customers {
				if _, err := v.Usage(store.SeriesKey{CustomerID: customer(c), Meter: meterName(0)}, period.Interval{Start: first().AddDate(0, 5, 0), End: first().AddDate(0, 6, 0)}); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			return err
		}
		fmt.Printf("a month of %d customers: %v (aim 300 ms)\n", customers, time.Since(began).Round(time.Millisecond))
	}
	return nil
}

// drive has producers send batches for a while.
func (l *load) drive(ctx context.Context, span time.Duration, send func(store.Batch) error) (int, error) {
	var sent atomic.Int64
	var failed atomic.Pointer[error]
	began := time.Now()
	var wg sync.WaitGroup
	for range l.producers {
		wg.Go(func() {
			own := l.producer()
			for time.Since(began) < span && ctx.Err() == nil {
				if err := send(own.batch()); err != nil {
					failed.Store(&err)
					return
				}
				sent.Add(int64(l.size))
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return int(sent.Load() * int64(time.Second) / int64(time.Since(began))), ctx.Err()
}
