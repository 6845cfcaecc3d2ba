package quota

import (
	"time"

	"github.com/tallystick/tallystick/internal/core/period"
)

// SlotUse is what was used or is reserved in the slot of a Rolling limit that begins at Start, microseconds.
type SlotUse struct{ Start, Used int64 }

// WindowAt is the window of a Fixed limit, or the slot of a Rolling one, around an instant. Both are aligned to 1970.
// ok is false for other kinds, and for a limit without length.
func (l *Limit) WindowAt(at int64) (start, end int64, ok bool) {
	length := l.Length
	if l.Kind == Rolling {
		length = l.Slot
	}
	if length <= 0 || l.Kind != Fixed && l.Kind != Rolling {
		return 0, 0, false
	}
	past := at % length
	if past < 0 {
		past += length
	}
	start = add(at, -past)
	return start, add(start, length), true
}

// Counts tells whether the slot that begins at start counts in the window of the slot around at: it lies within Length before
// it. One after it counts too, which is possible where the clock was set back. Any window of Length, wherever it begins, touches
// only slots of which each counts for the others.
func (l *Limit) Counts(start, at int64) bool {
	slot, _, ok := l.WindowAt(at)
	return ok && start >= add(slot, -l.Length) && start <= add(slot, l.Length)
}

// RollingCeiling is what the slot around at may consume in all: the limit (grace included) less what the other slots that count
// have used. It is below 0 where they have passed the limit. uses may be in any order; those of one slot add up.
func (l *Limit) RollingCeiling(uses []SlotUse, at int64) int64 {
	slot, _, ok := l.WindowAt(at)
	if !ok {
		return 0
	}
	ceiling := add(l.Quota, max(0, l.Extra))
	for _, u := range uses {
		if u.Start != slot && l.Counts(u.Start, at) {
			ceiling = add(ceiling, -max(0, u.Used))
		}
	}
	return ceiling
}

// Without is the state as it would be if others had not taken what they hold idle: idle is how much that is in the window, or the slot
// of a Rolling limit, that begins at an instant. Of a bucket's share they hold nothing.
func (l *Limit) Without(s State, idle func(start int64) int64) State {
	if l.Kind == TokenBucket {
		return s
	}
	s.Consumed = max(0, add(s.Consumed, -max(0, idle(s.WindowStart))))
	slot, _, ok := l.WindowAt(s.WindowStart)
	if l.Kind != Rolling || !ok {
		return s
	}
	for start := add(slot, -l.Length); start <= add(slot, l.Length); start += l.Slot { // as far as RollingCeiling counts
		if start != slot {
			s.Ceiling = add(s.Ceiling, max(0, idle(start)))
		}
	}
	return s
}

// RollingClears is the first instant from the slot around at on at which the cost fits, when nothing else is used until then; 0
// for never. The uses of the slot itself count.
func (l *Limit) RollingClears(uses []SlotUse, cost, at int64) int64 {
	slot, _, ok := l.WindowAt(at)
	if !ok || cost < 0 || cost > add(l.Quota, max(0, l.Extra)) {
		return 0
	}
	if l.fitsAt(uses, cost, slot) {
		return at
	}
	clears := int64(never)
	for _, u := range uses { // it can only begin to fit where a slot falls out
		if out := add(add(u.Start, l.Length), l.Slot); out > slot && out < clears && l.fitsAt(uses, cost, out) {
			clears = out
		}
	}
	if clears == never {
		return 0
	}
	return clears
}

// fitsAt tells whether the cost fits in the slot that begins at an instant.
func (l *Limit) fitsAt(uses []SlotUse, cost, slot int64) bool {
	free := l.RollingCeiling(uses, slot)
	for _, u := range uses {
		if u.Start == slot {
			free = add(free, -max(0, u.Used))
		}
	}
	return free >= cost
}

// gridLength is that of the journal's buckets, microseconds.
const gridLength = int64(period.BucketLength / time.Microsecond)

// OnGrid tells whether the limit counts in windows that the journal and the records keep: those of the calendar, and those whose
// steps are whole quarters of an hour; credits too. What others count lives in memory.
func (l *Limit) OnGrid() bool {
	switch l.Kind {
	case TokenBucket, Concurrency:
		return false
	case Fixed:
		return l.Length > 0 && l.Length%gridLength == 0
	case Rolling:
		return l.Slot > 0 && l.Slot%gridLength == 0
	case Quota, SpendCap, Credits:
	}
	return true
}
