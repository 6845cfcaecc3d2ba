package backup_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/backup"
)

func at(minute int) time.Time { return time.Date(2026, 11, 27, 1, minute, 0, 0, time.UTC) }

// take makes one backup of texts by path: .log grows, .db changes in place, others are whole.
func take(t *testing.T, dir string, when time.Time, files map[string]string, publish bool) (m *backup.Manifest, written int64) {
	t.Helper()
	r, err := backup.Begin(dir, when, "test")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}()
	for path, text := range files {
		in := strings.NewReader(text)
		switch filepath.Ext(path) {
		case ".log":
			err = r.Growing(t.Context(), path, in)
		case ".db":
			err = r.Chunks(t.Context(), path, in)
		default:
			err = r.Whole(t.Context(), path, in, 0)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if !publish {
		return nil, r.Written
	}
	if m, err = r.Publish(backup.Manifest{Position: 7}); err != nil {
		t.Fatal(err)
	}
	return m, r.Written
}

func check(t *testing.T, target string, m *backup.Manifest, files map[string]string) {
	t.Helper()
	into := filepath.Join(t.TempDir(), "restored")
	if err := backup.Restore(t.Context(), target, m, into); err != nil {
		t.Fatal(err)
	}
	for path, want := range files {
		if have, err := os.ReadFile(filepath.Join(into, path)); err != nil || string(have) != want {
			t.Errorf("%s has %d bytes (%v), want %d", path, len(have), err, len(want))
		}
	}
}

func TestIncremental(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "target")
	db := strings.Repeat("a", 256<<10) + strings.Repeat("b", 256<<10) + "c"
	first := map[string]string{"journal/1.log": strings.Repeat("x", 1000), "records.db": db, "secrets/pepper": "salt", "empty": "", "void.log": ""}
	m1, n := take(t, dir, at(1), first, true)
	if want := int64(1000 + len(db) + 4); n != want {
		t.Errorf("the first backup wrote %d bytes, want %d", n, want)
	}
	if _, n = take(t, dir, at(2), first, true); n != 0 {
		t.Errorf("a backup of the same wrote %d bytes", n)
	}
	second := map[string]string{
		"journal/1.log": first["journal/1.log"] + "12345", "records.db": strings.Replace(db, "bb", "bB", 1), "secrets/pepper": "salt",
	}
	m3, n := take(t, dir, at(3), second, true)
	if want := int64(5 + 256<<10); n != want {
		t.Errorf("the third backup wrote %d bytes, want 5 and one chunk", n)
	}
	rewritten := map[string]string{"journal/1.log": "something else"}
	m4, _ := take(t, dir, at(4), rewritten, true)
	check(t, dir, m1, first)
	check(t, dir, m3, second)
	check(t, dir, m4, rewritten)
}

func TestUnpublishedIsNone(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "target")
	files := map[string]string{"a": "one"}
	m, _ := take(t, dir, at(1), files, true)
	take(t, dir, at(2), map[string]string{"a": "two"}, false)
	if err := os.WriteFile(filepath.Join(dir, "tmp", "object-9"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := backup.Load(dir, "")
	if err != nil || got.Name != m.Name {
		t.Fatalf("the newest backup is %v (%v), want %s", got, err, m.Name)
	}
	check(t, dir, got, files)
	take(t, dir, at(3), files, true)
	if left, err := os.ReadDir(filepath.Join(dir, "tmp")); err != nil || len(left) > 0 {
		t.Errorf("%d temporary files are left (%v)", len(left), err)
	}
	if _, err := backup.Begin(dir, at(2), ""); err == nil {
		t.Error("a clock that went back was taken")
	}
}

// Whatever byte of a target is flipped, it is found.
func TestFlippedByte(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "target")
	take(t, dir, at(1), map[string]string{"a.log": "some bytes", "b.db": "others", "c": "more"}, true)
	flips := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "LOCK" {
			return err
		}
		whole, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for i := range whole {
			bad := bytes.Clone(whole)
			bad[i] ^= 1
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				return err
			}
			m, err := backup.Load(dir, "")
			if err == nil {
				err = backup.Verify(t.Context(), dir, m)
			}
			if err == nil && i < len(whole)-1 { // the line's end of a manifest is no part of it
				t.Errorf("byte %d of %s was flipped, and nobody saw it", i, path)
			}
			flips++
		}
		return os.WriteFile(path, whole, 0o600)
	})
	if err != nil || flips == 0 {
		t.Fatal(err, flips)
	}
	m, err := backup.Load(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "objects", m.Files[0].Parts[0].SHA256[:2], m.Files[0].Parts[0].SHA256[2:])); err != nil {
		t.Fatal(err)
	}
	if err := backup.Verify(t.Context(), dir, m); !errors.Is(err, backup.ErrDamaged) {
		t.Errorf("a missing object: %v", err)
	}
}

func TestPrune(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "target")
	take(t, dir, at(1), map[string]string{"a": "one"}, true)
	take(t, dir, at(2), map[string]string{"a": "two", "b": "kept"}, true)
	m, _ := take(t, dir, at(3), map[string]string{"a": "three", "b": "kept"}, true)
	r, err := backup.Begin(dir, at(4), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := backup.Begin(dir, at(5), ""); err == nil {
		t.Error("two backups at once")
	}
	removed, err := r.Prune(1)
	if err = errors.Join(err, r.Close()); err != nil || removed != 2 {
		t.Fatal(removed, err)
	}
	names, err := backup.List(dir)
	if err != nil || len(names) != 1 || names[0] != m.Name {
		t.Fatal(names, err)
	}
	check(t, dir, m, map[string]string{"a": "three", "b": "kept"})
	objects, err := filepath.Glob(filepath.Join(dir, "objects", "*", "*"))
	if err != nil || len(objects) != 2 {
		t.Errorf("%d objects are left (%v), want 2", len(objects), err)
	}
}

func TestForeignFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "letter.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := backup.Begin(dir, at(1), ""); err == nil || !strings.Contains(err.Error(), "something else") {
		t.Errorf("a foreign folder was taken: %v", err)
	}
	if err := backup.Fresh(dir); err == nil {
		t.Error("a folder with a letter in it is no fresh one")
	}
	if err := backup.Fresh(t.TempDir()); err != nil {
		t.Error(err)
	}
}
