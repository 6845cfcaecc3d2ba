package client_test

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tallystick/tallystick/client"
)

// admit asks once, and ends what it gets.
func admit(t *testing.T, c *client.Client, q client.Request) error {
	t.Helper()
	a, err := c.Admit(t.Context(), q)
	if err == nil {
		a.Settle()
	}
	return err
}

// payment checks a refusal that waiting does not help.
func payment(t *testing.T, err error, code, limit string) {
	t.Helper()
	p := problem(t, err)
	if p.Status != http.StatusPaymentRequired || p.Code != code || p.Retryable || p.RetryAfter != 0 || p.Header().Get("Retry-After") != "" || p.Fix == "" ||
		p.DecisionID == "" || len(p.Violated) != 1 || p.Violated[0] != limit {
		t.Errorf("%+v, want %s", p, code)
	}
}

// TestCreditsExhausted: what was granted is admitted to the last unit, then 402; a further grant is seen at once.
func TestCreditsExhausted(t *testing.T) {
	t.Parallel()
	name, key, secret := customer(t, "prepaid")
	grant := func(amount string) {
		api(t, http.MethodPost, "/v1/grants", m{"customer": name, "meter": "tokens", "amount": amount, "reason": "a test"}, nil)
	}
	grant("10")
	c := open(t, client.Config{})
	ask := client.Request{KeyID: key, Meter: "tokens", Cost: 25, Scale: 1}
	for range 4 {
		if err := admit(t, c, ask); err != nil {
			t.Fatal(err)
		}
	}
	payment(t, admit(t, c, ask), "credits_exhausted", "prepaid")
	s := httptest.NewServer(c.Middleware(client.Route{Meter: "tokens", Cost: 25, Scale: 1})(hello(t)))
	defer s.Close()
	if a := get(t, s.URL, secret); a.status != 402 || a.problem.Code != "credits_exhausted" || a.header.Get("Retry-After") != "" {
		t.Errorf("%+v", a)
	}
	grant("2.5")
	eventually(t, "the new credits are seen", func() bool { return admit(t, c, ask) == nil })
	shut(t, c)
}

// TestSpendCap: the charges of a period reach the cap and never pass it.
func TestSpendCap(t *testing.T) {
	t.Parallel()
	_, key, _ := customer(t, "capped")
	c := open(t, client.Config{})
	ask := client.Request{KeyID: key, Meter: "tokens", Cost: 5, Scale: 1}
	for range 4 {
		if err := admit(t, c, ask); err != nil {
			t.Fatal(err)
		}
	}
	payment(t, admit(t, c, ask), "spend_cap_reached", "spend")
}

// TestModes: a soft limit lets all pass and counts it, a grace limit its percentage.
func TestModes(t *testing.T) {
	t.Parallel()
	for plan, pass := range map[string]int{"soft": 40, "grace": 15} {
		t.Run(plan, func(t *testing.T) {
			t.Parallel()
			name, key, _ := customer(t, plan)
			c := open(t, client.Config{})
			ask := client.Request{KeyID: key, Meter: "api_calls", Cost: 1}
			for i := range pass {
				if err := admit(t, c, ask); err != nil {
					t.Fatalf("request %d: %v", i+1, err)
				}
			}
			if plan == "grace" {
				if p := problem(t, admit(t, c, ask)); p.Status != 429 || p.Code != "quota_exceeded" {
					t.Errorf("%+v", p)
				}
			}
			shut(t, c)
			checkUsage(t, name, int64(pass))
		})
	}
}

// TestUsersApart: where a limit is per user, no user draws from what another one's block holds.
func TestUsersApart(t *testing.T) {
	t.Parallel()
	_, key, _ := customer(t, "users")
	c := open(t, client.Config{})
	for _, user := range []string{"a", "b", "c"} {
		for range 3 {
			if err := admit(t, c, client.Request{KeyID: key, User: user, Meter: "api_calls", Cost: 1}); err != nil {
				t.Fatalf("%s: %v", user, err)
			}
		}
	}
	for _, user := range []string{"a", "b", "c"} {
		if p := problem(t, admit(t, c, client.Request{KeyID: key, User: user, Meter: "api_calls", Cost: 1})); p.Status != 429 || p.Violated[0] != "user" {
			t.Errorf("%s: %+v", user, p)
		}
	}
}

// TestTokenGoesNowhereElse: an address that sends elsewhere is not followed.
func TestTokenGoesNowhereElse(t *testing.T) {
	t.Parallel()
	var seen atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { seen.Add(1) }))
	defer other.Close()
	s := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	defer s.Close()
	c := open(t, client.Config{URL: s.URL, Timeout: time.Second})
	if _, err := c.Limits(t.Context(), "acme"); err == nil || seen.Load() != 0 {
		t.Errorf("%v; %d calls elsewhere", err, seen.Load())
	}
}
