package ledger

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
)

// changesMax bounds how many changes of grants one Burn looks at. While there is overage it looks at each, and an instant at which
// one changes counts as at least a hundredth of the grants; else it skips to the last before a use. Only absurd dates have as many.
const changesMax = 100_000

// Use is usage that grants pay for.
type Use struct {
	At       time.Time
	Quantity money.Rational
	Meter    string
}

// Reset begins a usage period: what is left of grants rolls over, and overage is dropped unless it is preserved.
type Reset struct {
	At              time.Time
	PreserveOverage bool
}

// Burned is what one grant paid of one use, at the instant of the use or later, when a grant took over its overage.
type Burned struct {
	GrantID string
	Use     int // index
	Amount  money.Rational
	At      time.Time
}

// Outcome is what became of grants.
type Outcome struct {
	Balances       map[string]money.Rational // by grant id, at until; 0 of what is not active then
	Overage, Usage money.Rational            // both since the last reset
	Burned         []Burned                  // in the order in which it happened
}

// Burn pays uses with grants from start on. A grant is active in [EffectiveAt, ExpiresAt), or until it is voided; what is left
// then is lost, what it paid stays paid. Those active burn in the order that Priority tells. What no grant pays is overage: the
// next grant or refill of the same usage period takes it over, the oldest first. At one instant, this is the order:
//
//  1. Grants end.
//  2. A reset: of each active grant min(MaxRollover, max(balance, MinRollover)) stays; usage begins at 0; overage is dropped
//     unless it is preserved.
//  3. Grants start, so they do not roll over at that instant; refills fill up to Amount. Overage is taken over, by what rolled
//     over too.
//  4. Uses, in the order given.
//
// The grants that were effective before start are full then. Uses and resets outside [start, until) are left out. Balances are
// those at until: grants that start or end there have done so. A zero until is just after the last use or reset.
//
// The errors are ErrInvalid (a grant that is not valid, two of one id, a negative use, two resets at one instant, an until before
// start, too many refills) and money.ErrOverflow.
func Burn(start time.Time, grants []Grant, uses []Use, resets []Reset, until time.Time) (Outcome, error) {
	if !until.IsZero() && until.Before(start) {
		return Outcome{}, fmt.Errorf("%w: it ends before it starts", ErrInvalid)
	}
	list, err := steps(start, uses, resets, until)
	if err != nil {
		return Outcome{}, err
	}
	b, err := newBurning(start, grants)
	if err != nil {
		return Outcome{}, err
	}
	for _, s := range list {
		if s.reset != nil {
			err = b.reset(*s.reset)
		} else {
			err = b.use(s.use, &uses[s.use])
		}
		if err != nil {
			return Outcome{}, err
		}
	}
	if until.IsZero() && len(list) == 0 {
		until = start
	}
	if !until.IsZero() {
		if err := b.advance(until); err != nil {
			return Outcome{}, err
		}
	}
	return b.outcome()
}

// step is a use, or a reset.
type step struct {
	at    time.Time
	reset *Reset
	use   int // index
}

// steps are the uses and resets in [start, until), in order; a zero until is without end.
func steps(start time.Time, uses []Use, resets []Reset, until time.Time) ([]step, error) {
	span := period.Interval{Start: start, End: until}
	list := make([]step, 0, len(uses)+len(resets))
	for i := range resets {
		if span.Contains(resets[i].At) {
			list = append(list, step{at: resets[i].At, reset: &resets[i]})
		}
	}
	for i := range uses {
		if uses[i].Quantity.Sign() < 0 {
			return nil, fmt.Errorf("%w: use %d is negative", ErrInvalid, i)
		}
		if span.Contains(uses[i].At) {
			list = append(list, step{at: uses[i].At, use: i})
		}
	}
	slices.SortStableFunc(list, func(a, b step) int { return a.at.Compare(b.at) }) // at one instant the reset stands first
	for i := 1; i < len(list); i++ {
		if list[i].reset != nil && list[i-1].reset != nil && list[i].at.Equal(list[i-1].at) {
			return nil, fmt.Errorf("%w: two resets at %s", ErrInvalid, period.Format(list[i].at))
		}
	}
	return list, nil
}

// held is a grant and what is left of it.
type held struct {
	*Grant
	balance money.Rational
	active  bool
	change  time.Time // when that changes by itself; zero: never
}

// owed is the overage of one use.
type owed struct {
	use   int
	meter string
	rest  money.Rational
}

// burning is the state of Burn.
type burning struct {
	held    []held // in the order in which they burn
	owed    []owed // the oldest first
	usage   money.Rational
	burned  []Burned
	changes int // looked at
}

func newBurning(start time.Time, grants []Grant) (*burning, error) {
	b := &burning{held: make([]held, len(grants))}
	ids := make(map[string]struct{}, len(grants))
	for i := range grants {
		if err := grants[i].Validate(); err != nil {
			return nil, err
		}
		if _, twice := ids[grants[i].ID]; twice {
			return nil, fmt.Errorf("%w: two grants are named %q", ErrInvalid, grants[i].ID)
		}
		ids[grants[i].ID] = struct{}{}
		b.held[i] = held{Grant: &grants[i], change: grants[i].EffectiveAt}
	}
	slices.SortFunc(b.held, func(x, y held) int {
		return cmp.Or(cmp.Compare(x.Priority, y.Priority), byExpiry(x.ExpiresAt, y.ExpiresAt),
			x.EffectiveAt.Compare(y.EffectiveAt), cmp.Compare(x.ID, y.ID))
	})
	return b, b.advance(justBefore(start))
}

// byExpiry has what never expires last.
func byExpiry(x, y time.Time) int {
	if x.IsZero() != y.IsZero() {
		return -x.Compare(y)
	}
	return x.Compare(y)
}

func justBefore(t time.Time) time.Time { return t.Add(-1) }

// advance goes to t: grants end, start and are refilled up to it, and at it.
func (b *burning) advance(t time.Time) error {
	for len(b.owed) > 0 {
		at := b.nextChange()
		if at.IsZero() || at.After(t) {
			return nil
		}
		b.changes += len(b.held) / 100
		if err := b.settle(at); err != nil {
			return err
		}
		if err := b.payOwed(at); err != nil {
			return err
		}
	}
	return b.settle(t) // without overage only the last refill counts
}

// nextChange is the next instant at which a grant changes by itself; zero: never.
func (b *burning) nextChange() (first time.Time) {
	for i := range b.held {
		if at := b.held[i].change; !at.IsZero() && (first.IsZero() || at.Before(first)) {
			first = at
		}
	}
	return first
}

// settle has grants end, start and be refilled that do so by t.
func (b *burning) settle(t time.Time) error {
	for i := range b.held {
		h := &b.held[i]
		if h.change.IsZero() || h.change.After(t) {
			continue
		}
		end := h.end()
		h.active, h.balance = end.IsZero() || t.Before(end), money.Rational{}
		if h.active {
			h.balance = h.Amount.Rational()
		}
		h.change = h.next(t)
		b.changes++
	}
	if b.changes > changesMax {
		return fmt.Errorf("%w: too many beginnings, ends and refills of grants", ErrInvalid)
	}
	return nil
}

// payOwed takes overage from the grants, as long as one of them has something left.
func (b *burning) payOwed(at time.Time) (err error) {
	kept, i := 0, 0
	for ; i < len(b.owed) && b.anythingLeft(); i++ {
		o := &b.owed[i]
		if o.rest, err = b.pay(o.use, o.meter, o.rest, at); err != nil {
			return err
		}
		if !o.rest.IsZero() {
			b.owed[kept] = *o
			kept++
		}
	}
	if kept < i {
		b.owed = append(b.owed[:kept], b.owed[i:]...)
	}
	return nil
}

func (b *burning) anythingLeft() bool {
	return slices.ContainsFunc(b.held, func(h held) bool { return h.active && h.balance.Sign() > 0 })
}

// pay burns a quantity and returns what no grant paid.
func (b *burning) pay(use int, meter string, quantity money.Rational, at time.Time) (rest money.Rational, err error) {
	for i := range b.held {
		if quantity.IsZero() {
			break
		}
		h := &b.held[i]
		if !h.active || h.balance.Sign() <= 0 || !h.pays(meter) {
			continue
		}
		part := h.balance.Min(quantity)
		if h.balance, err = h.balance.Sub(part); err != nil {
			return rest, fmt.Errorf("burn grant %q: %w", h.ID, err)
		}
		if quantity, err = quantity.Sub(part); err != nil {
			return rest, fmt.Errorf("burn grant %q: %w", h.ID, err)
		}
		b.burned = append(b.burned, Burned{GrantID: h.ID, Use: use, Amount: part, At: at})
	}
	return quantity, nil
}

func (b *burning) use(i int, u *Use) (err error) {
	if err := b.advance(u.At); err != nil {
		return err
	}
	if b.usage, err = b.usage.Add(u.Quantity); err != nil {
		return fmt.Errorf("add up usage: %w", err)
	}
	rest, err := b.pay(i, u.Meter, u.Quantity, u.At)
	if !rest.IsZero() {
		b.owed = append(b.owed, owed{i, u.Meter, rest})
	}
	return err
}

func (b *burning) reset(r Reset) error {
	if err := b.advance(justBefore(r.At)); err != nil {
		return err
	}
	for i := range b.held {
		if h := &b.held[i]; h.active {
			h.balance = h.rollover(h.balance)
		}
	}
	b.usage = money.Rational{}
	if !r.PreserveOverage {
		b.owed = nil
	}
	if err := b.settle(r.At); err != nil {
		return err
	}
	return b.payOwed(r.At)
}

func (b *burning) outcome() (Outcome, error) {
	out := Outcome{Balances: make(map[string]money.Rational, len(b.held)), Usage: b.usage, Burned: b.burned}
	for i := range b.held {
		out.Balances[b.held[i].ID] = b.held[i].balance
	}
	for _, o := range b.owed {
		var err error
		if out.Overage, err = out.Overage.Add(o.rest); err != nil {
			return Outcome{}, fmt.Errorf("add up overage: %w", err)
		}
	}
	return out, nil
}
