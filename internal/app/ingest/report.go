package ingest

import (
	"context"
	"encoding/hex"
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
	Rule    string `json:"rule,omitempty"`
	Fix     string `json:"fix,omitempty"`
	Digest  string `json:"digest,omitempty"`        // conflict: hex of ours
	Stored  string `json:"stored_digest,omitempty"` // conflict: hex of the stored one
}

// Report appends events of one producer; one outcome per event, in order; one bad event never fails its neighbours.
// Every meter whose event is the type reads it. The subject is a customer's id or key; without one, or without a meter,
// the event is kept unmatched. A zero time is now. The answer follows the journal's fsync.
//
// An error concerns the call: Invalid when a bound of one call is passed, else the journal's (store.ErrFull: try again
// later). Some of the events may be stored then; sending all of them again is harmless.
func (s *Service) Report(ctx context.Context, producer string, events []meter.Event) ([]Outcome, error) {
	if err := bounded(producer, events); err != nil {
		return nil, err
	}
	r, err := s.resolver()
	if err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	outcomes := make([]Outcome, len(events))
	var counted []string // customers
	defer func() {
		if slices.Sort(counted); len(counted) > 0 {
			s.cfg.Counted(slices.Compact(counted))
		}
	}()
	var chunk []store.Entry
	var places []int // of the chunk's entries in outcomes
	for i, e := range events {
		entry, fault := r.entry(e)
		if fault != nil {
			outcomes[i] = *fault
		} else {
			chunk, places = append(chunk, entry), append(places, i)
		}
		if len(chunk) < chunkMax && i < len(events)-1 || len(chunk) == 0 {
			continue
		}
		results, err := s.cfg.Journal.Append(ctx, store.Batch{Producer: producer, Entries: chunk, ReceivedAt: r.now})
		if err == nil && len(results) != len(chunk) {
			err = store.ErrCorrupt
		}
		if err != nil {
			return nil, fmt.Errorf("store reported usage: %w", err)
		}
		for j, result := range results {
			if result.Outcome == store.Unmatched && r.matched(chunk[j].Event) {
				result.Outcome = store.Accepted // its filters leave it out
			}
			outcomes[places[j]] = outcome(chunk[j].Event.ID, result)
			if result.Outcome == store.Accepted && len(chunk[j].Resolutions) > 0 {
				counted = append(counted, chunk[j].Resolutions[0].CustomerID)
			}
		}
		chunk, places = chunk[:0], places[:0]
	}
	return outcomes, nil
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
		out.Status = "accepted"
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
