package node_test

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/receipt"
	"github.com/tallystick/tallystick/internal/store"
)

// TestHeldElsewhere: a call about a reservation is made at the node that has it, and its answer comes back as it was given.
func TestHeldElsewhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.apply(10)
	g := w.gateway(w.token("east"))
	if _, ok := w.node.EnterHeld(2); ok {
		t.Error("a node that has not begun was let in")
	}
	held := &enforce.Held{
		ID: "res_1", CustomerID: "cus_1", Meter: "api_calls", State: enforce.HeldSettled, OnExpiry: enforce.ReleaseExpired,
		Expires: time.Date(2026, 11, 27, 1, 2, 3, 4000, time.UTC), Reserved: money.FromInt(7), Charged: money.FromScaled(65, 1),
	}
	denied := &enforce.Admission{
		Outcome: receipt.DeniedQuota, Code: "quota_exceeded", DecisionID: "dec_1", Detail: "What.", Fix: "Do.", Violated: []string{"daily"}, RetryAfter: time.Minute,
		Policies: []enforce.Policy{{Name: "daily", Quota: 10, Remaining: 1, Window: 86400, Reset: 60}},
	}
	want := enforce.HeldCall{ID: "res_1", Do: enforce.HeldExtend, TTL: time.Hour, Cost: new(money.FromScaled(15, 1)), Status: 200}
	var fault error
	var extension *enforce.Admission
	g.with(func() {
		g.held = func(_ context.Context, c enforce.HeldCall) (*enforce.Held, *enforce.Admission, error) {
			if !reflect.DeepEqual(c, want) {
				t.Errorf("asked %+v", c)
			}
			return held, extension, fault
		}
	})
	g.begin(holding{})
	var leave func()
	eventually(t, "the node to be there", func() (ok bool) { leave, ok = w.node.EnterHeld(2); return ok })
	for _, c := range []struct {
		fault error
		is    error
	}{
		{nil, nil},
		{enforce.ErrReservationEnded, enforce.ErrReservationEnded},
		{enforce.ErrReservationParts, enforce.ErrReservationParts},
		{enforce.ErrReservationUnknown, enforce.ErrReservationUnknown},
	} {
		fault, extension = c.fault, nil
		if got, a, err := w.node.Held(patient(t), 2, want); !errors.Is(err, c.is) || a != nil || !reflect.DeepEqual(got, held) {
			t.Errorf("%v: %+v %+v %v", c.fault, got, a, err)
		}
	}
	fault, extension = nil, denied
	if got, a, err := w.node.Held(patient(t), 2, want); err != nil || !reflect.DeepEqual(got, held) || a == nil || !reflect.DeepEqual(a, denied) {
		t.Errorf("a denied extension: %+v %+v %v", got, a, err)
	}
	fault = store.ErrFull
	if _, _, err := w.node.Held(patient(t), 2, want); !errors.Is(err, store.ErrFull) || errors.Is(err, enforce.ErrReservationAway) {
		t.Errorf("a full spool: %v", err)
	}
	fault = errors.New("broken")
	if _, _, err := w.node.Held(patient(t), 2, want); err == nil || errors.Is(err, enforce.ErrReservationAway) {
		t.Errorf("a broken spool: %v", err)
	}
	for name, lie := range map[string]*enforce.Held{
		"nothing": nil, "another's": {ID: "res_2"}, "a state that there is not": {ID: "res_1", State: 77}, "a long text": {ID: "res_1", Route: strings.Repeat("x", 1<<16)},
	} {
		fault, extension, held = nil, nil, lie
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		if got, _, err := w.node.Held(ctx, 2, want); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
		cancel()
	}
	g.set(true)
	eventually(t, "the node to be gone", func() bool {
		_, _, err := w.node.Held(patient(t), 2, want)
		_, in := w.node.EnterHeld(2)
		return errors.Is(err, enforce.ErrReservationAway) && !in
	})
	leave()
}

// TestHeldAgain: a call whose answer was lost is made again, unless it may do something twice; what it did the first time is not known
// where the node knows nothing of it any more.
func TestHeldAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.apply(10)
	g := w.gateway(w.token("east"))
	var calls atomic.Int64
	known := atomic.Bool{}
	known.Store(true)
	g.with(func() {
		g.held = func(ctx context.Context, _ enforce.HeldCall) (*enforce.Held, *enforce.Admission, error) {
			if calls.Add(1)%2 == 1 {
				g.set(true) // the line breaks
				g.set(false)
				<-ctx.Done()
				return nil, nil, ctx.Err()
			}
			if !known.Load() {
				return nil, nil, enforce.ErrReservationUnknown
			}
			return &enforce.Held{ID: "res_1"}, nil, nil
		}
	})
	g.begin(holding{})
	there := func() {
		eventually(t, "the node to be there", func() bool {
			leave, ok := w.node.EnterHeld(2)
			if ok {
				leave()
			}
			return ok
		})
	}
	there()
	for _, c := range []struct {
		name  string
		call  enforce.HeldCall
		known bool
		calls int64
		is    error
	}{
		{"an end", enforce.HeldCall{ID: "res_1", Do: enforce.HeldSettle, Cost: new(money.FromInt(1))}, true, 2, nil},
		{"more time", enforce.HeldCall{ID: "res_1", Do: enforce.HeldExtend, TTL: time.Hour}, true, 2, nil},
		{"an end that is not known any more", enforce.HeldCall{ID: "res_1", Do: enforce.HeldRelease}, false, 2, enforce.ErrReservationAway},
		{"more cost", enforce.HeldCall{ID: "res_1", Do: enforce.HeldExtend, Cost: new(money.FromInt(1))}, true, 1, enforce.ErrReservationAway},
	} {
		there()
		calls.Store(0)
		known.Store(c.known)
		if _, _, err := w.node.Held(patient(t), 2, c.call); !errors.Is(err, c.is) || calls.Load() != c.calls {
			t.Errorf("%s: %v after %d calls", c.name, err, calls.Load())
		}
	}
}

// TestHeldIsBounded: one node is given so many calls at a time that it has room for the rest of its work, and no more when it leaves.
func TestHeldIsBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.apply(10)
	g := w.gateway(w.token("east"))
	g.begin(holding{})
	var leaves []func()
	eventually(t, "the node to be there", func() bool {
		leave, ok := w.node.EnterHeld(2)
		if ok {
			leaves = append(leaves, leave)
		}
		return ok
	})
	for range 100 {
		if leave, ok := w.node.EnterHeld(2); ok {
			leaves = append(leaves, leave)
		}
	}
	if len(leaves) != 32 {
		t.Errorf("%d calls at once", len(leaves))
	}
	left := make(chan error, 1)
	go func() { left <- g.follower.Leave(patient(t)) }()
	leaves[0]()
	eventually(t, "nobody to be let in", func() bool {
		leave, ok := w.node.EnterHeld(2)
		if ok {
			leave()
		}
		return !ok
	})
	select {
	case err := <-left:
		t.Errorf("it left while calls ran: %v", err)
	default:
	}
	for _, leave := range leaves[1:] {
		leave()
	}
	if err := <-left; err != nil {
		t.Error(err)
	}
}

// TestHeldEndsBeforeTheStreams: who hands over waits for calls about reservations, and lets no more in.
func TestHeldEndsBeforeTheStreams(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.apply(10)
	g := w.gateway(w.token("east"))
	asked, goOn := make(chan bool, 1), make(chan bool)
	g.with(func() {
		g.held = func(context.Context, enforce.HeldCall) (*enforce.Held, *enforce.Admission, error) {
			asked <- true
			<-goOn
			return &enforce.Held{ID: "res_1"}, nil, nil
		}
	})
	g.begin(holding{})
	var leave func()
	eventually(t, "the node to be there", func() (ok bool) { leave, ok = w.node.EnterHeld(2); return ok })
	answered := make(chan error, 1)
	go func() {
		defer leave()
		_, _, err := w.node.Held(patient(t), 2, enforce.HeldCall{ID: "res_1", Do: enforce.HeldShow})
		answered <- err
	}()
	<-asked
	over := make(chan bool)
	go func() { w.node.HandOver(); close(over) }()
	eventually(t, "nobody to be let in", func() bool {
		leave, ok := w.node.EnterHeld(2)
		if ok {
			leave()
		}
		return !ok
	})
	close(goOn)
	if err := <-answered; err != nil {
		t.Errorf("a call that ran when the lead was handed over: %v", err)
	}
	<-over
}
