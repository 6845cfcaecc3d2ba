package recount_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallystick/tallystick/internal/app/recount"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// counts are a job's figures in one line.
func counts(j recount.Job) string {
	return fmt.Sprintf("%s read %d changed %d (%s) closed %d admitted %d unreadable %d", j.State, j.Read, j.Changed, j.Difference, j.Closed, j.Admitted, j.Unreadable)
}

func check(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %s, want %s", what, got, want)
	}
}

func TestAddAMeter(t *testing.T) {
	t.Parallel()
	w := newWorld(t, catalog.Meter{Key: "calls", Event: "request", Aggregation: meter.Count})
	other := completion(4, "acme", `{"n":100}`)
	other.Type = "request"
	w.report(completion(1, "acme", `{"n":1,"model":"x"}`), completion(2, "bolt", `{"n":20}`), completion(3, "nobody", `{"n":300}`), other, completion(5, "acme", `{"m":1}`))
	added := tokens("data.n")
	added.Dimensions = []string{"model"}
	w.apply(catalog.Meter{Key: "calls", Event: "request", Aggregation: meter.Count}, added)

	dry := w.finish(w.begin(recount.Order{Meter: "tokens", DryRun: true}))
	check(t, "dry run", counts(dry), "done read 5 changed 2 (21) closed 0 admitted 0 unreadable 1")
	check(t, "usage after a dry run", w.used("cus_acme", "tokens"), "0")

	done := w.finish(w.begin(recount.Order{Meter: "tokens", Reason: "a new price"}))
	check(t, "run", counts(done), "done read 5 changed 2 (21) closed 0 admitted 0 unreadable 1")
	if !strings.Contains(done.Problem, `"5"`) || done.Done != done.Total {
		t.Errorf("job %+v", done)
	}
	check(t, "usage of acme", w.used("cus_acme", "tokens"), "1")
	check(t, "usage of bolt", w.used("cus_bolt", "tokens"), "20")
	check(t, "usage of another meter", w.used("cus_acme", "calls"), "1")
	check(t, "whose usage changed", strings.Join(w.counted, " "), "cus_acme cus_bolt")
	r, err := w.journal.Event(t.Context(), "app", "1")
	if err != nil || len(r.Resolutions) != 1 || r.Resolutions[0].CatalogVersion != 2 || r.Resolutions[0].Dimensions[0].Value != "x" {
		t.Errorf("event %+v, %v", r, err)
	}
	h, err := w.journal.History(t.Context(), "app", "1")
	if err != nil || len(h) != 2 || h[1].Actor != "operator" || !strings.Contains(h[1].Reason, "a new price") || !strings.Contains(h[1].Reason, done.ID) {
		t.Errorf("history %+v, %v", h, err)
	}
	again := w.finish(w.begin(recount.Order{Meter: "tokens"}))
	check(t, "again", counts(again), "done read 5 changed 0 (0) closed 0 admitted 0 unreadable 1")
}

func TestChangeAMeter(t *testing.T) {
	t.Parallel()
	calls := catalog.Meter{Key: "calls", Event: "completion", Aggregation: meter.Count}
	w := newWorld(t, tokens("data.n"), calls)
	for n := range 4 {
		w.report(completion(n, "acme", `{"n":10,"tokens":7}`))
	}
	if _, err := w.journal.Revise(t.Context(), store.Revisions{Actor: "operator", Reason: "test", At: now, List: []store.Revision{
		{Source: "app", ID: "2", Kind: store.Void, If: store.AnyRevision},
	}}); err != nil {
		t.Fatal(err)
	}
	w.apply(tokens("data.tokens"), calls)
	from := now.Add(-10_000*time.Minute + 30*time.Second)
	part := w.finish(w.begin(recount.Order{Meter: "tokens", In: period.Interval{Start: from}}))
	check(t, "from the second on", counts(part), "done read 3 changed 2 (-6) closed 0 admitted 0 unreadable 0")
	check(t, "usage", w.used("cus_acme", "tokens"), "24")
	check(t, "what other meters make of it", w.used("cus_acme", "calls"), "3")
	all := w.finish(w.begin(recount.Order{Meter: "tokens"}))
	check(t, "all", counts(all), "done read 4 changed 1 (-3) closed 0 admitted 0 unreadable 0")
	check(t, "usage", w.used("cus_acme", "tokens"), "21")

	moved := tokens("data.tokens")
	moved.Event = "other" // no kept event is of it
	w.apply(moved, calls)
	gone := w.finish(w.begin(recount.Order{Meter: "tokens"}))
	check(t, "of another type", counts(gone), "done read 4 changed 3 (-21) closed 0 admitted 0 unreadable 0")
	check(t, "usage", w.used("cus_acme", "tokens"), "0")
	check(t, "what other meters make of it", w.used("cus_acme", "calls"), "3")
}

// TestCrash stops a job between its two stores, at every batch.
func TestCrash(t *testing.T) {
	t.Parallel()
	w := newWorld(t, tokens("data.n"))
	const n = 3500
	events := make([]meter.Event, n)
	for i := range events {
		events[i] = completion(i, "acme", `{"n":1,"tokens":3}`)
	}
	w.report(events...)
	w.apply(tokens("data.tokens"))
	job := w.begin(recount.Order{Meter: "tokens"})
	killed := errors.New("killed")
	for crashes := 0; ; crashes++ {
		w.crash = killed
		if _, err := w.Tick(t.Context()); !errors.Is(err, killed) {
			t.Fatalf("the job did not crash: %v", err)
		}
		w.restart()
		if more, err := w.Tick(t.Context()); err != nil {
			t.Fatal(err)
		} else if !more {
			break
		}
		if crashes > 20 {
			t.Fatal("the job does not end")
		}
	}
	check(t, "job", counts(w.job(job.ID)), "done read 3500 changed 3500 (7000) closed 0 admitted 0 unreadable 0")
	check(t, "usage", w.used("cus_acme", "tokens"), "10500")
	again := w.finish(w.begin(recount.Order{Meter: "tokens"}))
	check(t, "again", counts(again), "done read 3500 changed 0 (0) closed 0 admitted 0 unreadable 0")
}

func TestClosedPeriods(t *testing.T) {
	t.Parallel()
	w := newWorld(t, tokens("data.n"))
	day := func(d int) time.Time { return time.Date(2026, 3, d, 0, 0, 0, 0, time.UTC) }
	w.sub = account.Subscription{ID: "sub_1", CustomerID: "cus_acme", Plan: "pro", CatalogVersion: 1, Start: day(1), BillingDay: 1, CreatedAt: day(1)}
	a := func(id string) store.Audit { return store.Audit{ID: id, Time: now, Detail: "{}"} }
	c, _ := w.Customer("acme")
	if err := errors.Join(w.records.PutCustomer(t.Context(), c, a("aud_1")), w.records.PutSubscription(t.Context(), w.sub, a("aud_2"))); err != nil {
		t.Fatal(err)
	}
	if _, err := w.records.BeginClose(t.Context(), store.Close{SubscriptionID: "sub_1", Period: period.Interval{Start: day(1), End: day(29)}, ClosedAt: now}); err != nil {
		t.Fatal(err)
	}
	for i, subject := range []string{"acme", "bolt", "acme"} {
		e := completion(i, subject, `{"n":1,"tokens":3}`)
		e.Time = day(28 + i/2)
		w.report(e)
	}
	w.apply(tokens("data.tokens"))
	check(t, "closed left alone", counts(w.finish(w.begin(recount.Order{Meter: "tokens"}))), "done read 3 changed 2 (4) closed 1 admitted 0 unreadable 0")
	check(t, "usage", w.used("cus_acme", "tokens"), "4")
	check(t, "closed included", counts(w.finish(w.begin(recount.Order{Meter: "tokens", IncludeClosed: true}))), "done read 3 changed 1 (2) closed 0 admitted 0 unreadable 0")
	check(t, "usage", w.used("cus_acme", "tokens"), "6")
}

func TestAdmitted(t *testing.T) {
	t.Parallel()
	calls := catalog.Meter{Key: "calls", Event: "completion", Aggregation: meter.Count}
	w := newWorld(t, calls)
	w.admit("1", "calls")
	w.apply(calls, tokens("data.n"))
	check(t, "a meter is added", counts(w.finish(w.begin(recount.Order{Meter: "tokens"}))), "done read 1 changed 1 (3) closed 0 admitted 0 unreadable 0")
	w.apply(calls, tokens("data.tokens"))
	check(t, "and changed", counts(w.finish(w.begin(recount.Order{Meter: "tokens"}))), "done read 1 changed 1 (2) closed 0 admitted 0 unreadable 0")
	check(t, "usage", w.used("cus_acme", "tokens"), "5")
	calls.Aggregation, calls.Value = meter.Sum, "data.tokens"
	w.apply(calls, tokens("data.tokens"))
	check(t, "what enforcement counted stays", counts(w.finish(w.begin(recount.Order{Meter: "calls"}))), "done read 1 changed 0 (0) closed 0 admitted 1 unreadable 0")
	check(t, "usage", w.used("cus_acme", "calls"), "1")
}

func TestANewCatalogBeginsTheJobAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, tokens("data.n"))
	for i := range 1500 {
		w.report(completion(i, "acme", `{"n":1,"tokens":3,"m":10}`))
	}
	w.apply(tokens("data.tokens"))
	job := w.begin(recount.Order{Meter: "tokens"})
	if more, err := w.Tick(t.Context()); !more || err != nil {
		t.Fatalf("first batch: %v, %v", more, err)
	}
	w.apply(tokens("data.m"))
	check(t, "job", counts(w.finish(job)), "done read 1500 changed 2500 (13500) closed 0 admitted 0 unreadable 0")
	check(t, "usage", w.used("cus_acme", "tokens"), "15000")
	job = w.begin(recount.Order{Meter: "tokens"})
	w.apply(catalog.Meter{Key: "other", Event: "other", Aggregation: meter.Count})
	if job = w.finish(job); job.State != store.RecountFailed || !strings.Contains(job.Problem, "no such meter") {
		t.Errorf("without the meter: %+v", job)
	}
}

func TestOrders(t *testing.T) {
	t.Parallel()
	w := newWorld(t, tokens("data.n"))
	w.report(completion(1, "acme", `{"n":1}`))
	for name, o := range map[string]recount.Order{
		"/to":     {Meter: "tokens", In: period.Interval{Start: now, End: now}},
		"/reason": {Meter: "tokens", Reason: "two\nlines"},
	} {
		_, err := w.Begin(t.Context(), "operator", o)
		if invalid := (*recount.Invalid)(nil); !errors.As(err, &invalid) || invalid.Pointer != name || !errors.Is(err, account.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := w.Begin(t.Context(), "operator", recount.Order{Meter: "nothing"}); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("no meter: %v", err)
	}
	job := w.begin(recount.Order{Meter: "tokens"})
	if _, err := w.Begin(t.Context(), "operator", recount.Order{Meter: "tokens"}); !errors.Is(err, account.ErrState) {
		t.Errorf("two of one meter: %v", err)
	}
	got, err := w.Cancel(t.Context(), "operator", job.ID)
	if err != nil || got.State != store.RecountCancelled {
		t.Errorf("cancelled: %+v, %v", got, err)
	}
	if _, err := w.Cancel(t.Context(), "operator", job.ID); !errors.Is(err, account.ErrState) || !strings.Contains(err.Error(), "cancelled already") {
		t.Errorf("cancelled twice: %v", err)
	}
	if _, err := w.Cancel(t.Context(), "operator", "rcn_none"); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("cancel none: %v", err)
	}
	if _, err := w.Job(t.Context(), "rcn_none"); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("none: %v", err)
	}
	second := w.finish(w.begin(recount.Order{Meter: "tokens"}))
	list, err := w.Jobs(t.Context(), recount.Query{})
	if err != nil || len(list) != 2 {
		t.Fatalf("jobs %v, %v", list, err)
	}
	if d := cmp.Diff([]string{second.ID, job.ID}, []string{list[0].ID, list[1].ID}); d != "" && list[0].CreatedAt.After(list[1].CreatedAt) {
		t.Error(d)
	}
	audit, err := w.records.ListAudit(t.Context(), store.Query{Limit: 10})
	if err != nil || len(audit) != 3 {
		t.Errorf("audit %v, %v", audit, err)
	}
}

// TestAliasedType: of an event under an alias of its type, too, a job changes only what its own meter makes.
func TestAliasedType(t *testing.T) {
	t.Parallel()
	all := catalog.Meter{Key: "all", Event: "completion", Aggregation: meter.Count}
	w := newWorld(t, all, tokens("data.n"))
	w.aliases = map[string]string{"compl": "completion"}
	e := completion(1, "acme", `{"n":1,"m":5}`)
	e.Type = "compl"
	w.report(e)
	w.apply(all, tokens("data.m"))
	done := w.finish(w.begin(recount.Order{Meter: "tokens"}))
	check(t, "run", counts(done), "done read 1 changed 1 (4) closed 0 admitted 0 unreadable 0")
	check(t, "tokens", w.used("cus_acme", "tokens"), "5")
	check(t, "events", w.used("cus_acme", "all"), "1")
}

// TestFilterOnSource: a job judges an event's own source.
func TestFilterOnSource(t *testing.T) {
	t.Parallel()
	app := catalog.Meter{
		Key: "app", Event: "completion", Aggregation: meter.Count, Filter: catalog.Filter{Expression: "event.source == 'app'"},
	}
	w := newWorld(t, app)
	w.report(completion(1, "acme", `{}`))
	check(t, "before", w.used("cus_acme", "app"), "1")
	done := w.finish(w.begin(recount.Order{Meter: "app"}))
	check(t, "run", counts(done), "done read 1 changed 0 (0) closed 0 admitted 0 unreadable 0")
	check(t, "after", w.used("cus_acme", "app"), "1")
}

// TestUnmatched: a job that lets an unmatched event count lets it count for all its meters, since it leaves the inbox.
func TestUnmatched(t *testing.T) {
	t.Parallel()
	w := newWorld(t, catalog.Meter{Key: "all", Event: "completion", Aggregation: meter.Count}, tokens("data.n"))
	e := completion(1, "acme", `{"n":7}`)
	e.Type = "compl"
	w.report(e)
	w.aliases = map[string]string{"compl": "completion"}
	done := w.finish(w.begin(recount.Order{Meter: "all"}))
	check(t, "run", counts(done), "done read 1 changed 1 (1) closed 0 admitted 0 unreadable 0")
	check(t, "events", w.used("cus_acme", "all"), "1")
	check(t, "tokens", w.used("cus_acme", "tokens"), "7")
}
