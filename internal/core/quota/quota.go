// Package quota decides whether a cost fits under limits. Decide is pure: gateway, drivers, tests and simulator share it.
package quota

import "github.com/tallystick/tallystick/internal/core/period"

type Kind uint8

const (
	TokenBucket Kind = iota + 1
	Quota            // calendar quota
	SpendCap
)

// Limit is one compiled limit. Quantities are int64 in the meter's scale, time is microseconds of the business clock.
type Limit struct {
	Key    string
	Kind   Kind
	Meter  string
	Window period.Window // Quota, SpendCap
	Quota  int64         // Quota: the limit itself. SpendCap: unused, the ceiling is in the state
	// TokenBucket: Rate units refill per Per microseconds, Burst is the size.
	Rate, Per, Burst int64
}

// State is what one limit has counted so far. Owner: the enforcer, under the customer's lock.
type State struct {
	// TokenBucket (GCRA in the form of a debt): Debt is in units×Per, drains by Rate each microsecond since Last.
	Debt, Last int64
	// Quota and SpendCap: Consumed is used or reserved in the window (admitted here and elsewhere, and reported);
	// Granted ≤ Ceiling is how far Consumed may go on durable leases; Ceiling is the limit in units.
	Consumed, Granted, Ceiling int64
	WindowStart, WindowEnd     int64 // microseconds, half-open
}

type Verdict uint8

const (
	Allow Verdict = iota + 1
	Short         // fits the limits, but a lease must be drawn first: grant, then decide again
	Stale         // now is outside a window: roll the window, then decide again
	Deny
)

// Decision is filled in by Decide; the caller owns it. No allocation.
type Decision struct {
	Verdict  Verdict
	Deciding int    // index of the limit that clears last among those that deny (Deny), that is short or stale; else -1
	Violated uint64 // bit i: limit i denies
	ClearsAt int64  // microseconds: when the deciding limit could admit this cost; 0 when never (cost above the limit itself, or a spend cap)
}

// Decide looks at all limits and, on Allow, charges all of them; otherwise it changes nothing but drained debts' bookkeeping.
// len(states) == len(limits) ≤ 64; cost ≥ 0 and in the meter's scale. cost overflow denies. now must not go back (a smaller now counts as Last).
func Decide(d *Decision, limits []Limit, states []State, cost, now int64) { panic("skeleton") }

// Return gives back a reserved cost that was not used (released request). The bucket's debt shrinks, never below zero.
func Return(limits []Limit, states []State, cost, now int64) { panic("skeleton") }

// Remaining is how much of limit i could be admitted at now, rounded down, never negative, and when that is full again.
func Remaining(l *Limit, s *State, now int64) (remaining, resetAt int64) { panic("skeleton") }
