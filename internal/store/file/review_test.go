package file_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file"
)

// compactAll seals what is closed.
func compactAll(t *testing.T, j *file.Journal) {
	t.Helper()
	for more := true; more; {
		var err error
		if more, err = j.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// A segment may be sealed before all of it is in the index: what is missing is replayed from the sealed form.
func TestReplayFromTheMiddleOfASealedSegment(t *testing.T) {
	t.Parallel()
	for _, first := range []int{5, 17, 30} {
		t.Run(fmt.Sprint(first), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			j := open(t, file.Config{Dir: dir, SegmentBytes: 8 << 10, Checkpoint: first})
			var ids []string
			for i := range 80 {
				ids = append(ids, fmt.Sprint("event", i))
			}
			mustSend(t, j, store.Accepted, ids[:first]...)
			for _, id := range ids[first : first+2] {
				mustSend(t, j, store.Accepted, id)
			}
			if err := j.Tick(t.Context()); err != nil {
				t.Fatal(err)
			}
			closeJournal(t, j)
			j = open(t, file.Config{Dir: dir, SegmentBytes: 8 << 10, Checkpoint: 1 << 20})
			for _, id := range ids[first+2:] {
				mustSend(t, j, store.Accepted, id)
			}
			compactAll(t, j)
			if s := j.Stats(); s.Sealed == 0 || s.Checkpoints != 0 {
				t.Fatalf("%+v: nothing was sealed, or a checkpoint was written", s)
			}
			closeJournal(t, j)
			j = open(t, file.Config{Dir: dir, SegmentBytes: 8 << 10})
			holds(t, j, ids...)
			mustSend(t, j, store.Duplicate, ids...)
			closeJournal(t, j)
		})
	}
}

// What a refused batch said of a total twice is taken back whole.
func TestTotalsOfARefusedBatchAreForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var none error
		j, g := blocked(t, t.TempDir(), &none)
		total := func(n int64) store.AdmittedTotal {
			return store.AdmittedTotal{CustomerID: "cus_1", Meter: "api_calls", PeriodStart: 5, Total: money.FromInt(n)}
		}
		var wg sync.WaitGroup
		wg.Go(func() { mustSend(t, j, store.Accepted, "leads") })
		synctest.Wait()
		wg.Go(func() {
			if _, err := j.Append(t.Context(), store.Batch{
				Node: 1, Epoch: 1, ReceivedAt: at(2), Totals: []store.AdmittedTotal{total(3), total(4)},
				Marks: []store.Mark{{Source: "gateway/1", ID: "nobody", Flags: store.Incomplete}},
			}); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("a mark without its event: %v", err)
			}
		})
		synctest.Wait()
		wg.Go(func() { mustSend(t, j, store.Accepted, "joins") })
		synctest.Wait()
		close(g.out)
		wg.Wait()
		if err := j.View(t.Context(), func(v store.View) error {
			sum, err := v.Admitted(store.SeriesKey{CustomerID: "cus_1", Meter: "api_calls"}, 5)
			if !sum.IsZero() {
				t.Errorf("%v admitted by a batch that was refused", sum)
			}
			return err
		}); err != nil {
			t.Error(err)
		}
		closeJournal(t, j)
	})
}

// tear leaves half a commit at the end of the file that an event went to, as a crash may.
func tear(t *testing.T, dir, id string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(b), id) {
			if err := os.WriteFile(name, append(b, "\xf5TJ\xffhalf a comm"...), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A segment that could not be begun for a retention is begun before anything else is written, so that only the newest file
// can be torn.
func TestFullDiskWhenRetentionBeginsASegment(t *testing.T) {
	t.Parallel()
	disk := &faulty{}
	dir := t.TempDir()
	j := open(t, file.Config{Dir: dir, FS: disk})
	mustSend(t, j, store.Accepted, "a")
	disk.write = func(name string, p []byte) (int, error) {
		if name == "00000002.log" {
			return 7, syscall.ENOSPC
		}
		return 0, nil
	}
	if _, err := j.Retain(t.Context(), at(2).Add(time.Hour), at(2).AddDate(1, 0, 0)); err == nil {
		t.Fatal("no error from a full disk")
	}
	_, err := send(j, "newest")
	disk.write = nil
	if err != nil {
		mustSend(t, j, store.Accepted, "newest")
	}
	holds(t, j, "a", "newest")
	closeJournal(t, j)
	tear(t, dir, "newest")
	j = open(t, file.Config{Dir: dir})
	holds(t, j, "a", "newest")
	closeJournal(t, j)
}

// A segment that became due and one that a retention asks for are one: an empty one in the middle would be taken for damage.
func TestRetentionAfterAFullDiskAtRotation(t *testing.T) {
	t.Parallel()
	disk := &faulty{}
	dir := t.TempDir()
	cfg := file.Config{Dir: dir, FS: disk, SegmentBytes: 4 << 10, Checkpoint: 1}
	j := open(t, cfg)
	var ids []string
	one := func() error {
		id := fmt.Sprint("event", len(ids))
		_, err := send(j, id)
		if err == nil {
			ids = append(ids, id)
		}
		return err
	}
	disk.write = func(name string, p []byte) (int, error) {
		if name == "00000002.log" {
			return 7, syscall.ENOSPC
		}
		return 0, nil
	}
	for one() == nil {
		continue
	}
	disk.write = nil
	if _, err := j.Retain(t.Context(), at(2).Add(time.Hour), at(2).AddDate(1, 0, 0)); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := one(); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Tick(t.Context()); err != nil {
		t.Fatal(err)
	}
	closeJournal(t, j)
	cfg.FS = nil
	j = open(t, cfg)
	holds(t, j, ids...)
	closeJournal(t, j)
}

// pausing is a disk whose next read of a segment waits, once it has read.
type pausing struct {
	faulty
	paused chan struct{} // closed by the read
	goOn   chan struct{}
	once   sync.Once
	armed  atomic.Bool
}

func (d *pausing) Open(name string, create bool) (file.File, error) {
	f, err := d.faulty.Open(name, create)
	return &pausingFile{f, d}, err
}

type pausingFile struct {
	file.File
	disk *pausing
}

func (f *pausingFile) ReadAt(p []byte, at int64) (int, error) {
	n, err := f.File.ReadAt(p, at)
	if f.disk.armed.Load() {
		f.disk.once.Do(func() { close(f.disk.paused); <-f.disk.goOn })
	}
	return n, err
}

// What a full disk took back is never served, though a scan saw it in the file.
func TestScanOverATakenBackCommit(t *testing.T) {
	t.Parallel()
	disk := &pausing{paused: make(chan struct{}), goOn: make(chan struct{})}
	j := open(t, file.Config{Dir: t.TempDir(), FS: disk})
	var ids []string
	for i := range 63 { // and the batch's record: as many as a scan looks for at once
		ids = append(ids, fmt.Sprint("event", i))
	}
	mustSend(t, j, store.Accepted, ids...)
	other := func(id string) store.Batch {
		e := call(id)
		e.Resolutions[0].CustomerID = "cus_2"
		return store.Batch{Producer: "p", ReceivedAt: at(2), Entries: []store.Entry{e}}
	}
	written, scanned := make(chan struct{}), make(chan struct{})
	disk.write = func(_ string, p []byte) (int, error) { return len(p), syscall.ENOSPC }
	disk.truncate = func(string) error {
		disk.armed.Store(true)
		close(written)
		<-scanned
		return nil
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := j.Append(t.Context(), other("lost")); !errors.Is(err, store.ErrFull) {
			t.Errorf("a full disk: %v", err)
		}
	})
	<-written
	var page store.Page
	var scan sync.WaitGroup
	scan.Go(func() {
		var err error
		if page, err = j.Scan(t.Context(), store.Scan{SeriesKey: store.SeriesKey{CustomerID: "cus_2"}}); err != nil {
			t.Error(err)
		}
	})
	<-disk.paused
	close(scanned)
	wg.Wait()
	disk.write, disk.truncate = nil, nil
	if _, err := j.Append(t.Context(), other("kept")); err != nil {
		t.Fatal(err)
	}
	close(disk.goOn)
	scan.Wait()
	for _, r := range page.Records {
		if r.Event.ID != "kept" {
			t.Errorf("the scan found event %q", r.Event.ID)
		}
	}
	closeJournal(t, j)
}

// Dimensions count for when a checkpoint is due, since they are kept in memory too.
func TestLongDimensionsBringACheckpoint(t *testing.T) {
	t.Parallel()
	j := open(t, file.Config{Dir: t.TempDir(), Checkpoint: 1000})
	for i := range 40 {
		e := call(fmt.Sprint("event", i))
		for d := range 16 {
			e.Resolutions[0].Dimensions = append(e.Resolutions[0].Dimensions, meter.Dimension{
				Name: fmt.Sprintf("d%02d", d), Value: fmt.Sprint(i, strings.Repeat("x", 4000)),
			})
		}
		if _, err := j.Append(t.Context(), store.Batch{Producer: "p", ReceivedAt: at(2), Entries: []store.Entry{e}}); err != nil {
			t.Fatal(err)
		}
	}
	if n := j.Stats().Checkpoints; n == 0 {
		t.Error("2.5 MB of dimensions wait in memory behind a bound of 1,000 events")
	}
	closeJournal(t, j)
}

// An event of the subject that comes while the log is searched for others keeps the subject's key, since its leaf is salted
// under it.
func TestKeyIsKeptForWhoComesMeanwhile(t *testing.T) {
	t.Parallel()
	var j *file.Journal
	asked := []bool{}
	forget := func(_ context.Context, subject string, came func() (bool, error)) error {
		for _, id := range []string{"", "again"} {
			if id != "" {
				mustSend(t, j, store.Accepted, id)
			}
			kept, err := came()
			if err != nil || subject != "acme" {
				t.Errorf("%s: %v", subject, err)
			}
			asked = append(asked, kept)
		}
		return nil
	}
	commit := func(string, uint64, []byte, []byte) ([32]byte, error) { return [32]byte{1}, nil }
	j = open(t, file.Config{Dir: t.TempDir(), Commit: commit, Forget: forget})
	mustSend(t, j, store.Accepted, "first")
	if _, err := j.Erase(t.Context(), "acme", "op", "asked to", at(9)); err != nil {
		t.Fatal(err)
	}
	compactAll(t, j)
	if diff := gocmp.Diff([]bool{false, true}, asked); diff != "" {
		t.Error(diff)
	}
	closeJournal(t, j)
}

// A panic in a commit, which a server may survive, breaks the journal: those behind it are answered.
func TestPanicInACommit(t *testing.T) {
	t.Parallel()
	disk := &faulty{}
	dir := t.TempDir()
	j := open(t, file.Config{Dir: dir, FS: disk})
	mustSend(t, j, store.Accepted, "a")
	disk.write = func(string, []byte) (int, error) { panic("out of luck") }
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_, _ = send(j, "b")
	}()
	disk.write = nil
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if _, err := j.Append(ctx, store.Batch{Producer: "p", ReceivedAt: at(2), Entries: []store.Entry{call("c")}}); !errors.Is(err, store.ErrBroken) {
		t.Errorf("behind the panic: %v", err)
	}
	holds(t, j, "a")
	closeJournal(t, j)
	j = open(t, file.Config{Dir: dir})
	mustSend(t, j, store.Accepted, "b")
	closeJournal(t, j)
}

// Positions and cursors that nobody was given find nothing, or what they say.
func TestScanAtTheEndsOfAllNumbers(t *testing.T) {
	t.Parallel()
	j := open(t, file.Config{Dir: t.TempDir()})
	mustSend(t, j, store.Accepted, "a", "b")
	k := store.SeriesKey{CustomerID: "cus_1", Meter: "api_calls"}
	for _, newest := range []bool{false, true} {
		for _, s := range []store.Scan{
			{After: math.MaxUint64},
			{After: 1 << 40},
			{SeriesKey: k, After: math.MaxUint64},
			{Unmatched: true, After: math.MaxUint64},
			{Cursor: "0.3w5e11264sgsf", After: math.MaxUint64},
		} {
			s.NewestFirst = newest
			if page, err := j.Scan(t.Context(), s); err != nil || len(page.Records) > 0 || page.Next != "" {
				t.Errorf("%+v: %+v, %v", s, page, err)
			}
		}
	}
	for cursor, newest := range map[string]bool{"0.0": true, "0.3w5e11264sgsf": false, "1y2p0ij32e8e7.3w5e11264sgsf": false} {
		for _, of := range []store.SeriesKey{{}, k} {
			if page, err := j.Scan(t.Context(), store.Scan{SeriesKey: of, Cursor: cursor, NewestFirst: newest}); err != nil || cursor[0] == '0' && of == (store.SeriesKey{}) && len(page.Records) > 0 {
				t.Errorf("%s: %+v, %v", cursor, page, err)
			}
		}
	}
	closeJournal(t, j)
}
