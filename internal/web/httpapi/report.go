package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/tallystick/tallystick/internal/app/ingest"
	"github.com/tallystick/tallystick/internal/app/ingest/wire"
)

// cloudEventBody is here for the OpenAPI document; package wire reads events.
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
	Status  string `json:"status" enum:"accepted,duplicate,conflict,rejected,unmatched,withheld" doc:"withheld: of an atomic call that was refused, fit to be stored"`
	ID      string `json:"id"`
	Pointer string `json:"pointer,omitempty" doc:"JSON Pointer into the event"`
	Rule    string `json:"rule,omitempty" doc:"Why it is rejected, unmatched, withheld or a conflict"`
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

// refusedBody is the problem of an atomic call of which nothing was stored.
type refusedBody struct {
	problem
	reportedBody
}

func (a *api) reportRoute(tag string) {
	event := a.schema(reflect.TypeFor[cloudEventBody]())
	longest := ingest.MaxEvents
	batch := &huma.Schema{Type: huma.TypeArray, Items: event, MaxItems: &longest}
	flag := func(name, what string, usual bool) *huma.Param {
		return &huma.Param{Name: name, In: "query", Description: what, Schema: &huma.Schema{Type: huma.TypeBoolean, Default: usual}}
	}
	a.byHand(operation{
		method: http.MethodPost, path: "/v1/events", id: "report-events", tag: tag, summary: "Report usage",
		description: "CloudEvents 1.0: one event, a batch, a line for each, or one event in binary mode, its attributes in ce- headers and its data as the body. " +
			"At most 10,000 events and 16 MiB, also after unpacking. Each event has its own outcome; the answer follows the disk. " +
			"The status is 200 whenever the body could be read, whatever the outcomes are.",
	}, ingest.MaxBytes, map[string]*huma.Schema{
		wire.TypeEvent: event, wire.TypeBatch: batch, jsonType: {OneOf: []*huma.Schema{event, batch}},
		wire.TypeLines: {Type: huma.TypeString, Description: "One event a line"},
	}, map[string]reflect.Type{"200": reflect.TypeFor[reportedBody]()}, []*huma.Param{
		flag("detail", "false leaves the outcomes out", true),
		flag("atomic", "true stores all of the events or none: if one is rejected or a conflict, the answer is 422 (atomic_refused) with the outcomes", false),
		{Name: "backfill", In: "query", Description: "Name or id of the open backfill to load the events into", Schema: &huma.Schema{Type: huma.TypeString}},
		{Name: "Content-Encoding", In: "header", Description: "How the body is packed", Schema: &huma.Schema{Type: huma.TypeString, Enum: []any{"gzip", "zstd"}}},
	}, a.report)
}

func (a *api) report(w http.ResponseWriter, r *http.Request) {
	asked, err := reportQuery(r.URL.Query())
	if err != nil {
		a.fail(w, r, err)
		return
	}
	events, err := wire.Read(wire.Body{
		Type: r.Header.Get("Content-Type"), Encoding: strings.Join(r.Header.Values("Content-Encoding"), ", "), Headers: r.Header, Bytes: callOf(r.Context()).body,
	}, a.cfg.Clock.Now())
	if err != nil {
		if errors.Is(err, wire.ErrEncoding) {
			w.Header().Set("Accept-Encoding", wire.Encodings)
		}
		a.fail(w, r, unread(err))
		return
	}
	if err := a.take(r.Context(), events, asked); err != nil {
		a.fail(w, r, err)
		return
	}
	a.told(w, r, events.Outcomes, asked)
}

// unread is the problem of a body that is no events.
func unread(err error) error {
	for _, row := range []struct {
		err  error
		code code
	}{
		{wire.ErrMalformed, codeMalformed}, {wire.ErrType, codeMediaType}, {wire.ErrEncoding, codeMediaType}, {wire.ErrTooLarge, codeBodyTooLarge},
	} {
		if !errors.Is(err, row.err) {
			continue
		}
		p := newProblem(row.code, sentence(err, row.err))
		if errors.Is(err, wire.ErrEncoding) {
			p.Fix = "Send Content-Encoding " + strings.ReplaceAll(wire.Encodings, ",", " or") + ", or none."
		}
		return p
	}
	return err
}

// asking is what the query of a report says.
type asking struct {
	detail, atomic bool
	backfill       string // empty: none
}

func reportQuery(q url.Values) (asking, error) {
	out := asking{detail: true}
	for name := range q {
		var field *bool
		switch name {
		case "detail":
			field = &out.detail
		case "atomic":
			field = &out.atomic
		case "backfill":
			// An empty name may come from a variable that is not set: the events would count at once.
			if out.backfill = q.Get(name); out.backfill == "" {
				return out, invalid(name, "must name an open backfill", "leave it out to let the events count now")
			}
			continue
		default:
			return out, invalid("", "unknown query parameter", "this route takes detail, atomic and backfill")
		}
		switch q.Get(name) {
		case "true":
			*field = true
		case "false":
			*field = false
		case "":
		default:
			return out, invalid(name, "must be true or false", "")
		}
	}
	return out, nil
}

// take reports the events that could be read; the outcomes of the others keep their places.
func (a *api) take(ctx context.Context, events wire.Events, asked asking) error {
	from, unit, atomic := callOf(ctx).sender, "", asked.atomic
	if asked.backfill != "" {
		if callOf(ctx).actor != operator { // it would let its sender pass by the bounds of event times
			p := newProblem(codeTokenScope, "A producer's token cannot load a backfill.")
			p.Fix = "Leave backfill out, or load it with the operator's token."
			return p
		}
		var done func()
		var err error
		if unit, done, err = a.cfg.Correct.Load(ctx, asked.backfill); err != nil {
			return notFoundAs(err, "backfill")
		}
		defer done()
	}
	outcomes := make([]ingest.Outcome, len(events.List))
	if atomic && events.Refused() {
		for i, e := range events.List {
			outcomes[i] = ingest.WithheldOf(e.ID)
		}
	} else if len(events.List) > 0 {
		var err error
		if outcomes, err = a.cfg.Ingest.Take(ctx, ingest.Call{
			Producer: from.Producer, Events: events.List, Permit: permit(from), Atomic: atomic, Parsed: true, Unit: unit,
		}); err != nil {
			return err
		}
	}
	for j, o := range outcomes {
		events.Outcomes[events.Places[j]] = o
	}
	return nil
}

// told answers with the outcomes.
func (a *api) told(w http.ResponseWriter, r *http.Request, outcomes []ingest.Outcome, asked asking) {
	counts, refused := count(outcomes)
	if asked.atomic && refused {
		out := refusedBody{problem: *newProblem(codeAtomicRefused, ""), reportedBody: counts}
		out.RequestID = callOf(r.Context()).id
		for _, o := range outcomes {
			if asked.detail {
				out.Outcomes = append(out.Outcomes, outcomeBody(o))
			}
		}
		writeJSON(w, out.Status, "application/problem+json", out)
		return
	}
	b := fmt.Appendf(make([]byte, 0, 128+64*len(outcomes)), `{"accepted":%d,"duplicate":%d,"conflict":%d,"rejected":%d,"unmatched":%d`,
		counts.Accepted, counts.Duplicate, counts.Conflict, counts.Rejected, counts.Unmatched)
	if asked.detail && len(outcomes) > 0 {
		b = append(b, `,"outcomes":[`...)
		for i, o := range outcomes {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendOutcome(b, o)
		}
		b = append(b, ']')
	}
	w.Header().Set("Content-Type", jsonType)
	_, _ = w.Write(append(b, '}', '\n')) // the client may be gone
}

// appendOutcome writes what encoding/json would; plain outcomes, which are nearly all, by hand.
func appendOutcome(b []byte, o ingest.Outcome) []byte {
	if o.Pointer != "" || o.Rule != "" || o.Fix != "" || o.Digest != "" || o.Stored != "" || !plainText(o.ID) {
		long, err := json.Marshal(outcomeBody(o))
		if err != nil {
			panic(fmt.Sprintf("httpapi: an outcome does not marshal: %v", err))
		}
		return append(b, long...)
	}
	b = append(append(b, `{"status":"`...), o.Status...)
	b = append(append(b, `","id":"`...), o.ID...)
	return append(b, `"}`...)
}

// plainText says that a text needs no escapes in JSON.
func plainText(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ', c > '~', c == '"', c == '\\', c == '<', c == '>', c == '&':
			return false
		}
	}
	return true
}

// count sums the outcomes up; refused is whether one of them is rejected or a conflict.
func count(outcomes []ingest.Outcome) (out reportedBody, refused bool) {
	for _, o := range outcomes {
		switch o.Status {
		case "accepted":
			out.Accepted++
		case "duplicate":
			out.Duplicate++
		case "conflict":
			out.Conflict++
		case "rejected":
			out.Rejected++
		case "unmatched":
			out.Unmatched++
		}
	}
	return out, out.Conflict+out.Rejected > 0
}
