package index

import (
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store/file/base"
)

func TestGrid(t *testing.T) {
	t.Parallel()
	for _, at := range []time.Time{
		{},
		time.UnixMicro(-1), time.UnixMicro(0), time.UnixMicro(900_000_000 - 1), time.UnixMicro(900_000_000),
		time.Date(2026, 3, 1, 12, 14, 59, 999_999_000, time.UTC), time.Date(1, 1, 1, 0, 16, 0, 0, time.UTC),
	} {
		if got, want := base.GridStart(at.UnixMicro()), period.BucketStart(at).UnixMicro(); got != want {
			t.Errorf("gridStart(%v) = %d, want %d", at, got, want)
		}
	}
}

func TestLateSumsAreBounded(t *testing.T) {
	t.Parallel()
	var l lateSums
	for i := range int64(maxLateSums + 5) {
		l.put(lateKey{from: i}, lateSum{money.FromInt(i), 1})
	}
	last := lateKey{from: maxLateSums + 4}
	l.put(last, lateSum{money.FromInt(7), 2})
	if got := l.get(last); len(l.kept) != maxLateSums || got.upTo != 2 || got.sum.String() != "7" {
		t.Errorf("%d kept, the last is %+v", len(l.kept), got)
	}
}
