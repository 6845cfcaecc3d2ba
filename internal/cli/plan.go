package cli

import (
	"cmp"
	"fmt"
	"io"
	"net/url"
	"strings"
)

type planCmd struct {
	File     string `arg:"" help:"Catalog file (YAML), - for stdin."`
	From     string `help:"Replay usage from then on (RFC 3339); default: the last 30 days." placeholder:"TIME"`
	To       string `help:"Replay usage before then; default: now." placeholder:"TIME"`
	Markdown bool   `help:"Print Markdown, for a pull request."`
}

func (c *planCmd) Run(e *Env) error {
	query := url.Values{}
	for name, v := range map[string]string{"from": c.From, "to": c.To} {
		if v != "" {
			query.Set(name, v)
		}
	}
	text := planText
	if c.Markdown {
		text = planMarkdown
	}
	return e.sendCatalog(c.File, "/v1/catalog/plan", query, text)
}

// planText prints what a catalog would change, how far each of its limits can be passed, and what recorded usage would have
// cost.
func planText(w io.Writer, d doc) error {
	out := lines{w: w}
	if len(d.list("changes")) == 0 {
		out.put("No changes against version " + d.s("current_version") + ".")
	} else if err := printChanges(w, d); err != nil {
		return err
	}
	for _, b := range d.list("bounds") {
		out.put("bound "+b.s("plan")+"."+b.s("limit"), boundText(b))
	}
	replay := d.child("replay")
	if replay.s("from") == "" {
		return out.err
	}
	out.put("")
	out.put(spanText(replay))
	for _, r := range replay.list("revenue") {
		out.put("revenue "+r.s("before.currency"), r.s("before.amount")+" -> "+r.s("after.amount"), signed(r.s("difference.amount")))
	}
	out.put(movement(replay))
	for _, i := range replay.list("customers") {
		out.put("customer "+i.s("customer"), i.s("plan"), i.s("before.amount")+" -> "+i.s("after.amount"), signed(i.s("difference.amount"))+" "+i.s("before.currency"))
	}
	for _, r := range replay.list("newly_refused") {
		out.put("newly refused "+r.s("customer"), r.s("plan")+"."+r.s("limit"), refusedText(r))
	}
	for _, r := range replay.list("no_longer_refused") {
		out.put("no longer refused "+r.s("customer"), r.s("plan")+"."+r.s("limit"), refusedText(r))
	}
	for _, note := range replay.strings("not_replayed") {
		out.put("not replayed " + note)
	}
	for _, note := range replay.strings("errors") {
		out.put("not rated " + note)
	}
	return out.err
}

// planMarkdown is planText for a pull request.
func planMarkdown(w io.Writer, d doc) error {
	var b strings.Builder
	b.WriteString("### Catalog plan\n\n")
	changes := d.list("changes")
	if len(changes) == 0 {
		fmt.Fprintf(&b, "No changes against version %s.\n", d.s("current_version"))
	} else {
		fmt.Fprintf(&b, "%d changes against version %s.\n\n```diff\n", len(changes), d.s("current_version"))
		for _, c := range changes {
			for _, side := range []struct{ sign, value string }{{"-", c.s("from")}, {"+", c.s("to")}} {
				if side.value != "" {
					fmt.Fprintf(&b, "%s %s: %s\n", side.sign, c.s("path"), side.value)
				}
			}
		}
		b.WriteString("```\n")
	}
	for _, warning := range d.strings("warnings") {
		fmt.Fprintf(&b, "\n> %s\n", warning)
	}
	if replay := d.child("replay"); replay.s("from") != "" {
		replayMarkdown(&b, replay)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func replayMarkdown(b *strings.Builder, replay doc) {
	fmt.Fprintf(b, "\n#### Money\n\n%s %s\n", spanText(replay), movement(replay))
	if revenue := replay.list("revenue"); len(revenue) > 0 {
		b.WriteString("\n| | before | after | difference |\n|---|---:|---:|---:|\n")
		for _, r := range revenue {
			fmt.Fprintf(b, "| %s | %s | %s | **%s** |\n", r.s("before.currency"), r.s("before.amount"), r.s("after.amount"), signed(r.s("difference.amount")))
		}
	}
	if customers := replay.list("customers"); len(customers) > 0 {
		b.WriteString("\n| customer | plan | before | after | difference |\n|---|---|---:|---:|---:|\n")
		for _, i := range customers {
			fmt.Fprintf(b, "| %s | %s | %s | %s | %s %s |\n", i.s("customer"), i.s("plan"), i.s("before.amount"), i.s("after.amount"), signed(i.s("difference.amount")), i.s("before.currency"))
		}
	}
	if refused := replay.list("newly_refused"); len(refused) > 0 {
		b.WriteString("\n#### Newly refused\n\n| customer | limit | |\n|---|---|---|\n")
		for _, r := range refused {
			fmt.Fprintf(b, "| %s | %s.%s | %s |\n", r.s("customer"), r.s("plan"), r.s("limit"), refusedText(r))
		}
	}
	if notes := append(replay.strings("not_replayed"), replay.strings("errors")...); len(notes) > 0 {
		b.WriteString("\nNot replayed:\n\n")
		for _, n := range notes {
			fmt.Fprintf(b, "- %s\n", n)
		}
	}
}

func boundText(b doc) string {
	if b.s("enforcement") == "hard" && b.s("exact") != "true" {
		return b.s("bound") + "; hard, and not exact"
	}
	return b.s("bound")
}

func spanText(replay doc) string {
	return "Usage from " + replay.s("from") + " to " + replay.s("to") + ", charged by both catalogs."
}

func movement(replay doc) string {
	text := fmt.Sprintf("%s customers up, %s down, %s the same; %d limits would newly refuse.",
		replay.s("customers_up"), replay.s("customers_down"), replay.s("customers_same"), len(replay.list("newly_refused")))
	if more := cmp.Or(replay.s("more"), "0"); more != "0" {
		text += " " + more + " entries are left out."
	}
	return text
}

func refusedText(r doc) string {
	return r.s("over") + " units of " + r.s("meter") + " in " + r.s("windows") + " windows, first " + r.s("first")
}

// signed puts a plus before what rises.
func signed(amount string) string {
	if strings.HasPrefix(amount, "-") || strings.Trim(amount, "0.") == "" {
		return amount
	}
	return "+" + amount
}
