package store

import (
	"context"
	"time"

	"github.com/tallystick/tallystick/internal/core/ledger"
)

// Cursor is how far an export is: what is at or before it was acknowledged by the sink.
type Cursor struct {
	Position uint64 // of the journal's last record
	Entry    int64  // the last ledger entry's number
}

// Export streams usage events, ledger entries or both to a sink.
type Export struct {
	ID        string // exp_…
	Name      string // the operator's, unique among the exports there are
	To        string // URL of the sink; credentials stand in it as names of variables and files only
	Events    bool
	Entries   bool
	Paused    bool
	CreatedAt time.Time
	Cursor
	MovedAt  time.Time // when the sink last acknowledged something, real time; zero: never
	Failures int       // attempts that failed since then
	NextAt   time.Time // real time: not to be tried before; zero: at once
	// LastError of the last attempt that failed, at most 500 bytes, and when it was. A success keeps them.
	LastError string
	FailedAt  time.Time
}

// ExportFailure is an attempt that failed.
type ExportFailure struct {
	Error      string
	At, NextAt time.Time // real time
}

// Exports keeps what is streamed to where, and how far it is. A ref is an id or a name.
type Exports interface {
	PutExport(ctx context.Context, e Export, a Audit) error // ErrExists: the id or the name is taken
	Export(ctx context.Context, ref string) (Export, error) // ErrNotFound
	ListExports(ctx context.Context, q Query) ([]Export, error)
	// PauseExport pauses or resumes one; resuming lets it be tried at once. What changes nothing leaves no audit entry. ErrNotFound.
	PauseExport(ctx context.Context, id string, paused bool, a Audit) (Export, error)
	DeleteExport(ctx context.Context, id string, a Audit) error // ErrNotFound
	// MoveExport moves the cursor forward and ends the failures, if the cursor still is from: who led before, and finds out late,
	// gets ErrConflict and cannot move it back. ErrInvalid: to lies before from. ErrNotFound: it was deleted.
	MoveExport(ctx context.Context, id string, from, to Cursor, at time.Time) error
	// FailExport counts a failure, if the cursor still is from; else ErrConflict. ErrNotFound.
	FailExport(ctx context.Context, id string, from Cursor, f ExportFailure) error
	EntryLog
}

// NumberedEntry is a ledger entry with its number in the order in which entries became visible.
type NumberedEntry struct {
	Number int64
	ledger.Entry
}

// EntryLog reads the ledger in order.
type EntryLog interface {
	// EntriesAfter reads entries behind a number, oldest first, at most limit (1..1000). Numbers ascend in the order in which
	// entries become visible: none appears behind one that was read before.
	EntriesAfter(ctx context.Context, after int64, limit int) ([]NumberedEntry, error)
	LastEntry(ctx context.Context) (int64, error) // 0: there is none
}

// Message is one thing to tell, in the form in which it is sent.
type Message struct {
	ID   string // the same whenever it is sent again
	Type string // "tally.usage.recorded"
	// Key orders: messages of one key keep their order. Empty: it comes after all messages before it and before all behind it,
	// and wherever the sink keeps keys apart, it is sent to each of these places.
	Key  string
	Body []byte
}

// Sink takes messages. A driver passes sinktest. It is for one caller at a time.
type Sink interface {
	// Send returns nil when every message is acknowledged durably. After an error any of them may have arrived, but none before
	// one with its key that stands ahead of it in the batch; the caller closes the sink, opens it anew and sends the whole batch
	// again. A batch has at most 500 messages.
	Send(ctx context.Context, batch []Message) error
	Close() error
}
