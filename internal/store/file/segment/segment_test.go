package segment_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file/record"
	"github.com/tallystick/tallystick/internal/store/file/segment"
)

func TestHeader(t *testing.T) {
	t.Parallel()
	b := segment.EncodeHeader(7, 1<<40)
	if number, first, err := segment.DecodeHeader(b); number != 7 || first != 1<<40 || err != nil || len(b) != segment.HeaderSize {
		t.Errorf("%d, %d, %v from %d bytes", number, first, err, len(b))
	}
	for i := range b {
		bad := slices.Clone(b)
		bad[i] ^= 1
		if _, _, err := segment.DecodeHeader(bad); !errors.Is(err, segment.ErrHeader) {
			t.Errorf("byte %d flipped: %v", i, err)
		}
	}
	if _, _, err := segment.DecodeHeader(b[:31]); !errors.Is(err, segment.ErrHeader) {
		t.Errorf("a short header: %v", err)
	}
}

func TestOS(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a", "b")
	disk := segment.OS{}
	for range 2 {
		if err := disk.MkdirAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := disk.Open(segment.Path(dir, 1), false); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("opening what is not there: %v", err)
	}
	for _, n := range []uint32{2, 1, 3} {
		f, err := disk.Open(segment.Path(dir, n), true)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte("abc"), 0); err != nil {
			t.Fatal(err)
		}
		size, err := f.Size()
		if err := errors.Join(err, f.Sync(), f.Truncate(2), f.Close()); err != nil || size != 3 {
			t.Fatal(size, err)
		}
	}
	for _, other := range []string{"notes.txt", "00000009.log.tmp", "1.log", "0000000x.log"} {
		if err := os.WriteFile(filepath.Join(dir, other), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if numbers, err := segment.List(disk, dir); err != nil || !slices.Equal(numbers, []uint32{1, 2, 3}) {
		t.Errorf("%v, %v", numbers, err)
	}
	if err := os.Remove(segment.Path(dir, 2)); err != nil {
		t.Fatal(err)
	}
	if _, err := segment.List(disk, dir); !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), segment.Path(dir, 2)) {
		t.Errorf("%v, want ErrCorrupt naming segment 2", err)
	}
}

// failing reads nothing.
type failing struct{ segment.File }

func (failing) Size() (int64, error)                   { return 100, nil }
func (failing) ReadAt([]byte, int64) (int, error)      { return 0, io.ErrClosedPipe }
func (failing) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

func TestReadFailure(t *testing.T) {
	t.Parallel()
	var w segment.Window
	if err := w.Reset(failing{}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.FrameAt(0); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("FrameAt: %v", err)
	}
	if _, _, err := w.NextFrame(0); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("NextFrame: %v", err)
	}
	s := segment.Segment{Name: "x", File: failing{}}
	if _, err := s.ReadRecord(0, make([]byte, record.HeaderSize)); !errors.Is(err, io.ErrClosedPipe) || errors.Is(err, store.ErrCorrupt) {
		t.Errorf("ReadRecord: %v", err)
	}
}
