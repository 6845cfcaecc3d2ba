package correct

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/tallystick/tallystick/internal/app/ingest"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// OpenMax bounds the backfills that are open or at work.
const OpenMax = 100

// batchMax is how many events a job revises at once.
const batchMax = 1000

// Backfill is one as it is stored.
type Backfill = store.Backfill

// OpenBackfill begins a unit that events can be loaded into. *ingest.Invalid; account.ErrExists on the name; account.ErrState
// when OpenMax are open.
func (s *Service) OpenBackfill(ctx context.Context, actor, name, reason string) (Backfill, error) {
	if err := account.ValidKey(name); err != nil {
		return Backfill{}, &ingest.Invalid{Pointer: "/name", Rule: err.Error(), Fix: "choose a short name such as march-2026"}
	}
	if err := checkReason(reason); err != nil {
		return Backfill{}, err
	}
	now := period.Truncate(s.cfg.Now())
	b := Backfill{Name: name, Reason: reason, State: store.BackfillOpen, OpenedAt: now, OpenedBy: actor, ChangedAt: now, ChangedBy: actor}
	var err error
	if b.ID, err = s.newID("bfl", now); err != nil {
		return Backfill{}, err
	}
	a, err := s.newAudit(actor, "backfill.open", b.ID, map[string]any{"name": name, "reason": reason})
	if err != nil {
		return Backfill{}, err
	}
	switch err := s.cfg.Backfills.PutBackfill(ctx, b, OpenMax, a); {
	case errors.Is(err, store.ErrExists):
		return Backfill{}, fmt.Errorf("a backfill named %q %w", name, account.ErrExists)
	case errors.Is(err, store.ErrConflict):
		return Backfill{}, fmt.Errorf("%w: %d backfills are open, the most there may be; close or revert one", account.ErrState, OpenMax)
	case err != nil:
		return Backfill{}, fmt.Errorf("open backfill: %w", err)
	}
	return b, nil
}

// Backfill finds one by id or name. account.ErrNotFound.
func (s *Service) Backfill(ctx context.Context, ref string) (Backfill, error) {
	b, err := s.cfg.Backfills.Backfill(ctx, ref)
	if err != nil {
		return Backfill{}, absent(fmt.Sprintf("backfill %q, `tally backfill list` shows all", ref), err)
	}
	return b, nil
}

// ListBackfills pages through all, newest first.
func (s *Service) ListBackfills(ctx context.Context, q store.Query) ([]Backfill, error) {
	if q.Limit <= 0 {
		q.Limit = pageUsual
	}
	q.Limit = min(q.Limit, pageMax)
	list, err := s.cfg.Backfills.ListBackfills(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("list backfills: %w", err)
	}
	return list, nil
}

// Load keeps an open backfill open while events are put into it: call done after they are stored. unit is what their entries
// name. account.ErrNotFound; account.ErrState when it is not open.
func (s *Service) Load(ctx context.Context, ref string) (unit string, done func(), err error) {
	s.loading.RLock()
	b, err := s.Backfill(ctx, ref)
	if err == nil && b.State != store.BackfillOpen {
		err = fmt.Errorf("%w: backfill %q is %s and takes no events any more", account.ErrState, b.Name, b.State)
	}
	if err != nil {
		s.loading.RUnlock()
		return "", nil, err
	}
	return b.ID, s.loading.RUnlock, nil
}

// CloseBackfill begins to make an open backfill's events count; Tick does it. Closing it again changes nothing.
// account.ErrNotFound; account.ErrState when it was reverted.
func (s *Service) CloseBackfill(ctx context.Context, actor, ref string) (Backfill, error) {
	return s.move(ctx, actor, ref, "backfill.close", "", store.BackfillClosing, store.BackfillClosed)
}

// RevertBackfill begins to void all events of a backfill, closed or not; Tick does it. Reverting it again changes nothing.
// account.ErrNotFound.
func (s *Service) RevertBackfill(ctx context.Context, actor, ref, reason string) (Backfill, error) {
	if err := checkReason(reason); err != nil {
		return Backfill{}, err
	}
	return s.move(ctx, actor, ref, "backfill.revert", reason, store.BackfillReverting, store.BackfillReverted)
}

// move begins a job that ends in a state.
func (s *Service) move(ctx context.Context, actor, ref, action, reason string, to, end store.BackfillState) (Backfill, error) {
	s.loading.Lock() // those who load have seen it open: wait for them
	defer s.loading.Unlock()
	b, err := s.Backfill(ctx, ref)
	if err != nil || b.State == to || b.State == end {
		return b, err
	}
	if to == store.BackfillClosing && b.State != store.BackfillOpen {
		return Backfill{}, fmt.Errorf("%w: backfill %q is %s", account.ErrState, b.Name, b.State)
	}
	detail := map[string]any{"name": b.Name}
	if reason != "" {
		detail["reason"] = reason
	}
	a, err := s.newAudit(actor, action, b.ID, detail)
	if err != nil {
		return Backfill{}, err
	}
	moved, err := s.cfg.Backfills.MoveBackfill(ctx, b.ID, b.State, to, reason, a)
	if err != nil {
		return Backfill{}, fmt.Errorf("backfill %q: %w", b.Name, err)
	}
	return moved, nil
}

// Tick does one batch of work of each backfill that is being closed or reverted, and says whether more is left. It is safe to
// repeat after a crash at any point: how far it came is stored after each batch, and a revision that stands already is not
// written again.
func (s *Service) Tick(ctx context.Context) (more bool, err error) {
	s.ticking.Lock()
	defer s.ticking.Unlock()
	list, err := s.cfg.Backfills.WorkingBackfills(ctx)
	if err != nil {
		return false, fmt.Errorf("backfills at work: %w", err)
	}
	var failures []error
	for _, b := range list {
		unfinished, err := s.step(ctx, b)
		if err != nil {
			failures = append(failures, fmt.Errorf("backfill %q: %w", b.Name, err))
			continue
		}
		more = more || unfinished
	}
	return more, errors.Join(failures...)
}

// step works through one page of a backfill's events.
func (s *Service) step(ctx context.Context, b Backfill) (more bool, err error) {
	from := b.State
	page, err := s.cfg.Journal.Scan(ctx, store.Scan{Unit: b.ID, Cursor: b.Cursor, Limit: batchMax})
	if err != nil {
		return false, fmt.Errorf("read its events: %w", err)
	}
	revisions := store.Revisions{Actor: b.ChangedBy, Reason: cmp.Or(b.ChangedFor, b.Reason), At: period.Truncate(s.cfg.Now())}
	var changed [][]meter.Resolution
	for _, r := range page.Records {
		b.Events++
		if r.Erased || r.Voided && from == store.BackfillClosing {
			continue // somebody took it out, or its content is gone
		}
		next := store.Revision{Source: r.Event.Source, ID: r.Event.ID, Kind: store.Void, If: r.Revision}
		if from == store.BackfillReverting {
			b.Voided++
			changed = append(changed, r.Resolutions)
		} else {
			next.Kind = store.Resolve
			if next.Resolutions = s.resolved(r); len(next.Resolutions) == 0 {
				b.Unmatched++
			} else {
				b.Counted++
			}
			changed = append(changed, next.Resolutions)
		}
		revisions.List = append(revisions.List, next)
	}
	if len(revisions.List) > 0 {
		uncountable, err := s.write(ctx, revisions)
		if err != nil {
			return false, fmt.Errorf("revise its events: %w", err)
		}
		b.Counted, b.Unmatched = b.Counted-uncountable, b.Unmatched+uncountable
		s.counted(changed...)
	}
	if b.Cursor = page.Next; b.Cursor == "" {
		b.State = map[store.BackfillState]store.BackfillState{
			store.BackfillClosing: store.BackfillClosed, store.BackfillReverting: store.BackfillReverted,
		}[from]
	}
	err = s.cfg.Backfills.StepBackfill(ctx, b, from)
	if errors.Is(err, store.ErrConflict) {
		return true, nil // it was reverted meanwhile: that job begins at the start
	}
	return b.Cursor != "", err
}

// resolved is what an event of a backfill counts for: what it counts for already, if a batch was done before a crash.
func (s *Service) resolved(r store.Record) []meter.Resolution {
	if counts(r) {
		return r.Resolutions
	}
	_, list, err := s.cfg.Resolver.Resolve(r.Event)
	if err != nil {
		return nil // the catalog changed since it was loaded: it goes to the unmatched ones
	}
	return list
}

// write revises in parts where the whole is too long, or where one of the events cannot count because a sum would pass the
// bounds of numbers: that one is left without resolutions, among the unmatched ones.
func (s *Service) write(ctx context.Context, r store.Revisions) (uncountable int64, err error) {
	_, err = s.cfg.Journal.Revise(ctx, r)
	if !errors.Is(err, store.ErrInvalid) && !errors.Is(err, money.ErrOverflow) {
		return 0, err
	}
	if n := len(r.List); n > 1 {
		all := r.List
		r.List = all[:n/2]
		first, err := s.write(ctx, r)
		if err != nil {
			return first, err
		}
		r.List = all[n/2:]
		second, err := s.write(ctx, r)
		return first + second, err
	}
	if len(r.List[0].Resolutions) == 0 {
		return 0, err
	}
	s.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "an event of a backfill cannot count", slog.String("source", r.List[0].Source),
		slog.String("event", r.List[0].ID), slog.Any("error", err))
	r.List = []store.Revision{r.List[0]}
	r.List[0].Resolutions = nil
	_, err = s.cfg.Journal.Revise(ctx, r)
	return 1, err
}
