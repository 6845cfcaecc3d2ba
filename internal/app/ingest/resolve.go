package ingest

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// resolver turns the events of one call into entries, against one catalog and one instant.
type resolver struct {
	directory Directory
	catalog   *catalog.Compiled
	now       time.Time
	meters    map[string][]catalog.Meter // by event type, filled as types are seen
	permit    func(source, eventType string) error
	canonical bool          // the events' data is canonical already
	again     bool          // the events are stored already: source and time are not judged
	ageMax    time.Duration // 0: AgeMax
}

// entry judges one event and finds the customer and meters that it counts for.
func (r *resolver) entry(e meter.Event) (store.Entry, *Outcome) {
	if fault := r.check(&e); fault != nil {
		fault.Status, fault.ID = rejected, e.ID
		return store.Entry{}, fault
	}
	entry := store.Entry{Event: e, Origin: meter.Reported}
	customer, ok := account.Customer{}, false
	if e.Subject != "" {
		customer, ok = r.directory.Customer(e.Subject)
	}
	// A value that no meter can read is refused for an unknown subject too: once stored, it could not be mended.
	for _, m := range r.readers(e.Type) {
		value, fault := read(m, e.Data)
		var dimensions []meter.Dimension
		if fault == nil {
			dimensions, fault = dimensionsOf(m, e.Data)
		}
		if fault != nil {
			fault.Status, fault.ID = rejected, e.ID
			return store.Entry{}, fault
		}
		if ok {
			entry.Resolutions = append(entry.Resolutions, meter.Resolution{
				CustomerID: customer.ID, Meter: m.Key, CatalogVersion: r.catalog.Version, Value: value, Dimensions: dimensions,
			})
		}
	}
	return entry, nil
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
	return r.checkData(e)
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
	oldest, days := AgeMax, "400 days"
	if r.ageMax > 0 {
		oldest, days = r.ageMax, "10 years"
	}
	switch {
	case e.Time.After(r.now.Add(AheadMax)):
		return &Outcome{Pointer: "/time", Rule: "must be at most 1 hour ahead of the server's clock", Fix: "it is " + period.Format(r.now) + "; check the sender's clock"}
	case e.Time.Before(r.now.Add(-oldest)):
		return &Outcome{Pointer: "/time", Rule: "must be at most " + days + " ago", Fix: "it is " + period.Format(r.now) + "; older usage cannot be billed"}
	}
	return nil
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
		for _, m := range r.catalog.Meters {
			if m.Event == eventType {
				list = append(list, m)
			}
		}
		r.meters[eventType] = list
	}
	return list
}

// read takes a meter's value from canonical data.
func read(m catalog.Meter, data []byte) (money.Decimal, *Outcome) {
	if m.Aggregation != meter.Sum {
		return money.FromInt(1), nil
	}
	pointer := "/" + strings.ReplaceAll(m.Value, ".", "/")
	reads := fmt.Sprintf("meter %q sums %s", m.Key, m.Value)
	if data == nil {
		return money.Decimal{}, &Outcome{Pointer: pointer, Rule: "is missing", Fix: "send a number: " + reads}
	}
	value, err := meter.Value(m.Value, data)
	if err != nil {
		return money.Decimal{}, &Outcome{Pointer: pointer, Rule: "must be a number or a decimal string: " + err.Error(), Fix: "send a number: " + reads}
	}
	if value.Sign() < 0 {
		return money.Decimal{}, &Outcome{Pointer: pointer, Rule: "must not be negative", Fix: "usage only adds up; correct an invoice by a credit note"}
	}
	switch units, err := value.Scaled(m.Scale); {
	case errors.Is(err, money.ErrInexact):
		return money.Decimal{}, &Outcome{
			Pointer: pointer, Rule: fmt.Sprintf("must have at most %d decimals, has %d", m.Scale, value.Scale()),
			Fix: fmt.Sprintf("round it, or raise the scale of meter %q", m.Key),
		}
	case err != nil || units > MaxUnits:
		return money.Decimal{}, &Outcome{
			Pointer: pointer, Rule: fmt.Sprintf("must be at most %s", money.FromScaled(MaxUnits, m.Scale)),
			Fix: fmt.Sprintf("check the unit of meter %q; send more than that in several events", m.Key),
		}
	}
	return value, nil
}

// dimensionsOf reads a meter's dimensions, members of the data by their names. A missing one or null is left out.
func dimensionsOf(m catalog.Meter, data []byte) ([]meter.Dimension, *Outcome) {
	if len(m.Dimensions) == 0 || data == nil {
		return nil, nil
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(data, &members); err != nil {
		return nil, &Outcome{Pointer: "/data", Rule: "must be a JSON object", Fix: "mend the JSON"}
	}
	var out []meter.Dimension
	for _, name := range m.Dimensions {
		raw, ok := members[name]
		if !ok || string(raw) == "null" {
			continue
		}
		at := "/data/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
		value := string(raw) // a number or a boolean stands as it is written
		if raw[0] == '{' || raw[0] == '[' {
			return nil, &Outcome{Pointer: at, Rule: "must be a text, a number or a boolean", Fix: "meter " + strconv.Quote(m.Key) + " groups by it"}
		}
		if raw[0] == '"' {
			if err := json.Unmarshal(raw, &value); err != nil {
				return nil, &Outcome{Pointer: at, Rule: "must be a text", Fix: "mend the JSON"}
			}
		}
		if problem := badText(value, false); problem != "" {
			return nil, &Outcome{Pointer: at, Rule: problem, Fix: "meter " + strconv.Quote(m.Key) + " groups by it; send a short name"}
		}
		out = append(out, meter.Dimension{Name: name, Value: value})
	}
	slices.SortFunc(out, func(a, b meter.Dimension) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}
