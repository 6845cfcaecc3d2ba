package sendertest

import (
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// Notices checks a driver's promises about notices, webhooks and deliveries.
func Notices(t *testing.T, open func(t *testing.T) store.Records) {
	t.Run("Notices", func(t *testing.T) {
		t.Parallel()
		notices(t, open(t))
	})
}

func notices(t *testing.T, r store.Records) {
	ctx := t.Context()
	cust := account.Customer{ID: id("cus", 1), Key: "acme", Name: "x", Zone: period.MustZone("UTC"), Currency: money.MustCurrency("USD"), CreatedAt: noon(1)}
	ok(t, r.PutCustomer(ctx, cust, audit(100)))
	everything := store.Webhook{ID: id("whk", 1), URL: "https://a.example/x", Kinds: []string{}, CreatedAt: noon(1)}
	some := store.Webhook{ID: id("whk", 2), URL: "https://b.example/", Kinds: []string{"limit.threshold", "credits.low"}, CreatedAt: noon(2)}
	ok(t, r.PutWebhook(ctx, everything, audit(1)))
	ok(t, r.PutWebhook(ctx, some, audit(2)))
	wantErr(t, "taken id", r.PutWebhook(ctx, some, audit(3)), store.ErrExists)
	put := func(n int, kind, once string) store.Notice {
		t.Helper()
		x := store.Notice{ID: id("ntc", n), Kind: kind, CustomerID: cust.ID, Once: once, At: noon(n), Body: []byte(`{"n":1}`)}
		added, err := r.PutNotice(ctx, x)
		ok(t, err)
		same(t, "added", added, true)
		return x
	}
	first, second := put(3, "limit.threshold", "a"), put(4, "usage.abnormal", "b")
	again := second
	again.ID, again.Once = id("ntc", 5), "a"
	added, err := r.PutNotice(ctx, again)
	ok(t, err)
	same(t, "added again", added, false)
	_, err = r.PutNotice(ctx, store.Notice{ID: id("ntc", 6), CustomerID: id("cus", 9), Once: "c", At: noon(3), Body: []byte("{}")})
	wantErr(t, "unknown customer", err, store.ErrNotFound)
	got, err := r.ListNotices(ctx, store.Query{Limit: 10, CustomerID: cust.ID})
	ok(t, err)
	same(t, "notices", got, []store.Notice{second, first})
	one, err := r.Notice(ctx, first.ID)
	ok(t, err)
	same(t, "notice", one, first)
	due := func(n store.Notice, w store.Webhook) store.Delivery {
		return store.Delivery{NoticeID: n.ID, WebhookID: w.ID, State: store.DeliveryDue, NextAt: n.At}
	}
	list, err := r.DueDeliveries(ctx, noon(4), 100)
	ok(t, err)
	same(t, "due", list, []store.Delivery{due(first, everything), due(first, some), due(second, everything)})
	list, err = r.DueDeliveries(ctx, noon(3), 1)
	ok(t, err)
	same(t, "due first", list, []store.Delivery{due(first, everything)})
	list, err = r.DueDeliveries(ctx, noon(4), 10)
	ok(t, err)
	same(t, "one of each webhook", list, []store.Delivery{due(first, everything), due(first, some)})
	d := due(first, everything)
	d.State, d.NextAt, d.LastAt, d.Attempts = store.DeliveryDelivered, time.Time{}, noon(4), 1
	ok(t, r.PutDelivery(ctx, d))
	disabled, err := r.DisableWebhook(ctx, some.ID, noon(5), audit(4))
	ok(t, err)
	some.DisabledAt = noon(5)
	same(t, "disabled", disabled, some)
	disabled, err = r.DisableWebhook(ctx, some.ID, noon(6), audit(5))
	ok(t, err)
	same(t, "disabled again", disabled, some)
	_, err = r.DisableWebhook(ctx, id("whk", 9), noon(6), audit(5))
	wantErr(t, "disable none", err, store.ErrNotFound)
	failed := store.Delivery{NoticeID: first.ID, WebhookID: some.ID, State: store.DeliveryFailed, LastError: "the webhook was disabled"}
	list, err = r.DeliveriesOf(ctx, first.ID)
	ok(t, err)
	same(t, "deliveries", list, []store.Delivery{d, failed})
	d.WebhookID = id("whk", 9)
	wantErr(t, "no delivery", r.PutDelivery(ctx, d), store.ErrNotFound)
	hooks, err := r.ListWebhooks(ctx, store.Query{Limit: 10})
	ok(t, err)
	same(t, "webhooks", hooks, []store.Webhook{some, everything})
	ok(t, r.PruneNotices(ctx, noon(4)))
	got, err = r.ListNotices(ctx, store.Query{Limit: 10})
	ok(t, err)
	same(t, "notices left", got, []store.Notice{second})
}
