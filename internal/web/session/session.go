// Package session signs what browsers carry: operator sessions, customers' portal links and portal sessions. It uses real
// time, so that advancing the business clock logs nobody out.
package session

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"time"
)

// Kind keeps one sort of token from passing as another.
type Kind string

// The kinds of tokens.
const (
	Operator   Kind = "operator"
	PortalLink Kind = "portal-link"
	Portal     Kind = "portal"
)

// How long sessions last; a portal link's life is the operator's choice up to LinkMax.
const (
	OperatorTTL = 12 * time.Hour
	PortalTTL   = 12 * time.Hour
	LinkTTL     = 24 * time.Hour
	LinkMax     = 90 * 24 * time.Hour
)

// Signer signs and verifies with HMAC-SHA-256. It is safe for concurrent use.
type Signer struct {
	key   []byte
	token [32]byte
	now   func() time.Time
}

// New takes a 32-byte key, the operator's token and real time.
func New(key []byte, operatorToken string, now func() time.Time) *Signer {
	return &Signer{key: key, token: sha256.Sum256([]byte(operatorToken)), now: now}
}

// IsOperator checks an operator's token in constant time.
func (s *Signer) IsOperator(token string) bool {
	sum := sha256.Sum256([]byte(token))
	return subtle.ConstantTimeCompare(sum[:], s.token[:]) == 1
}

// Sign makes a token for a subject that expires after ttl.
func (s *Signer) Sign(k Kind, subject string, ttl time.Duration) (token string, expires time.Time) {
	expires = s.now().Add(ttl).UTC().Truncate(time.Second)
	body := binary.BigEndian.AppendUint64(nil, uint64(expires.Unix()))
	body = append(body, subject...)
	enc := base64.RawURLEncoding
	return enc.EncodeToString(body) + "." + enc.EncodeToString(s.mac(k, body)), expires
}

// Verify reads a token of a kind; ok is false when it is forged, malformed or expired.
func (s *Signer) Verify(k Kind, token string) (subject string, expires time.Time, ok bool) {
	if len(token) > 512 {
		return "", time.Time{}, false
	}
	left, right, found := strings.Cut(token, ".")
	body, err1 := base64.RawURLEncoding.Strict().DecodeString(left)
	sum, err2 := base64.RawURLEncoding.Strict().DecodeString(right)
	if !found || err1 != nil || err2 != nil || len(body) < 8 || !hmac.Equal(sum, s.mac(k, body)) {
		return "", time.Time{}, false
	}
	expires = time.Unix(int64(binary.BigEndian.Uint64(body)), 0).UTC()
	return string(body[8:]), expires, s.now().Before(expires)
}

func (s *Signer) mac(k Kind, body []byte) []byte {
	h := hmac.New(sha256.New, s.key)
	h.Write([]byte(k)) // a hash never fails
	h.Write([]byte{0})
	h.Write(body)
	return h.Sum(nil)
}
