package quota_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/tallystick/tallystick/internal/core/quota"
)

// TestRecalled: who used its share just now keeps half of it, one who used it lately an eighth; what it gives up and what it keeps are
// the share.
func TestRecalled(t *testing.T) {
	t.Parallel()
	const now, second = 1_700_000_000_000_000, 1_000_000
	for name, tt := range map[string]struct{ usedAt, rate, burst int64 }{
		"never used":              {0, 1000, 17},
		"now":                     {now, 500, 9},
		"after the clock went on": {now + second, 500, 9},
		"within a second":         {now - second + 1, 500, 9},
		"a second ago":            {now - second, 875, 15},
		"within a minute":         {now - 60*second + 1, 875, 15},
		"a minute ago":            {now - 60*second, 1000, 17},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := quota.State{Rate: 1000, Per: 1, Burst: 17}
			rate, burst := s.Recalled(tt.usedAt, now)
			if rate != tt.rate || burst != tt.burst {
				t.Errorf("gives up %d, %d, want %d, %d", rate, burst, tt.rate, tt.burst)
			}
			part := s.Split(rate, burst, burst, now)
			if part.Rate+s.Rate != 1000 || part.Burst+s.Burst != 17 {
				t.Errorf("%+v and %+v are not the share", part, s)
			}
		})
	}
}

// TestWithout: what others hold idle in any slot of a rolling window, taken off the state, gives the state as if they had not drawn it.
func TestWithout(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		l := quota.Limit{Kind: quota.Rolling, Slot: rapid.Int64Range(1, 4).Draw(t, "slot"), Quota: 1000}
		l.Length = l.Slot * rapid.Int64Range(1, 8).Draw(t, "slots")
		at := rapid.Int64Range(-50, 50).Draw(t, "at")
		start, end, _ := l.WindowAt(at)
		idle := map[int64]int64{}
		var uses, drawn []quota.SlotUse
		var consumed int64 // of the slot itself
		for slot := start - 12*l.Slot; slot <= start+12*l.Slot; slot += l.Slot {
			used := rapid.Int64Range(0, 9).Draw(t, "used")
			idle[slot] = rapid.Int64Range(0, 9).Draw(t, "idle")
			uses = append(uses, quota.SlotUse{Start: slot, Used: used})
			drawn = append(drawn, quota.SlotUse{Start: slot, Used: used + idle[slot]})
			if slot == start {
				consumed = used
			}
		}
		s := quota.State{WindowStart: start, WindowEnd: end, Consumed: consumed + idle[start], Ceiling: l.RollingCeiling(drawn, at)}
		got := l.Without(s, func(start int64) int64 { return idle[start] })
		want := s
		want.Consumed, want.Ceiling = consumed, l.RollingCeiling(uses, at)
		if got != want {
			t.Fatalf("got %+v, want %+v", got, want)
		}
	})
}

// TestWithoutOfOtherKinds: a window is its own, requests at once have none, and of a bucket nothing is held idle.
func TestWithoutOfOtherKinds(t *testing.T) {
	t.Parallel()
	s := quota.State{Consumed: 5, Ceiling: 9, WindowStart: 40, WindowEnd: 60, Debt: 3}
	for kind, want := range map[quota.Kind]int64{
		quota.TokenBucket: 5, quota.Concurrency: 1, quota.Quota: 1, quota.Fixed: 1, quota.SpendCap: 1, quota.Credits: 1,
	} {
		l := quota.Limit{Kind: kind, Length: 20, Slot: 20}
		got := l.Without(s, func(start int64) int64 { return start / 10 })
		if got.Consumed != want || got.Ceiling != 9 || got.Debt != 3 {
			t.Errorf("kind %v: %+v, want %d consumed", kind, got, want)
		}
	}
	l := quota.Limit{Kind: quota.Quota}
	if got := l.Without(s, func(int64) int64 { return 6 }); got.Consumed != 0 {
		t.Errorf("more idle than was counted: %+v", got)
	}
}
