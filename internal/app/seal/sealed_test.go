package seal_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/store/file"
)

// TestAuditFindsForgeryInASealedSegment has an event changed in a segment that is compressed, with the checks of its record,
// block and file mended, the index and the tree made anew, and checkpoints signed with the stolen key: only one that was kept
// elsewhere tells.
func TestAuditFindsForgeryInASealedSegment(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*file.Record){
		"value":    func(r *file.Record) { r.Resolutions[0].Value = money.FromInt(2) },
		"customer": func(r *file.Record) { r.Resolutions[0].CustomerID = "cus_2" },
		"time":     func(r *file.Record) { r.Event.Time = r.Event.Time.Add(time.Hour) },
		"data":     func(r *file.Record) { r.Event.Data = []byte(`{"n":7}`); r.Digest = r.Event.Digest() },
		"id":       func(r *file.Record) { r.Event.ID = "zz" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.segments = 16 << 10
			w.restart(nil)
			for _, batch := range []string{"a", "b", "c"} {
				w.report(batch, 100)
			}
			kept := w.tick()
			w.report("d", 100)
			w.tick()
			for more := true; more; {
				var err error
				more, err = w.journal.Compact(t.Context())
				ok(t, err)
			}
			sealed := filepath.Join(w.journalDir(), "00000001.seg")
			before, err := os.ReadFile(sealed)
			ok(t, err)
			if r := w.audit(kept.Note); len(r.Findings) > 0 || r.Records != 404 {
				t.Fatalf("before the forgery: %+v", r)
			}
			w.forge("a17", edit)
			if after, err := os.ReadFile(sealed); err != nil || string(after) == string(before) {
				t.Fatalf("the sealed segment is as it was, %v", err)
			}
			if r := w.audit(nil); len(r.Findings) != 1 || !strings.Contains(r.Findings[0].What, "records 1 to 303") {
				t.Fatalf("against the stored checkpoints: %+v", r.Findings)
			}
			if r := w.audit(kept.Note); len(r.Findings) != 1 || !strings.Contains(r.Findings[0].What, "records 1 to 303") {
				t.Fatalf("against the one that was kept, too: %+v", r.Findings)
			}
			w.forgeCheckpoints()
			if r := w.audit(nil); len(r.Findings) > 0 {
				t.Fatalf("the forger holds the key and left nothing to find, but: %+v", r.Findings)
			}
			if r := w.audit(kept.Note); len(r.Findings) != 1 || !strings.Contains(r.Findings[0].Where, "303 leaves") {
				t.Fatalf("against the checkpoint kept elsewhere: %+v", r.Findings)
			}
		})
	}
}
