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
	ErrUnknown  = errors.New("outcome unknown") // no answer in time: it may have been done, or be done later
	ErrBroken   = errors.New("store failed")    // a sync failed: the process must stop
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
	Unit        string // the backfill that it belongs to; empty: none
}

// Flags are notes on an event that change no charge.
type Flags uint16

// What is noted of an event.
const (
	Recovered    Flags = 1 << iota // an open reservation settled after a crash
	Incomplete                     // the answer was cut off after its headers
	Held                           // loaded by a backfill that is still open: kept, has no resolutions yet, and is not unmatched
	Filtered                       // a meter reads its type and its customer is known, but filters leave it out: kept, and not unmatched
	Overshoot                      // it did cost more than was reserved for it
	RefundDenied                   // it would have been given back, but the day's bound on refunds was reached
)

// Uncounted says that an event has no resolutions as it should, so that it is not unmatched. Only new events carry such a flag,
// and none with resolutions; any revision takes it away.
func (f Flags) Uncounted() bool { return f&(Held|Filtered) != 0 }

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
	// Atomic: when an entry is a conflict nothing of the batch is written. The results still say what each entry would have been.
	Atomic bool
	// Signature over the batch by KeyID (gateway batches); kept with the batch's record.
	Signature []byte
	KeyID     string
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

// Record is a stored event as it counts now. After an Amend, Event and Resolutions are the new ones; Digest stays that of the
// content which was accepted first, for ever. A voided event keeps its content and has no resolutions.
type Record struct {
	Entry
	Position   uint64
	Digest     [16]byte
	ReceivedAt time.Time
	Revision   uint64 // position of its newest revision; 0: never revised
	Voided     bool
	Erased     bool // subject, data, trace, receipt and key are gone
}

// RevisionKind is what a revision does to an event.
type RevisionKind uint8

// The kinds of revisions. None removes anything: the event and all its revisions stay in the log.
const (
	Amend   RevisionKind = iota + 1 // other content, and what it counts for
	Void                            // counts for nothing any more
	Resolve                         // same content, other resolutions; a voided event counts again
)

// Revision changes how one stored event counts from now on. Its identity and event time stay.
type Revision struct {
	Source, ID  string
	Kind        RevisionKind
	Event       meter.Event        // Amend: the new type, subject and data
	Resolutions []meter.Resolution // Amend and Resolve
	// If is the Record.Revision that the caller saw; another one is ErrConflict. AnyRevision: whatever it is.
	If uint64
}

// AnyRevision as Revision.If revises an event whatever was done to it before.
const AnyRevision = ^uint64(0)

// Revisions are written atomically, like a Batch: at most 16,384 of them.
type Revisions struct {
	Actor, Reason string // both required
	At            time.Time
	List          []Revision
}

// Revised is one entry of an event's history, oldest first. The first one is the event as it was accepted, with Kind 0.
type Revised struct {
	Kind          RevisionKind
	Position      uint64
	At            time.Time
	Actor, Reason string
	Event         meter.Event
	Resolutions   []meter.Resolution
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
	// Measure reads the series by another aggregation than its sum, for a part of its events, or in groups.
	Measure(k SeriesKey, in period.Interval, m Measure) ([]Group, error)
	// Late is by how much what was appended after a position changed the sum of the events in the interval: events that came
	// later, less what was voided later, and the differences of amendments.
	Late(k SeriesKey, in period.Interval, after uint64) (money.Decimal, error)
	// Series lists every series ever seen, sorted; First and Last are zero where enforcement sent a total but no event came.
	// AdmittedPeriods lists the period starts with an admitted total, ascending.
	Series() []Series
	Tallies
}

// Tallies are kept apart from rollups, so that the two can be compared.
type Tallies interface {
	// Admitted sums enforcement's totals for a billing period over all gateway epochs; it does not look at rollups.
	// Reported sums what ingest accepted, tallied apart from rollups, by the same interval rule as Usage.
	Admitted(k SeriesKey, periodStart int64) (money.Decimal, error)
	Reported(k SeriesKey, in period.Interval) (money.Decimal, error)
	// Voided sums what revisions took away, by the same rule: an Amend voids the old value and reports the new one, a Resolve
	// the values that it changes. Admitted + Reported − Voided = Usage.
	Voided(k SeriesKey, in period.Interval) (money.Decimal, error)
	AdmittedPeriods(k SeriesKey) []int64
}

// Measure says how to read a series. The zero UpTo reads all.
type Measure struct {
	Aggregation meter.Aggregation
	Where       []meter.Dimension // only events that have all of these; a missing dimension is ""
	GroupBy     []string          // dimension names; empty: one group
	UpTo        uint64            // only what was appended up to this position
}

// Group is the value of the events that share the dimensions grouped by. A measure without groups has one, even without events.
// A time-weighted value has 34 significant digits where its division does not end; Inexact says so.
type Group struct {
	Dimensions []meter.Dimension
	Value      money.Decimal
	Events     int64
	Inexact    bool
}

// Scan asks for events of a series in event-time order by bucket, then position.
type Scan struct {
	SeriesKey   // an empty CustomerID or Meter: any, and events come by position
	In          period.Interval
	Cursor      string // opaque, from the previous page
	Limit       int    // ≤ 1000; 0: 100
	NewestFirst bool
	Unmatched   bool   // only events that count for nothing: no resolutions, not voided, not Uncounted
	Unit        string // only events of this backfill
	After       uint64 // only events appended, or last revised, after this position
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
	Reviser
	Sealed
	Close() error
}

// Reviser changes how stored events count, and tells what was done to them.
type Reviser interface {
	// Revise returns after fsync; records, rollups and tallies change in one atomic step. One new Record.Revision each, in order.
	// A revision that changes nothing (voiding a voided event) writes nothing and returns the revision that stands.
	// ErrNotFound, ErrConflict (If), ErrInvalid: nothing was written; the error names the index.
	Revise(ctx context.Context, r Revisions) ([]uint64, error)
	// History tells all that was done to an event. ErrNotFound.
	History(ctx context.Context, source, id string) ([]Revised, error)
}

// Sealed is the journal as the tree sees it.
type Sealed interface {
	// Seal appends documents that the tree commits to like any other record (a period's sealed rollups), all or none, and returns
	// the position of the first after fsync; the others follow it. 1 byte to 1 MiB each, 4 MiB together.
	Seal(ctx context.Context, documents ...[]byte) (uint64, error)
	// Leaves reads what the tree commits to: every record from a position on, in order, at most limit of them, durable ones
	// only. next is the position to go on at.
	Leaves(ctx context.Context, from uint64, limit int, each func(Leaf) error) (next uint64, err error)
}

// Leaf is one record as the tree commits to it. Leaf number = Position − 1. Its slices are valid only inside each.
type Leaf struct {
	Position uint64
	Subject  string // under whose key the payload is salted; empty: it has no payload
	Head     []byte // kind, position and head fields, without what an erasure adds
	Payload  []byte // the payload fields; nil: none, or erased
	// Commitment is set where the payload was erased; else it is computed from the payload.
	Commitment *[32]byte
	// An event's own, for proofs; zero for other records.
	Source, ID string
	// A seal's document.
	Document []byte
}
