package enforce

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
)

// refundsMax bounds the lines that are kept of refunds. Above it a refund is given and stands in no list; one whose day is bounded
// is refused, since nobody could tell whether it fits.
const refundsMax = 1 << 16

// Refund is what was given back, or refused, since it was last asked for.
type Refund struct {
	CustomerID, Route, Meter string
	Reason                   Reason
	Day                      time.Time // the local midnight at which it began
	Refused                  bool      // the day's bound was reached: charged all the same
	Count                    int64
	Cost                     money.Decimal // in the meter's unit
}

// String is the word of the reason.
func (r Reason) String() string {
	switch r {
	case Failed:
		return "failed"
	case TimedOut:
		return "timed_out"
	case ClientGone:
		return "client_gone"
	case Withdrawn:
		return "withdrawn"
	}
	return "unknown"
}

type refundLine struct {
	customerID, route, meter string
	reason                   Reason
	day                      int64
	refused                  bool
	scale                    int
}

type refundDay struct{ customerID, route string }

type refundSum struct {
	day, end, cost int64
}

// refunds adds up what is given back, and holds each customer's day to the route's bound. mu owns all fields.
type refunds struct {
	mu    sync.Mutex
	lines map[refundLine]*refundTotal
	days  map[refundDay]*refundSum // of bounded routes
	lost  int64                    // refunds that stand in no line
}

type refundTotal struct{ count, cost int64 }

// take counts a refund, and says whether it may be given.
func (r *refunds) take(a *Admission, why Reason, now time.Time) bool {
	res := &a.res
	in, ok := period.Day.Containing(now, a.Principal.Customer.Zone, period.Anchor{})
	if !ok {
		in.Start, in.End = now, now
	}
	day := in.Start.UnixMicro()
	r.mu.Lock()
	defer r.mu.Unlock()
	ok = a.daily < 0 || why == Withdrawn || r.fits(refundDay{res.CustomerID, res.Route}, day, in.End.UnixMicro(), res.Cost, a.daily)
	line := refundLine{res.CustomerID, res.Route, res.Meter, why, day, !ok, res.Scale}
	t := r.lines[line]
	if t == nil {
		if len(r.lines) >= refundsMax {
			r.lost++
			return ok
		}
		if r.lines == nil {
			r.lines = map[refundLine]*refundTotal{}
		}
		t = &refundTotal{}
		r.lines[line] = t
	}
	t.count++
	t.cost = addSat(t.cost, res.Cost)
	return ok
}

// fits takes a cost from the day's bound, if it has room.
func (r *refunds) fits(k refundDay, day, end, cost, most int64) bool {
	sum := r.days[k]
	if sum == nil {
		if len(r.days) >= refundsMax {
			for old, s := range r.days {
				if s.end <= day {
					delete(r.days, old)
				}
			}
		}
		if len(r.days) >= refundsMax {
			return false
		}
		if r.days == nil {
			r.days = map[refundDay]*refundSum{}
		}
		sum = &refundSum{}
		r.days[k] = sum
	}
	if sum.day != day {
		*sum = refundSum{day: day, end: end}
	}
	if addSat(sum.cost, cost) > most {
		return false
	}
	sum.cost += cost
	return true
}

// Refunds hands out what was given back or refused since the last call, by customer, route and reason, and forgets it. lost counts
// refunds that there was no room to list. A crash loses what was not handed out; the spool has the reason of each release.
func (e *Enforcer) Refunds() (out []Refund, lost int64) {
	r := &e.refunds
	r.mu.Lock()
	lines := r.lines
	lost, r.lines, r.lost = r.lost, nil, 0
	r.mu.Unlock()
	for k, t := range lines {
		out = append(out, Refund{
			CustomerID: k.customerID, Route: k.route, Meter: k.meter, Reason: k.reason, Day: time.UnixMicro(k.day).UTC(), Refused: k.refused,
			Count: t.count, Cost: money.FromScaled(t.cost, k.scale),
		})
	}
	slices.SortFunc(out, func(a, b Refund) int {
		return cmp.Or(a.Day.Compare(b.Day), cmp.Compare(a.CustomerID, b.CustomerID), cmp.Compare(a.Route, b.Route), cmp.Compare(a.Reason, b.Reason),
			cmp.Compare(boolInt(a.Refused), boolInt(b.Refused)))
	})
	return out, lost
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Overshoot is what requests did cost beyond what was reserved for them, since start.
type Overshoot struct {
	Meter, Route string
	Count        int64
	Cost         money.Decimal // in the meter's unit
}

// overshoots adds up by meter and route, of which the catalog bounds the number. mu owns all fields.
type overshoots struct {
	mu   sync.Mutex
	list map[overshootKey]*refundTotal
}

type overshootKey struct {
	meter, route string
	scale        int
}

const overshootsMax = 4096 // routes of all catalog versions of one run

func (o *overshoots) add(meter, route string, scale int, cost int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	k := overshootKey{meter, route, scale}
	if o.list[k] == nil && len(o.list) >= overshootsMax {
		k = overshootKey{meter: meter, scale: scale}
	}
	if o.list == nil {
		o.list = map[overshootKey]*refundTotal{}
	}
	if o.list[k] == nil {
		o.list[k] = &refundTotal{}
	}
	o.list[k].count++
	o.list[k].cost = addSat(o.list[k].cost, cost)
}

// Overshoots lists them by meter and route.
func (e *Enforcer) Overshoots() []Overshoot {
	o := &e.overshoots
	o.mu.Lock()
	defer o.mu.Unlock()
	out := make([]Overshoot, 0, len(o.list))
	for k, t := range o.list {
		out = append(out, Overshoot{Meter: k.meter, Route: k.route, Count: t.count, Cost: money.FromScaled(t.cost, k.scale)})
	}
	slices.SortFunc(out, func(a, b Overshoot) int { return cmp.Or(cmp.Compare(a.Meter, b.Meter), cmp.Compare(a.Route, b.Route)) })
	return out
}
