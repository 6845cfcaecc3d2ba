package bill_test

import (
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/store/file"
)

// rewriteJournal alters stored records the way nobody should, and opens the journal again.
func (w *world) rewriteJournal(edit func(*file.Record) bool) {
	w.tb.Helper()
	if err := w.journal.Close(); err != nil {
		w.tb.Fatalf("close journal: %v", err)
	}
	if err := file.Rewrite(filepath.Join(w.dir, "journal"), edit); err != nil {
		w.tb.Fatalf("rewrite journal: %v", err)
	}
	w.openJournal()
	w.restart(nil)
}

func TestBooksShowAnAlteredAdmittedTotal(t *testing.T) {
	t.Parallel()
	w := altered(t)
	w.rewriteJournal(func(r *file.Record) bool {
		for i, total := range r.Totals {
			if total.PeriodStart == date(2026, 1, 1).UnixMicro() {
				r.Totals[i].Total = money.FromInt(99)
				return true
			}
		}
		return false
	})
	want := []string{
		"2026-02-01 acme api_calls: admitted 10 reported 5 metered 15 rated 15 unpriced 0 late 0 difference 0",
		"2026-01-01 acme api_calls: admitted 99 reported 50 metered 150 rated 150 unpriced 0 late 0 difference 1",
	}
	if diff := cmp.Diff(want, rowsOf(w.books())); diff != "" {
		t.Errorf("books (-want +got):\n%s", diff)
	}
}

// TestBooksShowAnAlteredRollup alters the reading of an admitted event, from which the rollup is rebuilt. In the closed
// period neither enforcement nor the invoice agree with it; in the open one the preview follows it.
func TestBooksShowAnAlteredRollup(t *testing.T) {
	t.Parallel()
	for name, want := range map[string][]string{
		"g1": {
			"2026-02-01 acme api_calls: admitted 10 reported 5 metered 15 rated 15 unpriced 0 late 0 difference 0",
			"2026-01-01 acme api_calls: admitted 100 reported 50 metered 153 rated 150 unpriced 0 late 0 difference 6",
		},
		"g2": {
			"2026-02-01 acme api_calls: admitted 10 reported 5 metered 18 rated 18 unpriced 0 late 0 difference 3",
			"2026-01-01 acme api_calls: admitted 100 reported 50 metered 150 rated 150 unpriced 0 late 0 difference 0",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := altered(t)
			w.rewriteJournal(func(r *file.Record) bool {
				if r.Event.ID != name {
					return false
				}
				v, err := r.Resolutions[0].Value.Add(money.FromInt(3))
				if err != nil {
					t.Error(err)
				}
				r.Resolutions[0].Value = v
				return true
			})
			if diff := cmp.Diff(want, rowsOf(w.books())); diff != "" {
				t.Errorf("books (-want +got):\n%s", diff)
			}
		})
	}
}
