package export_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallystick/tallystick/internal/app/export"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/ledger"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/seal"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file"
	"github.com/tallystick/tallystick/internal/store/sqlite"
)

var start = time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)

// world is an export service over real stores and a sink that can fail.
type world struct {
	*export.Service
	t       *testing.T
	records *sqlite.Records
	journal *file.Journal
	now     time.Time
	audits  int

	got   []store.Message // what arrived, repetitions too
	down  bool            // nothing arrives
	mute  bool            // it arrives, and is not acknowledged
	part  int             // only so many of a batch arrive, then it fails; 0: all
	opens int
	sends int
	// during runs while a batch is on its way.
	during func()
}

func (w *world) Check(string) error { return nil }

func (w *world) Open(context.Context, string) (store.Sink, error) {
	w.opens++
	if w.down {
		return nil, errors.New("the sink is away")
	}
	return (*worldSink)(w), nil
}

type worldSink world

func (s *worldSink) Send(_ context.Context, batch []store.Message) error {
	if s.sends++; len(batch) == 0 || len(batch) > 500 {
		s.t.Errorf("a batch of %d messages", len(batch))
	}
	if s.during != nil {
		s.during()
	}
	switch {
	case s.down:
		return errors.New("the sink went away")
	case s.part > 0:
		s.got = append(s.got, batch[:min(s.part, len(batch))]...)
		return errors.New("the sink stopped in the middle")
	}
	s.got = append(s.got, batch...)
	if s.mute {
		return errors.New("no acknowledgement")
	}
	return nil
}

func (s *worldSink) Close() error { return nil }

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newWorld(t *testing.T) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{t: t, now: start}
	var err error
	w.records, err = sqlite.Scratch(t.Context(), filepath.Join(dir, "records.db"))
	ok(t, err)
	w.journal, err = file.Open(file.Config{Dir: filepath.Join(dir, "journal"), Commit: func(_ string, position uint64, head, payload []byte) ([32]byte, error) {
		return seal.CommitRecord(make([]byte, seal.KeySize), position, head, payload)
	}})
	ok(t, err)
	t.Cleanup(func() { ok(t, errors.Join(w.journal.Close(), w.records.Close())) })
	for i, key := range []string{"acme", "bolt"} {
		ok(t, w.records.PutCustomer(t.Context(), account.Customer{
			ID: "cus_" + key, Key: key, Zone: period.MustZone("UTC"), Currency: money.MustCurrency("EUR"), CreatedAt: start.Add(time.Duration(i)),
		}, w.audit()))
	}
	w.Service = w.service()
	return w
}

// service is one server's.
func (w *world) service() *export.Service {
	s, err := export.New(export.Config{
		Journal: w.journal, Records: w.records, Sinks: w, Source: "tally/test", Now: func() time.Time { return w.now },
		Real: func() time.Time { return w.now }, Random: rand.NewChaCha8([32]byte{byte(w.opens), 7}),
	})
	ok(w.t, err)
	return s
}

func (w *world) audit() store.Audit {
	w.audits++
	return store.Audit{ID: fmt.Sprintf("aud_x%04d", w.audits), Time: start, Actor: "op", Action: "test", Detail: "{}"}
}

func counted(customer, value string) []meter.Resolution {
	if customer == "" {
		return nil
	}
	return []meter.Resolution{{CustomerID: "cus_" + customer, Meter: "calls", CatalogVersion: 2, Value: money.MustDecimal(value), Dimensions: []meter.Dimension{{Name: "route", Value: "/a"}}}}
}

// events appends events of the customers, numbered on from n.
func (w *world) events(n int, customers ...string) {
	w.t.Helper()
	b := store.Batch{Producer: "api/op", ReceivedAt: w.now}
	for i, c := range customers {
		b.Entries = append(b.Entries, store.Entry{Origin: meter.Reported, Resolutions: counted(c, "2"), Event: meter.Event{
			Source: "/jobs", ID: fmt.Sprintf("e %d", n+i), Type: "call", Subject: c, Time: start.Add(time.Duration(n+i) * time.Second), Data: []byte(`{"n":1}`),
		}})
	}
	_, err := w.journal.Append(w.t.Context(), b)
	ok(w.t, err)
}

func (w *world) revise(kind store.RevisionKind, id, customer string) {
	w.t.Helper()
	r := store.Revision{Source: "/jobs", ID: id, Kind: kind, If: store.AnyRevision}
	if kind != store.Void {
		r.Resolutions = counted(customer, "5")
	}
	if kind == store.Amend {
		r.Event = meter.Event{Type: "call", Subject: customer, Data: []byte(`{"n":5}`)}
	}
	_, err := w.journal.Revise(w.t.Context(), store.Revisions{Actor: "ann", Reason: "why", At: w.now, List: []store.Revision{r}})
	ok(w.t, err)
}

func (w *world) deposit(n int, customer string) {
	w.t.Helper()
	eur := money.MustCurrency("EUR")
	e, err := ledger.OfPayment(ledger.Payment{
		ID: fmt.Sprintf("pay_%d", n), CustomerID: "cus_" + customer, Amount: money.NewAmount(100, eur), Receivable: money.NewAmount(0, eur), At: start,
	})
	ok(w.t, err)
	ok(w.t, w.records.PutEntries(w.t.Context(), []ledger.Entry{e}, w.audit()))
}

func (w *world) create(name, from string, what ...string) export.Status {
	w.t.Helper()
	st, err := w.Create(w.t.Context(), "op", export.NewExport{Name: name, To: "kafka://x:1/y", What: what, From: from})
	ok(w.t, err)
	return st
}

func (w *world) tick() {
	w.t.Helper()
	ok(w.t, w.Tick(w.t.Context()))
}

func (w *world) get() export.Status {
	w.t.Helper()
	st, err := w.Get(w.t.Context(), "x")
	ok(w.t, err)
	return st
}

// ids of what arrived, without repetitions, as the order of first arrivals.
func (w *world) ids() (all []string) {
	for _, m := range w.got {
		if !slices.Contains(all, m.ID) {
			all = append(all, m.ID)
		}
	}
	return all
}

func same[T any](t *testing.T, what string, want, got T) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

// TestMessages: what each kind of record tells.
func TestMessages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.events(0, "acme", "", "bolt")
	w.revise(store.Amend, "e 0", "acme")
	w.revise(store.Resolve, "e 1", "bolt")
	w.revise(store.Amend, "e 2", "acme") // it moves from one customer to another
	w.revise(store.Void, "e 0", "")
	_, err := w.journal.Seal(t.Context(), []byte("a document")) // nobody's business
	ok(t, err)
	_, err = w.journal.Erase(t.Context(), "bolt", "ann", "asked for", w.now)
	ok(t, err)
	w.deposit(1, "acme")
	w.create("all", "start")
	w.tick()
	type told struct{ ID, Type, Key string }
	got := make([]told, len(w.got))
	for i, m := range w.got {
		got[i] = told{m.ID, m.Type, m.Key}
	}
	same(t, "messages", []told{
		{"usage/%2Fjobs/e%200/0", export.Recorded, "cus_acme"},
		{"usage/%2Fjobs/e%201/0", export.Recorded, "/jobs"},
		{"usage/%2Fjobs/e%202/0", export.Recorded, "cus_bolt"},
		{"usage/%2Fjobs/e%200/1", export.Revised, "cus_acme"},
		{"usage/%2Fjobs/e%201/1", export.Revised, "cus_bolt"},
		{"usage/%2Fjobs/e%202/1", export.Revised, "cus_acme"},
		{"usage/%2Fjobs/e%202/1/cus_bolt", export.Revised, "cus_bolt"},
		{"usage/%2Fjobs/e%200/2", export.Voided, "cus_acme"},
		{"erasure/10", export.Erased, ""},
		{"ledger/payment/pay_1", export.Posted, "cus_acme"},
	}, got)

	var first, amended, erased, entry map[string]any
	for i, into := range map[int]*map[string]any{2: &first, 3: &amended, 8: &erased, 9: &entry} {
		ok(t, json.Unmarshal(w.got[i].Body, into))
	}
	same(t, "amended", map[string]any{
		"specversion": "1.0", "id": "usage/%2Fjobs/e%200/1", "source": "tally/test", "type": "tally.usage.revised", "time": "2026-03-10T12:00:00Z",
		"subject": "cus_acme", "partitionkey": "cus_acme", "datacontenttype": "application/json", "data": map[string]any{
			"position": 5.0, "revision": 1.0, "change": "amended", "customer_id": "cus_acme", "recorded_at": "2026-03-10T12:00:00Z", "actor": "ann", "reason": "why",
			"event": map[string]any{"source": "/jobs", "id": "e 0", "type": "call", "subject": "acme", "time": "2026-03-10T12:00:00Z", "data": map[string]any{"n": 5.0}},
			"counts": []any{map[string]any{
				"customer_id": "cus_acme", "meter": "calls", "value": "5", "catalog_version": 2.0, "dimensions": map[string]any{"route": "/a"},
			}},
		},
	}, amended)
	data, _ := first["data"].(map[string]any)
	event, _ := data["event"].(map[string]any)
	if data["erased"] != true || event["subject"] != nil || event["data"] != nil || event["id"] != "e 2" {
		t.Errorf("an event whose content was erased before it was told: %v", first)
	}
	data, _ = erased["data"].(map[string]any)
	if strings.Contains(string(w.got[8].Body), "bolt") || data["position"] != 10.0 || data["reason"] != "asked for" {
		t.Errorf("the erasure: %v", erased)
	}
	data, _ = entry["data"].(map[string]any)
	if data["key"] != "payment/pay_1" || data["number"] != 1.0 || !strings.Contains(string(w.got[9].Body), `{"amount":"1.00","currency":"EUR"}`) {
		t.Errorf("the entry: %s", w.got[9].Body)
	}
}

// TestFromNow: what is there already is not told, and each kind by itself.
func TestFromNow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.events(0, "acme")
	w.deposit(1, "acme")
	w.create("events", "", export.Events)
	w.create("ledger", "now", export.Ledger)
	w.tick()
	same(t, "at first", nil, w.ids())
	w.events(1, "bolt")
	w.tick()
	same(t, "an event", []string{"usage/%2Fjobs/e%201/0"}, w.ids())
	w.deposit(2, "acme")
	w.tick()
	same(t, "and an entry", []string{"usage/%2Fjobs/e%201/0", "ledger/payment/pay_2"}, w.ids())
	w.tick()
	if len(w.got) != 2 {
		t.Errorf("%d messages, none of which had to be repeated", len(w.got))
	}
}

// many appends events of both customers and returns the ids in order.
func (w *world) many(n int) (ids []string) {
	w.t.Helper()
	customers := make([]string, n)
	for i := range customers {
		customers[i] = []string{"acme", "bolt"}[i%2]
		ids = append(ids, fmt.Sprintf("usage/%%2Fjobs/e%%20%d/0", i))
	}
	w.events(0, customers...)
	return ids
}

// TestSinkFails: whatever the sink does, at the end all is there in order, and waits grow.
func TestSinkFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	want := w.many(1234)
	w.create("x", "start", export.Events)
	w.down = true
	var waits []time.Duration
	for range 12 {
		w.tick()
		st := w.get()
		waits = append(waits, st.NextAt.Sub(w.now))
		opens := w.opens
		w.now = st.NextAt.Add(-time.Millisecond)
		if w.tick(); w.opens != opens {
			t.Fatal("it was tried before its time")
		}
		w.now = st.NextAt
	}
	s := time.Second
	same(t, "waits", []time.Duration{s, 2 * s, 4 * s, 8 * s, 16 * s, 32 * s, 64 * s, 128 * s, 256 * s, 300 * s, 300 * s, 300 * s}, waits)
	if st := w.get(); st.State() != "failing" || st.Failures != 12 || st.LastError != "the sink is away" || st.Position != 0 {
		t.Errorf("while it fails: %+v", st)
	}
	w.down = false
	for _, fault := range []func(){func() { w.part = 100 }, func() { w.part, w.mute = 0, true }, func() { w.mute = false }} {
		fault()
		w.tick()
		w.now = w.now.Add(time.Hour)
	}
	same(t, "first arrivals", want, w.ids())
	if len(w.got) == len(want) {
		t.Error("nothing was repeated: the faults did not happen")
	}
	if st := w.get(); st.State() != "running" || st.Failures != 0 || st.BehindRecords != 0 || st.LastError != "no acknowledgement" {
		t.Errorf("in the end: %+v", st)
	}
}

// TestExamine: what fails, is paused or stands still is told; what came just now is no fault.
func TestExamine(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	look := func(result, says string) {
		t.Helper()
		all := w.Examine(t.Context())
		if len(all) != 1 || all[0].Name != "export x" || all[0].Result != result || !strings.Contains(all[0].Detail, says) || (all[0].Fix == "") != (result == store.CheckOK) {
			t.Errorf("want %s: %s; got %+v", result, says, all)
		}
	}
	if all := w.Examine(t.Context()); len(all) != 0 {
		t.Errorf("no export: %+v", all)
	}
	w.create("x", "start", export.Events)
	w.events(0, "acme", "bolt")
	w.tick()
	look(store.CheckOK, "0 records")
	w.now = w.now.Add(time.Hour)
	w.events(2, "acme")
	look(store.CheckOK, "records and 0 ledger entries behind")
	w.during = func() { look(store.CheckWarn, "nothing was sent for 1h") } // the sink takes its time
	w.tick()
	w.during = nil
	look(store.CheckOK, "0 records")
	w.events(3, "acme")
	w.down = true
	w.tick()
	look(store.CheckFail, "1 attempts failed")
	w.down = false
	_, err := w.Pause(t.Context(), "op", "x", true)
	ok(t, err)
	look(store.CheckWarn, "paused")
}

// TestRestart: another process goes on where the sink had acknowledged.
func TestRestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	want := w.many(700)
	w.create("x", "start", export.Events)
	ctx, cancel := context.WithCancel(t.Context())
	w.during = func() {
		if w.sends == 2 { // the process dies while the second batch is on its way
			w.part = 50
			cancel()
		}
	}
	_ = w.Tick(ctx) // what it says does not matter any more
	w.part, w.during = 0, nil
	if st := w.get(); st.Position == 0 || st.BehindRecords == 0 || st.Failures != 0 {
		t.Errorf("after the end of the process: %+v", st)
	}
	ok(t, w.service().Tick(t.Context()))
	same(t, "first arrivals", want, w.ids())
	if n := len(w.got); n <= len(want) || n > len(want)+50 {
		t.Errorf("%d messages arrived for %d: want some of the 50 repeated, and no others", n, len(want))
	}
}

// TestOldLeader: who is behind cannot move the cursor back, and what it repeats comes after what it repeats.
func TestOldLeader(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	want := w.many(900)
	w.create("x", "start", export.Events)
	next := w.service()
	w.during = func() { // while the old leader's first batch is under way, the new one sends all
		w.during = nil
		ok(t, next.Tick(t.Context()))
	}
	w.tick()
	same(t, "first arrivals", want, w.ids())
	if st := w.get(); st.BehindRecords != 0 || st.Failures != 0 {
		t.Errorf("the cursor was moved back: %+v", st)
	}
	w.tick()
	if n := len(w.got); n >= 2*len(want) {
		t.Errorf("%d messages for %d events: the old leader went on", n, len(want))
	}
}

// TestPausedAndDeleted: both take hold between two batches.
func TestPausedAndDeleted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	want := w.many(1600)
	w.create("x", "start", export.Events)
	w.during = func() {
		w.during = nil
		_, err := w.Pause(t.Context(), "op", "x", true)
		ok(t, err)
	}
	w.tick()
	if n := len(w.got); n == 0 || n > 500 {
		t.Errorf("%d messages before it was paused", n)
	}
	w.tick()
	paused := len(w.got)
	if st := w.get(); st.State() != "paused" || st.BehindRecords == 0 {
		t.Errorf("paused: %+v", st)
	}
	_, err := w.Pause(t.Context(), "op", "x", false)
	ok(t, err)
	w.tick()
	same(t, "first arrivals", want, w.ids())
	if paused == len(w.got) {
		t.Error("it was not resumed")
	}
	w.events(5000, "acme")
	w.during = func() {
		w.during = nil
		_, err := w.Delete(t.Context(), "op", "x")
		ok(t, err)
	}
	w.tick()
	if _, err := w.Get(t.Context(), "x"); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("deleted: %v", err)
	}
}

// TestOneThatHangs holds up no other.
func TestOneThatHangs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("a", "start", export.Events)
	w.create("b", "start", export.Events)
	w.events(0, "acme")
	hangs, free, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	first := true
	w.during = func() {
		if first {
			first = false
			close(hangs)
			<-free
		}
	}
	go func() { done <- w.Tick(t.Context()) }()
	<-hangs
	w.tick()
	if len(w.got) != 1 {
		t.Errorf("%d messages while one export hangs", len(w.got))
	}
	close(free)
	ok(t, <-done)
	if len(w.got) != 2 {
		t.Errorf("%d messages in the end", len(w.got))
	}
}
