package ingest

import (
	"fmt"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/meter"
)

// keptSource stands in for the source of an event that is stored already: it was judged when the event came.
const keptSource = "kept"

// Reread prepares to read kept events by one meter of the present catalog, whose version it tells. read answers what an event
// counts for on that meter alone: nothing where the event is of another type or of no customer; an Invalid where the meter
// cannot read it. It is for one goroutine. account.ErrNotFound when the catalog has no such meter.
func (s *Service) Reread(meterKey string) (version int64, read func(meter.Event) ([]meter.Resolution, error), err error) {
	current := s.cfg.Directory.Current()
	m, ok := current.Meter(meterKey)
	if !ok {
		return 0, nil, fmt.Errorf("the catalog has no meter %q: %w", meterKey, account.ErrNotFound)
	}
	// Each type is read by this meter or by none, so that what other meters cannot read does not matter here.
	readers := make(map[string][]catalog.Meter, len(current.Meters))
	for _, other := range current.Meters {
		readers[other.Event] = nil
	}
	readers[m.Event] = []catalog.Meter{m}
	r := resolver{directory: s.cfg.Directory, catalog: current, meters: readers}
	return current.Version, func(e meter.Event) ([]meter.Resolution, error) {
		e.Source, r.now = keptSource, e.Time // whatever its age is
		entry, fault := r.entry(e)
		if fault != nil {
			return nil, &Invalid{fault.Pointer, fault.Rule, fault.Fix}
		}
		return entry.Resolutions, nil
	}, nil
}
