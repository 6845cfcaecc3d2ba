package store

import (
	"context"
	"time"
)

// Keeper is a journal with what keeps it in order. Every driver has it; calls of what a driver need not do change nothing.
type Keeper interface {
	Journal
	// Tick does what became due: moving the index on, publishing statistics.
	Tick(ctx context.Context) error
	// Compact does one step of making old data smaller; more says that there is another.
	Compact(ctx context.Context) (more bool, err error)
	// Retain erases the content of events that were received before an instant, one step of it. Their identities, digests,
	// rollups and leaf hashes stay.
	Retain(ctx context.Context, before, now time.Time) (more bool, err error)
	// Erase begins to erase all content of a subject and returns the position of the record that says so.
	Erase(ctx context.Context, subject, actor, reason string, at time.Time) (uint64, error)
	// Erasing is how many subjects are being erased.
	Erasing() int
}

// How a Check came out.
const (
	CheckOK   = "ok"
	CheckWarn = "warn" // it works, and should be otherwise
	CheckFail = "fail"
)

// Check is one thing that an examination looked at.
type Check struct {
	Name   string
	Result string // CheckOK, CheckWarn, CheckFail
	Detail string
	Fix    string // what to do; empty when it is ok
}

// Examiner is a journal that lies in something that can be set up wrongly.
type Examiner interface {
	// Examine looks at it anew. It takes a few seconds at most, and a fault is a check that failed.
	Examine(ctx context.Context) []Check
}
