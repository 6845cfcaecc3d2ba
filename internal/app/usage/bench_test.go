package usage_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/usage"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// The benchmarks ask a journal with 2 million events of one meter: 10,000 customers, one of whom has events in every bucket of
// a year.
const (
	benchCustomers = 10_000
	benchEvents    = 2_000_000
	benchYear      = 365 * 96
)

func benchWorld(b *testing.B) *world {
	b.Helper()
	w := newWorld(b)
	start := at("2025-01-01 00:00:00")
	batch := store.Batch{Producer: "test", ReceivedAt: start}
	for n := range benchEvents {
		customer, quarter := fmt.Sprintf("cus_%d", n%benchCustomers), n*7919%benchYear
		if n < benchYear {
			customer, quarter = "cus_acme", n
		}
		batch.Entries = append(batch.Entries, store.Entry{
			Event:       meter.Event{Source: "app", ID: fmt.Sprint(n), Type: "tokens", Subject: customer, Time: start.Add(time.Duration(quarter) * period.BucketLength)},
			Origin:      meter.Reported,
			Resolutions: []meter.Resolution{{CustomerID: customer, Meter: "tokens", CatalogVersion: 3, Value: money.FromInt(int64(n % 1000))}},
		})
		if len(batch.Entries) == 1000 || n == benchEvents-1 {
			if _, err := w.journal.Append(b.Context(), batch); err != nil {
				b.Fatal(err)
			}
			batch.Entries = batch.Entries[:0]
		}
	}
	return w
}

// BenchmarkAsk tells the 99th percentile of a year by day, and of the top 100 customers of a month.
func BenchmarkAsk(b *testing.B) {
	w := benchWorld(b)
	for name, q := range map[string]usage.Query{
		"YearByDay": {Meter: "tokens", Customers: []string{"acme"}, Window: usage.Day, In: period.Interval{Start: at("2025-01-01 00:00:00"), End: at("2026-01-01 00:00:00")}},
		"Top100":    {Meter: "tokens", GroupBy: []string{"customer"}, Top: 100, In: period.Interval{Start: at("2025-06-01 00:00:00"), End: at("2025-07-01 00:00:00")}},
	} {
		b.Run(name, func(b *testing.B) {
			var took []time.Duration
			for b.Loop() {
				began := time.Now()
				if _, err := w.Ask(b.Context(), q); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(began))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
		})
	}
}
