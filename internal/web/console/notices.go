package console

import (
	"fmt"
	"net/http"

	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/web/statement"
)

// Bounds of the notices' page.
const (
	noticesPage   = 50
	webhooksShown = 100
)

// noticeRow is a notice with what became of it.
type noticeRow struct {
	store.Notice
	customer   string
	deliveries []store.Delivery
}

type noticesView struct {
	rows     []noticeRow
	webhooks []store.Webhook
	next     string
	sent     bool // one was sent again
}

// notices lists what customers and operators were told, and where it goes.
func (c *console) notices(r *http.Request) (answer, error) {
	v := noticesView{sent: r.URL.Query().Get("sent") != ""}
	if c.Notify != nil {
		list, err := c.Notify.List(r.Context(), store.Query{Cursor: r.URL.Query().Get("cursor"), Limit: noticesPage})
		if err != nil {
			return answer{}, err
		}
		for _, n := range list {
			_, ds, err := c.Notify.Deliveries(r.Context(), n.ID)
			if err != nil {
				return answer{}, err
			}
			v.rows = append(v.rows, noticeRow{n, c.nameOf(n.CustomerID), ds})
		}
		if len(list) == noticesPage {
			v.next = list[len(list)-1].ID
		}
		if v.webhooks, err = c.Notify.Webhooks(r.Context(), govern.Query{Limit: webhooksShown}); err != nil {
			return answer{}, err
		}
	}
	return answer{page: noticesPageOf(c.frame(r, "Notices"), v)}, nil
}

// redeliver sends a notice again to the webhooks that it was meant for.
func (c *console) redeliver(r *http.Request) (answer, error) {
	if c.Notify == nil {
		return answer{}, fmt.Errorf("notice: %w", account.ErrNotFound)
	}
	if err := c.Notify.Redeliver(r.Context(), r.PathValue("id")); err != nil {
		return answer{}, err
	}
	return answer{to: "/notices?sent=1"}, nil
}

// deliveryState says what became of a notice on its way to one webhook.
func deliveryState(d store.Delivery) (tone, text string) {
	switch d.State {
	case store.DeliveryDelivered:
		return statement.Good, "delivered"
	case store.DeliveryFailed:
		return statement.Bad, "failed"
	case store.DeliveryDue:
		if d.Attempts > 0 {
			return statement.Notice, "retrying"
		}
		return "plain", "due"
	}
	return "plain", string(d.State)
}
