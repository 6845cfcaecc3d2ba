package file_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file"
	"github.com/tallystick/tallystick/internal/store/journaltest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	t.Parallel()
	journaltest.Run(t, func(t *testing.T, dir string) store.Journal {
		t.Helper()
		return open(t, file.Config{Dir: dir})
	})
}

// TestConformanceSmallSegments has a segment end after every few commits.
func TestConformanceSmallSegments(t *testing.T) {
	t.Parallel()
	journaltest.Run(t, func(t *testing.T, dir string) store.Journal {
		t.Helper()
		return open(t, file.Config{Dir: dir, SegmentBytes: 4 << 10})
	})
}

func open(t testing.TB, cfg file.Config) *file.Journal {
	t.Helper()
	j, err := file.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return j
}
