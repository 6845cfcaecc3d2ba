package cli

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// lines prints rows with columns by tabs; the first error stops it.
type lines struct {
	w   io.Writer
	err error
}

func (l *lines) put(columns ...string) {
	if l.err == nil {
		_, l.err = fmt.Fprintln(l.w, strings.Join(columns, "\t"))
	}
}

// printChanges prints what a catalog changes: + comes, - goes, ~ becomes another.
func printChanges(w io.Writer, d doc) error {
	out := lines{w: w}
	for _, ch := range d.list("changes") {
		values := []string{ch.s("from"), "→", ch.s("to")}
		switch {
		case values[0] == "":
			values = values[2:]
		case values[2] == "":
			values = values[:1]
		}
		out.put(ch.s("op")+" "+ch.s("path"), strings.Join(values, " "))
	}
	for _, warn := range d.strings("warnings") {
		out.put("note: " + warn)
	}
	return out.err
}

func explainText(w io.Writer, d doc) error {
	if err := fields("outcome", "code", "time", "customer", "key_id", "plan", "route", "meter", "cost", "limit", "consumed", "quota",
		"resets_at", "catalog_version", "would_pass_on")(w, d); err != nil {
		return err
	}
	out := lines{w: w}
	for _, l := range d.list("limits") {
		line := []string{"limit " + l.s("limit"), l.s("before") + " → " + l.s("after") + " of " + l.s("quota")}
		at := l.s("resets_at")
		if over := l.s("overage"); over != "" && over != "0" {
			line = append(line, cmp.Or(prefixed("resets ", at), "no reset"), over+" beyond the limit, which does not refuse")
		} else if at != "" {
			line = append(line, "resets "+at)
		} else {
			line = append(line, strings.ReplaceAll(l.s("kind"), "_", " "))
		}
		out.put(line...)
	}
	return out.err
}

func prefixed(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}

func limitsText(w io.Writer, d doc) error {
	out := lines{w: w}
	if d.s("plan") == "" {
		out.put("Customer " + d.s("customer") + " has no active subscription, so no limits.")
		return out.err
	}
	out.put("LIMIT", "OF", "WINDOW", "SCOPE", "MODE", "CONSUMED", "QUOTA", "REMAINING", "OVER", "RESETS AT", "FAILURE", "BOUND")
	for _, l := range d.list("items") {
		consumed, remaining, over := l.s("consumed"), l.s("remaining"), l.s("overage")
		if l.s("template") == "true" {
			consumed, remaining, over = "-", "-", "-"
		}
		size := l.s("quota")
		if l.s("override_id") != "" {
			size += "*"
		}
		out.put(l.s("limit"), cmp.Or(l.s("meter"), l.s("currency"), "requests"), l.s("window"), cmp.Or(l.s("scope"), "-"), l.s("enforcement"), consumed, size,
			remaining, over, cmp.Or(l.s("resets_at"), "-"), l.s("failure"), l.s("bound"))
	}
	for _, l := range d.list("items") {
		if id := l.s("override_id"); id != "" {
			out.put("* " + l.s("limit") + " is set by the override " + id)
		}
	}
	for _, e := range d.list("entitlements") {
		out.put("includes " + e.s("key") + ": " + e.s("value"))
	}
	return out.err
}

func traceText(w io.Writer, d doc) error {
	if err := fields("invoice_id", "customer", "line.id", "line.price", "line.quantity", "line.exact")(w, d); err != nil {
		return err
	}
	out := lines{w: w}
	if late := d.s("late"); late != "" && late != "0" {
		text := " in the windows came after the invoice and is not on the line"
		if len(d.list("windows")) == 0 {
			text = " is by how much it measures more, or less, since the invoice; the line stands"
		}
		out.put("late", late+text)
	}
	for _, x := range d.list("windows") {
		out.put("window "+x.s("start"), x.s("count")+" events", x.s("value"))
	}
	for _, x := range d.list("events") {
		out.put("event "+x.s("id"), x.s("time"), x.s("value"), x.s("decision_id"))
	}
	return out.err
}

func booksText(w io.Writer, d doc) error {
	out := lines{w: w}
	out.put("CUSTOMER", "METER", "PERIOD", "ADMITTED", "REPORTED", "VOIDED", "METERED", "RATED", "UNPRICED", "LATE", "DIFFERENCE")
	row := func(r doc, customer string) {
		out.put(customer, r.s("meter"), r.s("period.start"), r.s("admitted"), r.s("reported"), r.s("voided"), r.s("metered"), r.s("rated"), r.s("unpriced"), r.s("late"), r.s("difference"))
	}
	for _, r := range d.list("rows") {
		row(r, r.s("customer"))
	}
	row(d, "all")
	for _, f := range d.list("findings") {
		out.put("FINDING", "gateway "+f.s("gateway"), f.s("reason"), f.s("count")+" times, last "+f.s("last_at"), f.s("detail"))
	}
	apart := d.list("apart")
	if len(apart) == 0 {
		return out.err
	}
	out.put("")
	out.put("APART", "METER", "PERIOD", "AGGREGATION", "METERED", "RATED", "LATE", "DIFFERENCE")
	for _, r := range apart {
		rated := r.s("rated")
		if r.s("priced") != "true" {
			rated = "no price"
		}
		out.put(r.s("customer"), r.s("meter"), r.s("period.start"), r.s("aggregation"), r.s("metered"), rated, r.s("late"), r.s("difference"))
	}
	return out.err
}

func invoiceText(w io.Writer, d doc) error {
	names := []string{"id", "number", "customer", "plan", "status", "period.start", "period.end", "finalized_at", "checkpoint.id"}
	if d.s("number") == "0" { // not finalized
		names = append(names[:1], names[2:]...)
	}
	if err := fields(names...)(w, d); err != nil {
		return err
	}
	out := lines{w: w}
	out.put("")
	out.put("LINE", "FROM", "QUANTITY", "EXACT", "ROUNDED")
	for _, l := range d.list("lines") {
		name, quantity := lineName(l)
		out.put(l.s("number")+" "+name, l.s("period.start"), quantity, l.s("exact"), l.s("rounded.amount"))
		for _, t := range l.list("tiers") {
			tier := "  tier " + t.s("tier")
			if t.s("tier") == "0" {
				tier = "  charged" // by a price without tiers
			}
			out.put(tier, "", t.s("quantity")+" × "+t.s("unit_amount"), t.s("amount"), "")
		}
	}
	for _, t := range d.list("taxes") {
		out.put(strings.TrimSpace(t.s("name")+" "+t.s("percent")+" %"), "", "", "", t.s("amount.amount"))
	}
	out.put("total", "", "", "", d.s("total.amount")+" "+d.s("total.currency"))
	for _, x := range [][2]string{{"from the balance", "balance_applied"}, {"paid", "paid"}, {"credited", "credited"}, {"remaining", "remaining"}} {
		if n := d.s("standing." + x[1] + ".amount"); n != "" {
			out.put(x[0], "", "", "", n)
		}
	}
	return out.err
}

// lineName is what an invoice's line is called, with its kind where it is no price's, and its quantity where it has one.
func lineName(l doc) (name, quantity string) {
	name, quantity = cmp.Or(l.s("price"), l.s("name")), l.s("quantity")
	switch kind := l.s("kind"); kind {
	case "flat", "usage":
	default:
		name = strings.TrimSpace(name + " (" + kind + ")")
		if quantity == "0" {
			quantity = ""
		}
	}
	return name, quantity
}

// secretText is a new key with its secret.
func secretText(w io.Writer, d doc) error {
	if err := keyFields()(w, d); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w, "Keep the secret now: it is not shown again.")
	return err
}

// statusText prints the counters, without the lists.
func statusText(w io.Writer, d doc) error {
	out := lines{w: w}
	for _, name := range slices.Sorted(maps.Keys(d)) {
		if _, list := d[name].([]any); !list {
			out.put(name, d.s(name))
		}
	}
	return out.err
}
