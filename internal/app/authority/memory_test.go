package authority_test

import (
	"context"
	"errors"
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/quota"
	"github.com/tallystick/tallystick/internal/store"
)

// short asks for units of the window, or slot, around now of the limit "short".
func (w *world) short(need int64) authority.Ask {
	l := w.Current().Limits("free", "calls")[0]
	at, end, _ := l.WindowAt(w.Now().UnixMicro())
	return authority.Ask{
		Counter:   store.CounterKey{CustomerID: custID, Meter: "calls", Length: end - at, Start: at},
		WindowEnd: end, Kind: l.Kind, Limits: []string{"short"}, Need: need,
	}
}

// TestSlotsAreKeptAsLongAsTheyCount: what was used in a slot of a rolling window counts until it leaves the window, though nobody
// asked for anything meanwhile.
func TestSlotsAreKeptAsLongAsTheyCount(t *testing.T) {
	t.Parallel()
	w := newWorld(t, catalog.Limit{Key: "short", Meter: "calls", Quota: new(dec("50")), Rolling: 30 * time.Minute})
	one := w.begin(1)
	w.advance(time.Hour)
	if a := w.draw(1, one.Epoch, w.short(50))[0]; a.Granted != 50 {
		t.Fatalf("%+v", a)
	}
	for range 29 {
		w.advance(time.Minute)
		if err := w.s.Tick(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if a := w.draw(1, one.Epoch, w.short(50))[0]; a.Granted != 0 {
		t.Errorf("after 50 of 50 in half an hour: %+v", a)
	}
	w.advance(40 * time.Minute)
	if err := w.s.Tick(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := w.s.Stats().Counters; n != 0 {
		t.Errorf("%d counters are kept for nothing", n)
	}
}

// TestClockOfOneThatDrawsNothing: what a gateway whose clock is ahead used before this start counts for others, though it draws
// nothing any more.
func TestClockOfOneThatDrawsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, catalog.Limit{Key: "short", Meter: "calls", Quota: new(dec("50")), Fixed: time.Minute})
	one := w.begin(1)
	w.begin(2)
	w.advance(17 * time.Minute)
	w.restart()
	w.s.ReadClock(w.Now().Add(3 * time.Minute))
	w.advance(3*time.Minute - 10*time.Second)
	if a := w.draw(1, one.Epoch, w.short(1))[0]; a.Granted != 0 {
		t.Errorf("of a window in which the other was before the restart: %+v", a)
	}
	w.advance(2 * time.Minute)
	if a := w.draw(1, one.Epoch, w.short(1))[0]; a.Granted == 0 {
		t.Errorf("of a later one: %+v", a)
	}
}

// TestWindowsThatAreNone: a window that no gateway of ours has is refused, and costs neither time nor the process.
func TestWindowsThatAreNone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, catalog.Limit{Key: "short", Meter: "calls", Quota: new(dec("50")), Rolling: 24 * time.Hour})
	one := w.begin(1)
	w.use(meter.Admitted, 1, w.Now())
	for _, length := range []int64{0, 1, 1000, math.MaxInt64} {
		ask := w.short(1)
		ask.Counter.Length = length
		_, err := w.s.Draw(t.Context(), authority.Draw{
			Node: 1, Epoch: one.Epoch, CustomerID: custID, SubscriptionID: w.sub.ID, CatalogVersion: 1, Now: w.Now().UnixMicro(), Asks: []authority.Ask{ask},
		})
		if !errors.Is(err, store.ErrInvalid) {
			t.Errorf("slots of %d µs: %v", length, err)
		}
	}
	if a := w.draw(1, one.Epoch, w.short(49))[0]; a.Granted != 49 {
		t.Errorf("%+v", a)
	}
}

// TestEndOfAWindow: a window that a gateway said to have ended long ago is not forgotten while others use it.
func TestEndOfAWindow(t *testing.T) {
	t.Parallel()
	w := newWorld(t, catalog.Limit{Key: "short", Meter: "calls", Quota: new(dec("50")), Fixed: 14 * time.Minute})
	one, two := w.begin(1), w.begin(2)
	w.advance(time.Hour)
	for l := w.Current().Limits("free", "calls")[0]; ; { // to the begin of a window
		if at, _, _ := l.WindowAt(w.Now().UnixMicro()); at == w.Now().UnixMicro() {
			break
		}
		w.advance(time.Minute)
	}
	wrong := w.short(1)
	wrong.WindowEnd = wrong.Counter.Start + 1
	w.draw(2, two.Epoch, wrong)
	w.draw(1, one.Epoch, w.short(49))
	for range 7 {
		w.advance(time.Minute)
		if err := w.s.Tick(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if a := w.draw(1, one.Epoch, w.short(50))[0]; a.Base == 0 || a.Base+a.Granted != 50 {
		t.Errorf("after 49 of 50: %+v", a)
	}
}

// TestSharesOfBeforeAreNobodys: of a bucket that was used before this start nothing is given out until all of it has lapsed,
// whatever a gateway says that it had.
func TestSharesOfBeforeAreNobodys(t *testing.T) {
	t.Parallel()
	w := newWorld(t, catalog.Limit{Key: "burst", Meter: "calls", Bucket: &catalog.Bucket{Rate: dec("2"), Burst: dec("10"), Per: time.Second}})
	one, two := w.begin(1), w.begin(2)
	w.restart()
	said := bucketAsk()
	said.Fresh, said.Rate, said.Per, said.Burst = false, 1, 1_000_000, 10
	w.draw(2, two.Epoch, said)
	back := authority.Back{Counter: said.Counter, Kind: quota.TokenBucket, Per: 1_000_000, Had: 10, Closed: true}
	if err := w.s.Return(context.Background(), 2, two.Epoch, []authority.Back{back}); err != nil {
		t.Fatal(err)
	}
	w.advance(7 * time.Second)
	if a := w.draw(1, one.Epoch, bucketAsk())[0]; a.Burst != 10 || a.Debt != 10*a.Per {
		t.Errorf("owes %d of 10 when what others had has lapsed: %+v", a.Debt/max(1, a.Per), a)
	}
}

// TestRunningRequestsAreNotUnits: what requests that run have reserved on the meter are no places.
func TestRunningRequestsAreNotUnits(t *testing.T) {
	t.Parallel()
	w := newWorld(t, catalog.Limit{Key: "at_once", Concurrency: 3})
	one := w.begin(1)
	ask := atOnceAsk(1, 1, true)
	ask.Open = 500 // units, of the one request that runs
	if a := w.draw(1, one.Epoch, ask)[0]; a.Granted < 2 || a.ClearsAt != 0 {
		t.Errorf("beside one that runs, of 3: %+v", a)
	}
}

// shares is a world with a bucket of 10 that refills 2 a second, and what two gateways say about it.
type shares struct {
	*world
	epochs map[uint16]uint32
}

func newShares(t *testing.T) *shares {
	t.Helper()
	w := &shares{newWorld(t, catalog.Limit{Key: "burst", Meter: "calls", Bucket: &catalog.Bucket{Rate: dec("2"), Burst: dec("10"), Per: time.Second}}), map[uint16]uint32{}}
	for _, node := range []uint16{2, 3} {
		w.epochs[node] = w.begin(node).Epoch
	}
	return w
}

// ask draws as a holder who has what the answer said, or nothing, and lacks 1.
func (w *shares) ask(node uint16, seq uint64, has authority.Answer) authority.Answer {
	w.t.Helper()
	ask := bucketAsk()
	ask.Fresh, ask.Rate, ask.Per, ask.Burst, ask.Heard = has.Per == 0, has.Rate, has.Per, has.Burst, has.Stamp
	out, err := w.s.Draw(context.Background(), authority.Draw{
		Node: node, Epoch: w.epochs[node], CustomerID: custID, SubscriptionID: w.sub.ID, CatalogVersion: 1, Now: w.Now().UnixMicro(), Seq: seq, Asks: []authority.Ask{ask},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return out[0]
}

// back closes what the answer said that its holder has, which owes so many units.
func (w *shares) back(node uint16, seq uint64, has authority.Answer, owes int64) {
	w.t.Helper()
	if err := w.s.Return(context.Background(), node, w.epochs[node], []authority.Back{{
		Counter: bucketAsk().Counter, Kind: quota.TokenBucket, Seq: seq, Heard: has.Stamp, Per: has.Per, Had: 10, Debt: owes * has.Per, Closed: true,
	}}); err != nil {
		w.t.Fatal(err)
	}
}

// TestDrawThatComesTwice: a draw that arrives once more, after its answer has, takes nothing back of what that brought.
func TestDrawThatComesTwice(t *testing.T) {
	t.Parallel()
	w := newShares(t)
	w.back(3, 2, w.ask(3, 1, authority.Answer{}), 3)
	first := w.ask(2, 1, authority.Answer{})
	if first.Burst != 10 || first.Debt != 3*first.Per {
		t.Fatalf("%+v", first)
	}
	if a := w.ask(2, 1, authority.Answer{}); !reflect.DeepEqual(a, first) {
		t.Errorf("the second time it is told %+v, not %+v", a, first)
	}
	if a := w.ask(3, 3, authority.Answer{}); a.Burst != 0 {
		t.Errorf("another one gets %d of what is held", a.Burst)
	}
	half := first
	half.Rate, half.Burst = first.Rate/2, 5
	if a := w.ask(2, 2, half); a.Burst != 10 || a.Debt != 5*a.Per {
		t.Errorf("when it lost 5 that it had it is told %+v", a)
	}
}

// TestRefusalComesTwice: a draw that lacked something, and comes again, is told the same.
func TestRefusalComesTwice(t *testing.T) {
	t.Parallel()
	w := newShares(t)
	w.ask(2, 1, authority.Answer{})
	if first, again := w.ask(3, 1, authority.Answer{}), w.ask(3, 1, authority.Answer{}); first.AskAgain == 0 || !reflect.DeepEqual(first, again) {
		t.Errorf("%+v, and then %+v", first, again)
	}
}

// TestBackThatComesTwice: what is owed is owed once.
func TestBackThatComesTwice(t *testing.T) {
	t.Parallel()
	w := newShares(t)
	a := w.ask(2, 1, authority.Answer{})
	for range 3 {
		w.back(2, 2, a, 10)
	}
	if a := w.ask(3, 1, authority.Answer{}); a.Burst != 10 || a.Debt != 10*a.Per {
		t.Errorf("owes %d of 10: %+v", a.Debt/a.Per, a)
	}
}

// TestLateDrawBringsNoDebtAway: a draw that comes late is answered to nobody; the debt that went with the answer comes back, whatever
// its holder says that it has, or has heard of, by then.
func TestLateDrawBringsNoDebtAway(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ claims, heard authority.Answer }{
		"of an earlier run":               {claims: authority.Answer{Rate: 1 << 40, Per: 1 << 40, Burst: 10, Stamp: 1}},
		"answered before, and forgotten":  {heard: authority.Answer{Stamp: 2}},
		"answered before, with its share": {claims: authority.Answer{Rate: 1 << 40, Per: 1 << 40, Burst: 10, Stamp: 2}, heard: authority.Answer{Stamp: 2}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newShares(t)
			w.back(3, 2, w.ask(3, 1, authority.Answer{}), 10)
			a := w.ask(2, 5, tt.claims)
			if a.Debt != 10*a.Per {
				t.Fatalf("of a bucket that is used up the late one is told %+v", a)
			}
			if tt.claims.Per > 0 {
				tt.heard.Rate, tt.heard.Per, tt.heard.Burst = a.Rate, a.Per, a.Burst
			}
			if a = w.ask(2, 6, tt.heard); a.Burst != 10 || a.Debt < 10*a.Per {
				t.Errorf("then it owes %d of 10: %+v", a.Debt/a.Per, a)
			}
		})
	}
}

// TestStampsAreTheirOwn: no run of the authority names an answer as another one has.
func TestStampsAreTheirOwn(t *testing.T) {
	t.Parallel()
	w := newShares(t)
	seen := map[uint64]bool{}
	for run := range 3 {
		for i := range uint64(20) {
			if a := w.ask(2, uint64(run*20)+i+1, authority.Answer{}); a.Burst == 0 || seen[a.Stamp] {
				t.Fatalf("run %d: %+v", run, a)
			} else {
				seen[a.Stamp] = true
			}
		}
		w.restart()
		w.advance(7 * time.Second)
	}
}

// TestMessagesOfAClosedShare: messages about a share that has been closed change nothing when they arrive once more, and take no debt of
// others away.
func TestMessagesOfAClosedShare(t *testing.T) {
	t.Parallel()
	w := newShares(t)
	first := w.ask(2, 2, authority.Answer{})
	w.back(2, 3, first, 0)
	if late := w.ask(2, 1, authority.Answer{}); late.Burst != 0 || late.Stamp != 0 {
		t.Errorf("a draw that was overtaken is told %+v", late)
	}
	a := w.ask(3, 1, authority.Answer{})
	if a.Burst != 10 {
		t.Fatalf("%+v", a)
	}
	w.back(3, 2, a, 10)
	w.ask(2, 2, authority.Answer{})
	w.back(2, 3, first, 0)
	if a = w.ask(3, 3, authority.Answer{}); a.Debt != 10*a.Per {
		t.Errorf("owes %d of 10: %+v", a.Debt/a.Per, a)
	}
	w.back(3, 4, a, 0)
	w.advance(6 * time.Minute)
	if err := w.s.Tick(t.Context()); err != nil || w.s.Stats().Buckets != 0 {
		t.Errorf("%d buckets are kept for nothing, %v", w.s.Stats().Buckets, err)
	}
}
