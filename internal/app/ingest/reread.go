package ingest

import (
	"fmt"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/meter"
)

// Reread prepares to read kept events by one meter of the present catalog, whose version it tells. read answers what an event
// counts for on that meter alone: nothing where the event is of another type or of no customer; an Invalid where the meter
// cannot read it. It is for one goroutine. account.ErrNotFound when the catalog has no such meter.
func (s *Service) Reread(meterKey string) (version int64, read func(meter.Event) ([]meter.Resolution, error), err error) {
	r, err := s.resolver()
	if err != nil {
		return 0, nil, fmt.Errorf("read kept events: %w", err)
	}
	m, ok := r.catalog.Meter(meterKey)
	if !ok {
		return 0, nil, fmt.Errorf("the catalog has no meter %q: %w", meterKey, account.ErrNotFound)
	}
	// What other meters cannot read does not matter here.
	r.only, r.again = m.Key, true
	return r.catalog.Version, func(e meter.Event) ([]meter.Resolution, error) {
		entry, fault := r.entry(e)
		if fault != nil {
			return nil, &Invalid{fault.Pointer, fault.Rule, fault.Fix}
		}
		return entry.Resolutions, nil
	}, nil
}
