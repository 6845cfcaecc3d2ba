package inbox

import (
	"context"
)

// tickPages bounds the pages of one Tick.
const tickPages = 200

// Tick counts the unmatched events, for Count. One call reads a bounded part of them; the next goes on where it ended.
func (s *Service) Tick(ctx context.Context) error {
	s.ticking.Lock()
	defer s.ticking.Unlock()
	for range tickPages {
		page, err := s.scan(ctx, s.cursor, pageMax)
		if err != nil {
			s.cursor, s.counting = "", 0
			return err
		}
		s.counting += int64(len(page.Records))
		if s.cursor = page.Next; s.cursor == "" {
			s.count.Store(s.counting)
			s.counting = 0
			return nil
		}
	}
	return nil
}

// Count is how many events are unmatched, as the last ended round of Tick found.
func (s *Service) Count() int64 { return s.count.Load() }
