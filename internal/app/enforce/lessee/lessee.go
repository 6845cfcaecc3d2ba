// Package lessee is what a gateway holds of the authority's leases, and what it decides on them: per customer, counters that the
// limits of its plan share, and the sets of limits that requests must pass.
//
// A decision takes the customer's lock and nothing else. What the leases lack is asked for outside of the lock, by one request of
// a customer at a time; those behind it wait for its answer, and those that have enough go on.
package lessee

import (
	"context"
	"errors"
	"hash/maphash"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/quota"
	"github.com/tallystick/tallystick/internal/store"
)

// What Decide says, wrapped.
var (
	// ErrCost: the request's own cost is none of the meter's scale.
	ErrCost = errors.New("the cost is not a quantity of the meter")
	// ErrCrowded: too many requests of the customer wait for the authority, or too many counters are held.
	ErrCrowded = errors.New("too many counters or waiting requests")
)

// Directory is what is needed of accounts and catalog.
type Directory interface {
	Current() *catalog.Compiled
	Version(ctx context.Context, v int64) (*catalog.Compiled, error)
	Overrides(customerID string) []account.Override
}

// Past is what was used before, or elsewhere.
type Past interface {
	// Used is a customer's usage of a meter in an interval, in the meter's unit.
	Used(ctx context.Context, customerID, meter string, in period.Interval) (money.Decimal, error)
	// Known says of each event id of a source whether the journal has it.
	Known(ctx context.Context, source string, ids []string) ([]bool, error)
}

// Notice is a threshold that a customer has passed; it is told at least once per gateway run, and may be told again.
type Notice struct {
	CustomerID, Limit, Meter, Scope string
	Percent                         int // of the limit: 80, 100
	Consumed, Quota                 int64
	Scale                           int
	WindowStart, WindowEnd          int64 // microseconds; 0 without a window
	At                              int64
	Money                           bool // a spend cap: Consumed and Quota are of its currency
	Credits                         bool // of usage credits
}

// Config of a Lessee. All fields but Closed, Notice, Others and MaxCounters are required.
type Config struct {
	Directory Directory
	Authority authority.Authority
	Past      Past
	Node      uint16
	Epoch     uint32
	Now       func() time.Time // business clock
	Real      func() time.Time // the machine's, with its monotonic part
	// Opened writes down that a lease begins to be used, before any request draws on it, and returns its short name.
	Opened func(k store.CounterKey, end int64) (uint32, error)
	// Closed is told that the authority has taken note of a lease's end, and what it was spent on since it was opened.
	Closed func(name uint32, k store.CounterKey, end, spent int64)
	// Notice is told of passed thresholds under the customer's lock; it must not block.
	Notice func(Notice)
	// Others tells what other gateways hold and have not used, so that Lines leaves it out of what is consumed. Nil: nobody knows, and
	// all that they hold counts.
	Others authority.Others
	// MaxCounters bounds the counters held at once; a customer may have half of them. Default MaxCountersDefault.
	MaxCounters int
	Log         *slog.Logger
}

// Bounds of what is held.
const (
	MaxCountersDefault = 1 << 17
	waitersMax         = 4096 // requests of one customer that wait for the authority
	routesMax          = 2 * catalog.MaxRoutes
	shards             = 64
)

// Lessee holds the leases of one run of a gateway. It is safe for concurrent use.
type Lessee struct {
	cfg    Config
	seed   maphash.Seed
	shards [shards]shard
	real0  time.Time // what monotonic time is counted from

	held    atomic.Int64  // counters
	seq     atomic.Uint64 // of what is said to the authority; taken under the customer's lock
	span    atomic.Uint64 // changes when leases in memory have lapsed: the authority was not heard in time, or another run of it answers
	validTo atomic.Int64  // monotonic: until then they are good
	lasts   atomic.Int64  // nanoseconds from a call that renews them
	anew    atomic.Uint64 // changes when another run of the authority answers: see Anew
	retold  atomic.Uint64 // the span in which it was last told which requests run
	down    atomic.Int64  // until then, in monotonic nanoseconds, the authority is taken for unreachable
	stats   stats

	dueMu sync.Mutex  // guards due
	due   []*customer // windows of theirs have passed

	sweepMu  sync.Mutex // held while leases are given back; guards what follows
	sweeping []*customer
	sweptAt  int64
}

type stats struct{ draws, evicted, crowded, unreachable, alone atomic.Int64 }

// Stats are running totals since start, and gauges of now.
type Stats struct {
	Draws       int64 // counters asked for
	Evicted     int64 // idle counters whose leases were given back
	Crowded     int64 // requests refused for want of room
	Unreachable int64 // calls that did not reach the authority
	Alone       int64 // requests admitted without a lease, by a limit's failure mode
	Counters    int64 // held now
}

type shard struct {
	mu        sync.RWMutex // guards customers
	customers map[string]*customer
	_         [64]byte // no two shards in one cache line
}

// New holds nothing yet.
func New(cfg Config) (*Lessee, error) {
	if cfg.Directory == nil || cfg.Authority == nil || cfg.Past == nil || cfg.Now == nil || cfg.Real == nil || cfg.Opened == nil || cfg.Log == nil {
		return nil, errors.New("lessee: incomplete configuration")
	}
	if cfg.MaxCounters == 0 {
		cfg.MaxCounters = MaxCountersDefault
	}
	l := &Lessee{cfg: cfg, seed: maphash.MakeSeed(), real0: cfg.Real()}
	for i := range l.shards {
		l.shards[i].customers = map[string]*customer{}
	}
	return l, nil
}

// Stats reads them.
func (l *Lessee) Stats() Stats {
	return Stats{
		Draws: l.stats.draws.Load(), Evicted: l.stats.evicted.Load(), Crowded: l.stats.crowded.Load(),
		Unreachable: l.stats.unreachable.Load(), Alone: l.stats.alone.Load(), Counters: l.held.Load(),
	}
}

// unreachable notes that a call did not get through.
func (l *Lessee) unreachable(err error) {
	if errors.Is(err, authority.ErrUnreachable) {
		l.stats.unreachable.Add(1)
		l.down.Store(l.mono() + int64(downFor))
	}
}

// mono is monotonic time in nanoseconds, above 0.
func (l *Lessee) mono() int64 { return int64(l.cfg.Real().Sub(l.real0)) + 1 }

// customer is the state of one customer. mu owns all fields but changed.
type customer struct {
	id      string
	changed atomic.Bool // usage was reported from outside: ask for it before the next decision

	mu           sync.Mutex
	basis        basis
	routes       map[*catalog.Route]*template
	lastRoute    *catalog.Route
	lastTemplate *template
	counters     map[counterID]*counter
	loads        map[string]*load // by meter
	totals       map[totalID]*Total
	strays       []*counter // those of the customer as a whole when the basis last changed
	flight       *flight    // the call to the authority that runs
	waiting      int
	// gen changes with whatever makes sets look at their counters again; leaseGen when a lease gets its name.
	gen, leaseGen uint64
	sweepAt       int64 // monotonic: not before
	hurried       bool  // it stands in Lessee.due
}

// Total is the running admitted total of one meter in one billing period, in the meter's scale. It is changed inside the
// spool's lock only, so that the totals in the spool are in order.
type Total struct{ Value int64 }

// load is what requests that run have reserved on a meter.
type load struct {
	open   int64
	lastAt int64 // decision instant of the last one
}

func (c *customer) load(meterKey string) *load {
	n := c.loads[meterKey]
	if n == nil {
		n = &load{}
		c.loads[meterKey] = n
	}
	return n
}

type totalID struct {
	meter string
	start int64
}

// customer finds or makes the state of one.
func (l *Lessee) customer(id string) *customer {
	sh := &l.shards[maphash.String(l.seed, id)%shards]
	sh.mu.RLock()
	c := sh.customers[id]
	sh.mu.RUnlock()
	if c != nil {
		return c
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if c = sh.customers[id]; c == nil {
		c = &customer{id: id, routes: map[*catalog.Route]*template{}, counters: map[counterID]*counter{}, loads: map[string]*load{}, totals: map[totalID]*Total{}}
		sh.customers[id] = c
	}
	return c
}

// known is the state of a customer who has one.
func (l *Lessee) known(id string) *customer {
	sh := &l.shards[maphash.String(l.seed, id)%shards]
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	return sh.customers[id]
}

// all are the customers known now.
func (l *Lessee) all() []*customer {
	var out []*customer
	for i := range l.shards {
		sh := &l.shards[i]
		sh.mu.RLock()
		for _, c := range sh.customers {
			out = append(out, c)
		}
		sh.mu.RUnlock()
	}
	return out
}

// Rebuild has a customer's limits looked up again with the next decision.
func (l *Lessee) Rebuild(customerID string) {
	if c := l.known(customerID); c != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.basis.cat = nil
	}
}

// Total is the running total of a meter in any billing period, for a request that an earlier run left open. It lets none go: such
// requests come in any order of their periods, and a total that began anew would be below what the journal has of it.
func (l *Lessee) Total(customerID, meter string, start int64) *Total {
	c := l.customer(customerID)
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.total(meter, start)
}

// total finds or makes one.
func (c *customer) total(meterKey string, start int64) *Total {
	id := totalID{meterKey, start}
	t := c.totals[id]
	if t == nil {
		t = &Total{}
		c.totals[id] = t
	}
	return t
}

// newest is the total of the billing period that decisions are made in now. Those of earlier periods are let go: the requests
// that still run there hold them.
func (c *customer) newest(meterKey string, start int64) *Total {
	for old := range c.totals {
		if old.meter == meterKey && old.start < start {
			delete(c.totals, old)
		}
	}
	return c.total(meterKey, start)
}

// Counted tells that reported usage of these customers arrived, so that their counters are read again.
func (l *Lessee) Counted(customerIDs []string) {
	for _, id := range customerIDs {
		if c := l.known(id); c != nil {
			c.changed.Store(true)
		}
	}
}

// Question is a decision to be made, and its answer. It may be used again.
type Question struct {
	Catalog   *catalog.Compiled // the current one
	Principal *account.Principal
	Route     *catalog.Route
	User      string
	Given     *money.Decimal // a cost that replaces the route's; nil: none
	// Regardless has it counted whatever the limits say, since it was used already.
	Regardless bool
	// Listing asks what limits there are, not for a decision.
	Listing bool

	// The answer. Without an error the verdict is Allow or Deny, States are the limits' states after it, and Set is never nil.
	Now      int64
	Set      *Set
	Cost     int64
	Decision quota.Decision
	States   [quota.LimitsMax]quota.State
	Refused  int // on authority.ErrUnreachable: the limit that must not be passed without it
}

// Hold is what an allowed request holds of its counters. The zero Hold holds nothing.
type Hold struct {
	c        *customer
	set      *Set
	cost, at int64
}

// End gives a hold back: what was reserved becomes actual, in the meter's scale; 0 burns nothing. The overshoot is what actual has
// above it. It is called once, or Settle and Leave once each.
func (h Hold) End(actual int64) (overshoot int64) { return h.end(actual, true) }

// Settle is End for a request that still runs: it keeps its places among those that run at once, until Leave.
func (h Hold) Settle(actual int64) (overshoot int64) { return h.end(actual, false) }

// Leave gives back the places of a request that was settled before it had ended.
func (h Hold) Leave() {
	if h.set == nil || !h.set.atOnce {
		return
	}
	h.c.mu.Lock()
	defer h.c.mu.Unlock()
	h.set.leave()
}

func (h Hold) end(actual int64, leaves bool) (overshoot int64) {
	if h.set == nil {
		return 0
	}
	c, s := h.c, h.set
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case s.basis != c.basis.n: // the plan, an override or the catalog has changed since: the counters have other limits now
		overshoot = max(0, actual-h.cost)
		s.settleElsewhere(h.cost, actual, h.at)
	case actual != h.cost:
		overshoot = quota.Settle(s.Limits, s.states, h.cost, actual, h.at)
	}
	for _, ctr := range s.counters {
		if ctr.id.class != atOnce {
			ctr.open--
		}
	}
	if leaves && s.atOnce {
		s.leave()
	}
	if s.load != nil {
		s.load.open -= h.cost
	}
	for _, ctr := range s.strays {
		ctr.count(actual-h.cost, h.at)
	}
	return overshoot
}

// settleElsewhere settles on counters whose limits are no longer those of the set.
func (s *Set) settleElsewhere(cost, actual, at int64) {
	for i, ctr := range s.counters {
		if index(s.counters[:i], ctr) >= 0 {
			continue
		}
		for _, st := range ctr.all() {
			quota.Settle([]quota.Limit{ctr.limit}, []*quota.State{st}, cost, actual, at)
		}
	}
}

// leave gives back the places of one request.
func (s *Set) leave() {
	for i, ctr := range s.counters {
		if ctr.id.class != atOnce {
			continue
		}
		if ctr.open--; index(s.counters[:i], ctr) < 0 {
			ctr.run(-1)
		}
	}
}
