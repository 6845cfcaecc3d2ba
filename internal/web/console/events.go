package console

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/tallystick/tallystick/internal/app/correct"
	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/app/ingest"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/web/statement"
)

const (
	eventsShown   = 50
	eventsLooked  = 25        // pages that one search for a type looks through
	typeChunk     = 200       // events of such a page
	eventFormMax  = 256 << 10 // bytes of a form with an event's data, escaped
	replayCalls   = 10        // that one press of a button makes, of 50,000 events each
	operatorActor = "operator"
)

// eventFilter is what the events page is asked for; it stands in its address.
type eventFilter struct {
	customer, meter, kind, unit string
	unmatched                   bool
	cursor                      string
}

func eventFilterOf(q url.Values) eventFilter {
	get := func(name string) string { return strings.TrimSpace(q.Get(name)) }
	return eventFilter{get("customer"), get("meter"), get("type"), get("unit"), q.Get("outcome") == "unmatched", q.Get("cursor")}
}

// address is the page at path with this filter.
func (f eventFilter) address(path, cursor string) string {
	q := url.Values{}
	for name, v := range map[string]string{"customer": f.customer, "meter": f.meter, "type": f.kind, "unit": f.unit, "cursor": cursor} {
		if v != "" {
			q.Set(name, v)
		}
	}
	if f.unmatched {
		q.Set("outcome", "unmatched")
	}
	if len(q) == 0 {
		return path
	}
	return path + "?" + q.Encode()
}

// eventsView is a page of events.
type eventsView struct {
	eventFilter
	rows      []store.Record
	next      string
	nothing   string // why there is none
	meters    []string
	unmatched int64 // in all
	nameOf    func(customerID string) string
}

func (c *console) events(r *http.Request) (answer, error) {
	v, err := c.eventsView(r)
	if err != nil {
		return answer{}, err
	}
	return answer{page: eventsPage(c.frame(r, "Events"), v)}, nil
}

// eventsLive is the part of the page that asks for itself.
func (c *console) eventsLive(r *http.Request) (answer, error) {
	v, err := c.eventsView(r)
	if err != nil {
		return answer{}, err
	}
	return answer{page: eventsList(v)}, nil
}

func (c *console) eventsView(r *http.Request) (eventsView, error) {
	v := eventsView{eventFilter: eventFilterOf(r.URL.Query()), nameOf: c.nameOf, unmatched: c.cfg.Inbox.Count()}
	for _, m := range c.Govern.Current().Meters {
		v.meters = append(v.meters, m.Key)
	}
	scan := ingest.Scan{SeriesKey: ingest.SeriesKey{Meter: v.meter}, NewestFirst: true, Unmatched: v.eventFilter.unmatched, Limit: eventsShown, Cursor: v.cursor}
	if v.customer != "" {
		cust, ok := c.Govern.Customer(v.customer)
		if !ok {
			v.nothing = "There is no such customer."
			return v, nil
		}
		scan.CustomerID = cust.ID
	}
	if v.unit != "" {
		b, err := c.cfg.Correct.Backfill(r.Context(), v.unit)
		if errors.Is(err, account.ErrNotFound) {
			v.nothing = "There is no such backfill."
			return v, nil
		}
		if err != nil {
			return v, err
		}
		scan.Unit = b.ID
	}
	if v.kind != "" {
		scan.Limit = typeChunk
	}
	err := c.searchEvents(r.Context(), &v, scan)
	if len(v.rows) == 0 {
		v.nothing = "No event fits."
		if v.eventFilter == (eventFilter{}) {
			v.nothing = "There are no events yet. They come with the first request through the gateway, or the first report."
		}
		if v.next != "" {
			v.nothing = "No event fits among those looked at; the next page goes on."
		}
	}
	return v, err
}

// searchEvents reads on until a page is full. An event's type is no index of the journal, so it looks through a bounded number
// of events for it.
func (c *console) searchEvents(ctx context.Context, v *eventsView, scan ingest.Scan) error {
	for range eventsLooked {
		p, err := c.cfg.Ingest.Events(ctx, scan)
		if err != nil {
			return err
		}
		for _, rec := range p.Records {
			if v.kind == "" || rec.Event.Type == v.kind {
				v.rows = append(v.rows, rec)
			}
		}
		v.next, scan.Cursor = p.Next, p.Next
		if p.Next == "" || len(v.rows) >= eventsShown {
			return nil
		}
	}
	return nil
}

// eventAddress is the page of one event.
func eventAddress(e meter.Event) string {
	return "/events/show?" + url.Values{"source": {e.Source}, "id": {e.ID}}.Encode()
}

// unmatchedState is the word for an event that no meter or customer has.
const unmatchedState = "unmatched"

// stateOf is how an event counts now, and how that looks.
func stateOf(r store.Record) (tone, text string) {
	switch {
	case r.Voided:
		return statement.Bad, "voided"
	case len(r.Resolutions) > 0 && r.Revision > 0:
		return statement.Good, "counts, revised"
	case len(r.Resolutions) > 0:
		return statement.Good, "counts"
	case r.Flags&store.Held != 0:
		return "plain", "held"
	case r.Flags&store.Filtered != 0:
		return "plain", "filtered"
	}
	return statement.Notice, unmatchedState
}

// eventLine is an invoice line that an event stands on.
type eventLine struct {
	name, href string // no href: of a preview
}

// eventView is one event with all that was done to it.
type eventView struct {
	store.Record
	history    []store.Revised
	lines      []eventLine
	decisionID string
	nameOf     func(customerID string) string
	wrong      string     // why a form was refused
	form       url.Values // what stood in it
}

// field is what a form holds: what was typed, else what the event has.
func (v eventView) field(name, have string) string {
	if v.form.Has(name) {
		return v.form.Get(name)
	}
	return have
}

func (c *console) event(r *http.Request) (answer, error) {
	v, err := c.eventView(r.Context(), r.URL.Query().Get("source"), r.URL.Query().Get("id"))
	if err != nil {
		return answer{}, err
	}
	return answer{page: eventPage(c.frame(r, "Event"), v)}, nil
}

func (c *console) eventView(ctx context.Context, source, id string) (v eventView, err error) {
	v.nameOf = c.nameOf
	if v.Record, err = c.cfg.Ingest.Event(ctx, source, id); err != nil {
		return v, err
	}
	if v.history, err = c.cfg.Correct.History(ctx, source, id); err != nil {
		return v, err
	}
	if len(v.Receipt) > 0 {
		v.decisionID, _, _ = c.Enforce.DecisionID(v.Receipt) // its key may no longer be kept: then there is no link
	}
	_, invoices, lines, err := c.Bill.LineOf(ctx, source, id)
	if errors.Is(err, account.ErrNotFound) {
		return v, nil // it stands on none
	}
	for i, l := range lines {
		x := eventLine{name: fmt.Sprintf("line %d of the bill so far", l.Number)}
		if n := invoices[i].Number; n > 0 {
			x = eventLine{fmt.Sprintf("invoice %d, line %d", n, l.Number), root.Line(invoices[i].ID, l.Number)}
		}
		v.lines = append(v.lines, x)
	}
	return v, err
}

// form reads a posted form.
func eventForm(r *http.Request) (url.Values, error) {
	r.Body = http.MaxBytesReader(nil, r.Body, eventFormMax)
	if err := r.ParseForm(); err != nil {
		return nil, fmt.Errorf("form: %w: %w", account.ErrInvalid, err)
	}
	return r.PostForm, nil
}

func (c *console) voidEvent(r *http.Request) (answer, error) {
	return c.change(r, func(ctx context.Context, ch correct.Change, _ url.Values, _ store.Record) error {
		_, err := c.cfg.Correct.Void(ctx, ch)
		return err
	})
}

func (c *console) amendEvent(r *http.Request) (answer, error) {
	return c.change(r, func(ctx context.Context, ch correct.Change, form url.Values, have store.Record) error {
		var to correct.Content
		if kind := strings.TrimSpace(form.Get("type")); kind != have.Event.Type {
			to.Type = &kind
		}
		if who := strings.TrimSpace(form.Get("subject")); who != have.Event.Subject {
			to.Subject = &who
		}
		if data := strings.TrimSpace(form.Get("data")); data != string(have.Event.Data) && data != "" {
			to.Data = json.RawMessage(data)
		}
		_, err := c.cfg.Correct.Amend(ctx, ch, to)
		return err
	})
}

// change does what a form on an event's page asks for, and shows the page again.
func (c *console) change(r *http.Request, do func(context.Context, correct.Change, url.Values, store.Record) error) (answer, error) {
	form, err := eventForm(r)
	if err != nil {
		return answer{}, err
	}
	revision, err := strconv.ParseUint(form.Get("revision"), 10, 64)
	if err != nil {
		return answer{}, fmt.Errorf("revision: %w", account.ErrInvalid)
	}
	v, err := c.eventView(r.Context(), form.Get("source"), form.Get("id"))
	if err != nil {
		return answer{}, err
	}
	err = do(r.Context(), correct.Change{
		Source: v.Event.Source, ID: v.Event.ID, Actor: operatorActor, Reason: strings.TrimSpace(form.Get("reason")), Revision: &revision,
	}, form, v.Record)
	if err == nil {
		return answer{to: eventAddress(v.Event)}, nil
	}
	text, ok := refusal(err)
	if !ok {
		return answer{}, err
	}
	v.wrong, v.form = text, form
	return answer{status: http.StatusUnprocessableEntity, page: eventPage(c.frame(r, "Event"), v)}, nil
}

// refusal is what to tell the operator of an error that they can mend.
func refusal(err error) (text string, ok bool) {
	if told, ok := errors.AsType[*ingest.Invalid](err); ok {
		return strings.TrimPrefix(told.Pointer, "/") + " " + told.Rule + ": " + told.Fix, true
	}
	if told, ok := errors.AsType[*govern.Invalid](err); ok {
		return strings.TrimPrefix(told.Pointer, "/") + " " + told.Rule + ": " + told.Fix, true
	}
	switch {
	case errors.Is(err, account.ErrState), errors.Is(err, account.ErrExists):
		return err.Error(), true
	case errors.Is(err, store.ErrConflict):
		return "somebody changed the event in the meantime: look at it as it is now, then try again", true
	}
	return "", false
}

// dataOf is an event's data for reading.
func dataOf(data []byte) string {
	var out bytes.Buffer
	if len(data) == 0 || json.Indent(&out, data, "", "  ") != nil {
		return string(data)
	}
	return out.String()
}

// kindOf names what a revision did.
func kindOf(x store.Revised) string {
	switch x.Kind {
	case store.Amend:
		return "amended"
	case store.Void:
		return "voided"
	case store.Resolve:
		return "counted anew"
	}
	return "accepted"
}

// newestRevision turns a history around.
func newestRevision(list []store.Revised) []store.Revised {
	out := slices.Clone(list)
	slices.Reverse(out)
	return out
}
