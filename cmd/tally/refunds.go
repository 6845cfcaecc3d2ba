package main

import (
	"context"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/app/refund"
)

const (
	refundEvery      = time.Second // real time
	refundPruneEvery = time.Hour   // real time
)

func (s *server) refundLoops(ctx context.Context, g *errgroup.Group) {
	s.every(ctx, g, "refunds", refundEvery, s.refunds.Keep)
	s.every(ctx, g, "prune refunds", refundPruneEvery, func(ctx context.Context) error {
		return s.refunds.Prune(ctx, s.clock.Now())
	})
}

// overshootCollector reads at each scrape what requests did cost beyond what was reserved.
type overshootCollector struct {
	e *enforce.Enforcer
	b *refund.Book
}

func (c *overshootCollector) Describe(ch chan<- *prometheus.Desc) {
	prometheus.DescribeByCollect(c, ch)
}

func (c *overshootCollector) Collect(ch chan<- prometheus.Metric) {
	over := prometheus.NewDesc("tally_limit_overshoot", "Units charged beyond what was reserved, since start.", []string{"meter", "route"}, nil)
	type place struct{ meter, route string }
	sums := map[place]float64{} // a meter whose scale was changed has two lines
	for _, o := range c.e.Overshoots() {
		if f, err := strconv.ParseFloat(o.Cost.String(), 64); err == nil {
			sums[place{o.Meter, o.Route}] += f
		}
	}
	for at, n := range sums {
		ch <- prometheus.MustNewConstMetric(over, prometheus.GaugeValue, n, at.meter, at.route)
	}
	lost := prometheus.NewDesc("tally_refunds_lost_total", "Refunds that were given and stand in no list, because too many waited to be stored.", nil, nil)
	ch <- prometheus.MustNewConstMetric(lost, prometheus.CounterValue, float64(c.b.Lost()))
}
