package ledgertest

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tallystick/tallystick/internal/core/ledger"
	"github.com/tallystick/tallystick/internal/store"
)

func export(n int) store.Export {
	return store.Export{
		ID: fmt.Sprintf("exp_%026d", n), Name: fmt.Sprint("stream-", n), To: "kafka://broker:9092/usage?user=ü&password_env=TALLY_EXPORT_PW",
		Events: n%2 == 1, Entries: true, CreatedAt: noon(n), Cursor: store.Cursor{Position: uint64(n), Entry: int64(2 * n)},
	}
}

// exportsKept: they are found by id and name, listed, paused, deleted; each with its audit entry.
func exportsKept(w *world) {
	ctx := w.Context()
	a, b := export(1), export(2)
	w.ok(w.r.PutExport(ctx, a, w.audit()))
	w.ok(w.r.PutExport(ctx, b, w.audit()))
	other := export(3)
	other.Name = a.Name
	w.refused("taken name", w.r.PutExport(ctx, other, w.audit()), store.ErrExists)
	other = export(1)
	other.Name = "other"
	w.refused("taken id", w.r.PutExport(ctx, other, w.audit()), store.ErrExists)
	for _, ref := range []string{a.ID, a.Name} {
		got, err := w.r.Export(ctx, ref)
		w.ok(err)
		w.same("export "+ref, got, a)
	}
	_, err := w.r.Export(ctx, "nobody")
	w.refused("unknown", err, store.ErrNotFound)
	all, err := w.r.ListExports(ctx, store.Query{Limit: 10})
	w.ok(err)
	w.same("all", all, []store.Export{b, a})
	all, err = w.r.ListExports(ctx, store.Query{Limit: 1, Cursor: b.ID})
	w.ok(err)
	w.same("behind the first", all, []store.Export{a})

	w.ok(w.r.FailExport(ctx, a.ID, a.Cursor, store.ExportFailure{Error: "down", At: noon(3), NextAt: noon(4)}))
	got, err := w.r.PauseExport(ctx, a.ID, true, w.audit())
	w.ok(err)
	a.Paused, a.Failures, a.LastError, a.FailedAt, a.NextAt = true, 1, "down", noon(3), noon(4)
	w.same("paused", got, a)
	before, err := w.r.ListAudit(ctx, store.Query{Limit: 100})
	w.ok(err)
	_, err = w.r.PauseExport(ctx, a.ID, true, w.audit())
	w.ok(err)
	after, err := w.r.ListAudit(ctx, store.Query{Limit: 100})
	w.ok(err)
	w.same("audit entries after pausing again", len(after), len(before))
	got, err = w.r.PauseExport(ctx, a.ID, false, w.audit())
	w.ok(err)
	a.Paused, a.NextAt = false, time.Time{}
	w.same("resumed", got, a)
	_, err = w.r.PauseExport(ctx, "exp_none", true, w.audit())
	w.refused("pause none", err, store.ErrNotFound)

	w.ok(w.r.DeleteExport(ctx, a.ID, w.audit()))
	w.refused("delete again", w.r.DeleteExport(ctx, a.ID, w.audit()), store.ErrNotFound)
	w.refused("move a deleted one", w.r.MoveExport(ctx, a.ID, a.Cursor, a.Cursor, noon(9)), store.ErrNotFound)
	w.refused("fail a deleted one", w.r.FailExport(ctx, a.ID, a.Cursor, store.ExportFailure{At: noon(9)}), store.ErrNotFound)
	again := export(4)
	again.Name = a.Name
	w.ok(w.r.PutExport(ctx, again, w.audit()))
}

// exportsMove: the cursor goes forward only, and only from where the caller believes it.
func exportsMove(w *world) {
	ctx := w.Context()
	e := export(1)
	w.ok(w.r.PutExport(ctx, e, w.audit()))
	start, next := e.Cursor, store.Cursor{Position: 1 << 40, Entry: 2}
	w.ok(w.r.FailExport(ctx, e.ID, start, store.ExportFailure{Error: "down", At: noon(2), NextAt: noon(3)}))
	w.ok(w.r.FailExport(ctx, e.ID, start, store.ExportFailure{Error: "still", At: noon(3), NextAt: noon(5)}))
	got, err := w.r.Export(ctx, e.ID)
	w.ok(err)
	e.Failures, e.LastError, e.FailedAt, e.NextAt = 2, "still", noon(3), noon(5)
	w.same("failing", got, e)
	w.ok(w.r.MoveExport(ctx, e.ID, start, next, noon(6)))
	got, err = w.r.Export(ctx, e.ID)
	w.ok(err)
	e.Cursor, e.MovedAt, e.Failures, e.NextAt = next, noon(6), 0, time.Time{}
	w.same("moved", got, e)

	w.refused("from where it was", w.r.MoveExport(ctx, e.ID, start, store.Cursor{Position: 1 << 41, Entry: 9}, noon(7)), store.ErrConflict)
	w.refused("a failure from where it was", w.r.FailExport(ctx, e.ID, start, store.ExportFailure{Error: "old", At: noon(7)}), store.ErrConflict)
	for _, back := range []store.Cursor{{Position: next.Position - 1, Entry: next.Entry}, {Position: next.Position, Entry: next.Entry - 1}} {
		w.refused("back", w.r.MoveExport(ctx, e.ID, next, back, noon(7)), store.ErrInvalid)
	}
	got, err = w.r.Export(ctx, e.ID)
	w.ok(err)
	w.same("after what was refused", got, e)
}

// exportsRace: of several that move from the same place one does.
func exportsRace(w *world) {
	e := export(1)
	w.ok(w.r.PutExport(w.Context(), e, w.audit()))
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		wg.Go(func() {
			errs[i] = w.r.MoveExport(w.Context(), e.ID, e.Cursor, store.Cursor{Position: e.Position + uint64(i), Entry: e.Entry + 1}, noon(2))
		})
	}
	wg.Wait()
	moved := 0
	for _, err := range errs {
		if err == nil {
			moved++
		} else if !errors.Is(err, store.ErrConflict) {
			w.Errorf("lost the race: %v", err)
		}
	}
	w.same("movers", moved, 1)
}

// entriesInOrder: who follows the log of entries while several write misses none and sees each once.
func entriesInOrder(w *world) {
	ctx := w.Context()
	last, err := w.r.LastEntry(ctx)
	w.ok(err)
	w.same("last of none", last, int64(0))
	const writers, each = 4, 25
	entries := make([][]ledger.Entry, writers)
	audits := make([][]store.Audit, writers)
	for i := range writers {
		for n := range each {
			entries[i] = append(entries[i], w.deposit(1+i*each+n, 1+i%2, int64(1+n)))
			audits[i] = append(audits[i], w.audit())
		}
	}
	var wg sync.WaitGroup
	faults := make([]error, writers)
	for i := range writers {
		wg.Go(func() {
			for n := range each {
				faults[i] = errors.Join(faults[i], w.r.PutEntries(ctx, entries[i][n:n+1], audits[i][n]))
			}
		})
	}
	written := make(chan struct{})
	go func() { wg.Wait(); close(written) }()
	seen := map[string]bool{}
	follow := func() {
		for {
			page, err := w.r.EntriesAfter(ctx, last, 7)
			w.ok(err)
			for _, e := range page {
				if e.Number <= last || seen[e.ID] {
					w.Fatalf("entry %s has number %d behind %d, or came twice", e.Key, e.Number, last)
				}
				w.ok(e.Check())
				last, seen[e.ID] = e.Number, true
			}
			if len(page) < 7 {
				return
			}
		}
	}
	for done := false; !done; {
		select {
		case <-written:
			done = true
		default:
		}
		follow()
	}
	w.ok(errors.Join(faults...))
	w.same("entries seen", len(seen), writers*each)
	newest, err := w.r.LastEntry(ctx)
	w.ok(err)
	w.same("last entry", newest, last)
	rest, err := w.r.EntriesAfter(ctx, last, 1000)
	w.ok(err)
	w.same("behind the last", len(rest), 0)
}
