package enforce

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/receipt"
	"github.com/tallystick/tallystick/internal/store"
)

func (w *world) hold(cost string, ttl time.Duration, onExpiry OnExpiry) *Held {
	w.t.Helper()
	h, a := w.e.Reserve(w.t.Context(), Request{Secret: "good", Route: w.route(), Method: "POST", Cost: new(dec(cost)), OnExpiry: onExpiry}, ttl)
	if h == nil {
		w.t.Fatalf("denied: %s", a.Code)
	}
	return h
}

func cost(s string) Actual { return Actual{Status: 200, Cost: new(dec(s))} }

func TestReservationEndsOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quotaLimit("daily", "100", period.Day))
	h := w.hold("10", time.Hour, ChargeExpired)
	if got := w.left(); got != "90" || h.Reserved.String() != "10" || h.State != HeldOpen || !h.Expires.Equal(w.Now().Add(time.Hour)) {
		t.Fatalf("%s left, %+v", got, h)
	}
	for range 2 {
		got, err := w.e.SettleHeld(h.ID, cost("4"))
		if err != nil || got.State != HeldSettled || got.Charged.String() != "4" {
			t.Errorf("%+v, %v", got, err)
		}
	}
	if _, err := w.e.SettleHeld(h.ID, cost("5")); !errors.Is(err, ErrReservationEnded) {
		t.Errorf("settled in another way: %v", err)
	}
	if _, err := w.e.ReleaseHeld(h.ID); !errors.Is(err, ErrReservationEnded) {
		t.Errorf("released: %v", err)
	}
	if _, _, err := w.e.Extend(w.t.Context(), h.ID, time.Hour, nil); !errors.Is(err, ErrReservationEnded) {
		t.Errorf("extended: %v", err)
	}
	if got := w.left(); got != "96" {
		t.Errorf("%s left", got)
	}
	gone := w.hold("10", time.Hour, ChargeExpired)
	for range 2 {
		if got, err := w.e.ReleaseHeld(gone.ID); err != nil || got.State != HeldReleased || !got.Charged.IsZero() {
			t.Errorf("%+v, %v", got, err)
		}
	}
	for _, id := range []string{"", "res_", "res_1", "x", h.ID + "0", "res_" + (receipt.ShortID{Node: 2}).String(), "res_" + (receipt.ShortID{Node: 1, Epoch: 1}).String()} {
		if _, err := w.e.ReleaseHeld(id); !errors.Is(err, ErrReservationUnknown) {
			t.Errorf("%q: %v", id, err)
		}
	}
	w.wantBooked("4")
	// Ends are forgotten after an hour.
	w.advance(endedKept)
	if _, err := w.e.ReleaseHeld(w.hold("1", time.Hour, ChargeExpired).ID); err != nil {
		t.Fatal(err)
	}
	if _, err := w.e.SettleHeld(h.ID, cost("4")); !errors.Is(err, ErrReservationUnknown) {
		t.Errorf("remembered for ever: %v", err)
	}
	if n := w.e.Stats().Held; n != 0 {
		t.Errorf("%d held", n)
	}
}

func TestReservationDenied(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quotaLimit("daily", "5", period.Day))
	h, a := w.e.Reserve(w.t.Context(), Request{Secret: "good", Route: w.route(), Cost: new(dec("6"))}, time.Hour)
	if h != nil || a.Outcome != receipt.DeniedQuota {
		t.Errorf("%+v, %+v", h, a)
	}
	w.e.held.n = HeldMax
	if h, a := w.e.Reserve(w.t.Context(), Request{Secret: "good", Route: w.route(), Cost: new(dec("1"))}, time.Hour); h != nil || a.Outcome != receipt.Unavailable {
		t.Errorf("%+v, %+v", h, a)
	}
	if n := w.e.inflight.Total(); n != 0 || w.e.held.n != HeldMax {
		t.Errorf("%d in flight, %d held", n, w.e.held.n)
	}
}

func TestReservationExpires(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quotaLimit("daily", "100", period.Day))
	charged, released := w.hold("10", time.Minute, ChargeExpired), w.hold("20", time.Minute, ReleaseExpired)
	extended, short := w.hold("30", time.Minute, ChargeExpired), w.hold("1", 0, ChargeExpired)
	if h, _, err := w.e.Extend(w.t.Context(), extended.ID, 2*time.Minute, nil); err != nil || !h.Expires.Equal(w.Now().Add(2*time.Minute)) {
		t.Fatalf("%+v, %v", h, err)
	}
	tick := func() {
		t.Helper()
		if _, err := w.e.Tick(w.t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct {
		wait       time.Duration
		left, held string
	}{{TTLMin - 1, "39", "4"}, {1, "39", "3"}, {time.Minute - TTLMin, "59", "1"}, {time.Minute, "59", "0"}} {
		w.advance(step.wait)
		tick()
		if got := w.left(); got != step.left || itoa(int(w.e.Stats().Held)) != step.held {
			t.Errorf("after %s: %s left and %d held, want %s and %s", step.wait, got, w.e.Stats().Held, step.left, step.held)
		}
	}
	for h, want := range map[*Held]string{charged: "10", released: "0", extended: "30", short: "1"} {
		got, err := w.e.Reservation(h.ID)
		if err != nil || got.State != HeldExpired || got.Charged.String() != want {
			t.Errorf("%+v, %v; want %s charged", got, err, want)
		}
		if _, err := w.e.SettleHeld(h.ID, Actual{}); !errors.Is(err, ErrReservationEnded) {
			t.Errorf("settled after its expiry: %v", err)
		}
	}
	w.wantBooked("41")
}

func TestReservationExtendedByCost(t *testing.T) {
	t.Parallel()
	for actual, want := range map[string]string{"": "15", "0": "0", "8": "8", "12": "12", "15": "15", "40": "40"} {
		t.Run("actual "+actual, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, quotaLimit("daily", "100", period.Day))
			h := w.hold("10", time.Hour, ChargeExpired)
			w.advance(time.Minute)
			got, a, err := w.e.Extend(w.t.Context(), h.ID, time.Hour, new(dec("5")))
			if err != nil || a != nil || got.Reserved.String() != "15" {
				t.Fatalf("%+v %+v, %v", got, a, err)
			}
			got, a, err = w.e.Extend(w.t.Context(), h.ID, 2*time.Hour, new(dec("86")))
			if err != nil || a == nil || a.Outcome != receipt.DeniedQuota || got.Reserved.String() != "15" || !got.Expires.Equal(w.Now().Add(time.Hour)) {
				t.Fatalf("beyond the limit: %+v %+v, %v", got, a, err)
			}
			if left := w.left(); left != "85" {
				t.Errorf("%s left", left)
			}
			end := Actual{}
			if actual != "" {
				end = cost(actual)
			}
			if got, err = w.e.SettleHeld(h.ID, end); err != nil || got.Charged.String() != want {
				t.Errorf("%+v, %v; want %s", got, err, want)
			}
			w.wantBooked(want)
			left, err := dec("100").Sub(dec(want))
			if got := w.left(); err != nil || got != left.String() {
				t.Errorf("%s left, want %s", got, left)
			}
			if n := w.e.inflight.Total(); n != 0 {
				t.Errorf("%d in flight", n)
			}
		})
	}
}

func TestReservationSurvives(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*world){"a clean stop": (*world).stop, "kill -9": (*world).crash} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, quotaLimit("daily", "100", period.Day))
			h := w.hold("10", time.Hour, ReleaseExpired)
			w.hold("5", time.Minute, ChargeExpired) // expires
			for range 2 {                           // and a second time
				if _, _, err := w.e.Extend(w.t.Context(), h.ID, time.Hour, new(dec("10"))); err != nil {
					t.Fatal(err)
				}
				end(w)
				w.open()
			}
			if n := w.e.Stats(); n.Recovered != 0 || n.Held != 2 || n.Open != 0 {
				t.Fatalf("%+v", n)
			}
			got, err := w.e.Reservation(h.ID)
			if err != nil || got.Reserved.String() != "30" || !got.Expires.Equal(h.Expires) || got.OnExpiry != ReleaseExpired {
				t.Fatalf("%+v, %v; want %+v with 30 reserved", got, err, h)
			}
			if left := w.left(); left != "65" {
				t.Errorf("%s left", left)
			}
			if got, err := w.e.SettleHeld(h.ID, cost("25")); err != nil || got.Charged.String() != "25" {
				t.Errorf("%+v, %v", got, err)
			}
			w.advance(2 * time.Minute)
			if _, err := w.e.Tick(w.t.Context()); err != nil {
				t.Fatal(err)
			}
			w.wantBooked("30")
			if left := w.left(); left != "65" { // what was not needed stays charged in its window
				t.Errorf("%s left", left)
			}
			w.crash()
			w.open()
			if n := w.e.Stats(); n.Recovered != 0 || n.Held != 0 {
				t.Errorf("%+v", n)
			}
			w.wantBooked("30")
			w.wantSound(t.Fatalf)
		})
	}
}

// TestReservationWithoutRoom: after a restart with a full spool, an end has to find room; until then the reservation stays open.
func TestReservationWithoutRoom(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quotaLimit("daily", "100", period.Day))
	h := w.hold("10", time.Hour, ChargeExpired)
	w.crash()
	w.open()
	full := &fullSpool{Spool: w.e.cfg.Spool, full: true}
	w.e.cfg.Spool = full
	key, _ := w.e.heldKey(h.ID)
	w.e.held.byKey[key].parts[0].roomless = true
	if got, err := w.e.SettleHeld(h.ID, cost("4")); !errors.Is(err, store.ErrFull) || got.State != HeldOpen {
		t.Fatalf("%+v, %v", got, err)
	}
	full.full = false
	if got, err := w.e.SettleHeld(h.ID, cost("4")); err != nil || got.Charged.String() != "4" {
		t.Fatalf("%+v, %v", got, err)
	}
	w.wantBooked("4")
}

// TestReservationDoesNotHoldAClose: its usage may be late, the invoices of others are not.
func TestReservationDoesNotHoldAClose(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := w.hold("10", time.Hour, ChargeExpired)
	w.advance(time.Minute)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := w.e.Settled(ctx, w.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.e.SettleHeld(h.ID, Actual{}); err != nil {
		t.Fatal(err)
	}
	if rec := w.events()[0]; !rec.Event.Time.Equal(start.Add(36 * time.Hour)) {
		t.Errorf("the event's time is %s, want the decision's", rec.Event.Time)
	}
}
