package httpapi

import (
	"mime"
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"github.com/tallystick/tallystick/internal/core/calc"
)

// calcBody is an answer of calc as far as all of them have it in common.
type calcBody struct {
	ID any `json:"id" doc:"That of the request, a string or a number; else null"`
}

func (a *api) calc() {
	request := &huma.Schema{
		Type: huma.TypeObject, Description: "The op decides which other fields there are", Required: []string{"op"}, AdditionalProperties: true,
		Properties: map[string]*huma.Schema{
			"op": {Type: huma.TypeString, Enum: []any{"rate", "prorate", "tax", "allocate", "burn", "aggregate"}},
			"id": {Description: "A string or a number, given back"},
		},
	}
	a.byHand(operation{
		method: http.MethodPost, path: "/v1/calc", id: "calculate", tag: "calc",
		summary: "Answer a question about a price, proration, tax, allocation, credits or usage, as tally calc does; changes nothing",
	}, calc.LineMax, map[string]*huma.Schema{jsonType: request}, map[string]reflect.Type{"200": reflect.TypeFor[calcBody]()}, nil, a.calculate)
}

func (a *api) calculate(w http.ResponseWriter, r *http.Request) {
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != jsonType {
		a.fail(w, r, newProblem(codeMediaType, "Send the request as "+jsonType+"."))
		return
	}
	answer, wrong := calc.Calculate(callOf(r.Context()).body)
	if wrong != nil {
		p := newProblem(code(wrong.Code), "")
		p.Errors = []fault{{Pointer: wrong.Pointer, Rule: wrong.Detail}}
		a.fail(w, r, p)
		return
	}
	w.Header().Set("Content-Type", jsonType)
	_, _ = w.Write(append(answer, '\n')) // the client may be gone
}
