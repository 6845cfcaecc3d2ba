package client

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"time"
)

// NewReservation asks for quota for work that is no proxied request.
type NewReservation struct {
	Customer string `json:"customer,omitempty"` // id or key; or KeyID
	KeyID    string `json:"key_id,omitempty"`
	User     string `json:"user,omitempty"`
	Meter    string `json:"meter,omitempty"`
	Route    string `json:"route,omitempty"`     // a route's match in the catalog
	Cost     string `json:"cost,omitempty"`      // decimal, in the meter's unit; default: the route's, or 1
	TTL      int64  `json:"ttl_s,omitempty"`     // seconds; default: 60
	OnExpiry string `json:"on_expiry,omitempty"` // "charge", the default, or "release"
	Ref      string `json:"ref,omitempty"`       // a text of your own: the same call with the same ref gives the same reservation
}

// Reservation is quota that was taken.
type Reservation struct {
	ID         string    `json:"id"`
	Customer   string    `json:"customer"`
	Meter      string    `json:"meter"`
	Route      string    `json:"route"`
	State      string    `json:"state"` // open, settled, released, expired
	Reserved   string    `json:"reserved"`
	Charged    string    `json:"charged"`
	ExpiresAt  time.Time `json:"expires_at"`
	OnExpiry   string    `json:"on_expiry"`
	DecisionID string    `json:"decision_id"`
}

type settleBody struct {
	Cost string `json:"cost,omitempty"`
}

type extendBody struct {
	TTL int64 `json:"ttl_s,omitempty"`
}

// Reserve takes quota. It is repeated with one Idempotency-Key while the server cannot be reached, and never takes twice. A denial
// is a *Problem.
func (c *Client) Reserve(ctx context.Context, n NewReservation) (Reservation, error) {
	var r Reservation
	return r, c.try(ctx, call{method: http.MethodPost, path: "/v1/reservations", body: n, repeat: repeatKey()}, &r)
}

// Settle charges a reservation with what the work did cost, a decimal in the meter's unit; empty: what was reserved.
func (c *Client) Settle(ctx context.Context, id, cost string) (Reservation, error) {
	return c.reservation(ctx, id, "settle", settleBody{cost})
}

// Release gives a reservation back.
func (c *Client) Release(ctx context.Context, id string) (Reservation, error) {
	return c.reservation(ctx, id, "release", struct{}{})
}

// Extend lets a reservation live for ttl from now on, in whole seconds.
func (c *Client) Extend(ctx context.Context, id string, ttl time.Duration) (Reservation, error) {
	return c.reservation(ctx, id, "extend", extendBody{int64(ttl / time.Second)})
}

func (c *Client) reservation(ctx context.Context, id, verb string, body any) (Reservation, error) {
	var r Reservation
	return r, c.try(ctx, call{method: http.MethodPost, path: "/v1/reservations/" + url.PathEscape(id) + "/" + verb, body: body}, &r)
}

// Event is a CloudEvent that reports usage. Its identity is (Source, ID): reported twice it counts once.
type Event struct {
	ID      string
	Source  string
	Type    string
	Subject string    // the customer's id or key
	Time    time.Time // zero: the time of receipt
	Data    any       // a JSON object
}

// MarshalJSON writes the event as CloudEvents 1.0.
func (e Event) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Version string    `json:"specversion"`
		ID      string    `json:"id"`
		Source  string    `json:"source"`
		Type    string    `json:"type"`
		Subject string    `json:"subject,omitempty"`
		Time    time.Time `json:"time,omitzero"`
		Data    any       `json:"data,omitempty"`
	}{"1.0", e.ID, e.Source, e.Type, e.Subject, e.Time, e.Data})
}

// Outcome is what became of one event.
type Outcome struct {
	Status  string `json:"status"` // accepted, duplicate, conflict, rejected, unmatched
	ID      string `json:"id"`
	Pointer string `json:"pointer"`
	Rule    string `json:"rule"`
	Fix     string `json:"fix"`
}

// Report is what became of a batch.
type Report struct {
	Accepted  int       `json:"accepted"`
	Duplicate int       `json:"duplicate"`
	Conflict  int       `json:"conflict"`
	Rejected  int       `json:"rejected"`
	Unmatched int       `json:"unmatched"`
	Outcomes  []Outcome `json:"outcomes"` // one for each event, in order
}

// EventsMax is how many events a batch may have.
const EventsMax = 10_000

// ErrBatch says that a batch is empty or too long.
var ErrBatch = errors.New("client: a batch has 1 to 10,000 events")

// ReportEvents reports usage; after the answer it is on the server's disk. The batch is repeated while the server cannot take it,
// which is safe: events have identities. Events that break a rule are no error: look at the outcomes.
func (c *Client) ReportEvents(ctx context.Context, events []Event) (Report, error) {
	if len(events) == 0 || len(events) > EventsMax {
		return Report{}, ErrBatch
	}
	var r Report
	return r, c.try(ctx, call{
		method: http.MethodPost, path: "/v1/events", body: events, contentType: "application/cloudevents-batch+json", patient: true,
	}, &r)
}

// UsageQuery asks for metered usage.
type UsageQuery struct {
	Customers []string // ids or keys; empty: all
	Meter     string
	From, To  time.Time // zero: the current billing period, of several customers the month
	Window    string    // 15m, hour, day, week, month, billing_period; empty: the server's choice
	GroupBy   []string
	Where     []string // DIMENSION:VALUE
}

// Usage is metered usage. Values are decimals.
type Usage struct {
	Customer string        `json:"customer"`
	Meter    string        `json:"meter"`
	From     time.Time     `json:"from"`
	To       time.Time     `json:"to"`
	Value    string        `json:"value"` // where nothing is grouped
	Position uint64        `json:"position"`
	Windows  []UsageWindow `json:"windows"`
	Items    []UsageItem   `json:"items"`
	Next     *string       `json:"next"`
}

// UsageItem is one group.
type UsageItem struct {
	Customer   string            `json:"customer"`
	Dimensions map[string]string `json:"dimensions"`
	Value      string            `json:"value"`
	Events     int64             `json:"events"`
	Windows    []UsageWindow     `json:"windows"`
}

// UsageWindow is one span of a calendar.
type UsageWindow struct {
	Start time.Time `json:"start"`
	End   time.Time `json:"end"`
	Value string    `json:"value"`
}

// Usage looks up metered usage: the first page.
func (c *Client) Usage(ctx context.Context, q UsageQuery) (Usage, error) {
	v := url.Values{"meter": {q.Meter}}
	for name, list := range map[string][]string{"customer": q.Customers, "group_by": q.GroupBy, "where": q.Where} {
		if len(list) > 0 {
			v[name] = list
		}
	}
	if !q.From.IsZero() {
		v.Set("from", q.From.UTC().Format(time.RFC3339Nano))
	}
	if !q.To.IsZero() {
		v.Set("to", q.To.UTC().Format(time.RFC3339Nano))
	}
	if q.Window != "" {
		v.Set("window", q.Window)
	}
	var u Usage
	return u, c.try(ctx, call{method: http.MethodGet, path: "/v1/usage?" + v.Encode(), patient: true}, &u)
}

// Limit is a limit with its present state. Quantities are decimals.
type Limit struct {
	Limit       string    `json:"limit"`
	Kind        string    `json:"kind"`
	Meter       string    `json:"meter"`
	Window      string    `json:"window"`
	Consumed    string    `json:"consumed"`
	Quota       string    `json:"quota"`
	Remaining   string    `json:"remaining"`
	ResetsAt    time.Time `json:"resets_at"`
	WindowStart time.Time `json:"window_start"`
	Enforcement string    `json:"enforcement"`
	Bound       string    `json:"bound"`
	Currency    string    `json:"currency"`
}

// Limits are all limits of a customer. What open blocks hold counts as consumed.
type Limits struct {
	Customer   string  `json:"customer"`
	CustomerID string  `json:"customer_id"`
	Plan       string  `json:"plan"`
	Items      []Limit `json:"items"`
}

// Limits looks up a customer by id or key.
func (c *Client) Limits(ctx context.Context, customer string) (Limits, error) {
	var l Limits
	return l, c.try(ctx, call{method: http.MethodGet, path: "/v1/customers/" + url.PathEscape(customer) + "/limits", patient: true}, &l)
}

// LimitsOfKey is what the owner of an API key may see; it needs no other token.
func (c *Client) LimitsOfKey(ctx context.Context, secret string) (Limits, error) {
	var l Limits
	return l, c.try(ctx, call{method: http.MethodGet, path: "/v1/limits/me", token: secret, patient: true}, &l)
}

// Explanation says why a request was admitted or refused.
type Explanation struct {
	Outcome     string    `json:"outcome"` // allowed, denied, unavailable
	Code        string    `json:"code"`
	DecisionID  string    `json:"decision_id"`
	Time        time.Time `json:"time"`
	Customer    string    `json:"customer"`
	KeyID       string    `json:"key_id"`
	Plan        string    `json:"plan"`
	Route       string    `json:"route"`
	Meter       string    `json:"meter"`
	Cost        string    `json:"cost"` // of the whole block, where it was admitted from one
	Limit       string    `json:"limit"`
	Consumed    string    `json:"consumed"`
	Quota       string    `json:"quota"`
	ResetsAt    time.Time `json:"resets_at"`
	WouldPassOn []string  `json:"would_pass_on"`
}

// Explain reads a Decision-Id.
func (c *Client) Explain(ctx context.Context, decisionID string) (Explanation, error) {
	var e Explanation
	body := struct {
		DecisionID string `json:"decision_id"`
	}{decisionID}
	return e, c.try(ctx, call{method: http.MethodPost, path: "/v1/decisions/explain", body: body, patient: true}, &e)
}
