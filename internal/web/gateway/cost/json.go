package cost

import (
	"bytes"
	"encoding/json"
)

// The bounds of the scanner. What passes them is not found.
const (
	depthMax = 512 // nested objects and arrays
	textMax  = 64  // bytes of a cost as it is written
)

type state uint8

const (
	inValue    state = iota // a value must come
	inArray                 // a value or the end of the array just begun
	inObject                // a name or the end of the object just begun
	inName                  // a name must come
	inColon                 // a colon must come
	inRest                  // a comma or the end of what the value stands in
	inString                // inside of a string
	inEscape                // after a backslash
	inHex                   // the four digits of \u
	inLiteral               // true, false, null
	inMinus                 // number: after the sign
	inZero                  // number: after a leading 0
	inInteger               // number: the digits before the point
	inPoint                 // number: after the point
	inFraction              // number: the digits after it
	inE                     // number: after e
	inESign                 // number: after the sign of the exponent
	inExponent              // number: its digits
	inEnd                   // the document is over: only space may follow
	inFault                 // no JSON
)

// scanner finds one member in a JSON document that comes in parts of any size. It keeps no more than the names and the value
// that it compares, and checks the whole syntax: what encoding/json refuses, it refuses. Of members of one name the last counts.
type scanner struct {
	path    []string
	nameMax int // bytes that a name of the path can take when every character is escaped

	state   state
	stack   []bool // of each open object or array: is it an object
	matched int    // so many of the outermost objects lie on the path
	next    bool   // the next value belongs to a name of the path
	name    bool   // the string is a name
	escaped bool
	keep    bool // the text is kept
	target  bool // the text is the value looked for
	over    bool // there was more text than is kept
	text    []byte
	hex     int
	literal string // what must still come

	found bool
	value string
}

func newScanner(path []string) *scanner {
	s := &scanner{path: path}
	for _, p := range path {
		s.nameMax = max(s.nameMax, 6*len(p))
	}
	return s
}

// reset begins a new document.
func (s *scanner) reset() {
	*s = scanner{path: s.path, nameMax: s.nameMax, stack: s.stack[:0], text: s.text[:0]}
}

// write takes the next bytes of the document.
func (s *scanner) write(p []byte) {
	for i := 0; i < len(p); i++ {
		switch s.state { //nolint:exhaustive // the others take a byte at a time
		case inFault:
			return
		case inString:
			i = s.inside(p, i)
		default:
			s.step(p[i])
		}
	}
}

// inside goes through a string as far as it is plain, and returns where it stopped.
func (s *scanner) inside(p []byte, from int) int {
	i := from
	for i < len(p) && p[i] >= 0x20 && p[i] != '"' && p[i] != '\\' {
		i++
	}
	s.add(p[from:i]...)
	if i == len(p) {
		return i
	}
	switch p[i] {
	case '"':
		s.endString()
	case '\\':
		s.add('\\')
		s.escaped, s.state = true, inEscape
	default:
		s.state = inFault
	}
	return i
}

// add keeps text, up to its bound.
func (s *scanner) add(b ...byte) {
	if !s.keep || s.over {
		return
	}
	bound := s.nameMax
	if s.target {
		bound = textMax
	}
	if len(s.text)+len(b) > bound {
		s.over = true
		return
	}
	s.text = append(s.text, b...)
}

func space(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

func digit(c byte) bool { return c >= '0' && c <= '9' }

// step takes one byte outside of a string.
func (s *scanner) step(c byte) {
	switch s.state {
	case inValue, inArray, inObject, inName, inColon, inRest, inEnd:
		if !space(c) {
			s.structure(c)
		}
	case inEscape:
		s.escape(c)
	case inHex:
		s.add(c)
		if !digit(c) && (c|0x20 < 'a' || c|0x20 > 'f') {
			s.state = inFault
		} else if s.hex++; s.hex == 4 {
			s.state = inString
		}
	case inLiteral:
		if c != s.literal[0] {
			s.state = inFault
		} else if s.literal = s.literal[1:]; s.literal == "" {
			s.ended()
		}
	case inMinus, inZero, inInteger, inPoint, inFraction, inE, inESign, inExponent:
		s.number(c)
	case inString, inFault: // not here
	}
}

func (s *scanner) escape(c byte) {
	s.add(c)
	switch c {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.state = inString
	case 'u':
		s.hex, s.state = 0, inHex
	default:
		s.state = inFault
	}
}

// structure takes what stands between names and values.
func (s *scanner) structure(c byte) {
	switch {
	case s.state == inValue, s.state == inArray && c != ']':
		s.begin(c)
	case s.state == inColon && c == ':':
		s.state = inValue
	case (s.state == inObject || s.state == inName) && c == '"':
		depth := len(s.stack)
		s.text, s.escaped, s.over, s.target = s.text[:0], false, false, false
		s.name, s.keep = true, s.matched == depth && depth <= len(s.path)
		s.state = inString
	case s.state == inRest && c == ',':
		s.next = false
		s.state = inValue
		if s.stack[len(s.stack)-1] {
			s.state = inName
		}
	case (s.state == inRest || s.state == inObject) && c == '}' && s.stack[len(s.stack)-1],
		(s.state == inRest || s.state == inArray) && c == ']' && !s.stack[len(s.stack)-1]:
		s.stack = s.stack[:len(s.stack)-1]
		s.matched = min(s.matched, len(s.stack))
		s.ended()
	default:
		s.state = inFault
	}
}

// begin takes the first byte of a value.
func (s *scanner) begin(c byte) {
	s.target = s.next && s.matched == len(s.stack) && len(s.stack) == len(s.path)
	s.name, s.keep, s.escaped, s.over = false, s.target, false, false
	s.text = s.text[:0]
	switch {
	case c == '{' || c == '[':
		s.push(c == '{')
	case c == '"':
		s.state = inString
	case c == 't':
		s.state, s.literal = inLiteral, "rue"
	case c == 'f':
		s.state, s.literal = inLiteral, "false"[1:]
	case c == 'n':
		s.state, s.literal = inLiteral, "ull"
	case c == '-':
		s.add(c)
		s.state = inMinus
	case c == '0':
		s.add(c)
		s.state = inZero
	case digit(c):
		s.add(c)
		s.state = inInteger
	default:
		s.state = inFault
	}
}

// push opens an object or array. The document itself lies on the path, and each object that a name of the path holds.
func (s *scanner) push(object bool) {
	if len(s.stack) == depthMax {
		s.state = inFault
		return
	}
	on := object && s.matched == len(s.stack) && (len(s.stack) == 0 || s.next) && len(s.stack) < len(s.path)
	s.stack = append(s.stack, object)
	if on {
		s.matched = len(s.stack)
	}
	s.next, s.target = false, false
	s.state = inArray
	if object {
		s.state = inObject
	}
}

// endString ends a name or a value.
func (s *scanner) endString() {
	if !s.name {
		if s.target && !s.over {
			s.take(s.plain())
		}
		s.ended()
		return
	}
	s.state = inColon
	s.next = s.keep && !s.over && s.plain() == s.path[len(s.stack)-1]
	if s.next {
		s.found = false // the member was there before: the last one counts
	}
}

// plain is the kept text as encoding/json reads it.
func (s *scanner) plain() string {
	if !s.escaped && !bytes.ContainsFunc(s.text, func(r rune) bool { return r >= 0x80 }) {
		return string(s.text)
	}
	quoted := append(append([]byte{'"'}, s.text...), '"')
	var out string
	if json.Unmarshal(quoted, &out) != nil {
		return "" // the syntax was checked, so it does not come here
	}
	return out
}

func (s *scanner) take(text string) { s.found, s.value = true, text }

// ended comes after each value.
func (s *scanner) ended() {
	s.next, s.target = false, false
	s.state = inRest
	if len(s.stack) == 0 {
		s.state = inEnd
	}
}

// number takes the next byte of a number, or what follows it.
func (s *scanner) number(c byte) {
	to := inFault
	switch s.state { //nolint:exhaustive // those of a number
	case inMinus:
		to = digits(c, inZero, inInteger)
	case inZero, inInteger, inFraction:
		to = s.mantissa(c)
	case inPoint:
		to = digits(c, inFraction, inFraction)
	case inE:
		to = digits(c, inExponent, inExponent)
		if c == '+' || c == '-' {
			to = inESign
		}
	case inESign:
		to = digits(c, inExponent, inExponent)
	case inExponent:
		to = inRest
		if digit(c) {
			to = inExponent
		}
	}
	if to != inRest {
		s.add(c)
		s.state = to
		return
	}
	s.endNumber()
	if !space(c) {
		s.structure(c)
	}
}

func (s *scanner) endNumber() {
	if s.target && !s.over {
		s.take(string(s.text))
	}
	s.ended()
}

// digits is the state after a digit that must come.
func digits(c byte, zero, other state) state {
	switch {
	case c == '0':
		return zero
	case digit(c):
		return other
	}
	return inFault
}

// mantissa is the state after a byte behind 0, a digit before the point or one after it; inRest: it is no part of the number.
func (s *scanner) mantissa(c byte) state {
	switch {
	case digit(c) && s.state != inZero:
		return s.state
	case digit(c):
		return inFault
	case c == '.' && s.state != inFraction:
		return inPoint
	case c|0x20 == 'e':
		return inE
	}
	return inRest
}

// end says that the document is over; it returns the member as text, if it was there. A number's or a string's text; nothing
// else is a cost. whole: also the document must have been.
func (s *scanner) end(whole bool) (string, bool) {
	if whole {
		if number := s.state == inZero || s.state == inInteger || s.state == inFraction || s.state == inExponent; number && len(s.stack) == 0 {
			s.endNumber()
		}
		if s.state != inEnd {
			return "", false
		}
	}
	return s.value, s.found && s.state != inFault
}
