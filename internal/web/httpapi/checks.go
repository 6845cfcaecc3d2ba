package httpapi

import (
	"context"
	"net/http"

	"github.com/tallystick/tallystick/internal/store"
)

// CheckBody is one thing that an examination looked at.
type CheckBody struct {
	Check  string `json:"check" example:"journal retention"`
	Result string `json:"result" enum:"ok,warn,fail" doc:"warn: it works, and should be otherwise"`
	Detail string `json:"detail"`
	Fix    string `json:"fix,omitempty" doc:"What to do"`
}

type checksBody struct {
	Checks []CheckBody `json:"checks"`
}

func (a *api) checks() {
	handle(a, operation{
		method: http.MethodGet, path: "/v1/checks", id: "list-checks", tag: "operations",
		summary:     "Examine the journal and the streaming exports, as they are now",
		description: "Of a journal on Kafka: the topic's settings and copies, and how far the server that answers has applied it. It takes some seconds when something does not answer.",
	}, func(ctx context.Context, _ *struct{}) (checksBody, error) {
		out := checksBody{Checks: []CheckBody{}}
		if a.cfg.Examine != nil {
			for _, c := range a.cfg.Examine(ctx) {
				out.Checks = append(out.Checks, checkOf(c))
			}
		}
		for _, c := range a.cfg.Exports.Examine(ctx) {
			out.Checks = append(out.Checks, checkOf(c))
		}
		return out, nil
	})
}

func checkOf(c store.Check) CheckBody {
	return CheckBody{Check: c.Name, Result: c.Result, Detail: c.Detail, Fix: c.Fix}
}
