package receive_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/tallystick/tallystick/internal/app/receive"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file"
	"github.com/tallystick/tallystick/internal/store/sqlite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// world is a receiver over real stores, with a gateway that signs.
type world struct {
	*receive.Receiver
	t       *testing.T
	dir     string
	now     time.Time
	journal *file.Journal
	records *sqlite.Records
	signer  *receive.Signer
	epoch   uint32
	next    int // events so far
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, dir: t.TempDir(), now: noon, signer: signer(t, 1)}
	w.open()
	w.register(w.signer)
	w.begin()
	return w
}

func signer(t *testing.T, n byte) *receive.Signer {
	t.Helper()
	seed := [32]byte{n}
	s, err := receive.NewSigner(seed[:])
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (w *world) open() {
	w.t.Helper()
	var err error
	if w.journal, err = file.Open(file.Config{Dir: filepath.Join(w.dir, "journal")}); err != nil {
		w.t.Fatal(err)
	}
	if w.records, err = sqlite.Scratch(w.t.Context(), filepath.Join(w.dir, "records.db")); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(w.close)
	w.Receiver, err = receive.New(w.t.Context(), receive.Config{
		Journal: w.journal, Records: w.records, Now: func() time.Time { return w.now }, Random: rand.NewChaCha8([32]byte{byte(w.next), 1}),
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) close() {
	for _, err := range []error{w.journal.Close(), w.records.Close()} {
		if err != nil {
			w.t.Error(err)
		}
	}
}

// restart ends the receiver's process and starts another.
func (w *world) restart() {
	w.t.Helper()
	w.close()
	w.next++
	w.open()
}

func (w *world) register(s *receive.Signer) store.GatewayKey {
	w.t.Helper()
	k, err := w.Register(w.t.Context(), 1, s.Public())
	if err != nil {
		w.t.Fatal(err)
	}
	return k
}

// begin is a new run of the gateway.
func (w *world) begin() {
	w.t.Helper()
	w.now = w.now.Add(time.Minute)
	var err error
	if w.epoch, err = w.records.BeginEpoch(w.t.Context(), 1, "boot", w.now); err != nil {
		w.t.Fatal(err)
	}
}

// batch is signed, with n new events.
func (w *world) batch(sequence uint64, from, to int64, n int) store.Batch {
	b := store.Batch{
		Producer: "gateway/1", Node: 1, Epoch: w.epoch, First: uint64(w.next) + 1, Last: uint64(w.next + n), ReceivedAt: w.now,
		Totals: []store.AdmittedTotal{{CustomerID: "cus_1", Meter: "calls", PeriodStart: 5, Total: money.FromInt(int64(w.next + n))}},
	}
	for range n {
		w.next++
		b.Entries = append(b.Entries, store.Entry{
			Event:  meter.Event{Source: "gateway/1", ID: fmt.Sprintf("e%d", w.next), Type: "request", Subject: "cus_1", Time: w.now, Data: []byte(`{"cost":1}`)},
			Origin: meter.Admitted, Receipt: []byte{1, 2}, KeyID: "key_1", Flags: store.Recovered,
			Resolutions: []meter.Resolution{{CustomerID: "cus_1", Meter: "calls", CatalogVersion: 1, Value: money.FromInt(1), Dimensions: []meter.Dimension{{Name: "status", Value: "200"}}}},
		})
	}
	b.Marks = []store.Mark{{Source: "gateway/1", ID: b.Entries[0].Event.ID, Flags: store.Incomplete}}
	w.sign(&b, sequence, from, to)
	return b
}

func (w *world) sign(b *store.Batch, sequence uint64, from, to int64) {
	w.signer.Sign(receive.Statement{Node: 1, Epoch: w.epoch, Sequence: sequence, From: from, To: to}, b)
}

// take must be taken, each entry with an outcome.
func (w *world) take(b store.Batch, want store.Outcome) {
	w.t.Helper()
	results, err := w.Receive(w.t.Context(), &b)
	if err != nil || len(results) != len(b.Entries) {
		w.t.Fatalf("%d results, %v", len(results), err)
	}
	for _, r := range results {
		if r.Outcome != want || r.Digest != b.Entries[0].Event.Digest() {
			w.t.Fatalf("result %+v, want outcome %d", r, want)
		}
	}
}

// refused must be refused for a reason, and be noted; nothing of it is stored.
func (w *world) refused(b store.Batch, why receive.Reason) {
	w.t.Helper()
	before, noted := w.usage(), w.noted(why)
	if _, err := w.Receive(w.t.Context(), &b); !errors.Is(err, receive.ErrRefused) {
		w.t.Fatalf("error %v, want it refused as %s", err, why)
	}
	if got := w.noted(why); got != noted+1 {
		found, err := w.Findings(w.t.Context())
		w.t.Fatalf("noted %d times as %s, before %d: %+v (%v)", got, why, noted, found, err)
	}
	if after := w.usage(); after != before {
		w.t.Fatalf("usage went from %s to %s", before, after)
	}
}

func (w *world) noted(why receive.Reason) int64 {
	w.t.Helper()
	found, err := w.Findings(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range found {
		if f.Reason == string(why) {
			return f.Count
		}
	}
	return 0
}

func (w *world) usage() (sum string) {
	w.t.Helper()
	err := w.journal.View(w.t.Context(), func(v store.View) error {
		r, err := v.Usage(store.SeriesKey{CustomerID: "cus_1", Meter: "calls"}, period.Interval{})
		sum = r.Sum.String()
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return sum
}

func TestBatchesFollowEachOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first, second, third := w.batch(1, 0, 100, 2), w.batch(2, 100, 300, 1), w.batch(3, 300, 310, 1)
	w.refused(second, receive.Gap) // reordered
	w.take(first, store.Accepted)
	w.refused(third, receive.Gap) // missing
	w.take(second, store.Accepted)
	w.take(third, store.Accepted)
	skipped := w.batch(4, 311, 400, 1)
	w.refused(skipped, receive.Gap) // a part of the spool is missing
	w.restart()
	w.refused(skipped, receive.Gap)
	w.take(w.batch(4, 290, 400, 1), store.Accepted) // read again from before
	if got := w.usage(); got != "5" {
		t.Errorf("usage %s", got)
	}
}

// TestNothingToTell: a part of the spool without any settled request is covered by an empty batch.
func TestNothingToTell(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.take(w.batch(1, 0, 100, 1), store.Accepted)
	empty := store.Batch{Producer: "gateway/1", Node: 1, Epoch: w.epoch, ReceivedAt: w.now}
	w.sign(&empty, 2, 100, 900)
	w.take(empty, store.Accepted)
	w.restart()
	w.take(w.batch(3, 900, 1000, 1), store.Accepted)
}

func TestReplays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first, second := w.batch(1, 0, 100, 1), w.batch(2, 100, 200, 1)
	w.take(first, store.Accepted)
	w.take(second, store.Accepted)
	again := func() {
		t.Helper()
		position := w.journal.Stats().Position
		w.take(first, store.Duplicate)
		w.take(second, store.Duplicate)
		if got := w.journal.Stats().Position; got != position {
			t.Errorf("a replay wrote to the journal: %d, before %d", got, position)
		}
	}
	again()
	w.restart()
	again()
	w.begin() // and from a run that is over
	again()
	if st := w.Stats(); st.Duplicates != 4 || len(st.Refused) != 0 {
		t.Errorf("stats %+v", st)
	}
}

// TestNewRun: after a crash the spool is read again from its start, and its batches have other boundaries.
func TestNewRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.take(w.batch(1, 0, 100, 2), store.Accepted)
	unsent := w.batch(2, 100, 200, 1)
	w.begin()
	w.refused(unsent, receive.WrongEpoch)
	w.next = 1 // the second event again, with a new one
	b := w.batch(1, 50, 200, 2)
	results, err := w.Receive(t.Context(), &b)
	if err != nil || results[0].Outcome != store.Duplicate || results[1].Outcome != store.Accepted {
		t.Fatalf("%+v, %v", results, err)
	}
	if got := w.usage(); got != "3" {
		t.Errorf("usage %s", got)
	}
	// A run that begins behind what is covered: the part between is lost, which is noted; refusing would not bring it.
	w.restart()
	w.begin()
	w.refused(w.batch(2, 0, 10, 1), receive.Gap)
	w.take(w.batch(1, 500, 600, 1), store.Accepted)
	if n := w.noted(receive.Lost); n != 1 {
		t.Errorf("noted %d times", n)
	}
}

func TestForgeries(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	good := w.batch(1, 0, 100, 2)
	for name, change := range map[string]func(b *store.Batch){
		"producer":  func(b *store.Batch) { b.Producer = "gateway/2" },
		"epoch":     func(b *store.Batch) { b.Epoch-- },
		"first":     func(b *store.Batch) { b.First++ },
		"last":      func(b *store.Batch) { b.Last++ },
		"received":  func(b *store.Batch) { b.ReceivedAt = b.ReceivedAt.Add(time.Microsecond) },
		"total":     func(b *store.Batch) { b.Totals[0].Total = money.FromInt(9) },
		"no total":  func(b *store.Batch) { b.Totals = nil },
		"mark":      func(b *store.Batch) { b.Marks[0].Flags = store.Recovered },
		"no mark":   func(b *store.Batch) { b.Marks = nil },
		"left out":  func(b *store.Batch) { b.Entries = b.Entries[:1] },
		"swapped":   func(b *store.Batch) { b.Entries[0], b.Entries[1] = b.Entries[1], b.Entries[0] },
		"id":        func(b *store.Batch) { b.Entries[0].Event.ID = "x" },
		"type":      func(b *store.Batch) { b.Entries[0].Event.Type = "x" },
		"subject":   func(b *store.Batch) { b.Entries[0].Event.Subject = "x" },
		"time":      func(b *store.Batch) { b.Entries[0].Event.Time = noon },
		"data":      func(b *store.Batch) { b.Entries[0].Event.Data = []byte(`{"cost":2}`) },
		"trace":     func(b *store.Batch) { b.Entries[0].Event.TraceParent = "x" },
		"flags":     func(b *store.Batch) { b.Entries[0].Flags = 0 },
		"receipt":   func(b *store.Batch) { b.Entries[0].Receipt = nil },
		"key":       func(b *store.Batch) { b.Entries[0].KeyID = "" },
		"unit":      func(b *store.Batch) { b.Entries[0].Unit = "x" },
		"customer":  func(b *store.Batch) { b.Entries[0].Resolutions[0].CustomerID = "cus_2" },
		"meter":     func(b *store.Batch) { b.Entries[0].Resolutions[0].Meter = "x" },
		"value":     func(b *store.Batch) { b.Entries[0].Resolutions[0].Value = money.FromInt(2) },
		"version":   func(b *store.Batch) { b.Entries[0].Resolutions[0].CatalogVersion++ },
		"distinct":  func(b *store.Batch) { b.Entries[0].Resolutions[0].Distinct = "x" },
		"dimension": func(b *store.Batch) { b.Entries[0].Resolutions[0].Dimensions[0].Value = "500" },
		"sequence":  func(b *store.Batch) { b.Signature[12] ^= 2 },
		"offset":    func(b *store.Batch) { b.Signature[20] ^= 1 },
		"signature": func(b *store.Batch) { b.Signature[60] ^= 1 },
	} {
		b := clone(good)
		change(&b)
		t.Log(name)
		w.refused(b, receive.Forged)
	}
	b := clone(good)
	b.Signature = nil
	w.refused(b, receive.Unsigned)
	b.Signature = make([]byte, receive.SignatureBytes)
	w.refused(b, receive.Unsigned)
	b = clone(good)
	signer(t, 2).Sign(receive.Statement{Node: 1, Epoch: w.epoch, Sequence: 1, To: 100}, &b)
	w.refused(b, receive.UnknownKey)
	b.KeyID = good.KeyID // another key under the node's name
	w.refused(b, receive.Forged)

	b = clone(good)
	b.Node = 2 // nobody's: counted, but not kept, or anybody could fill the records
	if _, err := w.Receive(t.Context(), &b); !errors.Is(err, receive.ErrRefused) {
		t.Errorf("of an unknown node: %v", err)
	}
	found, err := w.Findings(t.Context())
	if err != nil || slices.ContainsFunc(found, func(f store.Finding) bool { return f.Node != 1 }) {
		t.Errorf("findings %+v, %v", found, err)
	}
	w.take(good, store.Accepted)
}

// TestForeignContent: a gateway's signature does not let it write for others.
func TestForeignContent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, change := range []func(b *store.Batch){
		func(b *store.Batch) { b.Producer = "api/operator" },
		func(b *store.Batch) { b.Entries[1].Event.Source = "gateway/2" },
		func(b *store.Batch) { b.Entries[1].Origin = meter.Reported },
		func(b *store.Batch) { b.Marks[0].Source = "jobs" },
		func(b *store.Batch) { b.Epoch++ },
	} {
		b := w.batch(1, 0, 100, 2)
		change(&b)
		w.sign(&b, 1, 0, 100)
		w.refused(b, receive.Foreign)
	}
}

func TestKeyRotation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	old, next := w.signer, signer(t, 2)
	w.take(w.batch(1, 0, 100, 1), store.Accepted)
	if again := w.register(old); again.FromEpoch > w.epoch {
		t.Errorf("registered again: %+v", again)
	}
	k := w.register(next)
	w.take(w.batch(2, 100, 200, 1), store.Accepted) // the old one serves this run to its end
	w.begin()
	if k.FromEpoch > w.epoch {
		t.Errorf("key %+v in epoch %d", k, w.epoch)
	}
	w.refused(w.batch(1, 200, 300, 1), receive.UnknownKey) // and no more
	w.signer = next
	w.take(w.batch(1, 200, 300, 1), store.Accepted)
	w.restart()
	w.take(w.batch(2, 300, 400, 1), store.Accepted)
	if _, err := w.Register(t.Context(), 1, old.Public()); !errors.Is(err, account.ErrState) {
		t.Errorf("back to the old key: %v", err)
	}
	if _, err := w.Register(t.Context(), 2, next.Public()); !errors.Is(err, store.ErrExists) {
		t.Errorf("one key for two gateways: %v", err)
	}
	var ids []string
	for _, k := range w.Keys() {
		ids = append(ids, k.ID)
	}
	if d := cmp.Diff([]string{receive.KeyIDOf(old.Public()), receive.KeyIDOf(next.Public())}, ids); d != "" {
		t.Error(d)
	}
}

// TestFloodOfForgeries: a flood is counted in full, but written at most once a second.
func TestFloodOfForgeries(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.batch(1, 0, 100, 1)
	b.First++
	for range 50 {
		w.refused(b, receive.Forged)
	}
	kept := func() int64 {
		list, err := w.records.Findings(t.Context())
		if err != nil || len(list) != 1 {
			t.Fatalf("%+v, %v", list, err)
		}
		return list[0].Count
	}
	if n := kept(); n != 1 {
		t.Errorf("%d were written", n)
	}
	w.now = w.now.Add(time.Second)
	w.refused(b, receive.Forged)
	if n := kept(); n != 51 || w.Stats().Refused[receive.Forged] != 51 {
		t.Errorf("%d kept, stats %+v", n, w.Stats())
	}
}

// failing stands before a journal or records that fail when told to, after they did their work.
type failing struct {
	receive.Journal
	receive.Records
	append, progress error
}

func (f *failing) Append(ctx context.Context, b store.Batch) ([]store.Result, error) {
	results, err := f.Journal.Append(ctx, b)
	return results, errors.Join(err, f.append)
}

func (f *failing) PutProgress(ctx context.Context, p store.Progress) error {
	return errors.Join(f.Records.PutProgress(ctx, p), f.progress)
}

// TestLostAnswers: whatever fails after the work was done, the sender's next try leaves no hole and counts nothing twice.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := &failing{Journal: w.journal, Records: w.records}
	r, err := receive.New(t.Context(), receive.Config{Journal: f, Records: f, Now: func() time.Time { return w.now }, Random: rand.NewChaCha8([32]byte{})})
	if err != nil {
		t.Fatal(err)
	}
	s := receive.NewSender(1, w.signer, r)
	for i, fault := range []*error{&f.append, &f.progress, &f.append} {
		b := w.batch(9, 0, 0, 1) // signed again by the sender
		from := int64(i * 10)
		*fault = fmt.Errorf("away: %w", store.ErrUnknown)
		if _, err := s.Deliver(t.Context(), w.epoch, from, from+10, &b); !errors.Is(err, store.ErrUnknown) {
			t.Fatalf("delivered: %v", err)
		}
		*fault = nil
		if _, err := s.Deliver(t.Context(), w.epoch, from, from+10, &b); err != nil {
			t.Fatal(err)
		}
	}
	if got := w.usage(); got != "3" || len(r.Stats().Refused) > 0 {
		t.Errorf("usage %s, %+v", got, r.Stats())
	}
	b := w.batch(1, 0, 0, 1)
	b.Node = 2
	if _, err := s.Deliver(t.Context(), w.epoch, 0, 1, &b); err == nil {
		t.Error("it signs for another node")
	}
}

func clone(b store.Batch) store.Batch {
	b.Totals, b.Entries, b.Marks, b.Signature = slices.Clone(b.Totals), slices.Clone(b.Entries), slices.Clone(b.Marks), slices.Clone(b.Signature)
	for i := range b.Entries {
		e := &b.Entries[i]
		e.Resolutions = slices.Clone(e.Resolutions)
		for j := range e.Resolutions {
			e.Resolutions[j].Dimensions = slices.Clone(e.Resolutions[j].Dimensions)
		}
	}
	return b
}

// FuzzStatement: what anybody sends as a signature is refused or read, and never passes without the key.
func FuzzStatement(f *testing.F) {
	seed := [32]byte{1}
	s, err := receive.NewSigner(seed[:])
	if err != nil {
		f.Fatal(err)
	}
	b := store.Batch{Node: 1, Producer: "gateway/1", ReceivedAt: noon}
	s.Sign(receive.Statement{Node: 1, Epoch: 2, Sequence: 3, From: 4, To: 5}, &b)
	good := b.Signature
	f.Add(good)
	f.Add([]byte{})
	f.Add(make([]byte, receive.SignatureBytes))
	f.Fuzz(func(t *testing.T, signature []byte) {
		b := store.Batch{Node: 1, Producer: "gateway/1", ReceivedAt: noon, Signature: signature}
		st, err := receive.StatementOf(&b)
		if err == nil && (st.Sequence == 0 || st.From > st.To) {
			t.Errorf("read %+v", st)
		}
		if receive.Verify(s.Public(), &b) != slices.Equal(signature, good) {
			t.Errorf("verified wrongly: %x", signature)
		}
	})
}

// BenchmarkSignAndVerify is what the signature adds to a full batch of the gateway's, both ends together.
func BenchmarkSignAndVerify(b *testing.B) {
	w := &world{now: noon, epoch: 1}
	seed := [32]byte{1}
	var err error
	if w.signer, err = receive.NewSigner(seed[:]); err != nil {
		b.Fatal(err)
	}
	batch := w.batch(1, 0, 1, 1000)
	for b.Loop() {
		w.sign(&batch, 1, 0, 1)
		if !receive.Verify(w.signer.Public(), &batch) {
			b.Fatal("not verified")
		}
	}
}
