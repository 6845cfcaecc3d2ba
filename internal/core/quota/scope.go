package quota

import (
	"crypto/sha256"
	"strings"
)

// Whose are the values that a request has for the scopes of limits; empty: none.
type Whose struct {
	Project, Key, User, Route string
}

// Nobody stands for a value that a request does not have.
const Nobody = "-"

// scopeMax bounds one value in a scope's text, in bytes; a longer one stands there by its SHA-256.
const scopeMax = 128

// ScopeText is the canonical name of a counter's owner below the customer: "key=key_01…;user=anna". Only the parts that are set
// stand in it, in this order: project, key, user, route, routes (a limit's own choice of routes). Values are escaped, and long
// ones hashed, so that two owners never share a text.
func ScopeText(w Whose, routes []string) string {
	if w == (Whose{}) && len(routes) == 0 {
		return ""
	}
	var b strings.Builder
	for _, p := range []struct{ name, value string }{{"project", w.Project}, {"key", w.Key}, {"user", w.User}, {"route", w.Route}} {
		if p.value != "" {
			part(&b, p.name, p.value)
		}
	}
	for _, r := range routes {
		part(&b, "routes", r)
	}
	return b.String()
}

func part(b *strings.Builder, name, value string) {
	if b.Len() > 0 {
		b.WriteByte(';')
	}
	b.WriteString(name)
	b.WriteByte('=')
	if len(value) > scopeMax {
		sum := sha256.Sum256([]byte(value))
		b.WriteByte('#')
		for _, c := range sum {
			hexByte(b, c)
		}
		return
	}
	for i := range len(value) {
		switch c := value[i]; c {
		case ';', '=', '%', '#':
			b.WriteByte('%')
			hexByte(b, c)
		default:
			b.WriteByte(c)
		}
	}
}

func hexByte(b *strings.Builder, c byte) {
	const digits = "0123456789abcdef"
	b.WriteByte(digits[c>>4])
	b.WriteByte(digits[c&15])
}
