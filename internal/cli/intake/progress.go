package intake

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// Terminal says whether progress can be shown on a writer.
func Terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

const (
	barWidth = 24
	redraw   = 200 * time.Millisecond
)

// NewBar makes a Run's Progress: one line that is drawn over itself.
func NewBar(w io.Writer, now func() time.Time) func(taken, size, events int64, end bool) {
	began := now()
	drawn := began
	return func(taken, size, events int64, end bool) {
		at := now()
		if !end && at.Sub(drawn) < redraw {
			return
		}
		drawn = at
		line := bar(taken, size, events, at.Sub(began))
		if end {
			line += "\n"
		}
		_, _ = io.WriteString(w, "\r\x1b[K"+line) // progress is a courtesy
	}
}

// bar is one drawing. Without a size there is no rest to tell.
func bar(taken, size, events int64, took time.Duration) string {
	perSecond := func(n int64) int64 { return n * 1000 / max(1, took.Milliseconds()) }
	line := fmt.Sprintf("%s, %d events, %s/s, %d events/s", amount(taken), events, amount(perSecond(taken)), perSecond(events))
	if size <= 0 {
		return line
	}
	taken = min(taken, size)
	done := int(taken * barWidth / size)
	rest := "?"
	if rate := perSecond(taken); rate > 0 {
		rest = (time.Duration((size-taken)/rate) * time.Second).String()
	}
	return fmt.Sprintf("[%s%s] %3d%% of %s, %s, %s left", strings.Repeat("#", done), strings.Repeat(".", barWidth-done), taken*100/size, amount(size), line, rest)
}

// amount is a number of bytes for people.
func amount(n int64) string {
	switch {
	case n >= 10_000_000:
		return fmt.Sprintf("%d MB", n/1_000_000)
	case n >= 10_000:
		return fmt.Sprintf("%d kB", n/1000)
	}
	return fmt.Sprintf("%d B", n)
}
