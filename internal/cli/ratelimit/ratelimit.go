// Package ratelimit reads the RateLimit and RateLimit-Policy fields of an answer (draft 11 of the IETF's ratelimit headers), and
// holds them against each other.
package ratelimit

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Standing is where a caller stands with one policy. Quantities are whole units; times are seconds.
type Standing struct {
	Quota, Window    int64 // Window 0: not told
	Remaining, Reset int64 // Reset -1: not told
}

// fieldMax bounds the text of one field in bytes, listMax its members.
const (
	fieldMax = 8 << 10
	listMax  = 64
)

// Read takes both fields apart, given all their lines; each policy must be in both, once.
func Read(policy, limit []string) (map[string]Standing, error) {
	policies, err := list("RateLimit-Policy", policy)
	if err != nil {
		return nil, err
	}
	limits, err := list("RateLimit", limit)
	if err != nil {
		return nil, err
	}
	out := map[string]Standing{}
	for _, m := range policies {
		s := Standing{Quota: -1, Reset: -1}
		if s.Quota, err = m.number("RateLimit-Policy", "q", true); err != nil {
			return nil, err
		}
		if s.Window, err = m.number("RateLimit-Policy", "w", false); err != nil {
			return nil, err
		}
		if _, twice := out[m.name]; twice {
			return nil, fmt.Errorf("RateLimit-Policy names %q twice", m.name)
		}
		out[m.name] = s
	}
	seen := map[string]bool{}
	for _, m := range limits {
		s, ok := out[m.name]
		if !ok {
			return nil, fmt.Errorf("RateLimit names %q, which RateLimit-Policy does not", m.name)
		}
		if seen[m.name] {
			return nil, fmt.Errorf("RateLimit names %q twice", m.name)
		}
		seen[m.name] = true
		if s.Remaining, err = m.number("RateLimit", "r", true); err != nil {
			return nil, err
		}
		s.Reset = -1
		if _, told := m.params["t"]; told {
			if s.Reset, err = m.number("RateLimit", "t", true); err != nil {
				return nil, err
			}
		}
		if s.Remaining > s.Quota {
			return nil, fmt.Errorf("%q: r=%d is more than q=%d", m.name, s.Remaining, s.Quota)
		}
		out[m.name] = s
	}
	return out, nil
}

// Follows says whether a later answer fits an earlier one: what remains of a policy grows only when it was reset or, of a
// short window, refilled.
func Follows(before, now map[string]Standing) error {
	for name, n := range now {
		b, ok := before[name]
		if !ok || n.Window < 3600 {
			continue
		}
		if n.Remaining > b.Remaining && n.Reset <= b.Reset {
			return fmt.Errorf("%q: r rose from %d to %d without a reset", name, b.Remaining, n.Remaining)
		}
	}
	return nil
}

type member struct {
	name   string
	params map[string]string
}

func (m member) number(field, key string, required bool) (int64, error) {
	v, ok := m.params[key]
	if !ok && !required {
		return 0, nil
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < 0 || n > 999_999_999_999_999 {
		return 0, fmt.Errorf("%s: %q: %s=%q is no number of at least 0", field, m.name, key, v)
	}
	return n, nil
}

// list parses a list of quoted names with parameters (RFC 9651), as far as these fields use it.
func list(field string, lines []string) ([]member, error) {
	text := strings.Join(lines, ", ")
	if len(text) > fieldMax {
		return nil, fmt.Errorf("%s is longer than %d bytes", field, fieldMax)
	}
	var out []member
	p := &parser{text: text}
	for {
		p.blanks()
		m, err := p.member()
		if err != nil {
			return nil, fmt.Errorf("%s: %w in %q", field, err, text)
		}
		if out = append(out, m); len(out) > listMax {
			return nil, fmt.Errorf("%s has more than %d members", field, listMax)
		}
		p.blanks()
		if p.text == "" {
			return out, nil
		}
		if !p.skip(',') {
			return nil, fmt.Errorf("%s: expected a comma before %q", field, p.text)
		}
	}
}

type parser struct{ text string }

func (p *parser) blanks() { p.text = strings.TrimLeft(p.text, " \t") }

func (p *parser) skip(c byte) bool {
	if p.text == "" || p.text[0] != c {
		return false
	}
	p.text = p.text[1:]
	return true
}

func (p *parser) member() (member, error) {
	name, err := p.quoted()
	if err != nil {
		return member{}, err
	}
	m := member{name, map[string]string{}}
	for p.skip(';') {
		p.text = strings.TrimLeft(p.text, " ")
		key := p.while(func(c byte) bool {
			return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.' || c == '*'
		})
		if key == "" || (key[0] < 'a' || key[0] > 'z') && key[0] != '*' {
			return m, errors.New("a parameter without a name")
		}
		value := ""
		if p.skip('=') {
			switch {
			case strings.HasPrefix(p.text, `"`):
				value, err = p.quoted()
			case p.skip(':'): // bytes, such as pk
				value = p.while(func(c byte) bool { return c != ':' && c != ',' })
				if !p.skip(':') {
					err = errors.New("bytes without an end")
				}
			default:
				if value = p.while(func(c byte) bool { return c > ' ' && c != ';' && c != ',' && c < 0x7f }); value == "" {
					err = errors.New("a parameter without a value")
				}
			}
		}
		if err != nil {
			return m, err
		}
		m.params[key] = value
	}
	return m, nil
}

func (p *parser) while(fits func(byte) bool) string {
	n := 0
	for n < len(p.text) && fits(p.text[n]) {
		n++
	}
	out := p.text[:n]
	p.text = p.text[n:]
	return out
}

func (p *parser) quoted() (string, error) {
	if !p.skip('"') {
		return "", errors.New("expected a quoted name")
	}
	var b strings.Builder
	for i := 0; i < len(p.text); i++ {
		switch c := p.text[i]; {
		case c == '"':
			p.text = p.text[i+1:]
			return b.String(), nil
		case c == '\\' && i+1 < len(p.text) && (p.text[i+1] == '"' || p.text[i+1] == '\\'):
			i++
			b.WriteByte(p.text[i])
		case c < ' ' || c > '~' || c == '\\':
			return "", errors.New("a character that may not stand in a name")
		default:
			b.WriteByte(c)
		}
	}
	return "", errors.New("a name without an end")
}
