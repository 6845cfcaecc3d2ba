package storetest

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/store"
)

const (
	leadHold = time.Minute      // longer than a test
	leadWait = 30 * time.Second // for a lead to run out
)

// Leaders is the suite of store.Leaders. open returns two handles on the same fresh records; they may be one.
func Leaders(t *testing.T, open func(t *testing.T) (one, other store.Leaders)) {
	for name, test := range map[string]func(t *testing.T, one, other store.Leaders){
		"TakenOnce": takenOnce, "Kept": kept, "Yielded": yielded, "RunsOut": runsOut, "Race": leadRace, "Invalid": invalidLeads,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			one, other := open(t)
			test(t, one, other)
		})
	}
}

func take(t *testing.T, l store.Leaders, holder string, hold time.Duration) store.Lead {
	t.Helper()
	lead, err := l.TakeLead(t.Context(), holder, "http://"+holder, hold)
	if err != nil {
		t.Fatal(err)
	}
	return lead
}

func takenOnce(t *testing.T, one, other store.Leaders) {
	if l, err := other.Leader(t.Context()); err != nil || l != (store.Lead{}) {
		t.Fatalf("nobody led yet: %+v, %v", l, err)
	}
	first := take(t, one, "a", leadHold)
	if first.Holder != "a" || first.Address != "http://a" || first.Fence == 0 || first.Until.IsZero() {
		t.Fatalf("taken: %+v", first)
	}
	if again := take(t, one, "a", leadHold); again != first {
		t.Errorf("taken again by its holder: %+v, want %+v", again, first)
	}
	if l := take(t, other, "b", leadHold); l != first {
		t.Errorf("taken by another one: %+v, want %+v", l, first)
	}
	if l, err := other.Leader(t.Context()); err != nil || l != first {
		t.Errorf("leader %+v, %v, want %+v", l, err, first)
	}
}

func kept(t *testing.T, one, other store.Leaders) {
	first := take(t, one, "a", leadHold)
	longer, err := one.KeepLead(t.Context(), first.Fence, 2*leadHold)
	if err != nil || longer.Fence != first.Fence || longer.Holder != "a" || !longer.Until.After(first.Until) {
		t.Errorf("kept: %+v, %v; before %+v", longer, err, first)
	}
	for _, fence := range []uint64{0, first.Fence - 1, first.Fence + 1, 1 << 63} {
		if _, err := other.KeepLead(t.Context(), fence, leadHold); !errors.Is(err, store.ErrConflict) {
			t.Errorf("fence %d kept: %v", fence, err)
		}
	}
}

func yielded(t *testing.T, one, other store.Leaders) {
	first := take(t, one, "a", leadHold)
	for range 2 {
		if err := one.YieldLead(t.Context(), first.Fence); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := one.KeepLead(t.Context(), first.Fence, leadHold); !errors.Is(err, store.ErrConflict) {
		t.Errorf("kept after yielding: %v", err)
	}
	if l, err := other.Leader(t.Context()); err != nil || l.Holder != "" || l.Fence < first.Fence {
		t.Errorf("nobody leads: %+v, %v", l, err)
	}
	second := take(t, other, "b", leadHold)
	if second.Holder != "b" || second.Fence <= first.Fence {
		t.Errorf("taken after yielding: %+v, before %+v", second, first)
	}
	if err := one.YieldLead(t.Context(), first.Fence); err != nil {
		t.Errorf("yield what is lost: %v", err)
	}
	if l, err := one.Leader(t.Context()); err != nil || l != second {
		t.Errorf("leader %+v, %v, want %+v", l, err, second)
	}
}

func runsOut(t *testing.T, one, other store.Leaders) {
	first := take(t, one, "a", 20*time.Millisecond)
	end := time.NewTimer(leadWait) //nolint:forbidigo // it is the clock of the database that is waited for
	defer end.Stop()
	tick := time.NewTicker(5 * time.Millisecond) //nolint:forbidigo // as above
	defer tick.Stop()
	second := take(t, other, "b", leadHold)
	for second.Holder != "b" {
		if second != first {
			t.Fatalf("the lead changed to %+v", second)
		}
		select {
		case <-tick.C:
		case <-end.C:
			t.Fatal("a lead of 20 ms never ran out")
		}
		second = take(t, other, "b", leadHold)
	}
	if second.Fence <= first.Fence {
		t.Errorf("fence %d after %d", second.Fence, first.Fence)
	}
	if _, err := one.KeepLead(t.Context(), first.Fence, leadHold); !errors.Is(err, store.ErrConflict) {
		t.Errorf("kept after another one took it: %v", err)
	}
}

func leadRace(t *testing.T, one, other store.Leaders) {
	const each = 4
	leads := make([]store.Lead, 2*each)
	var wg sync.WaitGroup
	for i := range leads {
		wg.Go(func() {
			by := one
			if i%2 == 1 {
				by = other
			}
			var err error
			if leads[i], err = by.TakeLead(t.Context(), string(rune('a'+i)), "http://x", leadHold); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, l := range leads {
		if l != leads[0] || l.Holder == "" {
			t.Errorf("two leads: %+v and %+v", leads[0], l)
		}
	}
}

func invalidLeads(t *testing.T, one, _ store.Leaders) {
	for _, hold := range []time.Duration{0, -time.Second, 1000 * time.Hour} {
		if _, err := one.TakeLead(t.Context(), "a", "http://a", hold); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("taken for %s: %v", hold, err)
		}
		if _, err := one.KeepLead(t.Context(), 1, hold); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("kept for %s: %v", hold, err)
		}
	}
	if _, err := one.TakeLead(t.Context(), "", "http://a", leadHold); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("taken by nobody: %v", err)
	}
}
