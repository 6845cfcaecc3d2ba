package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/web/answer"
	"github.com/tallystick/tallystick/internal/web/gateway/cost"
	"github.com/tallystick/tallystick/internal/web/gateway/shape"
)

type exchangeKey struct{}

// exchange is one request on its way.
type exchange struct {
	*enforce.Admission
	in        *http.Request // as it came
	route     *route
	keyHeader string // it carries the caller's key
	status    int
	sent      int64
	tracker   body
	upload    *upload // the request's body; nil without one
	attempts  int
	refused   *answer.Problem // before any key was looked at
	reading   *cost.Reading   // settles when the body ends; nil: settled
}

// stats count what the metrics show.
type stats struct {
	unread atomic.Int64
	shaped [shape.Closed + 1]atomic.Int64 // by result
	waited atomic.Int64                   // microseconds
}

// Stats are totals since the start.
type Stats struct {
	// CostsUnread counts requests whose actual cost could not be read from the answer, so that the estimate was charged.
	CostsUnread int64
	// Of requests that a limit with a shape denied at first: those decided in their turn, those that found the queue full or
	// would have waited for too long, and those whose client left. Waited is the time of all together.
	Shaped, ShapeFull, ShapeExpired, ShapeGone int64
	Waited                                     time.Duration
	Waiting                                    int64 // now
}

// Stats reads the totals.
func (g *Gateway) Stats() Stats {
	n := func(r shape.Result) int64 { return g.stats.shaped[r].Load() }
	return Stats{
		CostsUnread: g.stats.unread.Load(), Shaped: n(shape.Decided), ShapeFull: n(shape.Full), ShapeExpired: n(shape.Expired), ShapeGone: n(shape.Gone),
		Waited: time.Duration(g.stats.waited.Load()) * time.Microsecond, Waiting: g.queues.Waiting(),
	}
}

// track follows the answer's body to its end.
func (x *exchange) track(g *Gateway, b io.ReadCloser, length int64) *body {
	x.tracker = body{ReadCloser: b, g: g, x: x, left: length}
	return &x.tracker
}

// answered runs when the upstream's headers are there and before the client sees any of them.
func (g *Gateway) answered(x *exchange, status int, h http.Header, bodied bool) error {
	x.status = status
	var err error
	switch {
	case x.route.Refund.Refunds(catalog.Answered, status):
		err = x.Release(enforce.Failed)
	case x.route.cost == nil || status == http.StatusSwitchingProtocols: // a tunnel has no end that a cost could wait for
		err = x.Settle(enforce.Actual{Status: status})
	default:
		x.reading = x.route.cost.Begin(x.in.Method, x.in.URL.Path, x.in.Header, status, seen(x.route.cost, h))
		if !bodied || x.route.cost.AtHead() {
			err = g.charge(x, true)
		}
	}
	if err != nil {
		return err
	}
	answer.SetHeaders(h, x.Admission)
	return nil
}

// seen are the headers that a cost is read from. They are copied, since the answer's own are changed on their way.
func seen(s *cost.Source, h http.Header) http.Header {
	if s.AtHead() {
		return h
	}
	return h.Clone()
}

// charge settles with the actual cost, once; whole: the body came to its end.
func (g *Gateway) charge(x *exchange, whole bool) error {
	if x.reading == nil {
		return nil
	}
	end := enforce.Actual{Status: x.status}
	var uploaded int64
	if x.upload != nil {
		uploaded = x.upload.taken.Load()
	}
	reading := x.reading
	x.reading = nil
	d, err := read(reading, uploaded, whole)
	if err != nil {
		g.stats.unread.Add(1)
		g.cfg.Log.Debug("estimate charged", slog.String("route", x.route.Match), slog.Any("error", err))
	} else {
		end.Cost = &d
	}
	return x.Settle(end)
}

// read is the cost; a panic on the way is an error, so that the request is charged all the same.
func read(reading *cost.Reading, uploaded int64, whole bool) (d money.Decimal, err error) {
	defer func() {
		if fault := recover(); fault != nil {
			err = fmt.Errorf("the cost could not be computed: %v", fault)
		}
	}()
	return reading.End(uploaded, whole)
}

// failed answers for an upstream that did not.
func (g *Gateway) failed(w http.ResponseWriter, r *http.Request, x *exchange, err error) {
	var timeout interface{ Timeout() bool }
	var large *http.MaxBytesError
	var network *net.OpError
	p := answer.Problem{DecisionID: x.DecisionID}
	reason := enforce.Failed
	switch {
	case errors.As(err, &large):
		p = answer.TooLarge(x.DecisionID, g.cfg.MaxBody)
	case x.upload != nil && x.upload.late():
		p.Code, p.Status = "body_timeout", http.StatusRequestTimeout
		p.Detail, p.Fix = "The request body did not arrive in time.", "Send it faster, or less at once."
	case r.Context().Err() != nil || x.upload != nil && x.upload.broken.Load(): // the client has left, or closed its side: an empty 200 must not reach it
		g.end(r.Context(), x, enforce.ClientGone)
		x.status = statusClientGone
		panic(http.ErrAbortHandler)
	case x.status != 0 && !x.route.Refund.Refunds(catalog.Answered, x.status): // the settlement failed
		g.release(r.Context(), x)
		x.status = answer.Unavailable(w, x.DecisionID)
		return
	case errors.As(err, &timeout) && timeout.Timeout() && (!errors.As(err, &network) || network.Op != "dial"): // who was not reached did nothing
		reason = enforce.TimedOut
		p.Code, p.Status = "upstream_timeout", http.StatusGatewayTimeout
		p.Detail, p.Fix = "The API did not answer in time.", "Try again later."
	default:
		p.Code, p.Status = "upstream_unreachable", http.StatusBadGateway
		p.Detail, p.Fix = "The API could not be reached.", "Try again later."
	}
	x.status = p.Status
	if g.end(r.Context(), x, reason) {
		p.Detail += " The request was counted."
	} else {
		p.Detail += " The request was not counted."
	}
	p.Retryable = p.Status >= http.StatusInternalServerError
	g.cfg.Log.WarnContext(r.Context(), "upstream failed", slog.String("route", x.route.Match), slog.String("code", p.Code), slog.Any("error", err))
	answer.SetHeaders(w.Header(), x.Admission)
	answer.Write(w, p)
}

// end gives a request without an answer back, or charges it where the route's policy says so.
func (g *Gateway) end(ctx context.Context, x *exchange, why enforce.Reason) (charged bool) {
	if why == enforce.TimedOut && !x.route.Refund.Refunds(catalog.TimedOut, 0) || why == enforce.ClientGone && !x.route.Refund.Refunds(catalog.ClientGone, 0) {
		if err := x.Settle(enforce.Actual{}); err != nil {
			g.cfg.Log.ErrorContext(ctx, "a request without an answer could not be charged", slog.Any("error", err))
		}
		return true
	}
	if err := x.Release(why); err != nil {
		g.cfg.Log.ErrorContext(ctx, "a failed request stays charged", slog.Any("error", err))
		return true
	}
	return false
}

// statusClientGone is logged for a client that left before the answer; it is never sent.
const statusClientGone = 499

func (g *Gateway) release(ctx context.Context, x *exchange) {
	if err := x.Release(enforce.Failed); err != nil {
		g.cfg.Log.ErrorContext(ctx, "a failed request stays charged", slog.Any("error", err))
	}
}
