package enforce

import (
	"fmt"

	"github.com/tallystick/tallystick/internal/app/enforce/record"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/store"
)

// costMax bounds what one request is charged, in units of its meter's scale.
const costMax = 1_000_000_000_000_000

// bind notes in the reservation what of the route must hold at its end, whatever the catalog says by then.
func (a *Admission) bind(route *catalog.Route) {
	r := &a.res
	r.Project, r.User = a.Principal.Key.Project, a.user
	if route.Capped && !route.Max.IsZero() {
		r.Capped, r.Cap = true, scaled(route.Max, r.Scale)
	}
	if a.daily = -1; !route.Refund.Daily.IsZero() {
		a.daily = scaled(route.Refund.Daily, r.Scale)
	}
	if h := a.held; h != nil {
		if r.Held = h.key; r.Held == (record.Key{}) {
			r.Held = r.Key
		}
		r.Expires, r.OnExpiry = h.expires(r.Time), uint8(h.onExpiry)
	}
}

// leave ends the open time of a reservation.
func (a *Admission) leave() {
	if !a.gone {
		a.e.inflight.Leave(a.entry)
	}
}

// Settle charges the reservation, at any time after the decision: at the upstream's headers, or at the end of the body when the
// cost is known only then. An actual cost below 0 counts as 0, one above 10^15 units of the meter's scale as that.
func (a *Admission) Settle(end Actual) error {
	_, err := a.settle(end, 0)
	return err
}

// chargeOf is what an end charges, in the meter's scale.
func chargeOf(r *record.Reservation, end Actual) int64 {
	if end.Cost == nil {
		return r.Cost
	}
	actual := int64(0)
	if end.Cost.Sign() > 0 {
		actual = min(scaled(*end.Cost, r.Scale), costMax)
	}
	if r.Capped {
		actual = min(actual, r.Cap)
	}
	return actual
}

func (a *Admission) settle(end Actual, flags store.Flags) (charged int64, err error) {
	if !a.state.CompareAndSwap(stateOpen, stateSettled) {
		return 0, nil
	}
	if a.unmetered {
		a.end()
		return 0, nil
	}
	return a.spoolSettlement(end, flags)
}

func (a *Admission) spoolSettlement(end Actual, flags store.Flags) (charged int64, err error) {
	cost := chargeOf(&a.res, end)
	if cost > a.res.Cost {
		flags |= store.Overshoot
	}
	st := record.Settlement{
		Key: a.res.Key, TotalEpoch: a.e.epoch, Status: min(max(end.Status, 0), statusMax), Flags: uint16(flags), Actual: cost != a.res.Cost, Cost: cost,
	}
	err = a.spoolEnd(func(b []byte) []byte {
		a.total.Value = addSat(a.total.Value, cost)
		st.Total = a.total.Value
		return st.Append(b)
	})
	if err != nil {
		return 0, fmt.Errorf("spool the settlement: %w", err) // what was reserved stays charged
	}
	a.e.stats.of(a).settled.Add(1)
	if over := a.endHold(cost); over > 0 {
		a.e.overshoots.add(a.res.Meter, a.res.Route, a.res.Scale, over)
	}
	return cost, nil
}

const statusMax = 999

// end is that of an unmetered request.
func (a *Admission) end() {
	a.endHold(0)
	a.leave()
}

// endHold settles what the request holds of its counters. Who stays keeps its places.
func (a *Admission) endHold(actual int64) (overshoot int64) {
	if a.stays {
		return a.hold.Settle(actual)
	}
	return a.hold.End(actual)
}

// Leave says that a request which Stays has ended, once it was settled or released. More calls do nothing.
func (a *Admission) Leave() {
	if a.stays && a.left.CompareAndSwap(false, true) {
		a.hold.Leave()
	}
}

// spoolEnd writes the end of a reservation into the room that was set aside for it. Where there was none, and is none now, the
// reservation stays open.
func (a *Admission) spoolEnd(fill func([]byte) []byte) error {
	if a.roomless { // a copy sets it aside
		if _, err := a.e.cfg.Spool.Append(record.EndRoom, a.res.Carry); err != nil {
			a.state.Store(stateOpen)
			return err
		}
		a.roomless, a.res.Receipt = false, nil
	}
	defer a.leave()
	_, err := a.e.cfg.Spool.AppendReserved(record.EndRoom, fill)
	if err != nil {
		a.endHold(a.res.Cost) // what was reserved stays charged, but the request has ended
	}
	return err
}

// Release gives the reservation back: the request failed and burns nothing. Where the route bounds the refunds of a customer and
// day, and this one passes the bound, the request is settled instead, and Refused says so. What is Withdrawn is no refund.
func (a *Admission) Release(why Reason) error {
	if !a.state.CompareAndSwap(stateOpen, stateReleased) {
		return nil
	}
	if a.unmetered {
		a.end()
		return nil
	}
	if !a.e.refunds.take(a, why, a.e.cfg.Now()) {
		a.refused.Store(true)
		a.state.Store(stateSettled)
		_, err := a.spoolSettlement(Actual{}, store.RefundDenied)
		return err
	}
	if err := a.spoolEnd(func(b []byte) []byte { return record.AppendRelease(b, a.res.Key, uint8(why)) }); err != nil {
		return fmt.Errorf("spool the release: %w", err) // the quota stays charged: never admit twice
	}
	a.e.stats.of(a).released.Add(1)
	a.endHold(0)
	return nil
}

// Refused says that Release has charged the request after all, since the day's refunds are used up.
func (a *Admission) Refused() bool { return a.refused.Load() }

// MarkIncomplete flags a settled request whose answer was cut off after its headers. The charge stands; when the spool has
// no room for the note it is dropped and counted.
func (a *Admission) MarkIncomplete() {
	if a.unmetered || !a.state.CompareAndSwap(stateSettled, stateMarked) {
		return
	}
	a.e.stats.incomplete.Add(1)
	_, err := a.e.cfg.Spool.Append(0, func(b []byte) []byte {
		return record.AppendMark(b, a.res.Key, uint16(store.Incomplete))
	})
	if err != nil {
		a.e.stats.marksLost.Add(1)
	}
}
