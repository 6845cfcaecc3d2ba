// Package correct changes how stored usage counts: it amends and voids events, loads backfills as units that can be taken back,
// and tells what came late for closed periods. Nothing is rewritten: the journal keeps each event with all its revisions.
package correct

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/tallystick/tallystick/internal/app/ingest"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

const (
	reasonMax = 256 // bytes
	pageUsual = 100
	pageMax   = 1000
	tries     = 3 // of a revision that another one overtook
)

// Directory is what corrections need to know of catalog, customers and their subscriptions; govern.Service fits.
type Directory interface {
	Current() *catalog.Compiled
	Customer(ref string) (account.Customer, bool)
	Customers() []account.Customer
	SubscriptionsOf(customerID string) []account.Subscription
}

// Resolver finds what an event counts for by today's catalog; ingest.Service fits.
type Resolver interface {
	Resolve(e meter.Event) (meter.Event, []meter.Resolution, error)
}

// Closes tells which billing periods are closed, and by which invoice.
type Closes interface {
	Closes(ctx context.Context, subscriptionID string) ([]store.Close, error)
}

// Config of a Service. All but Counted, Flush and Log are required.
type Config struct {
	Directory Directory
	Resolver  Resolver
	Journal   store.Journal
	Backfills store.Backfills
	Closes    Closes
	// Audit notes what an operator did to an event; detail is JSON.
	Audit  func(ctx context.Context, actor, action, target, detail string) error
	Now    func() time.Time // business clock
	Random io.Reader
	// Counted is told whose usage changed.
	Counted func(customerIDs []string)
	// Flush brings settled gateway usage into the journal first.
	Flush func(context.Context) error
	Log   *slog.Logger
}

// Service is safe for concurrent use.
type Service struct {
	cfg Config

	drawing sync.Mutex   // guards cfg.Random
	ticking sync.Mutex   // one Tick at a time
	loading sync.RWMutex // read-held while events are loaded into backfills, held while one leaves the open state
}

// New checks cfg and starts nothing.
func New(cfg Config) (*Service, error) {
	if cfg.Directory == nil || cfg.Resolver == nil || cfg.Journal == nil || cfg.Backfills == nil || cfg.Closes == nil || cfg.Audit == nil ||
		cfg.Now == nil || cfg.Random == nil {
		return nil, errors.New("correct: directory, resolver, journal, backfills, closes, audit, clock and randomness are required")
	}
	if cfg.Counted == nil {
		cfg.Counted = func([]string) {}
	}
	if cfg.Flush == nil {
		cfg.Flush = func(context.Context) error { return nil }
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Service{cfg: cfg}, nil
}

// Change says which event an operator corrects, and why.
type Change struct {
	Source, ID    string
	Actor, Reason string
	// Revision that the operator saw; nil: whatever it is now.
	Revision *uint64
}

// Content is what an amendment changes of an event; nil fields stay as they are.
type Content struct {
	Type, Subject *string
	Data          json.RawMessage
}

// Void makes an event count for nothing. Its content is kept. Voiding a voided event changes nothing. account.ErrNotFound;
// store.ErrConflict when it has another revision than the change names; account.ErrState when it was erased.
func (s *Service) Void(ctx context.Context, c Change) (store.Record, error) {
	return s.revise(ctx, c, "event.void", func(store.Record) (store.Revision, error) {
		return store.Revision{Kind: store.Void}, nil
	})
}

// Amend gives an event another type, subject or data, which count from now on at the event's own time, as if it had come so.
// A voided event counts again. The identity and its digest stay those of the first content, so that a resend of that one is
// still a duplicate. *ingest.Invalid when the new content breaks a rule, or counts for nothing; else errors as Void.
func (s *Service) Amend(ctx context.Context, c Change, to Content) (store.Record, error) {
	if to.Type == nil && to.Subject == nil && to.Data == nil {
		return store.Record{}, &ingest.Invalid{Pointer: "", Rule: "names nothing to change", Fix: "give a type, a subject or data"}
	}
	return s.revise(ctx, c, "event.amend", func(r store.Record) (store.Revision, error) {
		switch {
		case r.Flags&store.Held != 0 && !counts(r):
			return store.Revision{}, fmt.Errorf("%w: the event waits in a backfill; close that first, then amend the event", account.ErrState)
		case r.Unit != "" && r.Voided:
			return store.Revision{}, fmt.Errorf("%w: the event was voided and belongs to a backfill; load it anew under another id", account.ErrState)
		}
		e := r.Event
		if to.Type != nil {
			e.Type = *to.Type
		}
		if to.Subject != nil {
			e.Subject = *to.Subject
		}
		if to.Data != nil {
			e.Data = to.Data
		}
		e, resolutions, err := s.cfg.Resolver.Resolve(e)
		if err == nil && len(resolutions) == 0 {
			err = &ingest.Invalid{Pointer: "", Rule: "the amended event would count for nothing", Fix: "name a type that a meter reads and a customer as subject, or void the event"}
		}
		return store.Revision{Kind: store.Amend, Event: e, Resolutions: resolutions}, err
	})
}

func counts(r store.Record) bool { return len(r.Resolutions) > 0 }

// History tells all that was done to an event, oldest first. account.ErrNotFound.
func (s *Service) History(ctx context.Context, source, id string) ([]store.Revised, error) {
	if err := s.flush(ctx); err != nil {
		return nil, err
	}
	list, err := s.cfg.Journal.History(ctx, source, id)
	if err != nil {
		return nil, absent(fmt.Sprintf("event %q of source %q", id, source), err)
	}
	return list, nil
}

// revise reads an event, builds its revision and writes it. Where somebody else revises the event in between, the caller who
// named no revision does not mind.
func (s *Service) revise(ctx context.Context, c Change, action string, build func(store.Record) (store.Revision, error)) (store.Record, error) {
	if err := checkReason(c.Reason); err != nil {
		return store.Record{}, err
	}
	if err := s.flush(ctx); err != nil {
		return store.Record{}, err
	}
	what := fmt.Sprintf("event %q of source %q", c.ID, c.Source)
	for try := 1; ; try++ {
		before, err := s.cfg.Journal.Event(ctx, c.Source, c.ID)
		if err != nil {
			return store.Record{}, absent(what, err)
		}
		if c.Revision != nil && *c.Revision != before.Revision {
			return store.Record{}, fmt.Errorf("%s has revision %d, not %d: %w", what, before.Revision, *c.Revision, store.ErrConflict)
		}
		if before.Erased {
			return store.Record{}, fmt.Errorf("%w: the event's content was erased; correct its invoice by a credit note instead", account.ErrState)
		}
		revision, err := build(before)
		if err != nil {
			return store.Record{}, err
		}
		revision.Source, revision.ID, revision.If = c.Source, c.ID, before.Revision
		_, err = s.cfg.Journal.Revise(ctx, store.Revisions{
			Actor: c.Actor, Reason: c.Reason, At: period.Truncate(s.cfg.Now()), List: []store.Revision{revision},
		})
		if errors.Is(err, store.ErrConflict) && c.Revision == nil && try < tries {
			continue
		}
		if err != nil {
			return store.Record{}, fmt.Errorf("revise %s: %w", what, err)
		}
		return s.revised(ctx, c, action, before)
	}
}

// revised tells everybody who has to know of a revision.
func (s *Service) revised(ctx context.Context, c Change, action string, before store.Record) (store.Record, error) {
	after, err := s.cfg.Journal.Event(ctx, c.Source, c.ID)
	if err != nil {
		return store.Record{}, fmt.Errorf("read the revised event: %w", err)
	}
	if after.Revision == before.Revision {
		return after, nil // it was so before
	}
	s.counted(before.Resolutions, after.Resolutions)
	detail, err := json.Marshal(map[string]any{"source": c.Source, "reason": c.Reason, "revision": after.Revision})
	if err != nil {
		return store.Record{}, fmt.Errorf("audit detail: %w", err)
	}
	if err := s.cfg.Audit(ctx, c.Actor, action, c.ID, string(detail)); err != nil {
		return store.Record{}, fmt.Errorf("the event was revised, but not noted in the audit log: %w", err)
	}
	return after, nil
}

// counted tells whose usage changed.
func (s *Service) counted(lists ...[]meter.Resolution) {
	var ids []string
	for _, list := range lists {
		for _, r := range list {
			ids = append(ids, r.CustomerID)
		}
	}
	if slices.Sort(ids); len(ids) > 0 {
		s.cfg.Counted(slices.Compact(ids))
	}
}

func (s *Service) flush(ctx context.Context) error {
	if err := s.cfg.Flush(ctx); err != nil {
		return fmt.Errorf("ship the gateway's usage first: %w", err)
	}
	return nil
}

// newAudit is the entry of a write to the records.
func (s *Service) newAudit(actor, action, target string, detail map[string]any) (store.Audit, error) {
	now := period.Truncate(s.cfg.Now())
	id, err := s.newID("aud", now)
	if err != nil {
		return store.Audit{}, err
	}
	text, err := json.Marshal(detail)
	if err != nil {
		return store.Audit{}, fmt.Errorf("audit detail: %w", err)
	}
	return store.Audit{ID: id, Time: now, Actor: actor, Action: action, Target: target, Detail: string(text)}, nil
}

func (s *Service) newID(prefix string, now time.Time) (string, error) {
	s.drawing.Lock()
	defer s.drawing.Unlock()
	return account.NewID(prefix, now, s.cfg.Random)
}

func checkReason(reason string) error {
	if strings.TrimSpace(reason) == "" {
		return &ingest.Invalid{Pointer: "/reason", Rule: "is missing", Fix: "say why; it is kept with the change for ever"}
	}
	if len(reason) > reasonMax || !utf8.ValidString(reason) || strings.ContainsFunc(reason, unicode.IsControl) {
		return &ingest.Invalid{Pointer: "/reason", Rule: fmt.Sprintf("must be one line of at most %d bytes", reasonMax), Fix: "shorten it"}
	}
	return nil
}

// absent turns the store's "not found" into that of the layers above.
func absent(what string, err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("there is no %s: %w", what, account.ErrNotFound)
	}
	return fmt.Errorf("read %s: %w", what, err)
}
