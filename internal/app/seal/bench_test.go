package seal_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/store"
)

// BenchmarkSeal says what a record costs: to take it into the tree, and to audit it.
func BenchmarkSeal(b *testing.B) {
	const events, batch = 200_000, 1000
	w := newWorld(b)
	for from := 0; from < events; from += batch {
		one := store.Batch{Producer: "api", ReceivedAt: w.now}
		for i := range batch {
			n := from + i
			e := event(fmt.Sprint("e", n), start.Add(time.Duration(n%2_000_000)*time.Second), 1)
			e.Event.Subject = fmt.Sprint("customer ", n%10_000)
			one.Entries = append(one.Entries, e)
		}
		_, err := w.journal.Append(b.Context(), one)
		ok(b, err)
	}
	began := time.Now()
	w.tick()
	b.ReportMetric(float64(time.Since(began).Nanoseconds())/events, "first-ns/record") // with the subjects' keys made
	b.Run("grow", func(b *testing.B) {
		for b.Loop() {
			ok(b, w.tiles.Truncate(0))
			w.restart(nil)
			began := time.Now()
			w.now = w.now.Add(time.Minute)
			ok(b, w.seal.Tick(b.Context()))
			b.ReportMetric(float64(time.Since(began).Nanoseconds())/events, "ns/record")
		}
	})
	b.Run("audit", func(b *testing.B) {
		for b.Loop() {
			began := time.Now()
			if r := w.audit(nil); len(r.Findings) > 0 {
				b.Fatal(r.Findings)
			}
			b.ReportMetric(float64(time.Since(began).Nanoseconds())/events, "ns/record")
		}
	})
}
