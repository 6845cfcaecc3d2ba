package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/tallystick/tallystick/internal/app/billrun"
	"github.com/tallystick/tallystick/internal/app/clock"
	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/app/ingest"
	"github.com/tallystick/tallystick/internal/app/recount"
	"github.com/tallystick/tallystick/internal/app/usage"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/receipt"
	"github.com/tallystick/tallystick/internal/store"
)

// problem is an RFC 9457 answer. It is an error too, so that a handler can return it. It never holds a value of the refused
// request: that may be a secret, and answers are logged by many.
type problem struct {
	Type       string  `json:"type" doc:"The page of the code" example:"/errors/not_found"`
	Title      string  `json:"title"`
	Status     int     `json:"status"`
	Detail     string  `json:"detail"`
	Code       code    `json:"code" doc:"Stable"`
	Fix        string  `json:"fix,omitempty" doc:"What to do about it"`
	RequestID  string  `json:"request_id"`
	Retryable  bool    `json:"retryable" doc:"The same call may succeed later"`
	RetryAfter int64   `json:"retry_after_s,omitempty"`
	Errors     []fault `json:"errors,omitempty"`

	DecisionID string   `json:"decision_id,omitempty" doc:"Of a denial: tally explain says why"`
	Violated   []string `json:"violated-policies,omitempty" doc:"Of a denial: the limits that deny"`

	policy, limit string // RateLimit-Policy and RateLimit of a denial; empty: none
}

// fault is one broken rule of a request, or one fault of a catalog with its place.
type fault struct {
	Pointer    string `json:"pointer,omitempty" doc:"JSON Pointer into the body, or /NAME of a parameter"`
	Rule       string `json:"rule,omitempty"`
	Fix        string `json:"fix,omitempty"`
	File       string `json:"file,omitempty"`
	Line       int    `json:"line,omitempty"`
	Column     int    `json:"column,omitempty"`
	Path       string `json:"path,omitempty"`
	Message    string `json:"message,omitempty"`
	Expected   string `json:"expected,omitempty"`
	Suggestion string `json:"suggestion,omitempty"`
}

// newProblem takes what it says from the code's entry; an empty detail is its meaning.
func newProblem(c code, detail string) *problem {
	i := c.info()
	p := &problem{
		Type: "/errors/" + string(c), Title: i.Title, Status: i.Status, Detail: firstOf(detail, i.Meaning), Code: c, Fix: i.Do,
		Retryable: i.Retryable,
	}
	if i.Status == http.StatusServiceUnavailable {
		p.RetryAfter = 1
	}
	return p
}

func invalid(name, rule, fix string) *problem {
	p := newProblem(codeInvalid, "")
	p.Errors = []fault{{Pointer: "/" + name, Rule: rule, Fix: fix}}
	return p
}

func tooLarge(bound int64) *problem {
	return newProblem(codeBodyTooLarge, fmt.Sprintf("The body may have at most %d bytes.", bound))
}

// absent says what there is none of.
func absent(what string) *problem {
	return newProblem(codeNotFound, "There is no "+what+" with this id or key.")
}

// Error makes it an error.
func (p *problem) Error() string { return string(p.Code) + ": " + p.Detail }

// GetStatus tells huma the status.
func (p *problem) GetStatus() int { return p.Status }

// ContentType tells huma the media type.
func (p *problem) ContentType(string) string { return "application/problem+json" }

// GetHeaders tells huma the headers.
func (p *problem) GetHeaders() http.Header {
	h := http.Header{}
	if p.RetryAfter > 0 {
		h.Set("Retry-After", strconv.FormatInt(p.RetryAfter, 10))
	}
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", wwwAuth)
	}
	if p.policy != "" {
		h.Set("RateLimit-Policy", p.policy)
		h.Set("RateLimit", p.limit)
	}
	return h
}

func (p *problem) write(w http.ResponseWriter, r *http.Request) {
	p.RequestID = callOf(r.Context()).id
	maps.Copy(w.Header(), p.GetHeaders())
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, p.Status, "application/problem+json", p)
}

// writeJSON writes a document that always marshals.
func writeJSON(w http.ResponseWriter, status int, contentType string, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("httpapi: a document does not marshal: %v", err))
	}
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // the client may be gone
}

// fail answers with the problem of an error.
func (a *api) fail(w http.ResponseWriter, r *http.Request, err error) {
	a.problem(r.Context(), err).write(w, r)
}

// problem is the one table from errors to problems. What stands in no row is a fault of ours: it is logged, and the client
// learns the request id alone.
func (a *api) problem(ctx context.Context, err error) *problem {
	p := problemOf(err)
	switch {
	case p != nil:
	case ctx.Err() != nil:
		p = newProblem(codeUnavailable, "The call was given up.")
	default:
		p = newProblem(codeInternal, "")
		a.cfg.Log.ErrorContext(ctx, "a call failed", slog.String("request_id", callOf(ctx).id), slog.Any("error", err))
	}
	p.RequestID = callOf(ctx).id
	return p
}

func problemOf(err error) *problem {
	var p *problem
	var refused *govern.Invalid
	var reported *ingest.Invalid
	var asked *usage.Invalid
	var ordered *recount.Invalid
	var run *billrun.Invalid
	var faults *govern.CatalogFaults
	switch {
	case errors.As(err, &p):
		copied := *p
		return &copied
	case errors.As(err, &refused):
		return invalid(strings.TrimPrefix(refused.Pointer, "/"), refused.Rule, refused.Fix)
	case errors.As(err, &reported):
		return invalid(strings.TrimPrefix(reported.Pointer, "/"), reported.Rule, reported.Fix)
	case errors.As(err, &asked):
		return invalid(strings.TrimPrefix(asked.Pointer, "/"), asked.Rule, asked.Fix)
	case errors.As(err, &ordered):
		return invalid(strings.TrimPrefix(ordered.Pointer, "/"), ordered.Rule, ordered.Fix)
	case errors.As(err, &run):
		return invalid(strings.TrimPrefix(run.Pointer, "/"), run.Rule, run.Fix)
	case errors.As(err, &faults):
		return catalogProblem(faults)
	}
	for _, row := range []struct {
		err    error
		code   code
		detail string // "": what the code means
	}{
		{account.ErrState, codeState, sentence(err, account.ErrState)}, // before the conflict that it may wrap
		{account.ErrExists, codeExists, sentence(err, nil)},
		{account.ErrNotFound, codeNotFound, ""},
		{store.ErrNotFound, codeNotFound, ""},
		{store.ErrExists, codeExists, ""},
		{store.ErrConflict, codeConflict, ""},
		{clock.ErrNotTest, codeClockNotTest, ""},
		{clock.ErrBackward, codeClockBackward, ""},
		{receipt.ErrToken, codeDecisionUnknown, ""},
		{store.ErrFull, codeStoreFull, ""},
		{store.ErrUnknown, codeOutcomeUnknown, ""},
		{account.ErrInvalid, codeInvalid, ""},
	} {
		if errors.Is(err, row.err) {
			return newProblem(row.code, row.detail)
		}
	}
	return nil
}

func catalogProblem(e *govern.CatalogFaults) *problem {
	p := newProblem(codeCatalogInvalid, "")
	for _, f := range e.Faults {
		p.Errors = append(p.Errors, fault{
			File: f.File, Line: f.Line, Column: f.Column, Path: f.Path, Message: f.Message, Expected: f.Expected, Suggestion: f.Suggestion,
		})
	}
	return p
}

// sentence is a use case's error for people, without the sentinel's name in front.
func sentence(err, sentinel error) string {
	text := err.Error()
	if sentinel != nil {
		text = strings.TrimPrefix(text, sentinel.Error()+": ")
	}
	if text == "" {
		return ""
	}
	return strings.ToUpper(text[:1]) + text[1:] + "."
}

// humaProblem turns what huma found wrong with a request into a problem. Its messages are fixed texts; the values that it puts
// beside them are dropped.
func humaProblem(e *huma.ErrorModel) *problem {
	switch e.Status {
	case http.StatusBadRequest:
		return newProblem(codeMalformed, "The body must be one JSON document.")
	case http.StatusUnsupportedMediaType:
		return newProblem(codeMediaType, "The body must be application/json.")
	case http.StatusUnprocessableEntity:
	default:
		return newProblem(codeInternal, "")
	}
	p := newProblem(codeInvalid, "")
	for _, d := range e.Errors {
		if d == nil {
			continue
		}
		f := fault{Pointer: pointer(d.Location), Rule: d.Message}
		if name, ok := strings.CutPrefix(d.Message, "expected required property "); ok {
			f.Pointer, f.Rule = f.Pointer+"/"+strings.TrimSuffix(name, " to be present"), "is missing"
		}
		if _, whole := d.Value.(string); whole && d.Location == "body" {
			f.Rule = "must be a JSON object of the documented form" // the message may quote the body
		}
		if strings.HasPrefix(f.Rule, "unexpected property") || strings.HasPrefix(f.Rule, "unknown query parameter") {
			f.Fix = "remove it, or check its name for typing errors"
		}
		p.Errors = append(p.Errors, f)
	}
	return p
}

// pointerMax bounds a pointer: it may hold a name that the client chose.
const pointerMax = 128

// pointer turns "body.a[0].b" and "query.limit" into "/a/0/b" and "/limit".
func pointer(location string) string {
	_, rest, _ := strings.Cut(location, ".")
	rest = strings.NewReplacer("~", "~0", "/", "~1", ".", "/", "[", "/", "]", "").Replace(rest)
	if len(rest) > pointerMax {
		rest = strings.ToValidUTF8(rest[:pointerMax], "") + "…"
	}
	if rest == "" {
		return ""
	}
	return "/" + rest
}
