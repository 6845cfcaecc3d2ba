package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"golang.org/x/sync/errgroup"

	"github.com/tallystick/tallystick/internal/app/billrun"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/queue"
)

// openQueue prepares the work that jobs trigger.
func (s *server) openQueue(ctx context.Context) (err error) {
	s.jobFaults = make(chan error, 1)
	at, postgres := s.folder.path("jobs.db"), ""
	if s.member != nil { // the leader alone has the queue
		at, postgres = "", s.Records
	}
	s.queue, err = queue.Open(ctx, queue.Config{
		SQLite: at, Postgres: postgres, Alone: true, Log: slog.New(quiet{s.log.Handler()}), Kinds: []queue.Kind{
			{Name: "bill", Every: billEvery, Work: s.job("bill", func(ctx context.Context, _ string) error { return s.billAll(ctx) })},
			{Name: billrun.Kind, Every: billEvery, Work: s.job(billrun.Kind, s.workBillingRuns)},
		},
	})
	return err
}

// job wraps work: its failure is counted, and a store that failed stops the process.
func (s *server) job(name string, work func(ctx context.Context, argument string) error) func(context.Context, string) error {
	return func(ctx context.Context, argument string) error {
		err := work(ctx, argument)
		if err == nil || ctx.Err() != nil {
			return err
		}
		s.metrics.failed(name)
		if errors.Is(err, store.ErrBroken) {
			select {
			case s.jobFaults <- fmt.Errorf("%s: %w", name, err):
			default: // one is enough
			}
		}
		return err
	}
}

// jobLoops works the queue until ctx ends.
func (s *server) jobLoops(ctx context.Context, g *errgroup.Group) {
	g.Go(func() error { return s.queue.Run(ctx) })
	g.Go(func() error {
		select {
		case <-ctx.Done():
			return nil
		case err := <-s.jobFaults:
			return err
		}
	})
}

// quiet leaves out what the queue says of itself below a warning.
type quiet struct{ slog.Handler }

func (q quiet) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn && q.Handler.Enabled(ctx, l)
}

func (q quiet) WithAttrs(attrs []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(attrs)} }

func (q quiet) WithGroup(name string) slog.Handler { return quiet{q.Handler.WithGroup(name)} }
