// Package account holds customers, API keys and subscriptions, and how their ids and secrets are formed.
package account

import (
	"errors"
	"io"
	"time"

	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
)

var (
	ErrNotFound  = errors.New("not found")
	ErrExists    = errors.New("already exists")
	ErrInvalid   = errors.New("invalid")
	ErrBadSecret = errors.New("malformed key")
	ErrState     = errors.New("wrong state")
)

// NewID is prefix + "_" + 26 Crockford base32 digits of 48 bits of milliseconds and 80 random bits: time-sortable.
func NewID(prefix string, now time.Time, random io.Reader) (string, error) { panic("skeleton") }

// ValidKey accepts the user's names of things: 1 to 64 of a-z A-Z 0-9 . _ - , first one a letter or digit, not shaped like an id (cus_...).
func ValidKey(s string) error { panic("skeleton") }

type Customer struct {
	ID        string // cus_…
	Key       string // the user's name for it, unique
	Name      string
	Zone      period.Zone
	Currency  money.Currency
	CreatedAt time.Time
}

type KeyStatus uint8

const (
	KeyActive KeyStatus = iota + 1
	KeyRevoked
	KeyExpired
)

// APIKey never holds the secret, only its peppered digest.
type APIKey struct {
	ID         string // key_…
	CustomerID string
	Name       string
	Digest     [32]byte // HMAC-SHA-256 of the secret under secrets/pepper
	Hint       string   // last 4 characters of the random part
	CreatedAt  time.Time
	ExpiresAt  time.Time // zero: never
	RevokedAt  time.Time // zero: not revoked
}

func (k APIKey) Status(now time.Time) KeyStatus { panic("skeleton") }

type Mode string // "live" or "test": the deployment's

// NewSecret is "tally_{mode}_" + base62 of 32 random bytes (43 digits) + 6 base62 digits of CRC32 of all that precedes.
func NewSecret(mode Mode, random io.Reader) (string, error) { panic("skeleton") }

// CheckSecret verifies shape and checksum only. ErrBadSecret.
func CheckSecret(s string) error { panic("skeleton") }

type Subscription struct {
	ID             string // sub_…
	CustomerID     string
	Plan           string
	CatalogVersion int64 // prices are pinned to it
	Start          time.Time
	End            time.Time // zero: open
	BillingDay     int
	CreatedAt      time.Time
}

func (s Subscription) Active(now time.Time) bool          { panic("skeleton") }
func (s Subscription) Anchor(z period.Zone) period.Anchor { panic("skeleton") }
