package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/core/receipt"
)

// problem is an RFC 9457 body.
type problem struct {
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

// quotaType is registered for denials by a quota (IETF httpapi ratelimit headers, draft 11, section 5).
const quotaType = "https://iana.org/assignments/http-problem-types#quota-exceeded"

func writeProblem(w http.ResponseWriter, p problem) {
	if p.Type == "" {
		p.Type = "/errors/" + p.Code
	}
	if p.Title == "" {
		p.Title = http.StatusText(p.Status)
	}
	h := w.Header()
	h["Content-Type"] = []string{"application/problem+json"}
	h["Cache-Control"] = []string{"no-store"}
	if p.DecisionID != "" {
		h["Decision-Id"] = []string{p.DecisionID}
	}
	if p.RetryAfter > 0 {
		h["Retry-After"] = []string{strconv.FormatInt(p.RetryAfter, 10)}
	}
	b, err := json.Marshal(p)
	if err != nil { // strings and numbers always marshal
		b = []byte("{}")
	}
	h["Content-Length"] = []string{strconv.Itoa(len(b) + 1)}
	w.WriteHeader(p.Status)
	_, _ = w.Write(append(b, '\n')) // the client may be gone
}

// deny answers a refused request and returns the status.
func deny(w http.ResponseWriter, a *enforce.Admission) int {
	p := problem{Code: a.Code, Detail: a.Detail, Fix: a.Fix, DecisionID: a.DecisionID, Violated: a.Violated}
	switch a.Outcome {
	case receipt.DeniedRate, receipt.DeniedQuota:
		p.Status, p.Type, p.Retryable = http.StatusTooManyRequests, quotaType, a.RetryAfter > 0
	case receipt.DeniedSpend:
		p.Status = http.StatusPaymentRequired
	case receipt.DeniedSubscription:
		p.Status = http.StatusForbidden
	case receipt.DeniedKey:
		p.Status = http.StatusUnauthorized
		w.Header().Set("WWW-Authenticate", `Bearer realm="tallystick"`)
	case receipt.Unavailable, receipt.Allowed, receipt.DeniedRoute: // the last two do not come here
		p.Status, p.Retryable = http.StatusServiceUnavailable, true
	}
	p.RetryAfter = int64(a.RetryAfter / time.Second)
	setHeaders(w.Header(), a)
	writeProblem(w, p)
	return p.Status
}

func unavailable(w http.ResponseWriter, decisionID string) int {
	writeProblem(w, problem{
		Code: "unavailable", Status: http.StatusServiceUnavailable, DecisionID: decisionID, Retryable: true, RetryAfter: 1,
		Detail: "The gateway cannot account for this request at the moment.", Fix: "Try again; tell the API's owner if it lasts.",
	})
	return http.StatusServiceUnavailable
}

func tooLarge(decisionID string, limit int64) problem {
	return problem{
		Code: "body_too_large", Status: http.StatusRequestEntityTooLarge, DecisionID: decisionID,
		Detail: fmt.Sprintf("The request body is larger than %d bytes.", limit), Fix: "Send less in one request.",
	}
}

// setHeaders writes the RateLimit fields (draft 11 syntax) and the decision id.
func setHeaders(h http.Header, a *enforce.Admission) {
	h["Decision-Id"] = []string{a.DecisionID}
	if len(a.Policies) == 0 {
		return
	}
	var buf [512]byte
	b := buf[:0]
	for i := range a.Policies {
		p := &a.Policies[i]
		b = item(b, i, p.Name)
		b = strconv.AppendInt(append(b, ";q="...), p.Quota, 10)
		b = strconv.AppendInt(append(b, ";w="...), p.Window, 10)
	}
	h["Ratelimit-Policy"] = []string{string(b)}
	b = buf[:0]
	for i := range a.Policies {
		p := &a.Policies[i]
		b = item(b, i, p.Name)
		b = strconv.AppendInt(append(b, ";r="...), p.Remaining, 10)
		b = strconv.AppendInt(append(b, ";t="...), p.Reset, 10)
	}
	h["Ratelimit"] = []string{string(b)}
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
