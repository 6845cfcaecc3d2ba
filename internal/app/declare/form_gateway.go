package declare

import (
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/tallystick/tallystick/internal/app/reading"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/money"
)

func (r *reader) gateway(n node, c *catalog.Catalog) {
	if _, empty := n.value.(*ast.NullNode); empty {
		return
	}
	r.fields(n, []field{
		{"key_header", "", func(n node) {
			if c.KeyHeader, _ = r.text(n); c.KeyHeader == "" && !r.broken[n.path] {
				r.wrong(n, "is empty", "the name of a header; leave it out for Authorization: Bearer", "")
			}
		}},
		{"end_user", "", func(n node) { c.EndUser = r.endUser(n) }},
		{"routes", "", func(n node) {
			r.list(n, "routes", func(n node) { c.Routes = append(c.Routes, r.route(n)) })
		}},
	})
}

func (r *reader) endUser(n node) (u catalog.EndUser) {
	r.fields(n, []field{
		{"header", "the header that names the end user, such as X-End-User", func(n node) { u.Header, _ = r.text(n) }},
		{"claim", "", func(n node) {
			if u.Claim, _ = r.text(n); u.Claim == "" && !r.broken[n.path] {
				r.wrong(n, "is empty", "a claim of the token, such as sub; leave it out for the header's value", "")
			}
		}},
	})
	if u.Header == "" && !r.broken[join(n.path, "header")] {
		r.missing(n, "header", "the header that names the end user, such as X-End-User")
	}
	return u
}

func (r *reader) route(n node) catalog.Route {
	route := catalog.Route{Timeout: timeoutDefault, Refund: catalog.RefundDefault()}
	present := r.fields(n, []field{
		{"match", `a pattern, such as "GET /hello"`, func(n node) { route.Match, _ = r.text(n) }},
		{"upstream", `an absolute http or https URL, such as "http://127.0.0.1:9000"`, func(n node) { route.Upstream, _ = r.text(n) }},
		{"meter", "", func(n node) {
			if route.Meter, _ = r.text(n); route.Meter == "" && !r.broken[n.path] {
				r.wrong(n, "is empty", "a meter; leave it out for a free route", "")
			}
		}},
		{"cost", "", func(n node) { r.cost(n, &route) }},
		{"requires", "", func(n node) {
			if route.Requires, _ = r.text(n); route.Requires == "" && !r.broken[n.path] {
				r.wrong(n, "is empty", "an entitlement; leave it out for none", "")
			}
		}},
		{"refund", "", func(n node) { r.refund(n, &route.Refund) }},
		{"timeout", "", func(n node) { route.Timeout = r.duration(n) }},
	})
	switch {
	case route.Meter != "" && !present["cost"]:
		route.Cost = money.FromInt(1)
	case r.broken[join(n.path, "meter")]:
		route.Cost, route.From = money.Decimal{}, 0 // it may well have a meter
	}
	if present != nil && !present["meter"] && present["cost"] && route.Cost.IsZero() && route.From == 0 {
		r.extra(n, "cost", "has no meter to count on", "a meter on this route, or no cost")
	}
	return route
}

// cost reads a number, or where the cost is read from after the answer.
func (r *reader) cost(n node, route *catalog.Route) {
	if _, ok := n.value.(*ast.MappingNode); !ok {
		route.Cost, _ = r.decimal(n)
		return
	}
	sources := 0
	from := func(source catalog.CostSource, read func(node)) field {
		return field{source.String(), "", func(n node) {
			sources++
			route.From = source
			read(n)
		}}
	}
	whole := func(n node) { r.yes(n, "true; or another source") }
	path := func(n node) { route.Path, _ = r.text(n) }
	var estimate, most *money.Decimal
	present := r.fields(n, []field{
		from(catalog.FromRequestBytes, whole), from(catalog.FromResponseBytes, whole), from(catalog.FromBytes, whole),
		from(catalog.FromHeader, path), from(catalog.FromJSON, path),
		from(catalog.FromExpression, func(n node) {
			if path(n); strings.TrimSpace(route.Path) != "" {
				r.expression(n, route.Path, reading.Cost)
			}
		}),
		{"estimate", "", func(n node) { estimate = r.optional(n) }},
		{"max", "", func(n node) {
			if most = r.optional(n); most != nil && most.IsZero() {
				r.wrong(n, `is not above 0 (got "0")`, "the most that a request may cost; leave it out where nobody knows", "")
			}
		}},
		{"overshoot", "", func(n node) { route.Capped, _ = choose(r, n, option[bool]{"charge", false}, option[bool]{"cap", true}) }},
	})
	if sources != 1 && present != nil && (sources > 1 || !r.around[n.path]) {
		message := "does not say where the cost is read from"
		if sources > 1 {
			message = "is read from several places"
		}
		r.wrong(n, message, "exactly one of request_bytes, response_bytes, bytes, response_header, response_json, expression", "")
	}
	route.Cost = money.FromInt(1)
	if most != nil && !most.IsZero() {
		route.Max, route.Cost = *most, *most
	}
	if estimate != nil {
		route.Cost = *estimate
	}
}

func (r *reader) refund(n node, out *catalog.Refund) {
	r.fields(n, []field{
		{"statuses", "", func(n node) {
			out.Statuses = []catalog.StatusRange{}
			r.list(n, "statuses", func(n node) {
				s, ok := catalog.ParseStatuses(literal(n))
				if !ok {
					what := kind(n.value)
					if text, isScalar := scalar(n.value); isScalar {
						what = "not a status" + got(text)
					}
					r.wrong(n, "is "+what, "a status such as 429, 5xx or 500-503", "")
				}
				out.Statuses = append(out.Statuses, s)
			})
		}},
		{"timeout", "", func(n node) { out.Timeout = r.boolean(n) }},
		{"client_gone", "", func(n node) { out.ClientGone = r.boolean(n) }},
		{"daily", "", func(n node) { out.Daily, _ = r.decimal(n) }},
	})
}
