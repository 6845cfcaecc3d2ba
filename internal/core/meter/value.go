package meter

import (
	"fmt"
	"strings"

	"github.com/tallystick/tallystick/internal/core/money"
)

// Value reads a sum meter's value at path "data.a.b" ("data" alone is the document itself) from canonical data: a JSON
// number or a decimal string. Absent, of another type or out of range is ErrEvent; a key with a dot in it cannot be named.
func Value(path string, data []byte) (money.Decimal, error) {
	root, rest, more := strings.Cut(path, ".")
	if root != "data" {
		return money.Decimal{}, fmt.Errorf("%w: path %q does not begin with \"data\"", ErrEvent, path)
	}
	p := parser{in: data}
	for more {
		var key string
		key, rest, more = strings.Cut(rest, ".")
		found, err := p.enter(key)
		if err != nil {
			return money.Decimal{}, err
		}
		if !found {
			return money.Decimal{}, fmt.Errorf("%w: nothing stands at %s", ErrEvent, path)
		}
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
