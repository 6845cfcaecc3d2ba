package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"
)

type subscriptionsCmd struct {
	Create   subscriptionsCreateCmd   `cmd:"" help:"Subscribe a customer to a plan."`
	List     subscriptionsListCmd     `cmd:"" help:"List subscriptions."`
	Get      subscriptionsGetCmd      `cmd:"" help:"Show a subscription."`
	Timeline subscriptionsTimelineCmd `cmd:"" help:"Show a subscription over time: its changes and what follows from them."`
	Change   subscriptionsChangeCmd   `cmd:"" help:"Change plan, prices, quantities, add-ons or trial: now, later or in the past."`
	Cancel   subscriptionsCancelCmd   `cmd:"" help:"End a subscription: now, with its billing period, or at an instant."`
	Pause    subscriptionsPauseCmd    `cmd:"" help:"Pause a subscription: nothing is admitted and nothing charged."`
	Resume   subscriptionsResumeCmd   `cmd:"" help:"Go on with a paused subscription."`
	Revive   subscriptionsReviveCmd   `cmd:"" help:"Take a cancellation back that is not in force yet."`
	Migrate  subscriptionsMigrateCmd  `cmd:"" help:"Move the subscriptions of a plan to the prices of another catalog version."`
}

type subscriptionsCreateCmd struct {
	Customer   string            `arg:"" help:"Id or key of the customer."`
	Plan       string            `arg:"" optional:"" help:"Key of the plan; or phases."`
	Start      string            `help:"RFC 3339; default: now." placeholder:"T"`
	BillingDay int               `help:"Day of the month on which periods begin, 1 to 31; default: the start's."`
	Version    int64             `name:"catalog-version" help:"Catalog version of the prices; default: the newest." placeholder:"N"`
	Phase      []string          `help:"A plan for a time, such as \"pro: 3 months\"; one after the other, the last one may be without." placeholder:"PLAN: TIME" sep:"none"`
	Quantity   map[string]string `help:"Of a price that is not measured, such as seats=5." placeholder:"KEY=N"`
	AddOn      map[string]string `help:"An add-on and its quantity." placeholder:"KEY=N"`
	TrialDays  *int              `help:"Local days without charges, instead of the plan's; 0: none."`
	TrialEnd   string            `help:"The end of the trial itself, RFC 3339." placeholder:"T"`
}

func subscriptionFields() func(io.Writer, doc) error {
	return fields("id", "customer", "plan", "catalog_version", "status", "start", "end", "trial_end", "billing_day", "every", "current_period.start", "current_period.end")
}

func (c *subscriptionsCreateCmd) Run(e *Env) error {
	body := put("customer", c.Customer, "plan", c.Plan, "start", c.Start, "billing_day", c.BillingDay, "trial_end", c.TrialEnd)
	if c.Version > 0 {
		body["version"] = c.Version
	}
	if c.TrialDays != nil {
		body["trial_days"] = *c.TrialDays
	}
	if len(c.Quantity) > 0 {
		body["quantities"] = c.Quantity
	}
	if len(c.AddOn) > 0 {
		body["add_ons"] = c.AddOn
	}
	var phases []any
	for _, p := range c.Phase {
		plan, time, _ := strings.Cut(p, ":")
		phases = append(phases, put("plan", strings.TrimSpace(plan), "for", strings.TrimSpace(time)))
	}
	if len(phases) > 0 {
		body["phases"] = phases
	}
	return send(e, "/v1/subscriptions", body, subscriptionFields())
}

type subscriptionsListCmd struct {
	Customer string `help:"Only this customer's." placeholder:"CUSTOMER"`
	pages
}

func (c *subscriptionsListCmd) Run(e *Env) error {
	return c.ask(e, "/v1/subscriptions", only("customer", c.Customer), table("ID|CUSTOMER|PLAN|STATUS|START|BILLING DAY", "id", "customer", "plan", "status", "start", "billing_day"))
}

type subscriptionsGetCmd struct {
	ID string `arg:"" help:"Its id."`
}

func (c *subscriptionsGetCmd) Run(e *Env) error {
	return ask(e, subscriptionPath(c.ID, ""), nil, subscriptionFields())
}

func subscriptionPath(id, verb string) string {
	path := "/v1/subscriptions/" + url.PathEscape(id)
	if verb != "" {
		path += "/" + verb
	}
	return path
}

type subscriptionsTimelineCmd struct {
	ID string `arg:"" help:"Its id; or a customer, for the one in force."`
}

func (c *subscriptionsTimelineCmd) Run(e *Env) error {
	return ask(e, subscriptionPath(c.ID, "changes"), nil, timelineText)
}

// when says how a change is made.
type when struct {
	At     string `help:"RFC 3339, now, or period-end; the past is allowed. Default: now." placeholder:"T"`
	Now    bool   `name:"invoice-now" help:"Bill the difference at once; default: with the next invoice."`
	Reason string `help:"Why; stands in the timeline." placeholder:"TEXT"`
	DryRun bool   `help:"Only show what would follow."`
}

func (w *when) send(e *Env, id, verb string, body map[string]any) error {
	maps.Copy(body, put("at", strings.ReplaceAll(w.At, "period-end", "period_end"), "reason", w.Reason))
	if w.Now {
		body["invoice_now"] = true
	}
	return sendTo(e, subscriptionPath(id, verb), dryRun(w.DryRun), body, timelineText)
}

func dryRun(dry bool) url.Values {
	if dry {
		return only("dry_run", "true")
	}
	return nil
}

type subscriptionsChangeCmd struct {
	ID       string            `arg:"" help:"Its id; or a customer, for the one in force."`
	Plan     string            `help:"To another plan, with the prices of the newest catalog version or of --catalog-version." placeholder:"PLAN" xor:"what"`
	Version  int64             `name:"catalog-version" help:"Alone: the same plan at the prices of another catalog version." placeholder:"N"`
	Quantity map[string]string `help:"Of a price that is not measured, such as seats=5." placeholder:"KEY=N" xor:"what"`
	AddOn    map[string]string `help:"An add-on and its quantity; 0 ends it." placeholder:"KEY=N" xor:"what"`
	Price    map[string]string `help:"A price of this customer alone, from a JSON file with the fields of the catalog; KEY= takes it back." placeholder:"KEY=FILE" xor:"what" mapsep:"none"`
	TrialEnd string            `help:"The trial ends then, RFC 3339." placeholder:"T" xor:"what"`
	when
}

// Run makes one change.
func (c *subscriptionsChangeCmd) Run(e *Env) error {
	body, err := c.body()
	if err != nil {
		return err
	}
	if c.Version > 0 {
		body["version"] = c.Version
	}
	return c.send(e, c.ID, "changes", body)
}

func (c *subscriptionsChangeCmd) body() (map[string]any, error) {
	if len(c.Quantity)+len(c.AddOn)+len(c.Price) > 1 {
		return nil, errors.New("a call makes one change: name one key")
	}
	key := func(m map[string]string) (string, string) {
		k := slices.Collect(maps.Keys(m))[0]
		return k, m[k]
	}
	switch {
	case c.Plan != "":
		return put("kind", "plan", "plan", c.Plan), nil
	case len(c.Quantity) > 0:
		k, n := key(c.Quantity)
		return put("kind", "quantity", "key", k, "quantity", n), nil
	case len(c.AddOn) > 0:
		k, n := key(c.AddOn)
		return put("kind", "add_on", "key", k, "quantity", n), nil
	case len(c.Price) > 0:
		k, file := key(c.Price)
		body := put("kind", "price", "key", k)
		if file == "" {
			return body, nil
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		if !json.Valid(text) {
			return nil, fmt.Errorf("%s is no JSON", file)
		}
		body["price"] = json.RawMessage(text)
		return body, nil
	case c.TrialEnd != "":
		return put("kind", "trial", "until", c.TrialEnd), nil
	case c.Version > 0:
		return put("kind", "version"), nil
	}
	return nil, errors.New("say what changes: --plan, --catalog-version, --quantity, --add-on, --price or --trial-end")
}

type subscriptionsCancelCmd struct {
	ID string `arg:"" help:"Its id; or a customer, for the one in force."`
	when
}

func (c *subscriptionsCancelCmd) Run(e *Env) error { return c.send(e, c.ID, "cancel", put()) }

type subscriptionsPauseCmd struct {
	ID string `arg:"" help:"Its id; or a customer, for the one in force."`
	when
}

func (c *subscriptionsPauseCmd) Run(e *Env) error { return c.send(e, c.ID, "pause", put()) }

type subscriptionsResumeCmd struct {
	ID string `arg:"" help:"Its id; or a customer, for the one in force."`
	when
}

func (c *subscriptionsResumeCmd) Run(e *Env) error { return c.send(e, c.ID, "resume", put()) }

type subscriptionsReviveCmd struct {
	ID string `arg:"" help:"Its id; or a customer, for the one in force."`
	when
}

func (c *subscriptionsReviveCmd) Run(e *Env) error { return c.send(e, c.ID, "revive", put()) }

type subscriptionsMigrateCmd struct {
	Plan      string `required:"" help:"Key of the plan." placeholder:"PLAN"`
	ToVersion int64  `help:"Catalog version of the prices; default: the newest." placeholder:"N"`
	Customer  string `help:"Only this customer's." placeholder:"CUSTOMER"`
	At        string `help:"RFC 3339, now, or period-end: of each. Default: now." placeholder:"T"`
	Reason    string `help:"Why; stands in the timelines." placeholder:"TEXT"`
	DryRun    bool   `help:"Only show which would move."`
}

func (c *subscriptionsMigrateCmd) Run(e *Env) error {
	body := put("plan", c.Plan, "customer", c.Customer, "at", strings.ReplaceAll(c.At, "period-end", "period_end"), "reason", c.Reason)
	if c.ToVersion > 0 {
		body["to_version"] = c.ToVersion
	}
	return sendTo(e, "/v1/subscriptions/migrate", dryRun(c.DryRun), body,
		migrationText)
}

// migrationText prints what moves; of a dry run with the totals of the next invoices.
func migrationText(w io.Writer, d doc) error {
	dry := d.s("dry_run") == "true"
	heads, names := "CUSTOMER|SUBSCRIPTION|PLAN|FROM VERSION|TO VERSION|AT", []string{"customer", "subscription_id", "plan", "from_version", "to_version", "at"}
	if dry {
		heads, names = heads+"|BEFORE|AFTER|DIFFERENCE", append(names, "money.before.amount", "money.after.amount", "money.difference.amount")
	}
	if err := table(heads+"|REFUSED", append(names, "refused")...)(w, d); err != nil {
		return err
	}
	out := lines{w: w}
	for _, t := range d.list("totals") {
		out.put("Next invoices in "+t.s("before.currency"), "", "", "", "", "", t.s("before.amount"), t.s("after.amount"), t.s("difference.amount"))
	}
	if dry {
		out.put("Nothing was changed.")
	}
	return out.err
}

// timelineText prints a subscription, what was decided, and what follows.
func timelineText(w io.Writer, d doc) error {
	sub, _ := d["subscription"].(map[string]any)
	if err := subscriptionFields()(w, doc(sub)); err != nil {
		return err
	}
	out := lines{w: w}
	out.put("")
	if len(d.list("changes")) > 0 {
		out.put("AT", "CHANGE", "TO", "REASON")
	}
	for _, c := range d.list("changes") {
		to := strings.TrimSpace(strings.Join([]string{c.s("plan"), c.s("key"), c.s("quantity"), c.s("price"), c.s("until")}, " "))
		if c.s("kind") == "version" {
			to = c.s("version")
		}
		out.put(c.s("at"), c.s("kind"), strings.Join(strings.Fields(to), " "), c.s("reason"))
	}
	out.put("")
	out.put("FROM", "TO", "PLAN", "VERSION", "PERIOD", "QUANTITIES", "")
	for _, g := range d.list("segments") {
		note := ""
		switch {
		case g.s("paused") == "true":
			note = "paused"
		case g.s("trial") == "true":
			note = "trial"
		}
		out.put(g.s("start"), g.s("end"), g.s("plan"), g.s("catalog_version"), g.s("every"), quantities(g), note)
	}
	if d.s("dry_run") == "true" {
		moneyText(&out, d)
		out.put("Nothing was changed.")
	}
	return out.err
}

// moneyText prints what is invoiced up to the end of the period, without and with a change.
func moneyText(out *lines, d doc) {
	if d.s("money.before.amount") == "" {
		return
	}
	out.put("")
	out.put("UP TO PERIOD END", "LINE", "PERIOD", d.s("money.before.currency"))
	for _, side := range []struct{ name, field, total string }{
		{"without the change", "invoice_before", "before"}, {"with the change", "invoice_after", "after"},
	} {
		money, _ := d["money"].(map[string]any)
		inv, _ := money[side.field].(map[string]any)
		for _, l := range doc(inv).list("lines") {
			name := l.s("name")
			if name == "" {
				name = l.s("price")
			}
			out.put(side.name, name, l.s("period.start")+" to "+l.s("period.end"), l.s("rounded.amount"))
		}
		if tax := doc(inv).s("tax.amount"); strings.Trim(tax, "0.") != "" {
			out.put(side.name, "tax", "", tax)
		}
		out.put(side.name, "total", "", d.s("money."+side.total+".amount"))
	}
	out.put("difference", "", "", d.s("money.difference.amount"))
	out.put("")
}

// quantities are a segment's seats and add-ons on one line.
func quantities(g doc) string {
	var all []string
	for _, field := range []string{"quantities", "add_ons"} {
		m, _ := g[field].(map[string]any)
		for _, key := range slices.Sorted(maps.Keys(m)) {
			if n := fmt.Sprint(m[key]); n != "1" || field == "add_ons" {
				all = append(all, key+" "+n)
			}
		}
	}
	return strings.Join(all, ", ")
}
