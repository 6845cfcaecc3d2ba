package export

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tallystick/tallystick/internal/core/seal"
	"github.com/tallystick/tallystick/internal/store"
)

// Tick sends what is there to each export that nobody else works at the moment, so that several loops can call it: a sink that
// does not answer then holds up one of them. A sink's failure is noted with the export and is no error of Tick.
func (s *Service) Tick(ctx context.Context) error {
	all, err := s.List(ctx, store.Query{Limit: exportsMax})
	if err != nil {
		return fmt.Errorf("list exports: %w", err)
	}
	s.tidy(all)
	for _, e := range all {
		if e.Paused || s.cfg.Real().Before(e.NextAt) || e.BehindRecords == 0 && e.BehindEntries == 0 {
			continue
		}
		if !s.claim(e.ID) {
			continue
		}
		err := s.drain(ctx, e.ID)
		s.release(e.ID)
		if err != nil {
			return fmt.Errorf("export %s: %w", e.Name, err)
		}
	}
	return nil
}

// Close ends the connections to all sinks. No Tick may run any more.
func (s *Service) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for id, k := range s.sinks {
		errs = append(errs, k.Close())
		delete(s.sinks, id)
	}
	return errors.Join(errs...)
}

// tidy notes how all stand, and closes the sinks of those that are paused or gone.
func (s *Service) tidy(all []Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known = all
	live := map[string]bool{}
	for _, e := range all {
		live[e.ID] = !e.Paused
	}
	for id, k := range s.sinks {
		if !live[id] && !s.busy[id] {
			_ = k.Close() // nothing waits in it
			delete(s.sinks, id)
		}
	}
}

func (s *Service) claim(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy[id] {
		return false
	}
	s.busy[id] = true
	return true
}

func (s *Service) release(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.busy, id)
}

// drain sends batches until there is no more, something fails or the bound is reached.
func (s *Service) drain(ctx context.Context, id string) error {
	for range batchesMax {
		e, err := s.cfg.Records.Export(ctx, id)
		if errors.Is(err, store.ErrNotFound) || err == nil && (e.Paused || s.cfg.Real().Before(e.NextAt)) {
			return nil
		}
		if err != nil {
			return err
		}
		messages, to, err := s.batch(ctx, &e)
		if err != nil || to == e.Cursor {
			return err
		}
		more, err := s.step(ctx, &e, messages, to)
		if errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrNotFound) {
			return nil // another server leads, or it was deleted
		}
		if err != nil || !more {
			return err
		}
	}
	return nil
}

// step sends a batch and moves the cursor behind it, or notes the failure.
func (s *Service) step(ctx context.Context, e *store.Export, messages []store.Message, to store.Cursor) (more bool, err error) {
	if fault := s.send(ctx, e, messages); fault != nil {
		if ctx.Err() != nil {
			return false, ctx.Err() // the process ends: no fault of the sink
		}
		now := s.cfg.Real()
		s.count(s.fails, e.Name, 1)
		return false, s.cfg.Records.FailExport(ctx, e.ID, e.Cursor, store.ExportFailure{Error: said(fault), At: now, NextAt: now.Add(backoff(e.Failures))})
	}
	s.count(s.sent, e.Name, int64(len(messages)))
	return true, s.cfg.Records.MoveExport(ctx, e.ID, e.Cursor, to, s.cfg.Real())
}

// backoff is how long to wait after one more failure: 1 s, 2 s, 4 s, … 5 min.
func backoff(failures int) time.Duration {
	wait := backoffFirst
	for range failures {
		if wait *= 2; wait >= backoffMax {
			return backoffMax
		}
	}
	return wait
}

func (s *Service) count(in map[string]int64, name string, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	in[name] += n
}

// send has a batch acknowledged. After a failure the sink is opened anew, so that nothing of it is on its way any more.
func (s *Service) send(ctx context.Context, e *store.Export, messages []store.Message) error {
	if len(messages) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	s.mu.Lock()
	sink := s.sinks[e.ID]
	delete(s.sinks, e.ID)
	s.mu.Unlock()
	if sink == nil {
		var err error
		if sink, err = s.cfg.Sinks.Open(ctx, e.To); err != nil {
			return err
		}
	}
	if err := sink.Send(ctx, messages); err != nil {
		return errors.Join(err, sink.Close())
	}
	s.mu.Lock()
	s.sinks[e.ID] = sink
	s.mu.Unlock()
	return nil
}

// errEnough ends the reading of leaves.
var errEnough = errors.New("enough for one batch")

// batch makes the next messages of an export, and the cursor behind them.
func (s *Service) batch(ctx context.Context, e *store.Export) (all []store.Message, to store.Cursor, err error) {
	to = e.Cursor
	if e.Events {
		if all, to.Position, err = s.events(ctx, e.Position); err != nil {
			return nil, to, err
		}
	}
	room := leavesMax - len(all)
	if !e.Entries || room <= 0 {
		return all, to, nil
	}
	entries, err := s.cfg.Records.EntriesAfter(ctx, e.Entry, room)
	if err != nil {
		return nil, to, err
	}
	for _, n := range entries {
		m, err := s.posted(n)
		if err != nil {
			return nil, to, err
		}
		all, to.Entry = append(all, m), n.Number
	}
	return all, to, nil
}

// events makes the messages of the records behind a position, and tells the last position that is in them.
func (s *Service) events(ctx context.Context, after uint64) (all []store.Message, last uint64, err error) {
	var read []leaf
	last, bytes := after, 0
	_, err = s.cfg.Journal.Leaves(ctx, after+1, leavesMax, func(l store.Leaf) error {
		r, tells, err := readLeaf(l)
		if err != nil {
			return err
		}
		if tells {
			if bytes += len(l.Head) + len(l.Payload); bytes > bytesMax && len(read) > 0 {
				return errEnough
			}
			read = append(read, r)
		}
		last = l.Position
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, after, fmt.Errorf("read the journal behind %d: %w", after, err)
	}
	for i := range read {
		r := &read[i]
		more, err := s.tell(ctx, r)
		if err != nil {
			return nil, after, err
		}
		if len(all)+len(more) > leavesMax && len(all) > 0 {
			return all, r.Position - 1, nil
		}
		all = append(all, more...)
	}
	return all, last, nil
}

// tell makes the messages of one record.
func (s *Service) tell(ctx context.Context, r *leaf) ([]store.Message, error) {
	switch r.Kind {
	case seal.KindEvent:
		return s.recorded(r)
	case seal.KindErasure:
		m, err := s.erasure(r)
		return []store.Message{m}, err
	}
	var source, id string
	_, err := s.cfg.Journal.Leaves(ctx, r.Target, 1, func(l store.Leaf) error {
		source, id = l.Source, l.ID
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the event that record %d revises: %w", r.Position, err)
	}
	now, err := s.cfg.Journal.Event(ctx, source, id)
	if err != nil {
		return nil, fmt.Errorf("read the event that record %d revises: %w", r.Position, err)
	}
	history, err := s.cfg.Journal.History(ctx, source, id)
	if err != nil {
		return nil, fmt.Errorf("read the history of the event that record %d revises: %w", r.Position, err)
	}
	return s.revised(r, history, now.Erased)
}
