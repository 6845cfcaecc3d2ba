package correct_test

import (
	"fmt"
	"slices"
	"time"

	"github.com/tallystick/tallystick/internal/core/period"
)

// reading is what an event counts for on one meter, by the model.
type reading struct {
	customer, meter string
	value           int
}

// content is what an event says.
type content struct {
	kind, subject string
	tokens, size  int
	user          string
	ok            bool
}

func (c content) data() string {
	return fmt.Sprintf(`{"ok":%t,"size":%d,"tokens":%d,"user":%q}`, c.ok, c.size, c.tokens, c.user)
}

// known is an event as the model has it.
type known struct {
	source, id     string
	first, now     content
	at             time.Time
	unit           string
	gateway        bool
	voided         bool
	held, filtered bool
	readings       []reading
}

// unmatched says that the event waits in the inbox.
func (e *known) unmatched() bool {
	return len(e.readings) == 0 && !e.voided && !e.held && !e.filtered
}

// rules are what the catalog and the aliases say. The model knows nothing of catalogs beyond this.
type rules struct {
	okOnly     bool // api_calls leaves out what is not ok
	sizes      bool // tokens sums size
	extra      bool // a further meter counts completions
	aliasType  bool // compl is completion
	aliasOwner bool // "ACME Inc" is acme
}

func (r rules) catalog() string {
	out := "tallystick: 1\nmeters:\n  - {key: api_calls, event: request, aggregation: count"
	if r.okOnly {
		out += ", filter: {data.ok: [true]}"
	}
	out += "}\n  - {key: tokens, event: completion, aggregation: sum, value: data.tokens}\n"
	if r.sizes {
		out = out[:len(out)-len("data.tokens}\n")] + "data.size}\n"
	}
	out += "  - {key: peak, event: completion, aggregation: max, value: data.tokens}\n  - {key: users, event: completion, aggregation: unique, value: data.user}\n"
	if r.extra {
		out += "  - {key: extra, event: completion, aggregation: count, filter: \"event.source == '/jobs'\"}\n"
	}
	return out + `plans:
  - key: pro
    currency: USD
    prices:
      - {key: calls, model: graduated, meter: api_calls, every: month, tiers: [{unit_amount: "0.01"}]}
      - {key: tokens, model: graduated, meter: tokens, every: month, tiers: [{unit_amount: "0.01"}]}
      - {key: peak, model: graduated, meter: peak, every: month, tiers: [{unit_amount: "0.01"}]}
      - {key: users, model: graduated, meter: users, every: month, tiers: [{unit_amount: "0.01"}]}
`
}

// resolve is what an event counts for, and whether a meter and a customer know it.
func (r rules) resolve(e *known, c content) (out []reading, matched bool) {
	customer := c.subject
	if c.subject == "ACME Inc" && r.aliasOwner {
		customer = "acme"
	}
	kind := c.kind
	if kind == "compl" && r.aliasType {
		kind = "completion"
	}
	if customer != "acme" && customer != "bolt" || kind != "request" && kind != "completion" {
		return nil, false
	}
	if kind == "request" {
		if !r.okOnly || c.ok {
			out = append(out, reading{customer, "api_calls", 1})
		}
		return out, true
	}
	tokens := c.tokens
	if r.sizes {
		tokens = c.size
	}
	out = append(out, reading{customer, "tokens", tokens}, reading{customer, "peak", c.tokens}, reading{customer, "users", int(c.user[0])})
	if r.extra && e.source == "/jobs" {
		out = append(out, reading{customer, "extra", 1})
	}
	return out, true
}

// measure is a meter's quantity over the events of an interval.
func (m *machine) measure(customer, meterKey string, in period.Interval) (n int) {
	users := map[int]bool{}
	for _, e := range m.events {
		if !in.Contains(e.at) {
			continue
		}
		for _, r := range e.readings {
			switch {
			case r.customer != customer || r.meter != meterKey:
			case meterKey == "peak":
				n = max(n, r.value)
			case meterKey == "users":
				users[r.value] = true
			default:
				n += r.value
			}
		}
	}
	return n + len(users)
}

// recounted does to the model what a recount does.
func (m *machine) recounted(meterKey string, closedToo bool) {
	for _, e := range m.events {
		if e.voided || e.held {
			continue
		}
		of := func(r reading) bool { return r.meter == meterKey }
		all, _ := m.resolve(e, e.now)
		fresh := slices.DeleteFunc(slices.Clone(all), func(r reading) bool { return !of(r) })
		old := slices.DeleteFunc(slices.Clone(e.readings), func(r reading) bool { return !of(r) })
		if slices.Equal(old, fresh) || e.gateway && len(old) > 0 {
			continue
		}
		closed := slices.ContainsFunc(append(old, fresh...), func(r reading) bool {
			return slices.ContainsFunc(m.closed, func(c closedPeriod) bool { return c.customer == r.customer && c.in.Contains(e.at) })
		})
		if closed && !closedToo {
			continue
		}
		if e.unmatched() {
			e.readings = all
			continue
		}
		e.filtered = false
		e.readings = append(slices.DeleteFunc(slices.Clone(e.readings), of), fresh...)
	}
}
