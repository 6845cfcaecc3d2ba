package enforce

import (
	"context"
	"errors"
	"testing"

	"github.com/tallystick/tallystick/internal/app/enforce/record"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/spool"
)

// slowWorld has small segments, and carries reservations forward soon.
func slowWorld(t *testing.T) *world {
	t.Helper()
	w := newWorldOn(t, spool.Config{SegmentBytes: 16 << 10}, quotaLimit("month", "1000000", period.Month))
	w.e.cfg.CarryBehind = 8 << 10
	return w
}

// TestReleasedWhileCarried: a request that was given back while its copy was on the way to the spool is not settled after a
// crash.
func TestReleasedWhileCarried(t *testing.T) {
	t.Parallel()
	w := slowWorld(t)
	slow := w.admit()
	w.calls(100)
	deliver := w.e.cfg.Deliver
	released := false
	w.e.cfg.Deliver = func(ctx context.Context, epoch uint32, from, to int64, b *store.Batch) ([]store.Result, error) {
		if !released { // what is open was read, and is carried next
			released = true
			if err := slow.Release(Failed); err != nil {
				return nil, err
			}
		}
		return deliver(ctx, epoch, from, to, b)
	}
	w.flush()
	w.crash()
	w.open()
	if n := w.e.Stats().Recovered; n != 0 {
		t.Errorf("%d requests were settled that were given back", n)
	}
	w.wantBooked("100")
}

// watchedSpool fails a read on demand, and a truncation before what was carried is durable.
type watchedSpool struct {
	store.Spool
	fail     bool
	appended int64 // where the newest record begins
	synced   int64 // what lies before survives a power cut
	lost     bool
	carried  bool
}

var errDisk = errors.New("input/output error")

func (s *watchedSpool) Append(reserve int, fill func([]byte) []byte) (int64, error) {
	var kind record.Kind
	at, err := s.Spool.Append(reserve, func(dst []byte) []byte {
		out := fill(dst)
		kind = record.KindOf(out[len(dst):])
		return out
	})
	if err == nil && kind == record.Carry {
		s.appended, s.carried = at, true
	}
	return at, err
}

func (s *watchedSpool) Sync(ctx context.Context) error {
	end := s.End()
	err := s.Spool.Sync(ctx)
	if err == nil {
		s.synced = end
	}
	return err
}

func (s *watchedSpool) Read(from int64, most int, each func(int64, []byte) error) (int64, error) {
	if s.fail {
		s.fail = false
		return from, errDisk
	}
	return s.Spool.Read(from, most, each)
}

func (s *watchedSpool) Truncate(before int64) error {
	s.lost = s.lost || s.carried && s.appended >= s.synced
	return s.Spool.Truncate(before)
}

// TestCarriedIsDurableBeforeTheOriginalGoes: else a power cut takes a reservation that was durable before.
func TestCarriedIsDurableBeforeTheOriginalGoes(t *testing.T) {
	t.Parallel()
	w := slowWorld(t)
	watched := &watchedSpool{Spool: w.e.cfg.Spool}
	w.e.cfg.Spool = watched
	slow := w.admit()
	w.calls(300)
	w.flush()
	if !watched.carried || watched.lost {
		t.Errorf("carried %v, truncated before the copy was durable %v", watched.carried, watched.lost)
	}
	if err := slow.Settle(Actual{Status: 200}); err != nil {
		t.Fatal(err)
	}
	w.wantBooked("301")
}

// TestReadAgainAfterAFault: when the spool is read again from its start, reservations of which only a carried copy is left are
// found again.
func TestReadAgainAfterAFault(t *testing.T) {
	t.Parallel()
	w := slowWorld(t)
	watched := &watchedSpool{Spool: w.e.cfg.Spool}
	w.e.cfg.Spool = watched
	slow, gone := w.admit(), w.admit()
	for range 10 {
		w.calls(60)
		w.flush()
	}
	if w.spool.Start() == 0 || !watched.carried {
		t.Fatal("nothing was truncated")
	}
	if err := gone.Release(Failed); err != nil {
		t.Fatal(err)
	}
	watched.fail = true
	if err := w.e.Flush(t.Context()); !errors.Is(err, errDisk) {
		t.Fatalf("flush: %v", err)
	}
	w.flush()
	if err := slow.Settle(Actual{Status: 200}); err != nil {
		t.Fatal(err)
	}
	w.wantBooked("601")
}

// TestSettledWhileCarried: a crash right after the original was truncated leaves the settlement and, behind it, the copy. The
// request counts once, and so does the copy when its settlement is gone too.
func TestSettledWhileCarried(t *testing.T) {
	t.Parallel()
	for _, ships := range []int{1, 3} {
		w := slowWorld(t)
		slow := w.admit()
		w.calls(100)
		deliver := w.e.cfg.Deliver
		settled := false
		w.e.cfg.Deliver = func(ctx context.Context, epoch uint32, from, to int64, b *store.Batch) ([]store.Result, error) {
			if !settled {
				settled = true
				if err := slow.Settle(Actual{Status: 200}); err != nil {
					return nil, err
				}
			}
			return deliver(ctx, epoch, from, to, b)
		}
		for range ships {
			w.calls(60)
			if _, err := w.e.shipOnce(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if w.spool.Start() == 0 || !settled {
			t.Fatal("nothing was truncated")
		}
		want := itoa(101 + 60*ships)
		w.crash()
		w.open()
		if n := w.e.Stats().Recovered; n != 0 {
			t.Errorf("%d requests were settled again", n)
		}
		w.wantBooked(want)
		left := 1_000_000 - 101 - 60*ships
		ls, err := w.e.Limits(t.Context(), "acme")
		if err != nil || ls[0].Remaining.String() != itoa(left) {
			t.Errorf("limits %+v, %v; want %d left", ls, err, left)
		}
	}
}
