package clock_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/tallystick/tallystick/internal/app/clock"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// machine is a clock whose wall and monotonic readings move apart, as real ones do when the wall clock is set.
type machine struct {
	mu        sync.Mutex
	wall      time.Time
	monotonic time.Duration
}

func newMachine(wall time.Time) *machine { return &machine{wall: wall, monotonic: time.Hour} }

func (m *machine) run(d time.Duration) {
	m.mu.Lock()
	m.wall, m.monotonic = m.wall.Add(d), m.monotonic+d
	m.mu.Unlock()
}
func (m *machine) step(d time.Duration) { m.mu.Lock(); m.wall = m.wall.Add(d); m.mu.Unlock() }

// now makes a time with a monotonic reading of our choice; package time offers no way, so it is laid out as time.Time is.
func (m *machine) now() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	layout := struct {
		wall uint64
		ext  int64
		loc  *time.Location
	}{ext: int64(m.monotonic), loc: time.UTC}
	since := m.wall.Unix() - time.Date(1885, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	layout.wall = 1<<63 | uint64(since)<<30 | uint64(m.wall.Nanosecond())
	return *(*time.Time)(unsafe.Pointer(&layout))
}

func TestMachine(t *testing.T) {
	t.Parallel()
	m := newMachine(start)
	a := m.now()
	m.run(time.Second)
	m.step(-time.Hour)
	b := m.now()
	if got := b.Sub(a); got != time.Second {
		t.Errorf("monotonic: %v, want 1s", got)
	}
	if got := b.Round(0).Sub(a.Round(0)); got != time.Second-time.Hour || !a.Round(0).Equal(start) {
		t.Errorf("wall: %v from %v", got, a)
	}
}

// disk is where the state is kept.
type disk struct {
	mu    sync.Mutex
	state clock.State
	fail  error
}

func (d *disk) load() (clock.State, error) { d.mu.Lock(); defer d.mu.Unlock(); return d.state, nil }

func (d *disk) save(s clock.State) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail == nil {
		d.state = s
	}
	return d.fail
}

func open(t interface {
	Helper()
	Fatal(args ...any)
}, m *machine, d *disk,
) *clock.Clock {
	t.Helper()
	c, err := clock.New(clock.Config{Real: m.now, Test: true, Load: d.load, Save: d.save})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func wantNow(t *testing.T, c *clock.Clock, want time.Time) {
	t.Helper()
	if got := c.Now(); !got.Equal(want) || got.Location() != time.UTC {
		t.Errorf("now %v, want %v", got, want)
	}
}

func TestFollowsTheMachine(t *testing.T) {
	t.Parallel()
	m := newMachine(start.Add(1234 * time.Nanosecond))
	c := open(t, m, &disk{})
	wantNow(t, c, start.Add(time.Microsecond))
	m.run(90 * time.Second)
	wantNow(t, c, start.Add(90*time.Second+time.Microsecond))
	m.step(time.Hour)
	wantNow(t, c, start.Add(time.Hour+90*time.Second+time.Microsecond))
	if a := c.Ahead(); a != 0 {
		t.Errorf("ahead by %v", a)
	}
}

func TestRunsOnWhenTheMachineStepsBack(t *testing.T) {
	t.Parallel()
	m := newMachine(start)
	c := open(t, m, &disk{})
	c.Now()
	m.step(-time.Hour)
	m.run(time.Minute)
	wantNow(t, c, start.Add(time.Minute))
	if a := c.Ahead(); a != time.Hour {
		t.Errorf("ahead by %v, want 1h", a)
	}
	m.step(2 * time.Hour)
	wantNow(t, c, start.Add(time.Hour+time.Minute))
	if a := c.Ahead(); a != 0 {
		t.Errorf("ahead by %v after catching up", a)
	}
}

func TestFloor(t *testing.T) {
	t.Parallel()
	m, d := newMachine(start), &disk{state: clock.State{Floor: start.Add(time.Hour)}}
	c := open(t, m, d)
	if err := c.Persist(); err != nil || !d.state.Floor.Equal(start.Add(time.Hour)) {
		t.Errorf("an unread clock saved %v (%v)", d.state.Floor, err)
	}
	wantNow(t, c, start.Add(time.Hour))
	if a := c.Ahead(); a != time.Hour {
		t.Errorf("ahead by %v", a)
	}
	m.run(time.Minute)
	wantNow(t, c, start.Add(time.Hour+time.Minute))
	if err := c.Persist(); err != nil {
		t.Fatal(err)
	}
	if want := start.Add(time.Hour + time.Minute); !d.state.Floor.Equal(want) {
		t.Errorf("saved %v, want %v", d.state.Floor, want)
	}
	c.Raise(start) // long past
	wantNow(t, c, start.Add(time.Hour+time.Minute))
	c.Raise(start.Add(2*time.Hour + time.Nanosecond))
	wantNow(t, c, start.Add(2*time.Hour+time.Microsecond))
	m.run(time.Second)
	wantNow(t, c, start.Add(2*time.Hour+time.Second+time.Microsecond))
}

func TestAdvance(t *testing.T) {
	t.Parallel()
	m, d := newMachine(start), &disk{}
	c := open(t, m, d)
	var log []string
	hook := func(name string) func(context.Context) error {
		return func(context.Context) error {
			log = append(log, name+" "+c.Now().Format("15:04"))
			return nil
		}
	}
	c.OnAdvance(hook("before"), hook("after"))
	c.OnAdvance(nil, hook("last"))
	got, err := c.Advance(t.Context(), start.Add(5*time.Hour))
	if err != nil || !got.Equal(start.Add(5*time.Hour)) {
		t.Fatalf("advance: %v, %v", got, err)
	}
	if s := strings.Join(log, ", "); s != "before 12:00, after 17:00, last 17:00" {
		t.Errorf("hooks: %s", s)
	}
	if c.Offset() != 5*time.Hour || d.state.Offset != 5*time.Hour || !d.state.Floor.Equal(start.Add(5*time.Hour)) {
		t.Errorf("offset %v, saved %+v", c.Offset(), d.state)
	}
	if a := c.Ahead(); a != 0 {
		t.Errorf("ahead by %v: an offset is no lead", a)
	}
	m.run(time.Minute)
	wantNow(t, c, start.Add(5*time.Hour+time.Minute))
	wantNow(t, open(t, m, d), start.Add(5*time.Hour+time.Minute)) // as after a restart
}

func TestAdvanceKeepsALead(t *testing.T) {
	t.Parallel()
	m, d := newMachine(start), &disk{}
	c := open(t, m, d)
	m.step(-time.Hour)
	if _, err := c.Advance(t.Context(), start.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	wantNow(t, c, start.Add(time.Hour))
	if c.Offset() != time.Hour || c.Ahead() != time.Hour {
		t.Errorf("offset %v, ahead %v", c.Offset(), c.Ahead())
	}
}

func TestRefusedAdvances(t *testing.T) {
	t.Parallel()
	m, d := newMachine(start), &disk{}
	c := open(t, m, d)
	for _, tc := range []struct {
		to   time.Time
		want error
	}{
		{start.Add(-time.Microsecond), clock.ErrBackward},
		{start.AddDate(10, 0, 0).Add(time.Microsecond), clock.ErrTooFar},
	} {
		if _, err := c.Advance(t.Context(), tc.to); !errors.Is(err, tc.want) {
			t.Errorf("to %v: %v, want %v", tc.to, err, tc.want)
		}
	}
	if _, err := c.Advance(t.Context(), start); err != nil {
		t.Errorf("to the present: %v", err)
	}
	wantNow(t, c, start)
	for c.Now().Year() < 2196 {
		if _, err := c.Advance(t.Context(), c.Now().AddDate(10, 0, 0)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Advance(t.Context(), c.Now().AddDate(9, 0, 0)); !errors.Is(err, clock.ErrTooFar) {
		t.Errorf("to the end of time: %v", err)
	}
	m.run(time.Second)
	if got := c.Now(); got.Year() != 2196 || got.Second() != 1 {
		t.Errorf("far ahead it is %v", got)
	}

	live, err := clock.New(clock.Config{Real: m.now, Load: func() (clock.State, error) { return clock.State{}, nil }, Save: d.save})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := live.Advance(t.Context(), start.Add(time.Hour)); !errors.Is(err, clock.ErrNotTest) {
		t.Errorf("in live mode: %v", err)
	}
}

func TestBeginsInThePast(t *testing.T) {
	t.Parallel()
	m := newMachine(start)
	var kept clock.State
	then := start.AddDate(-3, 0, 0)
	open := func(st clock.State) *clock.Clock {
		c, err := clock.New(clock.Config{
			Real: m.now, Test: true, Load: func() (clock.State, error) { return st, nil }, Save: func(st clock.State) error { kept = st; return nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := open(clock.State{Offset: then.Sub(start)})
	wantNow(t, c, then)
	if _, err := c.Advance(t.Context(), then.AddDate(1, 0, 0)); err != nil {
		t.Fatal(err)
	}
	m.run(time.Minute)
	wantNow(t, open(kept), then.AddDate(1, 0, 0).Add(time.Minute))
}

func TestRefusedStates(t *testing.T) {
	t.Parallel()
	m, broken := newMachine(start), errors.New("no disk")
	for name, cfg := range map[string]clock.Config{
		"nothing":               {},
		"offset in live mode":   {Real: m.now, Load: func() (clock.State, error) { return clock.State{Offset: 1}, nil }},
		"offset far back":       {Real: m.now, Test: true, Load: func() (clock.State, error) { return clock.State{Offset: -101 * 366 * 24 * time.Hour}, nil }},
		"floor of another time": {Real: m.now, Test: true, Load: func() (clock.State, error) { return clock.State{Floor: start.AddDate(400, 0, 0)}, nil }},
		"load fails":            {Real: m.now, Test: true, Load: func() (clock.State, error) { return clock.State{}, broken }},
	} {
		if cfg.Load != nil {
			cfg.Save = func(clock.State) error { return nil }
		}
		if _, err := clock.New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestFailingAdvances(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	fail := func(context.Context) error { return broken }
	to := start.Add(time.Hour)

	c := open(t, newMachine(start), &disk{})
	c.OnAdvance(fail, nil)
	if _, err := c.Advance(t.Context(), to); !errors.Is(err, broken) || !strings.Contains(err.Error(), "was not advanced") {
		t.Errorf("before: %v", err)
	}
	wantNow(t, c, start)

	d := &disk{fail: broken}
	c = open(t, newMachine(start), d)
	if _, err := c.Advance(t.Context(), to); !errors.Is(err, broken) {
		t.Errorf("save: %v", err)
	}
	wantNow(t, c, start)
	if err := c.Persist(); !errors.Is(err, broken) {
		t.Errorf("persist: %v", err)
	}

	c = open(t, newMachine(start), &disk{})
	c.OnAdvance(nil, fail)
	if now, err := c.Advance(t.Context(), to); !errors.Is(err, broken) || !now.Equal(to) || !strings.Contains(err.Error(), "was advanced and stands at 2026-03-01T13:00:00Z") {
		t.Errorf("after: %v, %v", now, err)
	}
	wantNow(t, c, to)
}

func TestOneAdvanceAtATime(t *testing.T) {
	t.Parallel()
	c := open(t, newMachine(start), &disk{})
	entered, leave := make(chan struct{}), make(chan struct{})
	var running atomic.Int32
	c.OnAdvance(nil, func(context.Context) error {
		if running.Add(1) != 1 {
			t.Error("two advances at a time")
		}
		defer running.Add(-1)
		entered <- struct{}{}
		<-leave
		return nil
	})
	done := make(chan error)
	for i := range 2 {
		go func() {
			_, err := c.Advance(t.Context(), start.Add(time.Duration(i+1)*time.Hour))
			done <- err
		}()
	}
	<-entered
	if err := c.Persist(); err != nil { // not held up by a long advance
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Advance(ctx, start.Add(3*time.Hour)); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting with a cancelled context: %v", err)
	}
	leave <- struct{}{}
	first := <-done
	if first != nil {
		t.Fatal(first)
	}
	select {
	case <-entered: // the second moved further
		leave <- struct{}{}
		if err := <-done; err != nil {
			t.Error(err)
		}
	case err := <-done: // the later instant was first
		if !errors.Is(err, clock.ErrBackward) {
			t.Error(err)
		}
	}
}

// TestNeverBackward lets the machine's clock jump about and compares with what is known of it: business time never falls,
// runs at least at the monotonic pace, and never lies below the machine's clock plus the offset.
func TestNeverBackward(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m, d := newMachine(start), &disk{}
		c := open(t, m, d)
		last, monotonic := c.Now(), m.monotonic
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0:
				m.run(time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "run")))
			case 1:
				m.step(time.Duration(rapid.Int64Range(-int64(48*time.Hour), int64(48*time.Hour)).Draw(t, "step")))
			case 2:
				if _, err := c.Advance(context.Background(), last.Add(time.Duration(rapid.Int64Range(0, int64(48*time.Hour)).Draw(t, "advance")))); err != nil && !errors.Is(err, clock.ErrBackward) {
					t.Fatal(err)
				}
			case 3:
				c.Raise(last.Add(time.Duration(rapid.Int64Range(-int64(time.Hour), int64(time.Hour)).Draw(t, "raise"))))
			case 4:
				c.Now()
				if err := c.Persist(); err != nil {
					t.Fatal(err)
				}
				last = c.Now()
				c, monotonic = open(t, m, d), m.monotonic
				continue
			case 5:
			}
			now := c.Now()
			if ran := m.monotonic - monotonic; now.Sub(last) < ran-time.Microsecond {
				t.Fatalf("in %v business time went from %v to %v", ran, last, now)
			}
			if now.Before(m.wall.Add(c.Offset()).Truncate(time.Microsecond)) {
				t.Fatalf("%v lies behind the machine's clock %v + %v", now, m.wall, c.Offset())
			}
			if lead := now.Sub(m.wall.Add(c.Offset())); (lead - c.Ahead()).Abs() > time.Millisecond {
				t.Fatalf("leads by %v, but ahead is %v", lead, c.Ahead())
			}
			last, monotonic = now, m.monotonic
		}
	})
}

func TestConcurrentReadersNeverGoBackward(t *testing.T) {
	t.Parallel()
	m := newMachine(start)
	c := open(t, m, &disk{})
	stop := make(chan struct{})
	var readers sync.WaitGroup
	var shared atomic.Int64 // highest time that any reader had in hand
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				before := shared.Load()
				now := c.Now().UnixMicro()
				if now < before {
					t.Errorf("now %d after %d was handed out", now, before)
					return
				}
				for {
					seen := shared.Load()
					if seen >= now || shared.CompareAndSwap(seen, now) {
						break
					}
				}
			}
		})
	}
	for i := range 300 {
		m.step(time.Duration(i%7-3) * time.Minute)
		m.run(time.Millisecond)
		switch i % 10 {
		case 3:
			before := c.Now()
			if now, err := c.Advance(t.Context(), before.Add(time.Hour)); err != nil {
				t.Error(err)
			} else if now.Sub(before) > 2*time.Hour {
				t.Errorf("an hour's advance went from %v to %v", before, now)
			}
		case 7:
			c.Raise(c.Now().Add(time.Minute))
		}
		if err := c.Persist(); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	readers.Wait()
}

func BenchmarkNow(b *testing.B) {
	c, err := clock.New(clock.Config{Real: time.Now, Load: func() (clock.State, error) { return clock.State{}, nil }, Save: func(clock.State) error { return nil }})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			c.Now()
		}
	})
}
