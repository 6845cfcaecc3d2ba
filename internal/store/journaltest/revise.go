package journaltest

import (
	"fmt"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// revise sends revisions and expects them to be taken.
func (w *ledger) revise(list ...store.Revision) []uint64 {
	w.t.Helper()
	got, err := w.journal.Revise(w.t.Context(), store.Revisions{Actor: "tok_1", Reason: "typo", At: minute(50), List: list})
	if err != nil {
		w.t.Fatalf("Revise: %v", err)
	}
	return got
}

func revision(kind store.RevisionKind, e store.Entry) store.Revision {
	v := store.Revision{Source: e.Event.Source, ID: e.Event.ID, Kind: kind, If: store.AnyRevision}
	if kind != store.Void {
		v.Resolutions = e.Resolutions
	}
	if kind == store.Amend {
		v.Event = e.Event
	}
	return v
}

// books checks usage, reported and voided of a series, and how the three hang together with what was admitted.
func (w *ledger) books(k store.SeriesKey, usage, reported, voided string) {
	w.t.Helper()
	w.view(func(v store.View) {
		r, err := v.Usage(k, period.Interval{})
		one, err1 := v.Reported(k, period.Interval{})
		two, err2 := v.Voided(k, period.Interval{})
		if err != nil || err1 != nil || err2 != nil || r.Sum.String() != usage || one.String() != reported || two.String() != voided {
			w.t.Errorf("usage %v, reported %v, voided %v (%v, %v, %v); want %s, %s, %s", r.Sum, one, two, err, err1, err2, usage, reported, voided)
		}
	})
}

func journalRevise(w *ledger) {
	a, b := entry("a", minute(1), "1"), reported(entry("b", minute(2), "2"))
	w.add(a, b, entry("c", minute(3), "4"))
	closed := w.position()
	amendedA := entry("a", minute(30), "10") // the time stays
	first := w.revise(revision(store.Amend, amendedA), revision(store.Void, b))
	if first[0] <= closed || first[1] <= first[0] || w.position() != first[1] {
		w.t.Errorf("revisions %v behind %d, the journal is at %d", first, closed, w.position())
	}
	w.twice(func() {
		w.books(acmeCalls(), "14", "12", "3")
		w.windows(acmeCalls(), period.Interval{}, window(minute(0), minute(15), 2, "14"))
		got, err := w.journal.Event(w.t.Context(), "gateway/1", "a")
		want := a
		want.Event.Data, want.Resolutions = amendedA.Event.Data, amendedA.Resolutions
		w.same("amended", store.Record{Entry: want, Position: got.Position, Digest: a.Event.Digest(), ReceivedAt: minute(0), Revision: first[0]}, got)
		voided, err2 := w.journal.Event(w.t.Context(), "gateway/1", "b")
		if err != nil || err2 != nil || !voided.Voided || voided.Revision != first[1] || len(voided.Resolutions) > 0 || string(voided.Event.Data) != `{"n":2}` {
			w.t.Errorf("voided: %+v, %v, %v", voided, err, err2)
		}
		w.scans(store.Scan{SeriesKey: acmeCalls()}, "a", "c")
		w.scans(store.Scan{}, "a", "b", "c")
		w.scans(store.Scan{After: closed}, "a", "b")
		w.scans(store.Scan{Unmatched: true})
		w.view(func(v store.View) {
			late, err := v.Late(acmeCalls(), period.Interval{}, closed)
			old, err2 := v.Measure(acmeCalls(), period.Interval{}, store.Measure{Aggregation: meter.Sum, UpTo: closed})
			if err != nil || err2 != nil || late.String() != "7" || old[0].Value.String() != "7" {
				w.t.Errorf("late %v, %v; sum then %v, %v", late, err, old, err2)
			}
		})
		// The content that came first decides for ever.
		w.same("resent", store.Duplicate, w.append(store.Batch{Entries: []store.Entry{a}})[0].Outcome)
		w.same("resent as amended", store.Conflict, w.append(store.Batch{Entries: []store.Entry{amendedA}})[0].Outcome)
		w.same("nothing changes", first, w.revise(revision(store.Amend, amendedA), revision(store.Void, b)))
	})
	back := w.revise(revision(store.Resolve, b))
	w.twice(func() {
		w.books(acmeCalls(), "16", "14", "3")
		w.scans(store.Scan{SeriesKey: acmeCalls()}, "a", "b", "c")
		history, err := w.journal.History(w.t.Context(), "gateway/1", "b")
		if err != nil || len(history) != 3 {
			w.t.Fatalf("history: %+v, %v", history, err)
		}
		w.same("history", []store.Revised{
			{Position: history[0].Position, At: minute(0), Event: b.Event, Resolutions: b.Resolutions},
			{Kind: store.Void, Position: first[1], At: minute(50), Actor: "tok_1", Reason: "typo", Event: b.Event},
			{Kind: store.Resolve, Position: back[0], At: minute(50), Actor: "tok_1", Reason: "typo", Event: b.Event, Resolutions: b.Resolutions},
		}, history)
	})
}

// journalResolve gives an event that counted for nothing its readings, and other ones after that.
func journalResolve(w *ledger) {
	u := entry("u", minute(1), "1")
	u.Resolutions = nil
	held := entry("held", minute(2), "2")
	held.Resolutions, held.Flags, held.Unit = nil, store.Held, "import"
	filtered := entry("filtered", minute(4), "8")
	filtered.Resolutions, filtered.Flags = nil, store.Filtered
	got := w.append(store.Batch{Entries: []store.Entry{u, held, entry("a", minute(3), "4"), filtered}})
	w.same("outcomes", []store.Outcome{store.Unmatched, store.Accepted, store.Accepted, store.Accepted},
		[]store.Outcome{got[0].Outcome, got[1].Outcome, got[2].Outcome, got[3].Outcome})
	w.twice(func() {
		w.scans(store.Scan{Unmatched: true}, "u")
		w.scans(store.Scan{Unit: "import"}, "held")
	})
	tokens := store.SeriesKey{CustomerID: "cus_acme", Meter: "tokens"}
	both := entry("u", minute(1), "1")
	both.Resolutions = append(both.Resolutions, of(both, tokens).Resolutions[0])
	w.revise(revision(store.Resolve, both), revision(store.Resolve, entry("held", minute(2), "2")))
	w.twice(func() {
		w.scans(store.Scan{Unmatched: true})
		w.scans(store.Scan{SeriesKey: acmeCalls()}, "u", "held", "a")
		w.books(acmeCalls(), "7", "3", "0")
		if r, err := w.journal.Event(w.t.Context(), "gateway/1", "held"); err != nil || r.Flags != 0 || r.Unit != "import" {
			w.t.Errorf("settled: %+v, %v", r, err)
		}
	})
	// Only what changes is voided: the calls stay, the tokens do not.
	both.Resolutions[1].Value = money.FromInt(5)
	w.revise(revision(store.Resolve, both))
	none := both
	none.Resolutions = nil
	w.twice(func() {
		if r, err := w.journal.Event(w.t.Context(), "gateway/1", "filtered"); err != nil || r.Flags != store.Filtered || r.Revision != 0 {
			w.t.Errorf("filtered: %+v, %v", r, err)
		}
		w.books(acmeCalls(), "7", "3", "0")
		w.books(tokens, "5", "6", "1")
	})
	w.revise(revision(store.Resolve, none), revision(store.Void, held))
	w.twice(func() {
		w.scans(store.Scan{Unmatched: true}, "u")
		w.books(tokens, "0", "6", "6")
		w.windows(tokens, period.Interval{})
		w.scans(store.Scan{SeriesKey: acmeCalls(), Unit: "import"})
	})
	// A filter was widened: the event counts, and its flag is gone.
	w.revise(revision(store.Resolve, entry("filtered", minute(4), "8")))
	w.twice(func() {
		w.scans(store.Scan{Unmatched: true}, "u")
		w.scans(store.Scan{SeriesKey: acmeCalls()}, "a", "filtered")
		if r, err := w.journal.Event(w.t.Context(), "gateway/1", "filtered"); err != nil || r.Flags != 0 {
			w.t.Errorf("counted again: %+v, %v", r, err)
		}
	})
}

func journalReviseRefuses(w *ledger) {
	a := entry("a", minute(0), "1")
	w.add(a)
	one := w.revise(revision(store.Void, a))[0]
	before := w.position()
	bad := func(change func(v *store.Revision)) store.Revision {
		v := revision(store.Amend, a)
		change(&v)
		return v
	}
	for name, tt := range map[string]struct {
		v    store.Revision
		want error
	}{
		"nobody":       {bad(func(v *store.Revision) { v.ID = "x" }), store.ErrNotFound},
		"seen another": {bad(func(v *store.Revision) { v.If = 0 }), store.ErrConflict},
		"not yet":      {bad(func(v *store.Revision) { v.If = one + 100 }), store.ErrConflict},
		"no kind":      {bad(func(v *store.Revision) { v.Kind = 0 }), store.ErrInvalid},
		"unknown kind": {bad(func(v *store.Revision) { v.Kind = 9 }), store.ErrInvalid},
		"no type":      {bad(func(v *store.Revision) { v.Event.Type = "" }), store.ErrInvalid},
		"no customer":  {bad(func(v *store.Revision) { v.Resolutions = []meter.Resolution{{Meter: "m"}} }), store.ErrInvalid},
		"void reads":   {bad(func(v *store.Revision) { v.Kind = store.Void }), store.ErrInvalid},
		"overflow": {bad(func(v *store.Revision) {
			v.Resolutions = []meter.Resolution{{CustomerID: "c", Meter: "m", Value: money.MustDecimal(strings.Repeat("9", 38))}}
			v.Kind = store.Resolve
		}), money.ErrOverflow},
	} {
		if name == "overflow" {
			w.add(of(entry("big", minute(0), "1"), store.SeriesKey{CustomerID: "c", Meter: "m"}))
			before = w.position()
		}
		_, err := w.journal.Revise(w.t.Context(), store.Revisions{
			Actor: "a", Reason: "r", At: minute(1), List: []store.Revision{revision(store.Resolve, a), tt.v},
		})
		w.fails(name, err, tt.want)
		if err != nil && !strings.Contains(err.Error(), "revision 1") {
			w.t.Errorf("%s: %v does not name the index", name, err)
		}
	}
	for name, r := range map[string]store.Revisions{
		"no actor": {Reason: "r", At: minute(1)}, "no reason": {Actor: "a", At: minute(1)}, "no instant": {Actor: "a", Reason: "r"},
		"too many": {Actor: "a", Reason: "r", At: minute(1), List: make([]store.Revision, 16385)},
	} {
		_, err := w.journal.Revise(w.t.Context(), r)
		w.fails(name, err, store.ErrInvalid)
	}
	_, err := w.journal.History(w.t.Context(), "s", "nobody")
	w.fails("history of nobody", err, store.ErrNotFound)
	held := a
	held.Flags = store.Held
	held.Event.ID = "held"
	_, err = w.journal.Append(w.t.Context(), store.Batch{Entries: []store.Entry{held}})
	w.fails("held with readings", err, store.ErrInvalid)
	held.Flags = store.Filtered
	_, err = w.journal.Append(w.t.Context(), store.Batch{Entries: []store.Entry{held}})
	w.fails("filtered with readings", err, store.ErrInvalid)
	if w.position() != before {
		w.t.Errorf("position %d after refusals, want %d", w.position(), before)
	}
	w.twice(func() { w.books(acmeCalls(), "0", "0", "1") })
	v := revision(store.Resolve, a)
	v.If = one
	w.revise(v)
}

func journalAtomic(w *ledger) {
	w.add(entry("a", minute(0), "1"))
	before := w.position()
	b := store.Batch{
		Atomic: true, Node: 1, Epoch: 1, ReceivedAt: minute(0), Marks: []store.Mark{{Source: "gateway/1", ID: "a", Flags: store.Incomplete}},
		Totals:  []store.AdmittedTotal{{CustomerID: "c", Meter: "m", Total: money.FromInt(1)}},
		Entries: []store.Entry{entry("b", minute(0), "1"), entry("a", minute(0), "2"), entry("a", minute(0), "1"), entry("b", minute(0), "1")},
	}
	got := w.append(b)
	for i, want := range []store.Outcome{store.Accepted, store.Conflict, store.Duplicate, store.Duplicate} {
		if got[i].Outcome != want || (got[i].Position > 0) != (i == 1 || i == 2) {
			w.t.Errorf("entry %d: %+v, want outcome %d", i, got[i], want)
		}
	}
	w.twice(func() {
		if w.position() != before {
			w.t.Errorf("position %d, want %d", w.position(), before)
		}
		w.books(acmeCalls(), "1", "0", "0")
		w.admitted(store.SeriesKey{CustomerID: "c", Meter: "m"}, 0, "0")
		if r, err := w.journal.Event(w.t.Context(), "gateway/1", "a"); err != nil || r.Flags != 0 {
			w.t.Errorf("marked: %+v, %v", r, err)
		}
	})
	b.Entries = b.Entries[:1]
	w.append(b)
	w.twice(func() { w.books(acmeCalls(), "2", "0", "0") })
}

// journalRevisedCut cuts through a bucket that revisions have changed, and revises behind the cut.
func journalRevisedCut(w *ledger) {
	var list []store.Revision
	for i := range 10 {
		e := entry(fmt.Sprint(i), minute(i), "1")
		w.add(e)
		if i%2 == 0 {
			list = append(list, revision(store.Void, e))
		}
	}
	w.revise(list...)
	if err := w.journal.Cut(w.t.Context(), "cus_acme", minute(5)); err != nil {
		w.t.Fatal(err)
	}
	w.revise(revision(store.Amend, entry("9", minute(0), "7")), revision(store.Resolve, entry("0", minute(0), "1")))
	right := window(minute(5), minute(15), 3, "9")
	w.twice(func() {
		w.windows(acmeCalls(), period.Interval{}, window(minute(0), minute(5), 3, "3"), right)
		w.scans(store.Scan{SeriesKey: acmeCalls()}, "0", "1", "3", "5", "7", "9")
		w.books(acmeCalls(), "12", "8", "6")
	})
}

func journalMeasure(w *ledger) {
	level := func(id string, at time.Time, value, route, user string) store.Entry {
		e := entry(id, at, value)
		e.Resolutions[0].Dimensions, e.Resolutions[0].Distinct = []meter.Dimension{{Name: "route", Value: route}}, user
		return e
	}
	w.add(level("1", minute(-30), "4", "/a", "x"), level("2", minute(5), "10", "/b", "y"), level("3", minute(5), "-2", "/a", "x"), level("4", minute(20), "1", "/a", "z"))
	w.twice(func() {
		w.view(func(v store.View) {
			in := span(minute(0), minute(15))
			for name, tt := range map[string]struct {
				m    store.Measure
				want []store.Group
			}{
				"count":    {store.Measure{Aggregation: meter.Count}, []store.Group{{Value: money.FromInt(2), Events: 2}}},
				"min":      {store.Measure{Aggregation: meter.Min}, []store.Group{{Value: money.FromInt(-2), Events: 2}}},
				"latest":   {store.Measure{Aggregation: meter.Latest}, []store.Group{{Value: money.FromInt(-2), Events: 2}}},
				"unique":   {store.Measure{Aggregation: meter.Unique}, []store.Group{{Value: money.FromInt(2), Events: 2}}},
				"nothing":  {store.Measure{Aggregation: meter.Max, Where: []meter.Dimension{{Name: "route", Value: "/z"}}}, []store.Group{{}}},
				"level":    {store.Measure{Aggregation: meter.TimeWeighted}, []store.Group{{Value: money.FromInt(0), Events: 2}}},
				"no group": {store.Measure{Aggregation: meter.Sum, GroupBy: []string{"route"}, UpTo: 1}, nil},
				"groups": {store.Measure{Aggregation: meter.TimeWeighted, GroupBy: []string{"route"}}, []store.Group{
					{Dimensions: []meter.Dimension{{Name: "route", Value: "/a"}}, Value: money.FromInt(0), Events: 1},
					{Dimensions: []meter.Dimension{{Name: "route", Value: "/b"}}, Value: money.MustDecimal("6.666666666666666666666666666666667"), Events: 1, Inexact: true},
				}},
			} {
				got, err := v.Measure(acmeCalls(), in, tt.m)
				if err != nil {
					w.t.Errorf("%s: %v", name, err)
				}
				w.same(name, tt.want, got)
			}
			for name, in := range map[string]period.Interval{"open": {}, "no end": {Start: minute(0)}, "no length": span(minute(0), minute(0)), "off the grid": span(minute(1), minute(15))} {
				_, err := v.Measure(acmeCalls(), in, store.Measure{Aggregation: meter.TimeWeighted})
				w.fails(name, err, store.ErrInvalid)
			}
			_, err := v.Measure(acmeCalls(), in, store.Measure{})
			w.fails("no aggregation", err, store.ErrInvalid)
			none, err := v.Measure(store.SeriesKey{CustomerID: "x", Meter: "y"}, in, store.Measure{Aggregation: meter.TimeWeighted})
			if err != nil || len(none) != 1 || !none[0].Value.IsZero() {
				w.t.Errorf("of nobody: %+v, %v", none, err)
			}
		})
	})
}
