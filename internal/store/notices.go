package store

import (
	"context"
	"time"
)

// Notice is something that a customer or an operator is told once: a limit's threshold was passed, use is abnormal.
type Notice struct {
	ID         string // ntc_…
	Kind       string // "limit.threshold"
	CustomerID string
	Once       string // two notices with the same are one
	At         time.Time
	Body       []byte // canonical JSON, as it is sent
}

// Webhook is where notices are sent.
type Webhook struct {
	ID         string // whk_…
	URL        string
	Kinds      []string // empty: all
	CreatedAt  time.Time
	DisabledAt time.Time // zero: in use
}

// DeliveryState is where a delivery stands.
type DeliveryState string

// The states of a delivery.
const (
	DeliveryDue       DeliveryState = "due"
	DeliveryDelivered DeliveryState = "delivered"
	DeliveryFailed    DeliveryState = "failed" // given up
)

// Delivery is one notice on its way to one webhook.
type Delivery struct {
	NoticeID, WebhookID string
	State               DeliveryState
	Attempts            int
	NextAt              time.Time // of a due one
	LastAt              time.Time
	LastError           string // of the last attempt, at most 200 bytes
}

// Notices keeps notices and their way to webhooks.
type Notices interface {
	// PutNotice stores a notice with a delivery, due at once, for each webhook in use that wants its kind. False when one with the
	// same Once is there: then nothing is stored.
	PutNotice(ctx context.Context, n Notice) (bool, error)
	ListNotices(ctx context.Context, q Query) ([]Notice, error)
	Notice(ctx context.Context, id string) (Notice, error)
	// PruneNotices drops those of before, with their deliveries.
	PruneNotices(ctx context.Context, before time.Time) error
}

// Webhooks keeps where notices go.
type Webhooks interface {
	PutWebhook(ctx context.Context, w Webhook, a Audit) error
	// DisableWebhook ends one, and what is due to it fails; doing it twice keeps the first time. ErrNotFound.
	DisableWebhook(ctx context.Context, id string, at time.Time, a Audit) (Webhook, error)
	ListWebhooks(ctx context.Context, q Query) ([]Webhook, error)
	// DueDeliveries are due at or before now, the longest due first; of one webhook at most a tenth of limit, so that one that does
	// not answer holds up no other.
	DueDeliveries(ctx context.Context, now time.Time, limit int) ([]Delivery, error)
	DeliveriesOf(ctx context.Context, noticeID string) ([]Delivery, error) // by webhook
	// PutDelivery replaces a delivery's state. ErrNotFound.
	PutDelivery(ctx context.Context, d Delivery) error
}

// Messages keeps what is told, and to whom.
type Messages interface {
	Notices
	Webhooks
}
