package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/app/ingest"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	_ ingest.Directory = (*govern.Service)(nil)

	now = time.Date(2026, 3, 30, 12, 0, 0, 0, time.UTC)
)

// directory is a small picture of accounts.
type directory struct {
	catalog       *catalog.Compiled
	customers     []account.Customer
	subscriptions []account.Subscription
}

func (d *directory) Current() *catalog.Compiled { return d.catalog }

func (d *directory) Customer(ref string) (account.Customer, bool) {
	for _, c := range d.customers {
		if c.ID == ref || c.Key == ref {
			return c, true
		}
	}
	return account.Customer{}, false
}

func (d *directory) ActiveSubscription(id string, at time.Time) (account.Subscription, bool) {
	for _, s := range d.subscriptions {
		if s.CustomerID == id && s.Active(at) {
			return s, true
		}
	}
	return account.Subscription{}, false
}

// world is ingest over a real journal.
type world struct {
	*ingest.Service
	people  *directory
	journal *file.Journal
	now     time.Time
	counted []string
	flushed int
	flush   error
}

func newWorld(t testing.TB) *world {
	t.Helper()
	paris, utc := period.MustZone("Europe/Paris"), period.MustZone("UTC")
	w := &world{now: now, people: &directory{
		catalog: compiled(t, []catalog.Meter{
			{Key: "api_calls", Event: "request", Aggregation: meter.Count},
			{Key: "tokens", Event: "completion", Aggregation: meter.Sum, Value: "data.tokens", Scale: 2, Dimensions: []string{"model", "cached"}},
			{Key: "completions", Event: "completion", Aggregation: meter.Count},
		}),
		customers: []account.Customer{{ID: "cus_acme", Key: "acme", Zone: paris}, {ID: "cus_bolt", Key: "bolt", Zone: utc}},
		subscriptions: []account.Subscription{
			{ID: "sub_1", CustomerID: "cus_acme", Plan: "pro", Start: time.Date(2026, 2, 14, 10, 37, 12, 0, time.UTC), BillingDay: 14},
		},
	}}
	var err error
	if w.journal, err = file.Open(file.Config{Dir: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.journal.Close(); err != nil {
			t.Error(err)
		}
	})
	w.Service = w.service(t, w.journal)
	return w
}

func (w *world) service(t testing.TB, j store.Journal) *ingest.Service {
	t.Helper()
	s, err := ingest.New(ingest.Config{
		Directory: w.people, Journal: j, Now: func() time.Time { return w.now },
		Counted: func(ids []string) { w.counted = append(w.counted, ids...) },
		Flush:   func(context.Context) error { w.flushed++; return w.flush },
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func compiled(t testing.TB, meters []catalog.Meter) *catalog.Compiled {
	t.Helper()
	c, err := catalog.Compile(3, &catalog.Catalog{Meters: meters})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (w *world) report(t testing.TB, events ...meter.Event) []ingest.Outcome {
	t.Helper()
	out, err := w.Report(t.Context(), "api/tok_1", events)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func completion(id, subject, data string) meter.Event {
	return meter.Event{Source: "app", ID: id, Type: "completion", Subject: subject, Time: now, Data: []byte(data)}
}

func request(id, subject string, at time.Time) meter.Event {
	return meter.Event{Source: "app", ID: id, Type: "request", Subject: subject, Time: at}
}

func statuses(out []ingest.Outcome) string {
	s := make([]string, len(out))
	for i, o := range out {
		s[i] = o.Status
	}
	return strings.Join(s, " ")
}

func TestReport(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	out := w.report(t,
		completion("1", "acme", `{"tokens": 12.50, "model": "large", "cached": true}`),
		completion("2", "cus_bolt", `{"tokens":"7"}`),
		completion("2", "cus_bolt", `{"tokens":"7"}`), // in the same call
		completion("2", "cus_bolt", `{"tokens":8}`),
		completion("3", "", `{"tokens":1}`),
		completion("4", "nobody", `{"tokens":1}`),
		completion("5", "acme", `{"tokens":-1}`),
		meter.Event{Source: "app", ID: "6", Type: "unread", Subject: "acme"},
	)
	if got, want := statuses(out), "accepted accepted duplicate conflict unmatched unmatched rejected unmatched"; got != want {
		t.Fatalf("outcomes %s, want %s", got, want)
	}
	for i, id := range []string{"1", "2", "2", "2", "3", "4", "5", "6"} {
		if out[i].ID != id {
			t.Errorf("outcome %d is of %q, want %q", i, out[i].ID, id)
		}
	}
	if c := out[3]; len(c.Digest) != 32 || len(c.Stored) != 32 || c.Digest == c.Stored || c.Fix == "" {
		t.Errorf("conflict: %+v", c)
	}
	if got := w.counted; !cmp.Equal(got, []string{"cus_acme", "cus_bolt"}) {
		t.Errorf("counted %q", got)
	}
	r, err := w.Event(t.Context(), "app", "1")
	if err != nil {
		t.Fatal(err)
	}
	want := []meter.Resolution{
		{
			CustomerID: "cus_acme", Meter: "tokens", CatalogVersion: 3, Value: money.MustDecimal("12.5"),
			Dimensions: []meter.Dimension{{Name: "cached", Value: "true"}, {Name: "model", Value: "large"}},
		},
		{CustomerID: "cus_acme", Meter: "completions", CatalogVersion: 3, Value: money.FromInt(1)},
	}
	if d := cmp.Diff(want, r.Resolutions, cmp.Comparer(func(a, b money.Decimal) bool { return a.Cmp(b) == 0 })); d != "" {
		t.Errorf("resolutions: %s", d)
	}
	if r.Origin != meter.Reported || string(r.Event.Data) != `{"cached":true,"model":"large","tokens":12.5}` || !r.ReceivedAt.Equal(now) {
		t.Errorf("stored %+v", r)
	}
	if r, err = w.Event(t.Context(), "app", "6"); err != nil || len(r.Resolutions) != 0 || !r.Event.Time.Equal(now) {
		t.Errorf("unmatched: %+v, %v", r, err)
	}
	if got := statuses(w.report(t, completion("1", "acme", `{"model":"large","cached":true,"tokens":"12.5"}`))); got != "conflict" {
		t.Errorf("a string instead of the number: %s", got)
	}
	later := completion("1", "acme", `{"model":"large","cached":true,"tokens":12.5}`)
	later.Time = now.Add(-time.Hour)
	if got := statuses(w.report(t, later)); got != "duplicate" {
		t.Errorf("the same content with another time: %s", got)
	}
}

func TestRejections(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	long := strings.Repeat("x", 257)
	for name, tc := range map[string]struct {
		change  func(*meter.Event)
		pointer string
		rule    string
	}{
		"no source":         {func(e *meter.Event) { e.Source = "" }, "/source", "must not be empty"},
		"a gateway's":       {func(e *meter.Event) { e.Source = "gateway/1" }, "/source", "gateway/"},
		"no id":             {func(e *meter.Event) { e.ID = "" }, "/id", "must not be empty"},
		"long id":           {func(e *meter.Event) { e.ID = long }, "/id", "at most 256 bytes"},
		"no type":           {func(e *meter.Event) { e.Type = "" }, "/type", "must not be empty"},
		"control character": {func(e *meter.Event) { e.Type = "a\nb" }, "/type", "control characters"},
		"not UTF-8":         {func(e *meter.Event) { e.Subject = "\xff" }, "/subject", "UTF-8"},
		"long subject":      {func(e *meter.Event) { e.Subject = long }, "/subject", "at most 256 bytes"},
		"long trace":        {func(e *meter.Event) { e.TraceParent = long }, "/traceparent", "at most 256 bytes"},
		"ahead":             {func(e *meter.Event) { e.Time = now.Add(time.Hour + time.Microsecond) }, "/time", "1 hour ahead"},
		"old":               {func(e *meter.Event) { e.Time = now.Add(-400*24*time.Hour - time.Microsecond) }, "/time", "400 days"},
		"data no JSON":      {func(e *meter.Event) { e.Data = []byte(`{"tokens":1`) }, "/data", "JSON object"},
		"data a list":       {func(e *meter.Event) { e.Data = []byte(`[1]`) }, "/data", "JSON object"},
		"data too long":     {func(e *meter.Event) { e.Data = []byte(`{"tokens":1,"x":"` + strings.Repeat("x", 64<<10) + `"}`) }, "/data", "65536 bytes"},
		"data grows":        {func(e *meter.Event) { e.Data = []byte(`{"tokens":1,"x":[1` + strings.Repeat(",1e37", 2000) + `]}`) }, "/data", "65536 bytes"},
		"no data":           {func(e *meter.Event) { e.Data = nil }, "/data/tokens", "missing"},
		"no value":          {func(e *meter.Event) { e.Data = []byte(`{}`) }, "/data/tokens", "number"},
		"no number":         {func(e *meter.Event) { e.Data = []byte(`{"tokens":"many"}`) }, "/data/tokens", "number"},
		"negative":          {func(e *meter.Event) { e.Data = []byte(`{"tokens":-0.01}`) }, "/data/tokens", "negative"},
		"decimals":          {func(e *meter.Event) { e.Data = []byte(`{"tokens":0.001}`) }, "/data/tokens", "at most 2 decimals, has 3"},
		"too much":          {func(e *meter.Event) { e.Data = []byte(`{"tokens":10000000000000.01}`) }, "/data/tokens", "at most 10000000000000"},
		"huge":              {func(e *meter.Event) { e.Data = []byte(`{"tokens":92233720368547758.08}`) }, "/data/tokens", "at most 10000000000000"},
		"group of things":   {func(e *meter.Event) { e.Data = []byte(`{"tokens":1,"model":["a"]}`) }, "/data/model", "text"},
		"long group":        {func(e *meter.Event) { e.Data = []byte(`{"tokens":1,"model":"` + long + `"}`) }, "/data/model", "at most 256 bytes"},
		"nobody's":          {func(e *meter.Event) { e.Subject, e.Data = "nobody", []byte(`{}`) }, "/data/tokens", "number"},
	} {
		t.Run(name, func(t *testing.T) {
			e := completion("r", "acme", `{"tokens":1}`)
			tc.change(&e)
			good := completion("good", "acme", `{"tokens":10000000000000,"model":null}`)
			out := w.report(t, e, good)
			if o := out[0]; o.Status != "rejected" || o.Pointer != tc.pointer || !strings.Contains(o.Rule, tc.rule) || o.Fix == "" || o.ID != e.ID {
				t.Errorf("outcome %+v", o)
			}
			if out[1].Status == "rejected" {
				t.Errorf("its neighbour: %+v", out[1])
			}
		})
	}
	if p := w.journal.Stats().Events; p != 1 {
		t.Errorf("%d events stored, want the good one alone", p)
	}
}

func TestTimesAtTheBounds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	out := w.report(t, request("a", "acme", now.Add(time.Hour)), request("b", "acme", now.Add(-400*24*time.Hour)), request("c", "acme", time.Time{}))
	if got := statuses(out); got != "accepted accepted accepted" {
		t.Errorf("%s", got)
	}
	if r, err := w.Event(t.Context(), "app", "c"); err != nil || !r.Event.Time.Equal(now) {
		t.Errorf("without a time: %v, %v", r.Event.Time, err)
	}
}

func TestTooManyMeters(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var meters []catalog.Meter
	for i := range 65 {
		meters = append(meters, catalog.Meter{Key: fmt.Sprintf("m%d", i), Event: "request", Aggregation: meter.Count})
	}
	w.people.catalog = compiled(t, meters)
	if out := w.report(t, request("a", "acme", now)); out[0].Pointer != "/type" {
		t.Errorf("65 meters: %+v", out)
	}
	w.people.catalog = compiled(t, meters[:64])
	if out := w.report(t, request("a", "acme", now)); out[0].Status != "accepted" {
		t.Errorf("64 meters: %+v", out)
	}
}

// batches counts what reaches the journal and fails on demand.
type batches struct {
	store.Journal
	sizes  []int
	failAt int
}

func (b *batches) Append(ctx context.Context, batch store.Batch) ([]store.Result, error) {
	b.sizes = append(b.sizes, len(batch.Entries))
	if len(b.sizes) == b.failAt {
		return nil, store.ErrFull
	}
	return b.Journal.Append(ctx, batch)
}

func TestChunks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var events []meter.Event
	for i := range 2501 {
		e := request(fmt.Sprint(i), "acme", now)
		if i%1000 == 999 {
			e.Type = "" // rejected ones take no room
		}
		events = append(events, e)
	}
	b := &batches{Journal: w.journal, failAt: 3}
	s := w.service(t, b)
	if _, err := s.Report(t.Context(), "api/tok_1", events); !errors.Is(err, store.ErrFull) || !errors.Is(err, ingest.ErrFull) {
		t.Fatalf("a full journal: %v", err)
	}
	if !cmp.Equal(b.sizes, []int{1000, 1000, 499}) || !cmp.Equal(w.counted, []string{"cus_acme"}) {
		t.Errorf("batches of %v, counted %v", b.sizes, w.counted)
	}
	b.failAt = 0
	out, err := s.Report(t.Context(), "api/tok_1", events) // again
	if err != nil {
		t.Fatal(err)
	}
	tally := map[string]int{}
	for i, o := range out {
		tally[o.Status]++
		if o.Status != "rejected" && o.ID != events[i].ID {
			t.Fatalf("outcome %d is of %s", i, o.ID)
		}
	}
	if want := map[string]int{"duplicate": 2000, "accepted": 499, "rejected": 2}; !cmp.Equal(tally, want) {
		t.Errorf("outcomes %v, want %v", tally, want)
	}
}

func TestBoundsOfACall(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	many := make([]meter.Event, ingest.MaxEvents+1)
	large := []meter.Event{{Data: make([]byte, ingest.MaxBytes+1)}}
	for _, events := range [][]meter.Event{many, large} {
		_, err := w.Report(t.Context(), "api/tok_1", events)
		var invalid *ingest.Invalid
		if !errors.As(err, &invalid) || !errors.Is(err, account.ErrInvalid) || invalid.Fix == "" {
			t.Errorf("%d events: %v", len(events), err)
		}
	}
	if _, err := w.Report(t.Context(), "", nil); !errors.Is(err, account.ErrInvalid) {
		t.Errorf("without producer: %v", err)
	}
	if out := w.report(t); len(out) != 0 || w.counted != nil {
		t.Errorf("nothing reported: %v, counted %v", out, w.counted)
	}
	if out := w.report(t, meter.Event{}); out[0].Status != "rejected" {
		t.Errorf("only a rejected one: %v", out)
	}
}

func TestEvents(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.report(t, request("a", "acme", now), request("b", "bolt", now), request("c", "acme", now.Add(-time.Hour)))
	page, err := w.Events(t.Context(), ingest.Scan{SeriesKey: ingest.SeriesKey{CustomerID: "acme", Meter: "api_calls"}})
	if err != nil || len(page.Records) != 2 || page.Records[0].Event.ID != "c" {
		t.Errorf("acme's: %+v, %v", page, err)
	}
	if _, err := w.Events(t.Context(), ingest.Scan{SeriesKey: ingest.SeriesKey{CustomerID: "acne"}}); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("nobody's: %v", err)
	}
	if _, err := w.Events(t.Context(), ingest.Scan{Cursor: "?"}); !errors.Is(err, account.ErrInvalid) {
		t.Errorf("bad cursor: %v", err)
	}
	if page, err = w.Events(t.Context(), ingest.Scan{Limit: 5000, NewestFirst: true}); err != nil || len(page.Records) != 3 {
		t.Errorf("all: %d, %v", len(page.Records), err)
	}
	if _, err := w.Event(t.Context(), "app", "x"); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("no such event: %v", err)
	}
	if w.flushed != 4 {
		t.Errorf("flushed %d times, want before each read", w.flushed)
	}
	w.flush = errors.New("stuck")
	if _, err := w.Event(t.Context(), "app", "a"); !errors.Is(err, w.flush) {
		t.Errorf("flush fails: %v", err)
	}
}

func TestRefusedConfig(t *testing.T) {
	t.Parallel()
	if _, err := ingest.New(ingest.Config{}); err == nil {
		t.Error("an empty configuration was accepted")
	}
}
