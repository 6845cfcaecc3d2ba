package sim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/app/receive"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/receipt"
	"github.com/tallystick/tallystick/internal/core/subscription"
	"github.com/tallystick/tallystick/internal/store"
)

// clocksApart is more than a gateway's clock is behind the server's.
const clocksApart = 5 * time.Minute

const (
	costMax    = 4
	unitsMeter = "units"
	workType   = "work"
)

// act does one thing, drawn from the dice.
func (w *World) act(ctx context.Context) error {
	w.passes(time.Duration(w.dice.IntN(800)) * time.Millisecond)
	w.burn()
	type action struct {
		weight int
		do     func(context.Context)
	}
	actions := []action{
		{30, w.request},
		{10, w.burst},
		{16, w.end},
		{14, w.ship},
		{10, w.sync},
		{8, w.report},
		{5, w.ticks},
		{4, w.bills},
		{7, w.tell},
		{4, func(context.Context) { w.deliverLate() }},
		{3, w.jump},
		{14, w.fault},
		{1, w.catalog},
		{2, w.plan},
		{6, w.rejoin},
	}
	if w.cfg.Rates {
		actions = append(actions, action{3, w.reboot})
	}
	total := 0
	for _, a := range actions {
		total += a.weight
	}
	n := w.dice.IntN(total)
	for _, a := range actions {
		if n -= a.weight; n < 0 {
			a.do(ctx)
			break
		}
	}
	w.reap()
	return w.failed
}

// alive are the gateways that have begun and run.
func (w *World) begun() (list []*gateway) {
	for _, g := range w.gateways {
		if g.alive && g.e != nil {
			list = append(list, g)
		}
	}
	return list
}

// request asks a gateway once.
func (w *World) request(ctx context.Context) { w.requests(ctx, 1) }

// burst asks one often.
func (w *World) burst(ctx context.Context) { w.requests(ctx, 3+w.dice.IntN(20)) }

func (w *World) requests(ctx context.Context, n int) {
	list := w.begun()
	if len(list) == 0 {
		return
	}
	g, c := pick(w, list), pick(w, w.customers)
	if w.cfg.Rates && w.chance(40) {
		c = pick(w, w.customers[len(w.customers)-2:]) // what is short needs many requests to be passed
	}
	for range n {
		cost := int64(1 + w.dice.IntN(costMax))
		w.as(&g.process, func() { w.ask(ctx, g, c, cost) })
		if !g.alive || w.failed != nil {
			return
		}
	}
}

func (w *World) ask(ctx context.Context, g *gateway, c *customer, cost int64) {
	units := money.FromInt(cost)
	answered := false
	defer func() {
		if !answered { // it died in it
			w.log.Died(g.source, c.ID, g.clock.Now(), w.now, cost)
		}
	}()
	a := g.e.Admit(ctx, enforce.Request{Secret: c.secret, Route: &g.mirror.Current().Routes[0], Method: "POST", Cost: &units})
	answered = true
	if !a.Allowed() {
		w.did["denied"]++
		w.note("%s denies %s %d: %s", g.name, c.Key, cost, a.Code)
		if a.Outcome == receipt.Unavailable {
			w.did["unavailable"]++
		}
		return
	}
	w.did["admitted"]++
	id := shortID(a.DecisionID)
	w.note("%s admits %s %d as %s", g.name, c.Key, cost, id)
	w.must("admit", w.log.Admitted(g.index+1, g.source, id, c.ID, g.clock.Now(), w.now, cost))
	x := &request{a: a, id: id, customer: c.ID, cost: cost}
	g.open = append(g.open, x)
	if w.chance(70) {
		w.finish(g, len(g.open)-1)
	}
}

// finish ends the i-th open request of a gateway.
func (w *World) finish(g *gateway, i int) {
	x := g.open[i]
	if w.chance(15) {
		w.log.Ending(g.source, x.id, 0)
		if err := x.a.Release(enforce.Failed); err != nil {
			w.must("release "+x.id, allowed(err))
			return
		}
		w.log.Released(g.source, x.id)
		w.note("%s releases %s", g.name, x.id)
	} else {
		cost := x.cost
		if w.chance(30) {
			cost = w.dice.Int64N(x.cost + 1)
		}
		units := money.FromInt(cost)
		w.log.Ending(g.source, x.id, cost)
		if err := x.a.Settle(enforce.Actual{Status: 200, Cost: &units}); err != nil {
			w.must("settle "+x.id, allowed(err))
			return
		}
		w.log.Settled(g.source, x.id, cost)
		w.note("%s settles %s for %d", g.name, x.id, cost)
	}
	g.open = append(g.open[:i], g.open[i+1:]...)
}

// allowed passes over errors that faults explain.
func allowed(err error) error {
	if errors.Is(err, store.ErrFull) || unreachable(err) {
		return nil
	}
	return err
}

// end ends an open request.
func (w *World) end(context.Context) {
	list := w.begun()
	if len(list) == 0 {
		return
	}
	if g := pick(w, list); len(g.open) > 0 {
		i := w.dice.IntN(len(g.open))
		w.as(&g.process, func() { w.finish(g, i) })
	}
}

// ship is a gateway's ticker.
func (w *World) ship(ctx context.Context) {
	if list := w.begun(); len(list) > 0 {
		g := pick(w, list)
		w.as(&g.process, func() {
			more, err := g.e.Tick(ctx)
			w.note("%s ships: more %v, %v", g.name, more, err != nil)
			if replaced(err) { // a late call began another run: the process ends
				w.note("%s was replaced", g.name)
				g.alive = false
				return
			}
			w.must(g.name+" ships", w.bearable(err))
		})
	}
}

// replaced says whether an error tells a gateway that another run of its node has begun.
func replaced(err error) bool {
	return errors.Is(err, authority.ErrEpoch) || errors.Is(err, receive.ErrRefused)
}

// bearable passes over what a fault that is in force explains.
func (w *World) bearable(err error) error {
	if err == nil || errors.Is(err, store.ErrFull) || unreachable(err) || !w.server.alive {
		return nil
	}
	return err
}

// sync is the other ticker.
func (w *World) sync(ctx context.Context) {
	if list := w.begun(); len(list) > 0 {
		g := pick(w, list)
		w.as(&g.process, func() { w.must(g.name+" syncs", g.e.SyncTick(ctx)) })
	}
}

// rejoin lets gateways begin that could not.
func (w *World) rejoin(ctx context.Context) {
	for _, g := range w.gateways {
		if g.alive && g.e == nil && w.server.alive {
			g.join(ctx)
		}
	}
}

// reported is an event from outside.
type reported struct {
	id    string
	c     *customer
	at    time.Time
	value int64
}

const reportSource = "outside"

// report sends usage from outside: new, late, again, or another under the same name.
func (w *World) report(ctx context.Context) {
	if !w.server.alive {
		return
	}
	w.touched = true
	var r reported
	if len(w.events) > 0 && w.chance(35) {
		w.fired[eventAgain]++
		r = pick(w, w.events)
		if w.chance(20) {
			r.value++ // another content
		}
	} else {
		r = reported{id: fmt.Sprintf("r-%d", w.step), c: pick(w, w.customers), at: w.server.clock.Now(), value: int64(1 + w.dice.IntN(9))}
		if w.chance(40) {
			w.fired[lateEvent]++
			r.at = r.at.Add(-time.Duration(w.dice.IntN(20*24)) * time.Hour)
			if floor := born().Add(-36 * time.Hour); r.at.Before(floor) {
				r.at = floor
			}
		}
		w.events = append(w.events, r)
	}
	event := meter.Event{Source: reportSource, ID: r.id, Type: workType, Subject: r.c.ID, Time: r.at, Data: fmt.Appendf(nil, `{"cost":%d}`, r.value)}
	answer := ""
	survived := w.as(&w.server.process, func() {
		out, err := w.server.ingest.Report(ctx, "api/sim", []meter.Event{event})
		w.must("report", w.bearable(err))
		if err == nil {
			answer = out[0].Status
		}
	})
	if !survived {
		answer = ""
	}
	w.did["reported"]++
	w.note("report %s of %s, %d at %s: %q", r.id, r.c.Key, r.value, r.at.Format(time.RFC3339), answer)
	w.must("report", w.log.Reported(reportSource, r.id, r.c.ID, r.at, r.value, answer))
}

// ticks are the server's tickers.
func (w *World) ticks(ctx context.Context) {
	w.touched = true
	w.as(&w.server.process, func() {
		w.must("the authority ticks", w.bearable(w.server.authority.Tick(ctx)))
		w.must("the journal ticks", w.bearable(w.server.journal.Tick(ctx)))
	})
}

// bills closes what is due.
func (w *World) bills(ctx context.Context) {
	w.touched = true
	w.as(&w.server.process, func() {
		for {
			more, err := w.server.bill.Tick(ctx)
			if err != nil {
				w.note("billing waits")
				w.did["closes put off"]++
				if !errors.Is(err, errOpen) {
					w.must("bill", w.bearable(err))
				}
				return
			}
			if !more {
				return
			}
		}
	})
}

// tell sends the directory to a gateway, or brings what was sent before.
func (w *World) tell(ctx context.Context) {
	list := w.begun()
	if len(list) == 0 {
		return
	}
	g := pick(w, list)
	if len(g.updates) > 0 && w.chance(60) {
		u := g.updates[0]
		g.updates = g.updates[1:]
		w.as(&g.process, func() { w.must("take in what the server told", g.take(u)) })
		return
	}
	if !w.server.alive || w.lost(g) {
		g.updates = nil // the stream broke
		return
	}
	u, err := w.server.facts(ctx)
	w.must("tell", err)
	g.updates = append(g.updates, u)
}

// jump lets hours or days pass.
func (w *World) jump(context.Context) {
	d := time.Duration(1+w.dice.IntN(20)) * time.Hour
	if w.chance(25) {
		d = time.Duration(1+w.dice.IntN(4)) * 24 * time.Hour
	}
	w.passes(d)
	w.touched = true
	w.note("%s pass", d)
}

// catalog applies another one.
func (w *World) catalog(ctx context.Context) {
	if !w.server.alive {
		return
	}
	w.touched = true
	w.version++
	t := w.terms()
	for _, c := range w.customers {
		w.limits(c, t) // also when the server dies in it: then nobody knows
	}
	w.as(&w.server.process, func() {
		_, _, err := w.server.govern.ApplyCatalog(ctx, "sim", "sim.yaml", t.file())
		w.must("apply a catalog", w.bearable(err))
	})
	w.fire(catalogChange, "to {small:%d large:%d month:%d}", t.small, t.large, t.month)
}

// plan moves a customer to the other plan.
func (w *World) plan(ctx context.Context) {
	c := pick(w, w.customers)
	if !w.server.alive || c.steady {
		return
	}
	w.touched = true
	to := "large"
	if c.plan == "large" {
		to = "small"
	}
	was := c.plan
	c.plan, c.left, c.leaves = to, was, w.now.Add(clocksApart)
	w.limits(c, w.terms())
	var err error
	survived := w.as(&w.server.process, func() {
		_, err = w.server.govern.ChangeSubscription(ctx, "sim", c.sub, govern.NewChange{Kind: subscription.ToPlan, Plan: to, Reason: "simulated"}, false)
	})
	refused := errors.Is(err, account.ErrState) || errors.Is(err, account.ErrInvalid)
	if err != nil && !refused {
		w.must("change a plan", w.bearable(err))
	}
	if err != nil || !survived {
		c.plan, c.left = was, to
		if !refused { // nobody knows which it has
			c.leaves = w.now.AddDate(1, 0, 0)
		}
		w.limits(c, w.terms())
		w.note("%s does not change to %s", c.Key, to)
		return
	}
	w.fire(planChange, "%s to %s", c.Key, to)
}
