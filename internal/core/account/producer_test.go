package account

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestProducerSecrets(t *testing.T) {
	t.Parallel()
	random := rand.NewChaCha8([32]byte{7})
	s, err := NewProducerSecret(random)
	if err != nil || !strings.HasPrefix(s, "tally_prd_") || len(s) != len("tally_prd_")+49 {
		t.Fatalf("secret %q, %v", s, err)
	}
	if err := CheckProducerSecret(s); err != nil || len(ProducerHint(s)) != 4 || !strings.Contains(s, ProducerHint(s)) {
		t.Errorf("check %v, hint %q", err, ProducerHint(s))
	}
	if CheckSecret(s) == nil || IsProducerSecret("tally_live_x") {
		t.Error("a producer's token passes for an API key, or the other way round")
	}
	key, err := NewSecret(Live, random)
	if err != nil || CheckProducerSecret(key) == nil {
		t.Errorf("an API key passes for a producer's token (%v)", err)
	}
	for i := range len(s) { // every single change is seen
		b := []byte(s)
		b[i] ^= 1
		if !errors.Is(CheckProducerSecret(string(b)), ErrBadSecret) {
			t.Errorf("changed at %d: %s", i, b)
		}
	}
	if _, err := NewProducerSecret(bytes.NewReader(nil)); err == nil {
		t.Error("drawn from nothing")
	}
	if ProducerHint("x") != "" {
		t.Error("hint of a malformed one")
	}
}

func TestValidPattern(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"a", "*", "jobs/*", "/über", strings.Repeat("x", 256)} {
		if err := ValidPattern(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"", "a b", "a**", "*a", "a\n", "a\xff", strings.Repeat("x", 257)} {
		if err := ValidPattern(bad); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestOverlap: two patterns overlap exactly when some short text fits both.
func TestOverlap(t *testing.T) {
	t.Parallel()
	texts := []string{""}
	for i := 0; len(texts) < 200; i++ {
		for _, c := range "ab" {
			texts = append(texts, texts[i]+string(c))
		}
	}
	pattern := rapid.StringMatching(`[ab]{0,4}\*?`).Filter(func(s string) bool { return s != "" })
	rapid.Check(t, func(t *rapid.T) {
		as, bs := rapid.SliceOfN(pattern, 1, 3).Draw(t, "a"), rapid.SliceOfN(pattern, 1, 3).Draw(t, "b")
		both := false
		for _, text := range texts {
			both = both || MatchesAny(as, text) && MatchesAny(bs, text)
		}
		if a, b, ok := Overlap(as, bs); ok != both || ok && (!MatchesAny(as, strings.TrimSuffix(a, "*")) || !MatchesAny(bs, strings.TrimSuffix(b, "*"))) {
			t.Fatalf("%q and %q: %v (%q, %q), want %v", as, bs, ok, a, b, both)
		}
	})
}
