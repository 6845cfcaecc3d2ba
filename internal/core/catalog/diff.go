package catalog

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/quota"
)

// Change is one line of a diff: Op is "+", "-" or "~". A whole entry that came or went has all its fields in To or From.
type Change struct {
	Op   string `json:"op"`
	Path string `json:"path"` // "plans.free.limits.daily.quota"
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
}

// Diff compares by key, in declared order of next, removals last. from may be nil. Order alone is no change.
func Diff(from, next *Catalog) []Change {
	before, after := from.entries(), next.entries()
	known := make(map[string]entry, len(before))
	for _, e := range before {
		known[e.path] = e
	}
	var out []Change
	for _, e := range after {
		old, ok := known[e.path]
		if !ok {
			out = append(out, Change{Op: "+", Path: e.path, To: e.String()})
			continue
		}
		delete(known, e.path)
		out = append(out, old.changes(e)...)
	}
	for _, e := range before {
		if _, gone := known[e.path]; gone {
			out = append(out, Change{Op: "-", Path: e.path, From: e.String()})
		}
	}
	return out
}

// entry is one keyed part of a catalog, flat; a field without value is absent.
type entry struct {
	path   string
	fields []field
}

// field has no name where the entry is one value.
type field struct{ name, value string }

func (e *entry) set(name, value string) {
	if value != "" {
		e.fields = append(e.fields, field{name, value})
	}
}

func (e *entry) span(name string, d time.Duration) {
	if d != 0 {
		e.set(name, FormatSpan(d))
	}
}

func (e *entry) flag(name string, on bool) {
	if on {
		e.set(name, "true")
	}
}

func (e entry) String() string {
	parts := make([]string, len(e.fields))
	for i, f := range e.fields {
		parts[i] = f.value
		if f.name != "" {
			parts[i] = f.name + ": " + f.value
		}
	}
	return strings.Join(parts, ", ")
}

// at is the path of a field.
func (e entry) at(f field) string {
	if f.name == "" {
		return e.path
	}
	return e.path + "." + f.name
}

func (e entry) changes(next entry) []Change {
	old := make(map[string]string, len(e.fields))
	for _, f := range e.fields {
		old[f.name] = f.value
	}
	var out []Change
	for _, f := range next.fields {
		value, ok := old[f.name]
		delete(old, f.name)
		switch {
		case !ok:
			out = append(out, Change{Op: "+", Path: e.at(f), To: f.value})
		case value != f.value:
			out = append(out, Change{Op: "~", Path: e.at(f), From: value, To: f.value})
		}
	}
	for _, f := range e.fields {
		if value, ok := old[f.name]; ok {
			out = append(out, Change{Op: "-", Path: e.at(f), From: value})
		}
	}
	return out
}

func (c *Catalog) entries() []entry {
	if c == nil {
		return nil
	}
	var out []entry
	for _, e := range c.Events {
		out = append(out, entry{"events." + e.Type, []field{{"schema", string(e.Schema)}}})
	}
	out = append(out, c.Ingest.entries()...)
	for _, m := range c.Meters {
		out = append(out, m.entry())
	}
	for _, p := range c.Plans {
		path := "plans." + p.Key
		e := entry{path: path}
		e.set("name", p.Name)
		e.set("currency", p.Currency.Code())
		p.Terms.describe(&e)
		out = append(out, e)
		for _, pr := range p.Prices {
			out = append(out, priceEntries(path+".prices."+pr.Key, &pr)...)
		}
		for _, l := range p.Limits {
			out = append(out, l.entry(path+".limits."+l.Key))
		}
		for _, e := range p.Entitlements {
			out = append(out, entry{path + ".entitlements." + e.Key, []field{{"", e.Value}}})
		}
		if b := p.Baseline; b != (Baseline{}) {
			e := entry{path: path + ".baseline"}
			e.set("factor", strconv.FormatInt(b.Factor, 10))
			e.flag("throttle", b.Throttle)
			out = append(out, e)
		}
	}
	out = append(out, c.sales()...)
	if c.KeyHeader != "" {
		out = append(out, entry{"gateway.key_header", []field{{"", c.KeyHeader}}})
	}
	if u := c.EndUser; u.Header != "" {
		e := entry{path: "gateway.end_user"}
		e.set("header", u.Header)
		e.set("claim", u.Claim)
		out = append(out, e)
	}
	for _, r := range c.Routes {
		out = append(out, r.entry())
	}
	return out
}

func (i Ingest) entries() []entry {
	var out []entry
	for _, f := range []struct {
		name  string
		value time.Duration
	}{{"max_age", i.MaxAge}, {"max_ahead", i.MaxAhead}} {
		if f.value != 0 {
			out = append(out, entry{"ingest." + f.name, []field{{"", FormatSpan(f.value)}}})
		}
	}
	return out
}

// reads is the part of a meter that says what it counts.
func (m Meter) reads() entry {
	e := entry{path: "meters." + m.Key}
	e.set("event", m.Event)
	e.set("aggregation", m.Word())
	if m.Aggregation != meter.Count && m.Aggregation != meter.Unique {
		e.set("scale", strconv.Itoa(m.Scale))
	}
	e.set("value", m.Value)
	e.set("filter", m.Filter.String())
	return e
}

func (m Meter) entry() entry {
	e := m.reads()
	e.set("unit", m.Unit)
	names := make([]string, len(m.Dimensions))
	for i, name := range m.Dimensions {
		names[i] = name
		if path := m.From[name]; path != "" {
			names[i] += "=" + path
		}
	}
	e.set("dimensions", strings.Join(names, " "))
	return e
}

func (l Limit) entry(path string) entry {
	e := entry{path: path}
	e.set("meter", l.Meter)
	if l.Bucket != nil {
		e.set("token_bucket.rate", l.Bucket.RateText())
		e.set("token_bucket.burst", l.Bucket.Burst.String())
	}
	e.set("quota", optional(l.Quota))
	e.set("spend_cap", optional(l.SpendCap))
	if l.Window != 0 {
		e.set("window", l.Window.String())
	}
	e.span("fixed", l.Fixed)
	e.span("rolling", l.Rolling)
	if l.Concurrency != 0 {
		e.set("concurrency", strconv.FormatInt(l.Concurrency, 10))
	}
	e.flag("credits", l.Credits)
	scopes := make([]string, len(l.Per))
	for i, s := range l.Per {
		scopes[i] = s.String()
	}
	e.set("per", strings.Join(scopes, " "))
	e.set("routes", strings.Join(l.CounterRoutes(), ", "))
	if l.Mode != quota.Hard {
		e.set("enforcement", l.Mode.String())
	}
	if l.Mode == quota.Grace {
		e.set("grace", strconv.FormatInt(l.Grace, 10)+"%")
	}
	if l.Failure != (Failure{}) {
		e.set("failure", l.Failure.String())
	}
	if l.Shape != nil {
		e.set("shape.max_wait", l.Shape.MaxWait.String())
		e.set("shape.queue", strconv.Itoa(l.Shape.Queue))
	}
	if l.Notify != nil {
		e.set("notify", strings.Trim(fmt.Sprint(l.Notify), "[]"))
		if len(l.Notify) == 0 {
			e.set("notify", "never")
		}
	}
	return e
}

func (r Route) entry() entry {
	e := entry{path: fmt.Sprintf("gateway.routes[%q]", r.Match)}
	e.set("upstream", r.Upstream)
	e.set("meter", r.Meter)
	switch {
	case r.From != 0:
		from := r.Path
		if from == "" {
			from = "true"
		}
		e.set("cost."+r.From.String(), from)
		e.set("cost.estimate", r.Cost.String())
		if !r.Max.IsZero() {
			e.set("cost.max", r.Max.String())
		}
		if r.Capped {
			e.set("cost.overshoot", "cap")
		}
	case r.Meter != "":
		e.set("cost", r.Cost.String())
	}
	e.set("requires", r.Requires)
	r.Refund.describe(&e)
	e.set("timeout", r.Timeout.String())
	return e
}

// RefundDefault is what is given back where the catalog does not say: time-outs, callers who left, and 5xx.
func RefundDefault() Refund { return Refund{Timeout: true, ClientGone: true} }

// describe sets the fields that are not as by default.
func (r Refund) describe(e *entry) {
	if len(r.Statuses) > 0 {
		words := make([]string, len(r.Statuses))
		for i, s := range r.Statuses {
			words[i] = s.String()
		}
		e.set("refund.statuses", strings.Join(words, " "))
	} else if r.Statuses != nil {
		e.set("refund.statuses", "none")
	}
	for _, f := range []struct {
		name string
		on   bool
	}{{"refund.timeout", r.Timeout}, {"refund.client_gone", r.ClientGone}} {
		if !f.on {
			e.set(f.name, "false")
		}
	}
	if !r.Daily.IsZero() {
		e.set("refund.daily", r.Daily.String())
	}
}

func optional(d *money.Decimal) string {
	if d == nil {
		return ""
	}
	return d.String()
}
