package inbox

import (
	"context"
	"fmt"

	"github.com/tallystick/tallystick/internal/store"
)

// tickPages bounds the pages of one Tick.
const tickPages = 20

// Tick counts the unmatched events, for Count. One call reads a bounded part of them, the next goes on where it ended; while the
// journal stands still there is nothing to count.
func (s *Service) Tick(ctx context.Context) error {
	s.ticking.Lock()
	defer s.ticking.Unlock()
	if s.cursor == "" {
		if err := s.cfg.Journal.View(ctx, func(v store.View) error {
			s.begun = v.Position()
			return nil
		}); err != nil {
			return fmt.Errorf("count unmatched events: %w", err)
		}
		if s.begun == s.counted {
			return nil
		}
		s.counting = 0
	}
	for range tickPages {
		page, err := s.scan(ctx, s.cursor, pageMax)
		if err != nil {
			s.cursor = ""
			return err
		}
		for _, r := range page.Records {
			if cause, _ := s.cause(r.Event); cause != Filtered {
				s.counting++
			}
		}
		if s.cursor = page.Next; s.cursor == "" {
			s.counted = s.begun
			s.count.Store(s.counting)
			return nil
		}
	}
	return nil
}

// Count is how many events are unmatched, without Filtered ones, as the last ended round of Tick found.
func (s *Service) Count() int64 { return s.count.Load() }
