package account

import (
	"fmt"
	"hash/crc32"
	"io"
	"strings"
)

// Mode is the deployment's: a sandbox is another deployment with another mode, never a flag on rows.
type Mode string

// The modes.
const (
	Live Mode = "live"
	Test Mode = "test"
)

// base62 in ASCII order, so that digits sort as their values do.
const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

const (
	secretPrefixLen = len("tally_live_")
	secretRandomLen = 43 // 62^43 > 2^256
	secretSumLen    = 6  // 62^6 > 2^32
	secretBodyLen   = secretPrefixLen + secretRandomLen
	secretLen       = secretBodyLen + secretSumLen
	secretHintLen   = 4
)

// NewSecret is "tally_{mode}_" + base62 of 32 random bytes (43 digits) + 6 base62 digits of the CRC32 (IEEE) of all that precedes.
// Base62 is 0-9A-Za-z, the most significant digit first. ErrInvalid for another mode; else errors of random.
func NewSecret(mode Mode, random io.Reader) (string, error) {
	if mode != Live && mode != Test {
		return "", fmt.Errorf("%w: mode %q is neither live nor test", ErrInvalid, mode)
	}
	return drawSecret("tally_"+string(mode)+"_", random)
}

// drawSecret is a prefix, base62 of 32 random bytes and the checksum of both.
func drawSecret(prefix string, random io.Reader) (string, error) {
	var n [32]byte
	if _, err := io.ReadFull(random, n[:]); err != nil {
		return "", fmt.Errorf("draw a secret: %w", err)
	}
	var digits [secretRandomLen]byte
	for i := len(digits) - 1; i >= 0; i-- {
		rest := 0
		for j, b := range n {
			rest = rest<<8 | int(b)
			n[j] = byte(rest / 62)
			rest %= 62
		}
		digits[i] = base62[rest]
	}
	body := prefix + string(digits[:])
	sum := secretSum(crc32.ChecksumIEEE([]byte(body)))
	return body + string(sum[:]), nil
}

func secretSum(crc uint32) (digits [secretSumLen]byte) {
	for i := secretSumLen - 1; i >= 0; i-- {
		digits[i] = base62[crc%62]
		crc /= 62
	}
	return digits
}

// CheckSecret verifies shape and checksum only, so that a flood of made-up keys costs neither a digest nor a look-up.
// It allocates nothing. ErrBadSecret, which never repeats the secret.
func CheckSecret(s string) error {
	if len(s) != secretLen || !strings.HasPrefix(s, "tally_live_") && !strings.HasPrefix(s, "tally_test_") || !secretSound(s, secretPrefixLen) {
		return ErrBadSecret
	}
	return nil
}

// secretSound checks alphabet and checksum of a secret whose prefix and length are right.
func secretSound(s string, prefix int) bool {
	body := len(s) - secretSumLen
	crc := ^uint32(0)
	for i := range body {
		c := s[i]
		if i >= prefix && !isAlnum(c) {
			return false
		}
		// By hand: crc32.ChecksumIEEE would need the bytes on the heap.
		crc = crc32.IEEETable[byte(crc)^c] ^ crc>>8
	}
	sum := secretSum(^crc)
	return s[body:] == string(sum[:])
}

// SecretHint is what may be shown of a secret for ever: the last 4 characters of its random part, "" for a malformed one.
func SecretHint(s string) string {
	if len(s) != secretLen {
		return ""
	}
	return s[secretBodyLen-secretHintLen : secretBodyLen]
}
