package main

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/store"
)

const (
	refundEvery      = time.Second          // real time
	refundPruneEvery = time.Hour            // real time
	refundsKept      = 400 * 24 * time.Hour // business time
	refundsAtOnce    = 500                  // lines of one transaction
	refundsWaiting   = 1 << 17              // lines that wait to be stored, at most
)

// refundBook brings what the gateway gave back into the records. mu owns waiting.
type refundBook struct {
	mu      sync.Mutex
	waiting []store.Refund
	lost    atomic.Int64
}

// add takes sums in that wait to be stored; mu is held.
func (b *refundBook) add(list []enforce.Refund, lost int64) {
	b.lost.Add(lost)
	for _, f := range list {
		if len(b.waiting) >= refundsWaiting {
			b.lost.Add(f.Count)
			continue
		}
		b.waiting = append(b.waiting, store.Refund{
			CustomerID: f.CustomerID, Day: f.Day, Route: f.Route, Meter: f.Meter, Reason: f.Reason.String(), Refused: f.Refused, Count: f.Count, Cost: f.Cost,
		})
	}
}

// takeRefunds takes sums of a gateway in a process of its own; they are stored when it returns.
func (s *server) takeRefunds(ctx context.Context, _ uint16, list []enforce.Refund, lost int64) error {
	s.refunds.mu.Lock()
	s.refunds.add(list, lost)
	s.refunds.mu.Unlock()
	return s.keepRefunds(ctx)
}

// keepRefunds stores what was given back since the last call.
func (s *server) keepRefunds(ctx context.Context) error {
	b := &s.refunds
	b.mu.Lock()
	defer b.mu.Unlock()
	list, lost := s.enforce.Refunds()
	b.add(list, lost)
	for len(b.waiting) > 0 {
		n := min(len(b.waiting), refundsAtOnce)
		if err := s.records.AddRefunds(ctx, b.waiting[:n]); err != nil {
			return err
		}
		b.waiting = b.waiting[n:]
	}
	b.waiting = nil
	return nil
}

// listRefunds lists them, those of a moment ago too.
func (s *server) listRefunds(ctx context.Context, q store.Query) ([]store.Refund, error) {
	if err := s.keepRefunds(ctx); err != nil {
		return nil, err
	}
	return s.records.ListRefunds(ctx, q)
}

func (s *server) refundLoops(ctx context.Context, g *errgroup.Group) {
	s.every(ctx, g, "refunds", refundEvery, s.keepRefunds)
	s.every(ctx, g, "prune refunds", refundPruneEvery, func(ctx context.Context) error {
		return s.records.PruneRefunds(ctx, s.clock.Now().Add(-refundsKept))
	})
}

// overshootCollector reads at each scrape what requests did cost beyond what was reserved.
type overshootCollector struct {
	e *enforce.Enforcer
	b *refundBook
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
	ch <- prometheus.MustNewConstMetric(lost, prometheus.CounterValue, float64(c.b.lost.Load()))
}
