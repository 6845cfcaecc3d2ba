package meter_test

import (
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/period"
)

func TestGrid(t *testing.T) {
	t.Parallel()
	for _, at := range []time.Time{
		{},
		time.UnixMicro(-1), time.UnixMicro(0), time.UnixMicro(900_000_000 - 1), time.UnixMicro(900_000_000),
		time.Date(2026, 3, 1, 12, 14, 59, 999_999_000, time.UTC), time.Date(1, 1, 1, 0, 16, 0, 0, time.UTC),
	} {
		if got, want := meter.GridStart(at.UnixMicro()), period.BucketStart(at).UnixMicro(); got != want {
			t.Errorf("gridStart(%v) = %d, want %d", at, got, want)
		}
	}
}

// TestCuts: a cut begins a bucket, and ends the one before.
func TestCuts(t *testing.T) {
	t.Parallel()
	const grid = meter.BucketMicros
	cuts := meter.Cuts{grid - 5, grid + 10, grid + 20, 5 * grid}
	for _, one := range []struct{ at, start, end int64 }{
		{0, 0, grid - 5},
		{grid - 6, 0, grid - 5},
		{grid - 5, grid - 5, grid},
		{grid, grid, grid + 10},
		{grid + 10, grid + 10, grid + 20},
		{grid + 25, grid + 20, 2 * grid},
		{2*grid - 1, grid + 20, 2 * grid},
		{3 * grid, 3 * grid, 4 * grid},
		{5 * grid, 5 * grid, 6 * grid},
		{-1, -grid, 0},
	} {
		start := cuts.Start(one.at)
		if start != one.start || cuts.End(start) != one.end || cuts.Boundary(one.at) != (one.at == start) {
			t.Errorf("at %d: from %d to %d, want %d to %d", one.at, start, cuts.End(start), one.start, one.end)
		}
	}
	if none := meter.Cuts(nil); none.Start(grid+1) != grid || none.End(grid) != 2*grid || none.Boundary(grid+1) {
		t.Error("without cuts there is the grid alone")
	}
}
