package store

import (
	"context"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/ledger"
	"github.com/tallystick/tallystick/internal/core/period"
)

// Query pages a list, newest first. Cursor is the last id of the previous page.
type Query struct {
	Cursor     string
	Limit      int    // 1..1000
	CustomerID string // empty: all
}

// CatalogVersion is immutable once put. Source is the YAML as applied.
type CatalogVersion struct {
	Version   int64
	Source    []byte
	Digest    [32]byte
	AppliedAt time.Time
	AppliedBy string
}

// Catalogs keeps applied catalog versions; none ever changes.
type Catalogs interface {
	// PutCatalog stores version latest+1; ErrConflict when expected is not the latest version.
	PutCatalog(ctx context.Context, v CatalogVersion, expected int64) error
	Catalog(ctx context.Context, version int64) (CatalogVersion, error)  // 0: latest; ErrNotFound
	ListCatalogs(ctx context.Context, q Query) ([]CatalogVersion, error) // Cursor: version as decimal
}

// Accounts keeps customers and subscriptions. A ref is an id or a key. Every write carries its audit entry and is stored with
// it in one transaction.
type Accounts interface {
	PutCustomer(ctx context.Context, c account.Customer, a Audit) error // ErrExists on key
	Customer(ctx context.Context, ref string) (account.Customer, error)
	ListCustomers(ctx context.Context, q Query) ([]account.Customer, error)
	PutSubscription(ctx context.Context, s account.Subscription, a Audit) error // ErrConflict: overlaps another of the customer's
	Subscription(ctx context.Context, id string) (account.Subscription, error)
	ListSubscriptions(ctx context.Context, q Query) ([]account.Subscription, error)
}

// Keys keeps API keys without their secrets.
type Keys interface {
	PutKey(ctx context.Context, k account.APIKey, a Audit) error                             // ErrConflict: two live keys of the same project and name, or 1,000 in all (Audit.Time is now)
	RevokeKey(ctx context.Context, id string, at time.Time, a Audit) (account.APIKey, error) // revoking twice keeps the first time
	Key(ctx context.Context, id string) (account.APIKey, error)
	ListKeys(ctx context.Context, q Query) ([]account.APIKey, error)
}

// Close marks that a billing period is being closed at a journal position; later usage is late. A close with an empty period
// [t, t) bills what is due at t.
type Close struct {
	SubscriptionID string
	Period         period.Interval
	Position       uint64
	ClosedAt       time.Time // what was decided later is not in it
	Changes        int       // how many changes of the subscription that were
	Progressive    bool      // bills usage of open periods so far
	CatalogVersion int64     // whose rules of billing hold; 0: written by an older version
	InvoiceID      string    // empty: closed, but not finalized yet (or no invoice due; then Done)
	Done           bool
}

// Issue is what a close comes to: an invoice that is still a draft, and what it moves. Without an invoice none is due.
type Issue struct {
	Invoice *invoice.Invoice
	Entries []ledger.Entry
}

// Finish is a close that was begun, and what it comes to.
type Finish struct {
	Close
	Issue
}

// Closings closes many periods with the same care as one: a run of billing waits for the disk once for a batch.
type Closings interface {
	// BeginCloses is BeginClose of each, in one transaction. The answer is in the same order.
	BeginCloses(ctx context.Context, list []Close) ([]Close, error)
	// FinishCloses is FinishClose of each, in order, in one transaction: all or none. An invoice is nil where none was due.
	FinishCloses(ctx context.Context, list []Finish, at time.Time) ([]*invoice.Invoice, error)
}

// Invoices keeps closes and finalized invoices, which never change. Status of an invoice that is read is where it is by now.
type Invoices interface {
	Closings
	// BeginClose stores the close if none exists for (subscription, period) and returns the stored one. The whole period is the
	// key: the close at a subscription's start has the empty period [start,start), the first full one begins at the same instant.
	BeginClose(ctx context.Context, c Close) (Close, error)
	// FinishClose takes the next number, finalizes and stores the invoice with its lines, posts the entries, marks the close done,
	// in one transaction. ErrConflict when already done (returns nil then).
	FinishClose(ctx context.Context, c Close, issue Issue, at time.Time) (*invoice.Invoice, error)
	Closes(ctx context.Context, subscriptionID string) ([]Close, error) // by the ends of their periods, oldest first
	Invoice(ctx context.Context, id string) (invoice.Invoice, error)
	InvoiceByLine(ctx context.Context, lineID string) (invoice.Invoice, int, error)
	ListInvoices(ctx context.Context, q Query) ([]invoice.Invoice, error) // with lines, newest number first
	// InvoicesOf lists a subscription's whose periods end at or after an instant, oldest first.
	InvoicesOf(ctx context.Context, subscriptionID string, from time.Time) ([]invoice.Invoice, error)
}

// CounterKey names one quota counter: a scope, a meter and a window, not a plan or a limit.
type CounterKey struct {
	CustomerID, Meter string
	// Scope is whose counter it is below the customer, in the canonical form of quota.ScopeText; empty: the customer's own.
	Scope  string
	Window period.Window // zero for a window of Length, and for counters without any
	Length int64         // microseconds of a fixed window, or of a rolling one's slot; 0 for calendar windows
	Start  int64         // window start, UTC microseconds; 0 for counters without a window
}

// Lease is what one gateway epoch may consume of a counter. Charged: durable allowance drawn so far, cumulative.
// After closing, Charged is what was really spent (or all of it, when that cannot be known: WrittenOff is the unknown part).
type Lease struct {
	CounterKey
	Node      uint16
	Epoch     uint32
	Boot      string // boot id of the machine: same boot means the page cache survived
	WindowEnd int64
	Charged   int64
	// Settled is the part of Charged that was spent when the same epoch closed the lease, before it took it up again.
	Settled    int64
	WrittenOff int64
	Closed     bool
}

// Epoch is a node's newest one.
type Epoch struct {
	Node    uint16
	Epoch   uint32
	Boot    string
	BegunAt time.Time
	Leases  bool // it, or an earlier one of the node, has a lease that is not closed
}

// Epochs counts the runs of gateways.
type Epochs interface {
	// BeginEpoch durably takes the node's next epoch before it is used: above all earlier ones, and at least at's seconds since
	// 1970. So records restored from a backup do not give an epoch out again, on which the nonces of decision tokens rest.
	// at is real time; ErrInvalid when it lies beyond 2106.
	BeginEpoch(ctx context.Context, node uint16, boot string, at time.Time) (uint32, error)
	// NewestEpochs lists the newest epoch of each node, by node.
	NewestEpochs(ctx context.Context) ([]Epoch, error)
}

// Draw asks for more on a counter. Ceiling bounds the sum of Charged over all leases of the counter; the driver grants
// min(Want, Ceiling − sum), or nothing.
type Draw struct {
	CounterKey
	WindowEnd     int64
	Want, Ceiling int64
}

// Grant answers a Draw.
type Grant struct {
	Granted int64 // 0..Want
	Others  int64 // sum of Charged of all other leases of this counter, closed and open
}

// Leases keeps the quota authority's durable allowances. The charges of a counter's leases together never pass a draw's ceiling.
type Leases interface {
	Epochs
	// DrawLeases grants all draws in one durable transaction.
	DrawLeases(ctx context.Context, node uint16, epoch uint32, boot string, draws []Draw) ([]Grant, error)
	// WriteLeases sets leases to what is given, those that are not there yet too, in one durable transaction. Of the same lease
	// twice the last one counts. It checks nothing: the quota authority knows all leases, and is alone to write them.
	WriteLeases(ctx context.Context, ls []Lease) error
	// CloseLeases sets Charged (never above what was charged), WrittenOff and Closed. Idempotent.
	CloseLeases(ctx context.Context, ls []Lease) error
	// OpenLeases lists leases not closed of earlier epochs of a node.
	OpenLeases(ctx context.Context, node uint16, before uint32) ([]Lease, error)
	// LeasesOf lists all leases of a counter.
	LeasesOf(ctx context.Context, k CounterKey) ([]Lease, error)
	// LeasesFrom lists the leases of all counters that are k but for their start, which lies in [from, to); by start.
	LeasesFrom(ctx context.Context, k CounterKey, from, to int64) ([]Lease, error)
	// PruneLeases drops closed leases whose window ended before.
	PruneLeases(ctx context.Context, windowEndBefore int64) error
}

// Audit is one operator action.
type Audit struct {
	ID     string // aud_…
	Time   time.Time
	Actor  string
	Action string // "customer.create"
	Target string
	Detail string // JSON, no secrets
}

// Replay is the stored answer to an Idempotency-Key.
type Replay struct {
	Key, Actor, Route string
	BodyDigest        [32]byte
	Status            int    // 0: the first call is still running
	Sealed            []byte // encrypted answer
	CreatedAt         time.Time
}

// Housekeeping keeps the audit log, answers to repeated calls, and settings.
type Housekeeping interface {
	PutAudit(ctx context.Context, a Audit) error
	ListAudit(ctx context.Context, q Query) ([]Audit, error)
	// BeginReplay stores r if its (Actor, Route, Key) is new and returns nil; else returns the stored one.
	BeginReplay(ctx context.Context, r Replay) (*Replay, error)
	FinishReplay(ctx context.Context, r Replay) error
	AbandonReplay(ctx context.Context, r Replay) error // the first call failed without effect
	PruneReplays(ctx context.Context, createdBefore time.Time) error
	// Setting is small durable state by name ("demo.seeded"). Absent: "".
	Setting(ctx context.Context, name string) (string, error)
	PutSetting(ctx context.Context, name, value string) error
}

// Entitled keeps who is entitled to what: accounts, what they are allowed apart from their plans, and what they were given back.
type Entitled interface {
	Accounts
	SubscriptionChanges
	Allowances
	Credits
	Refunds
}

// Credentials keeps what callers show: keys of customers and tokens of producers, without their secrets.
type Credentials interface {
	Keys
	Producers
}

// Nodes keeps what gateways were given and what came from them.
type Nodes interface {
	Leases
	Gateways
	GatewayNodes
}

// Bills keeps what was billed, and what proves it.
type Bills interface {
	Invoices
	BillingRuns
	Seals
	SubjectKeys
	Money
}

// Keeping keeps what is noted, and what is told of it.
type Keeping interface {
	Housekeeping
	Messages
	Exports
}

// Records is all that a records driver offers.
type Records interface {
	Catalogs
	Entitled
	Credentials
	Bills
	Nodes
	Corrections
	Keeping
	Close() error
}
