package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/tallystick/tallystick/internal/app/correct"
	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/core/receipt"
	"github.com/tallystick/tallystick/internal/store"
)

// EventOfSource names an event: its id in the path, its source in the query.
type EventOfSource struct {
	ID     string `path:"id"`
	Source string `query:"source" doc:"Of the event. Default: that of the gateway that made the id"`
}

// Resolve implements huma.Resolver.
func (e *EventOfSource) Resolve(huma.Context) []error {
	e.Source = sourceOf(e.Source, e.ID)
	return nil
}

// sourceOf is a source that was given, or that of the gateway that made an id.
func sourceOf(source, id string) string {
	short, err := receipt.ParseShortID(id)
	if err != nil {
		return source
	}
	return firstOf(source, enforce.SourceOf(short.Node))
}

type voidBody struct {
	Reason   string  `json:"reason" maxLength:"256" doc:"Kept with the change for ever"`
	Revision *uint64 `json:"revision,omitempty" doc:"Answer 409 when the event has another revision than this one by now"`
}

type amendBody struct {
	Reason   string         `json:"reason" maxLength:"256" doc:"Kept with the change for ever"`
	Revision *uint64        `json:"revision,omitempty" doc:"Answer 409 when the event has another revision than this one by now"`
	Type     *string        `json:"type,omitempty" maxLength:"256" doc:"Default: as it is"`
	Subject  *string        `json:"subject,omitempty" maxLength:"256" doc:"Default: as it is"`
	Data     map[string]any `json:"data,omitempty" doc:"All of it; default: as it is"`
}

type revisedBody struct {
	Kind     string          `json:"kind" enum:"accepted,amend,void,resolve" doc:"accepted: as it came; resolve: the same content counts for something else"`
	Revision uint64          `json:"revision" doc:"0 for the event as it came"`
	At       time.Time       `json:"at"`
	Actor    string          `json:"actor,omitempty"`
	Reason   string          `json:"reason,omitempty"`
	Type     string          `json:"type"`
	Subject  string          `json:"subject"`
	Data     json.RawMessage `json:"data"`
	Readings []readingBody   `json:"readings" doc:"What it counted for from then on"`
}

type historyBody struct {
	ID     string        `json:"id"`
	Source string        `json:"source"`
	Items  []revisedBody `json:"items" doc:"Oldest first"`
}

func (a *api) revisions() {
	const tag = "events"
	handle(a, operation{
		method: http.MethodPost, path: "/v1/events/{id}/void", id: "void-event", tag: tag, summary: "Let an event count for nothing",
		description: "Its content and history are kept. Voiding it again changes nothing.",
	}, func(ctx context.Context, in *struct {
		EventOfSource
		Body voidBody
	},
	) (eventBody, error) {
		return a.corrected(a.cfg.Correct.Void(ctx, in.change(in.Body)))
	})
	handle(a, operation{
		method: http.MethodPost, path: "/v1/events/{id}/amend", id: "amend-event", tag: tag, summary: "Give an event another type, subject or data",
		description: "The new content obeys the rules of new events and counts at the event's own time. Identity and time stay. A voided event counts again.",
	}, func(ctx context.Context, in *struct {
		EventOfSource
		Body amendBody
	},
	) (eventBody, error) {
		to := correct.Content{Type: in.Body.Type, Subject: in.Body.Subject}
		if in.Body.Data != nil {
			data, err := dataOf(callOf(ctx).body)
			if err != nil {
				return eventBody{}, err
			}
			to.Data = data
		}
		return a.corrected(a.cfg.Correct.Amend(ctx, in.change(voidBody{in.Body.Reason, in.Body.Revision}), to))
	})
	handle(a, operation{
		method: http.MethodGet, path: "/v1/events/{id}/history", id: "get-event-history", tag: tag, summary: "All that was done to an event",
	}, a.history)
}

// dataOf is the data as it was sent: a number keeps all its digits.
func dataOf(body []byte) (json.RawMessage, error) {
	var sent struct {
		Data json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(body, &sent); err != nil {
		return nil, fmt.Errorf("read data again: %w", err)
	}
	return sent.Data, nil
}

func (e EventOfSource) change(b voidBody) correct.Change {
	return correct.Change{Source: e.Source, ID: e.ID, Actor: operator, Reason: b.Reason, Revision: b.Revision}
}

func (a *api) corrected(r store.Record, err error) (eventBody, error) {
	if errors.Is(err, store.ErrConflict) {
		return eventBody{}, newProblem(codeConflict, "The event has another revision by now.")
	}
	if err != nil {
		return eventBody{}, notFoundAs(err, "event of this source")
	}
	return a.eventOf(r, "", ""), nil
}

func (a *api) history(ctx context.Context, in *EventOfSource) (historyBody, error) {
	list, err := a.cfg.Correct.History(ctx, in.Source, in.ID)
	if err != nil {
		return historyBody{}, notFoundAs(err, "event of this source")
	}
	out := historyBody{ID: in.ID, Source: in.Source, Items: make([]revisedBody, 0, len(list))}
	for _, r := range list {
		item := revisedBody{
			Kind: kindOf(r.Kind), At: instant(r.At), Actor: r.Actor, Reason: r.Reason, Type: r.Event.Type, Subject: r.Event.Subject,
			Data: json.RawMessage("null"), Readings: make([]readingBody, 0, len(r.Resolutions)),
		}
		if r.Kind != 0 {
			item.Revision = r.Position
		}
		if len(r.Event.Data) > 0 {
			item.Data = r.Event.Data
		}
		for _, x := range r.Resolutions {
			item.Readings = append(item.Readings, readingBody{a.customerKey(x.CustomerID), x.Meter, x.Value})
		}
		out.Items = append(out.Items, item)
	}
	return out, nil
}

func kindOf(k store.RevisionKind) string {
	switch k {
	case store.Amend:
		return "amend"
	case store.Void:
		return "void"
	case store.Resolve:
		return "resolve"
	}
	return "accepted"
}
