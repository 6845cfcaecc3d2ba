// Package quota decides whether a cost fits under limits. Decide is pure: gateway, drivers, tests and simulator share it.
//
// All arithmetic is on int64 and saturates or refuses instead of wrapping around, so a mistaken input
// can deny too much but never admit too much.
package quota

import (
	"math"

	"github.com/tallystick/tallystick/internal/core/period"
)

// Kind is how a limit counts.
type Kind uint8

// The kinds of limit. Any other value counts like a Quota. Receipts keep the numbers: none may change.
const (
	TokenBucket Kind = iota + 1 // refills all the time, has no window
	Quota                       // a calendar quota: what a window may consume
	SpendCap                    // what a window may cost; waiting does not help the caller, so it never clears
	Fixed                       // windows of one length, one after the other
	Rolling                     // at any instant, what the last Length may have consumed (a sliding window)
	Concurrency                 // requests that run at once: each costs 1, whatever it measures, until it ends
	Credits                     // what was granted and not used; waiting does not help
)

// Mode is what happens beyond a limit.
type Mode uint8

// The modes of a limit.
const (
	Hard   Mode = iota // refused
	Soft               // admitted, and reported as overage
	Grace              // admitted up to a part more, then refused
	Shadow             // evaluated and reported, never enforced
)

// String is the word of the catalog.
func (m Mode) String() string {
	switch m {
	case Hard:
		return "hard"
	case Soft:
		return "soft"
	case Grace:
		return "grace"
	case Shadow:
		return "shadow"
	}
	return "unknown"
}

// Limit is one compiled limit. Quantities are int64 in the meter's scale, time is microseconds of the business clock.
type Limit struct {
	Key    string
	Kind   Kind
	Meter  string
	Mode   Mode
	Window period.Window // Quota, SpendCap
	// Length of a Fixed or Rolling window in microseconds; Slot is the step in which a Rolling one moves on: usage leaves it up
	// to one Slot late, never early. Length is a multiple of Slot.
	Length, Slot int64
	Extra        int64 // Grace: how much may be admitted beyond Quota
	Quota        int64 // Quota: the limit itself, for display. SpendCap: unused. Decide reads the state's Ceiling
	// TokenBucket: Rate units refill per Per microseconds, Burst is the size. Rate, Per ≥ 1, Burst ≥ 0.
	// Where Burst×Per passes 2^63-1, that number is the size.
	Rate, Per, Burst int64
}

// State is what one limit has counted so far. Owner: the enforcer, under the customer's lock.
type State struct {
	// TokenBucket (GCRA in the form of a debt): Debt is in units×Per and drains by Rate each microsecond since Last.
	// The zero value is a full bucket. A changed Per changes the unit of Debt: the owner converts it.
	Debt, Last int64
	// Quota and SpendCap: Consumed is used or reserved in the window (admitted here and elsewhere, and reported)
	// and may be beyond Ceiling after reports or a lowered limit. Granted ≤ Ceiling is how far Consumed may go on
	// durable leases. Ceiling is the limit in the meter's scale; for a spend cap its worth in units.
	Consumed, Granted, Ceiling int64
	WindowStart, WindowEnd     int64 // microseconds, half-open
	// Rate, Per, Burst are this holder's share of a bucket; Per 0: it holds the whole limit.
	Rate, Per, Burst int64
	// Shared says that others hold a part of the limit, idle perhaps: what does not fit here is Short, not denied, from AskAgain
	// on. Before that instant the answer to the last question stands: denied until ClearsAt (0: never).
	Shared             bool
	AskAgain, ClearsAt int64
}

// Verdict is what Decide found.
type Verdict uint8

// The verdicts. Only Allow has charged the states.
const (
	Allow Verdict = iota + 1
	Short         // fits the limits, but a lease must be drawn first: grant, then decide again
	Stale         // now is outside a window: roll the window, then decide again
	Deny
)

// Decision is filled in by Decide; the caller owns it. No allocation.
type Decision struct {
	Verdict Verdict
	// Deciding is the index of the limit that clears last among those that deny (one that never clears is last of all),
	// of the first that is short, or of the first that is stale; the first one on a tie; -1 on Allow.
	Deciding int
	Violated uint64 // Deny: bit i is set when limit i denies
	Over     uint64 // bit i is set when soft, grace or shadow limit i is passed and does not deny
	ClearsAt int64  // Deny: microseconds when the deciding limit could admit this cost; 0 for never
}

// LimitsMax is how many limits one decision can name in Violated.
const LimitsMax = 64

// When a limit clears. No real instant is either of these: a window is never over at the first microsecond,
// and Decide reports never as 0.
const (
	fits  = math.MinInt64
	never = math.MaxInt64
)

// Decide looks at all limits and, on Allow, charges all of them; otherwise it changes no state. Any stale window
// comes first, since its counts mean nothing; then any denial; then a missing lease.
//
// len(states) must be len(limits), at most LimitsMax. cost is in the meter's scale; a negative cost is denied by every limit,
// a cost of 0 by those that are already beyond their size. A now before a bucket's Last counts as Last.
func Decide(d *Decision, limits []Limit, states []State, cost, now int64) {
	states = states[:len(limits)]
	*d = Decision{Verdict: Allow, Deciding: -1}
	for i := range limits {
		l, s := &limits[i], &states[i]
		var clears int64
		if l.Kind == TokenBucket {
			clears = l.bucketClears(s, cost, now)
		} else {
			if !s.covers(now) {
				*d = Decision{Verdict: Stale, Deciding: i}
				return
			}
			clears = l.windowClears(s, cost)
			if clears == fits && s.Consumed+cost > s.Granted && d.Verdict == Allow {
				d.Verdict, d.Deciding = Short, i
			}
		}
		if clears != fits {
			d.Violated |= 1 << i
			if d.Verdict != Deny || clears > d.ClearsAt {
				d.Verdict, d.Deciding, d.ClearsAt = Deny, i, clears
			}
		}
	}
	if d.Verdict == Allow {
		charge(limits, states, cost, now)
	}
	if d.ClearsAt == never {
		d.ClearsAt = 0
	}
}

// charge books a cost that every limit admits, so no sum overflows.
func charge(limits []Limit, states []State, cost, now int64) {
	for i := range limits {
		l, s := &limits[i], &states[i]
		if l.Kind == TokenBucket {
			weight, _ := product(cost, l.Per)
			s.Debt = l.debt(s, now) + weight
			s.Last = max(s.Last, now)
		} else {
			s.Consumed += cost
		}
	}
}

// Return gives back a cost, or the part of it, that was reserved and not used. reserved is the instant Decide was
// called with. A window that does not hold that instant has been rolled since and keeps its count.
//
// A bucket takes back only what it has not refilled by itself since then. More would admit twice: the place of a
// request that ran for a while has been given to others already.
func Return(limits []Limit, states []State, cost, reserved int64) {
	if cost <= 0 {
		return
	}
	states = states[:len(limits)]
	for i := range limits {
		l, s := &limits[i], &states[i]
		switch {
		case l.Kind == TokenBucket:
			if weight, ok := product(cost, l.Per); ok {
				s.Debt = max(0, s.Debt-l.drain(weight, reserved, s.Last))
			}
		case s.covers(reserved):
			s.Consumed = max(0, s.Consumed-cost)
		}
	}
}

// Remaining is how much of l could be admitted at now, rounded down and never negative, and the instant in
// microseconds when that is full again (0 for a bucket that does not refill). The caller rolls a stale window first.
func Remaining(l *Limit, s *State, now int64) (remaining, resetAt int64) {
	if l.Kind != TokenBucket {
		return s.Ceiling - min(s.Ceiling, max(0, s.Consumed)), s.WindowEnd
	}
	debt := l.debt(s, now)
	if free := l.size() - debt; free > 0 && l.Per > 0 {
		remaining = free / l.Per
	}
	if resetAt = l.after(debt, max(s.Last, now)); resetAt == never {
		resetAt = 0
	}
	return remaining, resetAt
}

func (s *State) covers(now int64) bool { return s.WindowStart <= now && now < s.WindowEnd }

// windowClears is when the cost fits, or fits when it does now.
func (l *Limit) windowClears(s *State, cost int64) int64 {
	switch {
	case cost < 0 || cost > s.Ceiling:
		return never
	case s.Consumed <= s.Ceiling-cost:
		return fits
	case l.Kind == SpendCap:
		return never
	default:
		return s.WindowEnd
	}
}
