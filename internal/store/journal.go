// Package store holds the storage contracts; storetest holds their conformance suites. Drivers store, services decide.
package store

import (
	"context"
	"errors"
	"time"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
)

// What the drivers say; each is wrapped with what happened.
var (
	ErrInvalid  = errors.New("invalid request to the store") // the caller's fault: a bad cursor, an instant off the grid, a batch over a bound
	ErrNotFound = errors.New("not found")
	ErrExists   = errors.New("already exists")
	ErrConflict = errors.New("conflict")      // compare-and-swap lost, wrong state
	ErrFull     = errors.New("store is full") // disk full or a stated bound reached; nothing was written
	ErrClosed   = errors.New("store is closed")
	ErrBroken   = errors.New("store failed") // a sync failed: the process must stop
	ErrNewer    = errors.New("written by a newer version")
	ErrCorrupt  = errors.New("corrupt data")
)

// Entry is one event to append, with how it was resolved. No resolution: kept, unmatched.
type Entry struct {
	Event       meter.Event
	Origin      meter.Origin
	Resolutions []meter.Resolution
	Receipt     []byte // gateway events: the encoded receipt.Receipt of the decision
	Flags       Flags
	KeyID       string
}

// Flags are notes on an event that change no charge.
type Flags uint16

// What is noted of an event.
const (
	Recovered  Flags = 1 << iota // an open reservation settled after a crash
	Incomplete                   // the answer was cut off after its headers
)

// AdmittedTotal is enforcement's own running total for one (customer, meter, billing period) in one gateway epoch.
// It only grows within an epoch. PeriodStart is in UTC microseconds since 1970.
type AdmittedTotal struct {
	CustomerID, Meter string
	PeriodStart       int64
	Total             money.Decimal
}

// Batch is appended atomically: all of it survives a crash, or none. Appending it again is harmless.
type Batch struct {
	Producer    string // "gateway/1" or "api/tok_…"
	Node        uint16 // gateway batches only, with Epoch and the spool sequences covered
	Epoch       uint32
	First, Last uint64
	Totals      []AdmittedTotal // gateway batches only
	Entries     []Entry
	Marks       []Mark
	ReceivedAt  time.Time
}

// Mark adds flags to an event accepted earlier (or in the same batch).
type Mark struct {
	Source, ID string
	Flags      Flags
}

// Outcome is what became of an entry.
type Outcome uint8

// The outcomes. An unmatched event is kept and counted by no meter.
const (
	Accepted Outcome = iota + 1
	Duplicate
	Conflict
	Unmatched // accepted and kept, counted by no meter
)

// Result is one entry's outcome. On Conflict, Stored is the digest of the event that holds the identity.
type Result struct {
	Outcome  Outcome
	Position uint64 // of the event that holds the identity
	Digest   [16]byte
	Stored   [16]byte
}

// Record is a stored event.
type Record struct {
	Entry
	Position   uint64
	Digest     [16]byte
	ReceivedAt time.Time
}

// SeriesKey names one rollup series.
type SeriesKey struct{ CustomerID, Meter string }

// Series is a series and the span of its buckets.
type Series struct {
	SeriesKey
	First, Last time.Time // bucket starts
}

// Window is one rollup bucket's value.
type Window struct {
	period.Interval
	meter.Rollup
}

// View is the journal at one cut. It is valid only inside Journal.View's function; keep that short, appends wait.
// Do not call the Journal itself inside it: that may wait for an append which waits for the view.
type View interface {
	Position() uint64
	// Usage folds the buckets inside [Start, End); Start and End must lie on the 15-minute grid, on a Cut, or be zero (open).
	Usage(k SeriesKey, in period.Interval) (meter.Rollup, error)
	// Windows lists non-empty buckets in time order.
	Windows(k SeriesKey, in period.Interval) ([]Window, error)
	// Late is the value of events in the interval that were appended after position.
	Late(k SeriesKey, in period.Interval, after uint64) (money.Decimal, error)
	// Admitted sums enforcement's totals for a billing period over all gateway epochs; it does not look at rollups.
	// Reported sums what ingest accepted, tallied apart from rollups, by the same interval rule as Usage.
	Admitted(k SeriesKey, periodStart int64) (money.Decimal, error)
	Reported(k SeriesKey, in period.Interval) (money.Decimal, error)
	// Series lists every series ever seen, sorted; First and Last are zero where enforcement sent a total but no event came.
	// AdmittedPeriods lists the period starts with an admitted total, ascending.
	Series() []Series
	AdmittedPeriods(k SeriesKey) []int64
}

// Scan asks for events of a series in event-time order by bucket, then position.
type Scan struct {
	SeriesKey   // an empty CustomerID or Meter: any, and events come by position
	In          period.Interval
	Cursor      string // opaque, from the previous page
	Limit       int    // ≤ 1000; 0: 100
	NewestFirst bool
}

// Page may hold fewer records than the limit, even none, and yet have a Next: a filter found little in a bounded search.
type Page struct {
	Records []Record
	Next    string // empty: no more
}

// Journal keeps usage events: append-only, deduplicated for ever by (source, id), rolled up by 15 minutes.
type Journal interface {
	// Append returns after fsync; one Result per entry, in order. Dedup, append and rollup are one atomic step. ErrFull: nothing
	// of the batch was written. A mark without its event is ErrNotFound, a rollup out of range money.ErrOverflow, a batch that
	// no retry can mend ErrInvalid; of these nothing was written either. ErrBroken: the outcome is unknown, the process must stop.
	Append(ctx context.Context, b Batch) ([]Result, error)
	// Cut splits a customer's bucket at an instant, persistently and for events already there. Idempotent.
	Cut(ctx context.Context, customerID string, at time.Time) error
	View(ctx context.Context, read func(View) error) error
	Scan(ctx context.Context, s Scan) (Page, error)
	// Event finds by identity. ErrNotFound.
	Event(ctx context.Context, source, id string) (Record, error)
	Close() error
}
