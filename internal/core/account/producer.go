package account

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Bounds of a producer.
const (
	PatternsMax = 64  // sources, and types, of one producer
	patternMax  = 256 // bytes, as long as a source or a type may be
)

// Producer is who may report usage with a token of their own: events of these sources and types, no others. No two live
// producers share a source.
type Producer struct {
	ID        string   // prd_…
	Key       string   // the user's name for it, unique, see ValidKey
	Sources   []string // patterns, see ValidPattern
	Types     []string // patterns
	CreatedAt time.Time
	ExpiresAt time.Time // the first instant at which its tokens are no longer good; zero: never
	RevokedAt time.Time // zero: not revoked
}

// Status is the producer's at now. A revoked one is so for ever.
func (p Producer) Status(now time.Time) KeyStatus {
	return APIKey{ExpiresAt: p.ExpiresAt, RevokedAt: p.RevokedAt}.Status(now)
}

// ProducerToken opens the way for one producer's events. It never holds the secret, only its peppered digest.
type ProducerToken struct {
	ID         string // ptk_…
	ProducerID string
	Digest     [32]byte // HMAC-SHA-256 of the secret under secrets/pepper
	Hint       string   // ProducerHint of the secret
	CreatedAt  time.Time
	RevokedAt  time.Time // zero: not revoked
}

const (
	producerPrefix    = "tally_prd_"
	producerSecretLen = len(producerPrefix) + secretRandomLen + secretSumLen
)

// NewProducerSecret is "tally_prd_" followed as in NewSecret. Errors of random.
func NewProducerSecret(random io.Reader) (string, error) { return drawSecret(producerPrefix, random) }

// IsProducerSecret says whether a text claims to be a producer's token; CheckProducerSecret says whether it is well formed.
func IsProducerSecret(s string) bool { return strings.HasPrefix(s, producerPrefix) }

// CheckProducerSecret verifies shape and checksum only, at no more cost than CheckSecret. ErrBadSecret.
func CheckProducerSecret(s string) error {
	if len(s) != producerSecretLen || !IsProducerSecret(s) || !secretSound(s, len(producerPrefix)) {
		return ErrBadSecret
	}
	return nil
}

// ProducerHint is what may be shown of a token for ever: the last 4 characters of its random part, "" for a malformed one.
func ProducerHint(s string) string {
	if len(s) != producerSecretLen {
		return ""
	}
	return s[producerSecretLen-secretSumLen-secretHintLen : producerSecretLen-secretSumLen]
}

// ValidPattern accepts a text of 1 to 256 visible characters, exact or with one * at its end, which stands for any rest.
// ErrInvalid, with the reason.
func ValidPattern(s string) error {
	hidden := func(r rune) bool { return r <= ' ' || r == 0x7f }
	switch {
	case s == "" || len(s) > patternMax:
		return fmt.Errorf("%w: a pattern has 1 to %d bytes, this one has %d", ErrInvalid, patternMax, len(s))
	case !utf8.ValidString(s) || strings.ContainsFunc(s, hidden):
		return fmt.Errorf("%w: pattern %q may only have visible characters", ErrInvalid, s)
	case strings.Contains(strings.TrimSuffix(s, "*"), "*"):
		return fmt.Errorf("%w: pattern %q may only have a * at its end", ErrInvalid, s)
	}
	return nil
}

// Matches says whether a text fits a pattern.
func Matches(pattern, text string) bool {
	if prefix, open := strings.CutSuffix(pattern, "*"); open {
		return strings.HasPrefix(text, prefix)
	}
	return text == pattern
}

// MatchesAny says whether a text fits one of the patterns.
func MatchesAny(patterns []string, text string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return Matches(p, text) })
}

// Overlap finds a pattern of each list that some text fits both of; ok is false when there are none.
func Overlap(as, bs []string) (a, b string, ok bool) {
	for _, a := range as {
		for _, b := range bs {
			prefixA, openA := strings.CutSuffix(a, "*")
			prefixB, openB := strings.CutSuffix(b, "*")
			if a == b || openA && strings.HasPrefix(prefixB, prefixA) || openB && strings.HasPrefix(prefixA, prefixB) {
				return a, b, true
			}
		}
	}
	return "", "", false
}
