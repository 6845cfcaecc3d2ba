package catalog

import (
	"testing"

	"pgregory.net/rapid"
)

func TestSuggest(t *testing.T) {
	t.Parallel()
	fields := []string{"key", "event", "aggregation", "value", "dimensions", "up_to", "unit_amount"}
	for word, want := range map[string]string{
		"ky": "key", "kye": "key", "evnt": "event", "Event": "event", "agregation": "aggregation", "dimenisons": "dimensions",
		"unit_amont": "unit_amount", "amount": "", "uptp": "up_to", "x": "", "": "", "price": "", "zzz": "", "aggregated_on": "aggregation",
	} {
		if got := Suggest(word, fields); got != want {
			t.Errorf("%q: got %q, want %q", word, got, want)
		}
	}
	if got := Suggest("abd", []string{"abc", "abe"}); got != "abc" {
		t.Errorf("of equally near ones the first, got %q", got)
	}
}

func TestDistance(t *testing.T) {
	t.Parallel()
	word := rapid.StringMatching(`[ab_]{0,8}`)
	rapid.Check(t, func(t *rapid.T) {
		a, b, limit := word.Draw(t, "a"), word.Draw(t, "b"), rapid.IntRange(1, 10).Draw(t, "limit")
		if got, want := distance(a, b, limit), min(naive(a, b), limit); got != want {
			t.Fatalf("distance of %q and %q up to %d: got %d, want %d", a, b, limit, got, want)
		}
	})
}

// naive is the definition, in exponential time.
func naive(a, b string) int {
	if a == "" || b == "" {
		return len(a) + len(b)
	}
	if a[0] == b[0] {
		return naive(a[1:], b[1:])
	}
	best := 1 + min(naive(a[1:], b), naive(a, b[1:]), naive(a[1:], b[1:]))
	if len(a) > 1 && len(b) > 1 && a[0] == b[1] && a[1] == b[0] {
		best = min(best, 1+naive(a[2:], b[2:]))
	}
	return best
}
