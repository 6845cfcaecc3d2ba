package period

import "time"

// Interval is [Start, End) in UTC, microsecond resolution. A zero End is "without end".
type Interval struct {
	Start time.Time `json:"start"`
	End   time.Time `json:"end,omitzero"`
}

// Contains reports Start ≤ t < End.
func (i Interval) Contains(t time.Time) bool {
	return !t.Before(i.Start) && (i.End.IsZero() || t.Before(i.End))
}

// Empty reports that no instant is inside.
func (i Interval) Empty() bool { return !i.End.IsZero() && !i.Start.Before(i.End) }

// Equal reports whether i and j begin and end at the same instants.
func (i Interval) Equal(j Interval) bool { return i.Start.Equal(j.Start) && i.End.Equal(j.End) }

// BucketLength is the grid of the rollups. Since 1972 every local midnight of every zone lies on it.
const BucketLength = 15 * time.Minute

// BucketStart is the 15-minute UTC grid point at or before t.
func BucketStart(t time.Time) time.Time { return t.UTC().Truncate(BucketLength) }

// Truncate cuts to the microsecond and to UTC without monotonic reading. Every instant from outside goes through it
// once, at the border.
func Truncate(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// Format prints RFC 3339 in UTC with "Z"; a fraction only where there is one, at most 6 digits, no trailing zeros.
func Format(t time.Time) string { return Truncate(t).Format(time.RFC3339Nano) }
