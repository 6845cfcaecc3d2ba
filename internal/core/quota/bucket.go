package quota

import (
	"math"
	"math/bits"
)

// bucketClears is when the cost fits, or fits when it does at now.
func (l *Limit) bucketClears(s *State, cost, now int64) int64 {
	weight, ok := product(cost, l.Per)
	size := l.size()
	if !ok || cost < 0 || l.Per <= 0 || weight > size {
		return never
	}
	debt := l.debt(s, now)
	if debt <= size-weight {
		return fits
	}
	return l.after(debt-(size-weight), max(s.Last, now))
}

// size is the largest debt.
func (l *Limit) size() int64 {
	if size, ok := product(l.Burst, l.Per); ok {
		return size
	}
	return math.MaxInt64
}

// debt is what is left of it at now.
func (l *Limit) debt(s *State, now int64) int64 {
	return l.drain(max(0, s.Debt), s.Last, now)
}

// drain is what is left of amount ≥ 0 after refilling from one instant to another; time that goes back refills nothing.
func (l *Limit) drain(amount, from, to int64) int64 {
	if to <= from || l.Rate <= 0 {
		return amount
	}
	hi, lo := bits.Mul64(uint64(to)-uint64(from), uint64(l.Rate))
	if hi != 0 || lo >= uint64(amount) {
		return 0
	}
	return amount - int64(lo)
}

// after is the first instant at which amount ≥ 0 has drained, counted from an instant.
func (l *Limit) after(amount, from int64) int64 {
	if amount == 0 {
		return from
	}
	if l.Rate <= 0 {
		return never
	}
	wait := (amount-1)/l.Rate + 1
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
