// Package forecast tells from what was used what is to be expected: when a limit will be used up, and whether use is abnormal.
// All of it is for reminders; nothing here charges or refuses.
package forecast

import (
	"math/bits"
	"slices"
)

// elapsedMin is the part of a window that must have passed before it says anything: an eighth.
const elapsedMin = 8

// Exhausts is the instant at which quota is reached when use goes on as it did since the window's start. ok is false when that
// is not before the window's end, when too little of the window has passed, or when it is reached already. Instants are in
// microseconds, start ≤ now < end; consumed and quota are in the same unit.
func Exhausts(consumed, quota, start, end, now int64) (at int64, ok bool) {
	elapsed, length := now-start, end-start
	if consumed <= 0 || quota <= consumed || elapsed <= 0 || length <= 0 || elapsed < length/elapsedMin {
		return 0, false
	}
	// at = start + elapsed × quota ÷ consumed, in 128 bits.
	hi, lo := bits.Mul64(uint64(elapsed), uint64(quota))
	if hi >= uint64(consumed) {
		return 0, false // later than any instant
	}
	wait, _ := bits.Div64(hi, lo, uint64(consumed))
	if wait >= uint64(length) {
		return 0, false
	}
	return start + int64(wait), true
}

// HistoryMin is how many earlier weeks an hour of the week needs before anything can be said to be unusual in it.
const HistoryMin = 2

// Usual is what is used in an hour of the week: the median of that hour in earlier weeks, the higher one of two. ok is false with
// fewer than HistoryMin weeks.
func Usual(weeks []int64) (usual int64, ok bool) {
	if len(weeks) < HistoryMin {
		return 0, false
	}
	sorted := slices.Clone(weeks)
	slices.Sort(sorted)
	return sorted[len(sorted)/2], true
}

// Abnormal says whether use in an hour is above factor times what is usual in it. Use below the floor never is: in a quiet hour a
// few requests are many times nothing.
func Abnormal(used, usual, floor, factor int64) bool {
	if used <= floor || factor <= 0 {
		return false
	}
	hi, lo := bits.Mul64(uint64(max(0, usual)), uint64(factor))
	return hi == 0 && lo < uint64(used)
}
