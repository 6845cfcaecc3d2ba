package transfer

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file/record"
)

// Compared is how much of two journals was found to be the same.
type Compared struct {
	Records   uint64 `json:"records"`
	Events    int64  `json:"events"`
	Histories int64  `json:"histories"` // of revised events
	Series    int    `json:"series"`
	Buckets   int64  `json:"buckets"`
	Periods   int64  `json:"periods"` // with admitted totals
}

// Compare reads both journals whole: every record, every event by its identity with its history, every bucket of every series
// and all tallies must be the same. ErrDiffers names the first difference.
func Compare(ctx context.Context, from, to store.Journal) (c Compared, err error) {
	for next := uint64(1); ; {
		leaves, after, err := read(ctx, from, next)
		if err != nil {
			return c, err
		}
		if err := same(ctx, to, leaves); err != nil {
			return c, err
		}
		for i := range leaves {
			if err := c.event(ctx, from, to, &leaves[i]); err != nil {
				return c, err
			}
		}
		c.Records += uint64(len(leaves))
		if len(leaves) == 0 {
			break
		}
		next = after
	}
	if at, err := position(ctx, to); err != nil || at != c.Records {
		return c, errors.Join(err, fmt.Errorf("%w: the source has %d records, the target %d", ErrDiffers, c.Records, at))
	}
	return c, c.figures(ctx, from, to)
}

// event finds an event by its identity in both.
func (c *Compared) event(ctx context.Context, from, to store.Journal, l *leaf) error {
	if record.Kind(l.head[0]) != record.KindEvent {
		return nil
	}
	r, err := l.record()
	if err != nil {
		return err
	}
	c.Events++
	source, id := r.Event.Source, r.Event.ID
	want, err := from.Event(ctx, source, id)
	if err != nil {
		return err
	}
	have, err := to.Event(ctx, source, id)
	if err != nil || !reflect.DeepEqual(want, have) {
		return errors.Join(err, fmt.Errorf("%w: event %q of %q, record %d", ErrDiffers, id, source, l.position))
	}
	if want.Revision == 0 {
		return nil
	}
	c.Histories++
	before, err := from.History(ctx, source, id)
	if err != nil {
		return err
	}
	after, err := to.History(ctx, source, id)
	if err != nil || !reflect.DeepEqual(before, after) {
		return errors.Join(err, fmt.Errorf("%w: the history of event %q of %q", ErrDiffers, id, source))
	}
	return nil
}

// figures compares what is derived. The views are taken one in the other: nobody writes.
func (c *Compared) figures(ctx context.Context, from, to store.Journal) error {
	return from.View(ctx, func(a store.View) error {
		return to.View(ctx, func(b store.View) error {
			series := a.Series()
			if !reflect.DeepEqual(series, b.Series()) {
				return fmt.Errorf("%w: not the same series", ErrDiffers)
			}
			for _, s := range series {
				if err := c.series(a, b, s.SeriesKey); err != nil {
					return fmt.Errorf("%s of %s: %w", s.Meter, s.CustomerID, err)
				}
				c.Series++
			}
			return nil
		})
	})
}

func (c *Compared) series(a, b store.View, k store.SeriesKey) error {
	whole := period.Interval{}
	want, err := a.Windows(k, whole)
	if err != nil {
		return err
	}
	have, err := b.Windows(k, whole)
	if err != nil || !slices.EqualFunc(want, have, func(x, y store.Window) bool {
		return x.Start.Equal(y.Start) && x.End.Equal(y.End) && x.Count == y.Count && x.Sum.Cmp(y.Sum) == 0 && x.Reported.Cmp(y.Reported) == 0
	}) {
		return errors.Join(err, fmt.Errorf("%w: not the same buckets", ErrDiffers))
	}
	c.Buckets += int64(len(want))
	voided, err := a.Voided(k, whole)
	if err != nil {
		return err
	}
	if other, err := b.Voided(k, whole); err != nil || voided.Cmp(other) != 0 {
		return errors.Join(err, fmt.Errorf("%w: %s was voided, and %s", ErrDiffers, voided, other))
	}
	periods := a.AdmittedPeriods(k)
	if !slices.Equal(periods, b.AdmittedPeriods(k)) {
		return fmt.Errorf("%w: not the same periods with admitted totals", ErrDiffers)
	}
	for _, start := range periods {
		admitted, err := a.Admitted(k, start)
		if err != nil {
			return err
		}
		if other, err := b.Admitted(k, start); err != nil || admitted.Cmp(other) != 0 {
			return errors.Join(err, fmt.Errorf("%w: admitted %s, and %s", ErrDiffers, admitted, other))
		}
		c.Periods++
	}
	return nil
}
