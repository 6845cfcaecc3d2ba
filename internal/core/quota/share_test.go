package quota_test

import (
	"cmp"
	"math/big"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/tallystick/tallystick/internal/core/quota"
)

// taken is one admission at one of the holders.
type taken struct {
	id, holder          int
	at, effective, cost int64
}

// TestSharesNeverAdmitMore moves parts of a bucket between an authority and three holders at random, and holds the definition of the
// bucket against what all of them admitted together.
func TestSharesNeverAdmitMore(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		l := quota.Limit{
			Kind: quota.TokenBucket, Rate: rapid.Int64Range(1, 4).Draw(t, "rate"), Per: rapid.Int64Range(1, 7).Draw(t, "per"),
			Burst: rapid.Int64Range(1, 12).Draw(t, "burst"),
		}
		const holders = 4 // the first is the authority
		states := make([]quota.State, holders)
		states[0] = l.Whole(quota.State{})
		whole := states[0]
		for i := 1; i < holders; i++ {
			states[i] = states[0].Split(0, 0, 0, 0)
		}
		now, id := int64(0), 0
		var admitted []taken
		var underway []quota.State // parts that one has given away and no other has yet
		holder := func(t *rapid.T, name string) int { return rapid.IntRange(0, holders-1).Draw(t, name) }
		t.Repeat(map[string]func(*rapid.T){
			"decide": func(t *rapid.T) {
				h, cost := holder(t, "holder"), rapid.Int64Range(1, 5).Draw(t, "cost")
				at := now - rapid.SampledFrom([]int64{0, 0, 0, 2}).Draw(t, "late")
				var d quota.Decision
				quota.Decide(&d, []quota.Limit{l}, []*quota.State{&states[h]}, cost, at)
				if d.Verdict == quota.Allow {
					id++
					admitted = append(admitted, taken{id, h, at, states[h].Last, cost})
				}
			},
			"advance": func(*rapid.T) { now += rapid.Int64Range(1, 9).Draw(t, "by") },
			"give": func(t *rapid.T) {
				from := holder(t, "from")
				rate := rapid.Int64Range(0, states[from].Rate).Draw(t, "part of the rate")
				burst := rapid.Int64Range(0, states[from].Burst).Draw(t, "part of the burst")
				underway = append(underway, states[from].Split(rate, burst, rapid.Int64Range(0, 12).Draw(t, "free"), now))
			},
			"take": func(t *rapid.T) {
				if len(underway) == 0 {
					t.Skip("nothing is underway")
				}
				i := rapid.IntRange(0, len(underway)-1).Draw(t, "which")
				states[holder(t, "to")].Merge(underway[i], now)
				underway = slices.Delete(underway, i, i+1)
			},
			"return": func(t *rapid.T) {
				if len(admitted) == 0 {
					t.Skip("nothing")
				}
				i := rapid.IntRange(0, len(admitted)-1).Draw(t, "which")
				a := admitted[i]
				admitted = slices.Delete(admitted, i, i+1)
				quota.Return([]quota.Limit{l}, []*quota.State{&states[a.holder]}, a.cost, a.at)
			},
			"": func(t *rapid.T) {
				var rate, burst int64
				for _, s := range slices.Concat(states, underway) {
					if s.Debt < 0 || s.Debt > s.Burst*s.Per {
						t.Fatalf("share %+v", s)
					}
					rate, burst = rate+s.Rate, burst+s.Burst
				}
				if rate != whole.Rate || burst != l.Burst {
					t.Fatalf("%d and %d shared of %+v", rate, burst, whole)
				}
				list := slices.Clone(admitted)
				slices.SortStableFunc(list, func(a, b taken) int { return cmp.Compare(a.effective, b.effective) })
				as := make([]admission, len(list))
				for i, a := range list {
					as[i] = admission{a.at, a.effective, a.cost}
				}
				withinBucket(t, l, as)
			},
		})
	})
}

// TestSharesLoseNothing: what is split and merged at one instant is the bucket that it was.
func TestSharesLoseNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		l := quota.Limit{Kind: quota.TokenBucket, Rate: rapid.Int64Range(1, 1e9).Draw(t, "rate"), Per: rapid.Int64Range(1, 1e6).Draw(t, "per"), Burst: rapid.Int64Range(1, 1e9).Draw(t, "burst")}
		s := quota.State{Debt: rapid.Int64Range(0, l.Burst*l.Per).Draw(t, "debt"), Last: 5}
		now := rapid.Int64Range(0, 1e9).Draw(t, "now")
		before, _ := quota.Remaining(&l, &s, now)
		whole := l.Whole(s)
		if got, _ := quota.Remaining(&l, &whole, now); got != before {
			t.Fatalf("%d remain as a share, %d before", got, before)
		}
		if new(big.Rat).SetFrac64(whole.Rate, whole.Per).Cmp(new(big.Rat).SetFrac64(l.Rate, l.Per)) != 0 || whole.Burst*whole.Per > 1<<62 {
			t.Fatalf("another speed: %+v", whole)
		}
		was := whole
		free := rapid.Int64Range(0, l.Burst).Draw(t, "free")
		part := whole.Split(rapid.Int64Range(0, whole.Rate).Draw(t, "r"), rapid.Int64Range(0, l.Burst).Draw(t, "b"), free, now)
		if got, _ := quota.Remaining(&l, &part, now); got < min(free, part.Burst, before) {
			t.Fatalf("the part has %d free, %d wanted of %d, its size is %d", got, free, before, part.Burst)
		}
		whole.Merge(part, now)
		was.Split(0, 0, 0, now) // writes the debt down as of now
		if whole != was {
			t.Fatalf("%+v became %+v", was, whole)
		}
	})
}

func TestSplit(t *testing.T) {
	t.Parallel()
	l := bucket(10, 100) // 10 a second
	s := l.Whole(quota.State{Debt: 40 * second, Last: 0})
	part := s.Split(s.Rate/2, 50, 20, second) // 30 units are owed by then
	if left, _ := quota.Remaining(&l, &part, second); left != 20 || part.Burst != 50 {
		t.Errorf("the part has %d of %d", left, part.Burst)
	}
	if left, _ := quota.Remaining(&l, &s, second); left != 50 || s.Burst != 50 {
		t.Errorf("what stays has %d of %d", left, s.Burst)
	}
	// 30 units are owed by the part, at 5 a second.
	if left, full := quota.Remaining(&l, &part, 2*second); left != 25 || full != 7*second {
		t.Errorf("%d after a second, full at %d", left, full)
	}
	part.Merge(quota.State{Rate: 1, Per: part.Per * 2, Burst: 3, Debt: 5, Last: part.Last}, second)
	if part.Burst != 53 || part.Rate != s.Rate {
		t.Errorf("merged %+v", part)
	}
	if again := l.Whole(s); again.Burst != 100 || again.Rate != 2*s.Rate {
		t.Errorf("whole again %+v", again)
	}
}
