package ingest

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tallystick/tallystick/internal/app/reading"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
)

// read takes a meter's value from an event with canonical data into its resolution.
func (r *resolver) read(m catalog.Meter, in *reading.Input, into *meter.Resolution) *Outcome {
	switch {
	case m.Aggregation == meter.Count:
		into.Value = money.FromInt(1)
		return nil
	case m.Aggregation == meter.Unique:
		into.Value = money.FromInt(1)
		return distinct(m, in.Event().Data, into)
	case m.Custom:
		value, err := r.reading.Custom(m, in)
		if err != nil {
			return &Outcome{
				Pointer: "/data", Rule: fmt.Sprintf("must fit the expression of meter %q: %s", m.Key, reason(err)),
				Fix: "send what the expression reads: " + m.Value,
			}
		}
		into.Value = value
		return sound(m, "/data", value)
	}
	pointer := pointerOf(m.Value)
	reads := fmt.Sprintf("meter %q %s %s", m.Key, verb(m), m.Value)
	data := in.Event().Data
	if data == nil {
		return &Outcome{Pointer: pointer, Rule: "is missing", Fix: "send a number: " + reads}
	}
	value, err := meter.Value(m.Value, data)
	if err != nil {
		return &Outcome{Pointer: pointer, Rule: "must be a number or a decimal string: " + err.Error(), Fix: "send a number: " + reads}
	}
	into.Value = value
	return sound(m, pointer, value)
}

func verb(m catalog.Meter) string {
	if m.Aggregation == meter.Sum {
		return "sums"
	}
	return "reads"
}

// sound holds the bounds of every value.
func sound(m catalog.Meter, pointer string, value money.Decimal) *Outcome {
	if value.Sign() < 0 {
		fix := "usage only adds up; void the event that was wrong instead"
		if !m.Aggregation.Additive() {
			fix = fmt.Sprintf("meter %q measures from 0 up", m.Key)
		}
		return &Outcome{Pointer: pointer, Rule: "must not be negative", Fix: fix}
	}
	switch units, err := value.Scaled(m.Scale); {
	case errors.Is(err, money.ErrInexact):
		return &Outcome{
			Pointer: pointer, Rule: fmt.Sprintf("must have at most %d decimals, has %d", m.Scale, value.Scale()),
			Fix: fmt.Sprintf("round it, or declare another meter like %q with a larger scale", m.Key),
		}
	case err != nil || units > MaxUnits:
		return &Outcome{
			Pointer: pointer, Rule: fmt.Sprintf("must be at most %s", money.FromScaled(MaxUnits, m.Scale)),
			Fix: fmt.Sprintf("check the unit of meter %q; send more than that in several events", m.Key),
		}
	}
	return nil
}

// distinct reads what a unique meter counts once.
func distinct(m catalog.Meter, data []byte, into *meter.Resolution) *Outcome {
	pointer, fix := pointerOf(m.Value), fmt.Sprintf("meter %q counts the distinct values of %s; send a short text, a number or a boolean", m.Key, m.Value)
	text, ok, err := meter.Text(m.Value, data)
	switch problem := badText(text, true); {
	case err != nil:
		return &Outcome{Pointer: pointer, Rule: "must be a text, a number or a boolean", Fix: fix}
	case !ok:
		return &Outcome{Pointer: pointer, Rule: "is missing", Fix: fix}
	case problem != "":
		return &Outcome{Pointer: pointer, Rule: problem, Fix: fix}
	}
	into.Distinct = text
	return nil
}

// dimensionsOf reads a meter's dimensions, sorted by name. A missing one or null is left out.
func dimensionsOf(m catalog.Meter, data []byte) ([]meter.Dimension, *Outcome) {
	var out []meter.Dimension
	for _, name := range m.Dimensions {
		var text string
		var ok bool
		var err error
		pointer := "/data/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
		if from := m.From[name]; from != "" {
			pointer = pointerOf(from)
			text, ok, err = meter.Text(from, data)
		} else {
			text, ok, err = meter.Member(name, data)
		}
		problem := badText(text, false)
		switch {
		case err != nil:
			return nil, &Outcome{Pointer: pointer, Rule: "must be a text, a number or a boolean", Fix: "meter " + strconv.Quote(m.Key) + " groups by it"}
		case !ok:
			continue
		case problem != "":
			return nil, &Outcome{Pointer: pointer, Rule: problem, Fix: "meter " + strconv.Quote(m.Key) + " groups by it; send a short name"}
		}
		out = append(out, meter.Dimension{Name: name, Value: text})
	}
	slices.SortFunc(out, func(a, b meter.Dimension) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// pointerOf is a path as a JSON Pointer inside the event.
func pointerOf(path string) string {
	return "/" + strings.ReplaceAll(strings.NewReplacer("~", "~0", "/", "~1").Replace(path), ".", "/")
}

// reason is an error of an event's content without its class.
func reason(err error) string {
	return strings.TrimPrefix(err.Error(), meter.ErrEvent.Error()+": ")
}
