package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/tallystick/tallystick/internal/app/ingest"
	"github.com/tallystick/tallystick/internal/core/meter"
)

// cloudEventBody is here for the OpenAPI document; ingest.ParseCloudEvent reads events.
type cloudEventBody struct {
	_           struct{}       `additionalProperties:"true"`
	SpecVersion string         `json:"specversion" enum:"1.0"`
	ID          string         `json:"id" doc:"With the source, the event's identity for ever" maxLength:"256"`
	Source      string         `json:"source" maxLength:"256"`
	Type        string         `json:"type" doc:"Selects the meters" maxLength:"256"`
	Subject     string         `json:"subject,omitempty" doc:"The customer's id or key" maxLength:"256"`
	Time        time.Time      `json:"time,omitzero" doc:"Default: the time of receipt"`
	Data        map[string]any `json:"data,omitempty"`
}

type outcomeBody struct {
	Status  string `json:"status" enum:"accepted,duplicate,conflict,rejected,unmatched"`
	ID      string `json:"id"`
	Pointer string `json:"pointer,omitempty" doc:"JSON Pointer into the event"`
	Rule    string `json:"rule,omitempty"`
	Fix     string `json:"fix,omitempty"`
	Digest  string `json:"digest,omitempty" doc:"Of a conflict: hex of this event's content"`
	Stored  string `json:"stored_digest,omitempty" doc:"Of a conflict: hex of the stored event's content"`
}

type reportedBody struct {
	Accepted  int           `json:"accepted"`
	Duplicate int           `json:"duplicate"`
	Conflict  int           `json:"conflict"`
	Rejected  int           `json:"rejected"`
	Unmatched int           `json:"unmatched" doc:"Kept, but counted by no meter"`
	Outcomes  []outcomeBody `json:"outcomes,omitempty" doc:"One for each event, in order"`
}

const (
	typeEvent = "application/cloudevents+json"
	typeBatch = "application/cloudevents-batch+json"
)

func (a *api) reportRoute(tag string) {
	event := a.schema(reflect.TypeFor[cloudEventBody]())
	longest := ingest.MaxEvents
	a.byHand(operation{
		method: http.MethodPost, path: "/v1/events", id: "report-events", tag: tag, summary: "Report usage",
		description: "CloudEvents 1.0, one or a batch of at most 10,000 events and 16 MiB. Each event has its own outcome; the answer follows the disk. " +
			"The status is 200 whenever the body could be read, whatever the outcomes are.",
	}, ingest.MaxBytes, map[string]*huma.Schema{
		typeEvent: event, jsonType: event, typeBatch: {Type: huma.TypeArray, Items: event, MaxItems: &longest},
	}, map[string]reflect.Type{"200": reflect.TypeFor[reportedBody]()}, []*huma.Param{{
		Name: "detail", In: "query", Description: "false leaves the outcomes out", Schema: &huma.Schema{Type: huma.TypeBoolean, Default: true},
	}}, a.report)
}

func (a *api) report(w http.ResponseWriter, r *http.Request) {
	detail, err := detailed(r)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	raws, err := rawEvents(r.Header.Get("Content-Type"), callOf(r.Context()).body)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	outcomes, err := a.ingestAll(r.Context(), raws)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, jsonType, reported(outcomes, detail))
}

func detailed(r *http.Request) (bool, error) {
	q := r.URL.Query()
	for name := range q {
		if name != "detail" {
			return false, invalid("", "unknown query parameter", "this route takes detail alone")
		}
	}
	switch q.Get("detail") {
	case "", "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, invalid("detail", "must be true or false", "")
}

// rawEvents takes a body apart without looking into the events.
func rawEvents(contentType string, body []byte) ([]json.RawMessage, error) {
	media, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		media = ""
	}
	switch media {
	case typeBatch:
		return rawBatch(body)
	case typeEvent, jsonType:
		if !json.Valid(body) {
			return nil, newProblem(codeMalformed, "The body must be one JSON object.")
		}
		return []json.RawMessage{body}, nil
	}
	return nil, newProblem(codeMediaType, "Send one event as "+typeEvent+", or an array of events as "+typeBatch+".")
}

func rawBatch(body []byte) ([]json.RawMessage, error) {
	malformed := newProblem(codeMalformed, "The body must be one JSON array of events. Nothing of it was stored.")
	dec := json.NewDecoder(bytes.NewReader(body))
	if t, err := dec.Token(); err != nil || t != json.Delim('[') {
		return nil, malformed
	}
	var raws []json.RawMessage
	for dec.More() {
		if len(raws) == ingest.MaxEvents {
			return nil, invalid("", fmt.Sprintf("at most %d events in one call", ingest.MaxEvents), "send them in several calls")
		}
		var raw json.RawMessage
		if dec.Decode(&raw) != nil {
			return nil, malformed
		}
		raws = append(raws, raw)
	}
	if _, err := dec.Token(); err != nil {
		return nil, malformed
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, malformed
	}
	return raws, nil
}

// ingestAll reports the events that can be read; the outcomes of the others keep their places.
func (a *api) ingestAll(ctx context.Context, raws []json.RawMessage) ([]ingest.Outcome, error) {
	outcomes := make([]ingest.Outcome, len(raws))
	events, places := make([]meter.Event, 0, len(raws)), make([]int, 0, len(raws))
	now, from := a.cfg.Clock.Now(), callOf(ctx).sender
	for i, raw := range raws {
		e, refused := ingest.ParseCloudEvent(raw, now)
		if refused != nil {
			outcomes[i] = *refused
			continue
		}
		if refused := refusedBy(from, e.ID, e.Source, e.Type); refused != nil {
			outcomes[i] = *refused
			continue
		}
		events, places = append(events, e), append(places, i)
	}
	if len(events) == 0 {
		return outcomes, nil
	}
	told, err := a.cfg.Ingest.Report(ctx, from.Producer, events)
	if err != nil {
		return nil, err
	}
	for j, o := range told {
		outcomes[places[j]] = o
	}
	return outcomes, nil
}

func reported(outcomes []ingest.Outcome, detail bool) reportedBody {
	var out reportedBody
	counts := map[string]*int{
		"accepted": &out.Accepted, "duplicate": &out.Duplicate, "conflict": &out.Conflict, "rejected": &out.Rejected, "unmatched": &out.Unmatched,
	}
	for _, o := range outcomes {
		if n, ok := counts[o.Status]; ok {
			*n++
		}
		if detail {
			out.Outcomes = append(out.Outcomes, outcomeBody(o))
		}
	}
	return out
}
