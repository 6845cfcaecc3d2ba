package client

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Problem is a refusal, or an error answer of the server (RFC 9457). Codes are those of the gateway and the API; each has a page
// at /errors/CODE of the server.
type Problem struct {
	Type       string   `json:"type"`
	Title      string   `json:"title"`
	Status     int      `json:"status"`
	Detail     string   `json:"detail"`
	Code       string   `json:"code"`
	Fix        string   `json:"fix,omitempty"`
	DecisionID string   `json:"decision_id,omitempty"`
	RequestID  string   `json:"request_id,omitempty"`
	Retryable  bool     `json:"retryable"`
	RetryAfter int64    `json:"retry_after_s,omitempty"` // seconds
	Violated   []string `json:"violated-policies,omitempty"`
	Errors     []Fault  `json:"errors,omitempty"`

	// RateLimitPolicy and RateLimit are the header fields of a denial, in the syntax of draft 11; empty where not known.
	RateLimitPolicy string `json:"-"`
	RateLimit       string `json:"-"`
}

// Fault is one broken rule of a call.
type Fault struct {
	Pointer string `json:"pointer,omitempty"` // JSON Pointer into the body, or /NAME of a parameter
	Rule    string `json:"rule,omitempty"`
	Fix     string `json:"fix,omitempty"`
}

// Error is the code and the detail.
func (p *Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.Code + ": " + p.Detail)
	for _, f := range p.Errors {
		b.WriteString(" " + f.Pointer + " " + f.Rule)
	}
	return b.String()
}

// Write answers a request with the problem.
func (p *Problem) Write(w http.ResponseWriter) {
	h := w.Header()
	h["Content-Type"] = []string{"application/problem+json"}
	h["Cache-Control"] = []string{"no-store"}
	p.header(func(name, value string) { h[http.CanonicalHeaderKey(name)] = []string{value} })
	if p.Status == http.StatusUnauthorized {
		h["Www-Authenticate"] = []string{`Bearer realm="tallystick"`}
	}
	b, err := json.Marshal(p)
	if err != nil { // texts and numbers always marshal
		b = []byte("{}")
	}
	b = append(b, '\n')
	h["Content-Length"] = []string{strconv.Itoa(len(b))}
	w.WriteHeader(p.Status)
	_, _ = w.Write(b) // the caller may be gone
}

// Header gives the fields that go with the problem: Decision-Id, Retry-After, RateLimit-Policy, RateLimit, where known.
func (p *Problem) Header() http.Header {
	h := http.Header{}
	p.header(h.Set)
	return h
}

func (p *Problem) header(set func(name, value string)) {
	if p.DecisionID != "" {
		set("Decision-Id", p.DecisionID)
	}
	if p.RetryAfter > 0 && (p.Status == http.StatusTooManyRequests || p.Status == http.StatusServiceUnavailable) {
		set("Retry-After", strconv.FormatInt(p.RetryAfter, 10))
	}
	if p.RateLimitPolicy != "" {
		set("RateLimit-Policy", p.RateLimitPolicy)
		set("RateLimit", p.RateLimit)
	}
}

// wait is how long to wait before the same call may succeed; 0: not said.
func (p *Problem) wait() time.Duration { return time.Duration(min(p.RetryAfter, 3600)) * time.Second }

// denial says that the limits, or the customer's state, refuse.
func (p *Problem) denial() bool {
	switch p.Status {
	case http.StatusTooManyRequests, http.StatusPaymentRequired, http.StatusForbidden:
		return p.DecisionID != ""
	}
	return false
}

func newProblem(status int, code, detail, fix string) *Problem {
	return &Problem{Type: "/errors/" + code, Title: http.StatusText(status), Status: status, Code: code, Detail: detail, Fix: fix}
}

// keyProblem is the answer to a key that does not authenticate.
func keyProblem(code string) *Problem {
	const other = "Use another key, or create a new one."
	switch code {
	case "key_missing":
		return newProblem(http.StatusUnauthorized, code, "The request carries no API key.", `Send it as "Authorization: Bearer KEY".`)
	case "key_revoked":
		return newProblem(http.StatusUnauthorized, code, "The key was revoked and works no more.", other)
	case "key_expired":
		return newProblem(http.StatusUnauthorized, code, "The key's time is over.", other)
	}
	return newProblem(http.StatusUnauthorized, "key_unknown", "No such key exists in this deployment.", "Check the key for typing errors, or create a new one.")
}

func unreachable() *Problem {
	p := newProblem(http.StatusServiceUnavailable, "authority_unreachable", "The server that decides on quota cannot be reached at the moment.", "Try again; tell the API's owner if it lasts.")
	p.Retryable, p.RetryAfter = true, 1
	return p
}

func unavailable(detail string) *Problem {
	p := newProblem(http.StatusServiceUnavailable, "unavailable", detail, "Try again; tell the API's owner if it lasts.")
	p.Retryable, p.RetryAfter = true, 1
	return p
}
