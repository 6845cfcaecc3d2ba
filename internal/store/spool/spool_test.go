package spool

import (
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/storetest"
)

func tiny(dir string) Config {
	return Config{Dir: dir, SegmentBytes: MinSegmentBytes, MaxBytes: 8 * MinSegmentBytes}
}

func mustOpen(t testing.TB, cfg Config) *Spool {
	t.Helper()
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestConformance(t *testing.T) {
	t.Parallel()
	const odd = MinSegmentBytes + 777
	storetest.Spool(t, func(t *testing.T, dir string) store.Spool {
		return mustOpen(t, Config{Dir: dir, SegmentBytes: odd, MaxBytes: 8 * odd})
	})
}

// sized fills in n zeros.
func sized(n int) func([]byte) []byte {
	return func(dst []byte) []byte { return append(dst, make([]byte, n)...) }
}

func TestReadMayAppendAndTruncate(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, tiny(t.TempDir()))
	if _, err := s.Append(0, sized(10)); err != nil {
		t.Fatal(err)
	}
	seen := 0
	if _, err := s.Read(s.Start(), 1<<30, func(offset int64, _ []byte) error {
		if seen++; seen < 100 {
			if _, err := s.Append(0, sized(1000)); err != nil {
				return err
			}
		}
		return s.Truncate(offset)
	}); err != nil {
		t.Fatal(err)
	}
	if seen != 100 {
		t.Fatalf("read saw %d records, want 100", seen)
	}
}

// TestConcurrentUse appends from several goroutines while others sync, read and truncate. A record must be read
// after its Append returned, in the order of the fill calls, and once.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	const writers, pairs, unread = 4, 300, 10
	s := mustOpen(t, tiny(t.TempDir()))
	var wg sync.WaitGroup
	room := make(chan struct{}, unread+writers*pairs) // keeps the writers from filling the spool
	for range unread {
		room <- struct{}{}
	}
	order := uint32(0) // guarded by the spool's own lock: that is what is tested
	next := func(dst []byte) []byte {
		order++
		return append(binary.BigEndian.AppendUint32(dst, order), make([]byte, order%200)...)
	}
	write := func(i int) error {
		<-room
		_, err := s.Append(500, next)
		if err == nil && i%20 == 0 {
			err = s.Sync(t.Context())
		}
		if err == nil {
			_, err = s.AppendReserved(500, next)
		}
		return err
	}
	for range writers {
		wg.Go(func() {
			for i := range pairs {
				if err := write(i); err != nil {
					t.Errorf("write: %v", err)
					return
				}
			}
		})
	}
	seen := uint32(0)
	for at := s.Start(); seen < 2*writers*pairs && !t.Failed(); {
		var err error
		at, err = s.Read(at, 5000, func(_ int64, p []byte) error {
			if seen++; binary.BigEndian.Uint32(p) != seen {
				return errors.New("out of order")
			}
			if seen%2 == 0 {
				room <- struct{}{}
			}
			return nil
		})
		if err == nil {
			err = s.Truncate(at)
		}
		if err != nil {
			t.Errorf("record %d: %v", seen, err)
		}
	}
	close(room)
	wg.Wait()
}

// TestReservedAppendsNeverFail fills the spool with random sizes, then uses every reserve in full, in random order.
func TestReservedAppendsNeverFail(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		s := mustOpen(t, Config{Dir: t.TempDir(), SegmentBytes: MinSegmentBytes, MaxBytes: 4 * MinSegmentBytes})
		defer func() { _ = s.Close() }()
		size := rapid.IntRange(1, rapid.SampledFrom([]int{50, 500, MaxPayload}).Draw(rt, "largest"))
		var reserves []int
		for range 500 {
			reserve := size.Draw(rt, "reserve")
			_, err := s.Append(reserve, sized(size.Draw(rt, "size")))
			if errors.Is(err, store.ErrFull) {
				break
			}
			if err != nil {
				rt.Fatal(err)
			}
			reserves = append(reserves, reserve)
			if len(reserves)%3 == 0 { // some are used on the way, and leave a rest
				i := rapid.IntRange(0, len(reserves)-1).Draw(rt, "early")
				if _, err := s.AppendReserved(reserves[i], sized(rapid.IntRange(1, reserves[i]).Draw(rt, "actual"))); err != nil {
					rt.Fatalf("early reserved append: %v", err)
				}
				reserves = slices.Delete(reserves, i, i+1)
			}
		}
		for _, reserve := range rapid.Permutation(reserves).Draw(rt, "order") {
			if _, err := s.AppendReserved(reserve, sized(reserve)); err != nil {
				rt.Fatalf("reserved append of %d: %v", reserve, err)
			}
		}
	})
}
