package ingest

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/store"
)

// Outcome is what became of one event.
type Outcome struct {
	Status  string `json:"status"` // accepted duplicate conflict rejected unmatched
	ID      string `json:"id,omitempty"`
	Pointer string `json:"pointer,omitempty"` // rejected: JSON Pointer inside the event; empty: the event as a whole
	Rule    string `json:"rule,omitempty"`    // rejected, unmatched, conflict, withheld: why
	Fix     string `json:"fix,omitempty"`
	Digest  string `json:"digest,omitempty"`        // conflict: hex of ours
	Stored  string `json:"stored_digest,omitempty"` // conflict: hex of the stored one
}

// Withheld is the status of an event of an atomic call that is fit to be stored and was not, because another one is not.
const Withheld = "withheld"

// Call is the events of one call, and who sends them.
type Call struct {
	Producer string // "api/tok_…"
	Events   []meter.Event
	// Permit refuses a source or a type that the producer may not write; nil permits all. An *Invalid is told as it is.
	Permit func(source, eventType string) error
	// Atomic: when an event is rejected or a conflict, nothing is stored.
	Atomic bool
	// Parsed: the events come from a Decoder, ParseCloudEvent or ParseBinary, so that their data is canonical already.
	Parsed bool
	// Unit is the open backfill that the events are loaded into; empty: none. They count for nothing before it is closed.
	Unit string
}

// Report appends events of one producer, as Take does.
func (s *Service) Report(ctx context.Context, producer string, events []meter.Event) ([]Outcome, error) {
	return s.Take(ctx, Call{Producer: producer, Events: events})
}

// Take appends the events of a call; one outcome per event, in order; one bad event never fails its neighbours.
// Every meter whose event is the type reads it. The subject is a customer's id or key; without one, or without a meter,
// the event is kept unmatched. A zero time is now. The answer follows the journal's fsync.
//
// Of an atomic call all is stored or nothing. Nothing was stored exactly if an outcome is rejected or a conflict; events that
// are fit and not stored before are Withheld then.
//
// An error concerns the call: Invalid when a bound of one call is passed, else the journal's (store.ErrFull: try again
// later). Some of the events may be stored then; sending all of them again is harmless.
func (s *Service) Take(ctx context.Context, c Call) ([]Outcome, error) {
	if err := bounded(c.Producer, c.Events); err != nil {
		return nil, err
	}
	r, err := s.resolver()
	if err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	r.permit, r.canonical = c.Permit, c.Parsed
	t := taking{call: c, outcomes: make([]Outcome, len(c.Events)), journal: s.cfg.Journal, resolver: r}
	defer func() {
		if slices.Sort(t.counted); len(t.counted) > 0 {
			s.cfg.Counted(slices.Compact(t.counted))
		}
	}()
	if c.Unit != "" {
		t.resolver.ageMax = BackfillAgeMax
	}
	most := chunkMax
	if c.Atomic {
		most = MaxEvents
	}
	refused := false
	for i, e := range c.Events {
		entry, fault := t.resolver.entry(e)
		if fault != nil {
			t.outcomes[i], refused = *fault, true
			continue
		}
		if c.Unit != "" {
			entry = held(entry, c.Unit)
		}
		if t.chunk, t.places = append(t.chunk, entry), append(t.places, i); len(t.chunk) < most {
			continue
		}
		if err := t.append(ctx); err != nil {
			return nil, err
		}
	}
	if c.Atomic && refused {
		for i := range t.outcomes {
			if t.outcomes[i].Status == "" {
				t.outcomes[i] = WithheldOf(c.Events[i].ID)
			}
		}
		return t.outcomes, nil
	}
	if err := t.append(ctx); err != nil {
		return nil, err
	}
	return t.outcomes, nil
}

// taking is one call under way: what is resolved and not yet appended.
type taking struct {
	call     Call
	resolver *resolver
	journal  store.Journal
	outcomes []Outcome
	counted  []string // customers
	chunk    []store.Entry
	places   []int // of the chunk's entries in outcomes
}

func (t *taking) append(ctx context.Context) error {
	if len(t.chunk) == 0 {
		return nil
	}
	results, err := t.journal.Append(ctx, store.Batch{
		Producer: t.call.Producer, Entries: t.chunk, ReceivedAt: t.resolver.now, Atomic: t.call.Atomic,
	})
	if err == nil && len(results) != len(t.chunk) {
		err = store.ErrCorrupt
	}
	if t.call.Atomic && errors.Is(err, store.ErrInvalid) {
		return &Invalid{"", "the events are too many or too long to be stored as one", "send fewer of them, or leave atomic out"}
	}
	if err != nil {
		return fmt.Errorf("store reported usage: %w", err)
	}
	dropped := t.call.Atomic && slices.ContainsFunc(results, func(r store.Result) bool { return r.Outcome == store.Conflict })
	var unwritten map[[16]byte]bool // identities of this batch that would have been written
	if dropped {
		unwritten = map[[16]byte]bool{}
	}
	for j, result := range results {
		entry, i := t.chunk[j], t.places[j]
		if dropped {
			identity := entry.Event.Identity()
			if result.Outcome == store.Accepted || result.Outcome == store.Unmatched {
				unwritten[identity] = true
			}
			if unwritten[identity] && result.Outcome != store.Conflict {
				t.outcomes[i] = WithheldOf(entry.Event.ID)
				continue
			}
		}
		t.outcomes[i] = outcome(entry.Event.ID, result)
		if result.Outcome == store.Unmatched {
			t.resolver.explain(entry.Event, &t.outcomes[i])
		}
		if t.call.Unit != "" && result.Outcome == store.Unmatched {
			t.outcomes[i].Status = accepted // whether anything counts it is seen when the backfill closes
		}
		if result.Outcome == store.Accepted && len(entry.Resolutions) > 0 {
			t.counted = append(t.counted, entry.Resolutions[0].CustomerID)
		}
	}
	t.chunk, t.places = t.chunk[:0], t.places[:0]
	return nil
}

// WithheldOf is the outcome of an event that is Withheld.
func WithheldOf(id string) Outcome {
	return Outcome{
		Status: Withheld, ID: id, Rule: "the call is atomic, and another event of it is rejected or a conflict",
		Fix: "mend that one and send all again",
	}
}

// bounded holds the bounds of one call.
func bounded(producer string, events []meter.Event) error {
	if problem := badText(producer, true); problem != "" {
		return fmt.Errorf("ingest: producer %q %s: %w", producer, problem, account.ErrInvalid)
	}
	if len(events) > MaxEvents {
		return &Invalid{"", fmt.Sprintf("at most %d events in one call, here are %d", MaxEvents, len(events)), "send them in several calls"}
	}
	size := 0
	for _, e := range events {
		if size += len(e.Data); size > MaxBytes {
			return &Invalid{"", fmt.Sprintf("at most %d bytes of data in one call", MaxBytes), "send the events in several calls"}
		}
	}
	return nil
}

func outcome(id string, r store.Result) Outcome {
	out := Outcome{ID: id}
	switch r.Outcome {
	case store.Accepted:
		out.Status = accepted
	case store.Duplicate:
		out.Status = "duplicate"
	case store.Unmatched:
		out.Status = "unmatched"
	case store.Conflict:
		out.Status = "conflict"
		out.Digest, out.Stored = hex.EncodeToString(r.Digest[:]), hex.EncodeToString(r.Stored[:])
		out.Rule = "source and id belong to a stored event with another type, subject or data"
		out.Fix = "give every event an id of its own"
	}
	return out
}
