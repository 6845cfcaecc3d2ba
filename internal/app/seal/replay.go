package seal

import (
	"fmt"
	"slices"
	"time"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/seal"
	"github.com/tallystick/tallystick/internal/store"
)

// replay derives from the log what the index must say: a plain second implementation that shares no code with it. It holds an
// identity of 16 bytes and a position for each event, and one figure for each quarter of an hour of a series.
type replay struct {
	ids     map[[16]byte]uint64
	series  map[store.SeriesKey]*figures
	counted map[uint64]standing // of events that were revised
	seals   []sealed
	events  int64
}

// sealed is a close document of the log.
type sealed struct {
	position uint64
	document []byte
}

// standing is how a revised event counts now.
type standing struct {
	at          time.Time
	origin      meter.Origin
	resolutions []meter.Resolution
}

type figures struct {
	quarters         map[int64]meter.Rollup
	reported, voided money.Decimal
	admitted         map[admittedKey]money.Decimal
}

type admittedKey struct {
	period      int64
	node, epoch uint64
}

func newReplay() *replay {
	return &replay{ids: map[[16]byte]uint64{}, series: map[store.SeriesKey]*figures{}, counted: map[uint64]standing{}}
}

func (r *replay) of(customer, name string) *figures {
	k := store.SeriesKey{CustomerID: customer, Meter: name}
	f := r.series[k]
	if f == nil {
		f = &figures{quarters: map[int64]meter.Rollup{}, admitted: map[admittedKey]money.Decimal{}}
		r.series[k] = f
	}
	return f
}

// apply takes one record in. head fetches the event that a revision is of. What cannot be is told by found.
func (r *replay) apply(l store.Leaf, head func(position uint64) (seal.Head, error), found func(Finding)) error {
	h, err := seal.ParseHead(l.Head)
	if err != nil {
		return fmt.Errorf("record %d: %w: %w", l.Position, store.ErrCorrupt, err)
	}
	switch h.Kind {
	case seal.KindEvent:
		r.events++
		id := meter.IdentityOf(h.Source, h.ID)
		if first, twice := r.ids[id]; twice {
			found(Finding{
				What: "an event stands in the log twice", Where: name(h), Position: l.Position,
				Expected: fmt.Sprintf("once, at position %d", first), Found: fmt.Sprintf("again at position %d", l.Position),
			})
			return nil
		}
		r.ids[id] = l.Position
		return r.count(standing{h.Time, h.Origin, h.Resolutions}, h.Resolutions, false, false)
	case seal.KindBatch:
		for _, t := range h.Totals {
			f := r.of(t.Customer, t.Meter)
			k := admittedKey{t.PeriodStart, h.Node, h.Epoch}
			if t.Total.Cmp(f.admitted[k]) > 0 {
				f.admitted[k] = t.Total
			}
		}
	case seal.KindAmend, seal.KindVoid, seal.KindResolve:
		return r.revise(h, head)
	case seal.KindSeal:
		r.seals = append(r.seals, sealed{l.Position, append([]byte(nil), l.Document...)})
	}
	return nil
}

func name(h seal.Head) string { return fmt.Sprintf("event %q of source %q", h.ID, h.Source) }

func (r *replay) revise(h seal.Head, head func(uint64) (seal.Head, error)) error {
	was, ok := r.counted[h.Target]
	if !ok {
		event, err := head(h.Target)
		if err != nil {
			return fmt.Errorf("record %d revises record %d: %w", h.Position, h.Target, err)
		}
		was = standing{event.Time, event.Origin, event.Resolutions}
	}
	gone, come := was.resolutions, h.Resolutions
	if h.Kind != seal.KindAmend { // of an amendment all is said anew
		gone, come = without(was.resolutions, h.Resolutions), without(h.Resolutions, was.resolutions)
	}
	if err := r.count(was, gone, true, true); err != nil {
		return err
	}
	now := standing{was.at, was.origin, h.Resolutions}
	r.counted[h.Target] = now
	return r.count(now, come, false, true)
}

// without lists what others do not have. A catalog version changes no figure.
func without(these, others []meter.Resolution) (out []meter.Resolution) {
	for _, one := range these {
		same := func(o meter.Resolution) bool {
			return one.CustomerID == o.CustomerID && one.Meter == o.Meter && one.Value.Cmp(o.Value) == 0 && one.Distinct == o.Distinct &&
				slices.Equal(one.Dimensions, o.Dimensions)
		}
		if !slices.ContainsFunc(others, same) {
			out = append(out, one)
		}
	}
	return out
}

// count adds readings to their quarters and tallies, or takes them away.
func (r *replay) count(s standing, readings []meter.Resolution, taken, revised bool) error {
	quarter := period.BucketStart(s.at).UnixMicro()
	for _, one := range readings {
		f := r.of(one.CustomerID, one.Meter)
		sum := f.quarters[quarter]
		sign, step := one.Value, int64(1)
		if taken {
			sign, step = one.Value.Neg(), -1
		}
		var err error
		if sum.Sum, err = sum.Sum.Add(sign); err != nil {
			return err
		}
		sum.Count += step
		f.quarters[quarter] = sum
		switch {
		case taken:
			f.voided, err = f.voided.Add(one.Value)
		case revised, s.origin == meter.Reported:
			f.reported, err = f.reported.Add(one.Value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
