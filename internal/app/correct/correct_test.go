package correct_test

import (
	"errors"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/correct"
	"github.com/tallystick/tallystick/internal/app/ingest"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/store"
)

func why(id string) correct.Change {
	return correct.Change{Source: "/jobs", ID: id, Actor: "operator", Reason: "it ran twice"}
}

func TestVoid(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.report("", "accepted", completion("a", "acme", "5", start), completion("b", "acme", "7", start))
	r := must[store.Record](t)(w.Void(t.Context(), why("a")))
	if !r.Voided || r.Revision == 0 || len(r.Resolutions) > 0 || string(r.Event.Data) != `{"tokens":5}` {
		t.Errorf("voided: %+v", r)
	}
	w.wantUsed("acme", "tokens", "7")
	acme, _ := w.govern.Customer("acme")
	if len(w.counted) != 1 || w.counted[0] != acme.ID {
		t.Errorf("told of %q", w.counted)
	}
	again := must[store.Record](t)(w.Void(t.Context(), why("a")))
	if again.Revision != r.Revision || w.audits("event.void") != 1 || len(w.counted) != 1 {
		t.Errorf("voiding twice: revision %d after %d, %d audit entries", again.Revision, r.Revision, w.audits("event.void"))
	}
	w.report("", "duplicate", completion("a", "acme", "5", start))
	w.wantUsed("acme", "tokens", "7")

	history := must[[]store.Revised](t)(w.History(t.Context(), "/jobs", "a"))
	if len(history) != 2 || history[0].Kind != 0 || history[1].Kind != store.Void || history[1].Actor != "operator" || history[1].Reason != "it ran twice" ||
		!history[1].At.Equal(w.now) || len(history[0].Resolutions) != 1 {
		t.Errorf("history %+v", history)
	}
}

func TestVoidOfTheGateways(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	acme, _ := w.govern.Customer("acme")
	_, err := w.journal.Append(t.Context(), store.Batch{
		Producer: "gateway/1", Node: 1, Epoch: 1, First: 1, Last: 1, ReceivedAt: start,
		Totals: []store.AdmittedTotal{{CustomerID: acme.ID, Meter: "api_calls", PeriodStart: start.UnixMicro(), Total: money.FromInt(3)}},
		Entries: []store.Entry{{
			Event:  meter.Event{Source: "gateway/1", ID: "1-1-1", Type: "request", Subject: acme.ID, Time: start, Data: []byte(`{"cost":3}`)},
			Origin: meter.Admitted, Resolutions: []meter.Resolution{{CustomerID: acme.ID, Meter: "api_calls", CatalogVersion: 1, Value: money.FromInt(3)}},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	c := correct.Change{Source: "gateway/1", ID: "1-1-1", Actor: "operator", Reason: "an attack"}
	bolt := "bolt"
	r := must[store.Record](t)(w.Amend(t.Context(), c, correct.Content{Subject: &bolt}))
	if len(r.Resolutions) != 1 || r.Resolutions[0].Value.String() != "1" {
		t.Errorf("amended: %+v", r.Resolutions)
	}
	if r = must[store.Record](t)(w.Void(t.Context(), c)); len(r.Resolutions) != 0 {
		t.Errorf("voided: %+v", r)
	}
	if err := w.journal.View(t.Context(), func(v store.View) error {
		for _, s := range v.Series() {
			in, err := v.Usage(s.SeriesKey, period0)
			if err != nil || !in.Sum.IsZero() {
				t.Errorf("%v: usage %s, %v", s.SeriesKey, in.Sum, err)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func TestAmend(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.report("", "accepted", completion("a", "acme", "5", start), completion("b", "acme", "7", start))
	first := must[store.Record](t)(w.Amend(t.Context(), why("a"), correct.Content{Data: []byte(`{ "tokens": 4.50 }`)}))
	if string(first.Event.Data) != `{"tokens":4.5}` || !first.Event.Time.Equal(start) || first.Event.Subject != "acme" {
		t.Errorf("amended: %+v", first.Event)
	}
	w.wantUsed("acme", "tokens", "11.5")
	bolt, request := "bolt", "request"
	must[store.Record](t)(w.Amend(t.Context(), why("a"), correct.Content{Subject: &bolt}))
	w.wantUsed("acme", "tokens", "7")
	w.wantUsed("bolt", "tokens", "4.5")
	r := must[store.Record](t)(w.Amend(t.Context(), why("a"), correct.Content{Type: &request}))
	w.wantUsed("bolt", "tokens", "0")
	w.wantUsed("bolt", "api_calls", "1")
	w.report("", "duplicate", completion("a", "acme", "5", start)) // the first content is its identity's for ever
	w.report("", "conflict", completion("a", "acme", "4.5", start))
	w.wantUsed("bolt", "api_calls", "1")

	stale := why("a")
	stale.Revision = &first.Revision
	if _, err := w.Void(t.Context(), stale); !errors.Is(err, store.ErrConflict) {
		t.Errorf("void of a stale revision: %v", err)
	}
	stale.Revision = &r.Revision
	must[store.Record](t)(w.Void(t.Context(), stale))
	w.wantUsed("bolt", "api_calls", "0")
	must[store.Record](t)(w.Amend(t.Context(), why("a"), correct.Content{Type: &request})) // a voided event counts again
	w.wantUsed("bolt", "api_calls", "1")
	if n := w.audits("event.amend"); n != 4 {
		t.Errorf("%d audit entries of amendments", n)
	}
	if n := len(must[[]store.Revised](t)(w.History(t.Context(), "/jobs", "a"))); n != 6 {
		t.Errorf("a history of %d, want 6", n)
	}
}

func TestRefusedChanges(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.report("", "accepted", completion("a", "acme", "5", start))
	ctx := t.Context()
	nobody, text := "nobody", correct.Content{Data: []byte(`{"tokens":"many"}`)}
	none := why("a")
	none.Reason = " "
	lines := why("a")
	lines.Reason = "two\nlines"
	for name, c := range map[string]struct {
		change correct.Change
		to     *correct.Content
		is     error
		says   string
	}{
		"no reason":      {none, nil, account.ErrInvalid, "/reason"},
		"a long reason":  {lines, nil, account.ErrInvalid, "/reason"},
		"unknown":        {why("x"), nil, account.ErrNotFound, `"x"`},
		"nothing to say": {why("a"), &correct.Content{}, account.ErrInvalid, "nothing to change"},
		"no customer":    {why("a"), &correct.Content{Subject: &nobody}, account.ErrInvalid, "count for nothing"},
		"no meter":       {why("a"), &correct.Content{Type: &nobody}, account.ErrInvalid, "count for nothing"},
		"no number":      {why("a"), &text, account.ErrInvalid, "/data/tokens"},
		"too long ago":   {why("a"), &correct.Content{Data: []byte(`[]`)}, account.ErrInvalid, "/data"},
	} {
		var err error
		if c.to == nil {
			_, err = w.Void(ctx, c.change)
		} else {
			_, err = w.Amend(ctx, c.change, *c.to)
		}
		if !errors.Is(err, c.is) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		says(t, err, c.says)
		if _, ok := errors.AsType[*ingest.Invalid](err); !ok && errors.Is(c.is, account.ErrInvalid) {
			t.Errorf("%s: %v names no field", name, err)
		}
	}
	w.wantUsed("acme", "tokens", "5")
	if n := len(must[[]store.Revised](t)(w.History(ctx, "/jobs", "a"))); n != 1 {
		t.Errorf("refused changes left a history of %d", n)
	}
}

func TestLate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	day := func(n int) time.Time { return start.AddDate(0, 0, n) }
	w.now = day(20)
	w.report("", "accepted", completion("a", "acme", "5", day(1)), completion("b", "acme", "7", day(2)), completion("c", "acme", "1", day(3)))
	w.now = day(40) // the period ended on 10 April
	w.bills()
	list, next, err := w.Late(t.Context(), correct.LateQuery{})
	if err != nil || len(list) != 0 || next != "" {
		t.Fatalf("late before anything came: %+v, %q, %v", list, next, err)
	}
	w.now = day(41)
	w.report("", "accepted", completion("d", "acme", "20", day(4)), completion("now", "acme", "1000", day(35)))
	w.now = day(42)
	must[store.Record](t)(w.Void(t.Context(), why("a")))
	w.now = day(43)
	must[store.Record](t)(w.Amend(t.Context(), why("b"), correct.Content{Data: []byte(`{"tokens":8}`)}))
	list, next, err = w.Late(t.Context(), correct.LateQuery{CustomerID: "acme"})
	if err != nil || len(list) != 1 || next != "" {
		t.Fatalf("late: %+v, %q, %v", list, next, err)
	}
	got := list[0]
	if got.Meter != "tokens" || got.AtClose.String() != "13" || got.Change.String() != "16" || got.Events != 2 || !got.Complete ||
		!got.First.Equal(day(41)) || !got.Last.Equal(day(43)) || !got.Close.Period.Start.Equal(start) || got.Close.InvoiceID == "" {
		t.Errorf("late: %+v", got)
	}
	events := must[store.Page](t)(w.LateEvents(t.Context(), "acme", "tokens", start, "", 1))
	if len(events.Records) != 1 || events.Next == "" {
		t.Fatalf("first page: %+v", events)
	}
	var ids []string
	for cursor := ""; ; {
		page := must[store.Page](t)(w.LateEvents(t.Context(), "acme", "tokens", start, cursor, 1))
		for _, r := range page.Records {
			ids = append(ids, r.Event.ID)
		}
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	if len(ids) != 2 || ids[0] != "b" || ids[1] != "d" {
		t.Errorf("late events %q", ids)
	}
	_, err = w.LateEvents(t.Context(), "acme", "tokens", day(1), "", 1)
	says(t, err, "/period")
	if _, _, err := w.Late(t.Context(), correct.LateQuery{Cursor: "x"}); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("a bad cursor: %v", err)
	}
}

func TestLatePages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.now = start.AddDate(0, 4, 0)
	w.bills()
	for month := range 3 {
		w.report("", "accepted", completion(string(rune('a'+month)), "acme", "5", start.AddDate(0, month, 1)))
	}
	var starts []time.Time
	for cursor := ""; ; {
		list, next, err := w.Late(t.Context(), correct.LateQuery{Limit: 1, Cursor: cursor})
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range list {
			starts = append(starts, a.Close.Period.Start)
		}
		if cursor = next; cursor == "" {
			break
		}
	}
	if len(starts) != 3 || !starts[0].Equal(start) || !starts[2].Equal(start.AddDate(0, 2, 0)) {
		t.Errorf("late periods %v", starts)
	}
}

// TestOvertaken lets somebody else revise the event between the look at it and the write.
func TestOvertaken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.report("", "accepted", completion("a", "acme", "5", start))
	other := func(data string) {
		e := completion("a", "acme", data, start)
		_, resolutions, err := w.ingest.Resolve(e)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.journal.Revise(t.Context(), store.Revisions{Actor: "other", Reason: "first", At: w.now, List: []store.Revision{{
			Source: "/jobs", ID: "a", Kind: store.Amend, Event: e, Resolutions: resolutions, If: store.AnyRevision,
		}}}); err != nil {
			t.Fatal(err)
		}
	}
	w.overtake = func() { other("50") }
	bolt := "bolt"
	r := must[store.Record](t)(w.Amend(t.Context(), why("a"), correct.Content{Subject: &bolt}))
	if string(r.Event.Data) != `{"tokens":50}` || r.Event.Subject != "bolt" {
		t.Errorf("the other's change was lost: %+v", r.Event)
	}
	w.wantUsed("bolt", "tokens", "50")

	named := why("a")
	named.Revision = &r.Revision
	w.overtake = func() { other("60") }
	if _, err := w.Void(t.Context(), named); !errors.Is(err, store.ErrConflict) {
		t.Errorf("a named revision was overtaken: %v", err)
	}
	w.wantUsed("acme", "tokens", "60")
}
