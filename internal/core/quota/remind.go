package quota

import "math/bits"

// Threshold is the least quantity that is at or above a percentage of a limit: percent/100 of it, rounded up.
func Threshold(limit int64, percent int) int64 {
	return scaleUp(max(0, limit), int64(percent), 100)
}

// Reached is the highest of the rising percentages that consumed has reached of a limit, and the next one; 0 for none. Of a limit
// of 0 everything is reached.
func Reached(limit, consumed int64, percents []int) (reached, next int) {
	for _, p := range percents {
		if consumed < Threshold(limit, p) {
			return reached, p
		}
		reached = p
	}
	return reached, 0
}

// Percent is how much of a limit is consumed, in whole percent, rounded down, at most most; most where the limit is 0.
func Percent(limit, consumed int64, most int) int {
	if consumed <= 0 {
		return 0
	}
	if limit <= 0 {
		return most
	}
	hi, lo := bits.Mul64(uint64(consumed), 100)
	if hi >= uint64(limit) {
		return most
	}
	q, _ := bits.Div64(hi, lo, uint64(limit))
	return int(min(q, uint64(max(0, most))))
}
