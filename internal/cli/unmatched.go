package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

type unmatchedCmd struct {
	List   unmatchedListCmd   `cmd:"" help:"Events that count for nothing, by why, with suggestions."`
	Show   unmatchedShowCmd   `cmd:"" help:"List the unmatched events of a group, or all."`
	Fix    unmatchedFixCmd    `cmd:"" help:"Create an alias and replay the events that it mends."`
	Replay unmatchedReplayCmd `cmd:"" help:"Judge unmatched events anew, by the catalog, customers and aliases of now."`
}

type unmatchedListCmd struct{}

func (unmatchedListCmd) Run(e *Env) error {
	return ask(e, "/v1/unmatched", nil, func(w io.Writer, d doc) error {
		out := lines{w: w}
		out.put("CAUSE", "VALUE", "EVENTS", "FIRST SEEN", "LAST SEEN", "EXAMPLE", "DID YOU MEAN")
		for _, x := range d.list("items") {
			out.put(x.s("cause"), x.s("value"), x.s("events"), x.s("first_seen"), x.s("last_seen"), x.s("example_id")+" of "+x.s("source"), x.s("suggestion"))
		}
		if d.s("complete") == "false" {
			out.put("There are more; these are the largest among the newest " + d.s("events") + " events.")
		}
		return out.err
	})
}

// group is one of the unmatched list.
type group struct {
	Cause string `help:"Only this cause: unknown_type, no_subject, unknown_customer, unreadable, filtered or ready." placeholder:"CAUSE"`
	Value string `help:"Only this value." placeholder:"VALUE"`
}

type unmatchedShowCmd struct {
	group
	pages
}

func (c *unmatchedShowCmd) Run(e *Env) error {
	q := only("cause", c.Cause)
	if c.Value != "" {
		q.Set("value", c.Value)
	}
	return c.ask(e, "/v1/unmatched/events", q, table("TIME|CAUSE|TYPE|SUBJECT|SOURCE|ID|RULE", "time", "cause", "type", "subject", "source", "id", "rule"))
}

type unmatchedReplayCmd struct {
	group
	Reason string `help:"Kept in the events' history."`
	DryRun bool   `help:"Only count."`
}

func (c *unmatchedReplayCmd) Run(e *Env) error {
	done, err := c.all(e)
	if err != nil {
		return err
	}
	b, err := json.Marshal(done)
	if err != nil {
		return err
	}
	return e.print(b, fields("replayed", "still_unmatched"))
}

// replayed is what became of the events.
type replayed struct {
	Alias          json.RawMessage `json:"alias,omitempty"`
	Replayed       int64           `json:"replayed"`
	StillUnmatched int64           `json:"still_unmatched"`
	Next           *string         `json:"next,omitempty"`
}

// all replays call by call until all events were looked at.
func (c *unmatchedReplayCmd) all(e *Env) (total replayed, err error) {
	cl, err := newClient(e)
	if err != nil {
		return total, err
	}
	body := put("cause", c.Cause, "value", c.Value, "reason", c.Reason)
	if c.DryRun {
		body["dry_run"] = true
	}
	for {
		b, err := cl.post(e.Ctx, "/v1/unmatched/replay", body)
		if err != nil {
			return total, err
		}
		var part replayed
		if err := decode(b, &part); err != nil {
			return total, err
		}
		total.Replayed, total.StillUnmatched = total.Replayed+part.Replayed, total.StillUnmatched+part.StillUnmatched
		if part.Next == nil {
			return total, nil
		}
		body["cursor"] = *part.Next
	}
}

type unmatchedFixCmd struct {
	newAlias
	Reason string `help:"Kept in the events' history."`
}

func (c *unmatchedFixCmd) Run(e *Env) error {
	cl, err := newClient(e)
	if err != nil {
		return err
	}
	alias, err := cl.post(e.Ctx, "/v1/aliases", c.body())
	if err != nil {
		return err
	}
	replay := unmatchedReplayCmd{group: group{Cause: "unknown_" + c.Kind, Value: c.From}, Reason: c.Reason}
	done, err := replay.all(e)
	if err != nil {
		return err
	}
	done.Alias = alias
	b, err := json.Marshal(done)
	if err != nil {
		return err
	}
	return e.print(b, func(w io.Writer, d doc) error {
		if err := fields("alias.kind", "alias.from", "alias.to", "replayed", "still_unmatched")(w, d); err != nil || done.StillUnmatched == 0 {
			return err
		}
		_, err := fmt.Fprintln(w, "Those count for nothing for another reason: tally unmatched list")
		return err
	})
}

type aliasesCmd struct {
	Create aliasesCreateCmd `cmd:"" help:"Read a type or a subject of events as another one."`
	List   aliasesListCmd   `cmd:"" help:"List aliases."`
	Delete aliasesDeleteCmd `cmd:"" help:"Delete an alias; what it made count goes on counting."`
}

type newAlias struct {
	Kind string `arg:"" enum:"type,customer" help:"What it stands for: type or customer."`
	From string `arg:"" help:"As events carry it: their type, or their subject."`
	To   string `arg:"" help:"A type that a meter reads, or the meter's key; or a customer."`
}

func (n newAlias) body() map[string]any { return put("kind", n.Kind, "from", n.From, "to", n.To) }

type aliasesCreateCmd struct{ newAlias }

func (c *aliasesCreateCmd) Run(e *Env) error {
	return send(e, "/v1/aliases", c.body(), fields("id", "kind", "from", "to"))
}

type aliasesListCmd struct{ pages }

func (c *aliasesListCmd) Run(e *Env) error {
	return c.ask(e, "/v1/aliases", nil, table("KIND|FROM|TO|CREATED|BY", "kind", "from", "to", "created_at", "created_by"))
}

type aliasesDeleteCmd struct {
	Kind string `arg:"" enum:"type,customer" help:"type or customer."`
	From string `arg:"" help:"The other name, as events carry it."`
}

func (c *aliasesDeleteCmd) Run(e *Env) error {
	cl, err := newClient(e)
	if err != nil {
		return err
	}
	b, err := cl.do(e.Ctx, http.MethodDelete, "/v1/aliases", url.Values{"kind": {c.Kind}, "from": {c.From}}, "", nil)
	if err != nil {
		return err
	}
	return e.print(b, fields("kind", "from", "to"))
}
