// Package memory is what a run of the authority leaves to the next process of its leases in memory, as JSON.
package memory

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/tallystick/tallystick/internal/store"
)

const format = 1

// Max bounds what a run may leave, in bytes.
const Max = 32 << 20

// Run is what a run of the authority leaves. Instants are microseconds of business time; what is in it is as in the authority.
type Run struct {
	Format    int        `json:"format"`
	Name      string     `json:"run"`
	At        int64      `json:"at"`
	Started   int64      `json:"started"`
	Ahead     int64      `json:"ahead"`
	Stamped   int64      `json:"stamped"`
	Settles   int64      `json:"settles,omitempty"`
	Foreign   bool       `json:"foreign,omitempty"`
	Unsure    bool       `json:"unsure,omitempty"`
	Customers []Customer `json:"customers"`
}

// Customer is what is only in memory of one.
type Customer struct {
	ID       string    `json:"id"`
	Buckets  []Bucket  `json:"buckets,omitempty"`
	Counters []Counter `json:"counters,omitempty"`
}

// Key is a store.CounterKey without its customer; what lives in memory has no calendar window.
type Key struct {
	Meter  string `json:"meter"`
	Scope  string `json:"scope,omitempty"`
	Length int64  `json:"length,omitempty"`
	Start  int64  `json:"start,omitempty"`
}

// KeyOf leaves out what Of adds again.
func KeyOf(k store.CounterKey) Key { return Key{k.Meter, k.Scope, k.Length, k.Start} }

// Of is the key of a customer's counter.
func (k Key) Of(customerID string) store.CounterKey {
	return store.CounterKey{CustomerID: customerID, Meter: k.Meter, Scope: k.Scope, Length: k.Length, Start: k.Start}
}

// Bucket is a token bucket: the pool, and the shares that holders have.
type Bucket struct {
	Key
	Rate   int64   `json:"rate"`
	Per    int64   `json:"per"`
	Burst  int64   `json:"burst"`
	Debt   int64   `json:"debt"`
	Last   int64   `json:"last"`
	Shares []Share `json:"shares,omitempty"`
}

// Share is one holder's part of a bucket.
type Share struct {
	Node     uint16 `json:"node"`
	Epoch    uint32 `json:"epoch"`
	Rate     int64  `json:"rate"`
	Per      int64  `json:"per"`
	Burst    int64  `json:"burst"`
	WasRate  int64  `json:"was_rate"`
	WasBurst int64  `json:"was_burst"`
	AddDebt  int64  `json:"add_debt"`
	AddLast  int64  `json:"add_last"`
	Pending  bool   `json:"pending,omitempty"`
	Stamp    uint64 `json:"stamp"`
	Answered uint64 `json:"answered"`
	Lacked   bool   `json:"lacked,omitempty"`
	Told     uint64 `json:"told"`
	Seq      uint64 `json:"seq"`
}

// Counter is a window below a quarter hour, or requests at once.
type Counter struct {
	Key
	AtOnce   bool    `json:"at_once,omitempty"`
	End      int64   `json:"end"`
	Counts   int64   `json:"counts,omitempty"`
	Unleased int64   `json:"unleased,omitempty"`
	Begun    bool    `json:"begun,omitempty"`
	Leases   []Lease `json:"leases,omitempty"`
}

// Lease is one holder's part of a counter.
type Lease struct {
	Node    uint16 `json:"node"`
	Epoch   uint32 `json:"epoch"`
	Boot    string `json:"boot"`
	Charged int64  `json:"charged"`
	Settled int64  `json:"settled"`
	Closed  bool   `json:"closed,omitempty"`
	Told    int64  `json:"told"`
	Seq     uint64 `json:"seq"`
}

// Encode writes a run down, if it is not larger than Max.
func Encode(r Run) ([]byte, error) {
	r.Format = format
	b, err := json.Marshal(r)
	if err == nil && len(b) > Max {
		err = fmt.Errorf("leases in memory take %d bytes, at most %d are left", len(b), Max)
	}
	if err != nil {
		return nil, err
	}
	return b, nil
}

// Decode reads what Encode of the same release has written.
func Decode(b []byte) (Run, error) {
	var r Run
	if err := json.Unmarshal(b, &r); err != nil {
		return Run{}, err
	}
	if r.Format != format || r.Name == "" {
		return Run{}, errors.New("it is of another release")
	}
	return r, nil
}
