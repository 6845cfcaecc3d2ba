package authority_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/quota"
	"github.com/tallystick/tallystick/internal/store"
)

// goOn freezes the authority and begins another process, with what the first one left.
func (w *world) goOn(after time.Duration) {
	w.t.Helper()
	left, err := w.s.Freeze(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	w.advance(after)
	w.config = func(c *authority.Config) { c.Memory, c.Run = left, "another" }
	w.restart()
}

// TestRunGoesOn: what lives in memory is in the next process as it was, and gateways have no reason to let go of it.
func TestRunGoesOn(t *testing.T) {
	t.Parallel()
	bucket := catalog.Limit{Key: "burst", Meter: "calls", Bucket: &catalog.Bucket{Rate: dec("2"), Burst: dec("10"), Per: time.Second}}
	fixed := catalog.Limit{Key: "short", Meter: "calls", Quota: new(dec("50")), Fixed: time.Minute}
	atOnce := catalog.Limit{Key: "at_once", Concurrency: 3}
	w := newWorld(t, fixed, bucket, atOnce)
	w.config = func(c *authority.Config) { c.Run = "first" }
	two, three := w.begin(2), w.begin(3)
	w.restart()
	w.advance(time.Minute)
	share := w.draw(2, two.Epoch, bucketAsk())[0]
	used := w.draw(2, two.Epoch, w.short(49))[0]
	w.draw(2, two.Epoch, atOnceAsk(1, 2, true))
	run := w.s.Run()
	w.goOn(3 * time.Second)
	if w.s.Run() != run || run != "first" {
		t.Errorf("run %q goes on as %q", run, w.s.Run())
	}
	if a := w.draw(3, three.Epoch, bucketAsk())[0]; a.Burst != 0 || !a.Shared {
		t.Errorf("beside who has all of the bucket, %+v: %+v", share, a)
	}
	if a := w.draw(3, three.Epoch, w.short(1))[0]; a.Base != used.Base+used.Granted {
		t.Errorf("beside %+v of a window: %+v", used, a)
	}
	if a := w.draw(3, three.Epoch, atOnceAsk(1, 0, true))[0]; a.Base < 2 || a.Base+a.Granted != 3 {
		t.Errorf("beside requests that run: %+v", a)
	}
	w.advance(8 * time.Second) // node 2 is silent: it has lapsed 5 s after the next process came, and is taken for that after 7
	if a := w.draw(3, three.Epoch, bucketAsk())[0]; a.Burst != 10 || a.Debt != 4*a.Per {
		t.Errorf("when the other's have lapsed: %+v", a)
	}
}

// newRun is a world of shares whose run has a name and knows what gateways hold.
func newRun(t *testing.T) *shares {
	t.Helper()
	w := newShares(t)
	w.config = func(c *authority.Config) { c.Run = "first" }
	w.restart()
	w.advance(7 * time.Second)
	return w
}

// TestOldMessagesStayOld: what was said before something that the process before has heard is not acted upon in the next one.
func TestOldMessagesStayOld(t *testing.T) {
	t.Parallel()
	w := newRun(t)
	a := w.ask(2, 1, authority.Answer{})
	a = w.ask(2, 3, a)
	w.goOn(time.Second)
	w.back(2, 2, a, 0)
	if a := w.ask(3, 1, authority.Answer{}); a.Burst != 0 {
		t.Errorf("a share of another one is given out: %+v", a)
	}
}

// TestRunThatBeganAloneGoesOnSo: gateways that came during a run hold nothing of one before.
func TestRunThatBeganAloneGoesOnSo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, catalog.Limit{Key: "burst", Meter: "calls", Bucket: &catalog.Bucket{Rate: dec("2"), Burst: dec("10"), Per: time.Second}})
	w.config = func(c *authority.Config) { c.Run = "first" }
	w.restart()
	w.begin(1)
	two := w.begin(2)
	w.goOn(time.Second)
	if a := w.draw(2, two.Epoch, bucketAsk())[0]; a.Burst != 10 {
		t.Errorf("%+v", a)
	}
}

// TestWhatIsLeftCannotBeUsed: what is old, or not of this release, begins a run.
func TestWhatIsLeftCannotBeUsed(t *testing.T) {
	t.Parallel()
	bucket := catalog.Limit{Key: "burst", Meter: "calls", Bucket: &catalog.Bucket{Rate: dec("2"), Burst: dec("10"), Per: time.Second}}
	for name, tt := range map[string]struct {
		change func(left []byte) []byte
		after  time.Duration
	}{
		"old":             {after: time.Minute + time.Second},
		"of the future":   {after: -time.Second},
		"cut":             {change: func(left []byte) []byte { return left[:len(left)/2] }},
		"another release": {change: func(left []byte) []byte { return append([]byte(`{"format":2`), left[len(`{"format":1`):]...) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, bucket)
			w.config = func(c *authority.Config) { c.Run = "first" }
			w.restart()
			two, three := w.begin(2), w.begin(3)
			w.draw(2, two.Epoch, bucketAsk())
			left, err := w.s.Freeze(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if tt.change != nil {
				left = tt.change(left)
			}
			w.advance(tt.after)
			w.config = func(c *authority.Config) { c.Memory, c.Run = left, "another" }
			w.restart()
			if a := w.draw(3, three.Epoch, bucketAsk())[0]; w.s.Run() != "another" || a.Burst != 0 || a.AskAgain < w.Now().Add(7*time.Second).UnixMicro() {
				t.Errorf("run %q gives %+v", w.s.Run(), a)
			}
		})
	}
}

// TestFrozenGrantsNothing: once it is handed over, no call is served here.
func TestFrozenGrantsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, catalog.Limit{Key: "at_once", Concurrency: 3})
	one := w.begin(1)
	if _, err := w.s.Freeze(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, drawn := w.s.Draw(t.Context(), authority.Draw{
		Node: 1, Epoch: one.Epoch, CustomerID: custID, SubscriptionID: w.sub.ID, CatalogVersion: 1, Now: w.Now().UnixMicro(), Seq: 1, Asks: []authority.Ask{atOnceAsk(1, 1, true)},
	})
	_, begun := w.s.Begin(t.Context(), 2, "boot", w.Now())
	returned := w.s.Return(t.Context(), 1, one.Epoch, nil)
	for _, err := range []error{drawn, begun, returned} {
		if !errors.Is(err, authority.ErrUnreachable) {
			t.Errorf("a call is answered with %v", err)
		}
	}
}

// TestFreezeWaits: a call that runs is answered, and known to the next process; one that takes too long leaves nothing.
func TestFreezeWaits(t *testing.T) {
	t.Parallel()
	for _, patient := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			bucket := catalog.Limit{Key: "burst", Meter: "calls", Bucket: &catalog.Bucket{Rate: dec("2"), Burst: dec("10"), Per: time.Second}}
			w := newWorld(t, bucket, catalog.Limit{Key: "daily", Meter: "calls", Quota: new(dec("100")), Window: period.Day})
			one := w.begin(1)
			slow := w.slowly(nil)
			two := w.begin(2)
			done := make(chan error)
			go func() {
				_, err := w.s.Draw(context.Background(), authority.Draw{
					Node: 1, Epoch: one.Epoch, CustomerID: custID, SubscriptionID: w.sub.ID, CatalogVersion: 1, Now: w.Now().UnixMicro(), Seq: 1,
					Asks: []authority.Ask{bucketAsk(), w.daily(1, 1, "daily")},
				})
				done <- err
			}()
			<-slow.begun
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var left []byte
			frozen := make(chan error)
			go func() {
				var err error
				left, err = w.s.Freeze(ctx)
				frozen <- err
			}()
			synctest.Wait()
			select {
			case err := <-frozen:
				t.Fatalf("frozen beside a call that runs: %v", err)
			default:
			}
			if !patient {
				cancel()
				if err := <-frozen; !errors.Is(err, context.Canceled) {
					t.Errorf("frozen beside a call that takes too long: %v", err)
				}
			}
			close(slow.end)
			if err := <-done; err != nil {
				t.Errorf("the call that ran: %v", err)
			}
			if !patient {
				return
			}
			if err := <-frozen; err != nil {
				t.Fatal(err)
			}
			w.config = func(c *authority.Config) { c.Memory = left }
			w.restart()
			if a := w.draw(2, two.Epoch, bucketAsk())[0]; a.Burst != 0 || !a.Shared {
				t.Errorf("the next process knows nothing of the call that ran: %+v", a)
			}
		})
	}
}

// TestToldPlacesAreHandedOver: requests that a gateway has told of run on in the next process, though nobody has drawn on the counter.
func TestToldPlacesAreHandedOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t, catalog.Limit{Key: "at_once", Concurrency: 3})
	w.config = func(c *authority.Config) { c.Run = "first" }
	two, three := w.begin(2), w.begin(3)
	w.restart()
	ctx := t.Context()
	if err := w.s.Return(ctx, 2, two.Epoch, []authority.Back{{Counter: store.CounterKey{CustomerID: custID}, Kind: quota.Concurrency, Seq: 5, Spent: 3, Keep: 3}}); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		w.advance(2 * time.Second)
		if err := w.s.Return(ctx, 2, two.Epoch, nil); err != nil {
			t.Fatal(err)
		}
	}
	w.goOn(time.Second)
	if a := w.draw(3, three.Epoch, atOnceAsk(1, 0, true))[0]; a.Granted != 0 {
		t.Errorf("beside 3 that run: %+v", a)
	}
}

// TestNobodyIsSilentAtOnce: a process that goes on with a run takes nobody for silent whom it has not heard yet.
func TestNobodyIsSilentAtOnce(t *testing.T) {
	t.Parallel()
	w := newRun(t)
	w.ask(2, 1, authority.Answer{})
	w.goOn(time.Second)
	if err := w.s.Tick(t.Context()); err != nil {
		t.Fatal(err)
	}
	if a := w.ask(3, 1, authority.Answer{}); a.Burst != 0 {
		t.Errorf("what another one holds is given out: %+v", a)
	}
}
