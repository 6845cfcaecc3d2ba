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

// The modes of a limit. Any other value counts like Hard.
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
	// All others: Consumed is used or reserved in the window (admitted here and elsewhere, and reported)
	// and may be beyond Ceiling after reports or a lowered limit. Granted ≤ Ceiling is how far Consumed may go on
	// durable leases. Ceiling is the limit in the meter's scale, grace included; for a spend cap its worth in
	// units, for a Rolling slot what the slots before leave it (RollingCeiling), for Credits what was granted. Of Concurrency all
	// three are requests. Concurrency and Credits have no window.
	Consumed, Granted, Ceiling int64
	WindowStart, WindowEnd     int64 // microseconds, half-open
	// Rate, Per, Burst are this holder's share of a bucket; Per 0: it holds the whole limit.
	// TokenBucket: Debt is in units×Per of the share then.
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

// ConcurrencyRetry is after how many microseconds a denial by a Concurrency limit says that it clears. When a running request
// ends is known to nobody.
const ConcurrencyRetry = 1_000_000

// Decide looks at all limits and, on Allow, charges all of them; otherwise it changes no state. Any stale window
// comes first, since its counts mean nothing; then any denial; then a missing lease.
//
// len(states) must be len(limits), at most LimitsMax; no state may stand there twice. cost is in the meter's scale; a negative
// cost is denied by every limit, whatever its mode, a cost of 0 by those that are already beyond their size; it needs no lease. A now before a
// bucket's Last counts as Last. Soft and Shadow limits need no lease.
//
// A Soft or Shadow bucket is not charged by what it would have denied, so that it reports what a hard one would have denied.
func Decide(d *Decision, limits []Limit, states []*State, cost, now int64) {
	states = states[:len(limits)]
	*d = Decision{Verdict: Allow, Deciding: -1}
	for i := range limits {
		l, s := &limits[i], states[i]
		if l.Mode == Hard && l.Kind != TokenBucket && l.roomy(s, cost, now) {
			continue // by far the most common case
		}
		if !d.look(i, l, s, cost, now) {
			*d = Decision{Verdict: Stale, Deciding: i}
			return
		}
	}
	if d.Verdict == Allow {
		charge(d, limits, states, cost, now)
	}
	if d.ClearsAt == never {
		d.ClearsAt = 0
	}
}

// roomy tells whether a cost fits the lease and the ceiling of a window that is open, or of a limit without one.
func (l *Limit) roomy(s *State, cost, now int64) bool {
	units := l.units(cost)
	room := min(s.Granted, s.Ceiling)
	return cost >= 0 && units <= room && s.Consumed <= room-units && l.covers(s, now)
}

// look adds what one limit says to the decision; false when its window is stale.
func (d *Decision) look(i int, l *Limit, s *State, cost, now int64) bool {
	var clears int64
	if l.Kind == TokenBucket {
		clears = l.bucketClears(s, cost, now)
	} else {
		if !l.covers(s, now) {
			return false
		}
		clears = l.windowClears(s, cost, now)
	}
	switch {
	case l.Mode == Hard || cost < 0:
	case l.Mode == Soft || l.Mode == Shadow:
		if clears != fits {
			d.Over |= 1 << i
		}
		return true
	case l.Mode == Grace && clears == fits && l.Kind != TokenBucket && l.units(cost) > s.Ceiling-l.Extra-s.Consumed:
		d.Over |= 1 << i
	}
	short := false
	if clears != fits {
		clears, short = l.others(s, cost, clears, now)
	} else if units := l.units(cost); l.Kind != TokenBucket && units > 0 && s.Consumed+units > s.Granted {
		clears, short = s.answered(now)
	}
	switch {
	case short:
		if d.Verdict == Allow {
			d.Verdict, d.Deciding = Short, i
		}
	case clears != fits:
		d.Violated |= 1 << i
		if d.Verdict != Deny || clears > d.ClearsAt {
			d.Verdict, d.Deciding, d.ClearsAt = Deny, i, clears
		}
	}
	return true
}

// charge books a cost that every limit admits. Only what soft and shadow limits count can pass the range; it stays at its end.
func charge(d *Decision, limits []Limit, states []*State, cost, now int64) {
	for i := range limits {
		l, s := &limits[i], states[i]
		if l.Kind != TokenBucket {
			s.Consumed = add(s.Consumed, l.units(cost))
			continue
		}
		if d.Over&(1<<i) != 0 {
			continue
		}
		rate, per, _ := l.share(s)
		weight, _ := product(cost, per)
		s.Debt = add(debt(s, rate, now), weight)
		s.Last = max(s.Last, now)
	}
}

// others is what a denial comes to where other holders may have what is missing here.
func (l *Limit) others(s *State, cost, clears, now int64) (at int64, short bool) {
	if !s.Shared || !l.possible(s, cost) {
		return clears, false
	}
	return s.answered(now)
}

// answered says whether the authority may be asked again, or else until when its last answer stands.
func (s *State) answered(now int64) (at int64, short bool) {
	switch {
	case now >= s.AskAgain || s.ClearsAt != 0 && now >= s.ClearsAt:
		return fits, true
	case s.ClearsAt == 0:
		return never, false
	}
	return s.ClearsAt, false
}

// possible tells whether the whole limit could ever take the cost.
func (l *Limit) possible(s *State, cost int64) bool {
	switch {
	case cost < 0:
		return false
	case l.Kind == TokenBucket:
		return cost <= l.Burst
	case l.Kind == Rolling:
		return cost <= add(l.Quota, l.Extra)
	}
	return l.units(cost) <= s.Ceiling
}

// units are what a cost counts.
func (l *Limit) units(cost int64) int64 {
	if l.Kind == Concurrency {
		return 1
	}
	return cost
}

// Remaining is how much of l could be admitted at now, rounded down and never negative, grace apart, and the instant in
// microseconds when that is full again (0 where no time will do: a bucket that does not refill, requests at once, credits).
// The caller rolls a stale window first.
func Remaining(l *Limit, s *State, now int64) (remaining, resetAt int64) {
	if l.Kind != TokenBucket {
		ceiling := s.Ceiling
		if l.Mode == Grace && ceiling >= 0 {
			ceiling -= min(ceiling, max(0, l.Extra))
		}
		return ceiling - min(ceiling, max(0, s.Consumed)), l.windowReset(s, now)
	}
	rate, per, burst := l.share(s)
	owed := debt(s, rate, now)
	if free := size(burst, per) - owed; free > 0 && per > 0 {
		remaining = free / per
	}
	if resetAt = after(owed, rate, max(s.Last, now)); resetAt == never {
		resetAt = 0
	}
	return remaining, resetAt
}

func (l *Limit) windowReset(s *State, now int64) int64 {
	switch l.Kind {
	case Concurrency, Credits:
		return 0
	case Rolling:
		if s.ClearsAt > now {
			return s.ClearsAt
		}
		if s.Consumed > 0 || s.Ceiling < l.Quota {
			return add(s.WindowEnd, l.Length)
		}
	case TokenBucket, Quota, SpendCap, Fixed:
	}
	return s.WindowEnd
}

// covers tells whether the state is of an instant; without a window it is of every one.
func (l *Limit) covers(s *State, at int64) bool {
	return s.WindowStart <= at && at < s.WindowEnd || l.Kind == Concurrency || l.Kind == Credits
}

// windowClears is when the cost fits, or fits when it does now.
func (l *Limit) windowClears(s *State, cost, now int64) int64 {
	units := l.units(cost)
	switch {
	case cost < 0:
		return never
	case units <= s.Ceiling && s.Consumed <= s.Ceiling-units:
		return fits
	case !l.possible(s, cost) || l.Kind == SpendCap || l.Kind == Credits:
		return never
	case l.Kind == Concurrency:
		return add(now, ConcurrencyRetry)
	case l.Kind == Rolling && s.ClearsAt > s.WindowEnd:
		return s.ClearsAt
	}
	return s.WindowEnd
}
