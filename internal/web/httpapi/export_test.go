package httpapi

import (
	"maps"
	"net/http"
	"slices"
)

// Patterns lists what a handler of New routes.
func Patterns(h http.Handler) []string {
	a, ok := h.(*api)
	if !ok {
		return nil
	}
	return slices.Sorted(maps.Keys(a.routes.bounds))
}

// Codes lists the codes that have a page.
func Codes() []string {
	var out []string
	for _, i := range codeTable() {
		out = append(out, string(i.Code))
	}
	return out
}

// Cursor makes one of a list.
func Cursor(kind, at string) string { return cursor(kind, at) }
