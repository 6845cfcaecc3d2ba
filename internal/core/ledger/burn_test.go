package ledger_test

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tallystick/tallystick/internal/core/ledger"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
)

// day is so many days, and hours, into January 2026.
func day(n int, hours ...int) time.Time {
	t := time.Date(2026, 1, 1+n, 0, 0, 0, 0, time.UTC)
	for _, h := range hours {
		t = t.Add(time.Duration(h) * time.Hour)
	}
	return t
}

func units(n int64) money.Rational { return money.FromInt(n).Rational() }

func use(at time.Time, n int64) ledger.Use { return ledger.Use{At: at, Quantity: units(n)} }

func grant(id string, n int64, from time.Time) ledger.Grant {
	return ledger.Grant{ID: id, Amount: money.FromInt(n), EffectiveAt: from}
}

func with(g ledger.Grant, change func(*ledger.Grant)) ledger.Grant {
	change(&g)
	return g
}

func text(o ledger.Outcome) string {
	ids := make([]string, 0, len(o.Balances))
	for id := range o.Balances {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	s := ""
	for _, id := range ids {
		s += fmt.Sprintf("%s=%s ", id, o.Balances[id])
	}
	s += fmt.Sprintf("overage=%s usage=%s", o.Overage, o.Usage)
	for _, b := range o.Burned {
		s += fmt.Sprintf(" %s:%d:%s", b.GrantID, b.Use, b.Amount)
	}
	return s
}

func TestBurn(t *testing.T) {
	t.Parallel()
	daily := new(period.MustEvery("day"))
	tests := []struct {
		name   string
		grants []ledger.Grant
		uses   []ledger.Use
		resets []ledger.Reset
		until  time.Time
		want   string
	}{
		{"nothing", nil, nil, nil, time.Time{}, "overage=0 usage=0"},
		{"no grant", nil, []ledger.Use{use(day(1), 5)}, nil, time.Time{}, "overage=5 usage=5"},
		{"one", []ledger.Grant{grant("a", 10, day(0))}, []ledger.Use{use(day(1), 4)}, nil, time.Time{}, "a=6 overage=0 usage=4 a:0:4"},
		{
			"in order of priority, expiry, beginning, id",
			[]ledger.Grant{
				grant("never", 1, day(0)), grant("also", 1, day(0)), grant("older", 1, day(-1)),
				with(grant("expires", 1, day(0)), func(g *ledger.Grant) { g.ExpiresAt = day(9) }),
				with(grant("sooner", 1, day(0)), func(g *ledger.Grant) { g.ExpiresAt = day(8) }),
				with(grant("first", 1, day(0)), func(g *ledger.Grant) { g.Priority = -1 }),
			},
			[]ledger.Use{use(day(1), 6)},
			nil,
			time.Time{},
			"also=0 expires=0 first=0 never=0 older=0 sooner=0 overage=0 usage=6 first:0:1 sooner:0:1 expires:0:1 older:0:1 also:0:1 never:0:1",
		},
		{
			"a later grant takes over what was overage",
			[]ledger.Grant{grant("a", 10, day(2))},
			[]ledger.Use{use(day(1), 4), use(day(3), 1)},
			nil,
			time.Time{},
			"a=5 overage=0 usage=5 a:0:4 a:1:1",
		},
		{
			"and so does a refill",
			[]ledger.Grant{with(grant("a", 3, day(0)), func(g *ledger.Grant) { g.Every, g.Anchor = daily, day(0) })},
			[]ledger.Use{use(day(0, 1), 8)},
			nil, day(1, 1), "a=0 overage=2 usage=8 a:0:3 a:0:3",
		},
		{
			"refills do not add up",
			[]ledger.Grant{with(grant("a", 3, day(0)), func(g *ledger.Grant) { g.Every, g.Anchor = daily, day(0, 6) })},
			[]ledger.Use{use(day(0, 1), 2)},
			nil, day(9), "a=3 overage=0 usage=2 a:0:2",
		},
		{
			"expiry loses the balance, at its instant",
			[]ledger.Grant{with(grant("a", 10, day(0)), func(g *ledger.Grant) { g.ExpiresAt = day(2) })},
			[]ledger.Use{use(day(1), 4), use(day(2), 1)},
			nil,
			time.Time{},
			"a=0 overage=1 usage=5 a:0:4",
		},
		{
			"so does a void",
			[]ledger.Grant{with(grant("a", 10, day(0)), func(g *ledger.Grant) { g.ExpiresAt, g.VoidedAt = day(9), day(2) })},
			[]ledger.Use{use(day(1), 4), use(day(3), 1)},
			nil,
			time.Time{},
			"a=0 overage=1 usage=5 a:0:4",
		},
		{
			"voided before it began",
			[]ledger.Grant{with(grant("a", 10, day(2)), func(g *ledger.Grant) { g.VoidedAt = day(1) })},
			[]ledger.Use{use(day(3), 4)},
			nil,
			time.Time{},
			"a=0 overage=4 usage=4",
		},
		{
			"a reset keeps at most so much, at least so much, and nothing without a word; new grants are whole",
			[]ledger.Grant{
				grant("none", 10, day(0)), grant("new", 10, day(5)),
				with(grant("most", 10, day(0)), func(g *ledger.Grant) { g.MaxRollover = new(money.FromInt(4)) }),
				with(grant("least", 10, day(0)), func(g *ledger.Grant) {
					g.MinRollover, g.MaxRollover = new(money.FromInt(12)), new(money.FromInt(20))
				}),
			},
			nil,
			[]ledger.Reset{{At: day(5)}},
			time.Time{},
			"least=12 most=4 new=10 none=0 overage=0 usage=0",
		},
		{
			"a reset drops overage", nil,
			[]ledger.Use{use(day(1), 4), use(day(5), 1)},
			[]ledger.Reset{{At: day(5)}},
			time.Time{},
			"overage=1 usage=1",
		},
		{
			"or preserves it, for a grant that starts then",
			[]ledger.Grant{grant("a", 3, day(5))},
			[]ledger.Use{use(day(1), 4)},
			[]ledger.Reset{{At: day(5), PreserveOverage: true}},
			time.Time{},
			"a=0 overage=1 usage=0 a:0:3",
		},
		{
			"what rolls over takes preserved overage",
			[]ledger.Grant{with(grant("a", 3, day(0)), func(g *ledger.Grant) {
				g.MinRollover, g.MaxRollover = new(money.FromInt(2)), new(money.FromInt(2))
			})},
			[]ledger.Use{use(day(1), 4)},
			[]ledger.Reset{{At: day(5), PreserveOverage: true}},
			time.Time{},
			"a=1 overage=0 usage=0 a:0:3 a:0:1",
		},
		{
			"until is not inside, but what starts then has started",
			[]ledger.Grant{grant("a", 3, day(5))},
			[]ledger.Use{use(day(1), 1), use(day(5), 1)},
			[]ledger.Reset{{At: day(5)}},
			day(5),
			"a=2 overage=0 usage=1 a:0:1",
		},
		{
			"before the start there is nothing",
			[]ledger.Grant{grant("a", 3, day(-5))},
			[]ledger.Use{use(day(-1), 1)},
			[]ledger.Reset{{At: day(-1)}},
			time.Time{},
			"a=3 overage=0 usage=0",
		},
		{
			"only its meters",
			[]ledger.Grant{with(grant("a", 3, day(0)), func(g *ledger.Grant) { g.Meters = []string{"x"} })},
			[]ledger.Use{{At: day(1), Quantity: units(1), Meter: "y"}, {At: day(1), Quantity: units(1), Meter: "x"}},
			nil,
			time.Time{},
			"a=2 overage=1 usage=2 a:1:1",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := ledger.Burn(day(0), tt.grants, tt.uses, tt.resets, tt.until)
			if err != nil {
				t.Fatal(err)
			}
			if diff := gocmp.Diff(tt.want, text(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestBurnRefuses(t *testing.T) {
	t.Parallel()
	daily := new(period.MustEvery("day"))
	ancient := time.Date(1, 1, 1, 0, 0, 0, 1, time.UTC)
	for name, call := range map[string]func() (ledger.Outcome, error){
		"negative amount": func() (ledger.Outcome, error) {
			return ledger.Burn(day(0), []ledger.Grant{grant("a", -1, day(0))}, nil, nil, day(1))
		},
		"two of a name": func() (ledger.Outcome, error) {
			return ledger.Burn(day(0), []ledger.Grant{grant("a", 1, day(0)), grant("a", 1, day(0))}, nil, nil, day(1))
		},
		"ends first": func() (ledger.Outcome, error) {
			g := with(grant("a", 1, day(1)), func(g *ledger.Grant) { g.ExpiresAt = day(1) })
			return ledger.Burn(day(0), []ledger.Grant{g}, nil, nil, day(1))
		},
		"negative use": func() (ledger.Outcome, error) {
			return ledger.Burn(day(0), nil, []ledger.Use{use(day(0), -1)}, nil, day(1))
		},
		"two resets": func() (ledger.Outcome, error) {
			return ledger.Burn(day(0), nil, nil, []ledger.Reset{{At: day(1)}, {At: day(1)}}, day(2))
		},
		"until": func() (ledger.Outcome, error) { return ledger.Burn(day(1), nil, nil, nil, day(0)) },
		"for ever": func() (ledger.Outcome, error) {
			g := with(grant("a", 1, ancient), func(g *ledger.Grant) { g.Every, g.Anchor = daily, ancient })
			return ledger.Burn(ancient, []ledger.Grant{g}, []ledger.Use{use(ancient, 1_000_000)}, nil, day(0))
		},
	} {
		if out, err := call(); !errors.Is(err, ledger.ErrInvalid) {
			t.Errorf("%s: %v, %v", name, out, err)
		}
	}
}

// history is a random one, in whole hours so that much falls together.
type history struct {
	grants []ledger.Grant
	uses   []ledger.Use
	resets []ledger.Reset
}

func draw(t *rapid.T) (h history) {
	hour := rapid.Custom(func(t *rapid.T) time.Time { return day(0, rapid.IntRange(0, 96).Draw(t, "hour")) })
	small := rapid.Int64Range(0, 6)
	rollover := rapid.Custom(func(t *rapid.T) *money.Decimal {
		if rapid.Bool().Draw(t, "none") {
			return nil
		}
		return new(money.FromInt(small.Draw(t, "rollover")))
	})
	meters := rapid.SampledFrom([]string{"", "x", "y"})
	for i := range rapid.IntRange(0, 5).Draw(t, "grants") {
		g := grant(string(rune('a'+i)), small.Draw(t, "amount"), hour.Draw(t, "effective").Add(-24*time.Hour))
		g.Priority = rapid.IntRange(0, 1).Draw(t, "priority")
		if rapid.Bool().Draw(t, "expires") {
			g.ExpiresAt = g.EffectiveAt.Add(time.Duration(rapid.IntRange(1, 96).Draw(t, "life")) * time.Hour)
		}
		if rapid.IntRange(0, 4).Draw(t, "void") == 0 {
			g.VoidedAt = hour.Draw(t, "voided")
		}
		if rapid.Bool().Draw(t, "recurs") {
			g.Every, g.Anchor = new(period.MustEvery("day")), hour.Draw(t, "anchor")
		}
		if m := meters.Draw(t, "meter"); m != "" {
			g.Meters = []string{m}
		}
		g.MinRollover, g.MaxRollover = rollover.Draw(t, "least"), rollover.Draw(t, "most")
		h.grants = append(h.grants, g)
	}
	for range rapid.IntRange(0, 8).Draw(t, "uses") {
		u := use(hour.Draw(t, "at"), small.Draw(t, "quantity"))
		u.Meter = meters.Draw(t, "of")
		h.uses = append(h.uses, u)
	}
	used := map[time.Time]bool{}
	for range rapid.IntRange(0, 3).Draw(t, "resets") {
		if at := hour.Draw(t, "reset"); !used[at] {
			used[at] = true
			h.resets = append(h.resets, ledger.Reset{At: at, PreserveOverage: rapid.Bool().Draw(t, "preserve")})
		}
	}
	return h
}

// naive walks hour by hour and burns unit by unit.
func naive(h history, until time.Time) (balances map[string]int64, overage, usage int64, burned map[string]int64) {
	balances, burned = map[string]int64{}, map[string]int64{}
	order := slices.Clone(h.grants)
	never := day(10_000)
	expiry := func(g ledger.Grant) time.Time {
		if g.ExpiresAt.IsZero() {
			return never
		}
		return g.ExpiresAt
	}
	slices.SortFunc(order, func(a, b ledger.Grant) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), expiry(a).Compare(expiry(b)), a.EffectiveAt.Compare(b.EffectiveAt), cmp.Compare(a.ID, b.ID))
	})
	unit := func(d *money.Decimal) int64 {
		if d == nil {
			return 0
		}
		n, _ := d.Scaled(0)
		return n
	}
	active := func(g ledger.Grant, at time.Time) bool {
		return !at.Before(g.EffectiveAt) && at.Before(expiry(g)) && (g.VoidedAt.IsZero() || at.Before(g.VoidedAt))
	}
	var pending []int // units without a grant, by use
	burn := func(meter string, at time.Time) bool {
		for _, g := range order {
			if active(g, at) && balances[g.ID] > 0 && (len(g.Meters) == 0 || g.Meters[0] == meter) {
				balances[g.ID]--
				burned[g.ID]++
				return true
			}
		}
		return false
	}
	for at := day(-1); !at.After(until); at = at.Add(time.Hour) {
		counted := !at.Before(day(0)) && at.Before(until)
		for _, g := range order {
			if !active(g, at) {
				balances[g.ID] = 0
			}
		}
		for _, r := range h.resets {
			if !counted || !r.At.Equal(at) {
				continue
			}
			for _, g := range order {
				if active(g, at) {
					balances[g.ID] = min(unit(g.MaxRollover), max(balances[g.ID], unit(g.MinRollover)))
				}
			}
			usage = 0
			if !r.PreserveOverage {
				pending = nil
			}
		}
		for _, g := range order {
			n, _ := g.Amount.Scaled(0)
			refill := g.Every != nil && at.Sub(g.Anchor)%(24*time.Hour) == 0
			if active(g, at) && (at.Equal(g.EffectiveAt) || refill) {
				balances[g.ID] = n
			}
		}
		pending = slices.DeleteFunc(pending, func(i int) bool { return burn(h.uses[i].Meter, at) })
		for i, u := range h.uses {
			if !counted || !u.At.Equal(at) {
				continue
			}
			for range whole(u.Quantity) {
				usage++
				if !burn(u.Meter, at) {
					pending = append(pending, i)
				}
			}
		}
	}
	return balances, int64(len(pending)), usage, burned
}

func whole(r money.Rational) int64 {
	d, _, _ := r.Decimal()
	n, err := d.Scaled(0)
	if err != nil {
		panic(err)
	}
	return n
}

// TestBurnAgainstUnits also counts: what each grant paid is what is listed, and what was used since the last reset was paid or is
// overage.
func TestBurnAgainstUnits(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		h := draw(t)
		until := day(0, rapid.IntRange(0, 120).Draw(t, "until"))
		got, err := ledger.Burn(day(0), h.grants, h.uses, h.resets, until)
		if err != nil {
			t.Fatal(err)
		}
		balances, overage, usage, burned := naive(h, until)
		paid := map[string]int64{}
		for _, b := range got.Burned {
			paid[b.GrantID] += whole(b.Amount)
			if b.Amount.Sign() <= 0 || b.At.Before(h.uses[b.Use].At) {
				t.Fatalf("burned %+v", b)
			}
		}
		for _, g := range h.grants {
			if whole(got.Balances[g.ID]) != balances[g.ID] || paid[g.ID] != burned[g.ID] {
				t.Fatalf("grant %s: %s left and %d burned, want %d and %d", g.ID, got.Balances[g.ID], paid[g.ID], balances[g.ID], burned[g.ID])
			}
		}
		if whole(got.Overage) != overage || whole(got.Usage) != usage {
			t.Fatalf("overage %s, usage %s; want %d, %d", got.Overage, got.Usage, overage, usage)
		}
	})
}

// TestInstantsAreWhereBalancesChange: a single unused grant changes at no other hour.
func TestInstantsAreWhereBalancesChange(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		h := draw(t)
		in := period.Interval{Start: day(0, rapid.IntRange(-24, 48).Draw(t, "from")), End: day(0, rapid.IntRange(0, 120).Draw(t, "to"))}
		var want []time.Time
		for at := in.Start.Add(time.Hour); at.Before(in.End); at = at.Add(time.Hour) {
			if slices.ContainsFunc(h.grants, func(g ledger.Grant) bool { return changes(g, at) }) {
				want = append(want, at)
			}
		}
		if got := ledger.Instants(h.grants, in); !slices.EqualFunc(got, want, time.Time.Equal) {
			t.Fatalf("%v, want %v", got, want)
		}
	})
}

func changes(g ledger.Grant, at time.Time) bool {
	ended := func(t time.Time) bool { return !t.IsZero() && !at.Before(t) }
	over := func(t time.Time) bool { return !t.IsZero() && at.After(t) }
	was := at.After(g.EffectiveAt) && !over(g.ExpiresAt) && !over(g.VoidedAt)
	is := !at.Before(g.EffectiveAt) && !ended(g.ExpiresAt) && !ended(g.VoidedAt)
	refilled := is && g.Every != nil && at.Sub(g.Anchor)%(24*time.Hour) == 0
	return was != is || refilled
}
