package main

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/tallystick/tallystick/internal/app/baseline"
	"github.com/tallystick/tallystick/internal/app/credits"
	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/app/notify"
	"github.com/tallystick/tallystick/internal/core/credit"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/web/hook"
)

// Intervals of the notices' loops, in real time.
const (
	noticeEvery   = 500 * time.Millisecond
	deliverEvery  = time.Second
	baselineEvery = 30 * time.Second
	creditsEvery  = 5 * time.Second
)

// openNotices readies what tells customers and operators what they should know in time.
func (s *server) openNotices() (err error) {
	key, err := s.folder.secret("webhook.key")
	if err != nil {
		return err
	}
	if s.notify, err = notify.New(notify.Config{
		Directory: s.govern, Records: s.records, Sender: hook.New(), Now: s.clock.Now, Random: rand.Reader, Key: key, Log: s.log,
	}); err != nil {
		return err
	}
	s.baseline, err = baseline.New(baseline.Config{
		Directory: s.govern, Usage: s.used, Now: s.clock.Now, Flag: s.govern.SetAbnormal, Tell: s.notify.Tell,
	})
	return err
}

// used is what a customer used of a meter in an interval.
func (s *server) used(ctx context.Context, customerID, meterKey string, in period.Interval) (n money.Decimal, err error) {
	err = s.journal.View(ctx, func(v store.View) error {
		r, err := v.Usage(store.SeriesKey{CustomerID: customerID, Meter: meterKey}, in)
		n = r.Sum
		return err
	})
	return n, err
}

// openCredits readies usage credits and coupons. What is granted must be known before the first request.
func (s *server) openCredits(ctx context.Context) (err error) {
	s.credits, err = credits.New(ctx, credits.Config{
		Directory: s.govern, Records: s.records, Journal: s.journal, Flush: s.flush, Now: s.clock.Now, Random: rand.Reader, Tell: s.notify.Store,
		Spent: func(ctx context.Context, customerID string, at time.Time) (credit.Spent, error) {
			return s.bill.Spent(ctx, customerID, at) // which is there before the first request
		},
	})
	return err
}

// dueCredits tells of credits that run low, and tops up.
func (s *server) dueCredits(ctx context.Context) error {
	for {
		more, err := s.credits.Tick(ctx)
		if err != nil || !more {
			return err
		}
	}
}

// dueNotices does what became due after the clock was advanced.
func (s *server) dueNotices(ctx context.Context) error {
	if err := s.dueCredits(ctx); err != nil {
		return err
	}
	return s.notify.Tick(ctx)
}

func (s *server) noticeLoops(ctx context.Context, g *errgroup.Group) {
	s.every(ctx, g, "notices", noticeEvery, s.notify.Tick)
	s.every(ctx, g, "credits", creditsEvery, s.dueCredits)
	s.every(ctx, g, "baseline", baselineEvery, func(ctx context.Context) error {
		for {
			more, err := s.baseline.Tick(ctx)
			if err != nil || !more {
				return err
			}
		}
	})
	s.every(ctx, g, "webhooks", deliverEvery, func(ctx context.Context) error {
		for {
			more, err := s.notify.Deliver(ctx, realNow())
			if err != nil || !more {
				return err
			}
		}
	})
}

// noticeCollector reads the notices' totals at each scrape.
type noticeCollector struct{ n *notify.Service }

func (c *noticeCollector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

func (c *noticeCollector) Collect(ch chan<- prometheus.Metric) {
	st := c.n.Stats()
	for _, x := range []struct {
		name, help string
		kind       prometheus.ValueType
		n          int64
	}{
		{"tally_notices_total", "Notices stored.", prometheus.CounterValue, st.Told},
		{"tally_notices_lost_total", "Notices dropped because too many waited to be stored.", prometheus.CounterValue, st.Lost},
		{"tally_notices_queued", "Notices that wait to be stored.", prometheus.GaugeValue, st.Queued},
		{"tally_webhook_delivered_total", "Deliveries that a receiver took.", prometheus.CounterValue, st.Sent},
		{"tally_webhook_retries_total", "Attempts after which a delivery is tried again.", prometheus.CounterValue, st.Retried},
		{"tally_webhook_failed_total", "Deliveries given up.", prometheus.CounterValue, st.Failed},
	} {
		ch <- prometheus.MustNewConstMetric(prometheus.NewDesc(x.name, x.help, nil, nil), x.kind, float64(x.n))
	}
}

// spending is what limits on money show of a customer.
func (s *server) spending(ctx context.Context, customerID string) (enforce.Spending, error) {
	charged, b, err := s.credits.Spending(ctx, customerID)
	return enforce.Spending{Charged: charged, Left: b.Left, Burned: b.Burned, Granted: b.Granted.Rational()}, err
}
