package httpapi

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/tallystick/tallystick/internal/app/notify"
	"github.com/tallystick/tallystick/internal/store"
)

// WebhookBody is a webhook as it is shown.
type WebhookBody struct {
	ID         string    `json:"id"`
	URL        string    `json:"url"`
	Kinds      []string  `json:"kinds" doc:"Kinds of notices; empty: all"`
	Status     string    `json:"status" enum:"active,disabled"`
	CreatedAt  time.Time `json:"created_at"`
	DisabledAt time.Time `json:"disabled_at,omitzero"`
}

type newWebhookBody struct {
	URL   string   `json:"url" doc:"Where notices are posted" example:"https://example.com/tally"`
	Kinds []string `json:"kinds,omitempty" doc:"Kinds of notices; default: all"`
}

type createdWebhookBody struct {
	WebhookBody
	Secret string `json:"secret" doc:"Signs what is sent, as Standard Webhooks has it" example:"whsec_…"`
}

// NoticeBody is a notice as it is shown.
type NoticeBody struct {
	ID       string          `json:"id"`
	Kind     string          `json:"kind"`
	Customer string          `json:"customer" doc:"The customer's key"`
	Time     time.Time       `json:"time"`
	Text     string          `json:"text" doc:"What it says, as a sentence"`
	Data     json.RawMessage `json:"data" doc:"As webhooks get it"`
}

type deliveryBody struct {
	Webhook   string    `json:"webhook"`
	State     string    `json:"state" enum:"due,delivered,failed"`
	Attempts  int       `json:"attempts"`
	NextAt    time.Time `json:"next_at,omitzero"`
	LastAt    time.Time `json:"last_at,omitzero"`
	LastError string    `json:"last_error,omitempty"`
}

type noticeWithDeliveries struct {
	NoticeBody
	Deliveries []deliveryBody `json:"deliveries"`
}

// ThingID names a webhook or notice in the path.
type ThingID struct {
	ID string `path:"id"`
}

func webhookOf(w store.Webhook) WebhookBody {
	out := WebhookBody{
		ID: w.ID, URL: w.URL, Kinds: append([]string{}, w.Kinds...), Status: "active", CreatedAt: instant(w.CreatedAt), DisabledAt: instant(w.DisabledAt),
	}
	if !w.DisabledAt.IsZero() {
		out.Status = "disabled"
	}
	return out
}

func (a *api) noticeOf(n store.Notice) NoticeBody {
	return NoticeBody{ID: n.ID, Kind: n.Kind, Customer: a.customerKey(n.CustomerID), Time: instant(n.At), Text: notify.Sentence(n), Data: n.Body}
}

func (a *api) withDeliveries(n store.Notice, ds []store.Delivery) noticeWithDeliveries {
	out := noticeWithDeliveries{a.noticeOf(n), make([]deliveryBody, 0, len(ds))}
	for _, d := range ds {
		out.Deliveries = append(out.Deliveries, deliveryBody{
			d.WebhookID, string(d.State), d.Attempts, instant(d.NextAt), instant(d.LastAt), d.LastError,
		})
	}
	return out
}

func (a *api) notices() {
	const tag = "notices"
	handle(a, operation{
		method: http.MethodPost, path: "/v1/webhooks", id: "create-webhook", tag: tag, status: http.StatusCreated, summary: "Send notices to a URL",
	}, func(ctx context.Context, in *struct{ Body newWebhookBody }) (createdWebhookBody, error) {
		w, secret, err := a.cfg.Notify.Create(ctx, operator, in.Body.URL, in.Body.Kinds)
		return createdWebhookBody{webhookOf(w), secret}, err
	})
	handle(a, operation{
		method: http.MethodGet, path: "/v1/webhooks", id: "list-webhooks", tag: tag, summary: "List webhooks, newest first",
	}, func(ctx context.Context, in *Paging) (listBody[WebhookBody], error) {
		const kind = "webhooks"
		from, err := placeOfID(kind, "whk_", in.Cursor)
		if err != nil {
			return listBody[WebhookBody]{}, err
		}
		rows, err := a.cfg.Notify.Webhooks(ctx, store.Query{Cursor: from, Limit: in.fetch()})
		return listOf(*in, kind, rows, func(w store.Webhook) string { return w.ID }, webhookOf), err
	})
	handle(a, operation{
		method: http.MethodPost, path: "/v1/webhooks/{id}/disable", id: "disable-webhook", tag: tag,
		summary: "Send nothing to a webhook any more; doing it again changes nothing",
	}, func(ctx context.Context, in *struct {
		ThingID
		Body *struct{}
	},
	) (WebhookBody, error) {
		w, err := a.cfg.Notify.Disable(ctx, operator, in.ID)
		return webhookOf(w), err
	})
	handle(a, operation{method: http.MethodGet, path: "/v1/notices", id: "list-notices", tag: tag, summary: "List notices, newest first"}, a.listNotices)
	handle(a, operation{
		method: http.MethodGet, path: "/v1/notices/{id}", id: "get-notice", tag: tag, summary: "Show a notice and its deliveries",
	}, func(ctx context.Context, in *ThingID) (noticeWithDeliveries, error) {
		n, ds, err := a.cfg.Notify.Deliveries(ctx, in.ID)
		return a.withDeliveries(n, ds), err
	})
	handle(a, operation{
		method: http.MethodPost, path: "/v1/notices/{id}/redeliver", id: "redeliver-notice", tag: tag, summary: "Send a notice again to the webhooks in use that it was meant for",
	}, func(ctx context.Context, in *struct {
		ThingID
		Body *struct{}
	},
	) (noticeWithDeliveries, error) {
		if err := a.cfg.Notify.Redeliver(ctx, in.ID); err != nil {
			return noticeWithDeliveries{}, err
		}
		n, ds, err := a.cfg.Notify.Deliveries(ctx, in.ID)
		return a.withDeliveries(n, ds), err
	})
}

func (a *api) listNotices(ctx context.Context, in *OfCustomer) (listBody[NoticeBody], error) {
	const kind = "notices"
	id, err := a.filter(in.Customer)
	if err != nil {
		return listBody[NoticeBody]{}, err
	}
	from, err := placeOfID(kind, "ntc_", in.Cursor)
	if err != nil {
		return listBody[NoticeBody]{}, err
	}
	rows, err := a.cfg.Notify.List(ctx, store.Query{Cursor: from, Limit: in.fetch(), CustomerID: id})
	return listOf(in.Paging, kind, rows, func(n store.Notice) string { return n.ID }, a.noticeOf), err
}
