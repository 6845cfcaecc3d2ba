// Package clock is the one business clock (P7): real time plus an offset that only a test clock can set. It never goes back.
package clock

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tallystick/tallystick/internal/core/period"
)

// Failures of an advance; after any of them the clock stands where it stood.
var (
	ErrNotTest  = errors.New("the clock can be advanced in test mode only")
	ErrBackward = errors.New("the clock cannot go back")
	ErrTooFar   = errors.New("the clock can be advanced by at most 10 years at a time, and not beyond the year 2199")
)

// advanceYears bounds one advance, lastYear all of them: durations in nanoseconds reach no further than 292 years.
const (
	advanceYears = 10
	lastYear     = 2199
	behindMax    = 100 * 366 * 24 * time.Hour // a test clock may begin in the past
)

// State is what clock.json holds. Floor: the highest business time known to have been used.
type State struct {
	Offset time.Duration `json:"offset_ns"`
	Floor  time.Time     `json:"floor"`
}

// Config of a Clock.
type Config struct {
	Real func() time.Time      // the machine's clock, with monotonic reading; required
	Mono func() time.Duration  // monotonic time since some instant. Default: that of Real's reading
	Test bool                  // may be advanced
	Load func() (State, error) // required; the zero State on first use
	Save func(State) error     // durable; required
	// Before and After run inside an advance, in order: flush and settle before, due work after.
	Before, After []func(context.Context) error
}

// Clock is safe for concurrent use. Now takes no lock.
//
// Business time is the monotonic time since the start plus lead, and lead is the highest value of (machine's clock + offset −
// monotonic time) seen so far: a step forward of the machine's clock is followed, one backward is not.
type Clock struct {
	cfg  Config
	base time.Time     // the first reading, with its monotonic part
	wall time.Time     // base without it: the machine's clock then
	mono time.Duration // Config.Mono then

	offset atomic.Int64 // nanoseconds; written with saving held
	lead   atomic.Int64 // nanoseconds of business time ahead of the reading at the start; only grows
	last   atomic.Int64 // microseconds since 1970 of the highest time handed out; only grows

	turn          chan struct{} // holds a token while an advance runs; it guards the hooks
	before, after []func(context.Context) error

	saving sync.Mutex // one Save at a time, and offset with it
}

// New loads the state. Outside of test mode a state with an offset is refused: its times are not real ones.
func New(cfg Config) (*Clock, error) {
	if cfg.Real == nil || cfg.Load == nil || cfg.Save == nil {
		return nil, errors.New("clock: the machine's clock, load and save are required")
	}
	st, err := cfg.Load()
	if err != nil {
		return nil, fmt.Errorf("load clock state: %w", err)
	}
	if st.Offset != 0 && !cfg.Test {
		return nil, fmt.Errorf("clock: this deployment's clock was advanced by %v in test mode: %w; start it in test mode, or use another folder", st.Offset, ErrNotTest)
	}
	if st.Offset < -behindMax || st.Floor.Year() > lastYear {
		return nil, fmt.Errorf("clock: the saved state is damaged (offset %v, floor %s): restore it from a backup", st.Offset, period.Format(st.Floor))
	}
	base, mono := cfg.Real(), time.Duration(0)
	if cfg.Mono != nil {
		mono = cfg.Mono()
	}
	c := &Clock{cfg: cfg, mono: mono, base: base, wall: base.Round(0), turn: make(chan struct{}, 1)}
	c.before, c.after = append(c.before, cfg.Before...), append(c.after, cfg.After...)
	c.offset.Store(int64(st.Offset))
	c.lead.Store(int64(st.Offset))
	if !st.Floor.IsZero() {
		c.Raise(st.Floor)
	}
	return c, nil
}

// Now is the business time: UTC, whole microseconds. If the machine's clock steps back it keeps running on the monotonic
// reading and Ahead says by how much it leads. No call returns less than a call that ended before.
func (c *Clock) Now() time.Time {
	elapsed, step := c.read()
	lead := raise(&c.lead, step+c.offset.Load())
	micros := c.wall.Add(time.Duration(elapsed + lead)).UnixMicro()
	return time.UnixMicro(raise(&c.last, micros)).UTC()
}

// read takes one reading: nanoseconds of monotonic time since base, and by how much the machine's clock stepped since then.
func (c *Clock) read() (elapsed, step int64) {
	reading := c.cfg.Real()
	elapsed = int64(reading.Sub(c.base))
	if c.cfg.Mono != nil {
		elapsed = int64(c.cfg.Mono() - c.mono)
	}
	return elapsed, int64(reading.Round(0).Sub(c.wall)) - elapsed
}

// raise lifts v to at least x and returns what it then is.
func raise(v *atomic.Int64, x int64) int64 {
	for {
		old := v.Load()
		if old >= x {
			return old
		}
		if v.CompareAndSwap(old, x) {
			return x
		}
	}
}

// Ahead is by how much business time leads the machine's clock plus the offset: the machine's clock stepped back, or a
// stored time is newer. Below a millisecond it is 0, since the two readings are not taken at one instant.
func (c *Clock) Ahead() time.Duration {
	_, step := c.read()
	ahead := time.Duration(c.lead.Load() - c.offset.Load() - step)
	return max(0, ahead.Truncate(time.Millisecond))
}

// Test says whether the clock may be advanced.
func (c *Clock) Test() bool { return c.cfg.Test }

// Offset is by how much the clock was advanced, all advances together.
func (c *Clock) Offset() time.Duration { return time.Duration(c.offset.Load()) }

// Raise lifts the floor (a stored event is newer than the machine's clock). An earlier time changes nothing.
func (c *Clock) Raise(t time.Time) {
	t = t.Round(0)
	if cut := period.Truncate(t); cut.Before(t) {
		t = cut.Add(time.Microsecond)
	}
	elapsed, _ := c.read()
	raise(&c.lead, int64(t.Sub(c.wall))-elapsed)
	raise(&c.last, t.UnixMicro())
}

// OnAdvance registers further hooks, each may be nil; call before serving.
func (c *Clock) OnAdvance(before, after func(context.Context) error) {
	c.turn <- struct{}{}
	defer func() { <-c.turn }()
	if before != nil {
		c.before = append(c.before, before)
	}
	if after != nil {
		c.after = append(c.after, after)
	}
}

// Advance moves to an instant: Before hooks, durable new offset, After hooks; it returns the time when the due work is done.
// One at a time, further ones wait. When an After hook fails, the clock has moved all the same, and the error says so.
// ErrNotTest, ErrBackward, ErrTooFar.
func (c *Clock) Advance(ctx context.Context, to time.Time) (time.Time, error) {
	if !c.cfg.Test {
		return c.Now(), ErrNotTest
	}
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return c.Now(), fmt.Errorf("wait for another advance of the clock: %w", ctx.Err())
	}
	to = period.Truncate(to)
	switch now := c.Now(); {
	case to.Before(now):
		return now, fmt.Errorf("%w: it is %s, after %s", ErrBackward, period.Format(now), period.Format(to))
	case to.After(now.AddDate(advanceYears, 0, 0)) || to.Year() > lastYear:
		return now, fmt.Errorf("%w: it is %s", ErrTooFar, period.Format(now))
	}
	for _, hook := range c.before {
		if err := hook(ctx); err != nil {
			return c.Now(), fmt.Errorf("the clock was not advanced: work before it failed: %w", err)
		}
	}
	if err := c.move(to); err != nil {
		return c.Now(), fmt.Errorf("the clock was not advanced: %w", err)
	}
	for _, hook := range c.after {
		if err := hook(ctx); err != nil {
			now := c.Now()
			return now, fmt.Errorf("the clock was advanced and stands at %s, but work that became due failed and will be tried again: %w", period.Format(now), err)
		}
	}
	return c.Now(), nil
}

// move makes the offset durable that leads to an instant, then visible. When the instant has passed meanwhile, nothing is to do.
func (c *Clock) move(to time.Time) error {
	c.saving.Lock()
	defer c.saving.Unlock()
	by := to.Sub(c.Now())
	if by <= 0 {
		return nil
	}
	lead := c.lead.Load()
	offset := c.offset.Load() + int64(by)
	if err := c.cfg.Save(State{Offset: time.Duration(offset), Floor: to}); err != nil {
		return fmt.Errorf("save clock state: %w", err)
	}
	// Now may add the new offset to lead first, so this must be a maximum too and not a sum.
	c.offset.Store(offset)
	raise(&c.lead, lead+int64(by))
	return nil
}

// Persist saves the floor; called from time to time and at shutdown.
func (c *Clock) Persist() error {
	c.saving.Lock()
	defer c.saving.Unlock()
	if err := c.cfg.Save(State{Offset: time.Duration(c.offset.Load()), Floor: time.UnixMicro(c.last.Load()).UTC()}); err != nil {
		return fmt.Errorf("save clock state: %w", err)
	}
	return nil
}
