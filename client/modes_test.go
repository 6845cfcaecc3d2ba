package client_test

import (
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
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

// soundKey is a key of the right form that nobody has.
func soundKey(n int) string {
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	body := fmt.Sprintf("tally_live_%043d", n)
	sum, check := crc32.ChecksumIEEE([]byte(body)), make([]byte, 6)
	for i := len(check) - 1; i >= 0; i-- {
		check[i], sum = digits[sum%62], sum/62
	}
	return body + string(check)
}

// TestFloodOfKeys: made-up keys of the right form do not keep those from being checked that were good a moment ago.
func TestFloodOfKeys(t *testing.T) {
	t.Parallel()
	good := soundKey(0)
	var asked atomic.Int64
	release := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body) // what came of it
		if !strings.Contains(string(b), good) {
			asked.Add(1)
			<-release
			fmt.Fprint(w, `{"code":"key_unknown"}`)
			return
		}
		fmt.Fprint(w, `{"id":"key_1","customer":"acme"}`)
	}))
	defer s.Close()
	var now atomic.Int64
	began := time.Now()
	c := open(t, client.Config{URL: s.URL, Now: func() time.Time { return began.Add(time.Duration(now.Load())) }})
	if _, err := c.Authenticate(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			if _, err := c.Authenticate(t.Context(), soundKey(i+1)); err == nil {
				t.Error("a made-up key is good")
			}
		})
	}
	defer wg.Wait()
	defer close(release)
	eventually(t, "the flood is there", func() bool { return asked.Load() == 32 })
	now.Store(int64(time.Second)) // what was known must be asked again
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := c.Authenticate(ctx, good)
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-ctx.Done():
		t.Error("it waits behind the flood")
	}
}
