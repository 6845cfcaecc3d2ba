package cli

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/cli/problem"
)

type eventsCmd struct {
	List    eventsListCmd    `cmd:"" help:"List stored events."`
	Get     eventCmd         `cmd:"" help:"Show an event and the invoice line that it stands on."`
	Void    eventsVoidCmd    `cmd:"" help:"Let an event count for nothing; its history is kept."`
	Amend   eventsAmendCmd   `cmd:"" help:"Give an event another type, subject or data; its history is kept."`
	History eventsHistoryCmd `cmd:"" help:"All that was done to an event."`
}

type eventsListCmd struct {
	Customer string `help:"Only this customer's." placeholder:"CUSTOMER"`
	Meter    string `help:"Only this meter's." placeholder:"METER"`
	pages
}

func (c *eventsListCmd) Run(e *Env) error {
	q := only("customer", c.Customer)
	if c.Meter != "" {
		q.Set("meter", c.Meter)
	}
	return c.ask(e, "/v1/events", q, eventsText)
}

func eventsText(w io.Writer, d doc) error {
	out := lines{w: w}
	out.put("TIME", "SOURCE", "ID", "TYPE", "CUSTOMER", "METER", "VALUE", "FLAGS")
	for _, x := range d.list("items") {
		out.put(x.s("time"), x.s("source"), x.s("id"), x.s("type"), x.s("customer"), x.s("meter"), x.s("value"), strings.Join(eventFlags(x), ", "))
	}
	return out.err
}

// eventFlags says what is special about an event, above all why it counts for nothing.
func eventFlags(x doc) []string {
	flags := x.strings("flags")
	if x.s("voided") == "true" {
		flags = append(flags, "voided")
	} else if len(x.list("readings")) == 0 && !slices.Contains(flags, "held") {
		flags = append(flags, "counts for nothing")
	}
	if x.s("erased") == "true" {
		flags = append(flags, "erased")
	}
	return flags
}

// oneEvent names an event; its identity is the source with the id.
type oneEvent struct {
	ID     string `arg:"" help:"The event's id."`
	Source string `help:"The event's source (default: that of the gateway that made the id)."`
}

func (o oneEvent) path(verb string) string { return "/v1/events/" + url.PathEscape(o.ID) + "/" + verb }

// change says why, and to which state of the event.
type change struct {
	oneEvent
	Reason   string  `help:"Why; kept with the change for ever." required:""`
	Revision *uint64 `help:"Fail when the event has another revision by now." placeholder:"N"`
}

func (c change) send(e *Env, verb string, body map[string]any) error {
	body["reason"] = c.Reason
	if c.Revision != nil {
		body["revision"] = *c.Revision
	}
	return sendTo(e, c.path(verb), only("source", c.Source), body, fields("id", "source", "type", "subject", "time", "customer", "meter", "value", "revision", "voided"))
}

// sendTo is send with a query.
func sendTo(e *Env, path string, q url.Values, body any, text func(io.Writer, doc) error) error {
	c, err := newClient(e)
	if err != nil {
		return err
	}
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	answer, err := c.do(e.Ctx, http.MethodPost, path, q, "application/json", b)
	if err != nil {
		return problem.OfSource(err, q.Get("source"))
	}
	return e.print(answer, text)
}

type eventsVoidCmd struct{ change }

func (c *eventsVoidCmd) Run(e *Env) error { return c.send(e, "void", map[string]any{}) }

type eventsAmendCmd struct {
	change
	Type    *string `help:"Another type."`
	Subject *string `help:"Another customer."`
	Data    string  `help:"Other data, a JSON object; all of it." placeholder:"JSON"`
}

func (c *eventsAmendCmd) Run(e *Env) error {
	body := map[string]any{}
	if c.Type != nil {
		body["type"] = *c.Type
	}
	if c.Subject != nil {
		body["subject"] = *c.Subject
	}
	if c.Data != "" {
		if !json.Valid([]byte(c.Data)) {
			return errors.New(`--data: expected a JSON object, such as '{"tokens": 12}'`)
		}
		body["data"] = json.RawMessage(c.Data)
	}
	if len(body) == 0 {
		return errors.New("nothing to change: give --type, --subject or --data")
	}
	return c.send(e, "amend", body)
}

type eventsHistoryCmd struct{ oneEvent }

func (c *eventsHistoryCmd) Run(e *Env) error {
	return askOfSource(e, c.path("history"), c.Source, func(w io.Writer, d doc) error {
		out := lines{w: w}
		out.put("AT", "KIND", "REVISION", "BY", "REASON", "TYPE", "SUBJECT", "COUNTS")
		for _, x := range d.list("items") {
			var readings []string
			for _, r := range x.list("readings") {
				readings = append(readings, r.s("customer")+" "+r.s("meter")+" "+r.s("value"))
			}
			counts := cmp.Or(strings.Join(readings, ", "), "nothing")
			out.put(x.s("at"), x.s("kind"), x.s("revision"), x.s("actor"), x.s("reason"), x.s("type"), x.s("subject"), counts)
		}
		return out.err
	})
}

type backfillCmd struct {
	Open    backfillOpenCmd    `cmd:"" help:"Open a backfill: a unit of usage to load afterwards."`
	Load    backfillLoadCmd    `cmd:"" help:"Load a file of events into an open backfill; they count for nothing yet."`
	Preview backfillPreviewCmd `cmd:"" help:"What closing it, or reverting a closed one, would do to usage."`
	Close   backfillCloseCmd   `cmd:"" help:"Let its events count."`
	Revert  backfillRevertCmd  `cmd:"" help:"Void all its events, before or after closing."`
	List    backfillListCmd    `cmd:"" help:"List backfills."`
	Show    backfillShowCmd    `cmd:"" help:"Show a backfill and how far its job is."`
}

type oneBackfill struct {
	Name string `arg:"" help:"Its name or id."`
}

func (o oneBackfill) path() string { return "/v1/backfills/" + url.PathEscape(o.Name) }

func backfillFields() func(io.Writer, doc) error {
	return fields("id", "name", "reason", "state", "opened_at", "opened_by", "changed_at", "changed_by",
		"progress.events", "progress.counted", "progress.unmatched", "progress.voided")
}

type backfillOpenCmd struct {
	Name   string `arg:"" help:"Your name for it."`
	Reason string `help:"Why; kept with it for ever." required:""`
}

func (c *backfillOpenCmd) Run(e *Env) error {
	return send(e, "/v1/backfills", put("name", c.Name, "reason", c.Reason), backfillFields())
}

type backfillPreviewCmd struct{ oneBackfill }

func (c *backfillPreviewCmd) Run(e *Env) error {
	return ask(e, c.path()+"/preview", nil, func(w io.Writer, d doc) error {
		if err := fields("action", "events", "unmatched", "voided")(w, d); err != nil {
			return err
		}
		out := lines{w: w}
		if d.s("complete") == "false" {
			out.put("It has more events than one preview takes; this is a part.")
		}
		out.put("CUSTOMER", "METER", "PERIOD", "EVENTS", "FROM", "TO", "CLOSED BY")
		for _, x := range d.list("items") {
			closed := x.s("closed.invoice_number")
			if _, ok := x["closed"]; ok && closed == "" {
				closed = "no invoice"
			} else if ok {
				closed = "invoice " + closed
			}
			out.put(x.s("customer"), x.s("meter"), x.s("period.start"), x.s("events"), x.s("from"), cmp.Or(x.s("to"), "?"), closed)
		}
		return out.err
	})
}

// jobEvery is how often a command asks how far a job is.
const jobEvery = 200 * time.Millisecond

// wait asks for a backfill until its job is done, and prints it.
func (o oneBackfill) wait(e *Env, verb string, body map[string]any) error {
	c, err := newClient(e)
	if err != nil {
		return err
	}
	b, err := c.post(e.Ctx, o.path()+"/"+verb, body)
	if err != nil {
		return err
	}
	for {
		var state struct {
			State string `json:"state"`
		}
		if err := decode(b, &state); err != nil {
			return err
		}
		if state.State != "closing" && state.State != "reverting" {
			return e.print(b, backfillFields())
		}
		if err := e.Wait(e.Ctx, jobEvery); err != nil {
			return fmt.Errorf("the job goes on; `tally backfill show` tells how far it is: %w", err)
		}
		if b, err = c.get(e.Ctx, o.path(), nil); err != nil {
			return err
		}
	}
}

type backfillCloseCmd struct{ oneBackfill }

func (c *backfillCloseCmd) Run(e *Env) error { return c.wait(e, "close", map[string]any{}) }

type backfillRevertCmd struct {
	oneBackfill
	Reason string `help:"Why; kept with it for ever." required:""`
}

func (c *backfillRevertCmd) Run(e *Env) error {
	return c.wait(e, "revert", map[string]any{"reason": c.Reason})
}

type backfillListCmd struct{ pages }

func (c *backfillListCmd) Run(e *Env) error {
	return c.ask(e, "/v1/backfills", nil, table("NAME|STATE|OPENED|BY|REASON|ID", "name", "state", "opened_at", "opened_by", "reason", "id"))
}

type backfillShowCmd struct{ oneBackfill }

func (c *backfillShowCmd) Run(e *Env) error { return ask(e, c.path(), nil, backfillFields()) }

// backfillLoadCmd takes all forms of files that reported events may have.
type backfillLoadCmd struct {
	oneBackfill
	ingestCmd
}

// Run sends the file and prints how many events have which outcome.
func (c *backfillLoadCmd) Run(e *Env) error {
	c.Backfill = c.Name
	return c.ingestCmd.Run(e)
}

type lateCmd struct {
	List lateListCmd `cmd:"" help:"Closed periods whose usage changed after their close."`
}

type lateListCmd struct {
	Customer string `help:"Only this customer's." placeholder:"CUSTOMER"`
	pages
}

func (c *lateListCmd) Run(e *Env) error {
	return c.ask(e, "/v1/late", only("customer", c.Customer), func(w io.Writer, d doc) error {
		out := lines{w: w}
		out.put("CUSTOMER", "METER", "PERIOD", "INVOICE", "AT CLOSE", "CHANGE", "EVENTS", "LAST SEEN")
		for _, x := range d.list("items") {
			events := x.s("events")
			if x.s("complete") == "false" {
				events += "+"
			}
			out.put(x.s("customer"), x.s("meter"), x.s("period.start"), x.s("period.invoice_number"), x.s("quantity_at_close"), x.s("change"), events, x.s("last_seen"))
		}
		return out.err
	})
}
