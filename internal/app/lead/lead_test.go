package lead_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/lead"
	"github.com/tallystick/tallystick/internal/store"
)

// world is one clock and the records. A call takes a while, of which the records' answer is somewhere in the middle.
type world struct {
	now    time.Duration
	before time.Duration // from the call to the records
	after  time.Duration // and back
	away   bool
	lead   store.Lead
	until  time.Duration
}

var errAway = errors.New("the records are away")

func (w *world) call(do func() error) error {
	w.now += w.before
	defer func() { w.now += w.after }()
	if w.away {
		return errAway
	}
	return do()
}

func (w *world) TakeLead(_ context.Context, holder, address string, hold time.Duration) (l store.Lead, err error) {
	err = w.call(func() error {
		if w.lead.Holder == "" || w.now >= w.until {
			w.lead = store.Lead{Fence: w.lead.Fence + 1, Holder: holder, Address: address}
			w.until = w.now + hold
		}
		l = w.lead
		return nil
	})
	return l, err
}

func (w *world) KeepLead(_ context.Context, fence uint64, hold time.Duration) (l store.Lead, err error) {
	err = w.call(func() error {
		if w.lead.Fence != fence {
			return store.ErrConflict
		}
		w.until = w.now + hold
		l = w.lead
		return nil
	})
	return l, err
}

func (w *world) YieldLead(_ context.Context, fence uint64) error {
	return w.call(func() error {
		if w.lead.Fence == fence {
			w.lead = store.Lead{Fence: fence + 1}
		}
		return nil
	})
}

func (w *world) Leader(context.Context) (l store.Lead, err error) {
	err = w.call(func() error { l = w.lead; return nil })
	return l, err
}

func (w *world) server(t *testing.T, name string) *lead.Service {
	t.Helper()
	s, err := lead.New(lead.Config{Leaders: w, Holder: name, Address: "http://" + name, Mono: func() time.Duration { return w.now }})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func tick(t *testing.T, s *lead.Service) lead.State {
	t.Helper()
	if err := s.Tick(t.Context()); err != nil {
		t.Fatal(err)
	}
	st, _ := s.State()
	return st
}

func TestTakeOver(t *testing.T) {
	t.Parallel()
	w := &world{}
	a, b := w.server(t, "a"), w.server(t, "b")
	if st := tick(t, a); !st.Leading || !a.Valid() || st.Lead.Fence != 1 {
		t.Fatalf("the first one does not lead: %+v", st)
	}
	if st := tick(t, b); st.Leading || b.Valid() || st.Lead.Address != "http://a" {
		t.Fatalf("the second one does not follow: %+v", st)
	}
	w.now += lead.HoldDefault - lead.MarginDefault
	if a.Valid() {
		t.Fatal("a lead that was not renewed is used up to its last moment")
	}
	if st := tick(t, b); st.Leading {
		t.Fatal("a lead was taken whose time runs")
	}
	if st := tick(t, a); !st.Leading || !a.Valid() { // late, but nobody took it
		t.Fatalf("a lead that nobody took is not kept: %+v", st)
	}
	w.now += lead.HoldDefault
	_, changed := b.State()
	if st := tick(t, b); !st.Leading || !b.Valid() || st.Lead.Fence != 2 {
		t.Fatalf("a free lead is not taken: %+v", st)
	}
	select {
	case <-changed:
	default:
		t.Fatal("the change is not told")
	}
	for range 2 {
		if err := a.Tick(t.Context()); !errors.Is(err, lead.ErrLost) || a.Valid() {
			t.Fatalf("who lost the lead goes on: %v", err)
		}
	}
}

func TestYield(t *testing.T) {
	t.Parallel()
	w := &world{}
	a, b := w.server(t, "a"), w.server(t, "b")
	tick(t, a)
	tick(t, b)
	if err := a.Yield(t.Context()); err != nil || a.Valid() {
		t.Fatal("not yielded", err)
	}
	if st := tick(t, a); st.Leading {
		t.Fatal("who yielded leads again")
	}
	if st := tick(t, b); !st.Leading || !b.Valid() {
		t.Fatal("what was yielded is not taken at once")
	}
	if st := tick(t, a); st.Leading || st.Lead.Address != "http://b" {
		t.Fatalf("who yielded does not learn who leads now: %+v", st)
	}
	if err := b.Yield(t.Context()); err != nil {
		t.Fatal(err)
	}
	if st := tick(t, a); st.Leading || a.Valid() {
		t.Fatal("who yielded takes the lead again")
	}
}

// TestNeverTwo: servers that ask at any time, over slow and broken lines, never act as the leader both at once.
func TestNeverTwo(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 7)) //nolint:gosec // a test
		w := &world{}
		servers := []*lead.Service{w.server(t, "a"), w.server(t, "b"), w.server(t, "c")}
		led := 0
		for step := range 400 {
			w.now += time.Duration(r.Int64N(int64(1500 * time.Millisecond)))
			w.before, w.after = time.Duration(r.Int64N(int64(3*time.Second))), time.Duration(r.Int64N(int64(3*time.Second)))
			w.away = r.IntN(5) == 0
			i := r.IntN(len(servers))
			switch err := servers[i].Tick(t.Context()); {
			case errors.Is(err, lead.ErrLost):
				servers[i] = w.server(t, string(rune('a'+i))+"-again-"+time.Duration(step).String())
			case err != nil && !errors.Is(err, errAway):
				t.Fatal(err)
			}
			valid := 0
			for _, s := range servers {
				if s.Valid() {
					valid++
				}
			}
			led += valid
			if valid > 1 {
				t.Fatalf("seed %d, step %d: %d servers lead", seed, step, valid)
			}
		}
		if led == 0 {
			t.Fatalf("seed %d: nobody ever led", seed)
		}
	}
}
