// Package declare reads a catalog from YAML and says by line and column what is wrong with it, what was expected, and what
// was probably meant. It accepts one small form of YAML; anchors, tags, block text and whatever else only hides prices are refused.
package declare

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/catalog/rules"
)

// MaxSource is the longest accepted document in bytes, MaxFaults how many faults of it are told at once.
const (
	MaxSource = 1 << 20
	MaxFaults = 50
)

// Fault is one thing wrong with a document. Line and Column begin at 1, columns count characters.
// Suggestion is a text to write instead of what stands there; often there is none.
type Fault struct {
	File       string `json:"file"`
	Line       int    `json:"line"`
	Column     int    `json:"column"`
	Path       string `json:"path,omitempty"` // by key: "plans.free.limits.daily.quota"; empty for faults of the YAML itself
	Message    string `json:"message"`
	Expected   string `json:"expected,omitempty"`
	Suggestion string `json:"suggestion,omitempty"`
}

// Error is the fault on one line, as compilers print theirs.
func (f Fault) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:%d:%d: ", f.File, f.Line, f.Column)
	if f.Path != "" {
		b.WriteString(f.Path + ": ")
	}
	b.WriteString(f.Message)
	if f.Expected != "" {
		b.WriteString("; expected " + f.Expected)
	}
	if f.Suggestion != "" {
		b.WriteString("; did you mean " + f.Suggestion + "?")
	}
	return b.String()
}

// Decode parses one YAML document of at most MaxSource bytes into a valid catalog. Every fault found is returned, in document
// order, at most MaxFaults; the catalog is nil then. Faults of the YAML itself hide what stands behind them.
func Decode(file string, source []byte) (*catalog.Catalog, []Fault) {
	return DecodeAfter(file, source, nil)
}

// DecodeAfter is Decode for a document that is to follow the versions so far: a schema that refuses what the earlier one of
// its type took is a fault, unless it is marked as breaking.
func DecodeAfter(file string, source []byte, earlier Earlier) (*catalog.Catalog, []Fault) {
	c, faults := decode(source, earlier)
	if len(faults) == 0 {
		return c, nil
	}
	slices.SortStableFunc(faults, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	faults = faults[:min(len(faults), MaxFaults)]
	for i := range faults {
		faults[i].File = file
	}
	return nil, faults
}

func decode(source []byte, earlier Earlier) (*catalog.Catalog, []Fault) {
	if len(source) > MaxSource {
		return nil, []Fault{{Line: 1, Column: 1, Message: fmt.Sprintf("the document has %d bytes", len(source)), Expected: fmt.Sprintf("at most %d", MaxSource)}}
	}
	if !utf8.Valid(source) {
		return nil, []Fault{badEncoding(source)}
	}
	text := strings.ReplaceAll(strings.TrimPrefix(string(source), "\ufeff"), "\r\n", "\n")
	if faults := screen(text); len(faults) > 0 {
		return nil, faults
	}
	root, fault := parse(text)
	if fault != nil {
		return nil, []Fault{*fault}
	}
	r := reader{places: map[string]place{}, broken: map[string]bool{}, around: map[string]bool{}, earlier: earlier}
	c := r.catalog(node{value: root})
	for _, p := range rules.Validate(c) {
		r.problem(p)
	}
	r.patterns(c.Routes)
	return c, r.faults
}

func badEncoding(source []byte) Fault {
	line, column := 1, 1
	for len(source) > 0 {
		c, size := utf8.DecodeRune(source)
		if c == utf8.RuneError && size == 1 {
			break
		}
		source = source[size:]
		column++
		if c == '\n' {
			line, column = line+1, 1
		}
	}
	return Fault{Line: line, Column: column, Message: "a byte here is not UTF-8", Expected: "a text in UTF-8"}
}
