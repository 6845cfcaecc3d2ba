package declare

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/catalog/rules"
)

// patterns asks net/http itself whether it takes the routes' patterns side by side, on a mux that is thrown away.
func (r *reader) patterns(routes []catalog.Route) {
	mux := http.NewServeMux()
	var taken []string // patterns on mux, by index of the route; "" for those left out
	faults := 0
	for i, route := range routes {
		path := fmt.Sprintf("gateway.routes[%d].match", i)
		if route.Match == "" || i >= catalog.MaxRoutes || faults >= MaxFaults {
			taken = append(taken, "")
			continue
		}
		if fault := register(mux, route.Match); fault != "" {
			taken = append(taken, "")
			faults++
			r.pattern(path, route.Match, fault, taken)
			continue
		}
		taken = append(taken, route.Match)
	}
}

// pattern reports what net/http refused: the pattern alone, or the pair with an earlier one.
func (r *reader) pattern(path, match, fault string, taken []string) {
	if alone := register(http.NewServeMux(), match); alone != "" {
		// "parsing "X": at offset 3: reason"
		_, reason, _ := strings.Cut(alone, "\": ")
		r.problem(rules.Problem{
			Path:     path,
			Message:  fmt.Sprintf("is not a pattern: %s (got %q)", reason, clip(match)),
			Expected: `[METHOD ][HOST]/PATH as net/http has it, such as "GET /hello/{id}"`,
		})
		return
	}
	for i, other := range taken {
		if other == match {
			r.problem(rules.Problem{
				Path:     path,
				Message:  fmt.Sprintf("is the pattern of gateway.routes[%d] already (got %q)", i, clip(match)),
				Expected: "one route for each pattern",
			})
			return
		}
		mux := http.NewServeMux()
		if other != "" && register(mux, other) == "" && register(mux, match) != "" {
			r.problem(rules.Problem{
				Path:     path,
				Message:  fmt.Sprintf("conflicts with %q of gateway.routes[%d]: neither is more specific (got %q)", clip(other), i, clip(match)),
				Expected: "patterns that do not overlap, or of which one is more specific",
			})
			return
		}
	}
	r.problem(rules.Problem{Path: path, Message: "is not a pattern: " + clip(fault)})
}

// register is what net/http says against a pattern, or "". It only says so by a panic.
func register(mux *http.ServeMux, pattern string) (fault string) {
	defer func() {
		if p := recover(); p != nil {
			fault = fmt.Sprint(p)
		}
	}()
	mux.Handle(pattern, http.NotFoundHandler())
	return ""
}
