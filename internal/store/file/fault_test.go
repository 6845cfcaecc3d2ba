package file_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file"
	"github.com/tallystick/tallystick/internal/store/storetest"
)

// faulty is the real disk with faults. A hook that is not set does no harm; set them while nobody uses the disk.
type faulty struct {
	file.OS
	open     func(name string) error
	write    func(name string, p []byte) (n int, err error) // n bytes are written before the error
	sync     func(name string) error
	truncate func(name string) error
	syncDir  func() error
}

func (d *faulty) Open(name string, create bool) (file.File, error) {
	if d.open != nil {
		if err := d.open(filepath.Base(name)); err != nil {
			return nil, err
		}
	}
	f, err := d.OS.Open(name, create)
	return &faultyFile{f, d, filepath.Base(name)}, err
}

func (d *faulty) SyncDir(dir string) error {
	if d.syncDir != nil {
		return d.syncDir()
	}
	return d.OS.SyncDir(dir)
}

type faultyFile struct {
	file.File
	disk *faulty
	name string
}

func (f *faultyFile) WriteAt(p []byte, at int64) (int, error) {
	if f.disk.write != nil {
		if n, err := f.disk.write(f.name, p); err != nil {
			_, _ = f.File.WriteAt(p[:n], at)
			return n, err
		}
	}
	return f.File.WriteAt(p, at)
}

func (f *faultyFile) Sync() error {
	if f.disk.sync != nil {
		if err := f.disk.sync(f.name); err != nil {
			return err
		}
	}
	return f.File.Sync()
}

func (f *faultyFile) Truncate(size int64) error {
	if f.disk.truncate != nil {
		if err := f.disk.truncate(f.name); err != nil {
			return err
		}
	}
	return f.File.Truncate(size)
}

func at(n int) time.Time { return time.Date(2026, 3, 1, 12, n, 0, 0, time.UTC) }

func call(id string) store.Entry {
	return store.Entry{
		Event:       meter.Event{Source: "gateway/1", ID: id, Type: "request", Subject: "acme", Time: at(1), Data: []byte(`{"route":"GET /hello"}`)},
		Origin:      meter.Admitted,
		Resolutions: []meter.Resolution{{CustomerID: "cus_1", Meter: "api_calls", Value: money.FromInt(1)}},
	}
}

func send(j *file.Journal, ids ...string) ([]store.Result, error) {
	b := store.Batch{Producer: "p", ReceivedAt: at(2)}
	for _, id := range ids {
		b.Entries = append(b.Entries, call(id))
	}
	return j.Append(context.Background(), b)
}

func mustSend(t *testing.T, j *file.Journal, want store.Outcome, ids ...string) {
	t.Helper()
	results, err := send(j, ids...)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range results {
		if r.Outcome != want {
			t.Fatalf("%s: outcome %d, want %d", ids[i], r.Outcome, want)
		}
	}
}

// holds checks that exactly these events are in the journal and in its rollups.
func holds(t *testing.T, j *file.Journal, ids ...string) {
	t.Helper()
	for _, id := range ids {
		if _, err := j.Event(t.Context(), "gateway/1", id); err != nil {
			t.Error(err)
		}
	}
	err := j.View(t.Context(), func(v store.View) error {
		r, err := v.Usage(store.SeriesKey{CustomerID: "cus_1", Meter: "api_calls"}, period.Interval{})
		if err == nil && r.Count != int64(len(ids)) {
			t.Errorf("%d events counted, want %d", r.Count, len(ids))
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if n := j.Stats().Events; n != len(ids) {
		t.Errorf("%d events, want %d", n, len(ids))
	}
}

func closeJournal(t *testing.T, j *file.Journal) {
	t.Helper()
	if err := j.Close(); err != nil {
		t.Error(err)
	}
}

func TestFullDiskPasses(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func([]byte) (int, error){
		"nothing written":  func([]byte) (int, error) { return 0, syscall.ENOSPC },
		"half written":     func(p []byte) (int, error) { return len(p) / 2, &os.PathError{Op: "write", Err: syscall.ENOSPC} },
		"all but one byte": func(p []byte) (int, error) { return len(p) - 1, syscall.EDQUOT },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			disk := &faulty{}
			dir := t.TempDir()
			j := open(t, file.Config{Dir: dir, FS: disk})
			mustSend(t, j, store.Accepted, "a")
			disk.write = func(_ string, p []byte) (int, error) { return fault(p) }
			for range 2 {
				if _, err := send(j, "b", "c"); !errors.Is(err, store.ErrFull) || errors.Is(err, store.ErrBroken) {
					t.Fatalf("%v, want ErrFull", err)
				}
			}
			mustSend(t, j, store.Duplicate, "a") // needs no room
			if err := j.Cut(t.Context(), "cus_1", at(1)); !errors.Is(err, store.ErrFull) {
				t.Fatalf("cut: %v, want ErrFull", err)
			}
			holds(t, j, "a")
			left := open(t, file.Config{Dir: copyDir(t, dir)})
			if n := left.Stats().TornBytes; n != 0 {
				t.Errorf("%d bytes of a refused batch are left", n)
			}
			closeJournal(t, left)
			disk.write = nil
			mustSend(t, j, store.Accepted, "c", "d")
			if s := j.Stats(); s.Full != 3 || s.Broken {
				t.Errorf("%+v, want 3 refusals", s)
			}
			closeJournal(t, j)
			j = open(t, file.Config{Dir: dir})
			defer closeJournal(t, j)
			holds(t, j, "a", "c", "d")
			if n := j.Stats().TornBytes; n != 0 {
				t.Errorf("%d torn bytes, want a clean end", n)
			}
		})
	}
}

func TestBrokenForEver(t *testing.T) {
	t.Parallel()
	eio := syscall.EIO
	for name, breakIt := range map[string]func(d *faulty){
		"sync fails":     func(d *faulty) { d.sync = func(string) error { return eio } },
		"sync says full": func(d *faulty) { d.sync = func(string) error { return syscall.ENOSPC } },
		"write fails":    func(d *faulty) { d.write = func(_ string, p []byte) (int, error) { return len(p) / 2, eio } },
		"read-only":      func(d *faulty) { d.write = func(string, []byte) (int, error) { return 0, syscall.EROFS } },
		"cannot take a part back": func(d *faulty) {
			d.write = func(_ string, p []byte) (int, error) { return len(p) / 2, syscall.ENOSPC }
			d.truncate = func(string) error { return eio }
		},
		"folder does not sync": func(d *faulty) { d.syncDir = func() error { return eio } },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			disk := &faulty{}
			dir := t.TempDir()
			j := open(t, file.Config{Dir: dir, FS: disk, SegmentBytes: 4 << 10})
			big := make([]string, 30) // fills the first segment, the next append begins one
			for i := range big {
				big[i] = fmt.Sprint(i)
			}
			mustSend(t, j, store.Accepted, big...)
			breakIt(disk)
			if _, err := send(j, "lost"); !errors.Is(err, store.ErrBroken) || errors.Is(err, store.ErrFull) {
				t.Fatalf("%v, want ErrBroken", err)
			}
			*disk = faulty{sync: func(string) error { t.Error("a sync after a failure"); return nil }}
			for _, err := range []error{
				func() error { _, err := send(j, "again"); return err }(),
				func() error { _, err := send(j, big...); return err }(),
				j.Cut(t.Context(), "cus_1", at(1)),
			} {
				if !errors.Is(err, store.ErrBroken) {
					t.Errorf("%v, want ErrBroken", err)
				}
			}
			if !j.Stats().Broken {
				t.Error("Stats must say broken")
			}
			holds(t, j, big...) // reading what was durable still works
			closeJournal(t, j)

			// What became of the unacknowledged event is open; sent again it is there once.
			j = open(t, file.Config{Dir: dir})
			defer closeJournal(t, j)
			if _, err := send(j, "lost"); err != nil {
				t.Fatal(err)
			}
			holds(t, j, append(big, "lost")...)
		})
	}
}

func TestFullDiskAtRotation(t *testing.T) {
	t.Parallel()
	disk := &faulty{}
	dir := t.TempDir()
	cfg := file.Config{Dir: dir, FS: disk, SegmentBytes: 4 << 10}
	j := open(t, cfg)
	var ids []string
	for i := range 30 {
		ids = append(ids, fmt.Sprint(i))
	}
	mustSend(t, j, store.Accepted, ids...)
	for _, fault := range []faulty{
		{open: func(string) error { return syscall.ENOSPC }},
		{write: func(name string, p []byte) (int, error) {
			if name == "00000002.log" {
				return min(7, len(p)), syscall.ENOSPC
			}
			return len(p), nil
		}},
		{open: func(string) error { return syscall.EMFILE }},
	} {
		*disk = fault
		_, err := send(j, "late")
		if err == nil || errors.Is(err, store.ErrBroken) {
			t.Fatalf("%v, want a passing failure", err)
		}
		if disk.write != nil && !errors.Is(err, store.ErrFull) {
			t.Errorf("%v, want ErrFull", err)
		}
	}
	*disk = faulty{}
	// Killed here, a piece of the second segment is left behind.
	left := open(t, file.Config{Dir: copyDir(t, dir)})
	holds(t, left, ids...)
	if s := left.Stats(); s.TornBytes != 7 || s.Segments != 2 {
		t.Errorf("%+v, want 7 torn bytes in segment 2", s)
	}
	mustSend(t, left, store.Accepted, "x")
	closeJournal(t, left)

	mustSend(t, j, store.Accepted, "late")
	closeJournal(t, j)
	j = open(t, cfg)
	defer closeJournal(t, j)
	holds(t, j, append(ids, "late")...)
	if s := j.Stats(); s.Segments != 2 || s.TornBytes != 0 {
		t.Errorf("%+v, want 2 clean segments", s)
	}
}

func copyDir(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

// TestFullDiskKeepsTheIndex fills the disk while checkpoints are written: nothing hangs, and with room again all goes on.
func TestFullDiskKeepsTheIndex(t *testing.T) {
	t.Parallel()
	storetest.OnSmallDisk(t, 1<<20, func(t *testing.T, dir string) {
		cfg := file.Config{Dir: filepath.Join(dir, "journal"), SegmentBytes: 32 << 10, Checkpoint: 40}
		j := open(t, cfg)
		var stored []string
		var err error
		for i := range 20_000 {
			ids := []string{fmt.Sprint(i, "a"), fmt.Sprint(i, "b")}
			if _, err = send(j, ids...); err != nil {
				break
			}
			stored = append(stored, ids...)
		}
		if !errors.Is(err, store.ErrFull) {
			t.Fatalf("%v after %d events, want ErrFull", err, len(stored))
		}
		if err := j.Tick(t.Context()); err != nil && !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("a checkpoint without room: %v", err)
		}
		holds(t, j, stored...)
		if err := syscall.Mount("", dir, "tmpfs", syscall.MS_REMOUNT, "size=8m"); err != nil {
			t.Fatal(err)
		}
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for range 500 { // attempts that began before may still fail, and what they wrote is removed behind them
			if err = j.Tick(t.Context()); err == nil {
				break
			}
			<-tick.C
		}
		if err != nil {
			t.Errorf("a checkpoint with room again: %v", err)
		}
		mustSend(t, j, store.Accepted, "more")
		closeJournal(t, j)
		j = open(t, cfg)
		defer closeJournal(t, j)
		holds(t, j, append(stored, "more")...)
		mustSend(t, j, store.Duplicate, stored...)
	})
}

func TestRealFullDisk(t *testing.T) {
	t.Parallel()
	storetest.OnSmallDisk(t, 256<<10, func(t *testing.T, dir string) {
		j := open(t, file.Config{Dir: filepath.Join(dir, "journal"), SegmentBytes: 32 << 10})
		var stored []string
		var err error
		for i := range 10_000 {
			ids := []string{fmt.Sprint(i, "a"), fmt.Sprint(i, "b")}
			if _, err = send(j, ids...); err != nil {
				break
			}
			stored = append(stored, ids...)
		}
		if !errors.Is(err, store.ErrFull) || !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("%v after %d events, want ErrFull by ENOSPC", err, len(stored))
		}
		if _, err := send(j, "more"); !errors.Is(err, store.ErrFull) {
			t.Fatalf("%v, want ErrFull again", err)
		}
		holds(t, j, stored...)
		closeJournal(t, j)
		if err := syscall.Mount("", dir, "tmpfs", syscall.MS_REMOUNT, "size=1m"); err != nil {
			t.Fatal(err)
		}
		j = open(t, file.Config{Dir: filepath.Join(dir, "journal"), SegmentBytes: 32 << 10})
		defer closeJournal(t, j)
		mustSend(t, j, store.Accepted, "more")
		mustSend(t, j, store.Duplicate, stored...)
		holds(t, j, append(stored, "more")...)
		if s := j.Stats(); s.Segments < 3 {
			t.Errorf("%+v, want several segments", s)
		}
	})
}

// gate blocks a sync until it is opened.
type gate struct{ out chan struct{} }

// blocked opens a journal whose next sync waits at the gate and fails with err.
func blocked(t *testing.T, dir string, err *error) (*file.Journal, gate) {
	t.Helper()
	g := gate{make(chan struct{})}
	disk := &faulty{}
	j := open(t, file.Config{Dir: dir, FS: disk})
	var once sync.Once
	disk.sync = func(string) (failure error) {
		once.Do(func() {
			<-g.out
			failure = *err
		})
		return failure
	}
	return j, g
}

func TestResendWaitsForTheSameSync(t *testing.T) {
	t.Parallel()
	for _, failure := range []error{nil, syscall.EIO} {
		synctest.Test(t, func(t *testing.T) {
			j, g := blocked(t, t.TempDir(), &failure)
			errs := make([]error, 2)
			outcomes := make([]store.Outcome, 2)
			for i := range errs {
				go func() {
					results, err := send(j, "a")
					errs[i] = err
					if err == nil {
						outcomes[i] = results[0].Outcome
					}
				}()
				synctest.Wait()
				if outcomes[i] != 0 || errs[i] != nil {
					t.Errorf("call %d was answered before the sync: %d, %v", i, outcomes[i], errs[i])
				}
			}
			if _, err := j.Event(t.Context(), "gateway/1", "a"); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("seen before the sync: %v", err)
			}
			close(g.out)
			synctest.Wait()
			for i, want := range []store.Outcome{store.Accepted, store.Duplicate} {
				if failure == nil && (errs[i] != nil || outcomes[i] != want) {
					t.Errorf("call %d: %d, %v; want %d", i, outcomes[i], errs[i], want)
				}
				if failure != nil && !errors.Is(errs[i], store.ErrBroken) {
					t.Errorf("call %d: %d, %v; want ErrBroken", i, outcomes[i], errs[i])
				}
			}
			closeJournal(t, j)
		})
	}
}

// TestResendInAFailedGroup: original and resend share a commit that finds no room, so neither is acknowledged.
func TestResendInAFailedGroup(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		disk := &faulty{}
		j := open(t, file.Config{Dir: t.TempDir(), FS: disk})
		g := gate{make(chan struct{})}
		disk.sync = func(string) error {
			disk.sync = nil
			<-g.out
			disk.write = func(string, []byte) (int, error) { return 0, syscall.ENOSPC } // from the second commit on
			return nil
		}
		var wg sync.WaitGroup
		for i, want := range []error{nil, store.ErrFull, store.ErrFull, nil} {
			wg.Go(func() {
				if _, err := send(j, []string{"leads", "a", "a", "leads"}[i]); !errors.Is(err, want) {
					t.Errorf("call %d: %v, want %v", i, err, want)
				}
			})
			synctest.Wait()
		}
		close(g.out)
		wg.Wait()
		holds(t, j, "leads")
		closeJournal(t, j)
	})
}

func TestWaitersJoinOneGroup(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var none error
		j, g := blocked(t, t.TempDir(), &none)
		var wg sync.WaitGroup
		accepted := make(chan bool, 200)
		for i := range 100 {
			wg.Go(func() {
				results, err := send(j, fmt.Sprint(i/2), "first") // each event by two callers, one by all
				if err != nil {
					t.Error(err)
					return
				}
				for _, r := range results {
					accepted <- r.Outcome == store.Accepted
				}
			})
		}
		synctest.Wait()
		if n := j.Stats().Waiting; n != 99 {
			t.Errorf("%d waiting, want all but the leader", n)
		}
		close(g.out)
		wg.Wait()
		close(accepted)
		n := 0
		for a := range accepted {
			if a {
				n++
			}
		}
		if s := j.Stats(); n != 51 || s.Events != 51 || s.Groups != 2 {
			t.Errorf("%d accepted, %+v; want 51 events in 2 commits", n, s)
		}
		closeJournal(t, j)
	})
}

// TestRefusedInsideAGroup: a batch that is refused leaves what others staged in the same group as it was.
func TestRefusedInsideAGroup(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var none error
		dir := t.TempDir()
		j, g := blocked(t, dir, &none)
		batch := func(total int64, marks []store.Mark, entries ...store.Entry) store.Batch {
			return store.Batch{Node: 1, Epoch: 1, Entries: entries, Marks: marks, ReceivedAt: at(2), Totals: []store.AdmittedTotal{
				{CustomerID: "cus_1", Meter: "api_calls", PeriodStart: 5, Total: money.FromInt(total)},
			}}
		}
		outside, late := call("c"), call("d")
		outside.Origin, late.Origin = meter.Reported, meter.Reported
		var wg sync.WaitGroup
		send := func(b store.Batch, want error) {
			wg.Go(func() {
				if _, err := j.Append(t.Context(), b); !errors.Is(err, want) {
					t.Errorf("%v, want %v", err, want)
				}
			})
			synctest.Wait()
		}
		send(batch(1, nil, call("leads")), nil)
		send(batch(5, []store.Mark{{Source: "gateway/1", ID: "a", Flags: store.Recovered}}, call("a")), nil)
		send(batch(7, []store.Mark{
			{Source: "gateway/1", ID: "a", Flags: store.Incomplete}, {Source: "gateway/1", ID: "b", Flags: store.Incomplete}, {Source: "x", ID: "y", Flags: 1},
		}, call("b"), outside), store.ErrNotFound)
		send(batch(6, nil, late, call("b")), nil)
		close(g.out)
		wg.Wait()
		for range 2 {
			holds(t, j, "leads", "a", "d", "b")
			page, err := j.Scan(t.Context(), store.Scan{SeriesKey: store.SeriesKey{CustomerID: "cus_1", Meter: "api_calls"}})
			if err != nil || len(page.Records) != 4 || page.Records[3].Event.ID != "b" {
				t.Errorf("scan: %d records, %v", len(page.Records), err)
			}
			if n := j.Stats().Groups; n > 2 {
				t.Errorf("%d commits: the batches were not in one group", n)
			}
			err = j.View(t.Context(), func(v store.View) error {
				k := store.SeriesKey{CustomerID: "cus_1", Meter: "api_calls"}
				admitted, err := v.Admitted(k, 5)
				reported, err2 := v.Reported(k, period.Interval{})
				if admitted.String() != "6" || reported.String() != "1" {
					t.Errorf("admitted %v, want 6; reported %v, want 1", admitted, reported)
				}
				return errors.Join(err, err2)
			})
			r, err2 := j.Event(t.Context(), "gateway/1", "a")
			d, err3 := j.Event(t.Context(), "gateway/1", "d")
			if err := errors.Join(err, err2, err3); err != nil || r.Flags != store.Recovered || d.Flags != 0 || j.Stats().Marks != 1 {
				t.Errorf("flags %v and %v, %v", r.Flags, d.Flags, err)
			}
			closeJournal(t, j)
			j = open(t, file.Config{Dir: dir})
		}
		closeJournal(t, j)
	})
}

func TestWaitersAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var none error
		j, g := blocked(t, t.TempDir(), &none)
		var wg sync.WaitGroup
		for i := range file.MaxWaiters + 1 { // one leads
			wg.Go(func() {
				if _, err := send(j, fmt.Sprint(i)); err != nil {
					t.Error(err)
				}
			})
			if i == 0 {
				synctest.Wait()
			}
		}
		synctest.Wait()
		if _, err := send(j, "one too many"); !errors.Is(err, store.ErrFull) {
			t.Errorf("%v, want ErrFull", err)
		}
		if s := j.Stats(); s.Full != 1 || s.Waiting != file.MaxWaiters {
			t.Errorf("%+v, want 1 refusal", s)
		}
		close(g.out)
		wg.Wait()
		closeJournal(t, j)
	})
}

func TestCancelledWhileWaiting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var none error
		dir := t.TempDir()
		j, g := blocked(t, dir, &none)
		var wg sync.WaitGroup
		wg.Go(func() { mustSend(t, j, store.Accepted, "leads") })
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		wg.Go(func() {
			_, err := j.Append(ctx, store.Batch{Entries: []store.Entry{call("given up")}})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%v, want Canceled", err)
			}
		})
		wg.Go(func() { mustSend(t, j, store.Accepted, "follows") })
		synctest.Wait()
		cancel()
		synctest.Wait()
		closed := make(chan struct{})
		go func() { closeJournal(t, j); close(closed) }()
		synctest.Wait()
		select {
		case <-closed:
			t.Error("Close did not wait for the calls under way")
		default:
		}
		close(g.out)
		wg.Wait()
		<-closed
		j = open(t, file.Config{Dir: dir})
		holds(t, j, "leads", "follows")
		closeJournal(t, j)
	})
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	for _, cfg := range []file.Config{{}, {Dir: "x", SegmentBytes: 1}, {Dir: "x", SegmentBytes: 1 << 40}, {Dir: "x", Checkpoint: -1}} {
		if _, err := file.Open(cfg); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%+v: %v, want ErrInvalid", cfg, err)
		}
	}
	if _, err := file.Open(file.Config{Dir: filepath.Join(os.DevNull, "x")}); err == nil || strings.Contains(err.Error(), "%!") {
		t.Errorf("a folder that cannot be made: %v", err)
	}
}

// TestOpenMakesDurable: what a killed process left may lie in the page cache only, or in pages that a failed sync has marked
// clean. It is written and synced once more before an event in it is called a duplicate.
func TestOpenMakesDurable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := open(t, file.Config{Dir: dir})
	mustSend(t, j, store.Accepted, "a")
	whole := j.Stats().Bytes
	mustSend(t, j, store.Accepted, "b")
	last := j.Stats().Bytes - whole
	closeJournal(t, j)

	var steps []string
	j = open(t, file.Config{Dir: dir, FS: &faulty{
		write: func(_ string, p []byte) (int, error) {
			steps = append(steps, fmt.Sprint("write ", len(p)))
			return len(p), nil
		},
		sync:    func(string) error { steps = append(steps, "sync"); return nil },
		syncDir: func() error { steps = append(steps, "folder"); return nil },
	}})
	closeJournal(t, j)
	if got, want := strings.Join(steps, ", "), fmt.Sprintf("write %d, sync, folder", last); got != want {
		t.Errorf("opening did %q, want %q", got, want)
	}
	for name, disk := range map[string]*faulty{
		"write":    {write: func(string, []byte) (int, error) { return 0, syscall.EIO }},
		"sync":     {sync: func(string) error { return syscall.EIO }},
		"folder":   {syncDir: func() error { return syscall.EIO }},
		"truncate": {truncate: func(string) error { return syscall.EIO }},
	} {
		if _, err := file.Open(file.Config{Dir: dir, FS: disk}); !errors.Is(err, syscall.EIO) {
			t.Errorf("opening when %s fails: %v", name, err)
		}
	}
}
