package main

import (
	"context"
	"crypto/rand"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/tallystick/tallystick/internal/app/collect"
)

// Intervals of the collections' loops, in real time.
const (
	collectEvery     = time.Second
	ledgerCheckEvery = time.Minute
)

// openCollections readies what becomes of finalized invoices.
func (s *server) openCollections(ctx context.Context) (err error) {
	if s.collect, err = collect.New(collect.Config{
		Directory: s.govern, Records: s.records, Now: s.clock.Now, Random: rand.Reader, Post: s.notify.Post, Suspend: s.govern.SetUnpaid, Log: s.log,
	}); err != nil {
		return err
	}
	return s.collect.Load(ctx)
}

// collectAll posts and duns what is due.
func (s *server) collectAll(ctx context.Context) error {
	for {
		more, err := s.collect.Tick(ctx)
		if err != nil || !more {
			return err
		}
	}
}

// checkLedger compares the ledger with the documents, for the metrics and the log.
func (s *server) checkLedger(ctx context.Context) error {
	_, err := s.collect.Check(ctx)
	return err
}

// dueCollections does what became due after the clock was advanced.
func (s *server) dueCollections(ctx context.Context) error {
	if err := s.collectAll(ctx); err != nil {
		return err
	}
	return s.checkLedger(ctx)
}

func (s *server) collectionLoops(ctx context.Context, g *errgroup.Group) {
	s.every(ctx, g, "collect", collectEvery, s.collectAll)
	s.every(ctx, g, "ledger", ledgerCheckEvery, s.checkLedger)
}

// ledgerCollector shows what the last check of the ledger found. A gauge is a float: exact numbers are at /v1/ledger/check.
type ledgerCollector struct{ c *collect.Service }

func (l *ledgerCollector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(l, ch) }

func (l *ledgerCollector) Collect(ch chan<- prometheus.Metric) {
	off := prometheus.NewDesc("tally_ledger_difference", "What ledger and documents do not agree on at the last check, in the currency's units; must be 0.", []string{"currency"}, nil)
	for _, c := range l.c.Checked() {
		if f, err := strconv.ParseFloat(c.Difference.String(), 64); err == nil {
			ch <- prometheus.MustNewConstMetric(off, prometheus.GaugeValue, f, c.Currency.Code())
		}
	}
}
