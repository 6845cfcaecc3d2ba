package client

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strconv"
	"time"
)

// Request asks for quota.
type Request struct {
	// KeyID is the caller's API key by its id, as Authenticate tells it; or Customer, by id or key.
	KeyID, Customer string
	// User is the end user, where limits are per user.
	User string
	// Meter is what is used. Route is a route of the catalog by its match, whose limits and meter hold; one of the two is enough.
	Meter, Route string
	// Cost in the meter's unit at Scale: 15 at scale 1 is 1.5. It may be 0.
	Cost int64
	// Scale is the number of decimals of Cost, 0 to 18.
	Scale int
	// Hold replaces that of the configuration, where not 0.
	Hold time.Duration
}

// Admission is a request that was admitted. End it once, by Settle or Release, and do not copy it.
type Admission struct {
	// DecisionID is that of the block the request was admitted from; requests of one block share it. Empty in mode Open.
	DecisionID string

	c    *Client
	e    *entry
	b    *block
	cost int64
	done bool
}

// Settle charges what was admitted.
func (a *Admission) Settle() { a.end(a.cost) }

// SettleCost charges an actual cost, in the units of the request: less gives the rest back, more goes through as overshoot. Below 0
// counts as 0.
func (a *Admission) SettleCost(cost int64) { a.end(max(0, cost)) }

// Release gives all back.
func (a *Admission) Release() { a.end(0) }

func (a *Admission) end(cost int64) {
	if a.done || a.e == nil {
		return
	}
	a.done = true
	kept, over := a.e.finish(a.b, a.cost, cost)
	if kept > 0 {
		a.c.stats.kept.Add(kept)
	}
	if over {
		a.c.rouse()
	}
}

const scaleMax = 18

// admitTurns bounds how often a request waits for a block that others spend before its turn comes.
const admitTurns = 2 * waitingMax

// Admit decides on a request, as a rule without a call to the server. The error is a *Problem, to be answered as it is. The
// Admission has to be ended also when the work fails.
func (c *Client) Admit(ctx context.Context, q Request) (Admission, error) {
	if q.Cost < 0 || q.Scale < 0 || q.Scale > scaleMax {
		return Admission{}, newProblem(http.StatusUnprocessableEntity, "invalid", "A cost must be 0 or more, with 0 to 18 decimals.", "Mend the program.")
	}
	s := series{q.KeyID, q.Customer, q.User, q.Meter, q.Route, q.Scale}
	hold := q.Hold
	if hold == 0 {
		hold = c.cfg.Hold
	}
	for range admitTurns {
		now := c.cfg.Now()
		e, made := c.blocks.find(&s, hold, now)
		if e == nil {
			c.stats.refused.Add(1)
			return Admission{}, unavailable("Too many callers at once.")
		}
		if made {
			c.rouse()
		}
		e.mu.Lock()
		if e.gone && !c.closed() {
			e.mu.Unlock()
			continue
		}
		if b := e.draw(q.Cost, now); b != nil {
			soon := !b.asked && e.next == nil && b.left < b.total/2 && b.total > q.Cost
			b.asked = b.asked || soon
			e.mu.Unlock()
			if soon {
				c.rouse()
			}
			c.stats.admitted.Add(1)
			return Admission{DecisionID: b.decision, c: c, e: e, b: b, cost: q.Cost}, nil
		}
		if a, p := c.wait(ctx, e, q.Cost, now); p != nil || a.c != nil {
			return a, c.refusal(p)
		}
	}
	c.stats.refused.Add(1)
	return Admission{}, unavailable("Others were faster every time.")
}

func (c *Client) refusal(p *Problem) error {
	switch {
	case p == nil:
		return nil
	case p.denial():
		c.stats.denied.Add(1)
	default:
		c.stats.refused.Add(1)
	}
	return p
}

// wait gets a block, or waits for the one that another request gets. Nothing returned: look again. e.mu is held, and is let go.
func (c *Client) wait(ctx context.Context, e *entry, cost int64, now time.Time) (Admission, *Problem) {
	switch {
	case c.closed():
		e.mu.Unlock()
		return Admission{}, unavailable("The API is shutting down.")
	case e.denied != nil && cost >= e.deniedCost && now.Before(e.deniedUntil):
		p := e.denied
		e.mu.Unlock()
		return Admission{}, p
	case c.breaker.shut(now):
		return c.without(e, cost)
	case e.waiting >= waitingMax:
		e.mu.Unlock()
		return Admission{}, unavailable("Too many requests wait for quota.")
	case e.busy != nil:
		busy := e.busy
		e.waiting++
		e.mu.Unlock()
		var gone bool
		select {
		case <-busy:
		case <-ctx.Done():
			gone = true
		}
		e.mu.Lock()
		e.waiting--
		e.mu.Unlock()
		if gone {
			return Admission{}, unavailable("The caller gave up.")
		}
		return Admission{}, nil
	}
	e.busy = make(chan struct{})
	e.mu.Unlock()
	p := c.fetch(context.WithoutCancel(ctx), e, cost)
	e.mu.Lock()
	close(e.busy)
	e.busy = nil
	if p == nil {
		e.mu.Unlock()
		return Admission{}, nil
	}
	if p.Code == "authority_unreachable" {
		return c.without(e, cost)
	}
	e.mu.Unlock()
	return Admission{}, p
}

// without is what the failure mode says. e.mu is held, and is let go.
func (c *Client) without(e *entry, cost int64) (Admission, *Problem) {
	e.last = c.cfg.Now()
	e.mu.Unlock()
	if c.cfg.Failure != Open {
		return Admission{}, unreachable()
	}
	c.stats.open.Add(1)
	c.stats.admitted.Add(1)
	return Admission{c: c, e: e, cost: cost}, nil
}

const (
	deniedFor = 250 * time.Millisecond // a denial is not asked about again for so long
	tick      = 25 * time.Millisecond  // of the background
	wireTime  = 125 * time.Millisecond // what giving a block back may take besides
	idleMost  = time.Second            // a denied request does not wait longer for what others keep
	margin    = time.Second            // a block is not drawn from that long before the server ends it
)

// fetch takes a block of which a request of that cost fits, or says why there is none. The caller has made e busy.
func (c *Client) fetch(ctx context.Context, e *entry, cost int64) *Problem {
	e.mu.Lock()
	e.retire(c.cfg.Now())
	own := unspent(e, c.cfg.Now())
	first := !e.inRow
	want := c.sizeOf(e, cost)
	e.mu.Unlock()
	for _, b := range own { // what it holds itself must not be in its way
		c.settle(ctx, e, b)
	}
	var b *block
	p := c.shrink(ctx, e, want, cost, &b)
	if p != nil && first && (p.Status == http.StatusTooManyRequests || p.Status == http.StatusPaymentRequired) && p.denial() {
		// Others may hold what they do not need; they give it back when it is idle.
		if c.pause(ctx, min(c.cfg.Idle, idleMost)+tick+wireTime) {
			p = c.shrink(ctx, e, cost, cost, &b)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	now := c.cfg.Now()
	if p != nil {
		if p.denial() {
			e.denied, e.deniedCost, e.deniedUntil, e.inRow = p, cost, now.Add(deniedFor), true
		}
		return p
	}
	e.denied, e.inRow, e.cur, e.size, e.last = nil, false, b, b.total, now
	if e.gone { // put out meanwhile
		e.retire(now)
	}
	c.rouse()
	return nil
}

// unspent are old blocks that hold quota which nobody uses.
func unspent(e *entry, now time.Time) (out []*block) {
	for _, b := range e.old {
		if b.left > 0 && b.flying == 0 && !b.ending && now.After(b.again) {
			b.ending = true
			out = append(out, b)
		}
	}
	return out
}

// sizeOf is how much to ask for. e.mu is held.
func (c *Client) sizeOf(e *entry, cost int64) int64 {
	unit := max(cost, 1)
	least := mulSat(unit, min(blockFirst, c.cfg.BlockMax))
	if e.inRow {
		least = unit
	}
	want := max(e.size, least, mulSat(unit, int64(e.waiting)+1))
	return max(cost, min(want, mulSat(unit, c.cfg.BlockMax)))
}

// shrink asks for a block, then for smaller ones, down to what is needed.
func (c *Client) shrink(ctx context.Context, e *entry, want, need int64, b **block) *Problem {
	for {
		got, p := c.take(ctx, e, want)
		if p == nil {
			*b = got
			return nil
		}
		if want <= need || p.Status != http.StatusTooManyRequests && p.Status != http.StatusPaymentRequired || !p.denial() {
			return p
		}
		want = max(need, want/4)
	}
}

// take makes one reservation. When its answer is lost, the background asks for it again by its ref, and gives it back.
func (c *Client) take(ctx context.Context, e *entry, cost int64) (*block, *Problem) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	now := c.cfg.Now() // before the call, so that the server ends it later than we do
	body := &NewReservation{
		Ref:   repeatKey(),
		KeyID: e.s.keyID, Customer: e.s.customer, User: e.s.user, Meter: e.s.meter, Route: e.s.route,
		Cost: Decimal(cost, e.s.scale), TTL: int64(c.cfg.TTL / time.Second),
	}
	var r Reservation
	err := c.once(ctx, call{method: http.MethodPost, path: "/v1/reservations", body: body}, &r)
	var p *Problem
	switch {
	case err == nil:
		c.stats.blocks.Add(1)
		return &block{id: r.ID, decision: r.DecisionID, total: cost, left: cost, taken: now, until: now.Add(c.cfg.TTL - margin), charge: -1}, nil
	case errors.Is(err, errShut), notSent(err):
		return nil, unreachable()
	case !errors.As(err, &p), p.Status >= http.StatusInternalServerError && p.Code != "authority_unreachable":
		e.mu.Lock()
		e.old = append(e.old, &block{orphan: body, total: cost, left: cost, held: now, until: c.cfg.Now().Add(c.cfg.TTL), charge: -1, again: now.Add(retryAfter)})
		e.mu.Unlock()
		return nil, unreachable()
	case p.Status == http.StatusUnprocessableEntity && len(p.Errors) > 0 && p.Errors[0].Pointer == "/key_id":
		return nil, keyProblem("key_revoked")
	case p.Code == "authority_unreachable":
		return nil, unreachable()
	case p.denial():
		p.RequestID, p.Errors = "", nil
		return nil, p
	}
	c.cfg.OnError(err) // our token, or a meter or customer that is not there
	return nil, unavailable("The quota of this request cannot be decided.")
}

// notSent says that there was nobody who could have heard the call.
func notSent(err error) bool {
	var dial *net.OpError
	return errors.As(err, &dial) && dial.Op == "dial"
}

// Decimal writes units at a scale as the API reads it: Decimal(15, 1) is "1.5".
func Decimal(units int64, scale int) string {
	text := strconv.FormatInt(units, 10)
	if scale <= 0 {
		return text
	}
	sign := ""
	if units < 0 {
		sign, text = "-", text[1:]
	}
	for len(text) <= scale {
		text = "0" + text
	}
	return sign + text[:len(text)-scale] + "." + text[len(text)-scale:]
}

// rouse wakes the background.
func (c *Client) rouse() {
	select {
	case c.wake <- struct{}{}:
	default: // it is awake
	}
}
