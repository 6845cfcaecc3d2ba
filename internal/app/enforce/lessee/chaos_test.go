package lessee_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/app/enforce/lessee"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/quota"
	"github.com/tallystick/tallystick/internal/store"
)

// lossy is a way to the authority, and back, on which messages get lost or come late. Owner: the test's goroutine.
type lossy struct {
	w    *world
	dice *rand.Rand
	node uint16
	l    *lessee.Lessee
	run  string   // that answered last
	late []func() // messages that arrive later
	cut  bool
}

// pass sends a message; false: its answer does not come back.
func (x *lossy) pass(send func()) bool {
	if x.cut {
		return false
	}
	if len(x.late) > 0 && x.dice.IntN(4) == 0 {
		x.late[0]()
		x.late = x.late[1:]
	}
	switch x.dice.IntN(12) {
	case 0:
		return false
	case 1:
		x.late = append(x.late, send)
		return false
	case 2:
		send()
		return false
	case 3:
		x.late = append(x.late, send) // and twice
	case 4:
		send() // at once, and it is the second answer that comes back
	}
	send()
	if run := x.w.authority.Run(); x.run != run {
		if x.run != "" {
			x.l.Anew()
		}
		x.run = run
	}
	return true
}

func (x *lossy) Begin(ctx context.Context, node uint16, boot string, at time.Time) (authority.Welcome, error) {
	return x.w.authority.Begin(ctx, node, boot, at)
}

func (x *lossy) Draw(ctx context.Context, d authority.Draw) (out []authority.Answer, err error) {
	if !x.pass(func() { out, err = x.w.authority.Draw(ctx, d) }) {
		return nil, authority.ErrUnreachable
	}
	return out, err
}

func (x *lossy) Return(ctx context.Context, node uint16, epoch uint32, backs []authority.Back) (err error) {
	if !x.pass(func() { err = x.w.authority.Return(ctx, node, epoch, backs) }) {
		return authority.ErrUnreachable
	}
	return err
}

// Recall answers the authority.
func (x *lossy) Recall(ctx context.Context, counters []store.CounterKey) ([]authority.Back, error) {
	if x.cut || x.dice.IntN(8) == 0 {
		return nil, authority.ErrUnreachable
	}
	out, err := x.l.Recall(ctx, counters)
	if x.dice.IntN(6) == 0 {
		return nil, authority.ErrUnreachable
	}
	return out, err
}

func (x *lossy) Tell(ctx context.Context, counters []store.CounterKey) ([]authority.Back, error) {
	return x.l.Tell(ctx, counters)
}

func (x *lossy) Ship(context.Context) error { return nil }

// chaos has three gateways admit under a limit while messages to and from the authority are lost, late or doubled, gateways are cut
// off or paused, and the authority is restarted, with what it leaves or without; bound says that the admissions from one to another are too many.
func chaos(t *testing.T, seed uint64, limit catalog.Limit, bound func(from, to, n int64) bool) {
	t.Helper()
	atOnce := limit.Concurrency > 0
	w := newWorld(t, limit)
	dice := rand.New(rand.NewPCG(seed, 1))
	runs := 0
	restart := func(xs ...*lossy) {
		var left []byte
		var err error
		if dice.IntN(2) == 0 { // it ends in good order
			if left, err = w.authority.Freeze(t.Context()); err != nil {
				t.Fatal(err)
			}
			w.advance(time.Duration(dice.Int64N(int64(10 * time.Second))))
		}
		runs++
		if w.authority, err = authority.New(authority.Config{
			Directory: w, Leases: w.records, Journal: w.journal, Now: w.Now, Mono: func() time.Duration { return time.Duration(w.real.Load()) },
			Local: 1, Serial: true, Memory: left, Run: fmt.Sprint("run ", runs), Log: slog.New(slog.DiscardHandler),
		}); err != nil {
			t.Fatal(err)
		}
		for _, x := range xs {
			w.authority.Register(x.node, x)
		}
	}
	restart()
	var xs []*lossy
	for n := range 3 {
		x := &lossy{w: w, dice: dice, node: uint16(n + 2)}
		x.l = w.gateway(x.node, func(authority.Authority) authority.Authority { return x }, func(c *lessee.Config) { c.MaxCounters = 4 })
		xs = append(xs, x)
	}
	restart(xs...)
	w.advance(time.Hour)
	type admission struct{ at, cost int64 }
	var all []admission
	var running []lessee.Hold
	for step := range 3000 {
		x := xs[dice.IntN(3)]
		a := ask{cost: fmt.Sprint(1 + dice.IntN(3))}
		if dice.IntN(10) == 0 {
			a.customer = fmt.Sprint("cus_", 2+dice.IntN(3))
		}
		h, q, err := w.try(x.l, a)
		if err != nil && !errors.Is(err, authority.ErrUnreachable) && !errors.Is(err, lessee.ErrCrowded) {
			t.Fatalf("step %d: %v", step, err)
		}
		if err == nil && q.Decision.Verdict == quota.Allow && a.customer == "" {
			all = append(all, admission{q.Now, q.Cost})
			if atOnce {
				running = append(running, h)
			} else {
				h.End(q.Cost)
			}
			if atOnce && len(running) > chaosAtOnce {
				t.Fatalf("step %d: %d run", step, len(running))
			}
		} else if err == nil {
			h.End(q.Cost)
		}
		if len(running) > 0 && dice.IntN(3) == 0 {
			running[0].End(1)
			running = running[1:]
		}
		w.advance(time.Duration(dice.Int64N(int64(300 * time.Millisecond))))
		switch dice.IntN(100) {
		case 0:
			restart(xs...)
		case 1:
			if !atOnce {
				x.cut = !x.cut
			}
		case 2:
			if !atOnce {
				w.advance(time.Duration(dice.Int64N(int64(15 * time.Second))))
			}
		case 3:
			if !atOnce && dice.IntN(4) == 0 {
				for range 40 {
					w.advance(10 * time.Second)
					_ = w.authority.Tick(t.Context())
				}
			}
		case 4:
			_ = w.authority.Tick(t.Context())
		case 5: // nobody asks for anything between two restarts
			if dice.IntN(4) > 0 {
				break
			}
			restart(xs...)
			for range 20 {
				w.advance(500 * time.Millisecond)
				for _, x := range xs {
					_ = x.l.Tick(t.Context()) // it may be cut off
				}
			}
			restart(xs...)
		}
		for _, x := range xs {
			if err := x.l.Tick(t.Context()); err != nil && !errors.Is(err, authority.ErrUnreachable) {
				t.Fatalf("step %d: %v", step, err)
			}
		}
	}
	for i := range all {
		n := int64(0)
		for j := i; j < len(all); j++ {
			if n += all[j].cost; !atOnce && bound(all[i].at, all[j].at, n) {
				t.Fatalf("%d admitted in %d µs", n, all[j].at-all[i].at)
			}
		}
	}
}

// TestChaos: limits that live in memory hold what they promise, whatever gets lost, comes late or comes twice.
func TestChaos(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		limit catalog.Limit
		bound func(from, to, n int64) bool
	}{
		"fixed": {
			catalog.Limit{Key: "fixed", Meter: calls, Quota: new(dec("15")), Fixed: 20 * time.Second},
			func(from, to, n int64) bool { return from/20e6 == to/20e6 && n > 15 },
		},
		"rolling": {
			catalog.Limit{Key: "rolling", Meter: calls, Quota: new(dec("40")), Rolling: 8 * time.Minute},
			func(from, to, n int64) bool { return to-from < (8*time.Minute).Microseconds() && n > 40 },
		},
		"bucket": {
			bucketOf("bucket", "2", "20"),
			func(from, to, n int64) bool { return n*1e6 > 20*1e6+2*(to-from) },
		},
		"at once": {catalog.Limit{Key: "at_once", Meter: calls, Concurrency: chaosAtOnce}, nil},
	} {
		for seed := range uint64(6) {
			t.Run(fmt.Sprint(name, seed), func(t *testing.T) {
				t.Parallel()
				chaos(t, seed, tt.limit, tt.bound)
			})
		}
	}
}

const chaosAtOnce = 5
