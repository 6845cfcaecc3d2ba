package inbox_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/app/inbox"
	"github.com/tallystick/tallystick/internal/app/ingest"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file"
	"github.com/tallystick/tallystick/internal/store/sqlite"
)

const plans = `tallystick: 1
meters:
  - {key: api_calls, event: request, aggregation: count}
  - {key: tokens, event: completion, aggregation: sum, value: data.tokens}
`

// more reads a further type, and one by a filter.
const more = plans + `  - {key: images, event: image, aggregation: sum, value: data.count}
  - {key: large, event: picture, aggregation: count, filter: "event.data.size > 10"}
`

var start = time.Date(2026, 3, 10, 0, 0, 0, 0, time.UTC)

// world is the inbox over real stores and services.
type world struct {
	*inbox.Service
	t       *testing.T
	govern  *govern.Service
	ingest  *ingest.Service
	journal *file.Journal
	counted []string
	now     time.Time
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func newWorld(t *testing.T) *world {
	t.Helper()
	ctx, dir := t.Context(), t.TempDir()
	w := &world{t: t, now: start}
	clock := func() time.Time { return w.now }
	records := must[*sqlite.Records](t)(sqlite.Scratch(ctx, filepath.Join(dir, "records.db")))
	w.journal = must[*file.Journal](t)(file.Open(file.Config{Dir: filepath.Join(dir, "journal")}))
	t.Cleanup(func() {
		for _, err := range []error{w.journal.Close(), records.Close()} {
			if err != nil {
				t.Error(err)
			}
		}
	})
	w.govern = must[*govern.Service](t)(govern.New(ctx, govern.Config{
		Records: records, Journal: w.journal, Now: clock, Random: rand.NewChaCha8([32]byte{7}), Pepper: make([]byte, 32), Mode: account.Test,
	}))
	w.apply(plans)
	must[account.Customer](t)(w.govern.CreateCustomer(ctx, "op", govern.NewCustomer{Key: "acme"}))
	w.ingest = must[*ingest.Service](t)(ingest.New(ingest.Config{Directory: w.govern, Journal: w.journal, Now: clock}))
	w.Service = must[*inbox.Service](t)(inbox.New(inbox.Config{
		Directory: w.govern, Resolver: w.ingest, Journal: w.journal, Now: clock, Audit: w.govern.Audit,
		Counted: func(ids []string) { w.counted = append(w.counted, ids...) },
	}))
	return w
}

func (w *world) apply(source string) {
	w.t.Helper()
	if _, _, err := w.govern.ApplyCatalog(w.t.Context(), "op", "plans.yaml", []byte(source)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) report(status string, events ...meter.Event) {
	w.t.Helper()
	for _, o := range must[[]ingest.Outcome](w.t)(w.ingest.Report(w.t.Context(), "api/test", events)) {
		if o.Status != status {
			w.t.Fatalf("event %s is %s (%s %s), want %s", o.ID, o.Status, o.Pointer, o.Rule, status)
		}
	}
}

func event(id, eventType, subject, data string) meter.Event {
	return meter.Event{Source: "/jobs", ID: id, Type: eventType, Subject: subject, Time: start.Add(-time.Hour), Data: []byte(data)}
}

// groups are cause, value, events and suggestion of each.
func (w *world) groups() (out []string) {
	w.t.Helper()
	g := must[inbox.Groups](w.t)(w.Groups(w.t.Context(), 0))
	if !g.Complete {
		w.t.Error("not all groups are told")
	}
	for _, x := range g.List {
		out = append(out, fmt.Sprint(x.Cause, " ", x.Value, " ", x.Events, " ", x.Suggestion))
	}
	return out
}

func (w *world) wantGroups(want ...string) {
	w.t.Helper()
	if d := cmp.Diff(want, w.groups()); d != "" {
		w.t.Fatalf("groups (-want +got):\n%s", d)
	}
}

func (w *world) wantUsed(meterKey, want string) {
	w.t.Helper()
	acme, _ := w.govern.Customer("acme")
	if err := w.journal.View(w.t.Context(), func(v store.View) error {
		r, err := v.Usage(store.SeriesKey{CustomerID: acme.ID, Meter: meterKey}, period.Interval{Start: start.Add(-time.Hour), End: start})
		if err == nil && r.Sum.String() != want {
			w.t.Errorf("%s: %s, want %s", meterKey, r.Sum, want)
		}
		return err
	}); err != nil {
		w.t.Fatal(err)
	}
}

func TestGroups(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.wantGroups()
	w.report("accepted", event("ok", "request", "acme", "{}"))
	w.report("unmatched", event("a", "completions", "acme", `{"tokens":5}`), event("b", "completions", "nobody", `{"tokens":6}`), event("e", "image", "acme", `{"count":2}`),
		event("f", "image", "acme", `{"count":-2}`), event("g", "picture", "acme", `{"size":2}`))
	w.now = w.now.Add(time.Hour)
	w.report("unmatched", event("c", "request", "", "{}"), event("d", "request", "acmee", "{}"), event("h", "api_call", "acme", "{}"), event("i", "completions", "acme", `{"tokens":7}`))
	w.wantGroups("unknown_type completions 3 completion", "unknown_type image 2 ", "no_subject request 1 ", "unknown_customer acmee 1 acme",
		"unknown_type api_call 1 request", "unknown_type picture 1 ")
	g := must[inbox.Groups](t)(w.Groups(t.Context(), 1))
	if g.Complete || len(g.List) != 1 || !g.List[0].First.Equal(start) || !g.List[0].Last.Equal(w.now) || g.List[0].Example != "i" || g.Events != 9 {
		t.Errorf("the largest group: %+v", g)
	}
	w.apply(more)
	w.wantGroups("unknown_type completions 3 completion", "no_subject request 1 ", "ready image 1 ", "unknown_customer acmee 1 acme",
		"unknown_type api_call 1 request", "unreadable image 1 ")

	list, next, err := w.Events(t.Context(), inbox.Query{Cause: inbox.Unreadable})
	if err != nil || next != "" || len(list) != 1 || list[0].Event.ID != "f" || list[0].Rule == "" {
		t.Errorf("unreadable: %+v, %q, %v", list, next, err)
	}
	list, _, err = w.Events(t.Context(), inbox.Query{Cause: inbox.Filtered})
	if err != nil || len(list) != 1 || list[0].Event.ID != "g" {
		t.Errorf("filtered: %+v, %v", list, err)
	}
	if list, _, err = w.Events(t.Context(), inbox.Query{}); err != nil || len(list) != 8 {
		t.Errorf("all but filtered: %d, %v", len(list), err)
	}
	if _, _, err := w.Events(t.Context(), inbox.Query{Cause: "bad"}); !errors.Is(err, account.ErrInvalid) {
		t.Errorf("an unknown cause: %v", err)
	}
	for range 2 {
		if err := w.Tick(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if w.Count() != 8 {
		t.Errorf("%d are counted", w.Count())
	}
}

func TestFixAndReplay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	w.report("unmatched", event("a", "completions", "acme", `{"tokens":5}`), event("b", "completions", "nobody", `{"tokens":6}`),
		event("c", "other", "acme", `{"tokens":7}`), event("d", "completion", "acme-inc", `{"tokens":8}`))
	nothing := must[inbox.Replayed](t)(w.Replay(ctx, inbox.Replay{Actor: "op"}))
	if nothing != (inbox.Replayed{StillUnmatched: 4}) {
		t.Errorf("nothing was mended: %+v", nothing)
	}
	must[govern.Alias](t)(w.govern.CreateAlias(ctx, "op", govern.NewAlias{Kind: "type", From: "completions", To: "completion"}))
	fix := inbox.Replay{Actor: "op", Cause: inbox.UnknownType, Value: "completions", Dry: true}
	if got := must[inbox.Replayed](t)(w.Replay(ctx, fix)); got != (inbox.Replayed{Replayed: 1, StillUnmatched: 1}) {
		t.Errorf("dry run: %+v", got)
	}
	w.wantUsed("tokens", "0")
	w.wantGroups("ready completions 1 ", "unknown_customer acme-inc 1 ", "unknown_customer nobody 1 ", "unknown_type other 1 ")
	fix.Dry = false
	if got := must[inbox.Replayed](t)(w.Replay(ctx, fix)); got != (inbox.Replayed{Replayed: 1, StillUnmatched: 1}) {
		t.Errorf("replay: %+v", got)
	}
	w.wantUsed("tokens", "5") // at its own time
	w.report("duplicate", event("a", "completions", "acme", `{"tokens":5}`))
	w.report("accepted", event("new", "completions", "acme", `{"tokens":100}`)) // aliases are for new events too
	w.wantUsed("tokens", "105")
	if got := must[inbox.Replayed](t)(w.Replay(ctx, fix)); got != (inbox.Replayed{StillUnmatched: 1}) {
		t.Errorf("again: %+v", got)
	}

	must[govern.Alias](t)(w.govern.CreateAlias(ctx, "op", govern.NewAlias{Kind: "customer", From: "acme-inc", To: "acme"}))
	if got := must[inbox.Replayed](t)(w.Replay(ctx, inbox.Replay{Actor: "op", Cause: inbox.UnknownCustomer, Value: "acme-inc"})); got.Replayed != 1 {
		t.Errorf("replay of a customer: %+v", got)
	}
	w.wantUsed("tokens", "113")
	acme, _ := w.govern.Customer("acme")
	if len(w.counted) != 2 || w.counted[0] != acme.ID {
		t.Errorf("told of %q", w.counted)
	}
	r := must[store.Record](t)(w.journal.Event(ctx, "/jobs", "a"))
	if r.Event.Type != "completions" || r.Revision == 0 {
		t.Errorf("a replay changes how an event is read, not what is stored: %+v", r)
	}
	must[govern.Alias](t)(w.govern.DeleteAlias(ctx, "op", "type", "completions"))
	w.wantUsed("tokens", "113")
	w.report("unmatched", event("late", "completions", "acme", `{"tokens":1}`))
}

func TestReplayGoesOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const n = 60_000
	for from := 0; from < n; from += 10_000 {
		var events []meter.Event
		for i := range 10_000 {
			events = append(events, event(fmt.Sprint(from+i), "image", "acme", `{"count":2}`))
		}
		w.report("unmatched", events...)
	}
	w.apply(more)
	calls, replayed := 0, int64(0)
	for q := (inbox.Replay{Actor: "op"}); ; calls++ {
		got := must[inbox.Replayed](t)(w.Replay(t.Context(), q))
		replayed += got.Replayed
		if q.Cursor = got.Next; q.Cursor == "" {
			break
		}
	}
	if replayed != n || calls == 0 {
		t.Errorf("%d were replayed in %d further calls", replayed, calls)
	}
	w.wantUsed("images", fmt.Sprint(2*n))
	w.wantGroups()
}
