package tree_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/tallystick/tallystick/internal/core/seal"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file/segment"
	"github.com/tallystick/tallystick/internal/store/file/tree"
)

// blocks are made-up roots of blocks.
func blocks(n int) [][32]byte {
	out := make([][32]byte, n)
	for i := range out {
		out[i] = tlog.RecordHash([]byte{byte(i), byte(i >> 8)})
	}
	return out
}

func open(t *testing.T, dir string) *tree.Tree {
	t.Helper()
	tr, err := tree.Open(tree.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tr.Close() })
	return tr
}

// check says that the tree holds exactly these blocks and what follows from them.
func check(t *testing.T, tr *tree.Tree, want [][32]byte) {
	t.Helper()
	for number := 1; number <= 5; number++ {
		if n := tr.Len(number); n != int64(len(want)) {
			t.Fatalf("level %d has %d hashes, expected %d", number, n, len(want))
		}
		var got, above [][32]byte
		for from := 0; from < len(want); from += seal.Block {
			n := min(seal.Block, len(want)-from)
			part, err := tr.Hashes(number, int64(from), n)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, part...)
			if n == seal.Block {
				var r seal.Range
				for _, h := range part {
					r.Add(h)
				}
				above = append(above, r.Root())
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("level %d holds other hashes", number)
		}
		want = above
	}
}

func TestAppend(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "tree")
	all := blocks(600)
	tr := open(t, dir)
	check(t, tr, nil)
	for _, part := range [][][32]byte{all[:1], all[1:255], all[255:257], nil, all[257:]} {
		if err := tr.Append(part); err != nil {
			t.Fatal(err)
		}
	}
	check(t, tr, all)
	check(t, open(t, dir), all)
	for _, bad := range []struct {
		level int
		from  int64
		n     int
	}{{1, 599, 2}, {2, 2, 1}, {0, 0, 1}, {6, 0, 1}, {1, -1, 1}} {
		if _, err := tr.Hashes(bad.level, bad.from, bad.n); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if err := tr.Truncate(300); err != nil {
		t.Fatal(err)
	}
	check(t, tr, all[:300])
	if err := tr.Append(all[300:]); err != nil {
		t.Fatal(err)
	}
	check(t, open(t, dir), all)
}

// TestDamageIsCutOff: what is damaged is gone after opening, whatever level it is in, and can be appended again.
func TestDamageIsCutOff(t *testing.T) {
	t.Parallel()
	all := blocks(600)
	for _, c := range []struct {
		name   string
		file   string
		damage func(b []byte) []byte
		left   int
	}{
		{"a flipped bit", "level1", func(b []byte) []byte { b[36*400+5] ^= 1; return b }, 400},
		{"a flipped bit in a checksum", "level1", func(b []byte) []byte { b[36*400+33] ^= 1; return b }, 400},
		{"a torn entry", "level1", func(b []byte) []byte { return b[:36*599+7] }, 599},
		{"entries that changed places", "level1", func(b []byte) []byte {
			return append(append(append(append([]byte{}, b[:36*300]...), b[36*301:36*302]...), b[36*300:36*301]...), b[36*302:]...)
		}, 300},
		{"a flipped bit above", "level2", func(b []byte) []byte { b[5] ^= 1; return b }, 600},
		{"an entry too many above", "level3", func([]byte) []byte { return make([]byte, 36) }, 600},
		{"nothing above", "level2", func([]byte) []byte { return nil }, 600},
		{"nothing", "level1", func([]byte) []byte { return nil }, 0},
	} {
		dir := t.TempDir()
		tr := open(t, dir)
		if err := tr.Append(all); err != nil {
			t.Fatal(err)
		}
		if err := tr.Close(); err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(dir, c.file)
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, c.damage(b), 0o600); err != nil {
			t.Fatal(err)
		}
		tr = open(t, dir)
		t.Log(c.name, "- cut off:", tr.Cut())
		check(t, tr, all[:c.left])
		if err := tr.Append(all[c.left:]); err != nil {
			t.Fatal(err)
		}
		check(t, tr, all)
	}
}

// TestDamageWhileOpen is never served.
func TestDamageWhileOpen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tr := open(t, dir)
	if err := tr.Append(blocks(3)); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "level1"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte{0xff}, 36); err != nil {
		t.Fatal(err)
	}
	if _, err := tr.Hashes(1, 0, 3); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("read damaged hashes: %v", err)
	}
	if _, err := tr.Hashes(1, 0, 1); err != nil {
		t.Errorf("read whole ones: %v", err)
	}
}

// failing is a disk on which a write of one file, or a sync, fails while it is told to.
type failing struct {
	segment.FS
	write, sync *string // names of files
}

type failingFile struct {
	segment.File
	on   failing
	name string
}

var errDisk = errors.New("disk")

func (f failing) Open(name string, create bool) (segment.File, error) {
	file, err := f.FS.Open(name, create)
	if err != nil {
		return nil, err
	}
	return failingFile{file, f, filepath.Base(name)}, nil
}

func (f failingFile) WriteAt(b []byte, at int64) (int, error) {
	if *f.on.write == f.name {
		n, _ := f.File.WriteAt(b[:len(b)/2], at)
		return n, errDisk
	}
	return f.File.WriteAt(b, at)
}

func (f failingFile) Sync() error {
	if *f.on.sync == f.name {
		return errDisk
	}
	return f.File.Sync()
}

// TestFailingDisk: what could not be written or synced, on whatever level, is not there and is appended again.
func TestFailingDisk(t *testing.T) {
	t.Parallel()
	all := blocks(520)
	var write, sync string
	dir := t.TempDir()
	tr, err := tree.Open(tree.Config{Dir: dir, FS: failing{segment.OS{}, &write, &sync}})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	if err := tr.Append(all[:300]); err != nil {
		t.Fatal(err)
	}
	for _, fail := range []*string{&write, &sync} {
		for _, name := range []string{"level1", "level2"} {
			*fail = name
			if err := tr.Append(all[300:]); !errors.Is(err, errDisk) {
				t.Errorf("append: %v", err)
			}
			*fail = ""
			check(t, tr, all[:300])
		}
	}
	if err := tr.Append(all[300:]); err != nil {
		t.Fatal(err)
	}
	check(t, tr, all)
	check(t, open(t, dir), all)
}
