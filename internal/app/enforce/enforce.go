// Package enforce admits or refuses requests: it reserves quota on durable leases, spools what it admitted, ships it to the
// journal, and explains each decision.
//
// The order on the way in is: authenticate, decide under the customer's lock, spool the reservation, answer. A lease is
// durable before it is used and the reservation is in the spool before the request is forwarded, so a crash can neither
// admit twice nor forget what was admitted.
package enforce

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/app/enforce/inflight"
	"github.com/tallystick/tallystick/internal/app/enforce/lessee"
	"github.com/tallystick/tallystick/internal/app/enforce/recent"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/receipt"
	"github.com/tallystick/tallystick/internal/store"
)

// Directory is what enforcement needs to know of accounts and catalog, without I/O on the hot path.
type Directory interface {
	// Principal authenticates a secret; fault is "" or a problem code such as key_unknown.
	Principal(secret string, now time.Time) (p account.Principal, fault account.KeyFault)
	Current() *catalog.Compiled
	Version(ctx context.Context, v int64) (*catalog.Compiled, error)
	Customer(ref string) (account.Customer, bool)
	ActiveSubscription(customerID string, at time.Time) (account.Subscription, bool)
	// PrincipalOf is Principal for somebody whom the caller vouches for: ref is a customer's id or key, or a key's id.
	PrincipalOf(ref string, now time.Time) (account.Principal, bool)
	// Overrides are those of a customer that may be active now or later.
	Overrides(customerID string) []account.Override
}

// Notice is a threshold that a customer has passed.
type Notice = lessee.Notice

// Past is what was used before, or elsewhere.
type Past = lessee.Past

// Config of an Enforcer. All fields are required unless a default is named.
type Config struct {
	Directory Directory
	Spool     store.Spool
	Authority authority.Authority
	Past      Past
	// Deliver hands over what an epoch read in its spool from one offset to another; an empty batch says that there was nothing
	// to tell. Results and errors are those of Journal.Append; after an error the same call is made again.
	Deliver func(ctx context.Context, epoch uint32, from, to int64, b *store.Batch) ([]store.Result, error)
	Keyring *receipt.Keyring
	Node    uint16 // this gateway's number; one process at a time uses it
	// Boot names the machine's boot; the same value after a restart means that the page cache survived. Empty: never the same.
	Boot   string
	Now    func() time.Time // business clock
	Strict bool             // sync the spool before forwarding; default false
	// Real is the machine's clock; epochs follow it, so that restored records do not use one twice.
	Real func() time.Time
	// Torn says that the spool lost records when it was opened: then it is no proof of what a lease was spent on.
	Torn bool
	// CarryBehind is how many bytes of the spool an open reservation may fall behind before it is copied to the end, so that
	// the spool can be truncated. Default 16 MiB.
	CarryBehind int64
	// Notice is told of passed thresholds; it must not block. Nil: nobody.
	Notice func(Notice)
	// Spending is what limits on money show. Nil: what usage costs at the plan's prices.
	Spending func(ctx context.Context, customerID string) (Spending, error)
	// Others tells what other gateways hold and have not used: see lessee.Config.
	Others authority.Others
	// MaxCounters bounds the counters held at once: see lessee.Config.
	MaxCounters int
	Log         *slog.Logger
}

const carryBehindDefault = 16 << 20

// Enforcer is safe for concurrent use.
type Enforcer struct {
	cfg    Config
	epoch  uint32
	source string // event source of this gateway
	sealer *receipt.Sealer

	_         [64]byte
	seq       atomic.Uint64
	_         [64]byte
	scratches sync.Pool // *scratch
	striped   atomic.Uint32
	loggedAt  atomic.Int64 // second of the last log line about refused requests
	inflight  inflight.Count
	stats     counters
	recent    recent.List

	declared   declared
	refunds    refunds
	overshoots overshoots
	held       heldList

	lessee *lessee.Lessee

	ship shipper
}

// Open takes a new epoch, settles what an earlier one left open, ships the spool and closes the old leases.
func Open(ctx context.Context, cfg Config) (*Enforcer, error) {
	if cfg.Directory == nil || cfg.Spool == nil || cfg.Authority == nil || cfg.Past == nil || cfg.Deliver == nil || cfg.Keyring == nil || cfg.Now == nil || cfg.Real == nil || cfg.Log == nil {
		return nil, errors.New("enforce: incomplete configuration")
	}
	if cfg.CarryBehind == 0 {
		cfg.CarryBehind = carryBehindDefault
	}
	welcome, err := cfg.Authority.Begin(ctx, cfg.Node, cfg.Boot, cfg.Real())
	if err != nil {
		return nil, fmt.Errorf("begin epoch: %w", err)
	}
	sealer, err := cfg.Keyring.Sealer(cfg.Node, welcome.Epoch)
	if err != nil {
		return nil, fmt.Errorf("derive decision key: %w", err)
	}
	e := &Enforcer{cfg: cfg, epoch: welcome.Epoch, sealer: sealer, source: SourceOf(cfg.Node)}
	if e.lessee, err = lessee.New(lessee.Config{
		Directory: cfg.Directory, Authority: cfg.Authority, Past: cfg.Past, Node: cfg.Node, Epoch: e.epoch, Now: cfg.Now, Real: cfg.Real,
		Opened: e.leaseOpened, Closed: func(name uint32, _ store.CounterKey, _, _ int64) { e.leaseClosed(name) }, Notice: cfg.Notice, MaxCounters: cfg.MaxCounters, Others: cfg.Others, Log: cfg.Log,
	}); err != nil {
		return nil, err
	}
	e.ship.begin(cfg.Spool.Start())
	if err := e.recover(ctx, welcome.Open); err != nil {
		return nil, err
	}
	return e, nil
}

// SourceOf is the event source of a gateway node.
func SourceOf(node uint16) string { return fmt.Sprintf("gateway/%d", node) }

// Close ships the rest and closes the leases. The gateway must have stopped.
func (e *Enforcer) Close(ctx context.Context) error {
	err := e.Flush(ctx)
	if err == nil && e.inflight.Total() == 0 {
		err = e.lessee.Close(ctx)
	}
	return err
}

// Counted tells that reported usage of these customers arrived, so that their counters are read again.
func (e *Enforcer) Counted(customerIDs []string) { e.lessee.Counted(customerIDs) }

// Recall implements authority.Holder.
func (e *Enforcer) Recall(ctx context.Context, counters []store.CounterKey) ([]authority.Back, error) {
	return e.lessee.Recall(ctx, counters)
}

// Anew says that another run of the authority answers from now on: see lessee.Lessee.Anew.
func (e *Enforcer) Anew() { e.lessee.Anew() }

// Tell implements authority.Holder.
func (e *Enforcer) Tell(ctx context.Context, counters []store.CounterKey) ([]authority.Back, error) {
	return e.lessee.Tell(ctx, counters)
}

// Ship implements authority.Holder.
func (e *Enforcer) Ship(ctx context.Context) error { return e.Flush(ctx) }

var _ authority.Holder = (*Enforcer)(nil)

// LastSeen is the latest decision instant found in the spool when this epoch began: the business clock must not start below.
func (e *Enforcer) LastSeen() time.Time { return time.UnixMicro(e.ship.lastSeen).UTC() }
