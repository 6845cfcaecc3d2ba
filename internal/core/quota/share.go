package quota

import (
	"math"
	"math/bits"
)

// A bucket is shared by cutting its rate and burst in parts, and with them its debt. Nothing is rounded: all shares of a bucket
// count in one unit of time (Fine). So the free units of all shares together never pass the burst, grow by no more than the
// rate, and are moved between holders, not made: in any stretch of time all holders admit at most burst + rate×time.

const (
	sizeMax   = 1 << 62    // of burst×per
	fineParts = 1 << 20    // in how many parts a rate can be cut, where the size allows it
	hotFor    = 1_000_000  // microseconds: a share used within it keeps half of itself when it is recalled,
	warmFor   = 60_000_000 // and one used within this an eighth
)

// Fine is the limit's rate in a unit of time long enough to be shared: rate units refill each per microseconds, the same speed as
// Rate and Per. A bucket as large as the range keeps its unit, and its rate may be too small to be cut.
func (l *Limit) Fine() (rate, per int64) {
	if l.Rate <= 0 || l.Per <= 0 {
		return l.Rate, l.Per
	}
	k := max(1, fineParts/l.Rate)
	if whole := size(max(1, l.Burst), l.Per); whole >= sizeMax/k {
		k = max(1, sizeMax/whole)
	}
	return l.Rate * k, l.Per * k
}

// Whole is the state of the one who holds all of the bucket, as a share that can be split. The zero State is a full bucket.
func (l *Limit) Whole(s State) State {
	rate, per := l.Fine()
	s.Debt = scaleUp(max(0, s.Debt), per, l.Per)
	s.Rate, s.Per, s.Burst = rate, per, l.Burst
	return s
}

// Split takes a part of a share away: at most rate (units in s.Per) and burst, with as much of the free units as it can hold, up
// to free. s is a share already: see Whole. What s owes is divided with it. The part has its own Rate, Per, Burst, Debt and Last; all else of it is zero.
func (s *State) Split(rate, burst, free, now int64) (part State) {
	s.settleAt(max(s.Last, now))
	rate, burst = min(max(0, rate), max(0, s.Rate)), min(max(0, burst), max(0, s.Burst))
	most, all := size(burst, s.Per), size(s.Burst, s.Per)
	left := min(size(free, s.Per), most, max(0, all-s.Debt))
	left = max(left, most-s.Debt) // what stays cannot have more free than its size
	part = State{Rate: rate, Per: s.Per, Burst: burst, Debt: most - left, Last: s.Last}
	s.Rate, s.Burst, s.Debt = s.Rate-rate, s.Burst-burst, s.Debt-part.Debt
	return part
}

// Recalled is what the holder of a share gives up when it is recalled: rate and burst, for Split. It keeps half of a share last used
// within a second, an eighth of one used within a minute, and nothing of any other; usedAt 0 is never. Without the eighth, a bucket
// whose requests come to several holders in turn would be recalled for each of them.
func (s *State) Recalled(usedAt, now int64) (rate, burst int64) {
	rate, burst = s.Rate, s.Burst
	switch {
	case usedAt == 0:
	case usedAt > now-hotFor:
		rate, burst = rate-rate/2, burst-burst/2
	case usedAt > now-warmFor:
		rate, burst = rate-rate/8, burst-burst/8
	}
	return rate, burst
}

// Merge adds a part to a share: rate, burst and debt. A part in another unit of time (of a limit that has changed) is converted,
// its debt rounded up and its rate down.
func (s *State) Merge(part State, now int64) {
	at := max(s.Last, part.Last, now)
	s.settleAt(at)
	part.settleAt(at)
	if part.Per != s.Per && part.Per > 0 {
		part.Debt = scaleUp(part.Debt, s.Per, part.Per)
		part.Rate = scale(part.Rate, s.Per, part.Per)
	}
	s.Rate, s.Burst, s.Debt = add(s.Rate, part.Rate), add(s.Burst, part.Burst), add(s.Debt, part.Debt)
}

// settleAt writes down the debt as of an instant that is not before Last.
func (s *State) settleAt(at int64) {
	s.Debt, s.Last = debt(s, s.Rate, at), at
}

// scale is a×to÷from, rounded down; a ≥ 0 and from > 0. Past the range it is the end of it.
func scale(a, to, from int64) int64 {
	q, _ := muldiv(a, to, from)
	return q
}

// scaleUp is scale rounded up.
func scaleUp(a, to, from int64) int64 {
	q, r := muldiv(a, to, from)
	if r {
		q = add(q, 1)
	}
	return q
}

func muldiv(a, to, from int64) (q int64, rest bool) {
	if from <= 0 || a <= 0 || to <= 0 {
		return 0, false
	}
	hi, lo := bits.Mul64(uint64(a), uint64(to))
	if hi >= uint64(from) {
		return math.MaxInt64, false
	}
	quo, rem := bits.Div64(hi, lo, uint64(from))
	if quo > math.MaxInt64 {
		return math.MaxInt64, false
	}
	return int64(quo), rem > 0
}
