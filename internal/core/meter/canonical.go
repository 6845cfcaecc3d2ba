package meter

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// Bounds of canonical JSON. A number has at most maxDigits before and maxDigits after the point, as money.Decimal has.
const (
	maxDepth  = 32
	maxDigits = 38
)

// Canonical rewrites JSON with keys sorted by their UTF-8 bytes, normalized numbers (plain decimal, no exponent, no trailing
// zeros, -0 is 0), shortest string escapes and no white space, so that equal documents are equal bytes.
// Duplicate keys, depth above 32, numbers beyond 38 digits on either side of the point, invalid UTF-8 and unpaired
// surrogates are ErrEvent. The result may be longer than the input (1e37 is 38 digits); the caller bounds the input.
func Canonical(json []byte) ([]byte, error) {
	p := parser{in: json, out: make([]byte, 0, len(json))}
	p.space()
	if err := p.value(0); err != nil {
		return nil, err
	}
	p.space()
	if p.pos != len(p.in) {
		return nil, p.fail("text after the end of the document")
	}
	return p.out, nil
}

// CanonicalValue appends the canonical form of the value that text begins with to dst, and says how many bytes it read. What
// follows the value is not looked at. depth is how many objects and arrays already stand around the value.
func CanonicalValue(dst, text []byte, depth int) (out []byte, read int, err error) {
	p := parser{in: text, out: dst}
	if err := p.value(depth); err != nil {
		return dst, 0, err
	}
	return p.out, p.pos, nil
}

// parser reads JSON from in and appends its canonical form to out.
type parser struct {
	in  []byte
	pos int
	out []byte
}

func (p *parser) fail(what string) error {
	return fmt.Errorf("%w: data at byte %d: %s", ErrEvent, p.pos, what)
}

func (p *parser) space() {
	for p.pos < len(p.in) {
		switch p.in[p.pos] {
		case ' ', '\t', '\n', '\r':
			p.pos++
		default:
			return
		}
	}
}

// take consumes c if it is next.
func (p *parser) take(c byte) bool {
	if p.pos < len(p.in) && p.in[p.pos] == c {
		p.pos++
		return true
	}
	return false
}

func (p *parser) value(depth int) error {
	if p.pos == len(p.in) {
		return p.fail("the document ends too early")
	}
	switch c := p.in[p.pos]; {
	case c == '{' || c == '[':
		if depth == maxDepth {
			return p.fail("nested deeper than 32 levels")
		}
		if c == '{' {
			return p.object(depth + 1)
		}
		return p.array(depth + 1)
	case c == '"':
		s, err := p.text()
		if err != nil {
			return err
		}
		p.out = AppendString(p.out, s)
		return nil
	case c == '-' || isDigit(c):
		return p.number()
	default:
		for _, word := range [...]string{"true", "false", "null"} {
			if bytes.HasPrefix(p.in[p.pos:], []byte(word)) {
				p.pos += len(word)
				p.out = append(p.out, word...)
				return nil
			}
		}
		return p.fail("expected a JSON value")
	}
}

func (p *parser) array(depth int) error {
	p.pos++
	p.out = append(p.out, '[')
	p.space()
	if p.take(']') {
		p.out = append(p.out, ']')
		return nil
	}
	for {
		p.space()
		if err := p.value(depth); err != nil {
			return err
		}
		p.space()
		switch {
		case p.take(','):
			p.out = append(p.out, ',')
		case p.take(']'):
			p.out = append(p.out, ']')
			return nil
		default:
			return p.fail("expected ',' or ']'")
		}
	}
}

// member is one "key":value already written at out[start:end].
type member struct {
	key        []byte
	start, end int
}

func (p *parser) object(depth int) error {
	p.pos++
	p.out = append(p.out, '{')
	p.space()
	if p.take('}') {
		p.out = append(p.out, '}')
		return nil
	}
	var room [8]member
	members := room[:0]
	for {
		p.space()
		m := member{start: len(p.out)}
		var err error
		if m.key, err = p.text(); err != nil {
			return err
		}
		p.out = append(AppendString(p.out, m.key), ':')
		p.space()
		if !p.take(':') {
			return p.fail("expected ':'")
		}
		p.space()
		if err = p.value(depth); err != nil {
			return err
		}
		m.end = len(p.out)
		members = append(members, m)
		p.space()
		if p.take(',') {
			p.out = append(p.out, ',')
			continue
		}
		if !p.take('}') {
			return p.fail("expected ',' or '}'")
		}
		p.out = append(p.out, '}')
		return p.sort(members)
	}
}

// sort puts the members just written into key order and refuses equal keys.
func (p *parser) sort(members []member) error {
	byKey := func(a, b member) int { return bytes.Compare(a.key, b.key) }
	if !slices.IsSortedFunc(members, byKey) {
		first := members[0].start
		was := slices.Clone(p.out[first:])
		slices.SortFunc(members, byKey)
		at := first
		for i, m := range members {
			if i > 0 {
				p.out[at] = ','
				at++
			}
			at += copy(p.out[at:], was[m.start-first:m.end-first])
		}
	}
	for i := 1; i < len(members); i++ {
		if bytes.Equal(members[i-1].key, members[i].key) {
			return p.fail("key " + strconv.Quote(clip(members[i].key)) + " stands twice in one object")
		}
	}
	return nil
}

func clip(b []byte) string {
	const most = 64
	if len(b) > most {
		return string(b[:most]) + "…"
	}
	return string(b)
}

// text reads a JSON string and returns what it says; without escapes that is a part of the input itself.
func (p *parser) text() ([]byte, error) {
	if !p.take('"') {
		return nil, p.fail("expected a string")
	}
	start := p.pos
	var decoded []byte // set once an escape was seen
	for p.pos < len(p.in) {
		c := p.in[p.pos]
		switch {
		case c == '"':
			s := p.in[start:p.pos]
			p.pos++
			if decoded != nil {
				s = append(decoded, s...)
			}
			return s, nil
		case c == '\\':
			decoded = append(decoded, p.in[start:p.pos]...)
			p.pos++
			r, err := p.escape()
			if err != nil {
				return nil, err
			}
			decoded = utf8.AppendRune(decoded, r)
			start = p.pos
		case c < ' ':
			return nil, p.fail("a control character in a string must be escaped")
		case c < utf8.RuneSelf:
			p.pos++
		default:
			r, size := utf8.DecodeRune(p.in[p.pos:])
			if r == utf8.RuneError && size == 1 {
				return nil, p.fail("invalid UTF-8")
			}
			p.pos += size
		}
	}
	return nil, p.fail("a string has no end")
}

// escape reads what follows a backslash.
func (p *parser) escape() (rune, error) {
	if p.pos == len(p.in) {
		return 0, p.fail("a string has no end")
	}
	c := p.in[p.pos]
	p.pos++
	switch c {
	case '"', '\\', '/':
		return rune(c), nil
	case 'b':
		return '\b', nil
	case 'f':
		return '\f', nil
	case 'n':
		return '\n', nil
	case 'r':
		return '\r', nil
	case 't':
		return '\t', nil
	case 'u':
		r, err := p.hex4()
		if err != nil || !utf16.IsSurrogate(r) {
			return r, err
		}
		if !p.take('\\') || !p.take('u') {
			return 0, p.fail("an unpaired surrogate")
		}
		low, err := p.hex4()
		if err != nil {
			return 0, err
		}
		if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
			return 0, p.fail("an unpaired surrogate")
		}
		return r, nil
	default:
		return 0, p.fail("unknown escape in a string")
	}
}

func (p *parser) hex4() (rune, error) {
	if len(p.in)-p.pos < 4 {
		return 0, p.fail("a string has no end")
	}
	var r rune
	for _, c := range p.in[p.pos : p.pos+4] {
		switch {
		case isDigit(c):
			r = r<<4 | rune(c-'0')
		case 'a' <= c && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case 'A' <= c && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return 0, p.fail("\\u needs four hexadecimal digits")
		}
	}
	p.pos += 4
	return r, nil
}

// AppendString appends a text as a string of canonical JSON. The text must be UTF-8.
func AppendString[T string | []byte](dst []byte, s T) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for i := range len(s) {
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c >= ' ':
			dst = append(dst, c)
		case c == '\b':
			dst = append(dst, '\\', 'b')
		case c == '\f':
			dst = append(dst, '\\', 'f')
		case c == '\n':
			dst = append(dst, '\\', 'n')
		case c == '\r':
			dst = append(dst, '\\', 'r')
		case c == '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	return append(dst, '"')
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// digits consumes a run of digits.
func (p *parser) digits() []byte {
	start := p.pos
	for p.pos < len(p.in) && isDigit(p.in[p.pos]) {
		p.pos++
	}
	return p.in[start:p.pos]
}

// number reads a JSON number and writes it as a plain decimal.
func (p *parser) number() error {
	negative := p.take('-')
	whole := p.digits()
	if len(whole) == 0 || len(whole) > 1 && whole[0] == '0' {
		return p.fail("malformed number")
	}
	var fraction []byte
	if p.take('.') {
		if fraction = p.digits(); len(fraction) == 0 {
			return p.fail("malformed number")
		}
	}
	exponent, err := p.exponent()
	if err != nil {
		return err
	}
	// The value is 0.d1d2d3… × 10^point, d1 and the last digit not zero.
	point := len(whole)
	digits := whole
	if len(fraction) > 0 {
		digits = slices.Concat(whole, fraction)
	}
	bare := bytes.TrimLeft(digits, "0")
	point += exponent - (len(digits) - len(bare))
	bare = bytes.TrimRight(bare, "0")
	if len(bare) == 0 {
		p.out = append(p.out, '0')
		return nil
	}
	if point > maxDigits || len(bare)-point > maxDigits {
		return p.fail("a number has more than 38 digits before or after the point")
	}
	if negative {
		p.out = append(p.out, '-')
	}
	p.out = appendPlain(p.out, bare, point)
	return nil
}

// exponent reads an optional exponent, cut off where no digits of the input can bring the number back into range.
func (p *parser) exponent() (int, error) {
	if !p.take('e') && !p.take('E') {
		return 0, nil
	}
	negative := p.take('-')
	if !negative {
		p.take('+')
	}
	text := p.digits()
	if len(text) == 0 {
		return 0, p.fail("malformed number")
	}
	most := len(p.in) + 3*maxDigits
	n := 0
	for _, c := range text {
		n = min(n*10+int(c-'0'), most)
	}
	if negative {
		n = -n
	}
	return n, nil
}

func appendPlain(dst, digits []byte, point int) []byte {
	if point <= 0 {
		dst = append(dst, '0', '.')
		for range -point {
			dst = append(dst, '0')
		}
		return append(dst, digits...)
	}
	if point >= len(digits) {
		dst = append(dst, digits...)
		for range point - len(digits) {
			dst = append(dst, '0')
		}
		return dst
	}
	dst = append(dst, digits[:point]...)
	dst = append(dst, '.')
	return append(dst, digits[point:]...)
}
