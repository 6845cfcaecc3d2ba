package enforce

import (
	"fmt"

	"github.com/tallystick/tallystick/internal/core/quota"
	"github.com/tallystick/tallystick/internal/store"
)

// leave ends the open time of a reservation.
func (a *Admission) leave() {
	a.open.Add(-a.res.cost)
	a.e.inflight.leave(a.generation)
}

// Settle charges the reservation.
func (a *Admission) Settle(end Actual) error { return a.settle(end.Status, 0) }

func (a *Admission) settle(status int, flags store.Flags) error {
	if !a.state.CompareAndSwap(stateOpen, stateSettled) {
		return nil
	}
	defer a.leave()
	st := settlement{requestKey: a.res.requestKey, totalEpoch: a.e.epoch, status: status, flags: uint16(flags)}
	_, err := a.e.cfg.Spool.AppendReserved(settleRoom, func(b []byte) []byte {
		a.total.value = addSat(a.total.value, a.res.cost)
		st.total = a.total.value
		return st.append(b)
	})
	if err != nil {
		return fmt.Errorf("spool the settlement: %w", err)
	}
	a.e.stats.settled.Add(1)
	return nil
}

// Release gives the reservation back: the request failed and burns nothing.
func (a *Admission) Release(Reason) error {
	if !a.state.CompareAndSwap(stateOpen, stateReleased) {
		return nil
	}
	defer a.leave()
	_, err := a.e.cfg.Spool.AppendReserved(settleRoom, func(b []byte) []byte { return appendRelease(b, a.res.requestKey) })
	if err != nil {
		return fmt.Errorf("spool the release: %w", err) // the quota stays charged: never admit twice
	}
	a.e.stats.released.Add(1)
	a.e.giveBack(a)
	return nil
}

// giveBack returns the cost to the counters whose window is still the one it was taken from.
func (e *Enforcer) giveBack(a *Admission) {
	a.c.mu.Lock()
	defer a.c.mu.Unlock()
	s := a.c.sets[a.res.meter]
	if s == nil {
		return
	}
	quota.Return(s.limits, s.states, a.res.cost, a.res.time)
}

// MarkIncomplete flags a settled request whose answer was cut off after its headers. The charge stands; when the spool has
// no room for the note it is dropped and counted.
func (a *Admission) MarkIncomplete() {
	if !a.state.CompareAndSwap(stateSettled, stateMarked) {
		return
	}
	a.e.stats.incomplete.Add(1)
	_, err := a.e.cfg.Spool.Append(0, func(b []byte) []byte {
		return appendMark(b, a.res.requestKey, uint16(store.Incomplete))
	})
	if err != nil {
		a.e.stats.marksLost.Add(1)
	}
}
