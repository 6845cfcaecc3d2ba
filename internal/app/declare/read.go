package declare

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"

	"github.com/tallystick/tallystick/internal/app/reading"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/catalog/rules"
	"github.com/tallystick/tallystick/internal/core/money"
)

// node is a value with its path by index ("plans[0].key", as rules.Problem has it) and as shown, by key ("plans.free.key").
type node struct {
	value       ast.Node
	at          place // of the value; of its key when the value is left empty
	path, shown string
}

type place struct {
	line, column int
	shown        string
}

const (
	maxExpressions = 2*catalog.MaxMeters + catalog.MaxRoutes
	maxSchemas     = catalog.MaxEventTypes
)

// maxKept bounds the faults in hand; a document in such a state is not read to its end.
const maxKept = 20 * MaxFaults

// reader turns nodes into values. A wrong value is a fault and stays zero; what rules.Validate then says about it, or
// about something around it, is left out.
type reader struct {
	faults []Fault
	places map[string]place
	broken map[string]bool // paths whose value was not read
	around map[string]bool // paths that hold a broken one

	earlier  Earlier           // nil: schemas are compared with none
	language *reading.Language // made for the first expression

	// How many were compiled. A valid catalog has no more than these bounds; of another one the rest is not looked at.
	expressions, schemas int
}

func (r *reader) fault(at place, path, shown, message, expected, suggestion string) {
	r.breaks(path)
	if len(r.faults) < maxKept {
		r.faults = append(r.faults, Fault{Line: at.line, Column: at.column, Path: shown, Message: message, Expected: expected, Suggestion: suggestion})
	}
}

func (r *reader) wrong(n node, message, expected, suggestion string) {
	r.fault(n.at, n.path, n.shown, message, expected, suggestion)
}

func (r *reader) breaks(path string) {
	r.broken[path] = true
	for path = parent(path); path != "" && !r.around[path]; path = parent(path) {
		r.around[path] = true
	}
}

// parent cuts the last field or index off a path.
func parent(path string) string {
	return path[:max(0, strings.LastIndexAny(path, ".["))]
}

// problem places a finding of rules.Validate at the value it names, or at what that is missing from.
func (r *reader) problem(p rules.Problem) {
	if r.around[p.Path] || len(r.faults) >= maxKept {
		return
	}
	for path := p.Path; path != ""; path = parent(path) {
		if r.broken[path] {
			return
		}
	}
	path := p.Path
	for path != "" && r.places[path] == (place{}) {
		path = parent(path)
	}
	at := r.places[path]
	shown := strings.TrimPrefix(at.shown+p.Path[len(path):], ".")
	r.faults = append(r.faults, Fault{Line: at.line, Column: at.column, Path: shown, Message: p.Message, Expected: p.Expected, Suggestion: p.Suggestion})
}

// enter makes the node of a value and remembers its place.
func (r *reader) enter(value ast.Node, path, shown string, key *token.Token) node {
	n := node{value: value, path: path, shown: shown}
	n.at.line, n.at.column = position(value, key)
	n.at.shown = shown
	r.places[path] = n.at
	return n
}

// position is where a value begins. The parser places a block mapping at its first colon and an empty value after its key.
func position(value ast.Node, key *token.Token) (line, column int) {
	t := key
	switch v := value.(type) {
	case *ast.MappingNode:
		t = v.Start
		if !v.IsFlowStyle && len(v.Values) > 0 {
			t = v.Values[0].Key.GetToken()
		}
	case *ast.NullNode:
		if v.Token.Type != token.ImplicitNullType || key == nil {
			t = v.Token
		}
	case nil:
	default:
		t = v.GetToken()
	}
	if t == nil || t.Position == nil {
		return 1, 1
	}
	return t.Position.Line, t.Position.Column
}

// field is one field of a mapping in the form; want says what a required one holds, and is empty for others.
type field struct {
	name, want string
	read       func(node)
}

// fields reads a mapping and tells which of its fields are there; nil when it is none.
func (r *reader) fields(n node, form []field) map[string]bool {
	mapping, ok := n.value.(*ast.MappingNode)
	if !ok {
		r.wrong(n, "is "+kind(n.value), "a mapping of "+names(form), "")
		return nil
	}
	present, meant := map[string]bool{}, map[string]bool{}
	for _, entry := range mapping.Values {
		key := entry.Key.GetToken()
		at := place{line: key.Position.Line, column: key.Position.Column}
		path, shown := join(n.path, key.Value), join(n.shown, clip(key.Value))
		f := find(form, key.Value)
		switch {
		case f == nil:
			guess := ""
			if len(r.faults) < MaxFaults {
				guess = catalog.Suggest(key.Value, fieldNames(form))
			}
			meant[guess] = true
			if guess != "" && !present[guess] { // said at the misspelt one
				r.breaks(join(n.path, guess))
			}
			r.fault(at, path, shown, "is not a field here", names(form), guess)
		case present[f.name]:
			r.fault(at, path+"#", shown, "is set twice", "each field once", "")
		default:
			present[f.name] = true
			f.read(r.enter(entry.Value, path, shown, key))
		}
	}
	for _, f := range form {
		switch {
		case f.want == "" || present[f.name]:
		case !meant[f.name]:
			r.fault(n.at, join(n.path, f.name), join(n.shown, f.name), "is missing", f.want, "")
		}
	}
	return present
}

// list reads a sequence; nothing at all is an empty one.
func (r *reader) list(n node, of string, read func(node)) {
	sequence, ok := n.value.(*ast.SequenceNode)
	if !ok {
		if _, empty := n.value.(*ast.NullNode); !empty {
			r.wrong(n, "is "+kind(n.value), "a list of "+of, "")
		}
		return
	}
	for i, value := range sequence.Values {
		index := fmt.Sprintf("[%d]", i)
		shown := n.shown + index
		if key := keyOf(value); key != "" {
			shown = n.shown + "." + key
		}
		start := sequence.Start
		if i < len(sequence.Entries) && sequence.Entries[i].Start != nil {
			start = sequence.Entries[i].Start
		}
		read(r.enter(value, n.path+index, shown, start))
	}
}

// keyOf is the key that a list entry is known by, if it has a sound one.
func keyOf(value ast.Node) string {
	mapping, ok := value.(*ast.MappingNode)
	if !ok {
		return ""
	}
	for _, entry := range mapping.Values {
		if text, ok := entry.Value.(*ast.StringNode); ok && entry.Key.GetToken().Value == "key" && account.ValidKey(text.Value) == nil {
			return text.Value
		}
	}
	return ""
}

// text reads a string. A bare 2024 or true is none: YAML would read it as something else.
func (r *reader) text(n node) (string, bool) {
	if text, ok := n.value.(*ast.StringNode); ok {
		return text.Value, true
	}
	suggestion := ""
	if literal, ok := scalar(n.value); ok && len(literal) <= maxShown {
		suggestion = strconv.Quote(literal)
	}
	r.wrong(n, "is "+kind(n.value), "a text, in quotes where YAML reads something else", suggestion)
	return "", false
}

// number reads the literal text of a number, in quotes or not; no float is ever made of it.
func (r *reader) number(n node, want string) (string, bool) {
	switch v := n.value.(type) {
	case *ast.StringNode:
		return v.Value, true
	case *ast.IntegerNode:
		if v.Token.Type == token.IntegerType {
			return v.Token.Value, true
		}
		r.wrong(n, "is not written in decimal"+got(v.Token.Value), want, "")
		return "", false
	case *ast.FloatNode:
		return v.Token.Value, true
	}
	r.wrong(n, "is "+kind(n.value), want, "")
	return "", false
}

func (r *reader) decimal(n node) (d money.Decimal, ok bool) {
	const want = `a plain decimal number, such as "0.0004"`
	literal, ok := r.number(n, want)
	if !ok {
		return d, false
	}
	d, err := money.ParseDecimal(literal)
	if err == nil {
		return d, true
	}
	if errors.Is(err, money.ErrOverflow) {
		r.wrong(n, "has too many digits"+got(literal), want, "")
		return d, false
	}
	suggestion := strings.NewReplacer("_", "", " ", "", "$", "", "€", "").Replace(literal)
	if _, err := money.ParseDecimal(suggestion); err != nil {
		suggestion = ""
	}
	r.wrong(n, "is not a plain decimal number"+got(literal), want, suggestion)
	return d, false
}

func (r *reader) integer(n node, want string) (int, bool) {
	literal, ok := r.number(n, want)
	if !ok {
		return 0, false
	}
	i, err := strconv.Atoi(literal)
	if err != nil {
		r.wrong(n, "is not a whole number"+got(literal), want, "")
		return 0, false
	}
	return i, true
}

// option is a word of the form and what it stands for.
type option[T any] struct {
	word  string
	value T
}

// choose reads one word of several.
func choose[T any](r *reader, n node, options ...option[T]) (value T, ok bool) {
	word, ok := r.text(n)
	if !ok {
		return value, false
	}
	words := make([]string, len(options))
	for i, o := range options {
		if o.word == word {
			return o.value, true
		}
		words[i] = o.word
	}
	r.wrong(n, "is not supported"+got(word), rules.OneOf(words), catalog.Suggest(word, words))
	return value, false
}

func find(form []field, name string) *field {
	for i := range form {
		if form[i].name == name {
			return &form[i]
		}
	}
	return nil
}

func fieldNames(form []field) []string {
	out := make([]string, len(form))
	for i, f := range form {
		out[i] = f.name
	}
	return out
}

func names(form []field) string { return strings.Join(fieldNames(form), ", ") }

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// scalar is the literal text of a value that is neither mapping, list nor empty.
func scalar(value ast.Node) (string, bool) {
	switch v := value.(type) {
	case *ast.StringNode:
		return v.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return v.GetToken().Value, true
	}
	return "", false
}

// kind says what a value is instead of what was expected.
func kind(value ast.Node) string {
	literal, _ := scalar(value)
	switch value.(type) {
	case *ast.MappingNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	case *ast.StringNode:
		return "a text" + got(literal)
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "a number" + got(literal)
	case *ast.BoolNode:
		return "true or false" + got(literal)
	case nil, *ast.NullNode:
		return "empty"
	}
	return "something that YAML allows and this form does not"
}

// maxShown bounds how many characters of the document one fault repeats.
const maxShown = 60

func clip(s string) string {
	if utf8.RuneCountInString(s) > maxShown {
		return string([]rune(s)[:maxShown]) + "…"
	}
	return s
}

func got(s string) string { return fmt.Sprintf(" (got %q)", clip(s)) }
