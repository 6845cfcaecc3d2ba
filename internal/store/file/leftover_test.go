package file

import (
	"bytes"
	"errors"
	"testing"
)

var errStuck = errors.New("this file cannot be removed")

// stuck is a disk that removes nothing while told so.
type stuck struct {
	memFS
	on *bool
}

func (d stuck) Remove(name string) error {
	if *d.on {
		return errStuck
	}
	return d.memFS.Remove(name)
}

// TestErasedOnlyOnceTheRawSegmentIsGone: while the raw form of a sealed segment cannot be removed, what was to be erased is still
// on disk, and the order is not done.
func TestErasedOnlyOnceTheRawSegmentIsGone(t *testing.T) {
	t.Parallel()
	on := true
	disk := stuck{memFS{}, &on}
	j, err := Open(Config{Dir: "d", FS: disk, SegmentBytes: 4 << 10, Commit: commitTo})
	if err != nil {
		t.Fatal(err)
	}
	fill(t, j, 0, 10)
	if _, err := j.Erase(t.Context(), "anna@example.com", "op", "request 7", received(99)); err != nil {
		t.Fatal(err)
	}
	raw := func() bool { // sealed segments are compressed
		for _, f := range disk.memFS {
			if bytes.Contains(f.b, []byte("anna@")) {
				return true
			}
		}
		return false
	}
	for range 5 {
		if _, err := j.Compact(t.Context()); !errors.Is(err, errStuck) {
			t.Fatalf("compact: %v", err)
		}
		if j.Erasing() == 0 && raw() {
			t.Fatal("the order is done, and anna is on disk")
		}
	}
	on = false
	compactAll(t, j)
	if j.Erasing() != 0 || raw() || holds(t, disk.memFS, "anna@") {
		t.Errorf("%d erasures wait; anna is on disk: %v", j.Erasing(), holds(t, disk.memFS, "anna@"))
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}
