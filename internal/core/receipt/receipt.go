// Package receipt forms decision ids: a short id (node, epoch, sequence) and an encrypted, authenticated token that explains the decision.
package receipt

import (
	"errors"
	"time"
)

var ErrToken = errors.New("not a decision id of this deployment")

// MaxToken is the longest token in bytes.
const MaxToken = 400

// ShortID names one request everywhere: reservation, event and charge.
type ShortID struct {
	Node  uint16
	Epoch uint32
	Seq   uint64 // < 2^48
}

func (s ShortID) String() string             { panic("skeleton") } // 17 base62 digits, fixed width, sortable within a node
func ParseShortID(s string) (ShortID, error) { panic("skeleton") }

type Outcome uint8

const (
	Allowed            Outcome = iota + 1
	DeniedRate                 // 429 rate_exceeded
	DeniedQuota                // 429 quota_exceeded
	DeniedSpend                // 402 spend_cap_reached
	DeniedKey                  // 401, outcome only
	DeniedSubscription         // 403
	DeniedRoute                // 404, outcome only
	Unavailable                // 503
)

func (o Outcome) String() string { panic("skeleton") } // "allowed" | "denied" | "unavailable"
func (o Outcome) Code() string   { panic("skeleton") } // the stable problem code; "" for Allowed

// Limit is one limit's share in a decision. Quantities are in the meter's scale; a spend cap's are in the currency's 10^-Scale units.
type Limit struct {
	Key                  string
	Kind                 uint8 // quota.Kind
	Meter                string
	Scale                int
	Before, After, Quota int64
	WindowStart, ResetAt int64 // microseconds; ResetAt: when it clears or the window ends
	Violated             bool
}

// Receipt is what a token says. Lists are cut to fit MaxToken, never the deciding limit; Truncated says so.
type Receipt struct {
	ID             ShortID
	Outcome        Outcome
	Detail         string // 401: key_missing, key_unknown, key_revoked, key_expired; else ""
	Time           int64  // microseconds, business clock
	CatalogVersion int64
	CustomerID     string // cus_…
	Customer       string // its key
	KeyID          string // key_…
	Plan           string
	Route          string // match pattern
	Meter          string
	Scale          int
	Cost           int64
	Deciding       int // index in Limits, -1 none
	Limits         []Limit
	WouldPassOn    []string // plan keys
	Truncated      bool
}

// At is the decision instant.
func (r *Receipt) At() time.Time { return time.UnixMicro(r.Time).UTC() }

// Encode appends the versioned binary form, at most 284 bytes. Decode reverses it.
func (r *Receipt) Encode(dst []byte) []byte { panic("skeleton") }
func Decode(b []byte) (Receipt, error)      { panic("skeleton") }

// Keyring opens tokens. Master keys are 32 bytes; a subkey per (node, epoch) is derived by HKDF-SHA-256. Not secret-printing.
type Keyring struct{}

// ParseKeyring reads secrets/decision.key: lines "1 <base64 of 32 bytes>", newest last; a token names its key by that number.
func ParseKeyring(file []byte) (*Keyring, error) { panic("skeleton") }
func NewKeyringFile(random []byte) []byte        { panic("skeleton") } // 32 random bytes → file content

// Sealer seals under one (node, epoch) subkey; the sequence is the nonce, so each ShortID is sealed once (same bytes again is fine: it is deterministic).
type Sealer struct{}

func (k *Keyring) Sealer(node uint16, epoch uint32) (*Sealer, error) { panic("skeleton") }

// Seal appends "dec_<short id>.<base64url token>" of an encoded receipt. AES-256-GCM, the short id is additional data. Safe for concurrent use.
func (s *Sealer) Seal(dst []byte, id ShortID, encoded []byte) []byte { panic("skeleton") }

// Open parses "dec_<short>.<token>", checks and decodes it. ErrToken.
func (k *Keyring) Open(decisionID string) (Receipt, error) { panic("skeleton") }
