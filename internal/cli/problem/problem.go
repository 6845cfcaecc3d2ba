// Package problem is an error answer of the API (RFC 9457) as a person reads it: what is wrong, and what to do.
package problem

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
)

// Answer is a problem document of the API.
type Answer struct {
	Title  string  `json:"title"`
	Status int     `json:"status"`
	Detail string  `json:"detail"`
	Code   string  `json:"code"`
	Fix    string  `json:"fix"`
	Errors []Fault `json:"errors"`
}

// Fault is one broken rule of a request, or one fault of a catalog with its place.
type Fault struct {
	Pointer, Rule, Fix                        string
	File, Path, Message, Expected, Suggestion string
	Line, Column                              int
}

// Error says what is wrong and what to do. Where each broken rule is named, the words that stand for all such problems are
// left out.
func (p *Answer) Error() string {
	var b strings.Builder
	code := ""
	if p.Code != "" {
		code = " (" + p.Code + ")"
	}
	switch len(p.Errors) {
	case 0:
		b.WriteString(cmp.Or(p.Detail, p.Title))
		if p.Fix != "" && p.Code != "wrong_state" { // its detail says all
			b.WriteString("\n  " + p.Fix)
		}
	case 1:
		b.WriteString(p.Errors[0].String())
	default:
		b.WriteString(cmp.Or(p.Title, p.Detail) + code + ":")
		for _, f := range p.Errors {
			b.WriteString("\n  " + f.String())
		}
		return b.String()
	}
	return b.String() + code
}

// OfSource says under which source an event was not found: its identity is the source with the id.
func OfSource(err error, source string) error {
	p, ok := errors.AsType[*Answer](err)
	if !ok || p.Code != "not_found" {
		return err
	}
	p.Detail = fmt.Sprintf("There is no event with this id of source %q.", source)
	if source == "" {
		p.Detail = "There is no event of a gateway with this id."
	}
	p.Fix = "Name its source with --source; tally events list shows both."
	return err
}

// String is a fault on one line, as compilers print theirs.
func (f Fault) String() string {
	parts := []string{f.Message}
	switch {
	case f.Line > 0 && f.Path == "": // it is a fault of the text
		parts[0] = fmt.Sprintf("%s:%d:%d: %s", f.File, f.Line, f.Column, f.Message)
	case f.Line > 0:
		parts[0] = fmt.Sprintf("%s:%d:%d: %s: %s", f.File, f.Line, f.Column, f.Path, f.Message)
	default:
		parts[0] = strings.TrimPrefix(f.Pointer+": "+strings.TrimPrefix(f.Rule, "invalid: "), ": ")
	}
	if f.Expected != "" {
		parts = append(parts, "expected "+f.Expected)
	}
	if f.Suggestion != "" {
		parts = append(parts, "did you mean "+f.Suggestion+"?")
	}
	if f.Fix != "" {
		parts = append(parts, f.Fix)
	}
	return strings.Join(parts, "; ")
}
