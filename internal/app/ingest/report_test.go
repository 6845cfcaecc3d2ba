package ingest_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tallystick/tallystick/internal/app/ingest"
	"github.com/tallystick/tallystick/internal/core/meter"
)

// TestPermit: a producer's events of foreign sources and types are rejected, its others are not harmed.
func TestPermit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	foreign := completion("2", "acme", `{"tokens":1}`)
	foreign.Source = "other"
	out, err := w.Take(t.Context(), ingest.Call{
		Producer: "api/tok_1", Events: []meter.Event{completion("1", "acme", `{"tokens":1}`), foreign, request("3", "acme", now)},
		Permit: func(source, eventType string) error {
			if source != "app" {
				return errors.New("belongs to another producer")
			}
			if eventType == "request" {
				return &ingest.Invalid{Pointer: "/type", Rule: "is not yours", Fix: "ask the operator"}
			}
			return nil
		},
	})
	want := []ingest.Outcome{
		{Status: "accepted", ID: "1"},
		{Status: "rejected", ID: "2", Pointer: "/source", Rule: "belongs to another producer", Fix: "use a token that may write this source and type"},
		{Status: "rejected", ID: "3", Pointer: "/type", Rule: "is not yours", Fix: "ask the operator"},
	}
	if d := cmp.Diff(want, out); err != nil || d != "" {
		t.Errorf("%v %s", err, d)
	}
}

func TestAtomicCall(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	take := func(events ...meter.Event) string {
		t.Helper()
		out, err := w.Take(t.Context(), ingest.Call{Producer: "api/tok_1", Events: events, Atomic: true})
		if err != nil {
			t.Fatal(err)
		}
		return statuses(out)
	}
	one, two := completion("1", "acme", `{"tokens":1}`), completion("2", "nobody", `{"tokens":1}`)
	changed, bad := completion("1", "acme", `{"tokens":2}`), completion("3", "acme", `{"tokens":-1}`)
	for _, step := range []struct {
		events  []meter.Event
		want    string
		counted int
	}{
		{[]meter.Event{one, bad}, "withheld rejected", 0},
		{[]meter.Event{one, changed}, "withheld conflict", 0},
		{[]meter.Event{one, one, changed, two, two}, "withheld withheld conflict withheld withheld", 0},
		{[]meter.Event{one, two, one}, "accepted unmatched duplicate", 1},
		{[]meter.Event{completion("4", "acme", `{"tokens":1}`), changed, two}, "withheld conflict duplicate", 1},
		{[]meter.Event{completion("4", "acme", `{"tokens":1}`), one}, "accepted duplicate", 2},
		{nil, "", 2},
	} {
		if got := take(step.events...); got != step.want || len(w.counted) != step.counted {
			t.Errorf("%q, want %q; %d told to enforcement", got, step.want, len(w.counted))
		}
	}
}

// TestUnmatchedTellsWhy: an event that is kept and counts for nothing says what is missing, and that it need not be sent again.
func TestUnmatchedTellsWhy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.declared(t, "meters:\n  - {key: tokens, event: completion, aggregation: count}\n")
	e := func(id, kind, subject string) meter.Event {
		return meter.Event{Source: "s", ID: id, Type: kind, Subject: subject}
	}
	out := w.report(t, e("1", "completions", "acme"), e("2", "invoice.paid", "acme"), e("3", "completion", ""), e("4", "completion", "nobody"))
	for i, want := range []struct{ pointer, rule, fix string }{
		{"/type", "no meter", `did you mean "completion"?`},
		{"/type", "no meter", "declare a meter"},
		{"/subject", "no customer", "amend"},
		{"/subject", "no customer's id", "unmatched fix customer"},
	} {
		got := out[i]
		if got.Status != "unmatched" || got.Pointer != want.pointer || !strings.Contains(got.Rule, want.rule) || !strings.Contains(got.Fix, want.fix) {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
}
