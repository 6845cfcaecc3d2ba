package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/tallystick/tallystick/internal/app/ingest"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/store"
)

// EventBody is a stored event. Customer, meter and value are of one of its readings: the one that was asked for, else the first.
type EventBody struct {
	ID         string          `json:"id"`
	Source     string          `json:"source"`
	Type       string          `json:"type"`
	Subject    string          `json:"subject"`
	Time       time.Time       `json:"time"`
	ReceivedAt time.Time       `json:"received_at"`
	Position   uint64          `json:"position" doc:"In the journal"`
	Customer   string          `json:"customer" doc:"The customer's key; empty: unmatched"`
	Meter      string          `json:"meter" doc:"Empty: unmatched"`
	Value      money.Decimal   `json:"value"`
	Origin     string          `json:"origin" enum:"admitted,reported" doc:"Counted by a gateway of ours, or reported from outside"`
	KeyID      string          `json:"key_id,omitempty"`
	DecisionID string          `json:"decision_id,omitempty" doc:"Of admitted events: what the client was told"`
	Data       json.RawMessage `json:"data"`
	Flags      []string        `json:"flags" doc:"recovered: settled after a crash; incomplete: the answer was cut off; held: loaded by an open backfill, counts for nothing yet; filtered: the filters of the meters leave it out; overshoot: it did cost more than was reserved; refund_denied: charged, since the refunds of the day were used up"`
	Revision   uint64          `json:"revision,omitempty" doc:"Of its newest change; absent: never changed"`
	Voided     bool            `json:"voided,omitempty" doc:"It counts for nothing any more"`
	Erased     bool            `json:"erased,omitempty" doc:"Its subject and data are gone"`
	Backfill   string          `json:"backfill,omitempty" doc:"Id of the backfill that loaded it"`
	Status     int             `json:"status,omitempty" doc:"HTTP status of the upstream's answer"`
	Readings   []readingBody   `json:"readings" doc:"Every meter's reading"`
}

type eventBody = EventBody

type readingBody struct {
	Customer string        `json:"customer"`
	Meter    string        `json:"meter"`
	Value    money.Decimal `json:"value"`
}

type eventLineBody struct {
	InvoiceID     string `json:"invoice_id"`
	InvoiceStatus string `json:"invoice_status" enum:"preview,draft,finalized"`
	LineID        string `json:"line_id"`
	Number        int    `json:"number"`
}

type eventLinesBody struct {
	EventBody
	Lines []eventLineBody `json:"lines" doc:"Invoice lines that it stands on"`
}

// eventOf shows the reading of a customer and a meter, either of which may be empty.
func (a *api) eventOf(r store.Record, customerID, meterKey string) eventBody {
	e := r.Event
	out := eventBody{
		ID: e.ID, Source: e.Source, Type: e.Type, Subject: e.Subject, Time: instant(e.Time), ReceivedAt: instant(r.ReceivedAt), Position: r.Position,
		KeyID: r.KeyID, Revision: r.Revision, Voided: r.Voided, Erased: r.Erased, Backfill: r.Unit, Data: json.RawMessage("null"), Flags: []string{}, Readings: make([]readingBody, 0, len(r.Resolutions)),
	}
	found := false
	for i, res := range r.Resolutions {
		reading := readingBody{a.customerKey(res.CustomerID), res.Meter, res.Value}
		out.Readings = append(out.Readings, reading)
		wanted := (customerID == "" || customerID == res.CustomerID) && (meterKey == "" || meterKey == res.Meter)
		if i == 0 || wanted && !found {
			out.Customer, out.Meter, out.Value = reading.Customer, reading.Meter, reading.Value
		}
		found = found || wanted
	}
	switch r.Origin {
	case meter.Admitted:
		out.Origin = "admitted"
	case meter.Reported:
		out.Origin = "reported"
	}
	if r.Flags&store.Recovered != 0 {
		out.Flags = append(out.Flags, "recovered")
	}
	if r.Flags&store.Incomplete != 0 {
		out.Flags = append(out.Flags, "incomplete")
	}
	if r.Flags&store.Held != 0 && !r.Voided && len(r.Resolutions) == 0 {
		out.Flags = append(out.Flags, "held")
	}
	if r.Flags&store.Filtered != 0 {
		out.Flags = append(out.Flags, "filtered")
	}
	if r.Flags&store.Overshoot != 0 {
		out.Flags = append(out.Flags, "overshoot")
	}
	if r.Flags&store.RefundDenied != 0 {
		out.Flags = append(out.Flags, "refund_denied")
	}
	if len(e.Data) > 0 {
		out.Data = e.Data
		out.Status = statusIn(e.Data)
	}
	out.DecisionID = a.decisionID(r)
	return out
}

// statusIn is data.status where that is a whole number, else 0.
func statusIn(data []byte) int {
	var d struct {
		Status json.RawMessage `json:"status"`
	}
	var n int
	if json.Unmarshal(data, &d) != nil || json.Unmarshal(d.Status, &n) != nil {
		return 0 // data is free in form
	}
	return n
}

// decisionID is empty without a receipt, and when the key that sealed it is no longer kept.
func (a *api) decisionID(r store.Record) string {
	if len(r.Receipt) == 0 {
		return ""
	}
	id, _, err := a.cfg.Enforce.DecisionID(r.Receipt)
	if err != nil {
		a.cfg.Log.Warn("an event's decision cannot be named", slog.String("event", r.Event.ID), slog.Any("error", err))
		return ""
	}
	return id
}

func (a *api) events() {
	const tag = "events"
	a.reportRoute(tag)
	handle(a, operation{
		method: http.MethodGet, path: "/v1/events", id: "list-events", tag: tag, summary: "List stored events, newest first",
		description: "A page may hold fewer events than limit and yet have a next one.",
	}, a.listEvents)
	handle(a, operation{
		method: http.MethodGet, path: "/v1/events/{id}", id: "get-event", tag: tag, summary: "Show an event and the invoice lines that it stands on",
	}, a.event)
}

type eventsInput struct {
	OfCustomer
	Meter string `query:"meter"`
}

func (a *api) listEvents(ctx context.Context, in *eventsInput) (listBody[eventBody], error) {
	const kind = "events"
	id, err := a.filter(in.Customer)
	if err != nil {
		return listBody[eventBody]{}, err
	}
	from, err := place(kind, in.Cursor)
	if err != nil {
		return listBody[eventBody]{}, err
	}
	p, err := a.cfg.Ingest.Events(ctx, ingest.Scan{
		SeriesKey: ingest.SeriesKey{CustomerID: id, Meter: in.Meter}, Cursor: from, Limit: in.Limit, NewestFirst: true,
	})
	if from != "" && errors.Is(err, account.ErrInvalid) {
		return listBody[eventBody]{}, newProblem(codeCursorInvalid, "")
	}
	if err != nil {
		return listBody[eventBody]{}, err
	}
	out := listBody[eventBody]{Items: make([]eventBody, 0, len(p.Records))}
	for _, r := range p.Records {
		out.Items = append(out.Items, a.eventOf(r, id, in.Meter))
	}
	if p.Next != "" {
		next := cursor(kind, p.Next)
		out.Next = &next
	}
	return out, nil
}

func (a *api) event(ctx context.Context, in *EventOfSource) (eventLinesBody, error) {
	r, err := a.cfg.Ingest.Event(ctx, in.Source, in.ID)
	if err != nil {
		return eventLinesBody{}, notFoundAs(err, "event of this source")
	}
	out := eventLinesBody{a.eventOf(r, "", ""), []eventLineBody{}}
	_, invoices, lines, err := a.cfg.Bill.LineOf(ctx, in.Source, in.ID)
	if errors.Is(err, account.ErrNotFound) {
		return out, nil // it stands on none
	}
	if err != nil {
		return eventLinesBody{}, err
	}
	for i, l := range lines {
		out.Lines = append(out.Lines, eventLineBody{invoices[i].ID, string(invoices[i].Status), l.ID, l.Number})
	}
	return out, nil
}
