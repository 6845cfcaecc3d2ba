package govern

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/tallystick/tallystick/internal/core/account"
)

// TestOwnerOfASource compares the look-up of owners with a plain search through all patterns.
func TestOwnerOfASource(t *testing.T) {
	t.Parallel()
	pattern := rapid.StringMatching(`[abc]{1,5}\*?`)
	rapid.Check(t, func(t *rapid.T) {
		var d senders
		owners := map[string]string{}
		for i := range rapid.IntRange(1, 40).Draw(t, "producers") {
			p := account.Producer{ID: fmt.Sprintf("prd_%d", i), Key: fmt.Sprintf("p%d", i), Sources: []string{pattern.Draw(t, "pattern")}}
			if _, _, _, taken := d.overlap(p.Sources); !taken {
				d.put(p)
				owners[p.Sources[0]] = p.Key
			}
		}
		for range 20 {
			source := rapid.StringMatching(`[abc]{1,6}`).Draw(t, "source")
			want, owned := "", false
			for p, key := range owners {
				if account.Matches(p, source) {
					want, owned = key, true
				}
			}
			if got, ok := d.owner(source); ok != owned || ok && got != want {
				t.Fatalf("source %q of %v: %q %v, want %q", source, owners, got, ok, want)
			}
		}
	})
}
