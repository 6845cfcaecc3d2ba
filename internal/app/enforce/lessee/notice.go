package lessee

import (
	"math"

	"github.com/tallystick/tallystick/internal/app/authority/arith"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/quota"
)

// notify are the percentages at which a limit tells.
func notify(declared *catalog.Limit) []int {
	if declared.Notify == nil {
		return catalog.NotifyDefault()
	}
	return declared.Notify
}

// told tells whether a kind of limit has reminders: those that are used up, not those that refill all the time.
func told(k quota.Kind) bool { return k != quota.TokenBucket && k != quota.Concurrency }

// most is what a limit's percentages are of.
func most(lim *quota.Limit, st *quota.State) int64 {
	if lim.Kind == quota.SpendCap || lim.Kind == quota.Credits {
		return st.Ceiling
	}
	return lim.Quota
}

// Used is what a limit's window holds, in the meter's scale: of a sliding one its other slots too.
func Used(lim *quota.Limit, st *quota.State) int64 {
	if lim.Kind == quota.Rolling {
		return max(0, arith.Add(arith.Add(lim.Quota, max(0, lim.Extra)), -st.Ceiling)) + st.Consumed
	}
	return st.Consumed
}

// rearm finds the consumption at which the next notice is due.
func (v *view) rearm() {
	v.noticeAt = math.MaxInt64
	lim := &v.lim
	of := most(lim, &v.state)
	if !told(lim.Kind) || v.declared.Wallet() || of <= 0 || of == math.MaxInt64 {
		return
	}
	if lim.Kind == quota.Rolling { // what has left the window may be told of again
		reached, _ := quota.Reached(of, Used(lim, &v.state), notify(v.declared))
		v.told = min(v.told, reached)
	}
	for _, p := range notify(v.declared) {
		if p > v.told {
			v.noticeAt = arith.Add(quota.Threshold(of, p), v.state.Consumed-Used(lim, &v.state))
			return
		}
	}
}

// notice tells of the highest threshold that limit i has reached, once in each window and run.
func (l *Lessee) notice(s *Set, i int, now int64) {
	lim, v, r := &s.Limits[i], s.views[i], &s.Rules[i]
	of, used := most(lim, &v.state), Used(lim, &v.state)
	if reached, _ := quota.Reached(of, used, notify(v.declared)); reached > v.told {
		v.told = reached
		if l.cfg.Notice != nil {
			l.cfg.Notice(Notice{
				CustomerID: s.customer.ID, Limit: lim.Key, Meter: lim.Meter, Scope: r.Scope, Percent: reached,
				Consumed: used, Quota: of, Scale: s.Scale, WindowStart: v.state.WindowStart, WindowEnd: v.state.WindowEnd, At: now,
				Credits: lim.Kind == quota.Credits,
			})
		}
	}
	v.rearm()
}
