package file

import (
	"context"

	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// Placeholders until the index work is merged; on the dev branch only.

func (j *Journal) Revise(context.Context, store.Revisions) ([]uint64, error)        { panic("later") }
func (j *Journal) History(context.Context, string, string) ([]store.Revised, error) { panic("later") }
func (j *Journal) Seal(context.Context, []byte) (uint64, error)                     { panic("later") }
func (j *Journal) Leaves(context.Context, uint64, int, func(store.Leaf) error) (uint64, error) {
	panic("later")
}
func (v view) Measure(store.SeriesKey, period.Interval, store.Measure) ([]store.Group, error) {
	panic("later")
}
func (v view) Voided(store.SeriesKey, period.Interval) (money.Decimal, error) {
	return money.Decimal{}, nil
}
