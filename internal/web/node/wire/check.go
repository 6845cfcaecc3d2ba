package wire

import (
	"fmt"
	"time"

	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/store"
)

// Bounds of what a gateway may say.
const (
	ElementsMax      = 1 << 15 // elements of all arrays of a call's body together
	BatchElementsMax = 1 << 18 // the same of a batch
	AheadMax         = 10 * time.Minute
	limitsMax        = 64
	scopeMax         = 2048 // bytes
	backsOfAnswer    = 16 * authority.MaxBacks
)

// Elements counts the elements of all arrays in a JSON text, or more of them: reading a short text must not take much memory. Text
// that is no JSON gets any number.
func Elements(text []byte) (n int) {
	var arrays []bool // of what is open, whether it is an array
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '"':
			for i++; i < len(text) && text[i] != '"'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
		case '[':
			arrays = append(arrays, true)
			n++
		case '{':
			arrays = append(arrays, false)
		case ']', '}':
			if len(arrays) > 0 {
				arrays = arrays[:len(arrays)-1]
			}
		case ',':
			if len(arrays) > 0 && arrays[len(arrays)-1] {
				n++
			}
		}
	}
	return n
}

func invalid(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, store.ErrInvalid)...)
}

func (c *Counter) check() error {
	if len(c.CustomerID) > wordMax || len(c.Meter) > wordMax || len(c.Scope) > scopeMax || c.Length < 0 || c.Start < 0 {
		return invalid("a counter is malformed")
	}
	return nil
}

// least says whether any number is below 0.
func least(list ...int64) bool {
	for _, n := range list {
		if n < 0 {
			return true
		}
	}
	return false
}

// share says whether three numbers are a bucket's share, or none at all.
func share(rate, per, burst int64) bool {
	return rate >= 0 && burst >= 0 && per >= 0 && (per > 0 || rate == 0 && burst == 0)
}

// Check says what no gateway of ours would draw: store.ErrInvalid. now is the server's business time. A gateway may be behind it, which
// has not heard of an advance, but not far ahead: its windows would not have begun.
func (d *Draw) Check(now time.Time) error {
	if len(d.Asks) > authority.MaxAsks {
		return invalid("%d counters in one draw", len(d.Asks))
	}
	latest := now.Add(AheadMax).UnixMicro()
	if d.Now < 0 || d.Now > latest {
		return invalid("the gateway's clock is %v ahead of the server's", time.UnixMicro(d.Now).Sub(now).Round(time.Second))
	}
	if len(d.CustomerID) > wordMax || len(d.SubscriptionID) > wordMax {
		return invalid("a draw is malformed")
	}
	for i := range d.Asks {
		a := &d.Asks[i]
		if err := a.Counter.check(); err != nil {
			return err
		}
		if a.Counter.Start > latest {
			return invalid("a window that has not begun")
		}
		if len(a.Limits) > limitsMax || len(a.Whose.Project)+len(a.Whose.Key)+len(a.Whose.User)+len(a.Whose.Route) > scopeMax {
			return invalid("an ask is malformed")
		}
		for _, key := range a.Limits {
			if len(key) > wordMax {
				return invalid("an ask is malformed")
			}
		}
		if least(a.Need, a.Want, a.Spent, a.Open, a.WindowEnd) || !share(a.Rate, a.Per, a.Burst) {
			return invalid("an ask's numbers are none")
		}
	}
	return nil
}

// CheckBacks says what no gateway of ours would give back: store.ErrInvalid.
func CheckBacks(list []Back, most int) error {
	if len(list) > most {
		return invalid("%d leases given back at once", len(list))
	}
	for i := range list {
		b := &list[i]
		if err := b.Counter.check(); err != nil {
			return err
		}
		if least(b.Spent, b.Keep, b.WrittenOff, b.Debt, b.Last, b.Had) || !share(b.Rate, b.Per, b.Burst) {
			return invalid("a lease's numbers are none")
		}
	}
	return nil
}

// Check does so with an answer.
func (a *Answer) Check() error {
	if len(a.Error) > 4*scopeMax {
		return invalid("an answer is too long")
	}
	if err := a.Held.check(); err != nil {
		return err
	}
	return CheckBacks(a.Backs, backsOfAnswer)
}

// Check does so with a state.
func (s *State) Check() error {
	if least(s.Spool, s.Lag, s.Open, s.Now) || len(s.Version) > wordMax || len(s.Session) > wordMax {
		return invalid("a state is malformed")
	}
	return nil
}
