package catalog

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/tallystick/tallystick/internal/core/price"
)

// String is the word of the catalog.
func (s Scope) String() string {
	switch s {
	case PerProject:
		return "project"
	case PerKey:
		return "key"
	case PerUser:
		return "user"
	case PerRoute:
		return "route"
	}
	return "Scope(" + strconv.Itoa(int(s)) + ")"
}

// ParseFailure reads closed, open or "local 20%".
func ParseFailure(s string) (Failure, bool) {
	switch s {
	case "closed":
		return Failure{}, true
	case "open":
		return Failure{Kind: FailOpen}, true
	}
	rest, ok := strings.CutPrefix(s, "local ")
	if !ok {
		return Failure{}, false
	}
	percent, ok := ParsePercent(rest)
	return Failure{Kind: FailLocal, Local: percent}, ok
}

// String is the failure mode as ParseFailure reads it.
func (f Failure) String() string {
	switch f.Kind {
	case FailClosed:
		return "closed"
	case FailOpen:
		return "open"
	case FailLocal:
		return fmt.Sprintf("local %d%%", f.Local)
	}
	return "unknown"
}

// ParsePercent reads whole percent, "10%".
func ParsePercent(s string) (int64, bool) {
	digits, ok := strings.CutSuffix(s, "%")
	const longest = 6
	if !ok || digits == "" || len(digits) > longest || strings.Trim(digits, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	return n, err == nil
}

// CostWords are the fields of a cost that is read after the answer, in the order of the sources.
func CostWords() []string {
	return []string{"request_bytes", "response_bytes", "bytes", "response_header", "response_json", "expression"}
}

// String is the field of the catalog that names the source; "fixed" for none.
func (c CostSource) String() string {
	words := CostWords()
	switch {
	case c == 0:
		return "fixed"
	case int(c) <= len(words):
		return words[c-1]
	}
	return "CostSource(" + strconv.Itoa(int(c)) + ")"
}

// ParseStatuses reads "429", "5xx" or "500-503".
func ParseStatuses(s string) (StatusRange, bool) {
	const hundred = 100
	if len(s) == 3 && s[1:] == "xx" && s[0] >= '1' && s[0] <= '5' {
		first := int(s[0]-'0') * hundred
		return StatusRange{first, first + hundred - 1}, true
	}
	low, high, isRange := strings.Cut(s, "-")
	if !isRange {
		high = low
	}
	first, err := strconv.Atoi(low)
	last, err2 := strconv.Atoi(high)
	if err != nil || err2 != nil || len(low) != 3 || len(high) != 3 || first < hundred || last < first {
		return StatusRange{}, false
	}
	return StatusRange{first, last}, true
}

// String is the range as ParseStatuses reads it.
func (s StatusRange) String() string {
	const hundred = 100
	switch {
	case s.First == s.Last:
		return strconv.Itoa(s.First)
	case s.First%hundred == 0 && s.Last == s.First+hundred-1:
		return strconv.Itoa(s.First/hundred) + "xx"
	}
	return fmt.Sprintf("%d-%d", s.First, s.Last)
}

// ParseDays reads whole days: "1 day", "14 days".
func ParseDays(s string) (int, bool) {
	count, word, _ := strings.Cut(s, " ")
	const longest = 5
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 || len(count) > longest || strconv.Itoa(n) != count || word != "days" && (n != 1 || word != "day") {
		return 0, false
	}
	return n, true
}

// FormatDays is the text that ParseDays reads.
func FormatDays(n int) string {
	if n == 1 {
		return "1 day"
	}
	return strconv.Itoa(n) + " days"
}

// prorationWords are the ways of proration as the catalog says them, in the order of the constants.
func prorationWords() []string { return []string{"second", "day", "none"} }

// ProrationWord is the word of the
func ProrationWord(p price.Proration) string {
	if words := prorationWords(); int(p) < len(words) {
		return words[p]
	}
	return fmt.Sprintf("Proration(%d)", p)
}

// PeriodsWord is for how many invoices a coupon holds, as the catalog says it: "once", "forever", "3".
func PeriodsWord(n int) string {
	switch n {
	case 0:
		return "forever"
	case 1:
		return "once"
	}
	return strconv.Itoa(n)
}
