package enforce

import (
	"context"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/quota"
	"github.com/tallystick/tallystick/internal/store"
)

// customer is the enforcement state of one customer. mu owns all fields but refresh.
type customer struct {
	id      string
	refresh atomic.Bool // reported usage arrived: read it again before the next decision

	mu     sync.Mutex
	sets   map[string]*limitSet // by meter
	totals map[totalID]*periodTotal
	open   map[string]*atomic.Int64 // by meter: cost reserved and not yet settled or released
}

// openOf is the open cost of a meter.
func (c *customer) openOf(meterKey string) *atomic.Int64 {
	n := c.open[meterKey]
	if n == nil {
		n = new(atomic.Int64)
		c.open[meterKey] = n
	}
	return n
}

type totalID struct {
	meter string
	start int64
}

// total is the running total of a meter in a billing period; those of earlier periods are let go.
func (c *customer) total(meterKey string, start int64) *periodTotal {
	id := totalID{meterKey, start}
	t := c.totals[id]
	if t == nil {
		for old := range c.totals {
			if old.meter == meterKey && old.start < start {
				delete(c.totals, old)
			}
		}
		t = &periodTotal{}
		c.totals[id] = t
	}
	return t
}

// periodTotal is the running admitted total of one meter in one billing period, in the meter's scale. It is changed inside
// the spool's lock only, so that the totals in the spool are in order.
type periodTotal struct{ value int64 }

// limitSet is what a request on one meter must pass. Owner: customer.mu.
type limitSet struct {
	version     int64  // catalog version
	sub         string // subscription id
	plan        string
	meter       string
	customer    *customer
	event       string // the meter's event type
	scale       int
	periodStart int64
	periodEnd   int64 // microseconds
	total       *periodTotal
	limits      []quota.Limit
	states      []*quota.State // replaced, never written over: a copy of the slice keeps the old windows
	counters    []*counter     // of each limit; nil for a token bucket
	caps        []*spendCap
	anchor      period.Anchor
	open        *atomic.Int64
	lastAt      int64 // decision instant of the last reservation
	passOn      passCache
}

// counter is one quota counter of the customer, shared by the limits of one meter that use the same window.
type counter struct {
	key      store.CounterKey
	end      int64
	reported int64  // usage reported from outside in the window
	others   int64  // leases of other epochs and nodes
	unleased int64  // usage admitted in the window while no limit of the plan used this counter
	charged  int64  // our durable lease
	lease    uint32 // its name in the spool; 0: none yet
}

// base is what was consumed in the window apart from our lease.
func (c *counter) base() int64 { return addSat(addSat(c.reported, c.others), c.unleased) }

// addSat adds without wrapping; quantities are never negative here.
func addSat(a, b int64) int64 {
	if s := a + b; s >= a || b < 0 {
		return s
	}
	return math.MaxInt64
}

// set returns the customer's limits for a meter, as of now: rebuilt after a catalog change, a new subscription or a new
// billing period; counters and buckets are carried over.
func (e *Enforcer) set(ctx context.Context, c *customer, cat *catalog.Compiled, p *account.Principal, meterKey string, now int64) (*limitSet, error) {
	old := c.sets[meterKey]
	if old != nil && old.version == cat.Version && old.sub == p.Subscription.ID && now < old.periodEnd {
		return old, nil
	}
	m, ok := cat.Meter(meterKey)
	if !ok {
		return nil, fmt.Errorf("meter %q is not in catalog version %d", meterKey, cat.Version)
	}
	plans := cat
	if _, ok := cat.Plan(p.Subscription.Plan); !ok { // the plan left the catalog: its last known limits hold
		pinned, err := e.cfg.Directory.Version(ctx, p.Subscription.CatalogVersion)
		if err != nil {
			return nil, err
		}
		plans = pinned
	}
	anchor := p.Subscription.Anchor(p.Customer.Zone)
	billing, ok := anchor.Period(time.UnixMicro(now))
	if !ok {
		return nil, fmt.Errorf("subscription %s has not begun", p.Subscription.ID)
	}
	limits := plans.Limits(p.Subscription.Plan, meterKey)
	s := &limitSet{
		version: cat.Version, sub: p.Subscription.ID, plan: p.Subscription.Plan, meter: meterKey, event: m.Event, scale: m.Scale, customer: c,
		periodStart: billing.Start.UnixMicro(), periodEnd: billing.End.UnixMicro(), anchor: anchor,
		limits: limits, states: make([]*quota.State, len(limits)), counters: make([]*counter, len(limits)), caps: make([]*spendCap, len(limits)),
	}
	s.total, s.open = c.total(meterKey, s.periodStart), c.openOf(meterKey)
	if old != nil {
		s.lastAt = old.lastAt
	}
	if err := e.fill(ctx, s, old, plans, p, now); err != nil {
		return nil, err
	}
	if old != nil {
		e.retire(old, s)
	}
	c.sets[meterKey] = s
	return s, nil
}

// fill gives each limit of a new set its state: carried over from old where the counter or bucket is the same, else fresh.
func (e *Enforcer) fill(ctx context.Context, s, old *limitSet, plans *catalog.Compiled, p *account.Principal, now int64) error {
	buckets := 0
	for i := range s.limits {
		l := &s.limits[i]
		if l.Kind == quota.TokenBucket {
			st, err := e.bucketState(ctx, s, old, l, buckets, now)
			if err != nil {
				return err
			}
			s.states[i] = &st
			buckets++
			continue
		}
		if l.Kind == quota.SpendCap {
			sc, err := e.spendCap(ctx, plans, p, l.Key)
			if err != nil {
				return err
			}
			s.caps[i] = sc
		}
		if err := e.roll(ctx, s, old, i, p.Customer, now); err != nil {
			return err
		}
	}
	return nil
}

// bucketState carries the n-th bucket of the meter over, converting its debt when the rate changed. A bucket taken up anew owes
// all that was admitted in the quarter hours that its burst time touches: as much as it could owe, or more. After a power cut
// the journal may lack the last requests; then a bucket starts as if emptied when the epoch began.
func (e *Enforcer) bucketState(ctx context.Context, s, old *limitSet, l *quota.Limit, n int, now int64) (quota.State, error) {
	if st, ok := old.bucket(n); ok {
		st.Debt = convert(st.Debt, l.Per, st.per)
		return st.State, nil
	}
	if e.cfg.Rebooted || e.cfg.Torn {
		return quota.State{Debt: convert(l.Burst, l.Per, 1), Last: e.since}, nil
	}
	open := s.open.Load()
	if s.lastAt > 0 {
		if err := e.Flush(ctx); err != nil {
			return quota.State{}, err
		}
	}
	span := mulSat(l.Burst, l.Per)/l.Rate + 1
	from := period.BucketStart(time.UnixMicro(now - min(span, now))).UnixMicro()
	used, err := e.admittedSince(ctx, s, from)
	if err != nil {
		return quota.State{}, err
	}
	return quota.State{Debt: convert(min(addSat(used, open), l.Burst), l.Per, 1), Last: now}, nil
}

// bucketAt is a bucket with the refill time that its debt is counted in.
type bucketAt struct {
	quota.State
	per int64
}

// bucket is the n-th token bucket of a set; a nil set has none.
func (s *limitSet) bucket(n int) (bucketAt, bool) {
	if s == nil {
		return bucketAt{}, false
	}
	for i := range s.limits {
		if s.limits[i].Kind != quota.TokenBucket {
			continue
		}
		if n == 0 {
			return bucketAt{*s.states[i], s.limits[i].Per}, true
		}
		n--
	}
	return bucketAt{}, false
}

// convert is ceil(debt × to ÷ from), at most MaxInt64.
func convert(debt, to, from int64) int64 {
	if to == from {
		return debt
	}
	hi, lo := bits.Mul64(uint64(debt), uint64(to))
	if hi >= uint64(from) {
		return math.MaxInt64
	}
	q, r := bits.Div64(hi, lo, uint64(from))
	if r > 0 {
		q++
	}
	return int64(min(q, math.MaxInt64))
}

// roll gives limit i the window around now. A counter that another limit of the set, or the old set, already holds for the
// same window is shared; else it is loaded from the leases and the journal.
func (e *Enforcer) roll(ctx context.Context, s, old *limitSet, i int, cust account.Customer, now int64) error {
	l := &s.limits[i]
	in, ok := l.Window.Containing(time.UnixMicro(now), cust.Zone, s.anchor)
	if !ok {
		return fmt.Errorf("limit %s has no window at this time", l.Key)
	}
	key := store.CounterKey{CustomerID: cust.ID, Meter: s.meter, Window: l.Window, Start: in.Start.UnixMicro()}
	ctr, consumed := find(s, key)
	var err error
	if ctr == nil && old != nil {
		ctr, consumed = find(old, key)
	}
	if ctr == nil {
		ctr = &counter{key: key, end: in.End.UnixMicro()}
		if consumed, err = e.begin(ctx, s, ctr); err != nil {
			return err
		}
	}
	s.counters[i] = ctr
	s.states[i] = &quota.State{
		Consumed: consumed, Granted: addSat(ctr.base(), ctr.charged), Ceiling: l.Quota,
		WindowStart: key.Start, WindowEnd: ctr.end,
	}
	if sc := s.caps[i]; sc != nil {
		return e.capCeiling(ctx, s, i)
	}
	return nil
}

// leases are the names of the set's leases.
func (s *limitSet) leases() (out []uint32) {
	for _, c := range s.counters {
		if c != nil && c.lease != 0 && !slices.Contains(out, c.lease) {
			out = append(out, c.lease)
		}
	}
	return out
}

func find(s *limitSet, key store.CounterKey) (*counter, int64) {
	for i, c := range s.counters {
		if c != nil && c.key == key {
			return c, s.states[i].Consumed
		}
	}
	return nil, 0
}

// begin takes up a counter: leases of other epochs, reported usage, and what was admitted in the window while no limit used
// the counter (a limit that is new, or back again). It returns what is consumed.
func (e *Enforcer) begin(ctx context.Context, s *limitSet, c *counter) (int64, error) {
	var open int64
	if s.lastAt >= c.key.Start { // this process admitted requests in the window: the journal must know them, the leases their end
		if err := e.closeRolled(ctx); err != nil {
			return 0, err
		}
		open = s.open.Load() // before the flush: what settles in between is counted twice rather than not at all
		if err := e.Flush(ctx); err != nil {
			return 0, err
		}
	}
	if err := e.load(ctx, c, s.scale); err != nil {
		return 0, err
	}
	all, err := e.usageOf(ctx, c.key.CustomerID, c.key.Meter, c.key.Start, c.end, s.scale)
	if err != nil {
		return 0, err
	}
	leased := addSat(c.others, c.charged)
	c.unleased = max(0, addSat(all-c.reported, open)-leased)
	return addSat(c.base(), c.charged), nil
}

// load reads the counter's leases and reported usage.
func (e *Enforcer) load(ctx context.Context, c *counter, scale int) error {
	leases, err := e.cfg.Leases.LeasesOf(ctx, c.key)
	if err != nil {
		return fmt.Errorf("read leases: %w", err)
	}
	c.others, c.charged = 0, 0
	for _, l := range leases {
		if l.Node == e.cfg.Node && l.Epoch == e.epoch {
			c.charged = l.Charged
		} else {
			c.others = addSat(c.others, l.Charged)
		}
	}
	c.reported, err = e.reported(ctx, c.key, c.end, scale)
	return err
}

func (e *Enforcer) reported(ctx context.Context, k store.CounterKey, end int64, scale int) (int64, error) {
	var d money.Decimal
	err := e.cfg.Journal.View(ctx, func(v store.View) (err error) {
		d, err = v.Reported(store.SeriesKey{CustomerID: k.CustomerID, Meter: k.Meter}, interval(k.Start, end))
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("read reported usage: %w", err)
	}
	return scaled(d, scale), nil
}

// scaled rounds up to the meter's scale and stops at MaxInt64: counting too much is safe here.
func scaled(d money.Decimal, scale int) int64 {
	if n, err := d.Scaled(scale); err == nil {
		return n
	}
	if f, err := d.Floor().Scaled(scale); err == nil && f < math.MaxInt64-pow10(scale) {
		return f + pow10(scale)
	}
	return math.MaxInt64
}

func pow10(n int) int64 {
	p := int64(1)
	for range n {
		p *= 10
	}
	return p
}

func interval(start, end int64) period.Interval {
	return period.Interval{Start: time.UnixMicro(start).UTC(), End: time.UnixMicro(end).UTC()}
}

// refreshReported reads reported usage of all the customer's counters again.
func (e *Enforcer) refreshReported(ctx context.Context, c *customer) error {
	for _, s := range c.sets {
		seen := map[*counter]int64{}
		for i, ctr := range s.counters {
			if ctr == nil {
				continue
			}
			delta, ok := seen[ctr]
			if !ok {
				n, err := e.reported(ctx, ctr.key, ctr.end, s.scale)
				if err != nil {
					return err
				}
				delta = n - ctr.reported
				ctr.reported = n
				seen[ctr] = delta
			}
			s.states[i].Consumed = addSat(s.states[i].Consumed, delta)
			s.states[i].Granted = addSat(s.states[i].Granted, delta)
		}
	}
	return nil
}

// rollStale moves every limit of the set whose window has passed; the leases of the old windows are closed with the next tick.
func (e *Enforcer) rollStale(ctx context.Context, s *limitSet, cust account.Customer, now int64) error {
	before := *s
	before.counters = append([]*counter(nil), s.counters...)
	before.states = append([]*quota.State(nil), s.states...)
	for i := range s.limits {
		st := s.states[i]
		if s.counters[i] == nil || now >= st.WindowStart && now < st.WindowEnd {
			continue
		}
		if err := e.roll(ctx, s, nil, i, cust, now); err != nil {
			return err
		}
	}
	e.retire(&before, s)
	return nil
}

// retire queues the leases of counters that next no longer holds.
func (e *Enforcer) retire(old, next *limitSet) {
	e.rolledMu.Lock()
	defer e.rolledMu.Unlock()
	for _, l := range e.leasesOf(old) {
		if ctr, _ := find(next, l.CounterKey); ctr == nil {
			e.rolled = append(e.rolled, l)
		}
	}
}

// leasesOf are the set's leases as they would be closed now: charged with what was spent.
func (e *Enforcer) leasesOf(s *limitSet) []store.Lease {
	var out []store.Lease
	done := map[*counter]bool{}
	for i, ctr := range s.counters {
		if ctr == nil || done[ctr] || ctr.charged == 0 {
			continue
		}
		done[ctr] = true
		out = append(out, store.Lease{
			CounterKey: ctr.key, Node: e.cfg.Node, Epoch: e.epoch, Boot: e.cfg.Boot, WindowEnd: ctr.end,
			Charged: max(0, s.states[i].Consumed-ctr.base()), Closed: true,
		})
	}
	return out
}
