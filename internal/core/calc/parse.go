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

// value is a JSON value. raw is how it was written, text what it says; both are empty for lists and tables.
type value struct {
	kind    kind
	raw     string
	text    string
	items   []value
	members []member
}

// member is one member of a JSON object.
type member struct {
	name  string
	value value
	read  bool
}

// parser reads JSON (RFC 8259) from a line.
type parser struct {
	in        string
	pos       int
	path      []place // where pos is; none of them has an up
	duplicate *Fault  // the first name that stands twice in an object
}

// parse takes a line apart. A name that stands twice is no fault of syntax: the rest is read, and duplicate tells.
func parse(line string) (v value, duplicate, fault *Fault) {
	if !utf8.ValidString(line) {
		return v, nil, &Fault{Code: CodeSyntax, Detail: "the request is not UTF-8"}
	}
	p := parser{in: line}
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
	v.members = make([]member, 0, 8)
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
		if twice := find(v.members, name) != nil; twice && p.duplicate == nil {
			p.duplicate = p.place().fault("the name stands twice")
		}
		if len(v.members) == membersMax {
			return v, p.fail("too many names in one object")
		}
		p.space()
		if !p.take(':') {
			return v, p.fail("expected ':'")
		}
		p.space()
		m := member{name: name}
		if m.value, err = p.value(); err != nil {
			return v, err
		}
		p.path = p.path[:len(p.path)-1]
		v.members = append(v.members, m)
		p.space()
		if p.take('}') {
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
	for {
		p.space()
		p.path = append(p.path, place{index: len(v.items), listed: true})
		item, err := p.value()
		if err != nil {
			return v, err
		}
		p.path = p.path[:len(p.path)-1]
		v.items = append(v.items, item)
		p.space()
		if p.take(']') {
			return v, nil
		}
		if !p.take(',') {
			return v, p.fail("expected ',' or ']'")
		}
	}
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
