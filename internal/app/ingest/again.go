package ingest

import (
	"fmt"
	"time"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/store"
)

// accepted is the status of an event that was stored.
const accepted = "accepted"

// BackfillAgeMax is AgeMax inside a backfill: ten years.
const BackfillAgeMax = 3653 * 24 * time.Hour

// Resolve judges the content of an event that is stored already, by today's catalog and accounts: it returns the event with
// canonical data, and what it counts for, which may be nothing. Its source and time are not judged, they were when it came.
// An *Invalid names the rule that the content breaks.
func (s *Service) Resolve(e meter.Event) (meter.Event, []meter.Resolution, error) {
	r, err := s.resolver()
	if err != nil {
		return e, nil, fmt.Errorf("read a stored event: %w", err)
	}
	r.again = true
	entry, fault := r.entry(e)
	if fault != nil {
		return e, nil, &Invalid{Pointer: fault.Pointer, Rule: fault.Rule, Fix: fault.Fix}
	}
	return entry.Event, entry.Resolutions, nil
}

// held is an entry of a backfill: kept, and counted by no meter until the backfill is closed.
func held(e store.Entry, unit string) store.Entry {
	e.Unit, e.Flags, e.Resolutions = unit, e.Flags&^store.Filtered|store.Held, nil
	return e
}
