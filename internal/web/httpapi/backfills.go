package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/tallystick/tallystick/internal/app/correct"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/store"
)

type backfillBody struct {
	ID        string       `json:"id"`
	Name      string       `json:"name"`
	Reason    string       `json:"reason"`
	State     string       `json:"state" enum:"open,closing,closed,reverting,reverted" doc:"open: takes events, which count for nothing yet; closing and reverting: a job is at work"`
	OpenedAt  time.Time    `json:"opened_at"`
	OpenedBy  string       `json:"opened_by"`
	ChangedAt time.Time    `json:"changed_at" doc:"When it was opened, closed or reverted last"`
	ChangedBy string       `json:"changed_by"`
	Progress  progressBody `json:"progress" doc:"Of the last close or revert"`
}

type progressBody struct {
	Events    int64 `json:"events" doc:"Gone through"`
	Counted   int64 `json:"counted"`
	Unmatched int64 `json:"unmatched" doc:"That no meter or customer wanted"`
	Voided    int64 `json:"voided"`
}

func backfillOf(b store.Backfill) backfillBody {
	return backfillBody{
		ID: b.ID, Name: b.Name, Reason: b.Reason, State: string(b.State), OpenedAt: instant(b.OpenedAt), OpenedBy: b.OpenedBy,
		ChangedAt: instant(b.ChangedAt), ChangedBy: b.ChangedBy, Progress: progressBody{b.Events, b.Counted, b.Unmatched, b.Voided},
	}
}

type newBackfillBody struct {
	Name   string `json:"name" doc:"Your name for it; accepted wherever its id is"`
	Reason string `json:"reason" maxLength:"256" doc:"Kept with it for ever"`
}

type previewBody struct {
	Backfill  backfillBody `json:"backfill"`
	Action    string       `json:"action" enum:"close,revert" doc:"What is previewed"`
	Position  uint64       `json:"position" doc:"Of the journal, that from is of"`
	Events    int64        `json:"events"`
	Unmatched int64        `json:"unmatched" doc:"Would count for nothing"`
	Voided    int64        `json:"voided" doc:"Were voided one by one"`
	Complete  bool         `json:"complete" doc:"false: more than one preview takes"`
	Items     []effectBody `json:"items" doc:"By customer, meter and period"`
}

type effectBody struct {
	Customer string         `json:"customer" doc:"The customer's key"`
	Meter    string         `json:"meter"`
	Period   spanBody       `json:"period"`
	Billed   bool           `json:"billed" doc:"false: the customer had no subscription then, and period is a calendar month"`
	Closed   *closedBody    `json:"closed,omitempty" doc:"The period is closed: its invoice stays, and the change is a late arrival"`
	Events   int64          `json:"events"`
	From     money.Decimal  `json:"from"`
	To       *money.Decimal `json:"to,omitempty" doc:"Absent: usage of this meter does not add up"`
}

func (a *api) backfills() {
	const tag = "backfills"
	handle(a, operation{
		method: http.MethodPost, path: "/v1/backfills", id: "open-backfill", tag: tag, summary: "Open a backfill",
		description: "Load it by POST /v1/events?backfill=NAME: its events may be 10 years old, and count for nothing before it is closed.", status: http.StatusCreated,
	}, func(ctx context.Context, in *struct{ Body newBackfillBody }) (backfillBody, error) {
		b, err := a.cfg.Correct.OpenBackfill(ctx, operator, in.Body.Name, in.Body.Reason)
		return backfillOf(b), err
	})
	handle(a, operation{
		method: http.MethodGet, path: "/v1/backfills", id: "list-backfills", tag: tag, summary: "List backfills, newest first",
	}, func(ctx context.Context, in *Paging) (listBody[backfillBody], error) {
		from, err := placeOfID("backfills", "bfl_", in.Cursor)
		if err != nil {
			return listBody[backfillBody]{}, err
		}
		rows, err := a.cfg.Correct.ListBackfills(ctx, store.Query{Cursor: from, Limit: in.fetch()})
		return listOf(*in, "backfills", rows, func(b store.Backfill) string { return b.ID }, backfillOf), err
	})
	handle(a, operation{
		method: http.MethodGet, path: "/v1/backfills/{ref}", id: "get-backfill", tag: tag, summary: "Show a backfill",
	}, func(ctx context.Context, in *Ref) (backfillBody, error) {
		b, err := a.cfg.Correct.Backfill(ctx, in.Ref)
		return backfillOf(b), notFoundAs(err, "backfill")
	})
	handle(a, operation{
		method: http.MethodGet, path: "/v1/backfills/{ref}/preview", id: "preview-backfill", tag: tag,
		summary: "What closing an open backfill, or reverting a closed one, would do to usage",
	}, a.previewBackfill)
	handle(a, operation{
		method: http.MethodPost, path: "/v1/backfills/{ref}/close", id: "close-backfill", tag: tag, summary: "Let a backfill's events count",
		description: "A job does it; progress shows how far it is.", status: http.StatusAccepted,
	}, func(ctx context.Context, in *Ref) (backfillBody, error) {
		b, err := a.cfg.Correct.CloseBackfill(ctx, operator, in.Ref)
		return backfillOf(b), notFoundAs(err, "backfill")
	})
	handle(a, operation{
		method: http.MethodPost, path: "/v1/backfills/{ref}/revert", id: "revert-backfill", tag: tag, summary: "Void all events of a backfill",
		description: "Open or closed. A job does it; progress shows how far it is.", status: http.StatusAccepted,
	}, func(ctx context.Context, in *struct {
		Ref
		Body struct {
			Reason string `json:"reason" maxLength:"256"`
		}
	},
	) (backfillBody, error) {
		b, err := a.cfg.Correct.RevertBackfill(ctx, operator, in.Ref.Ref, in.Body.Reason)
		return backfillOf(b), notFoundAs(err, "backfill")
	})
}

func (a *api) previewBackfill(ctx context.Context, in *Ref) (previewBody, error) {
	p, err := a.cfg.Correct.Preview(ctx, in.Ref)
	if err != nil {
		return previewBody{}, notFoundAs(err, "backfill")
	}
	out := previewBody{
		Backfill: backfillOf(p.Backfill), Action: "close", Position: p.Position, Events: p.Events, Unmatched: p.Unmatched, Voided: p.Voided,
		Complete: p.Complete, Items: make([]effectBody, 0, len(p.Effects)),
	}
	if p.Backfill.State == store.BackfillClosed {
		out.Action = "revert"
	}
	for _, e := range p.Effects {
		item, err := a.effectOf(ctx, e)
		if err != nil {
			return previewBody{}, err
		}
		out.Items = append(out.Items, item)
	}
	return out, nil
}

func (a *api) effectOf(ctx context.Context, e correct.Effect) (effectBody, error) {
	out := effectBody{
		Customer: e.Customer.Key, Meter: e.Meter, Period: spanOf(e.Period), Billed: e.Billed, Events: e.Events, From: e.From, To: e.To,
	}
	if e.Close == nil {
		return out, nil
	}
	closed, err := a.closedOf(ctx, *e.Close)
	out.Closed = &closed
	return out, err
}
