package client_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tallystick/tallystick/client"
)

// TestActualCost: what a request did cost in the end is charged, less and more, to the tenth of a token; what is given back can be
// used again at once.
func TestActualCost(t *testing.T) {
	t.Parallel()
	name, key, _ := customer(t, "hundred")
	c := open(t, client.Config{Idle: time.Hour, Age: time.Hour, TTL: time.Minute, BlockMax: 2})
	ask := client.Request{KeyID: key, Meter: "tokens", Cost: 1000, Scale: 1} // 100.0
	admit := func() client.Admission {
		t.Helper()
		a, err := c.Admit(t.Context(), ask)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	a, b := admit(), admit() // the block of two
	if a.DecisionID == "" || a.DecisionID != b.DecisionID {
		t.Errorf("decisions %q and %q", a.DecisionID, b.DecisionID)
	}
	a.SettleCost(5) // 0.5
	b.Release()
	d := admit()
	d.SettleCost(1234) // 123.4, above the estimate
	shut(t, c)
	if s := c.Stats(); s.Settled != s.Blocks || s.Kept != 0 {
		t.Errorf("%+v", s)
	}
	if u := used(t, open(t, client.Config{}), name, "tokens"); u != "123.9" {
		t.Errorf("%s are charged, want 123.9", u)
	}
}

// TestIdleAndLate: an idle block is given back while a request of it is under way, which is charged as admitted; what it did cost
// more is charged with the next block, what it gives back is too late and counted.
func TestIdleAndLate(t *testing.T) {
	t.Parallel()
	name, key, _ := customer(t, "hundred")
	c := open(t, client.Config{Hold: 50 * time.Millisecond, Idle: 50 * time.Millisecond})
	ask := client.Request{KeyID: key, Meter: "api_calls", Cost: 2}
	more, err := c.Admit(t.Context(), ask)
	if err != nil {
		t.Fatal(err)
	}
	less, err := c.Admit(t.Context(), ask)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the block is given back", func() bool { return c.Stats().Settled == c.Stats().Blocks })
	if u := used(t, c, name, "api_calls"); u != "4" {
		t.Errorf("%s are charged, want the two of 2 under way", u)
	}
	more.SettleCost(5)
	less.Release()
	if c.Stats().Kept != 2 {
		t.Errorf("%+v", c.Stats())
	}
	next, err := c.Admit(t.Context(), ask)
	if err != nil {
		t.Fatal(err)
	}
	next.Settle()
	shut(t, c)
	checkUsage(t, name, 9) // 5, 2 kept, 2
}

// TestLongRequest: a block lives as long as a request that needs it.
func TestLongRequest(t *testing.T) {
	t.Parallel()
	name, key, _ := customer(t, "hundred")
	c := open(t, client.Config{TTL: 3 * time.Second, BlockMax: 1})
	a, err := c.Admit(t.Context(), client.Request{KeyID: key, Meter: "api_calls", Cost: 1})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	eventually(t, "the time of a block passed", func() bool { return time.Since(began) > 4500*time.Millisecond })
	a.Release()
	shut(t, c)
	if s := c.Stats(); s.Lost != 0 || s.Kept != 0 {
		t.Errorf("%+v", s)
	}
	if u := used(t, open(t, client.Config{}), name, "api_calls"); u != "0" {
		t.Errorf("%s are charged for a request that was given back", u)
	}
}

// TestDenialIsShort: a denial has all that the gateway's has, and is remembered for a moment only.
func TestDenialIsShort(t *testing.T) {
	t.Parallel()
	name, key, _ := customer(t, "hundred")
	c := open(t, client.Config{})
	other, err := c.Reserve(t.Context(), client.NewReservation{KeyID: key, Meter: "api_calls", Cost: "100"})
	if err != nil {
		t.Fatal(err)
	}
	ask := client.Request{KeyID: key, Meter: "api_calls", Cost: 100}
	_, err = c.Admit(t.Context(), ask)
	p := problem(t, err)
	if p.Status != http.StatusTooManyRequests || p.Code != "quota_exceeded" || p.Fix == "" || p.DecisionID == "" || p.RetryAfter < 1 ||
		!p.Retryable || len(p.Violated) != 1 || p.Violated[0] != "daily" || !strings.Contains(p.RateLimit, `"daily"`) {
		t.Errorf("%+v", p)
	}
	calls := c.Stats().Calls
	if _, again := c.Admit(t.Context(), ask); again == nil || c.Stats().Calls != calls {
		t.Errorf("a denial a moment ago was asked about again: %v", again)
	}
	if _, err := c.Release(t.Context(), other.ID); err != nil {
		t.Fatal(err)
	}
	eventually(t, "what was given back is there", func() bool {
		b, err := c.Admit(t.Context(), ask)
		if err == nil {
			b.Settle()
		}
		return err == nil
	})
	if e, err := c.Explain(t.Context(), p.DecisionID); err != nil || e.Outcome != "denied" || e.Limit != "daily" || e.Customer != name {
		t.Errorf("%+v %v", e, err)
	}
}

// TestSmallerBlocks: where a whole block does not fit, a smaller one is taken at once.
func TestSmallerBlocks(t *testing.T) {
	t.Parallel()
	_, key, _ := customer(t, "hundred")
	c := open(t, client.Config{Idle: time.Hour, Age: time.Hour})
	var block string
	for range 2 { // 160 are asked for, then 40
		a, err := c.Admit(t.Context(), client.Request{KeyID: key, Meter: "api_calls", Cost: 20})
		if err != nil {
			t.Fatal(err)
		}
		if block != "" && a.DecisionID != block {
			t.Error("the second request is from another block")
		}
		block = a.DecisionID
		a.Settle()
	}
}

// TestLostAnswer: a block of which the client never heard is not charged.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	name, key, _ := customer(t, "hundred")
	net := newProxy(t)
	c := open(t, client.Config{URL: net.URL, TTL: time.Minute})
	ask := client.Request{KeyID: key, Meter: "api_calls", Cost: 1}
	net.lose.Store(1)
	if _, err := c.Admit(t.Context(), ask); problem(t, err).Code != "authority_unreachable" {
		t.Fatal(err)
	}
	if u := used(t, c, name, "api_calls"); u != "8" {
		t.Fatalf("%s are reserved, want the block of 8", u)
	}
	eventually(t, "the block is given back", func() bool { return used(t, c, name, "api_calls") == "0" })
	net.busy.Store(1) // of what never was, nothing is left either
	if _, err := c.Admit(t.Context(), ask); err == nil {
		t.Fatal("admitted without a server")
	}
	eventually(t, "all blocks have ended", func() bool { s := c.Stats(); return s.Blocks == 2 && s.Settled == 2 })
	checkUsage(t, name, 0)
}

// TestCloseGivesBack: of the block that is drawn from and of the one taken ahead only what was used is charged.
func TestCloseGivesBack(t *testing.T) {
	t.Parallel()
	name, key, _ := customer(t, "hundred")
	c := open(t, client.Config{Idle: time.Hour, Age: time.Hour, TTL: time.Hour})
	for range 5 {
		a, err := c.Admit(t.Context(), client.Request{KeyID: key, Meter: "api_calls", Cost: 1})
		if err != nil {
			t.Fatal(err)
		}
		a.Settle()
	}
	eventually(t, "the next block is there", func() bool { return c.Stats().Blocks == 2 })
	shut(t, c)
	checkUsage(t, name, 5)
	if u := used(t, open(t, client.Config{}), name, "api_calls"); u != "5" {
		t.Errorf("%s are charged, want 5", u)
	}
}

// TestManySeries: more callers than there is room for, and each is charged what it used.
func TestManySeries(t *testing.T) {
	t.Parallel()
	name, key, _ := customer(t, "hundred")
	c := open(t, client.Config{Series: 2, Idle: time.Hour, Age: time.Hour})
	for i := range 10 {
		eventually(t, "there is room", func() bool {
			a, err := c.Admit(t.Context(), client.Request{KeyID: key, User: fmt.Sprint("u", i), Meter: "api_calls", Cost: 1})
			if err == nil {
				a.Settle()
			}
			return err == nil
		})
	}
	shut(t, c)
	checkUsage(t, name, 10)
}

// TestUnreachable: without the server, blocks are used up, then the failure mode holds; the breaker keeps requests from waiting; all
// recovers by itself, and what was let through is charged.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	for _, mode := range []client.Failure{client.Closed, client.Open} {
		t.Run(map[client.Failure]string{client.Closed: "closed", client.Open: "open"}[mode], func(t *testing.T) {
			t.Parallel()
			name, key, secret := customer(t, "open")
			net := newProxy(t)
			c := open(t, client.Config{URL: net.URL, Failure: mode, Idle: time.Hour, Age: time.Hour, TTL: time.Minute, BlockMax: 4})
			ask := client.Request{KeyID: key, Meter: "api_calls", Cost: 1}
			admit := func() error {
				a, err := c.Admit(t.Context(), ask)
				if err == nil {
					a.Settle()
				}
				return err
			}
			if _, err := c.Authenticate(t.Context(), secret); err != nil {
				t.Fatal(err)
			}
			if err := admit(); err != nil {
				t.Fatal(err)
			}
			net.cut.Store(true)
			for c.Stats().Admitted < 4 { // the rest of the block, and perhaps of one taken ahead
				if err := admit(); err != nil {
					t.Fatal(err)
				}
			}
			eventually(t, "the blocks are spent", func() bool { return admit() != nil || c.Stats().Open > 0 })
			within := c.Stats().Admitted - c.Stats().Open
			for range 100 {
				err := admit()
				if mode == client.Closed {
					if p := problem(t, err); p.Code != "authority_unreachable" || p.Status != 503 || p.RetryAfter != 1 || !p.Retryable {
						t.Fatal(p)
					}
				} else if err != nil {
					t.Fatal(err)
				}
			}
			if n := net.calls.Load(); n > 40 {
				t.Errorf("%d calls to a server that is away", n)
			}
			_, err := c.Authenticate(t.Context(), secret)
			if mode == client.Open && err != nil {
				t.Errorf("a key that was good a moment ago: %v", err)
			}
			net.cut.Store(false)
			eventually(t, "the server is used again", func() bool {
				before := c.Stats().Blocks
				err := admit()
				return err == nil && c.Stats().Blocks > before
			})
			shut(t, c)
			s := c.Stats()
			if mode == client.Closed && (s.Open != 0 || s.Refused < 100) || mode == client.Open && (s.Open < 100 || s.Refused != 0) || s.Unpaid != 0 {
				t.Errorf("%+v, %d from blocks", s, within)
			}
			checkUsage(t, name, s.Admitted)
		})
	}
}

// TestTypedCalls: what integrators need besides.
func TestTypedCalls(t *testing.T) {
	t.Parallel()
	name, key, secret := customer(t, "hundred")
	net := newProxy(t)
	c := open(t, client.Config{URL: net.URL})
	ctx := t.Context()
	batch := []client.Event{
		{ID: "1", Source: "test/" + name, Type: "completion", Subject: name, Data: m{"tokens": "12.5"}},
		{ID: "2", Source: "test/" + name, Type: "completion", Subject: name, Data: m{"tokens": "x"}},
	}
	net.busy.Store(2) // the first two calls are repeated
	r, err := c.ReportEvents(ctx, batch)
	if err != nil || r.Accepted != 1 || r.Rejected != 1 || len(r.Outcomes) != 2 || r.Outcomes[1].Rule == "" {
		t.Errorf("%+v %v", r, err)
	}
	if r, err = c.ReportEvents(ctx, batch[:1]); err != nil || r.Duplicate != 1 {
		t.Errorf("%+v %v", r, err)
	}
	if _, err := c.ReportEvents(ctx, nil); err != client.ErrBatch { //nolint:errorlint // it is returned bare
		t.Error(err)
	}
	net.busy.Store(1)
	res, err := c.Reserve(ctx, client.NewReservation{KeyID: key, Meter: "tokens", Cost: "100"})
	if err != nil || res.State != "open" || res.Reserved != "100.0" && res.Reserved != "100" {
		t.Fatalf("%+v %v", res, err)
	}
	if x, err := c.Extend(ctx, res.ID, time.Hour); err != nil || !x.ExpiresAt.After(res.ExpiresAt) {
		t.Errorf("%+v %v", x, err)
	}
	if x, err := c.Settle(ctx, res.ID, "30"); err != nil || x.State != "settled" || !strings.HasPrefix(x.Charged, "30") {
		t.Errorf("%+v %v", x, err)
	}
	if _, err := c.Release(ctx, res.ID); problem(t, err).Code != "reservation_ended" {
		t.Error(err)
	}
	if _, err := c.Reserve(ctx, client.NewReservation{KeyID: key, Meter: "no"}); len(problem(t, err).Errors) != 1 {
		t.Error(err)
	}
	u, err := c.Usage(ctx, client.UsageQuery{Customers: []string{name}, Meter: "tokens", Window: "day", From: time.Now().Add(-48 * time.Hour).Truncate(time.Hour)})
	if err != nil || !strings.HasPrefix(u.Value, "42.5") || len(u.Windows) == 0 {
		t.Errorf("%+v %v", u, err)
	}
	if l, err := c.LimitsOfKey(ctx, secret); err != nil || l.Customer != name || l.Plan != "hundred" {
		t.Errorf("%+v %v", l, err)
	}
}

// TestRetriesEnd: a call is not repeated for ever, and not after its context.
func TestRetriesEnd(t *testing.T) {
	t.Parallel()
	net := newProxy(t)
	net.busy.Store(1000)
	c := open(t, client.Config{URL: net.URL})
	if _, err := c.Limits(t.Context(), "x"); err == nil {
		t.Error("no error")
	}
	if n := net.calls.Load(); n < 3 || n > 4 {
		t.Errorf("%d calls", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	before := net.calls.Load()
	if _, err := c.Limits(ctx, "x"); err == nil || net.calls.Load() != before {
		t.Error("a call of a context that has ended was made")
	}
}

// TestConfig: what cannot work is refused.
func TestConfig(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]client.Config{
		"no URL": {Token: "x"}, "no scheme": {URL: "localhost:1", Token: "x"}, "no token": {URL: "http://x"},
		"short TTL": {URL: "http://x", Token: "x", TTL: time.Second}, "part of a second": {URL: "http://x", Token: "x", TTL: 3500 * time.Millisecond},
		"block": {URL: "http://x", Token: "x", BlockMax: -1}, "idle": {URL: "http://x", Token: "x", Idle: -1},
	} {
		if _, err := client.New(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for _, c := range []struct {
		units int64
		scale int
		want  string
	}{{15, 1, "1.5"}, {0, 2, "0.00"}, {5, 3, "0.005"}, {-5, 1, "-0.5"}, {12, 0, "12"}} {
		if got := client.Decimal(c.units, c.scale); got != c.want {
			t.Errorf("%d at scale %d is %s, want %s", c.units, c.scale, got, c.want)
		}
	}
}

// TestCloseUnderLoad: requests that come while the client closes are refused or charged, none is lost.
func TestCloseUnderLoad(t *testing.T) {
	t.Parallel()
	name, key, _ := customer(t, "open")
	c := open(t, client.Config{})
	var mu sync.Mutex
	var admitted int64
	var all sync.WaitGroup
	begun := make(chan struct{}, 16)
	for range 16 {
		all.Go(func() {
			for i := 0; ; i++ {
				a, err := c.Admit(t.Context(), client.Request{KeyID: key, Meter: "api_calls", Cost: 1})
				if err != nil {
					if p := problem(t, err); p.Code != "unavailable" {
						t.Error(p)
					}
					return
				}
				a.Settle()
				mu.Lock()
				admitted++
				mu.Unlock()
				if i == 50 {
					begun <- struct{}{}
				}
			}
		})
	}
	for range 16 {
		<-begun
	}
	shut(t, c)
	all.Wait()
	checkUsage(t, name, admitted)
}
