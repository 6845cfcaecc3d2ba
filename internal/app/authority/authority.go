package authority

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tallystick/tallystick/internal/app/authority/arith"
	"github.com/tallystick/tallystick/internal/app/authority/commit"
	"github.com/tallystick/tallystick/internal/app/gate"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/quota"
	"github.com/tallystick/tallystick/internal/core/subscription"
	"github.com/tallystick/tallystick/internal/store"
)

// Directory is what the authority needs to know of accounts and catalog.
type Directory interface {
	Current() *catalog.Compiled
	Version(ctx context.Context, v int64) (*catalog.Compiled, error)
	Customer(ref string) (account.Customer, bool)
	ActiveSubscription(customerID string, at time.Time) (account.Subscription, bool)
	// Overrides are those of a customer that may be active now or later.
	Overrides(customerID string) []account.Override
}

// Journal is what is known of usage.
type Journal interface {
	View(ctx context.Context, read func(store.View) error) error
}

// Config of a Service. All fields are required unless a default is named.
type Config struct {
	Directory Directory
	Leases    store.Leases
	Journal   Journal
	Now       func() time.Time     // business clock
	Mono      func() time.Duration // monotonic time since some instant: liveness of holders
	// Credits tells what a customer's usage credits of a meter come to. Default: nothing was granted.
	Credits func(v store.View, customerID, meterKey string, at time.Time) (Credit, error)
	// Usage lists how usage is charged in a customer's billing period around an instant: subscription.UsageAt. Default: at the prices
	// of the plan, as the subscription is pinned.
	Usage func(ctx context.Context, customerID string, at time.Time) ([]subscription.Span, error)
	// Wallet tells what credits in money are left for usage of a meter. Default: nothing was granted.
	Wallet func(ctx context.Context, customerID, meterKey string, at time.Time) (Wallet, error)
	// Local is the node whose gateway runs in this process: what it holds in memory dies with ours. 0: none.
	Local uint16
	// Rebooted and Torn say that the last requests before this start may not be known: the machine was started anew, or the spool
	// of the local gateway lost records. Then what lives in memory begins as used up.
	Rebooted, Torn bool
	// Memory is what Freeze returned in the process before, whose run goes on here; Run names a run that begins. Default: one begins,
	// without a name.
	Memory []byte
	Run    string
	// Serial has holders asked one after the other, by number, in the caller's goroutine and without a time-out: for a world whose
	// course must not depend on the machine's.
	Serial bool
	Log    *slog.Logger
}

// Bounds of what is held in memory.
const (
	validFor   = 5 * time.Second        // of leases of holders in other processes that live in memory
	idleAfter  = 5 * time.Minute        // what nobody asked about for so long is dropped, where it can be had again
	silentFor  = time.Second            // a holder that did not answer is not asked for so long
	askAgainIn = 250 * time.Millisecond // when others hold something, a denial stands for so long
	askSpentIn = time.Second            // the same when all that others hold is spent as far as is known
	shipMax    = 2 * time.Second        // wait for a holder in another process to ship
	shipOwnMax = 30 * time.Second       // the same for the local one, whose disk may be slow
	leasesKept = 40 * 24 * time.Hour    // closed leases of past windows are kept for questions
	pruneEvery = time.Hour
)

// Service is the authority of one deployment. It is safe for concurrent use.
type Service struct {
	cfg     Config
	started int64        // of the run: business time, microseconds
	ahead   atomic.Int64 // microseconds by which gateways' clocks are ahead: the most since this start
	commits *commit.Writer[store.Lease]
	stats   counters
	calls   gate.Gate // closed for good when the run is left to another process
	run     string    // Service.Run
	unsure  bool      // the last requests before the run may not be known
	settles int64     // business time, microseconds: of a run that goes on, when settledDown may say so; 0: see there

	mu        sync.RWMutex // guards the fields below
	customers map[string]*customer
	nodes     map[uint16]*node
	loaded    bool // nodes holds what the records know
	foreign   bool // when the run began there were other nodes, which may hold what lives in memory
	continued bool // the run began in another process

	prunedAt atomic.Int64 // monotonic nanoseconds
	stamped  atomic.Int64 // the newest Answer.Stamp
}

// stamp names one answer. Since a bucket is not given out while an earlier run's parts may be held, a run begins above what the one
// before has named, as long as its clock is not seconds behind that one's.
func (s *Service) stamp() uint64 {
	for {
		last := s.stamped.Load()
		if next := max(last+1, s.cfg.Now().UnixMicro()); s.stamped.CompareAndSwap(last, next) {
			return uint64(next)
		}
	}
}

var _ Authority = (*Service)(nil)

// node is one gateway. run is held for reading while a call of its epoch grants or takes back, and for writing while an epoch
// begins: nothing is granted to an epoch that is over.
type node struct {
	number uint16
	run    sync.RWMutex
	epoch  uint32 // under run
	boot   string // under run
	heard  atomic.Int64
	silent atomic.Int64 // not asked before this monotonic instant, nanoseconds

	mu     sync.Mutex // guards holder and shipping
	holder *held
}

// customer is what is known of one customer's counters. mu owns all fields but seen; lives says whether it was dropped.
type customer struct {
	id   string
	seen atomic.Int64 // monotonic, of the last call

	mu       sync.Mutex
	dropped  bool
	counters map[counterID]*counter
	buckets  map[store.CounterKey]*bucket
	families map[counterID]*family // by a slot's id without its start
}

func newCustomer(id string) *customer {
	return &customer{id: id, counters: map[counterID]*counter{}, buckets: map[store.CounterKey]*bucket{}, families: map[counterID]*family{}}
}

// New makes an authority. It reads the records with the first call.
func New(cfg Config) (*Service, error) {
	if cfg.Directory == nil || cfg.Leases == nil || cfg.Journal == nil || cfg.Now == nil || cfg.Mono == nil || cfg.Log == nil {
		return nil, errors.New("authority: incomplete configuration")
	}
	if cfg.Credits == nil {
		cfg.Credits = func(store.View, string, string, time.Time) (none Credit, _ error) { return none, nil }
	}
	if cfg.Wallet == nil {
		cfg.Wallet = func(context.Context, string, string, time.Time) (none Wallet, _ error) { return none, nil }
	}
	s := &Service{
		cfg: cfg, started: cfg.Now().UnixMicro(),
		commits:   commit.NewWriter(cfg.Leases.WriteLeases),
		customers: map[string]*customer{}, nodes: map[uint16]*node{}, run: cfg.Run, unsure: cfg.Rebooted || cfg.Torn,
	}
	if len(cfg.Memory) > 0 {
		s.goOn(cfg.Memory)
	}
	return s, nil
}

// node finds one, or makes it.
func (s *Service) node(ctx context.Context, number uint16) (*node, error) {
	s.mu.RLock()
	n, loaded := s.nodes[number], s.loaded
	s.mu.RUnlock()
	if loaded && n != nil {
		return n, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.loaded {
		if err := s.load(ctx); err != nil {
			return nil, err
		}
	}
	return s.makeNode(number), nil
}

// makeNode needs s.mu.
func (s *Service) makeNode(number uint16) *node {
	n := s.nodes[number]
	if n == nil {
		n = &node{number: number}
		n.heard.Store(int64(s.cfg.Mono()))
		s.nodes[number] = n
	}
	return n
}

// load reads which epochs there are. It needs s.mu.
func (s *Service) load(ctx context.Context) error {
	epochs, err := s.cfg.Leases.NewestEpochs(ctx)
	if err != nil {
		return fmt.Errorf("read epochs: %w", err)
	}
	for _, e := range epochs {
		n := s.makeNode(e.Node)
		n.epoch, n.boot = e.Epoch, e.Boot
		s.foreign = s.foreign || e.Node != s.cfg.Local && !s.continued
	}
	s.loaded = true
	return nil
}

func (s *Service) numbered(number uint16) *node {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.nodes[number]
}

// lock finds or makes a customer, and takes its lock.
func (s *Service) lock(id string) *customer {
	for {
		s.mu.RLock()
		c := s.customers[id]
		s.mu.RUnlock()
		if c == nil {
			s.mu.Lock()
			if c = s.customers[id]; c == nil {
				c = newCustomer(id)
				s.customers[id] = c
			}
			s.mu.Unlock()
		}
		c.mu.Lock()
		if !c.dropped {
			c.seen.Store(int64(s.cfg.Mono()))
			return c
		}
		c.mu.Unlock()
	}
}

// hear notes that a node is alive.
func (s *Service) hear(n *node) {
	n.heard.Store(int64(s.cfg.Mono()))
	n.silent.Store(0)
}

// expired says that a node's leases in memory are no longer used by it.
func (s *Service) expired(number uint16) bool {
	_, gone := s.lapsed(number, 0)
	return gone
}

// lapsed says so too, and since when, for now in microseconds.
func (s *Service) lapsed(number uint16, now int64) (since int64, gone bool) {
	if number == s.cfg.Local {
		return now, false
	}
	n := s.numbered(number)
	if n == nil {
		return now, true
	}
	quiet := s.cfg.Mono() - time.Duration(n.heard.Load()) - validFor
	return arith.Sub(now, max(0, quiet).Microseconds()), quiet > RenewWithin
}

// validity is Answer.ValidFor for a kind.
func (s *Service) validity(number uint16, inMemory bool) time.Duration {
	if !inMemory || number == s.cfg.Local {
		return 0
	}
	return validFor
}

// Begin implements Authority.
func (s *Service) Begin(ctx context.Context, number uint16, boot string, at time.Time) (Welcome, error) {
	if !s.calls.Enter() {
		return Welcome{}, errLeft
	}
	defer s.calls.Leave()
	n, err := s.node(ctx, number)
	if err != nil {
		return Welcome{}, err
	}
	n.run.Lock()
	defer n.run.Unlock()
	epoch, err := s.cfg.Leases.BeginEpoch(ctx, number, boot, at)
	if err != nil {
		return Welcome{}, fmt.Errorf("begin epoch: %w", err)
	}
	n.epoch, n.boot = epoch, boot
	s.hear(n)
	s.stats.begins.Add(1)
	s.endMemory(number, epoch)
	open, err := s.cfg.Leases.OpenLeases(ctx, number, epoch)
	if err != nil {
		return Welcome{}, fmt.Errorf("read open leases: %w", err)
	}
	alone, err := s.alone(ctx, number)
	if err != nil {
		return Welcome{}, err
	}
	return Welcome{Epoch: epoch, Open: open, Alone: alone}, nil
}

// alone says that no other node has anything, as far as is known.
func (s *Service) alone(ctx context.Context, number uint16) (bool, error) {
	epochs, err := s.cfg.Leases.NewestEpochs(ctx)
	if err != nil {
		return false, fmt.Errorf("read epochs: %w", err)
	}
	for _, e := range epochs {
		if e.Node != number && (e.Leases || !s.expired(e.Node)) {
			return false, nil
		}
	}
	return true, nil
}

// endMemory takes back what earlier epochs of a node held in memory: what runs at once has ended, a bucket's share comes back
// owing all of it.
func (s *Service) endMemory(number uint16, epoch uint32) {
	now := s.cfg.Now().UnixMicro()
	gone := func(node uint16, e uint32) bool { return node == number && e < epoch }
	for _, c := range s.all() {
		c.mu.Lock()
		for _, b := range c.buckets {
			b.forfeit(func(node uint16, e uint32) (int64, bool) { return now, gone(node, e) }, now)
		}
		for id, ctr := range c.counters {
			if id.kind == quota.Concurrency {
				ctr.forget(gone)
			}
		}
		c.mu.Unlock()
	}
}

// ReadClock notes by how much a gateway's clock is ahead of this one. Each Draw tells it as well; who draws nothing since this start
// may have been in a window before that others come to later.
func (s *Service) ReadClock(gateway time.Time) {
	ahead := arith.Sub(gateway.UnixMicro(), s.cfg.Now().UnixMicro())
	for most := s.ahead.Load(); ahead > most && !s.ahead.CompareAndSwap(most, ahead); {
		most = s.ahead.Load()
	}
}

// usedUp says that what lived in memory before this start is unknown, or may still be held by other nodes: up to the instant
// that it returns, in microseconds, it counts as used up.
func (s *Service) usedUp() (until int64, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.foreign {
		return arith.Add(s.started, (validFor + RenewWithin).Microseconds()), true
	}
	return s.started, s.unsure
}

// settledDown says that no node holds anything any more that it was given by an earlier run of the authority, and has not told of.
func (s *Service) settledDown() bool {
	until, _ := s.usedUp()
	return s.cfg.Now().UnixMicro() >= max(until, s.settles)
}
