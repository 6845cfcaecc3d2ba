package authority

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/tallystick/tallystick/internal/app/authority/arith"
	"github.com/tallystick/tallystick/internal/app/authority/commit"
	"github.com/tallystick/tallystick/internal/core/quota"
	"github.com/tallystick/tallystick/internal/store"
)

const (
	// A lease is a leaseShare-th of what is left, so that leases shrink as the limit nears, and at most leaseCosts requests' worth.
	leaseShare = 4
	leaseCosts = 8192
)

// draw is one call on its way. Owner: its goroutine.
type draw struct {
	*Draw
	s       *Service
	n       *node
	c       *customer
	rules   *rules
	limits  [][]rule  // of each ask
	caps    []*capped // of each ask; nil without a limit of money
	before  []int64   // of each ask on credits: what was burned of grants that are not active any more
	answers []Answer
	rows    []store.Lease
	touched []*counter
	lacking map[*node][]store.CounterKey
	behind  bool // credits are lacking that the journal may give back once it knows when they were used
	// Known under this lock: counters whose reported usage was read, and the slots that count for one.
	fresh map[counterID]bool
	near  map[counterID][]*counter
}

// Draw implements Authority.
func (s *Service) Draw(ctx context.Context, d Draw) ([]Answer, error) {
	if len(d.Asks) > MaxAsks {
		return nil, fmt.Errorf("%d counters in one draw, at most %d: %w", len(d.Asks), MaxAsks, store.ErrInvalid)
	}
	if !s.calls.Enter() {
		return nil, errLeft
	}
	defer s.calls.Leave()
	n, err := s.node(ctx, d.Node)
	if err != nil {
		return nil, err
	}
	s.stats.draws.Add(1)
	s.ReadClock(time.UnixMicro(d.Now))
	w := &draw{Draw: &d, s: s, n: n}
	if w.rules, err = s.rules(ctx, &d); err != nil {
		return nil, err
	}
	if err := w.resolve(ctx); err != nil {
		return nil, err
	}
	if w.unknown() {
		if err := s.shipAll(ctx); err != nil {
			return nil, err
		}
	}
	if err := w.pass(ctx, false); err != nil {
		return nil, err
	}
	if len(w.lacking) > 0 || w.behind {
		s.recall(ctx, w.lacking)
		if w.behind {
			if err := s.shipAll(ctx); err != nil {
				return nil, err
			}
		}
		if err := w.pass(ctx, true); err != nil {
			return nil, err
		}
	}
	return w.answers, nil
}

// resolve finds the limits of each ask.
func (w *draw) resolve(ctx context.Context) (err error) {
	w.limits, w.caps, w.before = make([][]rule, len(w.Asks)), make([]*capped, len(w.Asks)), make([]int64, len(w.Asks))
	for i := range w.Asks {
		a := &w.Asks[i]
		if a.Counter.CustomerID != w.CustomerID {
			return fmt.Errorf("a counter of customer %q in a draw of %q: %w", a.Counter.CustomerID, w.CustomerID, store.ErrInvalid)
		}
		if w.limits[i], err = w.rules.of(a); err != nil {
			return err
		}
		for k := range w.limits[i] {
			l := &w.limits[i][k]
			if l.Kind == quota.Rolling && !l.cut(a.Counter.Length) {
				return fmt.Errorf("slots of %d µs, of limit %q: %w", a.Counter.Length, l.Key, store.ErrInvalid)
			}
			if l.Kind != quota.SpendCap {
				continue
			}
			if w.caps[i] == nil {
				if w.caps[i], err = w.s.capped(ctx, w.rules, a); err != nil {
					return err
				}
			}
			if err := w.caps[i].limit(l); err != nil {
				return err
			}
		}
	}
	return nil
}

// unknown says whether any counter must be taken up with help of the journal.
func (w *draw) unknown() bool {
	c := w.s.lock(w.CustomerID)
	defer c.mu.Unlock()
	for i := range w.Asks {
		a := &w.Asks[i]
		switch {
		case a.Kind == quota.Concurrency || a.Counter.Scope != "":
		case a.Kind == quota.TokenBucket:
			if c.buckets[a.Counter] == nil {
				return true
			}
		case !c.known(idOf(a.Counter, a.Kind)) || a.Fresh && c.counters[idOf(a.Counter, a.Kind)].idle():
			return true
		case w.caps[i] != nil:
			for meterKey := range w.caps[i].Scales {
				if !c.known(idOf(other(a.Counter, meterKey), a.Kind)) {
					return true
				}
			}
		}
	}
	return false
}

// other is the same counter of another meter.
func other(k store.CounterKey, meterKey string) store.CounterKey {
	k.Meter = meterKey
	return k
}

// pass looks at all asks. When something is lacking that other holders may give back, and it is not the last pass, nothing is
// granted, and lacking says whom to ask; else all is granted that can be, and durable on return.
func (w *draw) pass(ctx context.Context, last bool) error {
	w.n.run.RLock()
	defer w.n.run.RUnlock()
	if w.n.epoch != w.Epoch {
		return fmt.Errorf("epoch %d of node %d is not its newest, %d: %w", w.Epoch, w.Node, w.n.epoch, ErrEpoch)
	}
	w.s.hear(w.n)
	w.answers, w.lacking, w.rows, w.touched = make([]Answer, len(w.Asks)), nil, nil, nil
	t, err := w.locked(ctx, last)
	if len(w.rows) == 0 {
		return err
	}
	return errors.Join(err, w.s.finish(ctx, w.CustomerID, t, w.touched))
}

// locked is the part of a pass under the customer's lock.
func (w *draw) locked(ctx context.Context, last bool) (t commit.Ticket[store.Lease], err error) {
	w.c = w.s.lock(w.CustomerID)
	defer w.c.mu.Unlock()
	w.fresh, w.near = map[counterID]bool{}, map[counterID][]*counter{}
	for _, by := range w.caps {
		by.again()
	}
	if !last {
		for i := range w.Asks {
			if err := w.look(ctx, i); err != nil {
				return t, err
			}
		}
		if len(w.lacking) > 0 || w.behind {
			return t, nil
		}
	}
	for i := range w.Asks {
		if w.Asks[i].Kind == quota.TokenBucket {
			err = w.drawShare(ctx, i, true)
		} else {
			err = w.drawUnits(ctx, i)
		}
		if err != nil {
			break
		}
	}
	if len(w.rows) > 0 { // also after an error: what was granted before it is in memory
		t = w.s.enqueue(w.rows, w.touched)
	}
	return t, err
}

// enqueue puts rows on their way to the records. The customer's lock is held.
func (s *Service) enqueue(rows []store.Lease, touched []*counter) commit.Ticket[store.Lease] {
	for _, c := range touched {
		c.writing++
	}
	return s.commits.Enqueue(rows)
}

// finish waits for rows to be durable. When they are not, what is in memory is not known to be true: it is read again.
func (s *Service) finish(ctx context.Context, customerID string, t commit.Ticket[store.Lease], touched []*counter) error {
	err := s.commits.Wait(ctx, t)
	c := s.lock(customerID)
	defer c.mu.Unlock()
	for _, ctr := range touched {
		ctr.writing--
		ctr.stale = ctr.stale || err != nil
	}
	if err != nil {
		return fmt.Errorf("write leases: %w", err)
	}
	return nil
}

// look finds out whether an ask lacks something that other nodes could give back.
func (w *draw) look(ctx context.Context, i int) error {
	a := &w.Asks[i]
	if a.Need <= 0 && !w.fades(i) {
		return nil
	}
	if a.Kind == quota.TokenBucket {
		return w.drawShare(ctx, i, false)
	}
	c, err := w.take(ctx, i)
	if err != nil {
		return err
	}
	_, hard, err := w.ceilings(ctx, i, c)
	if err != nil || arith.Sub(hard, c.taken(w.Node)) >= w.missing(i, c, hard) {
		return err
	}
	if w.behind = w.behind || c.ahead || w.caps[i] != nil && w.caps[i].ahead; a.Need <= 0 {
		return nil // it has enough, but of grants that may have ended
	}
	w.lack(c)
	if w.caps[i] != nil {
		for meterKey := range w.caps[i].Scales {
			if o := w.c.counters[idOf(other(a.Counter, meterKey), a.Kind)]; o != nil && o != c {
				w.lack(o)
			}
		}
	}
	if isRolling(w.limits[i]) {
		for _, o := range w.slots(c, w.limits[i]) {
			w.lack(o)
		}
	}
	return nil
}

// lack notes who else holds something of a counter and can be asked for it.
func (w *draw) lack(c *counter) {
	for k := range c.leases {
		if l := &c.leases[k]; l.node != w.Node && l.open() > 0 {
			w.askFor(l.node, c.id.CounterKey)
		}
	}
}

// askFor notes that a node is to be asked.
func (w *draw) askFor(number uint16, k store.CounterKey) {
	n := w.s.numbered(number)
	if n == nil || w.s.askable(n) == nil {
		return
	}
	if w.lacking == nil {
		w.lacking = map[*node][]store.CounterKey{}
	}
	if !slices.Contains(w.lacking[n], k) {
		w.lacking[n] = append(w.lacking[n], k)
	}
}

// take finds the counter of an ask, with what was reported until now.
func (w *draw) take(ctx context.Context, i int) (*counter, error) {
	a := &w.Asks[i]
	back := int64(0)
	for k := range w.limits[i] {
		if l := &w.limits[i][k]; l.Kind == quota.Rolling {
			back = max(back, l.Length)
		}
	}
	id, scale := idOf(a.Counter, a.Kind), w.rules.scale(a.Counter.Meter)
	if c := w.c.counters[id]; a.Fresh && !w.fresh[id] && c.idle() { // requests may have passed without it
		c.begun = false
	}
	c, err := w.current(ctx, id, a.WindowEnd, scale, back)
	if err == nil && id.kind == quota.Concurrency && c.unleased > 0 && w.s.settledDown() {
		c.unleased = 0
	}
	return c, err
}

// current finds a counter, with what was reported until now; back is as for counter.
func (w *draw) current(ctx context.Context, id counterID, end int64, scale int, back int64) (*counter, error) {
	known := w.c.known(id)
	c, err := w.s.counter(ctx, w.c, id, end, scale, back)
	if err == nil && known && !w.fresh[id] {
		err = w.s.refresh(ctx, c, scale)
	}
	w.fresh[id] = true
	return c, err
}

// fades says that what is leased may be lost before it is used, with the grant that it came from.
func (w *draw) fades(i int) bool {
	return w.Asks[i].Kind == quota.Credits || w.caps[i] != nil && w.caps[i].wallet
}

// over is how much of what is leased has gone with grants that ended: it is not to be used any more. Only credits are lost so.
func (w *draw) over(i int, c *counter, hard int64) int64 {
	if !w.fades(i) {
		return 0
	}
	return max(0, arith.Sub(c.taken(w.Node), hard))
}

// missing is what the holder lacks for what it needs.
func (w *draw) missing(i int, c *counter, hard int64) int64 {
	a := &w.Asks[i]
	need := a.Need
	if a.Kind == quota.Concurrency {
		need = min(1, need)
	}
	own := c.find(w.Node, w.Epoch)
	if a.Fresh && own != nil && own.told > 0 && a.Kind != quota.Concurrency {
		return need
	}
	have := arith.Sub(own.open(), a.Spent)
	if over := w.over(i, c, hard); over > 0 {
		have = max(0, arith.Sub(have, over))
	}
	return max(0, arith.Sub(need, have))
}

// drawUnits grants what it can of an ask for units, or for requests at once.
func (w *draw) drawUnits(ctx context.Context, i int) error {
	a := &w.Asks[i]
	c, err := w.take(ctx, i)
	if err != nil {
		return err
	}
	if old := c.find(w.Node, w.Epoch); old != nil && w.Seq != 0 && w.Seq < old.seq {
		return w.answer(ctx, i, c, 0)
	}
	spent := a.Spent
	if a.Fresh {
		spent = 0
	}
	own := c.own(w.Node, w.Epoch, w.n.boot, spent)
	own.seq = w.Seq
	changed := w.report(c, own, a)
	_, hard, err := w.ceilings(ctx, i, c)
	if err != nil {
		return err
	}
	missing := w.missing(i, c, hard)
	left := max(0, arith.Sub(hard, c.taken(w.Node)))
	want := max(missing, min(left/leaseShare, arith.Times(max(1, a.Need), leaseCosts)))
	if a.Want > 0 {
		want = max(missing, min(want, arith.Sub(a.Want, max(0, arith.Sub(own.open(), a.Spent)))))
	}
	granted := int64(0)
	if missing > 0 {
		granted = min(want, left)
	}
	if granted > 0 {
		own.charged = arith.Add(own.charged, granted)
		w.s.stats.granted.Add(1)
	}
	if (granted > 0 || changed || c.writing > 0) && c.id.durable() { // what is on its way for another call may fail: it is written once more
		w.rows, w.touched = append(w.rows, c.row(own)), append(w.touched, c)
	}
	return w.answer(ctx, i, c, missing-granted)
}

// report takes in what the holder says that it spent.
func (w *draw) report(c *counter, own *lease, a *Ask) (changed bool) {
	if a.Fresh && a.Open > 0 && c.id.Scope == "" && c.id.kind != quota.Concurrency {
		c.unleased = arith.Add(c.unleased, a.Open)
	}
	if a.Fresh && c.id.kind != quota.Concurrency {
		if own.told > 0 { // its closing got lost: what was spent is spent, the rest comes back
			own.settled = min(own.charged, arith.Add(own.settled, own.told))
			own.charged, own.told = own.settled, 0
			return true
		}
		return false
	}
	own.told = max(own.told, a.Spent)
	if c.id.kind == quota.Concurrency {
		own.told = a.Spent
	}
	if a.Spent > own.open() { // an actual cost above its estimate, or beyond a soft limit
		own.charged = arith.Add(own.settled, a.Spent)
		return true
	}
	return false
}

// answer tells how an ask stands; short is what could not be granted of what is needed.
func (w *draw) answer(ctx context.Context, i int, c *counter, short int64) error {
	a, out := &w.Asks[i], &w.answers[i]
	ceilings, hard, err := w.ceilings(ctx, i, c)
	if err != nil {
		return err
	}
	for k := range ceilings {
		ceilings[k] = arith.Sub(ceilings[k], w.before[i])
	}
	own := c.find(w.Node, w.Epoch)
	out.Granted = own.open()
	out.Base = arith.Sub(arith.Sub(c.taken(w.Node), out.Granted), w.before[i])
	if over := w.over(i, c, hard); over > 0 {
		out.Granted = max(min(out.Granted, a.Spent), arith.Sub(out.Granted, over))
	}
	out.Ceiling = unlimited
	for k, n := range ceilings {
		if w.limits[i][k].enforced() {
			out.Ceiling = min(out.Ceiling, n)
		}
	}
	if out.Ceiling == unlimited {
		for _, n := range ceilings {
			out.Ceiling = min(out.Ceiling, n)
		}
	}
	out.Ceilings = ceilings
	var spent bool
	out.Shared, spent = c.shared(w.Node)
	if w.caps[i] != nil {
		out.Shared = out.Shared || w.capShared(i) || w.caps[i].ahead
	}
	out.Shared = out.Shared || c.ahead || c.unleased == math.MaxInt64 // more may be left than is known: it is asked for before anything is refused
	out.ValidFor = w.s.validity(w.Node, !c.id.durable())
	need := a.Need
	if a.Kind == quota.Concurrency {
		need = min(1, need)
	}
	fits := arith.Add(arith.Add(out.Base, a.Spent), need) <= out.Ceiling // not where the others alone have passed it, whatever this lease has
	if a.Need <= 0 || short <= 0 && fits {
		return nil
	}
	w.s.stats.denied.Add(1)
	out.ClearsAt = w.clears(i, c)
	switch {
	case out.Shared && spent:
		out.AskAgain = arith.Add(w.Now, askSpentIn.Microseconds())
	case out.Shared:
		out.AskAgain = arith.Add(w.Now, askAgainIn.Microseconds())
	case out.ClearsAt == 0:
		out.AskAgain = math.MaxInt64
	default:
		out.AskAgain = out.ClearsAt
	}
	return nil
}

// clears is when what an ask lacks may be had; 0 for never, as far as is known.
func (w *draw) clears(i int, c *counter) (at int64) {
	for k := range w.limits[i] {
		switch l := &w.limits[i][k]; l.Kind {
		case quota.SpendCap, quota.Credits:
			return 0
		case quota.Concurrency:
			return arith.Add(w.Now, quota.ConcurrencyRetry)
		case quota.Rolling:
			at = max(at, l.clears(w.uses(i, c), w.Asks[i].Need, w.Now))
		case quota.TokenBucket, quota.Quota, quota.Fixed:
			at = max(at, c.end)
		}
	}
	return at
}
