package gateway

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/quota"
	"github.com/tallystick/tallystick/internal/web/gateway/shape"
)

// admit decides on a request. One that is denied by a limit with a shape waits for its turn first; one whose caller has requests
// waiting lines up behind them.
func (g *Gateway) admit(ctx context.Context, x *exchange, r enforce.Request) {
	caller := shape.Caller{Key: r.Secret, Route: r.Route.Match, User: r.User}
	lane, behind := g.queues.Behind(caller)
	var clearsIn time.Duration
	if !behind {
		x.Admission = g.cfg.Limiter.Admit(ctx, r)
		if !x.waits() {
			return
		}
		lane, clearsIn = g.lane(x, r), x.ClearsIn
	}
	began := g.cfg.Now()
	result := g.queues.Wait(ctx, lane, caller, clearsIn, func() (bool, time.Duration) {
		x.Admission = g.cfg.Limiter.Admit(ctx, r)
		return !x.waits(), x.ClearsIn
	})
	g.stats.shaped[result].Add(1)
	g.stats.waited.Add(g.cfg.Now().Sub(began).Microseconds())
	switch {
	case result == shape.Gone:
		x.status = statusClientGone
		panic(http.ErrAbortHandler) // nobody is there to be answered
	case x.Admission == nil: // it lined up and was not let in: what the limits say now
		x.Admission = g.cfg.Limiter.Admit(ctx, r)
	}
}

// waits says that a denial may change soon.
func (x *exchange) waits() bool {
	return !x.Allowed() && x.Shape != nil
}

// lane is where a denied request waits: for the deciding limit, with those whose counter is the same.
func (g *Gateway) lane(x *exchange, r enforce.Request) shape.Lane {
	out := shape.Lane{Customer: x.Principal.Customer.ID, Limit: x.Shape}
	plan, ok := g.cfg.Catalog().Plan(x.Principal.Subscription.Plan)
	if !ok {
		return out
	}
	for i := range plan.Limits {
		if plan.Limits[i].Shape != x.Shape {
			continue
		}
		var whose quota.Whose
		for _, per := range plan.Limits[i].Per {
			switch per {
			case catalog.PerProject:
				whose.Project = x.Principal.Key.Project
			case catalog.PerKey:
				whose.Key = x.Principal.Key.ID
			case catalog.PerUser:
				whose.User = r.User
			case catalog.PerRoute:
				whose.Route = r.Route.Match
			}
		}
		out.Scope = quota.ScopeText(whose, nil)
	}
	return out
}

// ended comes after each admitted request, when its answer is through. The release does nothing for one that was settled; it covers
// a panic on the way. Until here the request counts among those that run at once.
func (g *Gateway) ended(ctx context.Context, x *exchange) {
	if x.reading != nil { // a panic while the answer went on: it was used
		if err := g.charge(x, false); err != nil {
			g.cfg.Log.ErrorContext(ctx, "a request that broke off stays charged as reserved", slog.Any("error", err))
		}
	}
	g.release(ctx, x)
	x.Leave()
	g.queues.Poke(x.Principal.Customer.ID)
}

// Close ends the waits of requests that were not let through yet: they are refused. It closes the connections to upstreams that
// nobody uses. Requests that run go on.
func (g *Gateway) Close() {
	g.queues.Close()
	if g.direct != nil {
		g.direct.client.Close()
	}
}
