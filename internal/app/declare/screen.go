package declare

import (
	"fmt"
	"strings"
)

// screen looks at the raw text for what the form does not have: control characters, and the YAML features that need a second
// look to know what a price is (anchors, aliases, merge keys, tags, directives, block text, text over several lines).
// It comes before the scanner because the scanner's work on block text grows with the cube of its blank lines.
func screen(text string) []Fault {
	var s screener
	line := 0
	for content := range strings.SplitSeq(text, "\n") {
		line++
		s.line = line
		s.scan([]rune(content))
		if len(s.faults) >= MaxFaults {
			break
		}
	}
	return s.faults
}

type screener struct {
	faults []Fault
	line   int
	flow   int // open brackets
}

func (s *screener) fault(at int, message, expected string) {
	s.faults = append(s.faults, Fault{Line: s.line, Column: at + 1, Message: message, Expected: expected})
}

// scan walks one line. A mark means something only where a value may begin (fresh), not inside plain text.
func (s *screener) scan(line []rune) {
	for i, c := range line {
		if c < ' ' && c != '\t' || c >= 0x7f && c <= 0x9f || c == 0xfeff {
			s.fault(i, fmt.Sprintf("the control character %U is not allowed", c), "printable text")
			return
		}
	}
	i := 0
	if marker := string(line[:min(len(line), 3)]); (marker == "---" || marker == "...") && blank(line, 3) {
		i = 3
	} else if s.flow == 0 && strings.HasPrefix(marker, "%") {
		s.fault(0, "YAML directives are not part of this form", "")
		return
	}
	fresh, afterSpace := true, true
	for i < len(line) {
		c := line[i]
		switch {
		case c == ' ' || c == '\t':
			afterSpace = true
			i++
			continue
		case c == '#' && (afterSpace || fresh):
			return
		case fresh && (c == '"' || c == '\''):
			end := closing(line, i)
			if end < 0 {
				s.fault(i, "the quoted text does not end on this line", "a closing quote")
				return
			}
			i = end
		case fresh && s.refused(line, i):
			return
		default:
			fresh = s.next(line, i, fresh)
		}
		afterSpace = false
		i++
	}
}

// next takes one ordinary character and tells whether a value may begin after it.
func (s *screener) next(line []rune, i int, fresh bool) bool {
	switch c := line[i]; {
	case (c == '{' || c == '[') && (fresh || s.flow > 0):
		s.flow++
		return true
	case (c == '}' || c == ']') && s.flow > 0:
		s.flow--
		return true
	case c == ',' && s.flow > 0:
		return true
	case c == ':':
		return blank(line, i+1) || s.flow > 0 && line[i+1] != '/'
	case c == '-' && fresh:
		return blank(line, i+1)
	}
	return false
}

// refused reports a mark of YAML that the form does not have.
func (s *screener) refused(line []rune, i int) bool {
	switch c := line[i]; {
	case c == '&':
		s.fault(i, "YAML anchors are not part of this form", `the value itself, or quotes around a text that begins with "&"`)
	case c == '*':
		s.fault(i, "YAML aliases are not part of this form", `the value itself, or quotes around a text that begins with "*"`)
	case c == '!':
		s.fault(i, "YAML tags are not part of this form", `the plain value, or quotes around a text that begins with "!"`)
	case c == '|' || c == '>':
		s.fault(i, "block text is not part of this form", "a text on one line, in quotes")
	case c == '<' && i+1 < len(line) && line[i+1] == '<':
		s.fault(i, "YAML merge keys are not part of this form", "the fields themselves")
	case c == '?' && blank(line, i+1):
		s.fault(i, `keys after "?" are not part of this form`, "key: value")
	default:
		return false
	}
	return true
}

// blank tells whether the line ends at i or has a space there.
func blank(line []rune, i int) bool {
	return i >= len(line) || line[i] == ' ' || line[i] == '\t'
}

// closing is the index of the quote that ends the text beginning at i, or -1. Two single quotes in a row come out as two
// texts, which is the same here.
func closing(line []rune, i int) int {
	quote := line[i]
	for j := i + 1; j < len(line); j++ {
		if quote == '"' && line[j] == '\\' {
			j++
		} else if line[j] == quote {
			return j
		}
	}
	return -1
}
