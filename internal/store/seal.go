package store

import (
	"context"
	"time"

	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/period"
)

// Checkpoint is a signed statement of what the tree was. Note is the text that is published.
type Checkpoint struct {
	Size uint64 // leaves; the last one's position
	Root [32]byte
	Time time.Time
	Note []byte
}

// SealedClose says where in the journal the document of a close is.
type SealedClose struct {
	SubscriptionID string
	Period         period.Interval
	InvoiceID      string // empty: none was due
	Position       uint64
}

// Sealing is a close to be sealed: what was used up to its position, and the invoice that follows (without lines: none is due).
type Sealing struct {
	Close
	Usage []invoice.Usage
	Draft invoice.Invoice
}

// Seals keeps the sealer's checkpoints and where closes were sealed. Writing needs the fence that the sealer holds: with an
// older one it is ErrConflict, so that of two sealers only the later one writes.
type Seals interface {
	// Fence is the number of the present sealer; 0: there never was one.
	Fence(ctx context.Context) (uint64, error)
	// TakeFence makes the caller the sealer if the fence is still the one it saw, and returns the new one. ErrConflict.
	TakeFence(ctx context.Context, seen uint64) (uint64, error)
	// PutCheckpoint stores the next checkpoint. ErrConflict: an old fence, or the tree would not grow.
	PutCheckpoint(ctx context.Context, fence uint64, c Checkpoint) error
	// Checkpoints lists those of fewer leaves than before (0: all), largest first, at most limit (1..1001).
	Checkpoints(ctx context.Context, before uint64, limit int) ([]Checkpoint, error)
	// CheckpointOver is the first checkpoint whose tree has a position. ErrNotFound.
	CheckpointOver(ctx context.Context, position uint64) (Checkpoint, error)
	// PutSealedCloses stores where closes were sealed, in one transaction. Of the same close the first one stays.
	PutSealedCloses(ctx context.Context, fence uint64, list []SealedClose) error
	// SealedClose finds by subscription and period, or by InvoiceID where that is set. ErrNotFound.
	SealedClose(ctx context.Context, c SealedClose) (SealedClose, error)
}

// SubjectKeys keeps the keys under which payloads are salted.
type SubjectKeys interface {
	// SubjectKeys returns the key of each subject, in order. One that has none gets the fresh one of the same index.
	SubjectKeys(ctx context.Context, subjects []string, fresh [][32]byte) ([][32]byte, error)
	// ForgetSubject deletes a subject's key. Do it when all its payloads are erased and their commitments are in the log:
	// a payload that is still there would be salted under another key from then on. Forgetting twice is harmless.
	ForgetSubject(ctx context.Context, subject string) error
}

// Tiles keeps the hashes of the tree above its leaves: level 1 has one for each whole block of 256 leaves, level 2 one for each
// 256 of level 1, and so on. They are derived from the log and never ahead of it.
type Tiles interface {
	// Len is how many hashes of a level there are.
	Len(level int) int64
	// Append adds the hashes of further blocks to level 1, and what follows from them above, durably.
	Append(hashes [][32]byte) error
	// Hashes reads n hashes of a level. ErrCorrupt, ErrNotFound.
	Hashes(level int, from int64, n int) ([][32]byte, error)
	// Truncate leaves the first blocks only; 0 drops all.
	Truncate(blocks int64) error
}
