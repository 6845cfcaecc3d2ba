package catalog

import (
	"strconv"
	"strings"
	"time"
)

// The longest span in days, and a day.
const (
	spanDays = 36500
	day      = 24 * time.Hour
)

// ParseSpan reads a duration as time.ParseDuration does, or whole days: "400d".
func ParseSpan(s string) (time.Duration, bool) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.Atoi(days)
		if err != nil || n < 0 || n > spanDays {
			return 0, false
		}
		return time.Duration(n) * day, true
	}
	d, err := time.ParseDuration(s)
	return d, err == nil
}

// FormatSpan writes whole days as "400d", else as time.Duration does, without parts that are 0.
func FormatSpan(d time.Duration) string {
	if d != 0 && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	text := d.String()
	if short, ok := strings.CutSuffix(text, "m0s"); ok {
		text = short + "m"
	}
	if short, ok := strings.CutSuffix(text, "h0m"); ok {
		text = short + "h"
	}
	return text
}
