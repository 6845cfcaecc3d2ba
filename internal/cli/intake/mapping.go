package intake

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tallystick/tallystick/internal/core/money"
)

// Mapping says which column of a table becomes which part of an event.
type Mapping struct {
	columns map[string]string // by target: "id", "data.tokens"
	fixed   map[string]string // type and source of all events
	plan    []target          // once bound to a header
	data    *member
}

// target is one attribute and where its value stands.
type target struct {
	name   string
	column int // -1: fixed
	value  string
}

// member is an object or a value of data; the order of children is by name.
type member struct {
	column   int // of a value
	children map[string]*member
}

// attributes that a column may become, besides data.NAME.
func attributes() []string { return []string{"id", "source", "type", "subject", "time", "traceparent"} }

// ParseMapping reads "id=request_id,data.tokens=tokens": targets and the columns that they come from. eventType and source are those
// of every event; "" when a column says it.
func ParseMapping(text, eventType, source string) (*Mapping, error) {
	m := &Mapping{columns: map[string]string{}, fixed: map[string]string{}}
	for pair := range strings.SplitSeq(text, ",") {
		name, column, ok := strings.Cut(pair, "=")
		name, column = strings.TrimSpace(name), strings.TrimSpace(column)
		if !ok || name == "" || column == "" {
			return nil, fmt.Errorf("--map: %q is not TARGET=COLUMN, as in id=request_id", pair)
		}
		rest, data := strings.CutPrefix(name, "data.")
		if !data && !slices.Contains(attributes(), name) || data && slices.Contains(strings.Split(rest, "."), "") {
			return nil, fmt.Errorf("--map: %q is none of %s and data.NAME", name, strings.Join(attributes(), ", "))
		}
		if _, twice := m.columns[name]; twice {
			return nil, fmt.Errorf("--map: %s is named twice", name)
		}
		m.columns[name] = column
	}
	for name, value := range map[string]string{"type": eventType, "source": source} {
		if value == "" {
			continue
		}
		if _, twice := m.columns[name]; twice {
			return nil, fmt.Errorf("--map names a column for %s, and --%s one for all; leave one of them out", name, name)
		}
		m.fixed[name] = value
	}
	for _, name := range []string{"id", "type", "source"} {
		if m.columns[name] == "" && m.fixed[name] == "" {
			fix := "--map " + name + "=COLUMN"
			if name != "id" {
				fix += " or --" + name
			}
			return nil, fmt.Errorf("a table needs %s: every event has a %s", fix, name)
		}
	}
	return m, nil
}

// String is the mapping in one form, for comparing.
func (m *Mapping) String() string {
	if m == nil {
		return ""
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(m.columns)) {
		parts = append(parts, name+"="+m.columns[name])
	}
	return strings.Join(parts, ",") + " type=" + m.fixed["type"] + " source=" + m.fixed["source"]
}

// bind finds the columns in a header.
func (m *Mapping) bind(columns []string) error {
	m.plan, m.data = nil, nil
	for _, name := range slices.Sorted(maps.Keys(m.columns)) {
		column := m.columns[name]
		at := slices.Index(columns, column)
		if at < 0 {
			return fmt.Errorf("line 1: there is no column %q for %s; the header has %s", column, name, strings.Join(columns, ", "))
		}
		if slices.Contains(columns[at+1:], column) {
			return fmt.Errorf("line 1: column %q, which is for %s, stands twice in the header", column, name)
		}
		rest, data := strings.CutPrefix(name, "data.")
		if !data {
			m.plan = append(m.plan, target{name: name, column: at})
			continue
		}
		if m.data == nil {
			m.data = &member{column: -1}
		}
		if !m.data.put(strings.Split(rest, "."), at) {
			return fmt.Errorf("--map: %s cannot be a value and have members", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.fixed)) {
		m.plan = append(m.plan, target{name: name, column: -1, value: m.fixed[name]})
	}
	return nil
}

func (d *member) put(path []string, column int) bool {
	if d.column >= 0 {
		return false
	}
	if d.children == nil {
		d.children = map[string]*member{}
	}
	child := d.children[path[0]]
	if len(path) == 1 {
		if child != nil {
			return false
		}
		d.children[path[0]] = &member{column: column}
		return true
	}
	if child == nil {
		child = &member{column: -1}
		d.children[path[0]] = child
	}
	return child.put(path[1:], column)
}

var errNoText = errors.New("is not valid UTF-8")

// event appends one row as a CloudEvent. An empty field is left out.
func (m *Mapping) event(b []byte, fields []string) ([]byte, *Outcome) {
	b = append(b, `{"specversion":"1.0"`...)
	for _, t := range m.plan {
		value := t.value
		if t.column >= len(fields) {
			return b, shortRow(t.name, t.column, len(fields))
		}
		if t.column >= 0 {
			value = fields[t.column]
		}
		if value == "" {
			continue
		}
		b = append(append(append(b, ',', '"'), t.name...), '"', ':')
		var err error
		if b, err = appendText(b, value); err != nil {
			return b, &Outcome{Status: "rejected", Pointer: "/" + t.name, Rule: err.Error(), Fix: "save the table as UTF-8"}
		}
	}
	if m.data != nil {
		b = append(b, `,"data":`...)
		var fault *Outcome
		if b, fault = m.data.append(b, "/data", fields); fault != nil {
			return b, fault
		}
	}
	return append(b, '}'), nil
}

func shortRow(name string, column, have int) *Outcome {
	return &Outcome{
		Status: "rejected", Pointer: "/" + strings.ReplaceAll(name, ".", "/"),
		Rule: fmt.Sprintf("has no field: it would be field %d, the row has %d", column+1, have), Fix: "give every row as many fields as the header",
	}
}

func (d *member) append(b []byte, at string, fields []string) ([]byte, *Outcome) {
	b = append(b, '{')
	first := true
	for _, name := range slices.Sorted(maps.Keys(d.children)) {
		child, here := d.children[name], at+"/"+name
		if child.column >= len(fields) {
			return b, shortRow(strings.TrimPrefix(here, "/"), child.column, len(fields))
		}
		if child.column >= 0 && fields[child.column] == "" {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		var err error
		if b, err = appendText(b, name); err != nil {
			return b, &Outcome{Status: "rejected", Pointer: here, Rule: err.Error(), Fix: "name it in UTF-8"}
		}
		b = append(b, ':')
		if child.column < 0 {
			var fault *Outcome
			if b, fault = child.append(b, here, fields); fault != nil {
				return b, fault
			}
			continue
		}
		if b, err = appendValue(b, fields[child.column]); err != nil {
			return b, &Outcome{Status: "rejected", Pointer: here, Rule: err.Error(), Fix: "save the table as UTF-8"}
		}
	}
	return append(b, '}'), nil
}

// appendValue writes a plain decimal number as it stands, and all else as a text.
func appendValue(b []byte, value string) ([]byte, error) {
	if _, err := money.ParseDecimal(value); err == nil {
		return append(b, value...), nil
	}
	return appendText(b, value)
}

func appendText(b []byte, value string) ([]byte, error) {
	if strings.ToValidUTF8(value, "") != value {
		return b, errNoText
	}
	quoted, err := json.Marshal(value)
	return append(b, quoted...), err
}
