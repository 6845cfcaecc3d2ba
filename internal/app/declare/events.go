package declare

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"

	"github.com/tallystick/tallystick/internal/app/reading"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/catalog/rules"
	"github.com/tallystick/tallystick/internal/core/meter"
)

// Earlier is the schema that the newest version with one had for a type of events; false when none had.
type Earlier func(eventType string) (schema []byte, version int64, ok bool)

func (r *reader) eventType(n node) catalog.EventType {
	var e catalog.EventType
	var schema node
	r.fields(n, []field{
		{"type", "the type of events that it is for", func(n node) { e.Type, _ = r.text(n) }},
		{"schema", "a JSON Schema", func(n node) { schema, e.Schema = n, r.json(n) }},
		{"breaking", "", func(n node) { e.Breaking = r.boolean(n) }},
	})
	if e.Schema == nil || r.broken[schema.path] || r.around[schema.path] || r.schemas == maxSchemas {
		return e
	}
	r.schemas++
	if _, err := reading.NewSchema(e.Schema); err != nil {
		fault, ok := errors.AsType[*reading.SchemaFault](err)
		if !ok {
			fault = &reading.SchemaFault{Message: "cannot be used: " + err.Error(), Expected: "a JSON Schema"}
		}
		r.problem(rules.Problem{Path: r.inside(schema.path, fault.Place), Message: fault.Message, Expected: fault.Expected})
		r.breaks(schema.path)
		return e
	}
	if r.earlier == nil || e.Breaking {
		return e
	}
	before, version, ok := r.earlier(e.Type)
	if !ok {
		return e
	}
	for _, b := range reading.Breaks(before, e.Schema) {
		r.problem(rules.Problem{
			Path:     r.inside(schema.path, b.Place),
			Message:  fmt.Sprintf("breaks version %d: %s", version, b.Message),
			Expected: b.Expected + "; or, once every sender is ready for it, breaking: true beside the schema",
		})
	}
	return e
}

// inside is the path of a place in a schema: "events[0].schema.required[1]".
func (r *reader) inside(path string, place []string) string {
	for _, step := range place {
		next := join(path, step)
		if _, ok := r.places[next]; !ok {
			if _, isItem := r.places[path+"["+step+"]"]; isItem {
				next = path + "[" + step + "]"
			}
		}
		path = next
	}
	return path
}

func (r *reader) boolean(n node) bool {
	if b, ok := n.value.(*ast.BoolNode); ok {
		return b.Value
	}
	r.wrong(n, "is "+kind(n.value), "true or false", "")
	return false
}

// json is a value as canonical JSON; nil where something in it is wrong.
func (r *reader) json(n node) []byte {
	before := len(r.faults)
	var b strings.Builder
	r.writeJSON(n, &b)
	if len(r.faults) > before || r.broken[n.path] {
		return nil
	}
	out, err := meter.Canonical([]byte(b.String()))
	if err != nil {
		r.wrong(n, "cannot be written as JSON: "+strings.TrimPrefix(err.Error(), meter.ErrEvent.Error()+": "), "a JSON value", "")
		return nil
	}
	return out
}

func (r *reader) writeJSON(n node, b *strings.Builder) {
	switch v := n.value.(type) {
	case *ast.MappingNode:
		b.WriteByte('{')
		seen := map[string]bool{}
		for i, entry := range v.Values {
			key := entry.Key.GetToken()
			path, shown := join(n.path, key.Value), join(n.shown, clip(key.Value))
			if seen[key.Value] {
				r.fault(place{line: key.Position.Line, column: key.Position.Column}, path+"#", shown, "is set twice", "each field once", "")
				continue
			}
			seen[key.Value] = true
			if i > 0 {
				b.WriteByte(',')
			}
			writeText(key.Value, b)
			b.WriteByte(':')
			r.writeJSON(r.enter(entry.Value, path, shown, key), b)
		}
		b.WriteByte('}')
	case *ast.SequenceNode:
		b.WriteByte('[')
		for i, value := range v.Values {
			if i > 0 {
				b.WriteByte(',')
			}
			index := fmt.Sprintf("[%d]", i)
			r.writeJSON(r.enter(value, n.path+index, n.shown+index, v.Start), b)
		}
		b.WriteByte(']')
	case *ast.StringNode:
		writeText(v.Value, b)
	case *ast.BoolNode:
		fmt.Fprint(b, v.Value)
	case *ast.NullNode:
		if v.Token.Type == token.ImplicitNullType {
			r.wrong(n, "is empty", "a value, or null", "")
			return
		}
		b.WriteString("null")
	default:
		text, ok := r.number(n, "a value of JSON")
		if !ok {
			return
		}
		if canonical, err := meter.Canonical([]byte(text)); err != nil || canonical[0] == '"' {
			r.wrong(n, "is not a number of JSON"+got(text), "a plain decimal number", "")
			return
		}
		b.WriteString(text)
	}
}

func writeText(s string, b *strings.Builder) {
	quoted, err := json.Marshal(s)
	if err != nil { // a string always encodes
		quoted = []byte(`""`)
	}
	b.Write(quoted)
}

func (r *reader) ingest(n node) (in catalog.Ingest) {
	r.fields(n, []field{
		{"max_age", "", func(n node) { in.MaxAge = r.span(n) }},
		{"max_ahead", "", func(n node) { in.MaxAhead = r.span(n) }},
	})
	return in
}

// span reads a duration that may be in days.
func (r *reader) span(n node) time.Duration {
	const want = `a number with s, m, h or d, such as "400d"`
	d, ok := catalog.ParseSpan(literal(n))
	switch {
	case !ok:
		r.unclear(n, "a duration", want, "d", func(s string) bool { _, ok := catalog.ParseSpan(s); return ok })
	case d == 0:
		r.wrong(n, "is out of range"+got(literal(n)), want, "")
	}
	return d
}

// filter reads a CEL expression, or a mapping of paths to the values that count.
func (r *reader) filter(n node) (f catalog.Filter) {
	const want = `a mapping of paths to values, such as {data.region: [eu, us]}, or a CEL expression in quotes`
	switch v := n.value.(type) {
	case *ast.StringNode:
		if f.Expression = v.Value; strings.TrimSpace(v.Value) == "" {
			r.wrong(n, "is empty", want, "")
			return catalog.Filter{}
		}
		r.expression(n, v.Value, reading.Condition)
	case *ast.MappingNode:
		for _, entry := range v.Values {
			key := entry.Key.GetToken()
			at := r.enter(entry.Value, join(n.path, key.Value), join(n.shown, clip(key.Value)), key)
			f.Matches = append(f.Matches, catalog.Match{Path: key.Value, Values: r.words(at)})
		}
		if len(v.Values) == 0 {
			r.wrong(n, "is empty", want, "")
		}
	default:
		r.wrong(n, "is "+kind(n.value), want, "")
	}
	return f
}

// words reads one scalar or a list of them, as text.
func (r *reader) words(n node) []string {
	list, ok := n.value.(*ast.SequenceNode)
	if !ok {
		return r.word(n, nil)
	}
	var out []string
	r.list(n, "values", func(n node) { out = r.word(n, out) })
	if len(list.Values) == 0 {
		r.wrong(n, "allows nothing", "a value or a list of values", "")
	}
	return out
}

func (r *reader) word(n node, to []string) []string {
	switch v := n.value.(type) {
	case *ast.StringNode:
		return append(to, v.Value)
	case *ast.BoolNode:
		return append(to, fmt.Sprint(v.Value))
	case *ast.IntegerNode, *ast.FloatNode:
		text, ok := r.number(n, "a value")
		if !ok {
			return to
		}
		canonical, err := meter.Canonical([]byte(text))
		if err != nil {
			r.wrong(n, "is not a number of JSON"+got(text), "a plain decimal number", "")
			return to
		}
		return append(to, string(canonical))
	}
	r.wrong(n, "is "+kind(n.value), "a text, a number, true or false", "")
	return to
}

// expression tells what is wrong with a CEL expression.
func (r *reader) expression(n node, text string, kind reading.Kind) {
	if r.expressions == maxExpressions {
		return
	}
	r.expressions++
	if r.language == nil {
		var err error
		if r.language, err = reading.NewLanguage(); err != nil {
			r.wrong(n, err.Error(), "", "")
			return
		}
	}
	want := "a CEL expression that is an int, a decimal(x) or a decimal string"
	if kind == reading.Condition {
		want = "a CEL expression that is true or false"
	}
	if kind == reading.Cost {
		want = "a CEL expression over request and response that is an int, a decimal(x) or a decimal string"
	}
	if _, err := r.language.Compile(text, kind); err != nil {
		reason := strings.TrimPrefix(err.Error(), reading.ErrInvalid.Error()+": ")
		r.wrong(n, "is not a usable expression: "+reason+got(text), want, "")
	}
}

// dimension reads a name, or a name and the path that it is read from.
func (r *reader) dimension(n node, m *catalog.Meter) {
	if _, ok := n.value.(*ast.MappingNode); !ok {
		name, _ := r.text(n)
		m.Dimensions = append(m.Dimensions, name)
		return
	}
	var name, from string
	r.fields(n, []field{
		{"name", "what the dimension is called", func(n node) { name, _ = r.text(n) }},
		{"value", `the path that it is read from, such as "data.geo.region"`, func(n node) { from, _ = r.text(n) }},
	})
	m.Dimensions = append(m.Dimensions, name)
	if m.From == nil {
		m.From = map[string]string{}
	}
	if name != "" {
		m.From[name] = from
	}
}
