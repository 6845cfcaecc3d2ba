package file

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file/archive"
	"github.com/tallystick/tallystick/internal/store/file/folder"
	"github.com/tallystick/tallystick/internal/store/file/record"
	"github.com/tallystick/tallystick/internal/store/file/segment"
)

func (fs memFS) Rename(from, to string) error {
	fs[to] = fs[from]
	delete(fs, from)
	return nil
}

func (fs memFS) Remove(name string) error { delete(fs, name); return nil }

func commitTo(subject string, position uint64, head, payload []byte) ([32]byte, error) {
	return sha256.Sum256(fmt.Appendf(nil, "%s %d %x %s", subject, position, head, payload)), nil
}

const year = 365 * 24 * time.Hour

func received(i int) time.Time {
	return time.UnixMicro(1_780_000_000_000_000).Add(time.Duration(i) * time.Hour)
}

// fill appends events one by one, of two subjects in turn.
func fill(t testing.TB, j *Journal, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		e := usageEvent(fmt.Sprint("e", i))
		e.Event.Subject = []string{"anna@example.com", "bert@example.com"}[i%2]
		e.Event.TraceParent, e.KeyID, e.Receipt = "00-trace", "key_1", []byte("receipt")
		if _, err := j.Append(t.Context(), store.Batch{Producer: "p", ReceivedAt: received(i), Entries: []store.Entry{e}}); err != nil {
			t.Fatal(err)
		}
	}
}

func compactAll(t testing.TB, j *Journal) {
	t.Helper()
	for {
		more, err := j.Compact(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !more {
			return
		}
	}
}

// seen is all that a journal says of its events, and its leaves.
type seen struct {
	Records []store.Record
	Leaves  []store.Leaf
	Sum     string
}

// see reads everything; leaves have their commitment in place of the payload, as the tree has.
func see(t testing.TB, j *Journal) (s seen) {
	t.Helper()
	page, err := j.Scan(t.Context(), store.Scan{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	s.Records = page.Records
	for _, r := range page.Records {
		one, err := j.Event(t.Context(), r.Event.Source, r.Event.ID)
		if diff := cmp.Diff(r, one); diff != "" || err != nil {
			t.Fatal(err, diff)
		}
	}
	for from := uint64(1); ; {
		next, err := j.Leaves(t.Context(), from, 7, func(l store.Leaf) error {
			l.Head = bytes.Clone(l.Head)
			if l.Commitment != nil {
				kept := *l.Commitment
				l.Commitment = &kept
			}
			if l.Payload != nil {
				sum, err := commitTo(l.Subject, l.Position, l.Head, l.Payload)
				if err != nil {
					return err
				}
				l.Commitment, l.Payload, l.Subject = &sum, nil, ""
			}
			s.Leaves = append(s.Leaves, l)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if next == from {
			break
		}
		from = next
	}
	err = j.View(t.Context(), func(v store.View) error {
		r, err := v.Usage(store.SeriesKey{CustomerID: "c", Meter: "m"}, period.Interval{})
		s.Sum = r.Sum.String()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func openMem(t testing.TB, fs FS) *Journal {
	t.Helper()
	j, err := Open(Config{Dir: "d", FS: fs, SegmentBytes: 4 << 10, Commit: commitTo})
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func TestCompactChangesNothingThatIsRead(t *testing.T) {
	t.Parallel()
	fs := memFS{}
	j := openMem(t, fs)
	fill(t, j, 0, 60)
	amended := store.Revision{
		Source: "s", ID: "e5", Kind: store.Amend, If: store.AnyRevision, Event: meter.Event{Type: "t", Subject: "carl", Data: []byte(`{"b":2}`)},
		Resolutions: []meter.Resolution{{CustomerID: "c", Meter: "m", Value: money.FromInt(4)}},
	}
	if _, err := j.Revise(t.Context(), store.Revisions{
		Actor: "op", Reason: "wrong", At: received(60), List: []store.Revision{{Source: "s", ID: "e3", Kind: store.Void, If: store.AnyRevision}, amended},
	}); err != nil {
		t.Fatal(err)
	}
	fill(t, j, 60, 90)
	if err := j.Cut(t.Context(), "c", time.UnixMicro(5)); err != nil {
		t.Fatal(err)
	}
	want := see(t, j)
	segments := len(*j.segments.Load())
	compactAll(t, j)
	for name := range fs {
		if strings.HasSuffix(name, ".log") != (name == segment.Path("d", uint32(segments))) || strings.HasSuffix(name, ".tmp") {
			t.Errorf("%s is there", name)
		}
	}
	if diff := cmp.Diff(want, see(t, j)); diff != "" {
		t.Error("after sealing:", diff)
	}
	size := j.Stats().Bytes
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	j = openMem(t, fs)
	if diff := cmp.Diff(want, see(t, j)); diff != "" {
		t.Error("opened again:", diff)
	}
	if s := j.Stats(); s.Bytes != size || s.Segments != segments || s.TornBytes != 0 {
		t.Errorf("%+v, want %d bytes, %d segments", s, size, segments)
	}
	fill(t, j, 90, 120)
	compactAll(t, j)
	if n := counted(t, j); n != 119 {
		t.Errorf("%d events count, want 119", n)
	}
	if r, err := folder.Check(t.Context(), fs, "d"); err != nil || r.Events != 120 || r.Sealed != r.Segments-1 || r.Position != j.Stats().Position {
		t.Errorf("%+v, %v", r, err)
	}
}

// holds says whether bytes are anywhere in the folder, sealed or not.
func holds(t testing.TB, fs memFS, text string) bool {
	t.Helper()
	sources, err := folder.List(fs, "d")
	if err != nil {
		t.Fatal(err)
	}
	if len(sources) != len(fs) {
		t.Errorf("%d segments in %d files", len(sources), len(fs))
	}
	for _, s := range sources {
		f, _, err := s.Open(fs, archive.NewCache(0))
		if err != nil {
			t.Fatal(err)
		}
		size, err := f.Size()
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, size)
		if _, err := f.ReadAt(b, 0); err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b, []byte(text)) {
			return true
		}
	}
	return false
}

func TestErase(t *testing.T) {
	t.Parallel()
	for _, first := range []string{"sealed before", "raw"} {
		fs := memFS{}
		var forgotten []string
		open := func() *Journal {
			j, err := Open(Config{Dir: "d", FS: fs, SegmentBytes: 4 << 10, Commit: commitTo, Forget: func(_ context.Context, subject string, _ func() (bool, error)) error {
				forgotten = append(forgotten, subject)
				return nil
			}})
			if err != nil {
				t.Fatal(err)
			}
			return j
		}
		j := open()
		fill(t, j, 0, 60)
		if first == "sealed before" {
			compactAll(t, j)
		}
		before := see(t, j)
		order, err := j.Erase(t.Context(), "anna@example.com", "op", "request 7", received(99))
		if err != nil {
			t.Fatal(err)
		}
		check := func(when string) {
			t.Helper()
			now := see(t, j)
			if now.Sum != fmt.Sprint(len(now.Records)) {
				t.Errorf("%s: usage %s of %d events", when, now.Sum, len(now.Records))
			}
			if diff := cmp.Diff(before.Leaves, now.Leaves[:len(before.Leaves)]); diff != "" {
				t.Errorf("%s: the tree changed: %s", when, diff)
			}
			for i, r := range now.Records[:60] {
				want := before.Records[i]
				if i%2 == 0 {
					want.Event.Subject, want.Event.Data, want.Event.TraceParent, want.Receipt, want.KeyID, want.Erased = "", nil, "", nil, "", true
				}
				if diff := cmp.Diff(want, r); diff != "" {
					t.Errorf("%s: %s", when, diff)
				}
			}
		}
		check("ordered")
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		j = open()
		check("opened again")
		if j.Erasing() != 1 {
			t.Errorf("%d erasures wait, want 1", j.Erasing())
		}
		compactAll(t, j)
		check("carried out")
		if j.Erasing() != 0 || holds(t, fs, "anna@") || !holds(t, fs, "bert@") {
			t.Errorf("%d erasures wait; anna is on disk: %v; bert: %v", j.Erasing(), holds(t, fs, "anna@"), holds(t, fs, "bert@"))
		}
		if diff := cmp.Diff([]string{"anna@example.com"}, forgotten); diff != "" {
			t.Error("forgotten:", diff)
		}
		fill(t, j, 60, 62) // the same subject again
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		j = openMem(t, fs)
		check("opened at the end")
		if r, err := j.Event(t.Context(), "s", "e60"); err != nil || r.Event.Subject != "anna@example.com" || r.Erased {
			t.Errorf("an event after the erasure: %+v, %v", r, err)
		}
		if r, err := j.read(record.KindEvent, 2); first == "sealed before" && (err != nil || r.Erased != order) {
			t.Errorf("erased by %d, want %d (%v)", r.Erased, order, err)
		}
		if res, err := j.Append(t.Context(), store.Batch{Producer: "p", Entries: []store.Entry{usageEvent("e0")}}); err != nil || res[0].Outcome != store.Conflict {
			t.Errorf("an id whose event was erased: %v, %v", res, err)
		}
		if r, err := folder.Check(t.Context(), fs, "d"); err != nil || r.Erased != 31 {
			t.Errorf("%+v, %v", r, err)
		}
		if _, err := j.Erase(t.Context(), "bert@example.com", "op", "why", received(99)); err != nil {
			t.Fatal(err)
		}
		fill(t, j, 63, 64) // meanwhile
		compactAll(t, j)
		if len(forgotten) != 1 {
			t.Error("forgotten, though an event came meanwhile:", forgotten)
		}
	}
}

func TestEraseRefuses(t *testing.T) {
	t.Parallel()
	j, err := Open(Config{Dir: "d", FS: memFS{}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := j.Erase(t.Context(), "anna", "op", "why", received(0)); !errors.Is(err, store.ErrInvalid) {
		t.Error("without a commitment:", err)
	}
	if _, err := openMem(t, memFS{}).Erase(t.Context(), "", "op", "why", received(0)); !errors.Is(err, store.ErrInvalid) {
		t.Error("without a subject:", err)
	}
}

func TestRetain(t *testing.T) {
	t.Parallel()
	fs := memFS{}
	j := openMem(t, fs)
	fill(t, j, 0, 60)
	compactAll(t, j)
	before := see(t, j)
	retain := func(keep time.Duration, now time.Time) {
		for {
			more, err := j.Retain(t.Context(), now.Add(-keep), now)
			if err != nil {
				t.Fatal(err)
			}
			if !more {
				break
			}
		}
		compactAll(t, j)
	}
	retain(year, received(100))
	if holds := holds(t, fs, "anna@"); !holds {
		t.Error("what is young was erased")
	}
	retain(40*time.Hour, received(70)) // all before the 30th hour
	now := see(t, j)
	erased := 0
	for i, r := range now.Records {
		if r.Erased {
			erased++
		}
		if r.Erased && i >= 30 || r.Erased && (r.Event.Data != nil || r.Event.ID != fmt.Sprint("e", i)) {
			t.Errorf("event %d: %+v", i, r)
		}
	}
	if erased < 20 || now.Sum != before.Sum || j.Erasing() != 0 {
		t.Errorf("%d events erased; usage %s, was %s", erased, now.Sum, before.Sum)
	}
	if diff := cmp.Diff(before.Leaves, now.Leaves[:len(before.Leaves)]); diff != "" {
		t.Error("the tree changed:", diff)
	}
	position := j.Stats().Position
	retain(40*time.Hour, received(70))
	if j.Stats().Position != position {
		t.Error("it was ordered once more")
	}
	retain(time.Hour, received(5000))
	retain(time.Hour, received(5000))
	if holds(t, fs, "anna@") {
		t.Error("the open segment was not closed and erased")
	}
}

// dying is a disk that fails for ever after so many changes.
type dying struct {
	memFS
	left *int
}

var errDead = errors.New("the process is gone")

func (d dying) die() error {
	if *d.left--; *d.left < 0 {
		return errDead
	}
	return nil
}

func (d dying) Open(name string, create bool) (File, error) {
	if d.memFS[name] == nil && create {
		if err := d.die(); err != nil {
			return nil, err
		}
	}
	f, err := d.memFS.Open(name, create)
	return dyingFile{f, d}, err
}

func (d dying) Rename(from, to string) error {
	return errors.Join(d.die(), d.unlessDead(func() error { return d.memFS.Rename(from, to) }))
}

func (d dying) Remove(name string) error {
	return errors.Join(d.die(), d.unlessDead(func() error { return d.memFS.Remove(name) }))
}

func (d dying) SyncDir(string) error { return d.die() }

func (d dying) unlessDead(do func() error) error {
	if *d.left < 0 {
		return errDead
	}
	return do()
}

type dyingFile struct {
	File
	disk dying
}

func (f dyingFile) WriteAt(p []byte, at int64) (int, error) {
	if err := f.disk.die(); err != nil {
		n, _ := f.File.WriteAt(p[:len(p)/2], at)
		return n, err
	}
	return f.File.WriteAt(p, at)
}

func (f dyingFile) Sync() error { return f.disk.die() }

// TestCompactDiesAnywhere ends the process after each change to the disk while segments are sealed and a person is erased.
func TestCompactDiesAnywhere(t *testing.T) {
	t.Parallel()
	start := memFS{}
	j := openMem(t, start)
	fill(t, j, 0, 40)
	want := see(t, j)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	for steps := 3; ; steps++ {
		fs := start.clone()
		left := steps
		j, err := Open(Config{Dir: "d", FS: dying{fs, &left}, SegmentBytes: 4 << 10, Commit: commitTo})
		if err != nil {
			continue // it died while opening
		}
		more := true
		for more && err == nil {
			more, err = j.Compact(t.Context())
		}
		ordered := false
		if err == nil {
			_, err = j.Erase(t.Context(), "anna@example.com", "op", "why", received(99))
			ordered = err == nil
		}
		for more = true; more && err == nil; {
			more, err = j.Compact(t.Context())
		}
		done := err == nil
		j = openMem(t, fs)
		now := see(t, j)
		if now.Sum != want.Sum || len(now.Records) != len(want.Records) {
			t.Fatalf("died after %d changes: usage %s, want %s", steps, now.Sum, want.Sum)
		}
		if diff := cmp.Diff(want.Leaves, now.Leaves[:len(want.Leaves)]); diff != "" {
			t.Fatalf("died after %d changes: the tree changed: %s", steps, diff)
		}
		if ordered && now.Records[0].Event.Subject != "" {
			t.Fatalf("died after %d changes: the erased subject is served", steps)
		}
		compactAll(t, j)
		if ordered && (holds(t, fs, "anna@") || j.Erasing() != 0) {
			t.Fatalf("died after %d changes: the erased subject is on disk", steps)
		}
		if done {
			if steps < 50 {
				t.Errorf("only %d changes", steps)
			}
			return
		}
	}
}

func TestReadersWhileSegmentsAreSealed(t *testing.T) {
	t.Parallel()
	j, err := Open(Config{Dir: t.TempDir(), FS: OS{}, SegmentBytes: 4 << 10, Commit: commitTo})
	if err != nil {
		t.Fatal(err)
	}
	fill(t, j, 0, 200)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 3 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				page, err := j.Scan(t.Context(), store.Scan{Limit: 300})
				if err != nil || len(page.Records) < 200 || page.Records[7].Event.ID != "e7" {
					t.Error("events are missing:", err)
					return
				}
				leaves := 0
				if _, err := j.Leaves(t.Context(), 1, 1000, func(store.Leaf) error { leaves++; return nil }); err != nil || leaves < 400 {
					t.Error("leaves are missing:", err)
					return
				}
			}
		})
	}
	compactAll(t, j)
	for i, subject := range []string{"anna@example.com", "bert@example.com"} {
		fill(t, j, 200+i, 201+i)
		if _, err := j.Erase(t.Context(), subject, "op", "why", received(999)); err != nil {
			t.Fatal(err)
		}
		compactAll(t, j)
	}
	close(stop)
	wg.Wait()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestReadWhileSegmentBegins reads the last segment at the instant when the next one has a size and nobody sees it yet.
func TestReadWhileSegmentBegins(t *testing.T) {
	t.Parallel()
	j := openMem(t, memFS{})
	fill(t, j, 0, 3)
	all := *j.segments.Load()
	last := all[len(all)-1]
	j.durable.Store(&extent{last.Number + 1, segment.HeaderSize})
	if _, err := newReader(j).find(last.First); err != nil {
		t.Error("the next segment's size was taken for this one's:", err)
	}
}

func TestSealedDamageStopsTheStart(t *testing.T) {
	t.Parallel()
	fs := memFS{}
	j := openMem(t, fs)
	fill(t, j, 0, 40)
	compactAll(t, j)
	name := archive.Path("d", 2)
	for at := 0; at < len(fs[name].b); at += 13 {
		damaged := fs.clone()
		damaged[name].b[at] ^= 4
		_, err := Open(Config{Dir: "d", FS: damaged})
		if !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), name+" at byte ") {
			t.Fatalf("a bit flipped at %d: %v", at, err)
		}
		if _, err := folder.Check(t.Context(), damaged, "d"); !errors.Is(err, store.ErrCorrupt) {
			t.Fatalf("check with a bit flipped at %d: %v", at, err)
		}
	}
}

// noting writes down what is done to the disk.
type noting struct {
	memFS
	done *[]string
}

func (n noting) note(what, name string) {
	*n.done = append(*n.done, what+" "+strings.TrimPrefix(name, "d/"))
}

func (n noting) Open(name string, create bool) (File, error) {
	f, err := n.memFS.Open(name, create)
	return notingFile{f, n, name}, err
}

func (n noting) Rename(from, to string) error {
	n.note("rename", from)
	return n.memFS.Rename(from, to)
}
func (n noting) Remove(name string) error { n.note("remove", name); return n.memFS.Remove(name) }
func (n noting) SyncDir(dir string) error { n.note("sync", dir); return nil }

type notingFile struct {
	File
	disk noting
	name string
}

func (f notingFile) WriteAt(p []byte, at int64) (int, error) {
	f.disk.note("write", f.name)
	return f.File.WriteAt(p, at)
}

func (f notingFile) Sync() error { f.disk.note("sync", f.name); return f.File.Sync() }

// TestSealedBeforeTheRawOneGoes holds the order in which a power cut loses nothing.
func TestSealedBeforeTheRawOneGoes(t *testing.T) {
	t.Parallel()
	var done []string
	j := openMem(t, noting{memFS{}, &done})
	fill(t, j, 0, 20)
	done = nil
	if _, err := j.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{
		"write 00000001.seg.tmp", "sync 00000001.seg.tmp", "rename 00000001.seg.tmp", "sync d", "remove 00000001.log", "sync d",
	}, slices.Compact(done)); diff != "" {
		t.Error(diff)
	}
}

// TestOrdersAreFoundBehindTheIndex opens a journal whose index holds all of it: nothing is replayed, what was ordered holds.
func TestOrdersAreFoundBehindTheIndex(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open := func() *Journal {
		j, err := Open(Config{Dir: dir, SegmentBytes: 4 << 10, Commit: commitTo, Checkpoint: 1})
		if err != nil {
			t.Fatal(err)
		}
		return j
	}
	j := open()
	fill(t, j, 0, 30)
	before := see(t, j)
	if _, err := j.Erase(t.Context(), "anna@example.com", "op", "why", received(99)); err != nil {
		t.Fatal(err)
	}
	for _, waiting := range []int{1, 0} {
		if err := errors.Join(j.Tick(t.Context()), j.Close()); err != nil {
			t.Fatal(err)
		}
		j = open()
		if j.Erasing() != waiting {
			t.Errorf("%d erasures wait, want %d", j.Erasing(), waiting)
		}
		now := see(t, j)
		if diff := cmp.Diff(before.Leaves, now.Leaves[:len(before.Leaves)]); diff != "" || now.Records[0].Event.Subject != "" || now.Sum != before.Sum {
			t.Error(now.Sum, diff)
		}
		compactAll(t, j)
		fill(t, j, 30+waiting, 31+waiting)
		before.Sum = fmt.Sprint(32 - waiting)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}
