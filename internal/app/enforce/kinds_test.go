package enforce

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/quota"
	"github.com/tallystick/tallystick/internal/core/receipt"
)

// TestCreditsBurn: nothing passes without a grant; each grant lets as many more pass, at once, and none twice after a crash.
func TestCreditsBurn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, catalog.Limit{Key: "credits", Meter: apiCall, Credits: true})
	denied := func(when string) {
		t.Helper()
		if a := w.admit(); a.Outcome != receipt.DeniedCredits || a.Code != "credits_exhausted" || a.RetryAfter != 0 {
			t.Errorf("%s: %v %s, again after %s", when, a.Outcome, a.Code, a.RetryAfter)
		}
	}
	denied("without a grant")
	w.grant("5")
	if n := w.calls(9); n != 5 {
		t.Errorf("%d passed of 5 granted", n)
	}
	denied("used up")
	w.grant("8")
	if n := w.calls(1); n != 1 {
		t.Error("3 more were granted, and nothing passed")
	}
	w.crash()
	w.open()
	if n := w.calls(9); n != 2 {
		t.Errorf("%d passed after a crash, of 2 that were left", n)
	}
	denied("after a crash")
	w.grant("2") // some are taken back
	denied("below what was used")
	w.wantBooked("8")
}

// TestAbnormalUse: a customer whose use was found abnormal is slowed down where the plan says so, and what was used already counts.
func TestAbnormalUse(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quotaLimit("daily", "10", period.Day))
	w.mu.Lock()
	w.abnormal = true
	w.mu.Unlock()
	if n := w.calls(1); n != 1 {
		t.Error("denied by a plan that says nothing of it")
	}
	c := *w.Current().Catalog
	c.Plans[0].Baseline.Throttle = true
	throttled, err := catalog.Compile(2, &c)
	if err != nil {
		t.Fatal(err)
	}
	w.apply(throttled)
	if a := w.admit(); a.Outcome != receipt.DeniedAbnormal || a.Code != "abnormal_usage" || a.RetryAfter != time.Minute {
		t.Errorf("%v %s, again after %s", a.Outcome, a.Code, a.RetryAfter)
	}
	a := w.e.Admit(context.Background(), Request{Secret: "good", Route: w.route(), Method: "GET", Regardless: true, Cost: new(dec("20"))})
	if !a.Allowed() {
		t.Fatalf("what was used: %s %s", a.Code, a.Detail)
	}
	if err := a.Settle(Actual{}); err != nil {
		t.Fatal(err)
	}
	w.wantBooked("21")
	w.mu.Lock()
	w.abnormal = false
	w.mu.Unlock()
	if a := w.admit(); a.Outcome != receipt.DeniedQuota {
		t.Errorf("beyond the quota: %v", a.Outcome)
	}
}

// TestPlanChangedMeanwhile: a request whose plan changes between the look-up of its key and the decision is decided under the new one.
func TestPlanChangedMeanwhile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quotaLimit("daily", "10", period.Day))
	w.mu.Lock()
	old := w.sub
	w.sub.ID, w.sub.Plan = "sub_00000000000000000000000002", "pro"
	w.stale = &old
	w.mu.Unlock()
	a := w.admit()
	if !a.Allowed() || a.Principal.Subscription.Plan != "pro" {
		t.Fatalf("%v %s, plan %s", a.Outcome, a.Detail, a.Principal.Subscription.Plan)
	}
	if err := a.Settle(Actual{Status: 200}); err != nil {
		t.Fatal(err)
	}
	if n := w.e.inflight.Total(); n != 0 {
		t.Errorf("%d requests are counted as running", n)
	}
	w.wantBooked("1")
}

// TestWouldPassOnOfAllKinds: a denial names the plans whose limits, of whatever kind, would have let it pass.
func TestWouldPassOnOfAllKinds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quotaLimit("daily", "3", period.Day))
	c := *w.Current().Catalog
	q := func(n string) *catalog.Limit { return &catalog.Limit{Key: "l", Meter: apiCall, Quota: new(dec(n))} }
	with := func(l *catalog.Limit, change func(*catalog.Limit)) *catalog.Limit { change(l); return l }
	for name, l := range map[string]*catalog.Limit{
		"fixed_yes":   with(q("4"), func(l *catalog.Limit) { l.Fixed = time.Hour }),
		"fixed_no":    with(q("3"), func(l *catalog.Limit) { l.Fixed = time.Hour }),
		"rolling_yes": with(q("4"), func(l *catalog.Limit) { l.Rolling = time.Hour }),
		"rolling_no":  with(q("3"), func(l *catalog.Limit) { l.Rolling = time.Hour }),
		"soft_yes":    with(q("1"), func(l *catalog.Limit) { l.Window, l.Mode = period.Day, quota.Soft }),
		"at_once_yes": {Key: "l", Concurrency: 1},
		"grace_yes":   with(q("3"), func(l *catalog.Limit) { l.Window, l.Mode, l.Grace = period.Day, quota.Grace, 50 }),
		"larger_yes":  with(q("4"), func(l *catalog.Limit) { l.Window = period.Day }),
	} {
		c.Plans = append(c.Plans, catalog.Plan{Key: name, Currency: c.Plans[0].Currency, Limits: []catalog.Limit{*l}})
	}
	compiled, err := catalog.Compile(2, &c)
	if err != nil {
		t.Fatal(err)
	}
	w.apply(compiled)
	if n := w.calls(3); n != 3 {
		t.Fatal(n)
	}
	w.flush()
	rec, err := w.e.Explain(w.admit().DecisionID)
	if err != nil {
		t.Fatal(err)
	}
	got := slices.Sorted(slices.Values(rec.WouldPassOn))
	want := []string{"at_once_yes", "fixed_yes", "grace_yes", "larger_yes", "pro", "rolling_yes", "soft_yes"}
	if !slices.Equal(got, want) {
		t.Errorf("would pass on %v, want %v", got, want)
	}
}

// TestOverrideThatIsNoQuantity: an override that the limit cannot take is passed over, here and at the authority: nobody is locked
// out by it.
func TestOverrideThatIsNoQuantity(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quotaLimit("daily", "10", period.Day), catalog.Limit{Key: "at_once", Concurrency: 2}, bucketLimit("100", "100"))
	w.mu.Lock()
	w.overrides = []account.Override{
		{ID: "ovr_1", CustomerID: custID, Limit: "daily", Value: "0.5"},
		{ID: "ovr_2", CustomerID: custID, Limit: "at_once", Value: "0"},
		{ID: "ovr_3", CustomerID: custID, Limit: "burst", Burst: "3"},
	}
	w.revision++
	w.mu.Unlock()
	if n := w.calls(5); n != 3 {
		t.Errorf("%d passed, want the 3 of the burst", n)
	}
}

// TestOvershootSurvivesACrash: what an actual cost had beyond its lease counts after kill -9, and after a power cut that the spool
// survived.
func TestOvershootSurvivesACrash(t *testing.T) {
	t.Parallel()
	for _, power := range []bool{false, true} {
		w := newWorld(t, quotaLimit("daily", "100", period.Day))
		a := w.admit()
		if !a.Allowed() {
			t.Fatal(a.Code)
		}
		if err := a.Settle(Actual{Status: 200, Cost: new(dec("60"))}); err != nil { // the lease is of a quarter
			t.Fatal(err)
		}
		if power {
			w.syncSpool()
		}
		w.crash()
		if power {
			w.losePower()
		}
		w.open()
		if n := w.calls(60); n != 40 {
			t.Errorf("power cut %v: %d passed, want 40", power, n)
		}
		w.wantBooked("100")
	}
}
