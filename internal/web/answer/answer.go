// Package answer is what every door tells a caller of a decision: RateLimit fields, decision id, problem body.
package answer

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/core/receipt"
)

// Problem is an RFC 9457 body.
type Problem struct {
	Type       string   `json:"type"`
	Title      string   `json:"title"`
	Status     int      `json:"status"`
	Detail     string   `json:"detail"`
	Code       string   `json:"code"`
	Fix        string   `json:"fix,omitempty"`
	DecisionID string   `json:"decision_id,omitempty"`
	Retryable  bool     `json:"retryable"`
	RetryAfter int64    `json:"retry_after_s,omitempty"`
	Violated   []string `json:"violated-policies,omitempty"`
}

// The problem types that are registered for denials (IETF httpapi ratelimit headers, draft 11, section 5).
const (
	quotaType    = "https://iana.org/assignments/http-problem-types#quota-exceeded"
	abnormalType = "https://iana.org/assignments/http-problem-types#abnormal-usage-detected"
)

// Fill completes type and title.
func (p *Problem) Fill() {
	if p.Type == "" {
		p.Type = "/errors/" + p.Code
	}
	if p.Title == "" {
		p.Title = http.StatusText(p.Status)
	}
}

// Body is the problem as JSON with a line end.
func (p *Problem) Body() []byte {
	p.Fill()
	b, err := json.Marshal(p)
	if err != nil { // strings and numbers always marshal
		b = []byte("{}")
	}
	return append(b, '\n')
}

// Write answers with the problem.
func Write(w http.ResponseWriter, p Problem) {
	h := w.Header()
	h["Content-Type"] = []string{"application/problem+json"}
	h["Cache-Control"] = []string{"no-store"}
	if p.DecisionID != "" {
		h["Decision-Id"] = []string{p.DecisionID}
	}
	if p.RetryAfter > 0 {
		h["Retry-After"] = []string{strconv.FormatInt(p.RetryAfter, 10)}
	}
	b := p.Body()
	h["Content-Length"] = []string{strconv.Itoa(len(b))}
	w.WriteHeader(p.Status)
	_, _ = w.Write(b) // the client may be gone
}

// Denial is the problem of a refused request.
func Denial(a *enforce.Admission) Problem {
	p := Problem{Code: a.Code, Detail: a.Detail, Fix: a.Fix, DecisionID: a.DecisionID, Violated: a.Violated}
	switch a.Outcome {
	case receipt.DeniedRate, receipt.DeniedQuota, receipt.DeniedConcurrency:
		p.Status, p.Type, p.Retryable = http.StatusTooManyRequests, quotaType, a.RetryAfter > 0
	case receipt.DeniedAbnormal:
		p.Status, p.Type, p.Retryable = http.StatusTooManyRequests, abnormalType, a.RetryAfter > 0
	case receipt.DeniedSpend, receipt.DeniedCredits, receipt.DeniedUnpaid:
		p.Status = http.StatusPaymentRequired
	case receipt.DeniedSubscription, receipt.DeniedEntitlement:
		p.Status = http.StatusForbidden
	case receipt.DeniedKey:
		p.Status = http.StatusUnauthorized
	case receipt.Unavailable, receipt.Allowed, receipt.DeniedRoute, receipt.Outcomes: // the last three do not come here
		p.Status, p.Retryable = http.StatusServiceUnavailable, true
		if a.Code == enforce.CostInvalid {
			p.Status, p.Retryable = http.StatusUnprocessableEntity, false
		}
	}
	if a.RetryAfter > 0 { // whole seconds, rounded up: never 0
		p.RetryAfter = int64((a.RetryAfter-1)/time.Second) + 1
	}
	return p
}

// Deny answers a refused request and returns the status.
func Deny(w http.ResponseWriter, a *enforce.Admission) int {
	p := Denial(a)
	if p.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", Challenge)
	}
	SetHeaders(w.Header(), a)
	Write(w, p)
	return p.Status
}

// Challenge is the WWW-Authenticate field of a 401.
const Challenge = `Bearer realm="tallystick"`

// Unavailable answers 503 for what went wrong here, and returns it.
func Unavailable(w http.ResponseWriter, decisionID string) int {
	Write(w, Problem{
		Code: "unavailable", Status: http.StatusServiceUnavailable, DecisionID: decisionID, Retryable: true, RetryAfter: 1,
		Detail: "The gateway cannot account for this request at the moment.", Fix: "Try again; tell the API's owner if it lasts.",
	})
	return http.StatusServiceUnavailable
}

// TooLarge is the problem of a body above the bound.
func TooLarge(decisionID string, limit int64) Problem {
	return Problem{
		Code: "body_too_large", Status: http.StatusRequestEntityTooLarge, DecisionID: decisionID,
		Detail: fmt.Sprintf("The request body is larger than %d bytes.", limit), Fix: "Send less in one request.",
	}
}

// SetHeaders writes the RateLimit fields and the decision id.
func SetHeaders(h http.Header, a *enforce.Admission) {
	policy, limit := Fields(a)
	values := [...]string{a.DecisionID, policy, limit} // one allocation for three fields
	h["Decision-Id"] = values[0:1:1]
	if policy != "" {
		h["Ratelimit-Policy"], h["Ratelimit"] = values[1:2:2], values[2:3:3]
	}
}

// Fields are the values of RateLimit-Policy and RateLimit (draft 11 syntax); both empty without policies.
func Fields(a *enforce.Admission) (policy, limit string) {
	if len(a.Policies) == 0 {
		return "", ""
	}
	var buf [512]byte
	b := buf[:0]
	for i := range a.Policies {
		p := &a.Policies[i]
		b = item(b, i, p.Name)
		b = strconv.AppendInt(append(b, ";q="...), p.Quota, 10)
		b = strconv.AppendInt(append(b, ";w="...), p.Window, 10)
	}
	cut := len(b)
	for i := range a.Policies {
		p := &a.Policies[i]
		b = item(b, i, p.Name)
		b = strconv.AppendInt(append(b, ";r="...), p.Remaining, 10)
		b = strconv.AppendInt(append(b, ";t="...), p.Reset, 10)
	}
	both := string(b)
	return both[:cut], both[cut:]
}

// item begins a list member with a policy's name; names are limit keys and need no escaping.
func item(b []byte, i int, name string) []byte {
	if i > 0 {
		b = append(b, ", "...)
	}
	b = append(b, '"')
	b = append(b, name...)
	return append(b, '"')
}
