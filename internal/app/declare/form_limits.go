package declare

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/quota"
)

func (r *reader) limit(n node) catalog.Limit {
	var l catalog.Limit
	r.fields(n, []field{
		{"key", wantKey, func(n node) { l.Key, _ = r.text(n) }},
		{"meter", "", func(n node) { l.Meter, _ = r.text(n) }},
		{"token_bucket", "", func(n node) { l.Bucket = r.bucket(n) }},
		{"quota", "", func(n node) { l.Quota = r.optional(n) }},
		{"concurrency", "", func(n node) { l.Concurrency = r.concurrency(n) }},
		{"credits", "", func(n node) { l.Credits = r.yes(n, "true; leave it out for none") }},
		{"spend_cap", "", func(n node) { l.SpendCap = r.optional(n) }},
		{"window", "", func(n node) { l.Window, _ = choose(r, n, windows()...) }},
		{"fixed", "", func(n node) { l.Fixed = r.span(n) }},
		{"rolling", "", func(n node) { l.Rolling = r.span(n) }},
		{"per", "", func(n node) { r.scopes(n, &l) }},
		{"routes", "", func(n node) {
			r.list(n, "the routes' patterns", func(n node) {
				match, _ := r.text(n)
				l.Routes = append(l.Routes, match)
			})
		}},
		{"enforcement", "", func(n node) { l.Mode, _ = choose(r, n, modes()...) }},
		{"grace", "", func(n node) { l.Grace = r.percent(n) }},
		{"failure", "", func(n node) { l.Failure = r.failure(n) }},
		{"shape", "", func(n node) { l.Shape = r.shape(n) }},
		{"notify", "", func(n node) { r.notify(n, &l) }},
	})
	return l
}

func modes() []option[quota.Mode] {
	var out []option[quota.Mode]
	for m := quota.Hard; m <= quota.Shadow; m++ {
		out = append(out, option[quota.Mode]{m.String(), m})
	}
	return out
}

func windows() []option[period.Window] {
	var out []option[period.Window]
	for _, w := range period.Windows() {
		out = append(out, option[period.Window]{w.String(), w})
	}
	return out
}

func (r *reader) bucket(n node) *catalog.Bucket {
	var b catalog.Bucket
	r.fields(n, []field{
		{"rate", catalog.RateForm, func(n node) {
			var ok bool
			if b.Rate, b.Per, ok = catalog.ParseRate(literal(n)); !ok {
				r.unclear(n, "a rate", catalog.RateForm, "/s", func(s string) bool { _, _, ok := catalog.ParseRate(s); return ok })
			}
		}},
		{"burst", `how much may come at once, such as "200"`, func(n node) { b.Burst, _ = r.decimal(n) }},
	})
	return &b
}

// concurrency reads a whole number above 0; 0 in the value means that none was declared.
func (r *reader) concurrency(n node) int64 {
	const want = "how many requests may run at once, such as 10"
	i, ok := r.integer(n, want)
	if ok && i <= 0 {
		r.wrong(n, "is not above 0"+got(literal(n)), want, "")
	}
	return int64(i)
}

// yes reads a field that can only be true.
func (r *reader) yes(n node, want string) bool {
	yes := r.boolean(n)
	if !yes && !r.broken[n.path] {
		r.wrong(n, `is off (got "false")`, want, "")
	}
	return yes
}

// scopes reads one scope or a list of them. They stand in one order, however they are written.
func (r *reader) scopes(n node, l *catalog.Limit) {
	var options []option[catalog.Scope]
	for s := catalog.PerProject; s <= catalog.PerRoute; s++ {
		options = append(options, option[catalog.Scope]{s.String(), s})
	}
	one := func(n node) {
		s, ok := choose(r, n, options...)
		switch {
		case !ok:
		case slices.Contains(l.Per, s):
			r.wrong(n, "is set twice"+got(s.String()), "each scope once", "")
		default:
			l.Per = append(l.Per, s)
		}
	}
	if _, single := n.value.(*ast.StringNode); single {
		one(n)
	} else {
		r.list(n, "project, key, user, route", one)
	}
	slices.Sort(l.Per)
	// A fault that Validate finds at one of them (a user that nobody names) is shown where that one stands.
	if i := slices.Index(l.Per, catalog.PerUser); i >= 0 {
		r.places[fmt.Sprintf("%s[%d]", n.path, i)] = n.at
	}
}

func (r *reader) percent(n node) int64 {
	const want = `whole percent, such as "10%"`
	p, ok := catalog.ParsePercent(literal(n))
	if !ok || p == 0 {
		r.unclear(n, "a percentage above 0", want, "%", func(s string) bool { p, ok := catalog.ParsePercent(s); return ok && p > 0 })
	}
	return p
}

func (r *reader) failure(n node) catalog.Failure {
	const want = `closed, open or local N%, such as "local 20%"`
	word, ok := r.text(n)
	if !ok {
		return catalog.Failure{}
	}
	f, ok := catalog.ParseFailure(word)
	if ok && (f.Kind != catalog.FailLocal || f.Local > 0) {
		return f
	}
	suggestion := catalog.Suggest(word, []string{"closed", "open"})
	if guess := strings.Join(strings.Fields(word), " ") + "%"; len(word) <= maxShown {
		if f, ok := catalog.ParseFailure(guess); ok && f.Local > 0 {
			suggestion = strconv.Quote(guess)
		}
	}
	r.wrong(n, "is not supported"+got(word), want, suggestion)
	return catalog.Failure{}
}

func (r *reader) shape(n node) *catalog.Shape {
	var s catalog.Shape
	r.fields(n, []field{
		{"max_wait", `how long a request may wait, such as "2s"`, func(n node) { s.MaxWait = r.duration(n) }},
		{"queue", "how many requests of a key may wait, such as 100", func(n node) { s.Queue, _ = r.integer(n, "a whole number, such as 100") }},
	})
	return &s
}

// notify reads the percentages of reminders; an empty list means none.
func (r *reader) notify(n node, l *catalog.Limit) {
	l.Notify = []int{}
	r.list(n, "whole percent", func(n node) {
		i, _ := r.integer(n, "whole percent of the limit, such as 80")
		l.Notify = append(l.Notify, i)
	})
}

// entitlements reads a mapping of features to true, false, a number or a text.
func (r *reader) entitlements(n node) (out []catalog.Entitlement) {
	const want = "true, false, a number or a text"
	mapping, ok := n.value.(*ast.MappingNode)
	if !ok {
		if _, empty := n.value.(*ast.NullNode); !empty {
			r.wrong(n, "is "+kind(n.value), "a mapping of features to values, such as {sso: true, seats: 5}", "")
		}
		return nil
	}
	for _, entry := range mapping.Values {
		key := entry.Key.GetToken()
		at := r.enter(entry.Value, join(n.path, key.Value), join(n.shown, clip(key.Value)), key)
		if _, ok := scalar(at.value); !ok {
			r.wrong(at, "is "+kind(at.value), want, "")
			continue
		}
		out = append(out, catalog.Entitlement{Key: key.Value, Value: literal(at)})
	}
	return out
}

func (r *reader) baseline(n node) (b catalog.Baseline) {
	r.fields(n, []field{
		{"factor", "how many times the usual is abnormal, such as 5", func(n node) {
			const want = "a whole number, such as 5"
			i, ok := r.integer(n, want)
			if ok && i == 0 {
				r.wrong(n, `is out of range (got "0")`, want, "")
			}
			b.Factor = int64(i)
		}},
		{"throttle", "", func(n node) { b.Throttle = r.boolean(n) }},
	})
	return b
}
