package rules

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/meter"
)

// The bounds of event times.
const (
	ageMin   = time.Hour
	ageMax   = 3650 * day
	aheadMin = time.Second
	aheadMax = day
	day      = 24 * time.Hour
)

const (
	wantAdditive = "a meter with aggregation count, sum or custom"
	wantPath     = `"data." and the name of a number in it, such as "data.tokens"`
)

func (v *validator) validateEvents() {
	c := v.catalog
	v.count("events", len(c.Events), catalog.MaxEventTypes)
	used := map[string]int{}
	for i, e := range c.Events {
		path := fmt.Sprintf("events[%d]", i)
		v.eventType(path+".type", e.Type)
		if first, taken := used[e.Type]; taken && e.Type != "" {
			v.add(path+".type", fmt.Sprintf("is the type of events[%d] already%s", first, got(e.Type)), "each type once", "")
		} else {
			used[e.Type] = i
		}
		if len(e.Schema) > catalog.MaxSchema {
			v.add(path+".schema", fmt.Sprintf("is too long: %d bytes of JSON", len(e.Schema)), fmt.Sprintf("at most %d bytes", catalog.MaxSchema), "")
		}
	}
	if age := c.Ingest.MaxAge; age != 0 && (age < ageMin || age > ageMax) {
		v.add("ingest.max_age", "is out of range"+got(catalog.FormatSpan(age)), catalog.FormatSpan(ageMin)+" to "+catalog.FormatSpan(ageMax), "")
	}
	if ahead := c.Ingest.MaxAhead; ahead != 0 && (ahead < aheadMin || ahead > aheadMax) {
		v.add("ingest.max_ahead", "is out of range"+got(catalog.FormatSpan(ahead)), catalog.FormatSpan(aheadMin)+" to "+catalog.FormatSpan(aheadMax), "")
	}
}

func (v *validator) eventType(path, name string) {
	if name == "" || strings.ContainsFunc(name, unicode.IsSpace) || !plainText(name) {
		v.add(path, "is not an event type"+got(name), fmt.Sprintf("1 to %d characters without spaces", maxText), "")
	}
}

func (v *validator) meter(path string, m catalog.Meter) {
	v.eventType(path+".event", m.Event)
	v.value(path, m)
	v.filter(path+".filter", m.Filter)
	if m.Scale < 0 || m.Scale > catalog.MaxScale {
		v.add(path+".scale", fmt.Sprintf("is out of range (got \"%d\")", m.Scale), fmt.Sprintf("the decimals to keep, 0 to %d", catalog.MaxScale), "")
	}
	v.text(path+".unit", m.Unit)
	v.count(path+".dimensions", len(m.Dimensions), catalog.MaxDimensions)
	for i, name := range m.Dimensions {
		at := fmt.Sprintf("%s.dimensions[%d]", path, i)
		if account.ValidKey(name) != nil {
			v.add(at, "is not a name"+got(name), "1 to 64 of a-z A-Z 0-9 . _ - with a letter or digit first", "")
		} else if slices.Contains(m.Dimensions[:i], name) {
			v.add(at, "is listed twice"+got(name), "each dimension once", "")
		}
		if from, ok := m.From[name]; ok && !dataPath(from) {
			v.add(at+".value", "is not a path into the event's data"+got(from), `"data." and a name in it, such as "data.region"`, "")
		}
	}
}

// value checks what the meter takes from an event, by its aggregation.
func (v *validator) value(path string, m catalog.Meter) {
	scale := fmt.Sprintf(" (got \"%d\")", m.Scale)
	switch m.Aggregation {
	case meter.Count:
		if m.Value != "" {
			v.add(path+".value", "does not go with aggregation count: each event counts 1"+got(m.Value), "no value, or aggregation: sum", "")
		}
		if m.Scale != 0 {
			v.add(path+".scale", "does not go with aggregation count"+scale, "0, or no scale", "0")
		}
	case meter.Unique:
		if !dataPath(m.Value) {
			v.add(path+".value", "is not a path into the event's data"+got(m.Value), `"data." and the name of what is counted once, such as "data.user"`, "")
		}
		if m.Scale != 0 {
			v.add(path+".scale", "does not go with aggregation unique"+scale, "0, or no scale", "0")
		}
	case meter.Sum, meter.Min, meter.Max, meter.Latest, meter.TimeWeighted:
		if m.Custom {
			v.expression(path+".value", m.Value, "event.data.input + event.data.output")
		} else if !dataPath(m.Value) {
			v.add(path+".value", "is not a path into the event's data"+got(m.Value), wantPath, "")
		}
	default:
		v.add(path+".aggregation", "is unknown", "count, sum, min, max, latest, unique, time_weighted or custom", "")
	}
}

// expression checks what can be told of a CEL expression without knowing CEL.
func (v *validator) expression(path, text, example string) {
	switch {
	case strings.TrimSpace(text) == "":
		v.add(path, "is missing", fmt.Sprintf("a CEL expression, such as %q", example), "")
	case !utf8.ValidString(text) || utf8.RuneCountInString(text) > catalog.MaxExpression:
		v.add(path, "is too long", fmt.Sprintf("at most %d characters", catalog.MaxExpression), "")
	}
}

func (v *validator) filter(path string, f catalog.Filter) {
	if f.Expression != "" {
		v.expression(path, f.Expression, "event.data.input + event.data.output")
	}
	v.count(path, len(f.Matches), catalog.MaxMatches)
	for i, m := range f.Matches {
		at := path + "." + m.Path
		switch {
		case !dataPath(m.Path):
			v.add(at, "is not a path into the event's data"+got(m.Path), `"data." and a name in it, such as "data.region"`, "")
		case slices.ContainsFunc(f.Matches[:i], func(o catalog.Match) bool { return o.Path == m.Path }):
			v.add(at, "is set twice", "each path once", "")
		}
		if len(m.Values) == 0 {
			v.add(at, "allows nothing", "a value or a list of values", "")
		}
		v.count(at, len(m.Values), catalog.MaxValues)
		for _, value := range m.Values {
			if len(value) > maxText*utf8.UTFMax {
				v.add(at, "is too long"+got(value), fmt.Sprintf("at most %d bytes", maxText*utf8.UTFMax), "")
			}
		}
	}
}

// dataPath tells whether s is "data." and dotted names.
func dataPath(s string) bool {
	rest, ok := strings.CutPrefix(s, "data.")
	if !ok || len(s) > maxText || !plainText(s) {
		return false
	}
	names := strings.Split(rest, ".")
	return len(names) <= maxValueDepth && !slices.ContainsFunc(names, func(name string) bool {
		return name == "" || strings.TrimSpace(name) != name
	})
}
