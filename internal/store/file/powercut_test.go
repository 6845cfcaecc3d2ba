package file_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file"
)

// sectorBytes is what a disk writes wholly or not at all.
const sectorBytes = 512

var errPowerCut = errors.New("the power is cut")

// powerDisk is the real disk with a memory of what is durable: content as of each file's last Sync, names as of the last
// SyncDir. At the power cut every other sector survives or not, on its own and in any order, and so do names and sizes.
type powerDisk struct {
	file.OS
	lying bool // Sync says that it did, and does not

	mu      sync.Mutex
	left    int // operations until the cut
	dead    bool
	durable map[string][]byte // by file name
	named   map[string]bool   // durable names
	image   map[string][]byte // all files at the cut
}

func newPowerDisk(t *testing.T, dir string, operations int, lying bool) *powerDisk {
	t.Helper()
	d := &powerDisk{left: operations, lying: lying, durable: map[string][]byte{}, named: map[string]bool{}}
	for name, content := range filesIn(t, dir) {
		d.durable[name], d.named[name] = content, true
	}
	return d
}

func filesIn(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	names, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if files[filepath.Base(name)], err = os.ReadFile(name); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// step counts an operation down; mu is held. The cut comes with the last one, which is half done.
func (d *powerDisk) step() error {
	if d.dead {
		return errPowerCut
	}
	d.left--
	return nil
}

// after takes the image when the cut has come; mu is held.
func (d *powerDisk) after(dir string) error {
	if d.left > 0 || d.dead {
		return nil
	}
	d.dead = true
	d.image = map[string][]byte{}
	names, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil {
		return err
	}
	for _, name := range names {
		content, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		d.image[filepath.Base(name)] = content
	}
	return errPowerCut
}

func (d *powerDisk) Open(name string, create bool) (file.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step(); err != nil {
		return nil, err
	}
	f, err := d.OS.Open(name, create)
	if err != nil {
		return nil, err
	}
	return &powerFile{File: f, disk: d, path: name}, d.after(filepath.Dir(name))
}

func (d *powerDisk) SyncDir(dir string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step(); err != nil {
		return err
	}
	names, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil {
		return err
	}
	for _, name := range names {
		d.named[filepath.Base(name)] = true
	}
	return d.after(dir)
}

type powerFile struct {
	file.File
	disk *powerDisk
	path string
}

func (f *powerFile) change(do func() error) error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if err := f.disk.step(); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	return f.disk.after(filepath.Dir(f.path))
}

func (f *powerFile) WriteAt(p []byte, at int64) (n int, err error) {
	err = f.change(func() (err error) {
		n, err = f.File.WriteAt(p, at)
		return err
	})
	return n, err
}

func (f *powerFile) Truncate(size int64) error {
	return f.change(func() error { return f.File.Truncate(size) })
}

func (f *powerFile) Sync() error {
	return f.change(func() error {
		if f.disk.lying {
			return nil
		}
		if f.disk.left <= 0 { // the cut comes before the sync is done
			return nil
		}
		content, err := os.ReadFile(f.path)
		f.disk.durable[filepath.Base(f.path)] = content
		return err
	})
}

// survivors is one of the many things that a power cut may leave.
func (d *powerDisk) survivors(random *rand.Rand) map[string][]byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := map[string][]byte{}
	keep := random.IntN(101) // of a hundred sectors
	for _, name := range slices.Sorted(maps.Keys(d.image)) {
		now, was := d.image[name], d.durable[name]
		if !d.named[name] && random.IntN(2) == 0 {
			continue
		}
		size := len(was)
		if random.IntN(3) > 0 {
			size = max(size, len(now))
		}
		content := make([]byte, size)
		copy(content, was)
		for from := 0; from < size; from += sectorBytes {
			to := min(from+sectorBytes, size)
			if to <= len(now) && !bytes.Equal(content[from:to], now[from:to]) && random.IntN(100) < keep {
				copy(content[from:to], now[from:to])
			}
		}
		out[name] = content
	}
	return out
}

// appendUntilCut appends with several producers until the disk is dead, and returns what was acknowledged.
func appendUntilCut(t *testing.T, cfg file.Config, round int) (acked []string) {
	t.Helper()
	j, err := file.Open(cfg)
	if errors.Is(err, errPowerCut) {
		return nil // it came while opening
	}
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for producer := range 4 {
		wg.Go(func() {
			for n := 0; ; n++ {
				var ids []string
				for i := range 1 + n%5 {
					ids = append(ids, fmt.Sprintf("%d-%d-%d-%d", round, producer, n, i))
				}
				if _, err := send(j, ids...); err != nil {
					return
				}
				mu.Lock()
				acked = append(acked, ids...)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	_ = j.Close() // its files are on a dead disk
	return acked
}

// afterCut opens what survived and returns the acknowledged events that are missing.
func afterCut(t *testing.T, dir string, acked []string) (lost []string) {
	t.Helper()
	j := open(t, file.Config{Dir: dir, SegmentBytes: 16 << 10})
	defer closeJournal(t, j)
	for _, id := range acked {
		if _, err := j.Event(t.Context(), "gateway/1", id); errors.Is(err, store.ErrNotFound) {
			lost = append(lost, id)
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if len(lost) > 0 {
		return lost
	}
	var all []string
	for s := (store.Scan{Limit: 1000}); ; {
		page, err := j.Scan(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range page.Records {
			all = append(all, r.Event.ID)
		}
		if s.Cursor = page.Next; page.Next == "" {
			break
		}
	}
	holds(t, j, all...)
	if slices.Sort(all); len(slices.Compact(all)) != j.Stats().Events {
		t.Error("an event is there twice")
	}
	return nil
}

// cutPower makes rounds of load, cut and restart on one folder, and returns how many acknowledged events were lost; it stops
// at the first loss or at a folder that cannot be opened any more.
func cutPower(t *testing.T, seed uint64, lying bool) (acked []string, lost int) {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	for round := range 4 {
		disk := newPowerDisk(t, dir, 8+random.IntN(250), lying)
		acked = append(acked, appendUntilCut(t, file.Config{Dir: dir, SegmentBytes: 16 << 10, FS: disk, Checkpoint: 40}, round)...)
		next := t.TempDir()
		if random.IntN(2) == 0 { // all of the index survives: it must not know of anything that the log lost
			err := os.CopyFS(filepath.Join(next, "index"), os.DirFS(filepath.Join(dir, "index")))
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
		}
		for name, content := range disk.survivors(random) {
			if err := os.WriteFile(filepath.Join(next, name), content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		dir = next
		if lying {
			if j, err := file.Open(file.Config{Dir: dir, SegmentBytes: 16 << 10}); err != nil {
				return acked, len(acked) // damaged beyond opening
			} else if err := j.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if missing := afterCut(t, dir, acked); len(missing) > 0 {
			return acked, len(missing)
		}
	}
	return acked, 0
}

// TestPowerCut: whatever unsynced bytes a power cut takes or keeps, nothing that was acknowledged is lost or there twice.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		acked, lost := cutPower(t, seed, false)
		if lost > 0 {
			t.Errorf("seed %d: %d of %d acknowledged events are lost", seed, lost, len(acked))
		}
	}
}

// TestPowerCutWithoutSync shows that TestPowerCut looks: without the sync, acknowledged events are lost.
func TestPowerCutWithoutSync(t *testing.T) {
	t.Parallel()
	lost := 0
	for seed := range uint64(10) {
		_, n := cutPower(t, seed, true)
		lost += n
	}
	if lost == 0 {
		t.Error("a disk that does not sync loses nothing: the test does not see a loss")
	}
	t.Logf("without sync %d acknowledged events were lost", lost)
}
