package file_test

import (
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file"
	"github.com/tallystick/tallystick/internal/store/journaltest"
)

// indexInMemory is the real disk, but for the index.
type indexInMemory struct {
	file.OS
	disk vfs.FS
}

func (d indexInMemory) IndexDisk() vfs.FS { return d.disk }

// TestConformanceCheckpoints has a checkpoint come after every few events, so that most is read from the index on disk.
func TestConformanceCheckpoints(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1, 3} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			disk := indexInMemory{disk: vfs.NewMem()}
			journaltest.Run(t, func(t *testing.T, dir string) store.Journal {
				t.Helper()
				return open(t, file.Config{Dir: dir, FS: disk, SegmentBytes: 4 << 10, Checkpoint: size})
			})
		})
	}
}
