package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"time"
)

type billCmd struct {
	Run    billRunCmd    `cmd:"" help:"Close what is due now, as a job in the server."`
	Runs   billRunsCmd   `cmd:"" help:"List runs of billing."`
	Show   billShowCmd   `cmd:"" help:"Show a run: how far it is, and what failed."`
	Cancel billCancelCmd `cmd:"" help:"End a run; what it has closed stays."`
}

type billRunCmd struct {
	Until    string `help:"RFC 3339; only periods that end at or before it. With --dry-run it may lie in the future." placeholder:"T"`
	Customer string `help:"Only this customer, by id or key." placeholder:"C"`
	DryRun   bool   `help:"Show what would be invoiced; store nothing."`
	Wait     bool   `help:"Show the progress on stderr, to the end."`
}

// billPause is how often a run's progress is asked for.
const billPause = 300 * time.Millisecond

// Run begins a run, or shows what it would do.
func (c *billRunCmd) Run(e *Env) error {
	body := put("until", c.Until, "customer", c.Customer)
	if c.DryRun {
		if c.Wait {
			return errors.New("--wait does not go with --dry-run, which is answered at once")
		}
		return send(e, "/v1/billing-runs/preview", body, dryRunText)
	}
	cl, err := newClient(e)
	if err != nil {
		return err
	}
	b, err := cl.post(e.Ctx, "/v1/billing-runs", body)
	if err != nil {
		return err
	}
	if !c.Wait {
		return e.print(b, billRunText)
	}
	return cl.followBilling(e, b)
}

// followBilling shows a run's progress on stderr, and at its end the run. A run with failures is an error.
func (c *client) followBilling(e *Env, b json.RawMessage) error {
	var run struct {
		ID, State, LastError string
		Due, Done, Failed    json.Number
	}
	for {
		if err := decode(b, &run); err != nil {
			return err
		}
		fmt.Fprintf(e.Stderr, "\r%s: %s/%s closed, %s failed ", run.ID, run.Done, run.Due, run.Failed)
		if run.State != "queued" && run.State != "running" {
			break
		}
		if err := e.Wait(e.Ctx, billPause); err != nil {
			return fmt.Errorf("%w; the run goes on in the server: tally bill show %s, tally bill cancel %s", err, run.ID, run.ID)
		}
		var err error
		if b, err = c.get(e.Ctx, "/v1/billing-runs/"+url.PathEscape(run.ID), nil); err != nil {
			return err
		}
	}
	fmt.Fprintln(e.Stderr)
	if err := e.print(b, billRunText); err != nil || run.State != "failed" {
		return err
	}
	return fmt.Errorf("%s subscriptions could not be closed; the others are", run.Failed)
}

func billRunText(w io.Writer, d doc) error {
	if err := fields("id", "state", "until", "customer_id", "actor", "due", "done", "failed", "invoices", "last_error", "created_at", "started_at", "updated_at")(w, d); err != nil {
		return err
	}
	return failuresText(w, d)
}

func failuresText(w io.Writer, d doc) error {
	for _, f := range d.list("failures") {
		if _, err := fmt.Fprintf(w, "failed\t%s, subscription %s: %s\n", f.s("customer"), f.s("subscription_id"), f.s("reason")); err != nil {
			return err
		}
	}
	return nil
}

// dryRunText prints an invoice a row with its lines below, then the sums.
func dryRunText(w io.Writer, d doc) error {
	if _, err := fmt.Fprintln(w, "CUSTOMER\tPERIOD END\tQUANTITY\tAMOUNT\tCURRENCY"); err != nil {
		return err
	}
	for _, inv := range d.list("invoices") {
		fmt.Fprintf(w, "%s\t%s\t\t%s\t%s\n", inv.s("customer"), inv.s("period.end"), inv.s("total"), inv.s("currency"))
		for _, l := range inv.list("lines") {
			name := l.s("price")
			if name == "" {
				name = l.s("kind")
			}
			fmt.Fprintf(w, "  %s\t\t%s\t%s\t\n", name, l.s("quantity"), l.s("amount"))
		}
	}
	if shown := len(d.list("invoices")); fmt.Sprint(shown) != d.s("count") {
		fmt.Fprintf(w, "the first %d are shown\t\t\t\t\n", shown)
	}
	for _, t := range d.list("totals") {
		fmt.Fprintf(w, "total\t\t\t%s\t%s\n", t.s("amount"), t.s("currency"))
	}
	fmt.Fprintf(w, "%s invoices, %s subscriptions that cannot be billed; nothing was stored\n", d.s("count"), d.s("failed"))
	return failuresText(w, d)
}

type billRunsCmd struct{ pages }

func (c *billRunsCmd) Run(e *Env) error {
	return c.ask(e, "/v1/billing-runs", nil, table("ID|STATE|DUE|DONE|FAILED|INVOICES|CREATED AT", "id", "state", "due", "done", "failed", "invoices", "created_at"))
}

type billShowCmd struct {
	ID string `arg:"" name:"run" help:"run_…"`
}

func (c *billShowCmd) Run(e *Env) error {
	cl, err := newClient(e)
	if err != nil {
		return err
	}
	b, err := cl.get(e.Ctx, "/v1/billing-runs/"+url.PathEscape(c.ID), nil)
	if err != nil {
		return err
	}
	return e.print(b, billRunText)
}

type billCancelCmd struct {
	ID string `arg:"" name:"run" help:"run_…"`
}

func (c *billCancelCmd) Run(e *Env) error {
	return send(e, "/v1/billing-runs/"+url.PathEscape(c.ID)+"/cancel", map[string]any{}, billRunText)
}
