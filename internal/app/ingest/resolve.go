package ingest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/tallystick/tallystick/internal/app/reading"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// Aliases are other names of event types and subjects. A Directory may have them; they are asked about names that neither
// the catalog nor the customers know, and answer with the name itself where there is no alias.
type Aliases interface {
	AliasType(eventType string) string
	AliasSubject(subject string) string
}

// resolver turns the events of one call into entries, against one catalog and one instant.
type resolver struct {
	directory Directory
	catalog   *catalog.Compiled
	now       time.Time
	meters    map[string][]catalog.Meter // by event type, filled as types are seen
	reading   *reading.Reading           // of the catalog; nil: made when the first event comes
	permit    func(source, eventType string) error
	canonical bool              // the events' data is canonical already
	again     bool              // the events are stored already: source and time are not judged
	near      map[string]string // by event type: what may have been meant
	only      string            // the one meter that reads; empty: all
	ageMax    time.Duration     // at least so old events are taken, whatever the catalog says
}

// resolver is one for a call, against the newest catalog.
func (s *Service) resolver() (*resolver, error) {
	current := s.cfg.Directory.Current()
	compiled, err := s.reading.of(current)
	if err != nil {
		return nil, err
	}
	return &resolver{
		directory: s.cfg.Directory, catalog: current, now: period.Truncate(s.cfg.Now()), meters: map[string][]catalog.Meter{}, reading: compiled,
	}, nil
}

// latest keeps the reading of the newest catalog version, so that it is compiled once.
type latest struct {
	mu      sync.Mutex
	catalog *catalog.Compiled
	reading *reading.Reading
}

func (l *latest) of(c *catalog.Compiled) (*reading.Reading, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.catalog != c {
		compiled, err := reading.New(c.Catalog)
		if err != nil {
			return nil, fmt.Errorf("catalog version %d: %w", c.Version, err)
		}
		l.catalog, l.reading = c, compiled
	}
	return l.reading, nil
}

// entry judges one event and finds the customer and meters that it counts for.
func (r *resolver) entry(e meter.Event) (store.Entry, *Outcome) {
	fault := r.check(&e)
	entry := store.Entry{Event: e, Origin: meter.Reported}
	if fault == nil {
		entry.Resolutions, fault = r.resolutions(e)
		if len(entry.Resolutions) == 0 && r.matched(e) {
			entry.Flags |= store.Filtered
		}
	}
	if fault != nil {
		fault.Status, fault.ID = rejected, e.ID
		return store.Entry{}, fault
	}
	return entry, nil
}

// resolutions are what a checked event counts for: nothing without a customer, and nothing on a meter whose filter leaves
// it out. What a meter cannot read is refused for an unknown subject too: once stored, it could not be mended.
func (r *resolver) resolutions(e meter.Event) ([]meter.Resolution, *Outcome) {
	if fault := r.ready(); fault != nil {
		return nil, fault
	}
	customer, known := r.customer(e.Subject)
	in := reading.NewInput(e)
	var out []meter.Resolution
	for _, m := range r.readers(e.Type) {
		counts, err := r.reading.Counts(m, in)
		if err != nil {
			return nil, &Outcome{
				Pointer: "/data", Rule: fmt.Sprintf("must fit the filter of meter %q: %s", m.Key, reason(err)),
				Fix: "send what the filter reads: " + m.Filter.String(),
			}
		}
		if !counts {
			continue
		}
		resolution := meter.Resolution{CustomerID: customer.ID, Meter: m.Key, CatalogVersion: r.catalog.Version}
		fault := r.read(m, in, &resolution)
		if fault == nil {
			resolution.Dimensions, fault = dimensionsOf(m, e.Data)
		}
		if fault != nil {
			return nil, fault
		}
		if known {
			out = append(out, resolution)
		}
	}
	return out, nil
}

// customer finds a subject's customer, by its own name or by an alias.
func (r *resolver) customer(subject string) (account.Customer, bool) {
	if subject == "" {
		return account.Customer{}, false
	}
	c, ok := r.directory.Customer(subject)
	if aliases, has := r.directory.(Aliases); !ok && has {
		if name := aliases.AliasSubject(subject); name != "" && name != subject {
			return r.directory.Customer(name)
		}
	}
	return c, ok
}

// matched says that an event belongs somewhere: a meter reads its type and its customer is known. Where filters leave it out,
// it counts for nothing and is still not an unmatched one.
func (r *resolver) matched(e meter.Event) bool {
	_, known := r.customer(e.Subject)
	return known && len(r.readers(e.Type)) > 0
}

// explain tells why an event is unmatched, and how it will count after all. Sending it again would not help: it is kept.
func (r *resolver) explain(e meter.Event, out *Outcome) {
	switch {
	case len(r.readers(e.Type)) == 0:
		out.Pointer, out.Rule = "/type", "is a type that no meter reads"
		out.Fix = "declare a meter for it, or an alias by `tally unmatched fix type`; then it counts without being sent again"
		if near := r.suggest(e.Type); near != "" {
			out.Fix = fmt.Sprintf("did you mean %q? `tally unmatched fix type` lets it count without being sent again", near)
		}
	case e.Subject == "":
		out.Pointer, out.Rule = "/subject", "names no customer"
		out.Fix = "send a customer's id or key with the next ones; `tally events amend` gives this one a subject"
	default:
		out.Pointer, out.Rule = "/subject", "is no customer's id or key"
		out.Fix = "create the customer, or an alias by `tally unmatched fix customer`; after a replay it counts without being sent again"
	}
}

// suggestMax bounds the types of one call that get a suggestion.
const suggestMax = 100

// suggest is the type that may have been meant; empty: none.
func (r *resolver) suggest(eventType string) string {
	near, known := r.near[eventType]
	if known || len(r.near) == suggestMax {
		return near
	}
	var types []string
	for _, m := range r.catalog.Meters {
		types = append(types, m.Event)
	}
	if r.near == nil {
		r.near = map[string]string{}
	}
	near = catalog.Suggest(eventType, types)
	r.near[eventType] = near
	return near
}

// eventType is the type that the catalog knows an event by: its own, else its alias.
func (r *resolver) eventType(own string) string {
	_, schema := r.catalog.EventType(own)
	aliases, has := r.directory.(Aliases)
	if schema || !has || slices.ContainsFunc(r.catalog.Meters, func(m catalog.Meter) bool { return m.Event == own }) {
		return own
	}
	if name := aliases.AliasType(own); name != "" {
		return name
	}
	return own
}

// check holds the rules of every event and puts its time and data into the stored form.
func (r *resolver) check(e *meter.Event) *Outcome {
	for _, f := range []struct {
		pointer, text string
		required      bool
	}{{"/source", e.Source, true}, {"/id", e.ID, true}, {"/type", e.Type, true}, {"/subject", e.Subject, false}, {"/traceparent", e.TraceParent, false}} {
		if problem := badText(f.text, f.required); problem != "" {
			return &Outcome{Pointer: f.pointer, Rule: problem, Fix: "send a plain text"}
		}
	}
	if strings.HasPrefix(e.Source, gatewaySources) && !r.again {
		return &Outcome{Pointer: "/source", Rule: "must not begin with \"" + gatewaySources + "\"", Fix: "those sources belong to gateways; name your own system"}
	}
	if fault := r.permitted(e); fault != nil {
		return fault
	}
	if n := len(r.readers(e.Type)); n > metersMax {
		return &Outcome{Pointer: "/type", Rule: fmt.Sprintf("at most %d meters may read one event, %d do", metersMax, n), Fix: "let fewer meters of the catalog read this type"}
	}
	if fault := r.checkTime(e); fault != nil {
		return fault
	}
	if fault := r.checkData(e); fault != nil {
		return fault
	}
	return r.checkSchema(*e)
}

// ready makes the reading where the resolver came without one.
func (r *resolver) ready() *Outcome {
	if r.reading != nil {
		return nil
	}
	compiled, err := reading.New(r.catalog.Catalog)
	if err != nil {
		return &Outcome{Rule: "must be readable by the catalog: " + err.Error(), Fix: "mend and apply the catalog"}
	}
	r.reading = compiled
	return nil
}

// checkSchema holds the data against the schema of the event's type.
func (r *resolver) checkSchema(e meter.Event) *Outcome {
	if fault := r.ready(); fault != nil {
		return fault
	}
	e.Type = r.eventType(e.Type)
	if v := r.reading.Check(e); v != nil {
		return &Outcome{
			Pointer: v.Pointer, Rule: "must fit the schema: it " + v.Rule,
			Fix: fmt.Sprintf("send %s; the schema of type %q is in catalog version %d", v.Want, e.Type, r.catalog.Version),
		}
	}
	return nil
}

// permitted asks whether the producer may write the event's source and type.
func (r *resolver) permitted(e *meter.Event) *Outcome {
	if r.permit == nil {
		return nil
	}
	err := r.permit(e.Source, e.Type)
	if err == nil {
		return nil
	}
	if told, ok := errors.AsType[*Invalid](err); ok {
		return &Outcome{Pointer: told.Pointer, Rule: told.Rule, Fix: told.Fix}
	}
	return &Outcome{Pointer: "/source", Rule: err.Error(), Fix: "use a token that may write this source and type"}
}

func (r *resolver) checkTime(e *meter.Event) *Outcome {
	if e.Time.IsZero() {
		e.Time = r.now
	}
	e.Time = period.Truncate(e.Time)
	if r.again {
		return nil
	}
	age, ahead := r.catalog.Ingest.Bounds()
	age = max(age, r.ageMax)
	switch {
	case e.Time.After(r.now.Add(ahead)):
		return &Outcome{Pointer: "/time", Rule: "must be at most " + span(ahead) + " ahead of the server's clock", Fix: "it is " + period.Format(r.now) + "; check the sender's clock"}
	case e.Time.Before(r.now.Add(-age)):
		return &Outcome{Pointer: "/time", Rule: "must be at most " + span(age) + " ago", Fix: "it is " + period.Format(r.now) + "; older usage cannot be billed"}
	}
	return nil
}

// span says a duration in days or hours where it is whole ones.
func span(d time.Duration) string {
	for _, unit := range []struct {
		length time.Duration
		name   string
	}{{24 * time.Hour, "day"}, {time.Hour, "hour"}, {time.Minute, "minute"}} {
		switch n := d / unit.length; {
		case d%unit.length != 0:
		case n == 1:
			return "1 " + unit.name
		default:
			return fmt.Sprintf("%d %ss", n, unit.name)
		}
	}
	return d.String()
}

func (r *resolver) checkData(e *meter.Event) *Outcome {
	if len(e.Data) == 0 {
		e.Data = nil
		return nil
	}
	tooLong := &Outcome{Pointer: "/data", Rule: fmt.Sprintf("must be at most %d bytes of canonical JSON", MaxEvent), Fix: "send less data"}
	if len(e.Data) > MaxEvent {
		return tooLong
	}
	if r.canonical {
		return nil // a decoder saw that it is an object
	}
	canonical, err := meter.Canonical(e.Data)
	if err != nil {
		return &Outcome{Pointer: "/data", Rule: "must be a JSON object: " + err.Error(), Fix: "mend the JSON"}
	}
	if canonical[0] != '{' {
		return &Outcome{Pointer: "/data", Rule: "must be a JSON object", Fix: "put the value into an object"}
	}
	if len(canonical) > MaxEvent { // 1e37 is written out
		return tooLong
	}
	e.Data = canonical
	return nil
}

// badText is the rule that a text breaks, "" when none.
func badText(s string, required bool) string {
	switch {
	case s == "" && required:
		return "must not be empty"
	case len(s) > textMax:
		return fmt.Sprintf("must have at most %d bytes", textMax)
	case !utf8.ValidString(s):
		return "must be valid UTF-8"
	case strings.ContainsFunc(s, unicode.IsControl):
		return "must have no control characters"
	}
	return ""
}

// readers are the meters that read a type of event.
func (r *resolver) readers(eventType string) []catalog.Meter {
	list, ok := r.meters[eventType]
	if !ok {
		name := r.eventType(eventType)
		for _, m := range r.catalog.Meters {
			if m.Event == name && (r.only == "" || m.Key == r.only) {
				list = append(list, m)
			}
		}
		r.meters[eventType] = list
	}
	return list
}
