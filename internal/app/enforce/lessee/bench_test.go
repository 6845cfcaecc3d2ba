package lessee_test

import (
	"context"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/app/enforce/lessee"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/quota"
)

func fiveLimits() []catalog.Limit {
	const n = "1000000000000"
	return []catalog.Limit{
		{Key: "plan", Meter: calls, Quota: new(dec(n)), Window: period.Month},
		bucketOf("project", "100000000", "100000000", catalog.PerProject),
		daily("key", n, catalog.PerKey),
		daily("user", n, catalog.PerUser),
		daily("route", n, catalog.PerRoute),
	}
}

// generous grants what is asked for a year's worth, so that a figure has no part of the records.
type generous struct{ authority.Authority }

func (g generous) Draw(ctx context.Context, d authority.Draw) ([]authority.Answer, error) {
	out, err := g.Authority.Draw(ctx, d)
	for i := range out {
		if d.Asks[i].Kind != quota.TokenBucket {
			out[i].Granted = 1 << 50
		}
	}
	return out, err
}

// BenchmarkDecideReserveSettle is a warm decision on five limits (plan, project, key, user, route), and its end. Customers are
// different ones, so that it can scale with the cores.
func BenchmarkDecideReserveSettle(b *testing.B) {
	w := newWorld(b, fiveLimits()...)
	w.now.Store(time.Now().UnixMicro())
	l := w.gateway(1, func(a authority.Authority) authority.Authority { return generous{a} }, func(c *lessee.Config) { c.Now, c.Real = time.Now, time.Now })
	ctx := context.Background()
	var workers atomic.Int64
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		id := strconv.FormatInt(workers.Add(1), 10)
		q := w.question(ask{customer: "cus_" + id, key: "key_" + id, project: "p", user: "anna"})
		for pb.Next() {
			h, _, err := l.Decide(ctx, q)
			if err != nil || q.Decision.Verdict != quota.Allow {
				b.Error(err, q.Decision)
				return
			}
			h.End(q.Cost)
		}
	})
	b.ReportMetric(float64(l.Stats().Draws)/float64(b.N)*1000, "draws/1000")
}
