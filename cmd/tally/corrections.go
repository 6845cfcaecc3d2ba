package main

import (
	"context"
	"crypto/rand"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tallystick/tallystick/internal/app/correct"
	"github.com/tallystick/tallystick/internal/app/inbox"
)

// Intervals of the corrections' loops, in real time.
const (
	backfillEvery  = 250 * time.Millisecond
	unmatchedEvery = 5 * time.Second
)

// openCorrections readies what changes how stored events count.
func (s *server) openCorrections() (err error) {
	if s.correct, err = correct.New(correct.Config{
		Directory: s.govern, Resolver: s.ingest, Journal: s.journal, Backfills: s.records, Closes: s.records, Audit: s.govern.Audit,
		Now: s.clock.Now, Random: rand.Reader, Counted: s.counted, Flush: s.flush, Log: s.log,
	}); err != nil {
		return err
	}
	s.inbox, err = inbox.New(inbox.Config{
		Directory: s.govern, Resolver: s.ingest, Journal: s.journal, Now: s.clock.Now, Audit: s.govern.Audit, Counted: s.counted,
	})
	return err
}

// correctionLoops starts their tickers.
func (s *server) correctionLoops(ctx context.Context, g *errgroup.Group) {
	s.every(ctx, g, "backfill", backfillEvery, func(ctx context.Context) error {
		for {
			more, err := s.correct.Tick(ctx)
			if err != nil || !more {
				return err
			}
		}
	})
	s.every(ctx, g, "unmatched", unmatchedEvery, s.inbox.Tick)
}
