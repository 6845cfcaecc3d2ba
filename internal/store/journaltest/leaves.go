package journaltest

import (
	"bytes"
	"context"
	"errors"

	"github.com/tallystick/tallystick/internal/store"
)

// leaves copies what the tree would see.
func (w *ledger) leaves(from uint64, limit int) (all []store.Leaf, next uint64) {
	w.t.Helper()
	next, err := w.journal.Leaves(w.t.Context(), from, limit, func(l store.Leaf) error {
		l.Head, l.Payload, l.Document = bytes.Clone(l.Head), bytes.Clone(l.Payload), bytes.Clone(l.Document)
		all = append(all, l)
		return nil
	})
	if err != nil {
		w.t.Fatalf("Leaves: %v", err)
	}
	return all, next
}

func journalLeaves(w *ledger) {
	if all, next := w.leaves(1, 10); len(all) > 0 || next != 1 {
		w.t.Errorf("%d leaves of nothing, then %d", len(all), next)
	}
	a, b := entry("a", minute(0), "1"), entry("b", minute(1), "2")
	b.Event.Subject = "bolt"
	w.append(store.Batch{Producer: "p", Entries: []store.Entry{a, b}, Signature: []byte{1, 2}, KeyID: "key"})
	amendment := entry("a", minute(0), "3")
	amendment.Event.Subject = "carol"
	w.revise(revision(store.Amend, amendment), revision(store.Void, b))
	position, err := w.journal.Seal(w.t.Context(), []byte("the month of March"))
	if err != nil || position != w.position() {
		w.t.Fatalf("sealed at %d of %d: %v", position, w.position(), err)
	}
	w.fails("cut", w.journal.Cut(w.t.Context(), "cus_acme", minute(7)), nil)
	var first []store.Leaf
	w.twice(func() {
		all, next := w.leaves(1, 100)
		if next != w.position()+1 || len(all) != int(w.position()) {
			w.t.Fatalf("%d leaves, then %d; the journal is at %d", len(all), next, w.position())
		}
		var subjects, names []string
		for i, l := range all {
			if l.Position != uint64(i)+1 || len(l.Head) == 0 || (l.Payload == nil) != (l.Subject == "") || l.Commitment != nil {
				w.t.Errorf("leaf %d: %+v", i, l)
			}
			if l.Subject != "" {
				subjects = append(subjects, l.Subject)
			}
			if l.ID != "" {
				names = append(names, l.Source+" "+l.ID)
			}
			if (l.Position == position) != (string(l.Document) == "the month of March") {
				w.t.Errorf("document %q at %d", l.Document, l.Position)
			}
		}
		w.same("subjects", []string{"acme", "bolt", "carol"}, subjects)
		w.same("events", []string{"gateway/1 a", "gateway/1 b"}, names)
		for from := uint64(1); from <= w.position(); from++ {
			some, next := w.leaves(from, 2)
			w.same("some leaves", all[from-1:min(int(from)+1, len(all))], some)
			if next != from+uint64(len(some)) {
				w.t.Errorf("from %d: next is %d after %d", from, next, len(some))
			}
		}
		if first != nil {
			w.same("leaves of the reopened journal", first, all)
		}
		first = all
	})
	w.refusesLeaves()
}

func (w *ledger) refusesLeaves() {
	failed := errors.New("enough")
	next, err := w.journal.Leaves(w.t.Context(), 1, 10, func(l store.Leaf) error {
		if l.Position == 3 {
			return failed
		}
		return nil
	})
	w.fails("stopped", err, failed)
	if next != 3 {
		w.t.Errorf("stopped at %d", next)
	}
	_, err = w.journal.Leaves(w.t.Context(), 0, 10, func(store.Leaf) error { return nil })
	w.fails("position 0", err, store.ErrInvalid)
	for _, document := range [][]byte{nil, make([]byte, 1<<20+1)} {
		_, err := w.journal.Seal(w.t.Context(), document)
		w.fails("document", err, store.ErrInvalid)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	cancel()
	_, err = w.journal.Leaves(ctx, 1, 10, func(store.Leaf) error { return nil })
	w.fails("cancelled", err, context.Canceled)
}
