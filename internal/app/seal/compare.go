package seal

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// compare holds the index against the replay. It answers false when the journal has moved on since the log was read.
func (a *audit) compare(ctx context.Context) (same bool, err error) {
	err = a.Journal.View(ctx, func(v store.View) error {
		if v.Position() != a.report.Records {
			return nil
		}
		same = true
		known := map[store.SeriesKey]bool{}
		for _, s := range v.Series() {
			known[s.SeriesKey] = true
			if err := a.series(v, s.SeriesKey); err != nil {
				return fmt.Errorf("customer %s, meter %s: %w", s.CustomerID, s.Meter, err)
			}
		}
		for k := range a.replay.series {
			if !known[k] {
				a.found(Finding{What: "a series of the log is not in the index", Where: seriesName(k)})
			}
		}
		return nil
	})
	return same, err
}

func seriesName(k store.SeriesKey) string {
	return fmt.Sprintf("customer %s, meter %s", k.CustomerID, k.Meter)
}

func (a *audit) series(v store.View, k store.SeriesKey) error {
	f := a.replay.series[k]
	if f == nil {
		a.found(Finding{What: "a series of the index is not in the log", Where: seriesName(k)})
		return nil
	}
	windows, err := v.Windows(k, period.Interval{})
	if err != nil {
		return err
	}
	have := map[int64]meter.Rollup{}
	for _, w := range windows {
		quarter := period.BucketStart(w.Start).UnixMicro()
		sum := have[quarter]
		if sum.Sum, err = sum.Sum.Add(w.Sum); err != nil {
			return err
		}
		sum.Count += w.Count
		have[quarter] = sum
	}
	for _, quarter := range slices.Sorted(maps.Keys(merged(have, f.quarters))) {
		want, got := f.quarters[quarter], have[quarter]
		if want.Count != got.Count || want.Sum.Cmp(got.Sum) != 0 {
			a.found(Finding{
				What: "a rollup differs from the events of the log", Where: seriesName(k) + ", " + period.Format(time.UnixMicro(quarter)),
				Expected: fmt.Sprintf("%s from %d events", want.Sum, want.Count), Found: fmt.Sprintf("%s from %d events", got.Sum, got.Count),
			})
		}
	}
	return a.tallies(v, k, f)
}

func merged(x, y map[int64]meter.Rollup) map[int64]meter.Rollup {
	all := maps.Clone(x)
	maps.Copy(all, y)
	return all
}

func (a *audit) tallies(v store.View, k store.SeriesKey, f *figures) error {
	differs := func(what string, want, got money.Decimal) {
		if want.Cmp(got) != 0 {
			a.found(Finding{What: what + " differs from the log", Where: seriesName(k), Expected: want.String(), Found: got.String()})
		}
	}
	reported, err := v.Reported(k, period.Interval{})
	if err != nil {
		return err
	}
	differs("the tally of reported usage", f.reported, reported)
	voided, err := v.Voided(k, period.Interval{})
	if err != nil {
		return err
	}
	differs("the tally of voided usage", f.voided, voided)
	admitted := map[int64]money.Decimal{}
	for key, total := range f.admitted {
		if admitted[key.period], err = admitted[key.period].Add(total); err != nil {
			return err
		}
	}
	for _, start := range v.AdmittedPeriods(k) {
		got, err := v.Admitted(k, start)
		if err != nil {
			return err
		}
		differs("the admitted total of the period from "+period.Format(time.UnixMicro(start)), admitted[start], got)
		delete(admitted, start)
	}
	for start, want := range admitted {
		differs("the admitted total of the period from "+period.Format(time.UnixMicro(start)), want, money.Decimal{})
	}
	return nil
}

// identities asks the index for every event of the log by its identity.
func (a *audit) identities(ctx context.Context) error {
	for from := uint64(1); from <= a.report.Records; {
		type event struct {
			source, id string
			position   uint64
		}
		var events []event
		next, err := a.Journal.Leaves(ctx, from, int(min(leavesMax, a.report.Records-from+1)), func(l store.Leaf) error {
			if l.ID != "" {
				events = append(events, event{l.Source, l.ID, l.Position})
			}
			return nil
		})
		if err != nil {
			return err
		}
		if next == from {
			return fmt.Errorf("the log ends before record %d: %w", from, store.ErrCorrupt)
		}
		for _, e := range events {
			r, err := a.Journal.Event(ctx, e.source, e.id)
			f := Finding{
				What: "the index does not lead to an event of the log", Where: fmt.Sprintf("event %q of source %q", e.id, e.source),
				Position: e.position, Expected: fmt.Sprintf("position %d", e.position),
			}
			switch {
			case errors.Is(err, store.ErrNotFound), errors.Is(err, store.ErrCorrupt):
				f.Found = err.Error()
				a.found(f)
			case err != nil:
				return err
			case r.Position != a.replay.ids[meter.IdentityOf(e.source, e.id)]:
				f.Found = fmt.Sprintf("position %d", r.Position)
				a.found(f)
			}
		}
		from = next
	}
	return nil
}
