package file_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file"
)

const benchProducers, benchBatch = 8, 1000

// benchEntry is a gateway event: about 200 bytes of data, a receipt of 150, 10,000 customers × 5 meters.
func benchEntry(n uint64, data, receipt []byte) store.Entry {
	r := rand.New(rand.NewPCG(n, 1))
	var id [16]byte
	binary.BigEndian.PutUint64(id[:], r.Uint64())
	binary.BigEndian.PutUint64(id[8:], n)
	customer := fmt.Sprintf("cus_%020d", r.IntN(10_000))
	return store.Entry{
		Event: meter.Event{
			Source: "gateway/1", ID: fmt.Sprintf("%x", id), Type: "request", Subject: customer, Data: data,
			Time: time.UnixMicro(1_780_000_000_000_000 + int64(n)*1000).UTC(),
		},
		Origin:      meter.Admitted,
		Resolutions: []meter.Resolution{{CustomerID: customer, Meter: fmt.Sprint("meter_", r.IntN(5)), CatalogVersion: 3, Value: money.FromInt(1)}},
		Receipt:     receipt,
	}
}

func benchBatchOf(first uint64) store.Batch {
	data, receipt := []byte(`{"p":"`+strings.Repeat("x", 190)+`"}`), make([]byte, 150)
	b := store.Batch{Producer: "gateway/1", Node: 1, Epoch: 1, First: first, Last: first + benchBatch, ReceivedAt: time.UnixMicro(1_780_000_000_000_000)}
	for i := range benchBatch {
		b.Entries = append(b.Entries, benchEntry(first+uint64(i), data, receipt))
	}
	return b
}

// BenchmarkAppend has 8 producers send batches of 1,000 events, each waiting for its answer. Compare with BenchmarkFloor.
func BenchmarkAppend(b *testing.B) {
	j := open(b, file.Config{Dir: b.TempDir()})
	defer func() { _ = j.Close() }()
	batches := make([]store.Batch, b.N)
	for i := range batches {
		batches[i] = benchBatchOf(uint64(i) * benchBatch)
	}
	b.ReportAllocs()
	b.ResetTimer()
	inParallel(b, func(i int) error {
		_, err := j.Append(b.Context(), batches[i])
		return err
	})
	b.StopTimer()
	s := j.Stats()
	b.ReportMetric(float64(s.Events)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64(s.Bytes)/float64(s.Events), "disk-B/event")
	b.ReportMetric(float64(s.Events)/float64(s.Groups), "events/commit")
}

// BenchmarkFloor appends as many bytes to a bare file, by as many producers with the same group commit and fdatasync.
func BenchmarkFloor(b *testing.B) {
	const record = 529 // bytes of an event of BenchmarkAppend on disk
	f, err := os.Create(filepath.Join(b.TempDir(), "floor"))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	one := make([]byte, record*benchBatch)
	var mu, commit sync.Mutex
	var queue []byte
	var generation, synced int
	b.ResetTimer()
	inParallel(b, func(int) error {
		mu.Lock()
		queue = append(queue, one...)
		mine := generation
		mu.Unlock()
		commit.Lock()
		defer commit.Unlock()
		if synced > mine {
			return nil
		}
		mu.Lock()
		group := queue
		queue = make([]byte, 0, len(group))
		generation++
		mu.Unlock()
		if _, err := f.Write(group); err != nil {
			return err
		}
		synced = generation
		return syscall.Fdatasync(int(f.Fd()))
	})
	b.ReportMetric(float64(b.N*benchBatch)/b.Elapsed().Seconds(), "events/s")
}

func inParallel(b *testing.B, do func(i int) error) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range benchProducers {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(b.N); i = next.Add(1) - 1 {
				if err := do(int(i)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// BenchmarkOpen replays 200,000 events.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	j := open(b, file.Config{Dir: dir})
	for i := range 200 {
		if _, err := j.Append(b.Context(), benchBatchOf(uint64(i)*benchBatch)); err != nil {
			b.Fatal(err)
		}
	}
	_ = j.Close()
	for b.Loop() {
		_ = open(b, file.Config{Dir: dir}).Close()
	}
	b.ReportMetric(float64(b.N*200*benchBatch)/b.Elapsed().Seconds(), "events/s")
}

// TestMemory holds the journal to what it may take for an event: until a checkpoint has it, and afterwards.
func TestMemory(t *testing.T) {
	const events = 60_000
	for name, tt := range map[string]struct {
		customers, perBucket int
		fresh                int64
	}{
		"100 events a bucket": {100, 100, 330},
		"1 event a bucket":    {100, 1, 700},
	} {
		dir := t.TempDir()
		before := heap()
		j := open(t, file.Config{Dir: dir})
		b := store.Batch{Producer: "p"}
		for i := range events {
			e := call(fmt.Sprint(i))
			e.Resolutions[0].CustomerID = fmt.Sprint("cus_", i%tt.customers)
			e.Event.Time = at(i / tt.customers / tt.perBucket * 15)
			if b.Entries = append(b.Entries, e); len(b.Entries) == 10_000 {
				if _, err := j.Append(t.Context(), b); err != nil {
					t.Fatal(err)
				}
				b.Entries = nil
			}
		}
		fresh := (heap() - before) / events
		closeJournal(t, j)
		j = open(t, file.Config{Dir: dir})
		each := (heap() - before) / events
		t.Logf("%s: %d bytes an event at first, then %d; %d bytes of index", name, fresh, each, j.Stats().IndexBytes/events)
		if fresh > tt.fresh || each > 40 {
			t.Errorf("%s: %d bytes an event at first, want at most %d; then %d, want at most 40", name, fresh, tt.fresh, each)
		}
		closeJournal(t, j)
	}
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// BenchmarkYear reads a year of a customer with events in every bucket: its windows, and its usage day by day.
func BenchmarkYear(b *testing.B) {
	const buckets = 35_040
	dir := b.TempDir()
	j := open(b, file.Config{Dir: dir, Checkpoint: 1000})
	var batch store.Batch
	for i := range buckets {
		e := call(fmt.Sprint(i))
		e.Event.Time = at(i * 15)
		if batch.Entries = append(batch.Entries, e); len(batch.Entries) == 10_000 || i == buckets-1 {
			if _, err := j.Append(b.Context(), batch); err != nil {
				b.Fatal(err)
			}
			batch.Entries = nil
		}
	}
	if err := j.Close(); err != nil {
		b.Fatal(err)
	}
	j = open(b, file.Config{Dir: dir})
	defer func() { _ = j.Close() }()
	k := store.SeriesKey{CustomerID: "cus_1", Meter: "api_calls"}
	b.Run("windows", func(b *testing.B) {
		for b.Loop() {
			if err := j.View(b.Context(), func(v store.View) error {
				all, err := v.Windows(k, period.Interval{})
				if len(all) != buckets {
					b.Fatalf("%d buckets", len(all))
				}
				return err
			}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("days", func(b *testing.B) {
		start := at(0)
		for b.Loop() {
			if err := j.View(b.Context(), func(v store.View) error {
				for d := range 365 {
					if _, err := v.Usage(k, period.Interval{Start: start.Add(time.Duration(d) * 24 * time.Hour), End: start.Add(time.Duration(d+1) * 24 * time.Hour)}); err != nil {
						return err
					}
				}
				return nil
			}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
