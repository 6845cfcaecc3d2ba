package meter

import (
	"fmt"
	"strings"

	"github.com/tallystick/tallystick/internal/core/money"
)

// Value reads a meter's value at path "data.a.b" ("data" alone is the document itself) from canonical data: a JSON
// number or a decimal string. Absent, of another type or out of range is ErrEvent; a key with a dot in it cannot be named.
func Value(path string, data []byte) (money.Decimal, error) {
	p, found, err := follow(path, data)
	if err != nil {
		return money.Decimal{}, err
	}
	if !found {
		return money.Decimal{}, fmt.Errorf("%w: nothing stands at %s", ErrEvent, path)
	}
	text, err := p.decimal()
	if err != nil {
		return money.Decimal{}, fmt.Errorf("%w (read at %s)", err, path)
	}
	d, err := money.ParseDecimal(text)
	if err != nil {
		return money.Decimal{}, fmt.Errorf("%w: %s is not a decimal number: %w", ErrEvent, path, err)
	}
	return d, nil
}

// Text reads a text, number or boolean at path "data.a.b" from canonical data, as text: 5 and "5" are the same. Nothing
// there, or null, is false. An object or a list is ErrEvent.
func Text(path string, data []byte) (text string, ok bool, err error) {
	p, found, err := follow(path, data)
	if err != nil || !found {
		return "", false, err
	}
	return p.scalar()
}

// Member is Text of a member of the data by its name, which may have dots.
func Member(name string, data []byte) (text string, ok bool, err error) {
	p := parser{in: data}
	if ok, err = p.enter(name); err != nil || !ok {
		return "", false, err
	}
	return p.scalar()
}

// follow is a parser that stands at the value of a path; false when there is none.
func follow(path string, data []byte) (p parser, found bool, err error) {
	root, rest, more := strings.Cut(path, ".")
	if root != "data" {
		return p, false, fmt.Errorf("%w: path %q does not begin with \"data\"", ErrEvent, path)
	}
	p.in = data
	for more {
		var key string
		key, rest, more = strings.Cut(rest, ".")
		if found, err = p.enter(key); err != nil || !found {
			return p, false, err
		}
	}
	return p, true, nil
}

// scalar reads the text, number or boolean that is next; null is false.
func (p *parser) scalar() (text string, ok bool, err error) {
	if p.pos == len(p.in) {
		return "", false, nil
	}
	switch p.in[p.pos] {
	case '{', '[':
		return "", false, p.fail("expected a text, a number or a boolean")
	case '"':
		s, err := p.text()
		return string(s), err == nil, err
	}
	p.out = p.out[:0]
	if err := p.value(0); err != nil {
		return "", false, err
	}
	if text = string(p.out); text == "null" {
		return "", false, nil
	}
	return text, true, nil
}

// enter moves to the value of a key of the object that is next; false when there is no such key or no object.
func (p *parser) enter(key string) (bool, error) {
	p.space()
	if !p.take('{') {
		return false, nil
	}
	p.space()
	if p.take('}') {
		return false, nil
	}
	for {
		p.space()
		k, err := p.text()
		if err != nil {
			return false, err
		}
		p.space()
		if !p.take(':') {
			return false, p.fail("expected ':'")
		}
		p.space()
		if string(k) == key {
			return true, nil
		}
		p.out = p.out[:0]
		if err := p.value(0); err != nil {
			return false, err
		}
		p.space()
		if !p.take(',') {
			return false, nil
		}
	}
}

// decimal reads the number or string that is next, as text.
func (p *parser) decimal() (string, error) {
	if p.pos < len(p.in) && p.in[p.pos] == '"' {
		s, err := p.text()
		return string(s), err
	}
	if p.pos < len(p.in) && (p.in[p.pos] == '-' || isDigit(p.in[p.pos])) {
		p.out = p.out[:0]
		err := p.number()
		return string(p.out), err
	}
	return "", p.fail("expected a number or a decimal string")
}
