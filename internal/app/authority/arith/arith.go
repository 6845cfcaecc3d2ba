// Package arith is the arithmetic of quota: on int64, and at the end of the range it stops.
package arith

import (
	"math"
	"math/bits"

	"github.com/tallystick/tallystick/internal/core/money"
)

// Add is a+b, at the end of the range where it would pass it.
func Add(a, b int64) int64 {
	switch sum := a + b; {
	case a > 0 && b > 0 && sum < 0:
		return math.MaxInt64
	case a < 0 && b < 0 && sum >= 0:
		return math.MinInt64
	default:
		return sum
	}
}

// Sub is a−b, at the end of the range where it would pass it.
func Sub(a, b int64) int64 {
	if b == math.MinInt64 {
		return math.MaxInt64
	}
	return Add(a, -b)
}

// Times is a×b of numbers that are not negative, at most MaxInt64.
func Times(a, b int64) int64 {
	hi, lo := bits.Mul64(uint64(max(0, a)), uint64(max(0, b)))
	if hi != 0 || lo > math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(lo)
}

// Convert is ceil(amount × to ÷ from), at most MaxInt64; amount, to ≥ 0 and from > 0.
func Convert(amount, to, from int64) int64 {
	if to == from || amount <= 0 || from <= 0 {
		return max(0, amount)
	}
	hi, lo := bits.Mul64(uint64(amount), uint64(max(0, to)))
	if hi >= uint64(from) {
		return math.MaxInt64
	}
	q, r := bits.Div64(hi, lo, uint64(from))
	if r > 0 {
		q++
	}
	return int64(min(q, math.MaxInt64))
}

// Drained is what is left of a debt after rate units×per each microsecond, for a while; time that goes back drains nothing.
func Drained(debt, rate, from, to int64) int64 {
	if to <= from || rate <= 0 {
		return debt
	}
	return max(0, debt-min(debt, Times(Sub(to, from), rate)))
}

// Scaled rounds up to a scale and stops at MaxInt64: to count too much is safe here.
func Scaled(d money.Decimal, scale int) int64 {
	if n, err := d.Scaled(scale); err == nil {
		return n
	}
	one := pow10(scale)
	if f, err := d.Floor().Scaled(scale); err == nil && f < math.MaxInt64-one {
		return f + one
	}
	return math.MaxInt64
}

// Floored is a decimal in a scale, rounded down; at the ends of the range it stops.
func Floored(d money.Decimal, scale int) int64 {
	whole, err := d.Mul(money.FromInt(pow10(scale)))
	if err == nil {
		if n, err := whole.Floor().Scaled(0); err == nil {
			return n
		}
	}
	if d.Sign() < 0 {
		return math.MinInt64
	}
	return math.MaxInt64
}

func pow10(n int) int64 {
	one := int64(1)
	for range n {
		one *= 10
	}
	return one
}
