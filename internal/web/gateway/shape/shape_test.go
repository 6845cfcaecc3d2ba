package shape

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tallystick/tallystick/internal/core/catalog"
)

// bucket lets one request through every period.
type bucket struct {
	mu   sync.Mutex
	per  time.Duration
	next time.Time
	log  []string
}

func (b *bucket) try(name string) func() (bool, time.Duration) {
	return func() (bool, time.Duration) {
		b.mu.Lock()
		defer b.mu.Unlock()
		now := time.Now()
		if now.Before(b.next) {
			return false, b.next.Sub(now)
		}
		b.next = now.Add(b.per)
		b.log = append(b.log, name)
		return true, 0
	}
}

func here(queue int) Lane {
	return Lane{Customer: "acme", Limit: &catalog.Shape{MaxWait: time.Second, Queue: queue}}
}

func TestInOrderAndFairBetweenKeys(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q, b := New(), &bucket{per: 10 * time.Millisecond, next: time.Now().Add(10 * time.Millisecond)}
		lane := here(10)
		var wg sync.WaitGroup
		for _, name := range []string{"a1", "a2", "a3", "a4", "b1", "c1", "b2"} {
			wg.Go(func() {
				if r := q.Wait(t.Context(), lane, Caller{Key: name[:1]}, 10*time.Millisecond, b.try(name)); r != Decided {
					t.Errorf("%s: %d", name, r)
				}
			})
			synctest.Wait()
		}
		start := time.Now()
		wg.Wait()
		if want := []string{"a1", "b1", "c1", "a2", "b2", "a3", "a4"}; !slices.Equal(b.log, want) {
			t.Errorf("%v, want %v", b.log, want)
		}
		if took := time.Since(start); took != 70*time.Millisecond {
			t.Errorf("7 at 100/s took %s", took)
		}
		if q.Waiting() != 0 || len(q.lanes) != 0 || len(q.callers) != 0 {
			t.Errorf("%d left, %v", q.Waiting(), q.lanes)
		}
	})
}

func TestBounds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q, lane := New(), here(2)
		never := func() (bool, time.Duration) { return false, 0 }
		if r := q.Wait(t.Context(), here(5), Caller{Key: "a"}, 2*time.Second, never); r != Expired {
			t.Errorf("too far away: %d", r)
		}
		if r := q.Wait(t.Context(), here(0), Caller{Key: "a"}, 0, never); r != Full {
			t.Errorf("no queue: %d", r)
		}
		results := make(chan Result, 10)
		start := time.Now()
		for range 3 {
			go func() { results <- q.Wait(t.Context(), lane, Caller{Key: "a"}, 0, never) }()
		}
		synctest.Wait()
		if r := <-results; r != Full || time.Since(start) != 0 {
			t.Errorf("third of two: %d after %s", r, time.Since(start))
		}
		if l, ok := q.Behind(Caller{Key: "a"}); !ok || l != lane {
			t.Error("the next one does not line up")
		}
		if _, ok := q.Behind(Caller{Key: "b"}); ok {
			t.Error("another key lines up")
		}
		for range 2 {
			if r := <-results; r != Expired || time.Since(start) != time.Second {
				t.Errorf("%d after %s", r, time.Since(start))
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		for range 2 {
			go func() { results <- q.Wait(ctx, lane, Caller{Key: "a"}, 0, never) }()
		}
		synctest.Wait()
		cancel()
		for range 2 {
			if r := <-results; r != Gone {
				t.Errorf("client gone: %d", r)
			}
		}
		for range 2 {
			go func() { results <- q.Wait(t.Context(), lane, Caller{Key: "a"}, 0, never) }()
		}
		synctest.Wait()
		q.Close()
		for range 2 {
			if r := <-results; r != Closed {
				t.Errorf("closed: %d", r)
			}
		}
		if q.Waiting() != 0 || len(q.lanes) != 0 || len(q.callers) != 0 {
			t.Error("something is left")
		}
	})
}

func TestPoke(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q, lane := New(), here(2)
		var free bool
		start := time.Now()
		done := make(chan Result)
		go func() {
			done <- q.Wait(t.Context(), lane, Caller{Key: "a"}, 0, func() (bool, time.Duration) { return free, 0 })
		}()
		synctest.Wait()
		free = true
		q.Poke("another")
		q.Poke("acme")
		if r := <-done; r != Decided || time.Since(start) != 0 {
			t.Errorf("%d after %s", r, time.Since(start))
		}
	})
}

func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	q, b, bounds := New(), &bucket{per: 10 * time.Microsecond}, &catalog.Shape{MaxWait: 5 * time.Millisecond, Queue: 8}
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i%7)*time.Millisecond+time.Millisecond)
			defer cancel()
			q.Wait(ctx, Lane{"acme", fmt.Sprint(i % 3), bounds}, Caller{Key: fmt.Sprint(i % 11)}, 0, b.try("x"))
			q.Poke("acme")
		})
	}
	wg.Wait()
	if q.Waiting() != 0 || len(q.lanes) != 0 || len(q.callers) != 0 {
		t.Error("something is left")
	}
}
