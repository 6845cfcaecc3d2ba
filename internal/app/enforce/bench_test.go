package enforce

import (
	"context"
	"testing"

	"github.com/tallystick/tallystick/internal/core/period"
)

// BenchmarkAdmit is one request's share of enforcement: decide on three limits, spool, settle; then ship to the journal.
func BenchmarkAdmit(b *testing.B) {
	w := newWorld(b, bucketLimit("1000000", "1000000"), quotaLimit("daily", "1000000000", period.Day), quotaLimit("period", "10000000000", period.BillingPeriod))
	ctx := context.Background()
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		a := w.admit()
		if !a.Allowed() {
			b.Fatal(a.Code)
		}
		if err := a.Settle(Actual{Status: 200}); err != nil {
			b.Fatal(err)
		}
		if n++; n%500 == 0 {
			w.advance(100_000_000)
			if _, err := w.e.Tick(ctx); err != nil {
				b.Fatal(err)
			}
		}
	}
}
