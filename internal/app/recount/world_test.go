package recount_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/app/ingest"
	"github.com/tallystick/tallystick/internal/app/recount"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/receipt"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file"
	"github.com/tallystick/tallystick/internal/store/sqlite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var _ recount.Directory = (*govern.Service)(nil)

var now = time.Date(2026, 3, 30, 12, 0, 0, 0, time.UTC)

// world is recounts over real stores and the real reader of events.
type world struct {
	*recount.Service
	t       *testing.T
	catalog *catalog.Compiled
	sub     account.Subscription
	journal *file.Journal
	records *sqlite.Records
	ingest  *ingest.Service
	counted []string
	aliases map[string]string // of event types
	// crash, when not nil, is what storing a job's progress answers.
	crash error
}

func (w *world) AliasType(eventType string) string {
	if name, ok := w.aliases[eventType]; ok {
		return name
	}
	return eventType
}

func (w *world) AliasSubject(subject string) string { return subject }

func (w *world) Current() *catalog.Compiled { return w.catalog }

func (w *world) Customer(ref string) (account.Customer, bool) {
	for _, key := range []string{"acme", "bolt"} {
		if ref == key || ref == "cus_"+key {
			return account.Customer{ID: "cus_" + key, Key: key}, true
		}
	}
	return account.Customer{}, false
}

func (w *world) ActiveSubscription(id string, at time.Time) (account.Subscription, bool) {
	return w.sub, w.sub.CustomerID == id && w.sub.Active(at)
}

func (w *world) SubscriptionsOf(id string) []account.Subscription {
	if w.sub.CustomerID == id {
		return []account.Subscription{w.sub}
	}
	return nil
}

// SaveRecount may be cut off by a crash, as the process would be between its two stores.
func (w *world) SaveRecount(ctx context.Context, r store.Recount) error {
	if w.crash != nil {
		return w.crash
	}
	return w.records.SaveRecount(ctx, r)
}

// records is the records with world's own way to store progress.
type records struct {
	*sqlite.Records
	w *world
}

func (r records) SaveRecount(ctx context.Context, c store.Recount) error {
	return r.w.SaveRecount(ctx, c)
}

func newWorld(t *testing.T, meters ...catalog.Meter) *world {
	t.Helper()
	w := &world{t: t}
	w.apply(meters...)
	var err error
	if w.journal, err = file.Open(file.Config{Dir: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	if w.records, err = sqlite.Scratch(t.Context(), filepath.Join(t.TempDir(), "records.db")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(w.journal.Close(), w.records.Close()); err != nil {
			t.Error(err)
		}
	})
	if w.ingest, err = ingest.New(ingest.Config{Directory: w, Journal: w.journal, Now: func() time.Time { return now }}); err != nil {
		t.Fatal(err)
	}
	w.restart()
	return w
}

// restart is the process begun anew over the same stores.
func (w *world) restart() {
	w.t.Helper()
	w.crash = nil
	s, err := recount.New(recount.Config{
		Directory: w, Journal: w.journal, Records: records{w.records, w}, Reread: w.ingest.Reread, Resolve: w.ingest.Resolve, Now: func() time.Time { return now },
		Random: rand.Reader, Counted: func(ids []string) { w.counted = append(w.counted, ids...) },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.Service = s
}

func (w *world) apply(meters ...catalog.Meter) {
	w.t.Helper()
	version := int64(1)
	if w.catalog != nil {
		version = w.catalog.Version + 1
	}
	c, err := catalog.Compile(version, &catalog.Catalog{Meters: meters})
	if err != nil {
		w.t.Fatal(err)
	}
	w.catalog = c
}

func tokens(value string) catalog.Meter {
	return catalog.Meter{Key: "tokens", Event: "completion", Aggregation: meter.Sum, Value: value}
}

func completion(n int, subject, data string) meter.Event {
	return meter.Event{Source: "app", ID: fmt.Sprint(n), Type: "completion", Subject: subject, Time: now.Add(time.Duration(n-10_000) * time.Minute), Data: []byte(data)}
}

func (w *world) report(events ...meter.Event) {
	w.t.Helper()
	for chunk := range slices.Chunk(events, ingest.MaxEvents) {
		out, err := w.ingest.Report(w.t.Context(), "api/tok_1", chunk)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, o := range out {
			if o.Status != "accepted" && o.Status != "unmatched" {
				w.t.Fatalf("%+v", o)
			}
		}
	}
}

// admit appends an event as a gateway does.
func (w *world) admit(id, meterKey string) {
	w.t.Helper()
	r := receipt.Receipt{Outcome: receipt.Allowed, CustomerID: "cus_acme", Customer: "acme", Meter: meterKey, Deciding: -1, Time: now.UnixMicro()}
	e := store.Entry{
		Event:       meter.Event{Source: "gateway/1", ID: id, Type: "completion", Subject: "cus_acme", Time: now, Data: []byte(`{"n":3,"tokens":5}`)},
		Origin:      meter.Admitted,
		Resolutions: []meter.Resolution{{CustomerID: "cus_acme", Meter: meterKey, CatalogVersion: 1, Value: money.FromInt(1)}},
		Receipt:     r.Encode(nil),
	}
	if _, err := w.journal.Append(w.t.Context(), store.Batch{Producer: "test", ReceivedAt: now, Entries: []store.Entry{e}}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) begin(o recount.Order) recount.Job {
	w.t.Helper()
	job, err := w.Begin(w.t.Context(), "operator", o)
	if err != nil {
		w.t.Fatal(err)
	}
	return job
}

// finish ticks until nothing is left to do.
func (w *world) finish(job recount.Job) recount.Job {
	w.t.Helper()
	for more := true; more; {
		var err error
		if more, err = w.Tick(w.t.Context()); err != nil {
			w.t.Fatal(err)
		}
	}
	return w.job(job.ID)
}

func (w *world) job(id string) recount.Job {
	w.t.Helper()
	job, err := w.Job(w.t.Context(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	return job
}

// used is a meter's usage of all time.
func (w *world) used(customer, meterKey string) (sum string) {
	w.t.Helper()
	err := w.journal.View(w.t.Context(), func(v store.View) error {
		u, err := v.Usage(store.SeriesKey{CustomerID: customer, Meter: meterKey}, period.Interval{})
		sum = u.Sum.String()
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return sum
}
