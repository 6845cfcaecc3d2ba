// Package meter holds usage events, their identity and content digest, and how they fold into rollups.
package meter

import (
	"errors"
	"time"

	"github.com/tallystick/tallystick/internal/core/money"
)

var ErrEvent = errors.New("invalid event")

type Aggregation uint8

const (
	Count Aggregation = iota + 1
	Sum
)

// Event is a usage event as CloudEvents 1.0 names its parts. Data is canonical JSON (see Canonical) or nil.
type Event struct {
	Source, ID, Type, Subject string
	Time                      time.Time // microseconds, UTC
	Data                      []byte
	TraceParent               string
}

// Canonical rewrites JSON with sorted keys, normalized numbers (plain decimal, no exponent, no trailing zeros, -0 is 0), no white space.
// Duplicate keys, depth above 32 and numbers beyond 38 digits are errors.
func Canonical(json []byte) ([]byte, error) { panic("skeleton") }

// Digest is the 128-bit content digest of P3: SHA-256 over length-prefixed type, subject and canonical data, first 16 bytes. Time and trace are outside.
func (e Event) Digest() [16]byte { panic("skeleton") }

// Identity is the first 16 bytes of SHA-256 over length-prefixed source and id: the key of permanent idempotency.
func (e Event) Identity() [16]byte          { return IdentityOf(e.Source, e.ID) }
func IdentityOf(source, id string) [16]byte { panic("skeleton") }

// Origin says who counted the event.
type Origin uint8

const (
	Admitted Origin = iota + 1 // by a gateway of ours
	Reported                   // from outside
)

// Resolution is one meter's reading of an event; it is stored with the event, so that rollups can be rebuilt from the log alone.
type Resolution struct {
	CustomerID     string
	Meter          string
	CatalogVersion int64
	Value          money.Decimal
	Dimensions     []Dimension // sorted by name
}

type Dimension struct{ Name, Value string }

// Value reads a sum meter's value at path "data.a.b" from canonical data: a JSON number or a decimal string.
func Value(path string, data []byte) (money.Decimal, error) { panic("skeleton") }

// Rollup is the mergeable state of one (customer, meter, bucket).
type Rollup struct {
	Count    int64         // events
	Sum      money.Decimal // all values
	Reported money.Decimal // the part of Sum with origin Reported
}

func (r Rollup) Merge(o Rollup) (Rollup, error)                          { panic("skeleton") }
func (r Rollup) Fold(origin Origin, value money.Decimal) (Rollup, error) { panic("skeleton") }
