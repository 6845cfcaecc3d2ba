package enforce

import (
	"context"
	"errors"
	"fmt"

	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// JournalPast is the Past where the journal is in this process.
type JournalPast struct{ Journal store.Journal }

// Used implements Past.
func (p JournalPast) Used(ctx context.Context, customerID, meterKey string, in period.Interval) (used money.Decimal, err error) {
	err = p.Journal.View(ctx, func(v store.View) error {
		r, err := v.Usage(store.SeriesKey{CustomerID: customerID, Meter: meterKey}, in)
		used = r.Sum
		return err
	})
	if err != nil {
		return used, fmt.Errorf("read usage: %w", err)
	}
	return used, nil
}

// Known implements Past.
func (p JournalPast) Known(ctx context.Context, source string, ids []string) ([]bool, error) {
	known := make([]bool, len(ids))
	for i, id := range ids {
		switch _, err := p.Journal.Event(ctx, source, id); {
		case err == nil:
			known[i] = true
		case !errors.Is(err, store.ErrNotFound):
			return nil, err
		}
	}
	return known, nil
}

// Straight is the Deliver that appends to a journal in this process without further checks.
func Straight(j store.Journal) func(context.Context, uint32, int64, int64, *store.Batch) ([]store.Result, error) {
	return func(ctx context.Context, _ uint32, _, _ int64, b *store.Batch) ([]store.Result, error) {
		if len(b.Entries)+len(b.Marks)+len(b.Totals) == 0 {
			return nil, nil
		}
		return j.Append(ctx, *b)
	}
}
