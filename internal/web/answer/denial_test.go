package answer

import (
	"encoding/json"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/core/receipt"
)

func TestDenials(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		outcome   receipt.Outcome
		after     time.Duration
		status    int
		retry     string
		retryable bool
	}{
		{receipt.DeniedRate, time.Millisecond, 429, "1", true},
		{receipt.DeniedQuota, 1500 * time.Millisecond, 429, "2", true},
		{receipt.DeniedQuota, 0, 429, "", false}, // it never clears
		{receipt.DeniedConcurrency, time.Second, 429, "1", true},
		{receipt.DeniedAbnormal, 2 * time.Second, 429, "2", true},
		{receipt.DeniedSpend, 0, 402, "", false},
		{receipt.DeniedCredits, 0, 402, "", false},
		{receipt.DeniedEntitlement, 0, 403, "", false},
		{receipt.DeniedSubscription, 0, 403, "", false},
		{receipt.DeniedKey, 0, 401, "", false},
		{receipt.Unavailable, time.Second, 503, "1", true},
	} {
		w := httptest.NewRecorder()
		status := Deny(w, &enforce.Admission{
			Outcome: c.outcome, Code: "code", Detail: "What.", Fix: "Do.", DecisionID: "dec_1", Violated: []string{"burst"}, RetryAfter: c.after,
		})
		var p Problem
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
			t.Fatal(err)
		}
		if status != c.status || w.Code != c.status || w.Header().Get("Retry-After") != c.retry || p.Retryable != c.retryable || (p.RetryAfter > 0) != (c.retry != "") {
			t.Errorf("%v: %d, Retry-After %q, %+v", c.outcome, status, w.Header().Get("Retry-After"), p)
		}
		if p.Fix != "Do." || p.Detail != "What." || len(p.Violated) != 1 || p.DecisionID != "dec_1" || p.Title == "" || p.Type == "" || p.Status != status {
			t.Errorf("%v: %+v", c.outcome, p)
		}
	}
}
