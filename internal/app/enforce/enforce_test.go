package enforce

import (
	"context"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/receipt"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/spool"
)

func TestHardQuotaUnderConcurrency(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quotaLimit("daily", "100", period.Day))
	var allowed, denied atomic.Int64
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for range 5 {
				a := w.admit()
				if !a.Allowed() {
					denied.Add(1)
					continue
				}
				allowed.Add(1)
				if err := a.Settle(Actual{Status: 200}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if allowed.Load() != 100 || denied.Load() != 220 {
		t.Fatalf("allowed %d, denied %d; want 100 and 220", allowed.Load(), denied.Load())
	}
	w.wantBooked("100")
}

func TestDenialExplainsItselfAndBurnsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bucketLimit("200", "200"), quotaLimit("daily", "3", period.Day))
	if n := w.calls(3); n != 3 {
		t.Fatalf("%d of 3 allowed", n)
	}
	a := w.admit()
	if a.Outcome != receipt.DeniedQuota || a.Code != "quota_exceeded" || !slices.Equal(a.Violated, []string{"daily"}) {
		t.Fatalf("outcome %v code %s violated %v", a.Outcome, a.Code, a.Violated)
	}
	if want := 12 * time.Hour; a.RetryAfter < want || a.RetryAfter > want+30*time.Second { // each key has its own part of these seconds
		t.Errorf("retry after %s, want %s or up to 30 s more", a.RetryAfter, want)
	}
	r, err := w.e.Explain(a.DecisionID)
	if err != nil {
		t.Fatal(err)
	}
	l := r.Limits[r.Deciding]
	if l.Key != "daily" || l.Before != 3 || l.After != 3 || l.Quota != 3 || r.Customer != "acme" || r.Plan != "free" || r.CatalogVersion != 1 {
		t.Errorf("receipt %+v", r)
	}
	if !slices.Equal(r.WouldPassOn, []string{"pro"}) {
		t.Errorf("would pass on %v, want pro", r.WouldPassOn)
	}
	for _, p := range a.Policies {
		if p.Name == "burst" && p.Remaining != 197 {
			t.Errorf("a denial burned the bucket: %d left, want 197", p.Remaining)
		}
	}
	w.wantBooked("3")
}

func TestPoliciesCountDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quotaLimit("daily", "5", period.Day))
	a := w.admit()
	want := Policy{Name: "daily", Quota: 5, Remaining: 4, Window: 86400, Reset: 43200}
	if len(a.Policies) != 1 || a.Policies[0] != want {
		t.Errorf("policies %+v, want %+v", a.Policies, want)
	}
}

func TestReleaseGivesBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quotaLimit("daily", "1", period.Day))
	a := w.admit()
	if !a.Allowed() {
		t.Fatal("first call denied")
	}
	if w.admit().Allowed() {
		t.Fatal("second call allowed while the first is open")
	}
	if err := a.Release(Failed); err != nil {
		t.Fatal(err)
	}
	if err := a.Release(Failed); err != nil {
		t.Fatal(err)
	}
	if err := a.Settle(Actual{Status: 200}); err != nil { // too late: does nothing
		t.Fatal(err)
	}
	if n := w.calls(2); n != 1 {
		t.Errorf("%d of 2 allowed after a release, want 1", n)
	}
	w.wantBooked("1")
}

func TestKeysAndSubscriptions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for secret, code := range map[string]string{"": "key_missing", "bad": "key_unknown"} {
		a := w.e.Admit(context.Background(), Request{Secret: secret, Route: w.route(), Method: "GET"})
		if a.Outcome != receipt.DeniedKey || a.Code != code {
			t.Errorf("%q: %v %s", secret, a.Outcome, a.Code)
		}
		r, err := w.e.Explain(a.DecisionID)
		if err != nil || r.Code() != code || r.CustomerID != "" {
			t.Errorf("%q: receipt %+v, %v", secret, r, err)
		}
	}
	w.sub.End = w.Now()
	if a := w.admit(); a.Outcome != receipt.DeniedSubscription || a.Code != "no_subscription" {
		t.Errorf("after the subscription's end: %v %s", a.Outcome, a.Code)
	}
	if n := w.e.inflight.Total(); n != 0 {
		t.Errorf("%d open after denials", n)
	}
}

func TestNewDay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quotaLimit("daily", "10", period.Day), quotaLimit("monthly", "25", period.BillingPeriod))
	for day, want := range []int{10, 10, 5, 0} {
		if n := w.calls(12); n != want {
			t.Errorf("day %d: %d allowed, want %d", day, n, want)
		}
		w.advance(24 * time.Hour)
	}
	w.wantBooked("25")
	w.advance(31 * 24 * time.Hour)
	if n := w.calls(12); n != 10 {
		t.Errorf("next billing period: %d allowed, want 10", n)
	}
	if _, err := w.e.Tick(context.Background()); err != nil {
		t.Fatal(err)
	}
	open, err := w.records.OpenLeases(context.Background(), 1, math.MaxUint32)
	if err != nil || len(open) != 2 {
		t.Errorf("%d leases open, want the 2 of today: %v", len(open), err)
	}
}

func TestRestart(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*world){
		"clean stop": (*world).stop,
		"kill -9":    (*world).crash,
		"power cut, nothing lost": func(w *world) {
			w.crash()
			w.boot = "boot-2"
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, quotaLimit("daily", "100", period.Day))
			if n := w.calls(40); n != 40 {
				t.Fatalf("%d of 40 allowed", n)
			}
			end(w)
			w.open()
			w.wantBooked("40")
			n := w.calls(100)
			if name == "power cut, nothing lost" {
				if written := w.e.Stats().WrittenOff; written == 0 || int64(n)+written != 60 {
					t.Errorf("%d allowed and %d written off after a power cut, want 60 together", n, written)
				}
				return
			}
			if n != 60 {
				t.Errorf("%d allowed after the restart, want 60", n)
			}
			w.wantBooked("100")
		})
	}
}

func TestCrashWithOpenRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quotaLimit("daily", "100", period.Day))
	w.calls(7)
	for range 3 {
		if !w.admit().Allowed() {
			t.Fatal("denied")
		}
	}
	released := w.admit()
	if err := released.Release(Failed); err != nil {
		t.Fatal(err)
	}
	w.crash()
	w.open()
	if n := w.e.Stats().Recovered; n != 3 {
		t.Errorf("%d recovered, want 3", n)
	}
	w.wantBooked("10")
	w.crash() // recovering again must not count them again
	w.open()
	w.wantBooked("10")
	if n := w.calls(200); n != 90 {
		t.Errorf("%d allowed, want 90", n)
	}
}

func TestCatalogChangesKeepCounters(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quotaLimit("daily", "100", period.Day))
	w.calls(30)
	w.apply(declare(t, 2, quotaLimit("renamed", "50", period.Day)))
	if n := w.calls(100); n != 20 {
		t.Errorf("lowered to 50 after 30: %d more, want 20", n)
	}
	w.apply(declare(t, 3)) // no limit at all
	if n := w.calls(5); n != 5 {
		t.Errorf("without limits: %d of 5", n)
	}
	w.apply(declare(t, 4, quotaLimit("daily", "60", period.Day)))
	if n := w.calls(100); n != 5 {
		t.Errorf("60 a day after 55: %d more, want 5", n)
	}
	w.apply(declare(t, 5, quotaLimit("daily", "60", period.Day), quotaLimit("weekly", "70", period.Week)))
	w.advance(24 * time.Hour)
	if n := w.calls(100); n != 10 {
		t.Errorf("a new weekly limit of 70 after 60: %d more, want 10", n)
	}
	w.wantBooked("70")
	w.stop()
	w.open()
	if n := w.calls(10); n != 0 {
		t.Errorf("after a restart: %d more, want 0", n)
	}
}

func TestBucketSurvivesCatalogAndRestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bucketLimit("10", "20"))
	if n := w.calls(30); n != 20 {
		t.Fatalf("%d of a full bucket of 20", n)
	}
	w.apply(declare(t, 2, bucketLimit("5", "20")))
	if n := w.calls(5); n != 0 {
		t.Errorf("a changed rate filled the bucket: %d", n)
	}
	w.advance(time.Second)
	if n := w.calls(20); n != 5 {
		t.Errorf("after a second at 5/s: %d", n)
	}
	w.stop()
	w.open()
	if n := w.calls(20); n != 0 {
		t.Errorf("a restart filled the bucket: %d", n)
	}
	w.advance(2 * time.Second)
	if n := w.calls(20); n != 10 {
		t.Errorf("two seconds after the restart: %d, want 10", n)
	}
	w.advance(time.Hour)
	w.crash()
	w.open()
	if n := w.calls(30); n != 20 {
		t.Errorf("an hour after the last request: %d, want a full bucket of 20", n)
	}
	w.advance(time.Hour)
	w.crash()
	w.boot = "boot-2"
	w.open()
	if n := w.calls(30); n != 0 {
		t.Errorf("after a power cut: %d, want an empty bucket", n)
	}
}

func TestReportedUsageCounts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quotaLimit("daily", "100", period.Day))
	w.report("early", 30)
	w.calls(10)
	w.report("later", 40)
	if n := w.calls(100); n != 20 {
		t.Errorf("%d allowed, want 20", n)
	}
	ls, err := w.e.Limits(context.Background(), "acme")
	if err != nil || len(ls) != 1 {
		t.Fatalf("limits %v, %v", ls, err)
	}
	if l := ls[0]; l.Consumed.String() != "100" || l.Quota.String() != "100" || l.Remaining.String() != "0" {
		t.Errorf("limit %+v", l)
	}
}

func TestSpendCap(t *testing.T) {
	t.Parallel()
	w := newWorld(t, catalog.Limit{Key: "spend", SpendCap: new(dec("2.10")), Window: period.BillingPeriod}, quotaLimit("monthly", "1000", period.BillingPeriod))
	if n := w.calls(40); n != 18 { // 10 free, then 8 at 0.25 = 2.00
		t.Fatalf("%d allowed, want 18", n)
	}
	a := w.admit()
	if a.Outcome != receipt.DeniedSpend || a.Code != "spend_cap_reached" || a.RetryAfter != 0 {
		t.Errorf("outcome %v %s, retry after %s", a.Outcome, a.Code, a.RetryAfter)
	}
	if len(a.Policies) != 1 || a.Policies[0].Name != "monthly" {
		t.Errorf("policies %+v: spend caps are left out", a.Policies)
	}
	r, err := w.e.Explain(a.DecisionID)
	if err != nil || r.Limits[r.Deciding].After != 2_000_000 || r.Limits[r.Deciding].Quota != 2_100_000 {
		t.Errorf("receipt %+v, %v", r, err)
	}
	ls, err := w.e.Limits(context.Background(), "acme")
	if err != nil || ls[0].Consumed.String() != "2" || ls[0].Remaining.String() != "0.1" || ls[0].Currency != "USD" {
		t.Errorf("limits %+v, %v", ls, err)
	}
	w.stop()
	w.open()
	if n := w.calls(5); n != 0 {
		t.Errorf("%d allowed after a restart, want 0", n)
	}
	w.wantBooked("18")
}

func TestFullSpoolRefuses(t *testing.T) {
	t.Parallel()
	w := newWorldOn(t, spool.Config{SegmentBytes: 64 << 10, MaxBytes: 128 << 10}, quotaLimit("daily", "1000000", period.Day))
	var open []*Admission
	for {
		a := w.admit()
		if !a.Allowed() {
			if a.Outcome != receipt.Unavailable || a.Code != "spool_full" || a.RetryAfter != time.Second {
				t.Fatalf("full spool: %v %s", a.Outcome, a.Code)
			}
			break
		}
		open = append(open, a)
		if len(open) > 10_000 {
			t.Fatal("the spool has no end")
		}
	}
	for _, a := range open { // each has room to settle
		if err := a.Settle(Actual{Status: 200}); err != nil {
			t.Fatal(err)
		}
	}
	w.flush()
	if n := w.calls(1); n != 1 {
		t.Error("still refused after the spool was shipped")
	}
}

func TestSettledWaitsForOlderRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.admit()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := w.e.Settled(ctx, w.Now()); err == nil {
		t.Error("an open request did not hold the close up")
	}
	done := make(chan error, 1)
	go func() { done <- w.e.Settled(context.Background(), w.Now()) }()
	younger := w.admit()
	if err := a.Settle(Actual{Status: 200}); err != nil {
		t.Fatal(err)
	}
	_ = younger // open, but may be younger than the wait
	if err := younger.Settle(Actual{Status: 200}); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := w.e.Settled(context.Background(), w.Now().Add(time.Hour)); err == nil {
		t.Error("a wait for the future returned")
	}
}

func TestEventLeadsBackToItsDecision(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quotaLimit("daily", "100", period.Day))
	a := w.admit()
	if err := a.Settle(Actual{Status: 204}); err != nil {
		t.Fatal(err)
	}
	a.MarkIncomplete()
	w.flush()
	page, err := w.journal.Scan(context.Background(), store.Scan{SeriesKey: store.SeriesKey{CustomerID: custID, Meter: apiCall}, Limit: 10})
	if err != nil || len(page.Records) != 1 {
		t.Fatalf("%d events, %v", len(page.Records), err)
	}
	rec := page.Records[0]
	if got := string(rec.Event.Data); got != `{"cost":1,"method":"GET","route":"GET /hello","status":204}` {
		t.Errorf("data %s", got)
	}
	if rec.Flags&store.Incomplete == 0 || rec.KeyID != keyID || rec.Event.Source != "gateway/1" {
		t.Errorf("record %+v", rec)
	}
	id, _, err := w.e.DecisionID(rec.Receipt)
	if err != nil || id != a.DecisionID {
		t.Errorf("decision id from the event\n%s, want\n%s (%v)", id, a.DecisionID, err)
	}
}
