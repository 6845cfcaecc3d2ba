// Package journaltest is the conformance suite that every driver of store.Journal passes.
package journaltest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// Run holds a driver to the contract of store.Journal. open must open what lies in dir, and again after Close.
func Run(t *testing.T, open func(t *testing.T, dir string) store.Journal) {
	for name, test := range map[string]func(w *ledger){
		"Empty": journalEmpty, "ReadsBack": journalReadsBack, "Outcomes": journalOutcomes, "Refuses": journalRefuses,
		"AllOrNone": journalAllOrNone, "Overflow": journalOverflow, "Windows": journalWindows, "Cut": journalCut,
		"CutEarly": journalCutEarly, "Late": journalLate, "LateAgain": journalLateAgain, "Admitted": journalAdmitted, "Reported": journalReported,
		"Marks": journalMarks, "ScanSeries": journalScanSeries, "ScanAll": journalScanAll, "ScanRefuses": journalScanRefuses,
		"Closed": journalClosed, "Cancelled": journalCancelled, "Concurrent": journalConcurrent,
		"Revise": journalRevise, "Resolve": journalResolve, "ReviseRefuses": journalReviseRefuses, "Atomic": journalAtomic,
		"RevisedCut": journalRevisedCut, "Measure": journalMeasure, "Leaves": journalLeaves,
		"Model": journalModel,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := &ledger{t: t, open: open, dir: t.TempDir()}
			w.journal = open(t, w.dir)
			defer func() { w.close() }()
			test(w)
		})
	}
}

// ledger is a journal under test.
type ledger struct {
	t       *testing.T
	open    func(t *testing.T, dir string) store.Journal
	dir     string
	journal store.Journal
}

func (w *ledger) close() {
	w.t.Helper()
	if err := w.journal.Close(); err != nil {
		w.t.Errorf("Close: %v", err)
	}
}

func (w *ledger) reopen() {
	w.t.Helper()
	w.close()
	w.journal = w.open(w.t, w.dir)
}

// twice runs a check on the journal as it is and as it is after opening it again.
func (w *ledger) twice(check func()) {
	w.t.Helper()
	check()
	w.reopen()
	check()
}

func (w *ledger) append(b store.Batch) []store.Result {
	w.t.Helper()
	if b.ReceivedAt.IsZero() {
		b.ReceivedAt = minute(0)
	}
	results, err := w.journal.Append(w.t.Context(), b)
	if err != nil {
		w.t.Fatalf("Append: %v", err)
	}
	return results
}

// add appends entries and expects each to be accepted.
func (w *ledger) add(entries ...store.Entry) {
	w.t.Helper()
	for i, r := range w.append(store.Batch{Producer: "api/test", Entries: entries}) {
		if r.Outcome != store.Accepted {
			w.t.Fatalf("entry %d: outcome %d", i, r.Outcome)
		}
	}
}

func (w *ledger) view(read func(v store.View)) {
	w.t.Helper()
	if err := w.journal.View(w.t.Context(), func(v store.View) error { read(v); return nil }); err != nil {
		w.t.Fatalf("View: %v", err)
	}
}

// position reads the journal's position.
func (w *ledger) position() (p uint64) {
	w.view(func(v store.View) { p = v.Position() })
	return p
}

func (w *ledger) same(what string, want, got any) {
	w.t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		w.t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func (w *ledger) fails(what string, err, want error) {
	w.t.Helper()
	if !errors.Is(err, want) {
		w.t.Errorf("%s: %v, want %v", what, err, want)
	}
}

// usage of a series in an interval.
func (w *ledger) usage(k store.SeriesKey, in period.Interval) (r meter.Rollup) {
	w.t.Helper()
	w.view(func(v store.View) {
		var err error
		if r, err = v.Usage(k, in); err != nil {
			w.t.Fatalf("Usage: %v", err)
		}
	})
	return r
}

// minute is an instant n minutes after a grid point; the tests' events lie around it.
func minute(n int) time.Time {
	return time.Date(2026, 3, 1, 12, n, 0, 0, time.UTC)
}

func acmeCalls() store.SeriesKey { return store.SeriesKey{CustomerID: "cus_acme", Meter: "api_calls"} }

func span(from, to time.Time) period.Interval { return period.Interval{Start: from, End: to} }

// entry is an admitted event of acme that counts for api_calls.
func entry(id string, at time.Time, value string) store.Entry {
	return store.Entry{
		Event: meter.Event{
			Source: "gateway/1", ID: id, Type: "request", Subject: "acme", Time: at, Data: []byte(`{"n":` + value + `}`),
		},
		Origin:      meter.Admitted,
		Resolutions: []meter.Resolution{{CustomerID: acmeCalls().CustomerID, Meter: acmeCalls().Meter, CatalogVersion: 1, Value: money.MustDecimal(value)}},
	}
}

func reported(e store.Entry) store.Entry {
	e.Origin = meter.Reported
	return e
}

func of(e store.Entry, k store.SeriesKey) store.Entry {
	r := e.Resolutions[0]
	r.CustomerID, r.Meter = k.CustomerID, k.Meter
	e.Resolutions = []meter.Resolution{r}
	return e
}

func journalEmpty(w *ledger) {
	w.twice(func() {
		w.view(func(v store.View) {
			if v.Position() != 0 || len(v.Series()) != 0 || len(v.AdmittedPeriods(acmeCalls())) != 0 {
				w.t.Errorf("position %d, series %v in an empty journal", v.Position(), v.Series())
			}
		})
		w.same("usage", meter.Rollup{}, w.usage(acmeCalls(), period.Interval{}))
		if _, err := w.journal.Event(w.t.Context(), "s", "id"); !errors.Is(err, store.ErrNotFound) {
			w.t.Errorf("Event: %v, want ErrNotFound", err)
		}
		for _, s := range []store.Scan{{}, {SeriesKey: acmeCalls()}, {NewestFirst: true}} {
			p, err := w.journal.Scan(w.t.Context(), s)
			if err != nil || len(p.Records) > 0 || p.Next != "" {
				w.t.Errorf("Scan: %v, %v", p, err)
			}
		}
		w.same("results of an empty batch", []store.Result{}, w.append(store.Batch{}))
	})
}

func journalReadsBack(w *ledger) {
	rich := entry("rich", minute(0).Add(123456*time.Microsecond), "12.5")
	rich.Event.TraceParent, rich.KeyID, rich.Receipt, rich.Flags = "00-ab-cd-01", "key_1", []byte{0, 0xff, 7}, store.Recovered
	rich.Resolutions[0].CatalogVersion = 1 << 40
	rich.Resolutions[0].Dimensions = []meter.Dimension{{Name: "route", Value: "GET /hello"}, {Name: "status", Value: ""}}
	rich.Resolutions = append(rich.Resolutions, meter.Resolution{
		CustomerID: "cus_acme", Meter: "tokens", CatalogVersion: 7, Value: money.MustDecimal("-0.00000000000000000000000000000000000001"),
	})
	bare := store.Entry{Event: meter.Event{Source: "s", ID: "bare", Type: "t", Time: minute(-1000)}, Origin: meter.Reported}
	long := entry(strings.Repeat("i", 1000), minute(0), "1")
	long.Event.Data = []byte(`"` + strings.Repeat("x", 5000) + `"`)
	received := minute(0).Add(time.Second)
	results := w.append(store.Batch{Producer: "api/tok_1", Entries: []store.Entry{rich, bare, long}, ReceivedAt: received})
	if results[0].Outcome != store.Accepted || results[1].Outcome != store.Unmatched || results[2].Outcome != store.Accepted {
		w.t.Fatalf("outcomes: %+v", results)
	}
	w.twice(func() {
		for i, e := range []store.Entry{rich, bare, long} {
			got, err := w.journal.Event(w.t.Context(), e.Event.Source, e.Event.ID)
			if err != nil {
				w.t.Fatal(err)
			}
			w.same("event", store.Record{Entry: e, Position: results[i].Position, Digest: e.Event.Digest(), ReceivedAt: received}, got)
		}
	})
}

func journalOutcomes(w *ledger) {
	a, b := entry("a", minute(0), "1"), entry("b", minute(0), "2")
	first := w.append(store.Batch{Entries: []store.Entry{a, b, a}})
	if first[0].Position == 0 || first[1].Position <= first[0].Position {
		w.t.Errorf("positions do not ascend: %+v", first)
	}
	w.same("inside one batch", store.Result{
		Outcome: store.Duplicate, Position: first[0].Position, Digest: a.Event.Digest(), Stored: a.Event.Digest(),
	}, first[2])

	later := a // another time is the same content
	later.Event.Time, later.Event.TraceParent = minute(99), "00-1"
	other := a
	other.Event.Data = []byte(`{"n":9}`)
	elsewhere := a
	elsewhere.Event.Source = "gateway/2"
	unmatched := store.Entry{Event: meter.Event{Source: "s", ID: "u", Type: "t", Time: minute(0)}, Origin: meter.Reported}
	changed := unmatched
	changed.Event.Type = "x"
	before := w.position()
	got := w.append(store.Batch{Entries: []store.Entry{later, other, elsewhere, unmatched, changed, unmatched}})
	for i, want := range []store.Outcome{store.Duplicate, store.Conflict, store.Accepted, store.Unmatched, store.Conflict, store.Duplicate} {
		if got[i].Outcome != want {
			w.t.Errorf("entry %d: outcome %d, want %d", i, got[i].Outcome, want)
		}
	}
	w.same("conflict", store.Result{
		Outcome: store.Conflict, Position: first[0].Position, Digest: other.Event.Digest(), Stored: a.Event.Digest(),
	}, got[1])
	if w.position() <= before || got[2].Position <= before {
		w.t.Errorf("position %d and %d after %d", w.position(), got[2].Position, before)
	}
	w.twice(func() {
		at := w.position()
		again := w.append(store.Batch{Entries: []store.Entry{a, b, elsewhere, unmatched, other}})
		for i, r := range again {
			if want := []store.Outcome{store.Duplicate, store.Duplicate, store.Duplicate, store.Duplicate, store.Conflict}[i]; r.Outcome != want {
				w.t.Errorf("resent entry %d: outcome %d, want %d", i, r.Outcome, want)
			}
		}
		if w.position() != at {
			w.t.Errorf("a resend moved the position from %d to %d", at, w.position())
		}
		stored, err := w.journal.Event(w.t.Context(), a.Event.Source, a.Event.ID)
		if err != nil || !stored.Event.Time.Equal(minute(0)) || string(stored.Event.Data) != `{"n":1}` {
			w.t.Errorf("the first time and content must win: %+v, %v", stored, err)
		}
		w.same("usage", meter.Rollup{Count: 3, Sum: money.FromInt(4)}, w.usage(acmeCalls(), period.Interval{}))
	})
}

func journalRefuses(w *ledger) {
	for name, change := range map[string]func(e *store.Entry){
		"no source":      func(e *store.Entry) { e.Event.Source = "" },
		"no id":          func(e *store.Entry) { e.Event.ID = "" },
		"no type":        func(e *store.Entry) { e.Event.Type = "" },
		"no time":        func(e *store.Entry) { e.Event.Time = time.Time{} },
		"no origin":      func(e *store.Entry) { e.Origin = 0 },
		"no meter":       func(e *store.Entry) { e.Resolutions[0].Meter = "" },
		"no customer":    func(e *store.Entry) { e.Resolutions[0].CustomerID = "" },
		"one meter read": func(e *store.Entry) { e.Resolutions = append(e.Resolutions, e.Resolutions[0]) },
		"no UTF-8":       func(e *store.Entry) { e.Event.ID = "\xff" },
		"long id":        func(e *store.Entry) { e.Event.ID = strings.Repeat("x", 1<<20) },
	} {
		e := entry("bad", minute(0), "1")
		change(&e)
		_, err := w.journal.Append(w.t.Context(), store.Batch{Entries: []store.Entry{entry("good", minute(0), "1"), e}})
		w.fails(name, err, store.ErrInvalid)
	}
	for name, b := range map[string]store.Batch{
		"total without meter": {Totals: []store.AdmittedTotal{{CustomerID: "c", Total: money.FromInt(1)}}},
		"negative total":      {Totals: []store.AdmittedTotal{{CustomerID: "c", Meter: "m", Total: money.FromInt(-1)}}},
		"mark without flags":  {Marks: []store.Mark{{Source: "s", ID: "i"}}},
		"too many entries":    {Entries: make([]store.Entry, 1<<20)},
	} {
		_, err := w.journal.Append(w.t.Context(), b)
		w.fails(name, err, store.ErrInvalid)
	}
	w.fails("cut without customer", w.journal.Cut(w.t.Context(), "", minute(0)), store.ErrInvalid)
	w.fails("cut without instant", w.journal.Cut(w.t.Context(), "c", time.Time{}), store.ErrInvalid)
	if w.position() != 0 {
		w.t.Errorf("position %d after refusals only", w.position())
	}
}

func journalAllOrNone(w *ledger) {
	w.add(entry("a", minute(0), "1"))
	before := w.position()
	b := store.Batch{
		Node: 1, Epoch: 1, Entries: []store.Entry{entry("b", minute(0), "1"), entry("c", minute(60), "1")}, ReceivedAt: minute(0),
		Totals: []store.AdmittedTotal{{CustomerID: acmeCalls().CustomerID, Meter: acmeCalls().Meter, PeriodStart: 5, Total: money.FromInt(2)}},
		Marks:  []store.Mark{{Source: "gateway/1", ID: "a", Flags: store.Incomplete}, {Source: "gateway/1", ID: "nobody", Flags: store.Incomplete}},
	}
	_, err := w.journal.Append(w.t.Context(), b)
	w.fails("mark without its event", err, store.ErrNotFound)
	w.twice(func() {
		w.view(func(v store.View) {
			total, err := v.Admitted(acmeCalls(), 5)
			if v.Position() != before || err != nil || !total.IsZero() || len(v.AdmittedPeriods(acmeCalls())) != 0 {
				w.t.Errorf("position %d, want %d; admitted %v, %v", v.Position(), before, total, err)
			}
		})
		w.same("usage", meter.Rollup{Count: 1, Sum: money.FromInt(1)}, w.usage(acmeCalls(), period.Interval{}))
		_, err := w.journal.Event(w.t.Context(), "gateway/1", "b")
		w.fails("event of a refused batch", err, store.ErrNotFound)
		if r, err := w.journal.Event(w.t.Context(), "gateway/1", "a"); err != nil || r.Flags != 0 {
			w.t.Errorf("a refused batch marked an event: %v, %v", r.Flags, err)
		}
	})
	b.Marks = b.Marks[:1]
	w.append(b)
	w.same("usage", meter.Rollup{Count: 3, Sum: money.FromInt(3)}, w.usage(acmeCalls(), period.Interval{}))
}

func journalOverflow(w *ledger) {
	most := strings.Repeat("9", 38)
	w.add(entry("big", minute(0), most))
	before := w.position()
	_, err := w.journal.Append(w.t.Context(), store.Batch{Entries: []store.Entry{entry("x", minute(60), "1"), entry("more", minute(1), "1")}})
	w.fails("a rollup beyond 38 digits", err, money.ErrOverflow)
	w.twice(func() {
		if w.position() != before {
			w.t.Errorf("position %d, want %d", w.position(), before)
		}
		w.same("usage", meter.Rollup{Count: 1, Sum: money.MustDecimal(most)}, w.usage(acmeCalls(), period.Interval{}))
	})
	w.add(entry("more", minute(15), "1")) // another bucket has room; the sum of both has not
	w.view(func(v store.View) {
		_, err := v.Usage(acmeCalls(), period.Interval{})
		w.fails("usage beyond 38 digits", err, money.ErrOverflow)
	})
}

func journalClosed(w *ledger) {
	w.close()
	_, err := w.journal.Append(w.t.Context(), store.Batch{Entries: []store.Entry{entry("a", minute(0), "1")}})
	w.fails("Append", err, store.ErrClosed)
	w.fails("Cut", w.journal.Cut(w.t.Context(), "c", minute(1)), store.ErrClosed)
	w.fails("View", w.journal.View(w.t.Context(), func(store.View) error { return nil }), store.ErrClosed)
	_, err = w.journal.Scan(w.t.Context(), store.Scan{})
	w.fails("Scan", err, store.ErrClosed)
	_, err = w.journal.Event(w.t.Context(), "s", "i")
	w.fails("Event", err, store.ErrClosed)
	_, err = w.journal.Revise(w.t.Context(), store.Revisions{})
	w.fails("Revise", err, store.ErrClosed)
	_, err = w.journal.History(w.t.Context(), "s", "i")
	w.fails("History", err, store.ErrClosed)
	_, err = w.journal.Seal(w.t.Context(), []byte("x"))
	w.fails("Seal", err, store.ErrClosed)
	_, err = w.journal.Leaves(w.t.Context(), 1, 1, nil)
	w.fails("Leaves", err, store.ErrClosed)
	w.journal = w.open(w.t, w.dir)
}

func journalCancelled(w *ledger) {
	ctx, cancel := context.WithCancel(w.t.Context())
	cancel()
	_, err := w.journal.Append(ctx, store.Batch{Entries: []store.Entry{entry("a", minute(0), "1")}})
	w.fails("Append", err, context.Canceled)
	w.fails("Cut", w.journal.Cut(ctx, "c", minute(1)), context.Canceled)
	if w.position() != 0 {
		w.t.Error("a cancelled call wrote")
	}
	failed := errors.New("from inside")
	w.fails("View", w.journal.View(w.t.Context(), func(store.View) error { return fmt.Errorf("x: %w", failed) }), failed)
}
