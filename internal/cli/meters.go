package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"time"
)

type metersCmd struct {
	Recount  recountCmd  `cmd:"" help:"Apply a meter, as the catalog has it now, to the events that are kept."`
	Recounts recountsCmd `cmd:"" help:"List recounts."`
	Follow   followCmd   `cmd:"" help:"Show how far a recount is, to its end."`
	Cancel   cancelCmd   `cmd:"" help:"End a recount; what it has changed stays."`
}

type recountCmd struct {
	Meter         string `arg:"" help:"Key of the meter."`
	From          string `help:"RFC 3339; only events from this time on." placeholder:"T"`
	To            string `help:"RFC 3339, not included." placeholder:"T"`
	DryRun        bool   `help:"Count what would change, change nothing."`
	IncludeClosed bool   `help:"Also in closed billing periods; the difference is late usage there."`
	Reason        string `help:"Why; stands in the history of each event." placeholder:"TEXT"`
	Detach        bool   `help:"Do not wait for the end."`
}

// recountPause is how often the progress is asked for.
const recountPause = 300 * time.Millisecond

// Run begins the job and follows it on stderr. The job runs in the server: ending the command does not end it.
func (c *recountCmd) Run(e *Env) error {
	body := put("meter", c.Meter, "from", c.From, "to", c.To, "reason", c.Reason)
	body["dry_run"], body["include_closed"] = c.DryRun, c.IncludeClosed
	cl, err := newClient(e)
	if err != nil {
		return err
	}
	b, err := cl.post(e.Ctx, "/v1/recounts", body)
	if err != nil {
		return err
	}
	if c.Detach {
		return e.print(b, recountText)
	}
	return cl.follow(e, b)
}

// follow shows a recount's progress on stderr, and at its end the recount.
func (c *client) follow(e *Env, b json.RawMessage) error {
	var job recountDoc
	for {
		if err := decode(b, &job); err != nil {
			return err
		}
		if job.State != "running" {
			break
		}
		fmt.Fprintf(e.Stderr, "\r%s: position %s of %s, %s events read, %s changed ", job.ID, job.Done, job.Total, job.Read, job.Changed)
		if err := e.Wait(e.Ctx, recountPause); err != nil {
			return fmt.Errorf("%w; the recount goes on in the server: tally meters follow %s, tally meters cancel %s", err, job.ID, job.ID)
		}
		var err error
		if b, err = c.get(e.Ctx, "/v1/recounts/"+url.PathEscape(job.ID), nil); err != nil {
			return err
		}
	}
	fmt.Fprintln(e.Stderr)
	if job.State == "failed" {
		return fmt.Errorf("recount %s failed: %s", job.ID, job.Problem)
	}
	return e.print(b, recountText)
}

// recountDoc is what following a recount needs of it.
type recountDoc struct {
	ID, State, Problem         string
	Done, Total, Read, Changed json.Number
}

func recountText(w io.Writer, d doc) error {
	return fields("id", "meter", "state", "from", "to", "dry_run", "include_closed", "reason", "catalog_version", "done", "total", "read", "changed",
		"difference", "closed", "admitted", "unreadable", "problem")(w, d)
}

type recountsCmd struct{ pages }

func (c *recountsCmd) Run(e *Env) error {
	return c.ask(e, "/v1/recounts", nil, table("ID|METER|STATE|DONE|TOTAL|READ|CHANGED|CREATED AT", "id", "meter", "state", "done", "total", "read", "changed", "created_at"))
}

type followCmd struct {
	ID string `arg:"" help:"rcn_…"`
}

func (c *followCmd) Run(e *Env) error {
	cl, err := newClient(e)
	if err != nil {
		return err
	}
	b, err := cl.get(e.Ctx, "/v1/recounts/"+url.PathEscape(c.ID), nil)
	if err != nil {
		return err
	}
	return cl.follow(e, b)
}

type cancelCmd struct {
	ID string `arg:"" help:"rcn_…"`
}

func (c *cancelCmd) Run(e *Env) error {
	return send(e, "/v1/recounts/"+url.PathEscape(c.ID)+"/cancel", map[string]any{}, recountText)
}
