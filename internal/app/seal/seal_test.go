package seal_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/seal"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/money"
	coreseal "github.com/tallystick/tallystick/internal/core/seal"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file"
)

func TestCheckpointAMinute(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	ok(t, w.seal.Tick(ctx))
	if _, err := w.seal.Latest(ctx); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("a checkpoint of nothing: %v", err)
	}
	w.report("a", 10)
	first := w.tick()
	c, err := coreseal.Open(first.Note, w.verifier)
	if err != nil || c.Origin != "tallystick/d1" || uint64(c.Size) != first.Size || c.Root != first.Root || first.Size != 11 || !c.Time.Equal(w.now) {
		t.Fatalf("%+v, %v", c, err)
	}
	w.report("b", 10)
	w.now = w.now.Add(59 * time.Second)
	ok(t, w.seal.Tick(ctx))
	if again, err := w.seal.Latest(ctx); err != nil || again.Size != first.Size {
		t.Errorf("a checkpoint before the minute is over: %d, %v", again.Size, err)
	}
	w.now = w.now.Add(time.Second)
	ok(t, w.seal.Tick(ctx))
	if next, err := w.seal.Latest(ctx); err != nil || next.Size != 22 {
		t.Errorf("after the minute: %d, %v", next.Size, err)
	}
	if same := w.tick(); same.Size != 22 {
		t.Errorf("a checkpoint though nothing came: %d", same.Size)
	}
	w.restart(nil)
	w.report("c", 600)
	if last := w.tick(); last.Size != 623 {
		t.Errorf("after a restart: %d", last.Size)
	}
}

func TestOneSealer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.report("a", 1)
	second, err := seal.Open(t.Context(), w.cfg)
	ok(t, err)
	w.now = w.now.Add(time.Minute)
	if err := w.seal.Tick(t.Context()); !errors.Is(err, seal.ErrFenced) {
		t.Errorf("the sealer that was replaced: %v", err)
	}
	ok(t, second.Tick(t.Context()))
}

func TestProveEvent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.report("a", 700)
	w.tick()
	w.report("b", 700)
	var first []byte
	for _, id := range []string{"a0", "a254", "a255", "a256", "a699", "b0", "b699"} {
		b, err := w.seal.ProveEvent(t.Context(), "api", id) // b: signs a checkpoint first
		ok(t, err)
		got, at, err := coreseal.Verify(b, w.verifier)
		if err != nil || got.Event.ID != id || got.Event.Subject != "user 7 of acme" {
			t.Fatalf("%s: %v, %+v", id, err, got.Event)
		}
		if want := map[byte]int64{'a': 701, 'b': 1402}[id[0]]; at.Size != want {
			t.Errorf("%s is proved in a tree of %d, expected %d", id, at.Size, want)
		}
		if id == "a0" {
			first = b
		}
	}
	w.restart(func() { ok(t, os.RemoveAll(filepath.Join(w.journalDir(), "tree"))) })
	again, err := w.seal.ProveEvent(t.Context(), "api", "a0")
	if err != nil || !bytes.Equal(first, again) {
		t.Errorf("the same event after a restart without tiles: %v", err)
	}
	if _, err := w.seal.ProveEvent(t.Context(), "api", "c0"); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("no such event: %v", err)
	}
}

func TestProveLine(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.report("a", 300)
	w.revise(store.Amend, "a1", 5)
	w.revise(store.Void, "a2", 0)
	w.revise(store.Void, "a3", 0)
	w.revise(store.Resolve, "a3", 2)
	id := w.closeMonth()
	if _, err := w.seal.Over(t.Context(), id); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("a checkpoint over the invoice before the tick: %v", err)
	}
	w.revise(store.Amend, "a7", 9) // late
	w.report("late", 3)
	ok(t, w.seal.Tick(t.Context())) // no minute is over, a close was sealed
	over, err := w.seal.Over(t.Context(), id)
	ok(t, err)
	for _, events := range []bool{false, true} {
		b, err := w.seal.ProveLine(t.Context(), id, "1", events)
		ok(t, err)
		got, at, err := coreseal.Verify(b, w.verifier)
		ok(t, err)
		s := got.Line.Close.Series[0]
		// 300 events, one counts 5 and one 2, one was voided: 300 − 1 + 4 + 1.
		if got.Line.Line.Quantity.String() != "304" || s.Count != 299 || s.Value.String() != "304" || uint64(at.Size) != over.Size {
			t.Errorf("line %+v, series %+v in a tree of %d", got.Line.Line, s, at.Size)
		}
		if want := map[bool]int{true: 299 + 2}[events]; len(got.Line.Events) != want { // with the two revisions that stood
			t.Errorf("%d events, expected %d", len(got.Line.Events), want)
		}
	}
	if b, err := w.seal.ProveLine(t.Context(), id, "iln_1", false); err != nil || !bytes.Contains(b, []byte("iln_1")) {
		t.Errorf("by id: %v", err)
	}
	for _, bad := range [][2]string{{id, "2"}, {"inv_2", "1"}, {"", "1"}} {
		if _, err := w.seal.ProveLine(t.Context(), bad[0], bad[1], false); !errors.Is(err, account.ErrNotFound) {
			t.Errorf("%v: %v", bad, err)
		}
	}
	if r := w.audit(nil); len(r.Findings) > 0 || r.Closes != 1 || r.Events != 303 {
		t.Errorf("audit: %+v", r)
	}
}

// TestSealRefusesChangedHistory: nothing is signed over a log that does not lead to what was signed before.
func TestSealRefusesChangedHistory(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.report("a", 600)
	w.tick()
	w.forge("a9", func(r *file.Record) { r.Resolutions[0].Value = money.FromInt(1000) })
	w.report("b", 1)
	w.now = w.now.Add(time.Minute)
	if err := w.seal.Tick(t.Context()); !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), "tally audit") {
		t.Errorf("a changed log got a checkpoint: %v", err)
	}
	ok(t, w.seal.Tick(t.Context())) // it is said once a minute
	w.now = w.now.Add(time.Minute)
	if err := w.seal.Tick(t.Context()); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("a minute later: %v", err)
	}
	if _, err := w.seal.Checkpoint(t.Context()); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("on demand: %v", err)
	}
}

// TestForget: an event whose payload was erased, with its commitment in the log, is proved without its subject's key. The
// payload cannot be tested against the commitment any more.
func TestForget(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.report("a", 300)
	w.tick()
	const subject = "user 7 of acme"
	keys, err := w.records.SubjectKeys(t.Context(), []string{subject}, make([][32]byte, 1))
	ok(t, err)
	commitments := map[uint64]coreseal.Commitment{}
	_, err = w.journal.Leaves(t.Context(), 1, 1000, func(l store.Leaf) (err error) {
		if l.Payload != nil {
			commitments[l.Position], err = coreseal.CommitRecord(keys[0][:], l.Position, l.Head, l.Payload)
		}
		return err
	})
	ok(t, err)
	w.restart(func() {
		ok(t, file.Rewrite(w.journalDir(), func(r *file.Record) bool {
			c, committed := commitments[r.Position]
			if !committed {
				return false
			}
			r.Event.Subject, r.Event.Data = "", nil
			r.Commitment, r.Erased = c[:], 1
			return true
		}))
	})
	ok(t, w.seal.Forget(t.Context(), subject))
	b, err := w.seal.ProveEvent(t.Context(), "api", "a17")
	ok(t, err)
	got, _, err := coreseal.Verify(b, w.verifier)
	if err != nil || !got.Event.Erased || got.Event.Subject != "" || got.Event.Counts[0].Value.String() != "1" {
		t.Errorf("%+v, %v", got.Event, err)
	}
	if r := w.audit(nil); len(r.Findings) > 0 {
		t.Errorf("%+v", r.Findings)
	}
	w.report("b", 3) // of the same person: under a new key
	w.tick()
	if r := w.audit(nil); len(r.Findings) > 0 {
		t.Errorf("%+v", r.Findings)
	}
}

// TestAtOnce appends, signs, proves and closes at the same time; afterwards all adds up.
func TestAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.report("a", 300)
	fixed := w.now
	var group sync.WaitGroup
	for n := range 3 {
		group.Go(func() {
			for i := range 20 {
				_, err := w.journal.Append(t.Context(), store.Batch{Producer: "api", ReceivedAt: fixed, Entries: []store.Entry{event(fmt.Sprintf("x%d-%d", n, i), start, 1)}})
				if err != nil {
					t.Error(err)
				}
			}
		})
		group.Go(func() {
			for i := range 10 {
				if _, err := w.seal.Checkpoint(t.Context()); err != nil {
					t.Error(err)
				}
				b, err := w.seal.ProveEvent(t.Context(), "api", fmt.Sprintf("a%d", 100*n+i))
				if err == nil {
					_, _, err = coreseal.Verify(b, w.verifier)
				}
				if err != nil {
					t.Error(err)
				}
				_ = w.seal.Stats()
			}
		})
	}
	w.closeMonth()
	group.Wait()
	w.tick()
	if r := w.audit(nil); len(r.Findings) > 0 || r.Events != 360 {
		t.Errorf("%+v", r)
	}
}

// TestForgottenKeyIsNotUsedAgain: what comes after forgetting is under a key that the records have.
func TestForgottenKeyIsNotUsedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.report("a", 3)
	w.tick() // the key is in memory
	key := func() [32]byte {
		keys, err := w.records.SubjectKeys(t.Context(), []string{"user 7 of acme"}, make([][32]byte, 1))
		ok(t, err)
		return keys[0]
	}
	before := key()
	ok(t, w.seal.ForgetUnless(t.Context(), "user 7 of acme", func() (bool, error) { return true, nil }))
	if key() != before {
		t.Error("the key is gone though a payload came meanwhile")
	}
	ok(t, w.seal.Forget(t.Context(), "user 7 of acme"))
	w.report("b", 3)
	if _, err := w.seal.ProveEvent(t.Context(), "api", "b1"); err != nil {
		t.Error(err)
	}
}

// forge edits the events of an id with all checksums mended, and drops what else was derived from the log.
func (w *world) forge(id string, edit func(*file.Record)) {
	w.t.Helper()
	w.restart(func() {
		ok(w.t, file.Rewrite(w.journalDir(), func(r *file.Record) bool {
			if r.Event.ID != id || len(r.Resolutions) == 0 {
				return false
			}
			edit(r)
			return true
		}))
		for _, derived := range []string{"tree", "index"} {
			ok(w.t, os.RemoveAll(filepath.Join(w.journalDir(), derived)))
		}
	})
}

// TestAuditFindsKeptIndex: the index on disk is not read from the log again when opening, so it tells on a forger who forgot it.
func TestAuditFindsKeptIndex(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.report("a", 300)
	ok(t, w.journal.Tick(t.Context()))
	w.restart(func() {
		if _, err := os.Stat(filepath.Join(w.journalDir(), "index")); err != nil {
			t.Fatal(err)
		}
		ok(t, file.Rewrite(w.journalDir(), func(r *file.Record) bool {
			if r.Event.ID != "a17" {
				return false
			}
			r.Resolutions[0].Value = money.FromInt(2)
			return true
		}))
	})
	r := w.audit(nil)
	if len(r.Findings) != 2 || !strings.Contains(r.Findings[0].What, "a rollup differs") || !strings.Contains(r.Findings[1].What, "reported") {
		t.Errorf("%+v", r.Findings)
	}
}

// TestAuditFindsForgery has each kind of change with CRC, index and tiles mended, against the stored checkpoints and, where the
// forger signs new ones, against one that was kept elsewhere.
func TestAuditFindsForgery(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*file.Record){
		"value":     func(r *file.Record) { r.Resolutions[0].Value = money.FromInt(2) },
		"customer":  func(r *file.Record) { r.Resolutions[0].CustomerID = "cus_2" },
		"time":      func(r *file.Record) { r.Event.Time = r.Event.Time.Add(time.Hour) },
		"data":      func(r *file.Record) { r.Event.Data = []byte(`{"n":7}`); r.Digest = r.Event.Digest() },
		"data only": func(r *file.Record) { r.Event.Data = []byte(`{"n":7}`) },
		"subject":   func(r *file.Record) { r.Event.Subject = "user 8 of acme" },
		"id":        func(r *file.Record) { r.Event.ID = "zz" },
		"removed":   func(r *file.Record) { r.Resolutions = nil; r.Event.ID, r.Event.Data = "gone", nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.report("a", 300)
			kept := w.tick()
			w.report("b", 300)
			w.tick()
			if r := w.audit(kept.Note); len(r.Findings) > 0 || r.Checkpoints != 2 || r.Records != 602 || r.Events != 600 {
				t.Fatalf("before the forgery: %+v", r)
			}
			w.forge("a17", edit)
			r := w.audit(nil)
			if len(r.Findings) != 1 || !strings.Contains(r.Findings[0].What, "records 1 to 301") || r.Findings[0].Expected == r.Findings[0].Found {
				t.Fatalf("against the stored checkpoints: %+v", r.Findings)
			}
			w.forgeCheckpoints()
			if r := w.audit(nil); len(r.Findings) > 0 {
				t.Fatalf("the forger holds the key and left nothing to find, but: %+v", r.Findings)
			}
			if r := w.audit(kept.Note); len(r.Findings) != 1 || !strings.Contains(r.Findings[0].Where, "301 leaves") {
				t.Fatalf("against the checkpoint kept elsewhere: %+v", r.Findings)
			}
		})
	}
}

// forgeCheckpoints makes the records anew and signs the forged log with the stolen key.
func (w *world) forgeCheckpoints() {
	w.t.Helper()
	w.restart(func() {
		for _, name := range []string{"records.db", "records.db-wal", "records.db-shm"} {
			if err := os.Remove(filepath.Join(w.dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
				w.t.Fatal(err)
			}
		}
	})
	w.tick()
}

func TestAuditFindsShortLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.report("a", 3)
	w.tick()
	segment := filepath.Join(w.journalDir(), "00000001.log")
	before, err := os.ReadFile(segment)
	ok(t, err)
	w.report("b", 3)
	kept := w.tick()
	w.restart(func() { ok(t, os.WriteFile(segment, before, 0o600)) })
	r := w.audit(kept.Note)
	if len(r.Findings) == 0 || !strings.Contains(r.Findings[0].What, "shorter") {
		t.Errorf("%+v", r.Findings)
	}
}

// TestAuditFindsDamage: a flipped bit in the log while the server runs.
func TestAuditFindsDamage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.report("a", 30)
	w.tick()
	segment := filepath.Join(w.journalDir(), "00000001.log")
	b, err := os.ReadFile(segment)
	ok(t, err)
	b[bytes.Index(b, []byte("a17"))] = 'x'
	ok(t, os.WriteFile(segment, b, 0o600))
	r := w.audit(nil)
	if len(r.Findings) != 1 || !strings.Contains(r.Findings[0].Where, "00000001.log at byte") || r.Findings[0].Position == 0 {
		t.Errorf("%+v", r.Findings)
	}
}

func TestAuditFindsTiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.report("a", 600)
	w.tick()
	ok(t, w.tiles.Truncate(1))
	ok(t, w.tiles.Append([][32]byte{{1}}))
	r := w.audit(nil)
	if len(r.Findings) != 1 || !strings.Contains(r.Findings[0].What, "records 257 to 512") {
		t.Errorf("%+v", r.Findings)
	}
	ok(t, w.tiles.Append([][32]byte{{2}}))
	if r := w.audit(nil); len(r.Findings) != 2 {
		t.Errorf("%+v", r.Findings)
	}
	w.restart(nil) // the sealer mends them
	w.report("b", 1)
	w.tick()
	if r := w.audit(nil); len(r.Findings) != 0 {
		t.Errorf("%+v", r.Findings)
	}
}

func TestAuditFindsInvoice(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.report("a", 30)
	w.closeMonth()
	w.tick()
	if r := w.audit(nil); len(r.Findings) != 0 {
		t.Fatalf("%+v", r.Findings)
	}
	cfg := w.cfg
	for says, invoices := range map[string]altered{
		"an invoice differs":          {lines: func(l []invoice.Line) { l[0].Quantity = money.FromInt(1) }},
		"a sealed invoice is missing": {missing: true},
		"an invoice was never sealed": {more: []invoice.Invoice{{ID: "inv_2", Position: 40}}},
	} {
		invoices.Invoices = cfg.Invoices
		r, err := seal.Audit(t.Context(), seal.Audited{
			Seals: cfg.Seals, Keys: cfg.Keys, Invoices: invoices, Journal: cfg.Journal, Verifier: cfg.Verifier, Random: cfg.Random,
		})
		if err != nil || len(r.Findings) != 1 || !strings.HasPrefix(r.Findings[0].What, says) || !strings.HasPrefix(r.Findings[0].Where, "invoice inv_") {
			t.Errorf("%s: %+v, %v", says, r.Findings, err)
		}
	}
}

// slow lets a test look while the checkpoints are read.
type slow struct {
	store.Seals
	during func()
}

func (s slow) Checkpoints(ctx context.Context, before uint64, limit int) ([]store.Checkpoint, error) {
	s.during()
	return s.Seals.Checkpoints(ctx, before, limit)
}

// TestOneAuditAtATime: each takes memory for every event.
func TestOneAuditAtATime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var second error
	var s *seal.Service
	w.cfg.Seals = slow{w.records, func() {
		if s != nil { // it is open
			_, second = s.Audit(t.Context(), nil, "")
		}
	}}
	s, err := seal.Open(t.Context(), w.cfg)
	ok(t, err)
	second = nil
	if _, err := s.Audit(t.Context(), nil, ""); err != nil || !errors.Is(second, account.ErrState) {
		t.Errorf("first %v, second %v", err, second)
	}
}
