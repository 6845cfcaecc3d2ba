package httpapi

import (
	"time"

	"github.com/tallystick/tallystick/internal/core/period"
)

func firstOf(ss ...string) string {
	for _, s := range ss {
		if s != "" {
			return s
		}
	}
	return ""
}

// microText prints microseconds since 1970; 0 is no time.
func microText(micros int64) string {
	if micros == 0 {
		return ""
	}
	return period.Format(time.UnixMicro(micros))
}
