package subscription

import (
	"time"

	"github.com/tallystick/tallystick/internal/core/period"
)

// Closings lists, oldest first, when billing closes something after an instant and until another one, inclusive: at the end of
// each billing period, cut where the anchor changes and where the subscription ends; and at instants, as empty intervals, at the
// start, where a trial ends inside a billing period, and where a change bills at once. At most limit.
func Closings(segments []Segment, after, until time.Time, limit int) []period.Interval {
	var out []period.Interval
	add := func(i period.Interval) bool {
		if i.End.After(after) && !i.End.After(until) {
			out = append(out, i)
		}
		return len(out) < limit && !i.End.After(until)
	}
	for i := 0; i < len(segments); {
		next := i + 1
		for next < len(segments) && segments[next].Anchor.Equal(segments[i].Anchor) {
			next++
		}
		if !closeSpan(segments, i, next, after, add) {
			break
		}
		i = next
	}
	return out
}

// closeSpan adds the closings in segments [i, next), which have one anchor, until add has enough.
func closeSpan(segments []Segment, i, next int, after time.Time, add func(period.Interval) bool) bool {
	span := period.Interval{Start: segments[i].Start, End: segments[next-1].End}
	if !span.End.IsZero() && span.End.Before(after) {
		return true
	}
	if i == 0 && !add(period.Interval{Start: span.Start, End: span.Start}) {
		return false
	}
	anchor := segments[i].Anchor
	point := i + 1
	for from := later(span.Start, after); span.Contains(from); {
		p, ok := anchor.Period(from)
		if !ok {
			return true
		}
		p = within(p, span)
		for ; point < next && segments[point].Start.Before(p.End); point++ {
			g := &segments[point]
			inside := g.Start.After(p.Start) && (g.Now || segments[point-1].Trial && !g.Trial)
			if inside && !add(period.Interval{Start: g.Start, End: g.Start}) {
				return false
			}
		}
		if !add(p) {
			return false
		}
		from = p.End
	}
	return true
}
