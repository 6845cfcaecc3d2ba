package correct_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/bill"
	"github.com/tallystick/tallystick/internal/app/correct"
	"github.com/tallystick/tallystick/internal/app/govern"
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
  - {key: tokens, event: completion, aggregation: sum, value: data.tokens, scale: 2}
plans:
  - key: pro
    currency: USD
    prices:
      - {key: tokens, model: graduated, meter: tokens, every: month, tiers: [{unit_amount: "0.01"}]}
`

var start = time.Date(2026, 3, 10, 0, 0, 0, 0, time.UTC)

// world is corrections over real stores and services.
type world struct {
	*correct.Service
	t       *testing.T
	now     time.Time
	records *sqlite.Records
	journal *file.Journal
	govern  *govern.Service
	ingest  *ingest.Service
	bill    *bill.Service
	counted []string // customer ids, as told
	random  *rand.ChaCha8
	flaky   *flaky
	// overtake runs once between a look at an event and the next write.
	overtake func()
	// seen runs after each view of the journal.
	seen func()
}

// between is the journal where somebody else may come first.
type between struct {
	store.Journal
	w *world
}

func (b between) Revise(ctx context.Context, r store.Revisions) ([]uint64, error) {
	if first := b.w.overtake; first != nil {
		b.w.overtake = nil
		first()
	}
	return b.Journal.Revise(ctx, r)
}

func (b between) View(ctx context.Context, read func(store.View) error) error {
	if b.w.seen != nil {
		defer b.w.seen()
	}
	return b.Journal.View(ctx, read)
}

// flaky fails the records of backfills on demand, as a crash between two stores would.
type flaky struct {
	store.Backfills
	fail error
}

func (f *flaky) StepBackfill(ctx context.Context, b store.Backfill, from store.BackfillState) error {
	if f.fail != nil {
		return f.fail
	}
	return f.Backfills.StepBackfill(ctx, b, from)
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
	w := &world{t: t, now: start, random: rand.NewChaCha8([32]byte{7})}
	w.records = must[*sqlite.Records](t)(sqlite.Scratch(ctx, filepath.Join(dir, "records.db")))
	w.journal = must[*file.Journal](t)(file.Open(file.Config{Dir: filepath.Join(dir, "journal")}))
	t.Cleanup(func() {
		for _, err := range []error{w.journal.Close(), w.records.Close()} {
			if err != nil {
				t.Error(err)
			}
		}
	})
	clock := func() time.Time { return w.now }
	w.govern = must[*govern.Service](t)(govern.New(ctx, govern.Config{
		Records: w.records, Journal: w.journal, Now: clock, Random: w.random, Pepper: make([]byte, 32), Mode: account.Test,
	}))
	if _, _, err := w.govern.ApplyCatalog(ctx, "op", "plans.yaml", []byte(plans)); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"acme", "bolt"} {
		must[account.Customer](t)(w.govern.CreateCustomer(ctx, "op", govern.NewCustomer{Key: key}))
	}
	must[account.Subscription](t)(w.govern.CreateSubscription(ctx, "op", govern.NewSubscription{Customer: "acme", Plan: "pro", BillingDay: 10}))
	counted := func(ids []string) { w.counted = append(w.counted, ids...) }
	w.ingest = must[*ingest.Service](t)(ingest.New(ingest.Config{Directory: w.govern, Journal: w.journal, Now: clock}))
	w.bill = must[*bill.Service](t)(bill.New(bill.Config{Directory: w.govern, Journal: w.journal, Invoices: w.records, Now: clock}))
	w.flaky = &flaky{Backfills: w.records}
	w.Service = must[*correct.Service](t)(correct.New(correct.Config{
		Directory: w.govern, Resolver: w.ingest, Journal: between{w.journal, w}, Backfills: w.flaky, Closes: w.records, Audit: w.govern.Audit,
		Now: clock, Random: w.random, Counted: counted,
	}))
	return w
}

// completion is an event of tokens.
func completion(id, subject, tokens string, at time.Time) meter.Event {
	return meter.Event{Source: "/jobs", ID: id, Type: "completion", Subject: subject, Time: at, Data: []byte(`{"tokens":` + tokens + `}`)}
}

// report wants each event to have a status.
func (w *world) report(unit, status string, events ...meter.Event) {
	w.t.Helper()
	told, err := w.ingest.Take(w.t.Context(), ingest.Call{Producer: "api/test", Events: events, Unit: unit})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, o := range told {
		if o.Status != status {
			w.t.Fatalf("event %s is %s (%s %s), want %s", o.ID, o.Status, o.Pointer, o.Rule, status)
		}
	}
}

// load puts events into an open backfill.
func (w *world) load(ref, status string, events ...meter.Event) {
	w.t.Helper()
	unit, done, err := w.Load(w.t.Context(), ref)
	if err != nil {
		w.t.Fatal(err)
	}
	defer done()
	w.report(unit, status, events...)
}

// used is all usage of a customer's meter, in books that must balance.
func (w *world) used(customer, meterKey string) string {
	w.t.Helper()
	c, _ := w.govern.Customer(customer)
	k := store.SeriesKey{CustomerID: c.ID, Meter: meterKey}
	out := ""
	err := w.journal.View(w.t.Context(), func(v store.View) error {
		r, err := v.Usage(k, period.Interval{})
		if err != nil {
			return err
		}
		reported, err := v.Reported(k, period.Interval{})
		if err != nil {
			return err
		}
		voided, err := v.Voided(k, period.Interval{})
		if err != nil {
			return err
		}
		left, err := reported.Sub(voided)
		if err != nil {
			return err
		}
		if !left.Equal(r.Sum) {
			return fmt.Errorf("reported %s − voided %s is not the usage %s", reported, voided, r.Sum)
		}
		out = r.Sum.String()
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

func (w *world) wantUsed(customer, meterKey, want string) {
	w.t.Helper()
	if got := w.used(customer, meterKey); got != want {
		w.t.Fatalf("%s of %s: %s, want %s", meterKey, customer, got, want)
	}
}

// work runs the jobs to their end.
func (w *world) work() {
	w.t.Helper()
	for more := true; more; {
		var err error
		if more, err = w.Tick(w.t.Context()); err != nil {
			w.t.Fatal(err)
		}
	}
}

// bills closes what is due.
func (w *world) bills() {
	w.t.Helper()
	for more := true; more; {
		var err error
		if more, err = w.bill.Tick(w.t.Context()); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) audits(action string) (n int) {
	w.t.Helper()
	for _, a := range must[[]govern.Audit](w.t)(w.govern.Audits(w.t.Context(), govern.Query{Limit: 1000})) {
		if a.Action == action {
			n++
			if !json.Valid([]byte(a.Detail)) {
				w.t.Errorf("audit detail %q", a.Detail)
			}
		}
	}
	return n
}

func says(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one that says %q", words)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("error %q does not say %q", err, word)
		}
	}
}
