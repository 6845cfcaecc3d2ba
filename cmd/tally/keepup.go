package main

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/kafka"
)

// onKafka says that the journal is in a topic, which every server applies to files of its own.
func (s *storage) onKafka() bool { return strings.HasPrefix(s.Journal, "kafka://") }

// keepUpAgain is how long a server that does not lead waits before it opens a topic again.
const keepUpAgain = 5 * time.Second

// keepUp applies the topic of the journal while another server leads, so that this one has little to catch up with when it takes
// the lead. The journal that is open at the end of ctx stays so, and is the leader's then.
func (m *member) keepUp(ctx context.Context) {
	if !m.s.onKafka() {
		return
	}
	keys := newSalts(m.db)
	for {
		j, err := openKafka(ctx, m.s.folder.path("journal-kafka"), m.s.Journal, erasing{commit: keys.commit})
		if err == nil {
			m.replica.Store(j)
			if err = keepUpWith(ctx, j); err == nil {
				return
			}
			m.replica.Store(nil)
			err = errors.Join(err, j.Close())
		}
		if ctx.Err() != nil {
			return
		}
		m.s.log.WarnContext(ctx, "this server does not keep up with the journal's topic; tried again", slog.Any("error", err))
		m.s.metrics.failed("keep up")
		if wait(ctx, keepUpAgain) != nil {
			return
		}
	}
}

// keepUpWith tends a journal until ctx ends; an error says that it has failed.
func keepUpWith(ctx context.Context, j *kafka.Journal) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return ticking(ctx, indexEvery, j.Tick) })
	g.Go(func() error {
		return ticking(ctx, compactEvery, func(ctx context.Context) error {
			_, err := compactAll(ctx, j)
			return err
		})
	})
	return g.Wait()
}

// takeJournal opens the journal, or takes over the one that this process has kept up with.
func (s *server) takeJournal(ctx context.Context) (store.Keeper, error) {
	e := erasing{s.salts.commit, s.forget}
	if s.member == nil || !s.onKafka() {
		return openJournal(ctx, s.folder, s.Journal, s.journalFence(), e)
	}
	if j := s.member.replica.Load(); j != nil {
		return j, nil
	}
	j, err := openKafka(ctx, s.folder.path("journal-kafka"), s.Journal, e)
	if err != nil {
		return nil, err // an interface around nothing would be closed
	}
	s.member.replica.Store(j)
	return j, nil
}
