package account

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"time"
)

// crockford is Crockford's base32 in lower case; the digits sort as their values do.
const crockford = "0123456789abcdefghjkmnpqrstvwxyz"

const (
	idPrefixLen = 3
	idDigits    = 26 // 130 bits for 128: the first digit is at most 7
	idLen       = idPrefixLen + 1 + idDigits
	keyLenMax   = 64
)

// idPrefixes begin our ids, so the user's names must not: a name and an id are accepted in the same places.
const idPrefixes = "cus_ key_ sub_ sch_ evt_ inv_ iln_ aud_ dec_ bfl_ als_ prd_ ptk_ gwk_ ovr_ grt_ res_ whk_ ntc_"

// NewID is prefix + "_" + 26 Crockford base32 digits of 48 bits of milliseconds and 80 random bits: time-sortable.
// The prefix is three lower-case letters. ErrInvalid for another prefix or a time before 1970; else errors of random.
func NewID(prefix string, now time.Time, random io.Reader) (string, error) {
	ms := now.UnixMilli()
	if !validPrefix(prefix) || ms < 0 || ms >= 1<<48 {
		return "", fmt.Errorf("%w: no id with prefix %q at %d ms", ErrInvalid, prefix, ms)
	}
	var raw [16]byte
	binary.BigEndian.PutUint64(raw[:], uint64(ms)<<16)
	if _, err := io.ReadFull(random, raw[6:]); err != nil {
		return "", fmt.Errorf("draw random bits of an id: %w", err)
	}
	return FormatID(prefix, raw), nil
}

// FormatID writes an id from its prefix and its 128 bits.
func FormatID(prefix string, raw [16]byte) string {
	hi, lo := binary.BigEndian.Uint64(raw[:]), binary.BigEndian.Uint64(raw[8:])
	var digits [idDigits]byte
	for i := idDigits - 1; i >= 0; i-- {
		digits[i] = crockford[lo&31]
		lo = lo>>5 | hi<<59
		hi >>= 5
	}
	return prefix + "_" + string(digits[:])
}

// ParseID takes apart an id that FormatID wrote, exactly: no upper case, no look-alike letters.
func ParseID(id string) (prefix string, raw [16]byte, ok bool) {
	if len(id) != idLen || !validPrefix(id[:idPrefixLen]) || id[idPrefixLen] != '_' || id[idPrefixLen+1] > '7' {
		return "", raw, false
	}
	var hi, lo uint64
	for i := idPrefixLen + 1; i < idLen; i++ {
		d := crockfordValue(id[i])
		if d > 31 {
			return "", raw, false
		}
		hi = hi<<5 | lo>>59
		lo = lo<<5 | uint64(d)
	}
	binary.BigEndian.PutUint64(raw[:], hi)
	binary.BigEndian.PutUint64(raw[8:], lo)
	return id[:idPrefixLen], raw, true
}

func validPrefix(p string) bool {
	return len(p) == idPrefixLen && isLower(p[0]) && isLower(p[1]) && isLower(p[2])
}

// crockfordValue is above 31 for what is no digit. The alphabet leaves out i, l, o and u.
func crockfordValue(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'h':
		return c - 'a' + 10
	case c == 'j' || c == 'k':
		return c - 'j' + 18
	case c == 'm' || c == 'n':
		return c - 'm' + 20
	case 'p' <= c && c <= 't':
		return c - 'p' + 22
	case 'v' <= c && c <= 'z':
		return c - 'v' + 27
	default:
		return 0xff
	}
}

// ValidKey accepts the user's names of things: 1 to 64 of a-z A-Z 0-9 . _ - with a letter or digit first,
// and not beginning as our ids do (cus_ and the like). ErrInvalid, with the reason.
func ValidKey(s string) error {
	if s == "" || len(s) > keyLenMax {
		return fmt.Errorf("%w: a key has 1 to %d characters, this one has %d", ErrInvalid, keyLenMax, len(s))
	}
	if !isAlnum(s[0]) {
		return fmt.Errorf("%w: key %q must begin with a letter or digit", ErrInvalid, s)
	}
	for i := range len(s) {
		if c := s[i]; !isAlnum(c) && c != '.' && c != '_' && c != '-' {
			return fmt.Errorf("%w: key %q may only have letters, digits, '.', '_' and '-'", ErrInvalid, s)
		}
	}
	for prefix := range strings.FieldsSeq(idPrefixes) {
		if strings.HasPrefix(s, prefix) {
			return fmt.Errorf("%w: key %q must not begin with %q, ids do", ErrInvalid, s, prefix)
		}
	}
	return nil
}

func isLower(c byte) bool { return 'a' <= c && c <= 'z' }

func isAlnum(c byte) bool {
	return isLower(c) || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}
