package quota

import (
	"math"
	"math/bits"
)

// share is what the holder has of the bucket: all of it, where its state names no part.
func (l *Limit) share(s *State) (rate, per, burst int64) {
	if s.Per > 0 {
		return s.Rate, s.Per, s.Burst
	}
	return l.Rate, l.Per, l.Burst
}

// bucketClears is when the cost fits, or fits when it does at now.
func (l *Limit) bucketClears(s *State, cost, now int64) int64 {
	rate, per, burst := l.share(s)
	weight, ok := product(cost, per)
	most := size(burst, per)
	if !ok || cost < 0 || per <= 0 || weight > most {
		return never
	}
	owed := debt(s, rate, now)
	if owed <= most-weight {
		return fits
	}
	return after(owed-(most-weight), rate, max(s.Last, now))
}

// size is the largest debt of a bucket.
func size(burst, per int64) int64 {
	if size, ok := product(burst, per); ok {
		return size
	}
	return math.MaxInt64
}

// debt is what is left of it at now.
func debt(s *State, rate, now int64) int64 {
	return drain(max(0, s.Debt), rate, s.Last, now)
}

// drain is what is left of amount ≥ 0 after refilling from one instant to another; time that goes back refills nothing.
func drain(amount, rate, from, to int64) int64 {
	if to <= from || rate <= 0 {
		return amount
	}
	hi, lo := bits.Mul64(uint64(to)-uint64(from), uint64(rate))
	if hi != 0 || lo >= uint64(amount) {
		return 0
	}
	return amount - int64(lo)
}

// after is the first instant at which amount ≥ 0 has drained, counted from an instant.
func after(amount, rate, from int64) int64 {
	if amount == 0 {
		return from
	}
	if rate <= 0 {
		return never
	}
	wait := (amount-1)/rate + 1
	if from > never-wait {
		return never
	}
	return from + wait
}

// product is a×b, taking negative factors as 0; ok is false when it does not fit.
func product(a, b int64) (p int64, ok bool) {
	hi, lo := bits.Mul64(uint64(max(0, a)), uint64(max(0, b)))
	if hi != 0 || lo > math.MaxInt64 {
		return 0, false
	}
	return int64(lo), true
}

// add is a+b, at the end of the range where it would pass it.
func add(a, b int64) int64 {
	switch sum := a + b; {
	case a > 0 && b > 0 && sum < 0:
		return math.MaxInt64
	case a < 0 && b < 0 && sum >= 0:
		return math.MinInt64
	default:
		return sum
	}
}
