// Package meter holds usage events, their identity and content digest, and how they fold into rollups.
//
// An event is the same event for ever by (source, id). Its content is type, subject and canonical data; time and trace lie
// outside, so that a resend with another clock is still a duplicate.
package meter

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/tallystick/tallystick/internal/core/money"
)

// ErrEvent is wrapped by every complaint about an event's content.
var ErrEvent = errors.New("invalid event")

// Aggregation is how a meter folds events into a quantity.
type Aggregation uint8

// The aggregations. Count and Sum are additive: the usage of a time is the sum of its parts'. The others are not.
const (
	Count        Aggregation = iota + 1 // every event is 1
	Sum                                 // of the events' values
	Min                                 // the smallest value
	Max                                 // the largest
	Latest                              // the value of the latest event: by event time, then by arrival
	Unique                              // how many distinct texts, see Resolution.Distinct
	TimeWeighted                        // the value as a level: integrated over seconds, divided by the length of the interval
)

// Additive says that usage adds up over time, so that it can be rated by tiers as it comes, limited and balanced (P1).
func (a Aggregation) Additive() bool { return a == Count || a == Sum }

// Event is a usage event as CloudEvents 1.0 names its parts. Data is canonical JSON (see Canonical) or nil.
type Event struct {
	Source, ID, Type, Subject string
	Time                      time.Time // microseconds, UTC
	Data                      []byte
	TraceParent               string
}

// Digest is the 128-bit content digest of P3: the first 16 bytes of SHA-256 over type, subject and data, each behind its
// length as 8 big-endian bytes. Equal digests mean a duplicate, different ones a conflict.
func (e Event) Digest() [16]byte {
	var room [1024]byte
	b := appendSized(room[:0], e.Type)
	b = appendSized(b, e.Subject)
	b = binary.BigEndian.AppendUint64(b, uint64(len(e.Data)))
	b = append(b, e.Data...)
	return first16(sha256.Sum256(b))
}

// Identity is the key of permanent idempotency.
func (e Event) Identity() [16]byte { return IdentityOf(e.Source, e.ID) }

// IdentityOf is the first 16 bytes of SHA-256 over source and id, each behind its length as 8 big-endian bytes.
func IdentityOf(source, id string) [16]byte {
	var room [256]byte
	b := appendSized(room[:0], source)
	b = appendSized(b, id)
	return first16(sha256.Sum256(b))
}

func appendSized(dst []byte, s string) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(len(s)))
	return append(dst, s...)
}

func first16(sum [sha256.Size]byte) (d [16]byte) {
	copy(d[:], sum[:])
	return d
}

// Origin says who counted the event.
type Origin uint8

// The origins.
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
	Distinct       string      // Unique only: the text whose distinct values are counted, 1 to 256 bytes
}

// Dimension is a named property that usage can be grouped by.
type Dimension struct{ Name, Value string }

// Rollup is the mergeable state of one (customer, meter, bucket). The zero value is empty.
type Rollup struct {
	Count    int64         // events
	Sum      money.Decimal // all values
	Reported money.Decimal // the part of Sum with origin Reported
}

// Merge adds two rollups. It is commutative and associative; an overflow is money.ErrOverflow and changes nothing.
func (r Rollup) Merge(o Rollup) (Rollup, error) {
	if o.Count > math.MaxInt64-r.Count {
		return r, fmt.Errorf("merge rollups: event count: %w", money.ErrOverflow)
	}
	sum, err := r.Sum.Add(o.Sum)
	if err != nil {
		return r, fmt.Errorf("merge rollups: %w", err)
	}
	reported, err := r.Reported.Add(o.Reported)
	if err != nil {
		return r, fmt.Errorf("merge rollups: %w", err)
	}
	return Rollup{Count: r.Count + o.Count, Sum: sum, Reported: reported}, nil
}

// Fold adds one event's value. An overflow is money.ErrOverflow and changes nothing.
func (r Rollup) Fold(origin Origin, value money.Decimal) (Rollup, error) {
	if r.Count == math.MaxInt64 {
		return r, fmt.Errorf("fold event: event count: %w", money.ErrOverflow)
	}
	sum, err := r.Sum.Add(value)
	if err != nil {
		return r, fmt.Errorf("fold event: %w", err)
	}
	reported := r.Reported
	if origin == Reported {
		if reported, err = reported.Add(value); err != nil {
			return r, fmt.Errorf("fold event: %w", err)
		}
	}
	return Rollup{Count: r.Count + 1, Sum: sum, Reported: reported}, nil
}
