package store

import (
	"context"
	"time"
)

// BackfillState is where a backfill stands.
type BackfillState string

// The states of a backfill. An operator's word begins a job, the job's end is a state that stays until the next word.
const (
	BackfillOpen      BackfillState = "open"      // takes events, which count for nothing yet
	BackfillClosing   BackfillState = "closing"   // a job gives them their resolutions
	BackfillClosed    BackfillState = "closed"    // they count
	BackfillReverting BackfillState = "reverting" // a job voids them
	BackfillReverted  BackfillState = "reverted"  // they count for nothing, for ever
)

// Backfill is usage loaded afterwards, as one unit that can be looked at before it counts and taken back after it did.
type Backfill struct {
	ID       string // bfl_…
	Name     string // the operator's name for it, unique
	Reason   string
	State    BackfillState
	OpenedAt time.Time
	OpenedBy string
	// The last word of an operator: open, close or revert.
	ChangedAt  time.Time
	ChangedBy  string
	ChangedFor string // the reason given with it; empty: Reason
	// What the job of the state did so far. Cursor is where it goes on, opaque; empty: at the start.
	Cursor    string
	Events    int64 // gone through
	Counted   int64 // that got resolutions
	Unmatched int64 // that no meter or customer wanted: they are in the inbox now
	Voided    int64
}

// Backfills keeps backfills. A ref is an id or a name.
type Backfills interface {
	// PutBackfill stores a new one. ErrExists on its name; ErrConflict when mostOpen are open or at work already.
	PutBackfill(ctx context.Context, b Backfill, mostOpen int, a Audit) error
	Backfill(ctx context.Context, ref string) (Backfill, error)
	ListBackfills(ctx context.Context, q Query) ([]Backfill, error)
	// WorkingBackfills are those with a job to do, oldest first.
	WorkingBackfills(ctx context.Context) ([]Backfill, error)
	// MoveBackfill begins a job: the state goes from one to another, time and actor are the audit entry's, Cursor and counts
	// start anew. ErrConflict when it is in another state.
	MoveBackfill(ctx context.Context, id string, from, to BackfillState, reason string, a Audit) (Backfill, error)
	// StepBackfill stores how far a job has come: Cursor, counts, and the state when it ends. ErrConflict when the stored
	// state is not from any more.
	StepBackfill(ctx context.Context, b Backfill, from BackfillState) error
}

// AliasKind is what an alias stands for.
type AliasKind string

// The kinds of aliases.
const (
	AliasType     AliasKind = "type"     // an event type
	AliasCustomer AliasKind = "customer" // a subject, to a customer
)

// Alias reads a name that events carry as another one. It never applies to a name that means something by itself.
type Alias struct {
	ID        string // als_…
	Kind      AliasKind
	From      string // unique in its kind
	To        string // an event type, or a customer's id
	CreatedAt time.Time
	CreatedBy string
}

// Aliases keeps aliases.
type Aliases interface {
	// PutAlias stores a new one. ErrExists: From has one; ErrConflict: there are most already.
	PutAlias(ctx context.Context, al Alias, most int, a Audit) error
	DeleteAlias(ctx context.Context, kind AliasKind, from string, a Audit) (Alias, error) // ErrNotFound
	ListAliases(ctx context.Context, q Query) ([]Alias, error)
}

// Corrections are the records behind what changes how usage counts.
type Corrections interface {
	Backfills
	Aliases
	Recounts
}
