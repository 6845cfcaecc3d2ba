package calc

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Bounds of what is read, beside LineMax.
const (
	depthMax   = 32
	membersMax = 256 // of one object
	keptAtOnce = 64  // members that there is room for at once
)

// kind is what a JSON value is.
type kind uint8

const (
	null kind = iota
	boolean
	number
	text
	list
	table
)

func (k kind) String() string {
	return [...]string{"null", "a boolean", "a number", "a string", "an array", "an object"}[k]
}

// value is a JSON value. raw is how it was written, text what it says; both are empty for lists and tables, which have members.
type value struct {
	kind    kind
	read    bool // of a member: somebody asked for it
	raw     string
	text    string
	members []member
}

// member is one member of a JSON object, or without a name one item of an array.
type member struct {
	name string
	value
}

// parser reads JSON (RFC 8259) from a line.
type parser struct {
	in        string
	pos       int
	path      []place  // where pos is; none of them has an up
	duplicate *Fault   // the first name that stands twice in an object
	stack     []member // of the objects and arrays that are being read, the innermost last
	kept      []member // of those that are read; room for more of them
}

// parse takes a line apart. A name that stands twice is no fault of syntax: the rest is read, and duplicate tells.
func parse(line string) (v value, duplicate, fault *Fault) {
	if !utf8.ValidString(line) {
		return v, nil, &Fault{Code: CodeSyntax, Detail: "the request is not UTF-8"}
	}
	p := parser{in: line, path: make([]place, 0, 8), stack: make([]member, 0, 16), kept: make([]member, 0, min(strings.Count(line, ":")+strings.Count(line, "{"), keptAtOnce))}
	p.space()
	v, err := p.value()
	if err == nil {
		if p.space(); p.pos < len(p.in) {
			err = p.fail("expected the end")
		}
	}
	if err != nil {
		return value{}, nil, &Fault{Code: CodeSyntax, Detail: err.Error()}
	}
	return v, p.duplicate, nil
}

func (p *parser) fail(what string) error { return fmt.Errorf("no JSON: %s at byte %d", what, p.pos) }

func (p *parser) space() {
	for p.pos < len(p.in) {
		switch p.in[p.pos] {
		case ' ', '\t', '\r', '\n':
			p.pos++
		default:
			return
		}
	}
}

func (p *parser) take(c byte) bool {
	if p.pos < len(p.in) && p.in[p.pos] == c {
		p.pos++
		return true
	}
	return false
}

// value reads what is next.
func (p *parser) value() (value, error) {
	if p.pos == len(p.in) {
		return value{}, p.fail("expected a value")
	}
	if len(p.path) > depthMax {
		return value{}, p.fail("too many levels")
	}
	begin := p.pos
	switch c := p.in[p.pos]; {
	case c == '"':
		s, err := p.text()
		return value{kind: text, raw: p.in[begin:p.pos], text: s}, err
	case c == '{':
		return p.table()
	case c == '[':
		return p.list()
	case c == '-' || isDigit(c):
		err := p.number()
		return value{kind: number, raw: p.in[begin:p.pos], text: p.in[begin:p.pos]}, err
	}
	for _, word := range [...]struct {
		text string
		kind kind
	}{{"null", null}, {"true", boolean}, {"false", boolean}} {
		if strings.HasPrefix(p.in[p.pos:], word.text) {
			p.pos += len(word.text)
			return value{kind: word.kind, raw: word.text, text: word.text}, nil
		}
	}
	return value{}, p.fail("expected a value")
}

// place is where pos is.
func (p *parser) place() (at *place) {
	for _, step := range p.path {
		step.up = at
		at = &step
	}
	return at
}

func (p *parser) table() (v value, err error) {
	v.kind = table
	p.pos++
	p.space()
	if p.take('}') {
		return v, nil
	}
	begin := len(p.stack)
	for {
		p.space()
		if p.pos == len(p.in) || p.in[p.pos] != '"' {
			return v, p.fail("expected a name")
		}
		name, err := p.text()
		if err != nil {
			return v, err
		}
		p.path = append(p.path, place{name: name})
		if twice := find(p.stack[begin:], name) != nil; twice && p.duplicate == nil {
			p.duplicate = p.place().fault("the name stands twice")
		}
		if len(p.stack)-begin == membersMax {
			return v, p.fail("too many names in one object")
		}
		p.space()
		if !p.take(':') {
			return v, p.fail("expected ':'")
		}
		p.space()
		inner, err := p.value()
		if err != nil {
			return v, err
		}
		p.stack = append(p.stack, member{name: name, value: inner})
		p.path = p.path[:len(p.path)-1]
		p.space()
		if p.take('}') {
			v.members = p.keep(begin)
			return v, nil
		}
		if !p.take(',') {
			return v, p.fail("expected ',' or '}'")
		}
	}
}

func (p *parser) list() (v value, err error) {
	v.kind = list
	p.pos++
	p.space()
	if p.take(']') {
		return v, nil
	}
	begin := len(p.stack)
	for {
		p.space()
		p.path = append(p.path, place{index: len(p.stack) - begin, listed: true})
		item, err := p.value()
		if err != nil {
			return v, err
		}
		p.path = p.path[:len(p.path)-1]
		p.stack = append(p.stack, member{value: item})
		p.space()
		if p.take(']') {
			v.members = p.keep(begin)
			return v, nil
		}
		if !p.take(',') {
			return v, p.fail("expected ',' or ']'")
		}
	}
}

// keep moves the members of the object or array that began there from the stack to where they stay.
func (p *parser) keep(begin int) []member {
	members := p.stack[begin:]
	if cap(p.kept)-len(p.kept) < len(members) {
		p.kept = make([]member, 0, max(len(members), keptAtOnce))
	}
	from := len(p.kept)
	p.kept = append(p.kept, members...)
	p.stack = p.stack[:begin]
	return p.kept[from:len(p.kept):len(p.kept)]
}

// text reads the string that is next.
func (p *parser) text() (string, error) {
	begin, plain := p.pos, true
	for p.pos++; p.pos < len(p.in); p.pos++ {
		switch c := p.in[p.pos]; {
		case c == '"':
			p.pos++
			if plain {
				return p.in[begin+1 : p.pos-1], nil
			}
			var s string
			if err := json.Unmarshal([]byte(p.in[begin:p.pos]), &s); err != nil {
				return "", p.fail("a string with a wrong escape")
			}
			return s, nil
		case c == '\\':
			plain = false
			p.pos++
		case c < ' ':
			return "", p.fail("a control character in a string")
		}
	}
	p.pos = len(p.in) // a last backslash went past it
	return "", p.fail("a string without end")
}

// number reads the number that is next.
func (p *parser) number() error {
	p.take('-')
	if !p.take('0') && !p.digits() {
		return p.fail("expected a digit")
	}
	if p.take('.') && !p.digits() {
		return p.fail("expected a digit")
	}
	if p.take('e') || p.take('E') {
		if !p.take('+') {
			p.take('-')
		}
		if !p.digits() {
			return p.fail("expected a digit")
		}
	}
	return nil
}

func (p *parser) digits() bool {
	begin := p.pos
	for p.pos < len(p.in) && isDigit(p.in[p.pos]) {
		p.pos++
	}
	return p.pos > begin
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func find(members []member, name string) *member {
	for i := range members {
		if members[i].name == name {
			return &members[i]
		}
	}
	return nil
}
