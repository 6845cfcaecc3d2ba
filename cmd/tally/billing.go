package main

import (
	"context"
	"crypto/rand"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tallystick/tallystick/internal/app/billrun"
)

// openBillingRuns readies runs of billing; jobs work them.
func (s *server) openBillingRuns() (err error) {
	s.billrun, err = billrun.New(billrun.Config{
		Billing: s.bill, Directory: s.govern, Records: s.records, Now: s.clock.Now, Real: realNow, Random: rand.Reader,
		Trigger: func(ctx context.Context, id string) error { return s.queue.Add(ctx, billrun.Kind, id) },
	})
	return err
}

// workBillingRuns goes on with open runs, once the history of a demo is there.
func (s *server) workBillingRuns(ctx context.Context, id string) error {
	if !s.billing.Load() {
		return nil
	}
	return s.billrun.Work(ctx, id)
}

// billingRunCollector shows what runs did.
type billingRunCollector struct{ r *billrun.Service }

func (c *billingRunCollector) Describe(ch chan<- *prometheus.Desc) {
	prometheus.DescribeByCollect(c, ch)
}

func (c *billingRunCollector) Collect(ch chan<- prometheus.Metric) {
	st := c.r.Stats()
	ended := prometheus.NewDesc("tally_billing_runs_total", "Runs of billing that have ended since start.", []string{"state"}, nil)
	for _, state := range []string{"done", "failed", "canceled"} {
		ch <- prometheus.MustNewConstMetric(ended, prometheus.CounterValue, float64(st.Ended[billrun.State(state)]), state)
	}
	ch <- prometheus.MustNewConstMetric(prometheus.NewDesc("tally_billing_run_failures_total", "Closings that runs of billing tried without success.", nil, nil),
		prometheus.CounterValue, float64(st.Failures))
	ch <- prometheus.MustNewConstMetric(prometheus.NewDesc("tally_billing_run_last_seconds", "How long the last run of billing that ended was worked on.", nil, nil),
		prometheus.GaugeValue, st.Last.Seconds())
}
