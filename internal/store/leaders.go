package store

import (
	"context"
	"time"
)

// Lead is who leads several servers on the same records: it alone holds the quota authority, closes periods and seals.
type Lead struct {
	Fence   uint64 // rises with every leader, for ever
	Holder  string // a name of the process, new at every start
	Address string // URL at which the others reach its API
	Until   time.Time
}

// Leaders decides who leads. The instants are the database's own clock, so that servers need not agree on the time.
type Leaders interface {
	// TakeLead makes the holder the leader for a time if there is none whose time runs, and returns the lead that stands: the
	// caller's when Holder is the caller. Every write of an earlier leader that was not finished by then fails with ErrConflict.
	TakeLead(ctx context.Context, holder, address string, hold time.Duration) (Lead, error)
	// KeepLead extends it. ErrConflict: another one leads, the caller must stop at once.
	KeepLead(ctx context.Context, fence uint64, hold time.Duration) (Lead, error)
	// YieldLead ends it now, so that another one need not wait. Yielding what is lost does nothing.
	YieldLead(ctx context.Context, fence uint64) error
	// Leader is the lead that stands, or the last one; the zero Lead: there never was any.
	Leader(ctx context.Context) (Lead, error)
}

// Topic is what a change is about.
type Topic string

// The topics.
const (
	TopicCatalog   Topic = "catalog"   // another version was applied
	TopicDirectory Topic = "directory" // customers, subscriptions, keys, producers, allowances or aliases
	TopicLead      Topic = "lead"      // another one leads, or nobody
	TopicCounted   Topic = "counted"   // usage was reported for the customers of the payload, separated by spaces
)

// Changes tells processes on the same records of each other's writes. A change may be told late, twice or, when the connection
// was lost, not at all: who listens also asks now and then.
type Changes interface {
	// Listen calls each for every change by any process from now on, until ctx ends or the connection is lost. each must be quick.
	Listen(ctx context.Context, each func(topic Topic, payload string)) error
	// Notify tells of a change that is not a write of the records. The payload has at most 7,000 bytes.
	Notify(ctx context.Context, topic Topic, payload string) error
}
