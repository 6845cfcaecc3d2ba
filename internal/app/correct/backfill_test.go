package correct_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tallystick/tallystick/internal/app/correct"
	"github.com/tallystick/tallystick/internal/app/ingest"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

var period0 period.Interval

func (w *world) open(name string) {
	w.t.Helper()
	must[correct.Backfill](w.t)(w.OpenBackfill(w.t.Context(), "operator", name, "the collector was down"))
}

func (w *world) state(ref string) store.BackfillState {
	w.t.Helper()
	return must[correct.Backfill](w.t)(w.Backfill(w.t.Context(), ref)).State
}

func TestBackfillCountsWhenClosed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.report("", "accepted", completion("before", "acme", "3", start))
	w.open("march")
	old := start.AddDate(-9, 0, 0)
	w.load("march", "accepted", completion("a", "acme", "5", start), completion("b", "bolt", "7", old), completion("c", "nobody", "1", start))
	w.load("march", "duplicate", completion("a", "acme", "5", start))
	w.load("march", "conflict", completion("a", "acme", "6", start))
	w.load("march", "rejected", completion("d", "acme", "-1", start), completion("e", "acme", "1", start.AddDate(-11, 0, 0)))
	w.report("", "rejected", completion("f", "acme", "1", old))
	w.wantUsed("acme", "tokens", "3")
	w.wantUsed("bolt", "tokens", "0")
	if page := must[store.Page](t)(w.journal.Scan(t.Context(), store.Scan{Unmatched: true})); len(page.Records) != 0 {
		t.Errorf("held events are among the unmatched: %+v", page.Records)
	}
	if _, err := w.Amend(t.Context(), why("a"), correct.Content{Data: []byte(`{"tokens":6}`)}); !errors.Is(err, account.ErrState) {
		t.Errorf("amend of a held event: %v", err)
	}

	if b := must[correct.Backfill](t)(w.CloseBackfill(t.Context(), "operator", "march")); b.State != store.BackfillClosing {
		t.Errorf("closing: %+v", b)
	}
	if _, _, err := w.Load(t.Context(), "march"); !errors.Is(err, account.ErrState) {
		t.Errorf("load into a closing one: %v", err)
	}
	w.work()
	w.wantUsed("acme", "tokens", "8")
	w.wantUsed("bolt", "tokens", "7")
	b := must[correct.Backfill](t)(w.Backfill(t.Context(), "march"))
	if b.State != store.BackfillClosed || b.Events != 3 || b.Counted != 2 || b.Unmatched != 1 {
		t.Errorf("closed: %+v", b)
	}
	if page := must[store.Page](t)(w.journal.Scan(t.Context(), store.Scan{Unmatched: true})); len(page.Records) != 1 || page.Records[0].Event.ID != "c" {
		t.Errorf("unmatched after closing: %+v", page.Records)
	}
	acme, _ := w.govern.Customer("acme")
	bolt, _ := w.govern.Customer("bolt")
	if len(w.counted) != 2 || !slices.Contains(w.counted, acme.ID) || !slices.Contains(w.counted, bolt.ID) {
		t.Errorf("told of %q", w.counted)
	}

	if again := must[correct.Backfill](t)(w.CloseBackfill(t.Context(), "operator", "march")); again.State != store.BackfillClosed {
		t.Errorf("closing again: %+v", again)
	}
	must[correct.Backfill](t)(w.RevertBackfill(t.Context(), "operator", "march", "the wrong file"))
	w.work()
	w.wantUsed("acme", "tokens", "3")
	w.wantUsed("bolt", "tokens", "0")
	if b := must[correct.Backfill](t)(w.Backfill(t.Context(), "march")); b.State != store.BackfillReverted || b.Voided != 3 {
		t.Errorf("reverted: %+v", b)
	}
	history := must[[]store.Revised](t)(w.History(t.Context(), "/jobs", "a"))
	if len(history) != 3 || history[1].Kind != store.Resolve || history[1].Reason != "the collector was down" || history[2].Reason != "the wrong file" {
		t.Errorf("history %+v", history)
	}
	if _, err := w.Amend(t.Context(), why("a"), correct.Content{Data: []byte(`{"tokens":6}`)}); !errors.Is(err, account.ErrState) {
		t.Errorf("amend of a reverted event: %v", err)
	}
	if _, err := w.CloseBackfill(t.Context(), "operator", "march"); !errors.Is(err, account.ErrState) {
		t.Errorf("close of a reverted one: %v", err)
	}
	if w.audits("backfill.open") != 1 || w.audits("backfill.close") != 1 || w.audits("backfill.revert") != 1 {
		t.Error("each word of an operator is one audit entry")
	}
}

func TestBackfillRevertedWhileOpen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.open("march")
	w.load("march", "accepted", completion("a", "acme", "5", start))
	must[correct.Backfill](t)(w.RevertBackfill(t.Context(), "operator", "march", "no"))
	w.work()
	w.wantUsed("acme", "tokens", "0")
	w.report("", "duplicate", completion("a", "acme", "5", start)) // its identity is taken for ever
}

// TestBackfillJobResumes kills the job after the journal's write and before the records', at each batch.
func TestBackfillJobResumes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.open("big")
	const n = 2500
	var events []meter.Event
	for i := range n {
		events = append(events, completion(fmt.Sprint(i), "acme", "2", start.Add(time.Duration(i)*time.Second)))
	}
	w.load("big", "accepted", events...)
	must[store.Record](t)(w.Void(t.Context(), why("7")))
	must[correct.Backfill](t)(w.CloseBackfill(t.Context(), "operator", "big"))
	for step := 1; w.state("big") != store.BackfillClosed; step++ {
		w.flaky.fail = errors.New("killed")
		if _, err := w.Tick(t.Context()); !errors.Is(err, w.flaky.fail) {
			t.Fatalf("step %d: %v", step, err)
		}
		w.flaky.fail = nil
		if _, err := w.Tick(t.Context()); err != nil {
			t.Fatal(err)
		}
		if step > 3 {
			t.Fatalf("it is not done after %d batches", step)
		}
	}
	w.wantUsed("acme", "tokens", fmt.Sprint(2*n-2))
	b := must[correct.Backfill](t)(w.Backfill(t.Context(), "big"))
	if b.Events != n || b.Counted != n-1 {
		t.Errorf("closed: %+v", b)
	}
	if h := must[[]store.Revised](t)(w.History(t.Context(), "/jobs", "0")); len(h) != 2 {
		t.Errorf("an event was resolved %d times", len(h)-1)
	}
}

// TestBackfillRevertedWhileClosing begins the other job in the middle of the first.
func TestBackfillRevertedWhileClosing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.open("big")
	var events []meter.Event
	for i := range 1500 {
		events = append(events, completion(fmt.Sprint(i), "acme", "2", start))
	}
	w.load("big", "accepted", events...)
	must[correct.Backfill](t)(w.CloseBackfill(t.Context(), "operator", "big"))
	if more := must[bool](t)(w.Tick(t.Context())); !more {
		t.Fatal("one batch was all")
	}
	must[correct.Backfill](t)(w.RevertBackfill(t.Context(), "operator", "big", "no"))
	w.work()
	w.wantUsed("acme", "tokens", "0")
	if b := must[correct.Backfill](t)(w.Backfill(t.Context(), "big")); b.State != store.BackfillReverted || b.Voided != 1500 {
		t.Errorf("reverted: %+v", b)
	}
}

func TestPreview(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.now = start.AddDate(0, 0, 20)
	w.report("", "accepted", completion("before", "acme", "3", start.AddDate(0, 0, 1)))
	w.now = start.AddDate(0, 0, 40)
	w.bills()
	w.open("march")
	w.load("march", "accepted", completion("a", "acme", "5", start.AddDate(0, 0, 1)), completion("b", "acme", "6", start.AddDate(0, 0, 2)),
		completion("c", "acme", "7", start.AddDate(0, 0, 35)), completion("d", "bolt", "8", start.AddDate(0, 0, 1)), completion("e", "nobody", "9", start))
	check := func(want ...string) {
		t.Helper()
		p := must[correct.Preview](t)(w.Preview(t.Context(), "march"))
		if p.Events != 5 || p.Unmatched != 1 || !p.Complete || len(p.Effects) != len(want) {
			t.Fatalf("preview: %+v", p)
		}
		for i, e := range p.Effects {
			got := fmt.Sprint(e.Customer.Key, " ", e.Meter, " ", period.Format(e.Period.Start), " ", e.Billed, " ", e.Close != nil, " ", e.Events, " ", e.From, " → ", e.To)
			if got != want[i] {
				t.Errorf("effect %d:\n %s, want\n %s", i, got, want[i])
			}
		}
	}
	check("acme tokens 2026-03-10T00:00:00Z true true 2 3 → 14", "acme tokens 2026-04-10T00:00:00Z true false 1 0 → 7",
		"bolt tokens 2026-03-01T00:00:00Z false false 1 0 → 8")
	w.wantUsed("acme", "tokens", "3")
	must[correct.Backfill](t)(w.CloseBackfill(t.Context(), "operator", "march"))
	if _, err := w.Preview(t.Context(), "march"); !errors.Is(err, account.ErrState) {
		t.Errorf("preview at work: %v", err)
	}
	w.work()
	w.wantUsed("acme", "tokens", "21")
	check("acme tokens 2026-03-10T00:00:00Z true true 2 14 → 3", "acme tokens 2026-04-10T00:00:00Z true false 1 7 → 0",
		"bolt tokens 2026-03-01T00:00:00Z false false 1 8 → 0")
	list, _, err := w.Late(t.Context(), correct.LateQuery{})
	if err != nil || len(list) != 1 || list[0].Change.String() != "11" || list[0].Events != 2 {
		t.Errorf("a backfill into a closed period is late: %+v, %v", list, err)
	}
}

func TestBackfillsAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := range correct.OpenMax {
		w.open(fmt.Sprintf("b%d", i))
	}
	_, err := w.OpenBackfill(t.Context(), "operator", "one-more", "why not")
	if !errors.Is(err, account.ErrState) {
		t.Fatalf("one too many: %v", err)
	}
	_, err = w.OpenBackfill(t.Context(), "operator", "b0", "again")
	if !errors.Is(err, account.ErrExists) && !errors.Is(err, account.ErrState) {
		t.Errorf("a taken name: %v", err)
	}
	_, err = w.OpenBackfill(t.Context(), "operator", "two words", "again")
	says(t, err, "/name")
	if list := must[[]correct.Backfill](t)(w.ListBackfills(t.Context(), store.Query{Limit: 1000})); len(list) != correct.OpenMax {
		t.Errorf("%d are listed", len(list))
	}
}

// TestLoadAgainstClose loads from many sides while the backfill closes: what was taken counts, what came too late was refused.
func TestLoadAgainstClose(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.open("march")
	taken := make([]int, 8)
	var wg sync.WaitGroup
	for side := range taken {
		wg.Go(func() {
			for i := range 200 {
				unit, done, err := w.Load(t.Context(), "march")
				if errors.Is(err, account.ErrState) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				_, err = w.ingest.Take(t.Context(), ingest.Call{
					Producer: "api/test", Unit: unit, Events: []meter.Event{completion(fmt.Sprint(side, "-", i), "acme", "1", start)},
				})
				done()
				if err != nil {
					t.Error(err)
					return
				}
				taken[side]++
				if side == 0 && i == 20 {
					if _, err := w.CloseBackfill(t.Context(), "operator", "march"); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	w.work()
	sum := 0
	for _, n := range taken {
		sum += n
	}
	w.wantUsed("acme", "tokens", fmt.Sprint(sum))
	if b := must[correct.Backfill](t)(w.Backfill(t.Context(), "march")); b.Counted != int64(sum) {
		t.Errorf("%d were taken, %d count", sum, b.Counted)
	}
}

// TestCorrectionsMatchModel does random things to random events and compares usage with a sum by hand after each.
func TestCorrectionsMatchModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t)
		type fate struct {
			value int
			unit  string
			gone  bool
		}
		events := map[string]*fate{}
		units := map[string]store.BackfillState{}
		for step := range rapid.IntRange(1, 12).Draw(rt, "steps") {
			id := fmt.Sprint("e", rapid.IntRange(0, 4).Draw(rt, "event"))
			unit := rapid.SampledFrom([]string{"u1", "u2"}).Draw(rt, "unit")
			value := rapid.IntRange(1, 9).Draw(rt, "value")
			e := events[id]
			switch op := rapid.SampledFrom([]string{"report", "load", "void", "amend", "close", "revert"}).Draw(rt, "op"); {
			case op == "report" && e == nil:
				w.report("", "accepted", completion(id, "acme", fmt.Sprint(value), start))
				events[id] = &fate{value: value}
			case op == "load" && e == nil && (units[unit] == "" || units[unit] == store.BackfillOpen):
				if units[unit] == "" {
					w.open(unit)
					units[unit] = store.BackfillOpen
				}
				w.load(unit, "accepted", completion(id, "acme", fmt.Sprint(value), start))
				events[id] = &fate{value: value, unit: unit}
			case op == "void" && e != nil:
				must[store.Record](t)(w.Void(t.Context(), why(id)))
				e.gone = true
			case op == "amend" && e != nil:
				_, err := w.Amend(t.Context(), why(id), correct.Content{Data: fmt.Appendf(nil, `{"tokens":%d}`, value)})
				if refused := e.unit != "" && (e.gone || units[e.unit] == store.BackfillOpen); refused != errors.Is(err, account.ErrState) {
					rt.Fatalf("step %d: amend of %+v in %s: %v", step, e, units[e.unit], err)
				} else if !refused {
					e.value, e.gone = value, false
				}
			case op == "close" && units[unit] == store.BackfillOpen:
				must[correct.Backfill](t)(w.CloseBackfill(t.Context(), "operator", unit))
				w.work()
				units[unit] = store.BackfillClosed
			case op == "revert" && (units[unit] == store.BackfillOpen || units[unit] == store.BackfillClosed):
				must[correct.Backfill](t)(w.RevertBackfill(t.Context(), "operator", unit, "no"))
				w.work()
				units[unit] = store.BackfillReverted
				for _, e := range events {
					e.gone = e.gone || e.unit == unit
				}
			}
			want := 0
			for _, e := range events {
				if !e.gone && (e.unit == "" || units[e.unit] == store.BackfillClosed) {
					want += e.value
				}
			}
			if got := w.used("acme", "tokens"); got != fmt.Sprint(want) {
				rt.Fatalf("step %d: usage %s, want %d", step, got, want)
			}
		}
	})
}

// TestPreviewOfMany: a long preview lets appends in between, and is of one position all the same.
func TestPreviewOfMany(t *testing.T) {
	t.Parallel()
	const months = 100
	w := newWorld(t)
	w.open("decade")
	for i := range months {
		at := start.AddDate(0, -i-1, 0)
		w.load("decade", "accepted", completion(fmt.Sprint(i), "bolt", "5", at))
	}
	views := 0
	w.seen = func() {
		views++
		for i := range 12 {
			w.report("", "accepted", completion(fmt.Sprintf("now-%d-%d", views, i), "bolt", "1", start.AddDate(0, -i-1, 0)))
		}
	}
	p := must[correct.Preview](t)(w.Preview(t.Context(), "decade"))
	if views < 3 || len(p.Effects) != months {
		t.Fatalf("%d views, %d effects", views, len(p.Effects))
	}
	for _, e := range p.Effects {
		if !e.From.IsZero() || e.To == nil || e.To.String() != "5" {
			t.Errorf("%s: %s → %v", period.Format(e.Period.Start), e.From, e.To)
		}
	}
}
