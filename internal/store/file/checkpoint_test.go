package file_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file"
)

var errDifferent = errors.New("a wrong answer")

// filled is a folder with a journal whose index lies on disk, and some events behind it. It returns the ids.
func filled(t *testing.T) (dir string, ids []string) {
	t.Helper()
	dir = t.TempDir()
	j := open(t, file.Config{Dir: dir, SegmentBytes: 4 << 10, Checkpoint: 20})
	for i := range 60 {
		ids = append(ids, fmt.Sprintf("event%03d", i))
		mustSend(t, j, store.Accepted, ids[i])
	}
	if _, err := j.Revise(t.Context(), store.Revisions{Actor: "a", Reason: "r", At: at(3), List: []store.Revision{
		{Source: "gateway/1", ID: ids[3], Kind: store.Void, If: store.AnyRevision},
	}}); err != nil {
		t.Fatal(err)
	}
	if err := j.Tick(t.Context()); err != nil {
		t.Fatal(err)
	}
	closeJournal(t, j)
	j = open(t, file.Config{Dir: dir, SegmentBytes: 4 << 10})
	mustSend(t, j, store.Accepted, "behind")
	closeJournal(t, j)
	return dir, append(ids, "behind")
}

// answers asks for all that was appended: every event is there once, is a duplicate, and counts unless it was voided.
func answers(j *file.Journal, ids []string) error {
	seen := map[string]bool{}
	s := store.Scan{Limit: 1000}
	for {
		page, err := j.Scan(context.Background(), s)
		if err != nil {
			return err
		}
		for _, r := range page.Records {
			if seen[r.Event.ID] || r.Voided != (r.Event.ID == ids[3]) {
				return fmt.Errorf("%w: event %s", errDifferent, r.Event.ID)
			}
			seen[r.Event.ID] = true
		}
		if s.Cursor = page.Next; s.Cursor == "" {
			break
		}
	}
	if len(seen) != len(ids) {
		return fmt.Errorf("%w: %d events of %d", errDifferent, len(seen), len(ids))
	}
	results, err := send(j, ids...)
	if err != nil {
		return err
	}
	for i, r := range results {
		if r.Outcome != store.Duplicate {
			return fmt.Errorf("%w: event %s has outcome %d", errDifferent, ids[i], r.Outcome)
		}
	}
	return j.View(context.Background(), func(v store.View) error {
		r, err := v.Usage(store.SeriesKey{CustomerID: "cus_1", Meter: "api_calls"}, period.Interval{})
		if err == nil && r.Count != int64(len(ids)-1) {
			err = fmt.Errorf("%w: %d events counted of %d", errDifferent, r.Count, len(ids)-1)
		}
		voided, err2 := v.Voided(store.SeriesKey{CustomerID: "cus_1", Meter: "api_calls"}, period.Interval{})
		if err2 == nil && voided.String() != "1" {
			err2 = fmt.Errorf("%w: %v voided", errDifferent, voided)
		}
		return errors.Join(err, err2)
	})
}

// reopened opens a folder and asks; what the journal refuses names the index.
func reopened(t *testing.T, what, dir string, ids []string) {
	t.Helper()
	j, err := file.Open(file.Config{Dir: dir, SegmentBytes: 4 << 10})
	if err == nil {
		err = answers(j, ids)
		_ = j.Close() // a damaged index may say so once more
	}
	if errors.Is(err, errDifferent) || err != nil && !strings.Contains(err.Error(), "index") {
		t.Errorf("%s: %v", what, err)
	}
	if err == nil {
		return
	}
	// What it says: stop, and start again.
	if j, err = file.Open(file.Config{Dir: dir, SegmentBytes: 4 << 10}); err == nil {
		err = errors.Join(answers(j, ids), j.Close())
	}
	if err != nil {
		t.Errorf("%s, started again: %v", what, err)
	}
}

func indexFiles(t *testing.T, dir string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(dir, "index"), func(name string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			names = append(names, name)
		}
		return err
	})
	if err != nil || len(names) < 3 {
		t.Fatalf("files of the index: %v, %v", names, err)
	}
	return names
}

func TestIndexIsKept(t *testing.T) {
	t.Parallel()
	dir, ids := filled(t)
	j := open(t, file.Config{Dir: dir, SegmentBytes: 4 << 10})
	defer closeJournal(t, j)
	if s := j.Stats(); s.Fresh > 10 || s.Events != len(ids) || s.IndexBytes == 0 {
		t.Errorf("%+v: most should come from the index", s)
	}
	if err := answers(j, ids); err != nil {
		t.Error(err)
	}
}

// TestDamagedIndex: an index that is gone, cut short, changed, or of another journal is made anew, or refused by name.
func TestDamagedIndex(t *testing.T) {
	t.Parallel()
	dir, ids := filled(t)
	gone := copyDir(t, dir)
	if err := os.RemoveAll(filepath.Join(gone, "index")); err != nil {
		t.Fatal(err)
	}
	reopened(t, "removed", gone, ids)
	for i, name := range indexFiles(t, dir) {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, size := range []int{-1, 0, len(content) / 2, max(0, len(content)-1)} {
			bad := copyDir(t, dir)
			at := indexFiles(t, bad)[i]
			if size < 0 {
				err = os.Remove(at)
			} else {
				err = os.Truncate(at, int64(size))
			}
			if err != nil {
				t.Fatal(err)
			}
			reopened(t, fmt.Sprintf("%s cut to %d of %d", filepath.Base(at), size, len(content)), bad, ids)
		}
		step := max(1, len(content)/12)
		for k := 0; k < len(content); k += step {
			bad := copyDir(t, dir)
			at := indexFiles(t, bad)[i]
			changed := append([]byte(nil), content...)
			changed[k] ^= 1 << (k % 8)
			if err := os.WriteFile(at, changed, 0o600); err != nil {
				t.Fatal(err)
			}
			reopened(t, fmt.Sprintf("byte %d of %s", k, filepath.Base(at)), bad, ids)
		}
	}
}

// TestForeignIndex: an index that holds more than the log, or comes from another one, is not believed.
func TestForeignIndex(t *testing.T) {
	t.Parallel()
	dir, ids := filled(t)
	other := t.TempDir()
	j := open(t, file.Config{Dir: other, SegmentBytes: 4 << 10})
	few := ids[:5]
	mustSend(t, j, store.Accepted, few[0])
	if _, err := j.Append(t.Context(), store.Batch{Producer: "q", ReceivedAt: at(9), Entries: []store.Entry{call(few[1]), call(few[2]), call(few[3]), call(few[4])}}); err != nil {
		t.Fatal(err)
	}
	if _, err := j.Revise(t.Context(), store.Revisions{Actor: "a", Reason: "r", At: at(3), List: []store.Revision{
		{Source: "gateway/1", ID: few[3], Kind: store.Void, If: store.AnyRevision},
	}}); err != nil {
		t.Fatal(err)
	}
	closeJournal(t, j)
	if err := os.CopyFS(filepath.Join(other, "index"), os.DirFS(filepath.Join(dir, "index"))); err != nil {
		t.Fatal(err)
	}
	j = open(t, file.Config{Dir: other, SegmentBytes: 4 << 10})
	defer closeJournal(t, j)
	if err := answers(j, few); err != nil {
		t.Error(err)
	}
}

// TestForeignIndexOfALongerLog: the records of another journal stand where the index says, and hold the same identities.
func TestForeignIndexOfALongerLog(t *testing.T) {
	t.Parallel()
	dir, _ := filled(t)
	other := t.TempDir()
	j := open(t, file.Config{Dir: other, SegmentBytes: 4 << 10})
	var ids []string
	for i := range 100 {
		ids = append(ids, fmt.Sprintf("event%03d", 99-i)) // as long
		if _, err := j.Append(t.Context(), store.Batch{Producer: "q", ReceivedAt: at(9), Entries: []store.Entry{call(ids[i])}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := j.Revise(t.Context(), store.Revisions{Actor: "a", Reason: "r", At: at(3), List: []store.Revision{
		{Source: "gateway/1", ID: ids[3], Kind: store.Void, If: store.AnyRevision},
	}}); err != nil {
		t.Fatal(err)
	}
	closeJournal(t, j)
	if err := os.CopyFS(filepath.Join(other, "index"), os.DirFS(filepath.Join(dir, "index"))); err != nil {
		t.Fatal(err)
	}
	j = open(t, file.Config{Dir: other, SegmentBytes: 4 << 10})
	defer closeJournal(t, j)
	if err := answers(j, ids); err != nil {
		t.Error(err)
	}
	if s := j.Stats(); s.Events != len(ids) || s.Revised != 1 || s.Segments < 3 {
		t.Errorf("%+v", s)
	}
}

// TestCheckpointsWhileAppending has commits, checkpoints and readers at the same time.
func TestCheckpointsWhileAppending(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := file.Config{Dir: dir, Checkpoint: 100}
	j := open(t, cfg)
	var wg sync.WaitGroup
	done := make(chan struct{})
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if err := j.Tick(t.Context()); err != nil {
				t.Error(err)
				return
			}
			if err := j.View(t.Context(), func(v store.View) error {
				r, err := v.Usage(store.SeriesKey{CustomerID: "cus_1", Meter: "api_calls"}, period.Interval{})
				if err == nil && r.Count%5 != 0 {
					t.Errorf("%d events counted: half a commit", r.Count)
				}
				g, err2 := v.Measure(store.SeriesKey{CustomerID: "cus_1", Meter: "api_calls"}, period.Interval{}, store.Measure{Aggregation: meter.Sum})
				if err2 == nil && !g[0].Value.Equal(r.Sum) {
					t.Errorf("%v measured, %v counted", g[0].Value, r.Sum)
				}
				return errors.Join(err, err2)
			}); err != nil {
				t.Error(err)
				return
			}
		}
	})
	var senders sync.WaitGroup
	for p := range 4 {
		senders.Go(func() {
			for n := range 60 {
				var ids []string
				for i := range 5 {
					ids = append(ids, fmt.Sprint(p, "-", n, "-", i))
				}
				if _, err := send(j, ids...); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	senders.Wait()
	close(done)
	wg.Wait()
	var all []string
	for p := range 4 {
		for n := range 60 {
			for i := range 5 {
				all = append(all, fmt.Sprint(p, "-", n, "-", i))
			}
		}
	}
	for range 2 {
		holds(t, j, all...)
		mustSend(t, j, store.Duplicate, all...)
		closeJournal(t, j)
		j = open(t, cfg)
	}
	closeJournal(t, j)
}
