package meter

import (
	"slices"
	"time"

	"github.com/tallystick/tallystick/internal/core/period"
)

// BucketMicros is the grid of the rollups in microseconds. Here instants are microseconds since 1970 in UTC, as journals store them.
const BucketMicros = int64(period.BucketLength / time.Microsecond)

// GridStart is the grid point at or before t, as period.BucketStart has it.
func GridStart(t int64) int64 {
	r := t % BucketMicros
	if r < 0 {
		r += BucketMicros
	}
	return t - r
}

// Cuts are the instants, sorted, at which a customer's buckets are split.
type Cuts []int64

// Start is the start of the bucket that an event at t belongs to: the latest cut or grid point at or before it.
func (c Cuts) Start(t int64) int64 {
	i, cut := slices.BinarySearch(c, t)
	switch start := GridStart(t); {
	case cut:
		return t
	case i > 0:
		return max(start, c[i-1])
	default:
		return start
	}
}

// End is the end of the bucket that starts there.
func (c Cuts) End(start int64) int64 {
	end := GridStart(start) + BucketMicros
	i, cut := slices.BinarySearch(c, start)
	if cut {
		i++
	}
	if i < len(c) {
		end = min(end, c[i])
	}
	return end
}

// Boundary says whether buckets can be told apart at t.
func (c Cuts) Boundary(t int64) bool { return c.Start(t) == t }
