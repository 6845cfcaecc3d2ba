package authority_test

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/quota"
	"github.com/tallystick/tallystick/internal/store"
)

// BenchmarkDrawDistinctKeys has 64 callers draw on a new counter each time, as after a start: the records are synced for each
// group of them. It reports draws per second, and what a counter takes in memory.
func BenchmarkDrawDistinctKeys(b *testing.B) {
	w := newWorld(b, daily("daily", "100000"))
	one := w.begin(1)
	day := w.Now().Truncate(24 * time.Hour)
	var next atomic.Int64
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	b.SetParallelism(32)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			id := fmt.Sprintf("cus_%026d", next.Add(1))
			_, err := w.s.Draw(context.Background(), authority.Draw{
				Node: 1, Epoch: one.Epoch, CustomerID: id, CatalogVersion: 1, Now: w.Now().UnixMicro(),
				Asks: []authority.Ask{{
					Counter:   store.CounterKey{CustomerID: id, Meter: "calls", Window: period.Day, Start: day.UnixMicro()},
					WindowEnd: day.AddDate(0, 0, 1).UnixMicro(), Kind: quota.Quota, Limits: []string{"daily"}, Need: 1, Fresh: true,
				}},
			})
			if err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.StopTimer()
	runtime.GC()
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(w)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "draws/s")
	b.ReportMetric(float64(int64(after.HeapAlloc)-int64(before.HeapAlloc))/float64(b.N), "B/counter")
}
