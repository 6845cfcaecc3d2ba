package authority

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/tallystick/tallystick/internal/app/authority/arith"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/quota"
	"github.com/tallystick/tallystick/internal/store"
)

// counterID tells apart what one CounterKey may name: units are of one kind here, whatever limits count them.
type counterID struct {
	store.CounterKey
	kind quota.Kind // Quota for units, or Concurrency
}

func idOf(k store.CounterKey, kind quota.Kind) counterID {
	if kind != quota.Concurrency {
		kind = quota.Quota
	}
	return counterID{k, kind}
}

// grid is the shortest window that the records keep, in microseconds.
const grid = int64(period.BucketLength / time.Microsecond)

// durable says that the counter's leases are kept in the records: those of calendar windows, of credits, and of windows as long
// as a rollup's bucket.
func (id counterID) durable() bool {
	return id.kind != quota.Concurrency && (id.Window != 0 || id.Length == 0 || id.Length >= grid)
}

// credits says that the counter has no window and counts units: usage credits.
func (id counterID) credits() bool {
	return id.kind != quota.Concurrency && id.Window == 0 && id.Length == 0
}

// counter is one quota counter with all of its leases: units of a window, or requests at once. Owner: customer.mu.
type counter struct {
	id       counterID
	end      int64
	counts   int64 // how long after its end it still counts in rolling windows, microseconds
	since    int64 // of credits: usage before it does not count; 0: nothing was ever granted
	behind   bool  // of credits: usage without a lease has to be looked for
	ahead    bool  // of credits: leases count more than the journal knows
	leases   []lease
	reported int64 // usage reported from outside in the window
	voided   int64 // usage of the window that was taken away again
	unleased int64 // usage in the window while no limit used this counter; of a window in memory, what may have been used before this start
	begun    bool  // what it counts besides its leases was read
	stale    bool  // a write failed: read the rows again
	writing  int   // writes under way
	used     time.Duration
}

// lease is one epoch's. charged counts against the counter: settled, which is spent for good, and what the holder may consume.
type lease struct {
	node       uint16
	epoch      uint32
	boot       string
	charged    int64
	settled    int64
	writtenOff int64
	closed     bool
	told       int64  // spent as far as the holder said, of charged − settled
	seq        uint64 // of the newest message about it
}

// open is what the holder may consume.
func (l *lease) open() int64 {
	if l == nil || l.closed {
		return 0
	}
	return l.charged - l.settled
}

// find is the lease of an epoch, nil when there is none. The pointer is good until the next one is added.
func (c *counter) find(node uint16, epoch uint32) *lease {
	for i := range c.leases {
		if l := &c.leases[i]; l.node == node && l.epoch == epoch {
			return l
		}
	}
	return nil
}

// own is the lease of an epoch that is now drawing: made, or taken up again after it was closed. It counts from 0 then, but for a
// holder that has not heard of the closing: it has spent no less than it said then, and goes on. 0: it says nothing of that.
func (c *counter) own(node uint16, epoch uint32, boot string, spent int64) *lease {
	l := c.find(node, epoch)
	if l == nil {
		c.leases = append(c.leases, lease{node: node, epoch: epoch})
		l = &c.leases[len(c.leases)-1]
	}
	if l.closed && (spent == 0 || spent < l.charged-l.settled) {
		l.settled, l.told = l.charged, 0
	}
	l.closed = false
	l.boot = boot
	return l
}

// idle says that nobody has used the counter for a while, though it is held: what was used meanwhile the journal knows.
func (c *counter) idle() bool {
	return c != nil && !c.stale && c.id.durable() && c.id.Scope == "" && !slices.ContainsFunc(c.leases, func(l lease) bool { return !l.closed })
}

// total is what is consumed, or may be without asking again.
func (c *counter) total() int64 {
	sum := arith.Add(c.reported, c.unleased)
	for i := range c.leases {
		sum = arith.Add(sum, c.leases[i].charged)
	}
	return max(0, arith.Sub(sum, c.voided))
}

// writtenOff is what is charged without being known to be spent, for good.
func (c *counter) writtenOff() (sum int64) {
	for i := range c.leases {
		sum = arith.Add(sum, c.leases[i].writtenOff)
	}
	return sum
}

// shared says whether another node may consume something, and whether it has said that all of it is spent.
func (c *counter) shared(node uint16) (shared, spent bool) {
	spent = true
	for i := range c.leases {
		if l := &c.leases[i]; l.node != node && l.open() > 0 {
			shared = true
			spent = spent && l.told >= l.open()
		}
	}
	return shared, shared && spent
}

// forget drops leases of requests that have ended with their process.
func (c *counter) forget(gone func(node uint16, epoch uint32) bool) {
	kept := c.leases[:0]
	for _, l := range c.leases {
		if !gone(l.node, l.epoch) {
			kept = append(kept, l)
		}
	}
	clear(c.leases[len(kept):])
	c.leases = kept
}

// row is a lease as it is stored.
func (c *counter) row(l *lease) store.Lease {
	return store.Lease{
		CounterKey: c.id.CounterKey, Node: l.node, Epoch: l.epoch, Boot: l.boot, WindowEnd: c.end,
		Charged: l.charged, Settled: l.settled, WrittenOff: l.writtenOff, Closed: l.closed,
	}
}

// fill takes the rows of a counter.
func (c *counter) fill(rows []store.Lease) {
	c.leases = c.leases[:0]
	for i := range rows {
		r := &rows[i]
		c.leases = append(c.leases, lease{
			node: r.Node, epoch: r.Epoch, boot: r.Boot, charged: r.Charged, settled: r.Settled, writtenOff: r.WrittenOff, closed: r.Closed,
		})
		c.end = max(c.end, r.WindowEnd)
	}
	c.stale = false
}

// remember takes over what holders said, which no row tells.
func (c *counter) remember(old *counter) {
	if old == nil {
		return
	}
	for i := range c.leases {
		if l := &c.leases[i]; !l.closed {
			if was := old.find(l.node, l.epoch); was != nil {
				l.seq, l.told = was.seq, min(was.told, l.open())
			}
		}
	}
}

// known says that a counter is held, with all that it counts.
func (c *customer) known(id counterID) bool {
	ctr := c.counters[id]
	return ctr != nil && !ctr.stale && ctr.begun
}

// counter finds one or takes it up: its leases, what was reported, and what was used in its window without any lease. The journal
// must know what holders decided before. A slot of a rolling window that lives in memory also stands for what was used so long
// before it: back, in microseconds.
func (s *Service) counter(ctx context.Context, c *customer, id counterID, end int64, scale int, back int64) (*counter, error) {
	if end == 0 {
		end = math.MaxInt64
	}
	ctr := c.counters[id]
	if ctr == nil || ctr.stale {
		var err error
		if ctr, err = s.read(ctx, c, id, end); err != nil {
			return nil, err
		}
	}
	ctr.end, ctr.counts = max(ctr.end, end), max(ctr.counts, back)
	if !ctr.begun {
		if err := s.begin(ctx, ctr, scale, back); err != nil {
			return nil, err
		}
	}
	ctr.used = s.cfg.Mono()
	return ctr, nil
}

// read takes a counter's leases from the records.
func (s *Service) read(ctx context.Context, c *customer, id counterID, end int64) (*counter, error) {
	if old := c.counters[id]; old != nil && old.writing > 0 {
		return nil, fmt.Errorf("%w: a lease could not be written", ErrUnreachable)
	}
	ctr := &counter{id: id, end: end, used: s.cfg.Mono()}
	if id.durable() {
		rows, err := s.cfg.Leases.LeasesOf(ctx, id.CounterKey)
		if err != nil {
			return nil, fmt.Errorf("read leases: %w", err)
		}
		ctr.fill(rows)
		ctr.remember(c.counters[id])
	}
	c.counters[id] = ctr
	return ctr, nil
}

// begin finds what a counter that comes into use counts besides its leases.
func (s *Service) begin(ctx context.Context, c *counter, scale int, back int64) error {
	switch {
	case c.id.kind == quota.Concurrency:
		if c.begun = true; !s.settledDown() { // others may have requests running that are not known here
			c.unleased = math.MaxInt64
		}
		return nil
	case !c.id.durable():
		return s.beginShort(ctx, c, scale, back)
	case c.id.credits(): // with the credits themselves: draw.credits
		c.begun, c.behind = true, true
		return nil
	case c.id.Scope != "": // the journal does not know scopes: a limit for each of something counts from when it came into force
		c.begun = true
		return nil
	}
	t, err := s.usage(ctx, c.id.CounterKey, c.end, scale)
	if err != nil {
		return err
	}
	c.catchUp(t)
	c.begun = true
	return nil
}

// catchUp takes in what the journal knows of the window, and what of it was admitted without any lease.
func (c *counter) catchUp(t tally) {
	c.reported, c.voided = t.reported, t.voided
	leased := int64(0)
	for i := range c.leases {
		leased = arith.Add(leased, c.leases[i].charged)
	}
	c.unleased = max(c.unleased, arith.Sub(arith.Sub(arith.Add(t.used, t.voided), t.reported), leased))
}

// beginShort takes up a window that lives in memory. It counts what gateways admit: the journal cannot tell what was reported in
// so short a time. What was admitted before this start it knows, for the customer as a whole and in quarter hours: that may be too
// much, never too little. A gateway whose clock is ahead was in the window before its time; for one whose clock is so far behind
// that the window may have been forgotten here, it is used up.
func (s *Service) beginShort(ctx context.Context, c *counter, scale int, back int64) (err error) {
	until, usedUp := s.usedUp()
	switch first := arith.Sub(c.id.Start, s.ahead.Load()); {
	case usedUp && first < until, c.past(s.cfg.Now().UnixMicro()):
		c.unleased = math.MaxInt64
	case first <= s.started:
		c.unleased, err = s.admittedSince(ctx, c.id.CounterKey, arith.Sub(c.id.Start, back), scale)
	}
	c.begun = err == nil
	return err
}

// before is the last instant, on the clock that is ahead of all, of which memory knows nothing.
func (s *Service) before() int64 {
	if until, ok := s.usedUp(); ok {
		return arith.Add(until-1, s.ahead.Load())
	}
	return arith.Add(s.started, s.ahead.Load())
}

// past says that a window in memory ended, and left all rolling windows, so long ago that it may be forgotten.
func (c *counter) past(now int64) bool {
	return arith.Add(arith.Add(c.end, c.counts), idleAfter.Microseconds()) <= now
}

// refresh reads again what was reported, and what was taken away.
func (s *Service) refresh(ctx context.Context, c *counter, scale int) error {
	if c.id.Scope != "" || !c.id.durable() || c.id.credits() {
		return nil
	}
	t, err := s.usage(ctx, c.id.CounterKey, c.end, scale)
	if err == nil {
		c.reported, c.voided = t.reported, t.voided
	}
	return err
}

// interval is a counter's window on the grid of the rollups, outwards; without a window it is all of time.
func interval(k store.CounterKey, end int64) period.Interval {
	var in period.Interval
	if k.Start == 0 && end == math.MaxInt64 {
		return in
	}
	in.Start = time.UnixMicro(k.Start).UTC()
	if end == math.MaxInt64 {
		in.Start = period.BucketStart(in.Start)
		return in
	}
	in.End = time.UnixMicro(end).UTC()
	if k.Window == 0 {
		in.Start = period.BucketStart(in.Start)
		if up := period.BucketStart(in.End); up.Before(in.End) {
			in.End = up.Add(period.BucketLength)
		}
	}
	return in
}

// tally is what the journal knows of a counter's window: admitted + reported − voided = used.
type tally struct{ used, reported, voided int64 }

func tallyOf(v store.View, k store.SeriesKey, in period.Interval, scale int) (t tally, err error) {
	r, err := v.Usage(k, in)
	if err != nil {
		return t, err
	}
	from, err := v.Reported(k, in)
	if err != nil {
		return t, err
	}
	gone, err := v.Voided(k, in)
	return tally{arith.Scaled(r.Sum, scale), arith.Scaled(from, scale), arith.Floored(gone, scale)}, err
}

func (s *Service) usage(ctx context.Context, k store.CounterKey, end int64, scale int) (t tally, err error) {
	err = s.cfg.Journal.View(ctx, func(v store.View) error {
		t, err = tallyOf(v, store.SeriesKey{CustomerID: k.CustomerID, Meter: k.Meter}, interval(k, end), scale)
		return err
	})
	if err != nil {
		return t, fmt.Errorf("read usage: %w", err)
	}
	return t, nil
}

// admittedSince is what was admitted on a customer's meter since an instant, or a little before.
func (s *Service) admittedSince(ctx context.Context, k store.CounterKey, from int64, scale int) (n int64, err error) {
	in := period.Interval{Start: period.BucketStart(time.UnixMicro(from))}
	err = s.cfg.Journal.View(ctx, func(v store.View) error {
		r, err := v.Usage(store.SeriesKey{CustomerID: k.CustomerID, Meter: k.Meter}, in)
		if err != nil {
			return err
		}
		d, err := r.Sum.Sub(r.Reported)
		n = max(0, arith.Scaled(d, scale))
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("read usage: %w", err)
	}
	return n, nil
}
