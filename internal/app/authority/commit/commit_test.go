package commit_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/tallystick/tallystick/internal/app/authority/commit"
)

// TestOneWriteForAllWhoCameMeanwhile: 40 callers while a write runs are written by one more, in their order, and all hear of it.
func TestOneWriteForAllWhoCameMeanwhile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		full := errors.New("full")
		var writes [][]int
		running, release := false, make(chan struct{})
		w := commit.NewWriter(func(_ context.Context, rows []int) error {
			if running {
				t.Error("two writes at once")
			}
			running = true
			<-release
			running = false
			writes = append(writes, rows)
			if len(writes) == 2 {
				return full
			}
			return nil
		})
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := w.Wait(t.Context(), w.Enqueue([]int{0})); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		for i := range 40 {
			ticket := w.Enqueue([]int{i})
			wg.Go(func() {
				if err := w.Wait(t.Context(), ticket); !errors.Is(err, full) {
					t.Errorf("caller %d heard %v", i, err)
				}
			})
		}
		close(release)
		wg.Wait()
		if len(writes) != 2 || len(writes[1]) != 40 {
			t.Fatalf("writes %v", writes)
		}
		for i, n := range writes[1] {
			if i != n {
				t.Fatalf("row %d is in place %d", n, i)
			}
		}
	})
}
