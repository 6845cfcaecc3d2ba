package httpapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/tallystick/tallystick/internal/app/clock"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/store"
)

// ClockBody is the business clock.
type ClockBody struct {
	Now       time.Time  `json:"now" doc:"Business time"`
	Real      time.Time  `json:"real" doc:"The machine's clock"`
	Offset    int64      `json:"offset_s" doc:"By how much the clock was advanced"`
	Test      bool       `json:"test" doc:"It may be advanced"`
	Ahead     int64      `json:"ahead_s" doc:"By how much it leads, because the machine's clock stepped back"`
	PeriodEnd *time.Time `json:"period_end" doc:"Latest end of a current billing period, with grace; null without a subscription"`
}

type advancedBody struct {
	ClockBody
	InvoicesFinalized int64 `json:"invoices_finalized"`
}

type advanceBody struct {
	By string `json:"by,omitempty" doc:"A duration" example:"24h"`
	To string `json:"to,omitempty" doc:"period-end, or an RFC 3339 instant" example:"period-end"`
}

func (a *api) clock() {
	const tag = "clock"
	handle(a, operation{
		method: http.MethodGet, path: "/v1/clock", id: "get-clock", tag: tag, summary: "Read the business clock",
	}, func(ctx context.Context, _ *struct{}) (ClockBody, error) { return a.clockNow(ctx) })
	handle(a, operation{
		method: http.MethodPost, path: "/v1/clock/advance", id: "advance-clock", tag: tag,
		summary: "Move a test clock forward; answers when the work that became due is done",
	}, func(ctx context.Context, in *struct{ Body advanceBody }) (advancedBody, error) {
		return a.advance(ctx, in.Body)
	})
}

func (a *api) clockNow(ctx context.Context) (ClockBody, error) {
	c := a.cfg.Clock
	out := ClockBody{
		Now: c.Now(), Real: instant(a.cfg.Real()), Offset: int64(c.Offset().Round(time.Second) / time.Second), Test: c.Test(), Ahead: int64(c.Ahead() / time.Second),
	}
	end, err := a.cfg.Bill.PeriodEnd(ctx)
	switch {
	case err == nil:
		end = instant(end)
		out.PeriodEnd = &end
	case !errors.Is(err, account.ErrNotFound):
		return ClockBody{}, err
	}
	return out, nil
}

func (a *api) advance(ctx context.Context, in advanceBody) (advancedBody, error) {
	if !a.cfg.Clock.Test() {
		return advancedBody{}, clock.ErrNotTest
	}
	to, err := a.target(ctx, in)
	if err != nil {
		return advancedBody{}, err
	}
	before, err := a.lastNumber(ctx)
	if err != nil {
		return advancedBody{}, err
	}
	offset := a.cfg.Clock.Offset()
	now, err := a.cfg.Clock.Advance(ctx, to)
	if a.cfg.Clock.Offset() != offset { // also when work that became due has failed
		err = errors.Join(err, a.audit(ctx, "clock.advance", "clock", struct {
			To time.Time `json:"to"`
		}{instant(now)}))
	}
	switch {
	case errors.Is(err, clock.ErrTooFar):
		return advancedBody{}, invalid("to", "is too far: at most 10 years at a time, and not beyond 2199", "advance in smaller steps")
	case err != nil:
		return advancedBody{}, err
	}
	after, err := a.lastNumber(ctx)
	if err != nil {
		return advancedBody{}, err
	}
	state, err := a.clockNow(ctx)
	return advancedBody{state, after - before}, err
}

// target is the instant that was asked for.
func (a *api) target(ctx context.Context, in advanceBody) (time.Time, error) {
	switch {
	case (in.By == "") == (in.To == ""):
		return time.Time{}, invalid("", "must have either by or to", "for example {\"by\":\"24h\"} or {\"to\":\"period-end\"}")
	case in.By != "":
		by, err := time.ParseDuration(in.By)
		if err != nil || by <= 0 {
			return time.Time{}, invalid("by", "must be a duration above 0", "write it like 24h or 90m")
		}
		return a.cfg.Clock.Now().Add(by), nil
	case in.To == "period-end":
		end, err := a.cfg.Bill.PeriodEnd(ctx)
		if errors.Is(err, account.ErrNotFound) {
			return end, newProblem(codeState, "There is no active subscription, so no billing period ends.")
		}
		return end, err
	}
	var t time.Time
	if t.UnmarshalText([]byte(in.To)) != nil {
		return t, invalid("to", "must be period-end or an RFC 3339 instant", "write it like 2026-11-01T00:00:00Z")
	}
	return t, nil
}

// lastNumber is the highest invoice number so far.
func (a *api) lastNumber(ctx context.Context) (int64, error) {
	list, err := a.cfg.Bill.Invoices(ctx, store.Query{Limit: 1})
	if err != nil || len(list) == 0 {
		return 0, err
	}
	return list[0].Number, nil
}
