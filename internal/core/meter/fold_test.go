package meter_test

import (
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
)

// drawReadings makes the life of some events: read, taken back and read again, with other values.
func drawReadings(t *rapid.T) (all, live []meter.Reading) {
	values := []string{"0", "1", "-2.5", "1000000000000000000000000000000.000000000000000001", "0.3"}
	for position := range uint64(rapid.IntRange(0, 12).Draw(t, "events")) {
		r := meter.Reading{Time: rapid.Int64Range(-20, 120).Draw(t, "time"), Position: position + 1}
		for i := range rapid.IntRange(1, 4).Draw(t, "changes") {
			if r.Taken = i%2 == 1; !r.Taken {
				r.Value = money.MustDecimal(rapid.SampledFrom(values).Draw(t, "value"))
				r.Distinct = rapid.SampledFrom([]string{"x", "y", "z"}).Draw(t, "text")
			}
			all = append(all, r)
		}
		if !r.Taken {
			live = append(live, r)
		}
	}
	return all, live
}

func sameReading(a, b meter.Reading) bool {
	return a.Time == b.Time && a.Position == b.Position && a.Value.Equal(b.Value) && a.Distinct == b.Distinct && a.Taken == b.Taken
}

func TestFold(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		all, live := drawReadings(t)
		if got := meter.Live(slices.Clone(all)); !slices.EqualFunc(got, live, sameReading) {
			t.Fatalf("live of %v: %v, want %v", all, got, live)
		}
		inOrder := slices.Clone(live)
		slices.SortStableFunc(inOrder, func(a, b meter.Reading) int { return int(a.Time - b.Time) })
		var sum, least, most, last money.Decimal
		texts := map[string]bool{}
		for i, r := range inOrder {
			sum, _ = sum.Add(r.Value)
			if i == 0 || r.Value.Cmp(least) < 0 {
				least = r.Value
			}
			if i == 0 || r.Value.Cmp(most) > 0 {
				most = r.Value
			}
			last = r.Value
			texts[r.Distinct] = true
		}
		for a, want := range map[meter.Aggregation]money.Decimal{
			meter.Count: money.FromInt(int64(len(live))), meter.Sum: sum, meter.Min: least, meter.Max: most, meter.Latest: last,
			meter.Unique: money.FromInt(int64(len(texts))),
		} {
			got, err := meter.Fold(a, slices.Clone(all), meter.Level{})
			if err != nil || !got.Value.Equal(want) || got.Events != int64(len(live)) || got.Inexact {
				t.Fatalf("aggregation %d of %v: %+v, %v; want %v", a, all, got, err, want)
			}
		}
	})
}

// TestTimeWeighted adds a level up microsecond by microsecond.
func TestTimeWeighted(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		all, live := drawReadings(t)
		inside := func(r meter.Reading) bool { return r.Time < 0 || r.Time >= 100 }
		all, live = slices.DeleteFunc(all, inside), slices.DeleteFunc(live, inside)
		level := meter.Level{From: 0, To: rapid.Int64Range(100, 140).Draw(t, "to"), Before: money.MustDecimal("7.25")}
		got, err := meter.Fold(meter.TimeWeighted, slices.Clone(all), level)
		if err != nil {
			t.Fatal(err)
		}
		slices.SortStableFunc(live, func(a, b meter.Reading) int { return int(a.Time - b.Time) })
		var area money.Decimal
		now := level.Before
		for at := range level.To {
			for len(live) > 0 && live[0].Time <= at {
				now, live = live[0].Value, live[1:]
			}
			area, _ = area.Add(now)
		}
		want, _ := new(big.Rat).SetString(area.String())
		want.Quo(want, big.NewRat(level.To, 1))
		value, _ := new(big.Rat).SetString(got.Value.String())
		off := new(big.Rat).Abs(new(big.Rat).Sub(value, want))
		if !got.Inexact && off.Sign() != 0 {
			t.Fatalf("%v said to be exact, want %s", got.Value, want.FloatString(50))
		}
		// Half a unit of the 34th digit, or of the 38th after the point.
		bound := new(big.Rat).Quo(new(big.Rat).Abs(want), new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(33), nil)))
		if least := new(big.Rat).SetFrac(big.NewInt(1), new(big.Int).Exp(big.NewInt(10), big.NewInt(38), nil)); bound.Cmp(least) < 0 {
			bound = least
		}
		if got.Inexact && (off.Sign() == 0 || off.Cmp(bound.Quo(bound, big.NewRat(2, 1))) > 0) {
			t.Fatalf("%v is off by %s from %s", got.Value, off.FloatString(50), want.FloatString(50))
		}
	})
}

func TestTimeWeightedDigits(t *testing.T) {
	t.Parallel()
	nines := "99999999999999999999999999999999999999"
	for _, tt := range []struct {
		before, want string
		to           int64
		half         string // level from the half of the interval on
		inexact      bool
	}{
		{before: "1", to: 3, want: "1"},
		{before: "0", to: 2, half: "1", want: "0.5"},
		{before: "0", to: 3, half: "2", want: "1.333333333333333333333333333333333", inexact: true},
		{before: "0", to: 3, half: "-2", want: "-1.333333333333333333333333333333333", inexact: true},
		{before: "0", to: 3, half: "1", want: "0.6666666666666666666666666666666667", inexact: true},
		{before: nines, to: 7, want: nines},
		{before: "0", to: 3, half: nines, want: "66666666666666666666666666666666666666"},
		{before: "0", to: 3, half: "1" + strings.Repeat("0", 37), want: strings.Repeat("6", 33) + "7000", inexact: true},
		{before: "0", to: 7, half: "0.00000000000000000000000000000000000001", want: "0.00000000000000000000000000000000000001", inexact: true},
	} {
		var readings []meter.Reading
		if tt.half != "" {
			readings = []meter.Reading{{Time: tt.to / 2, Position: 1, Value: money.MustDecimal(tt.half)}}
		}
		got, err := meter.Fold(meter.TimeWeighted, readings, meter.Level{To: tt.to, Before: money.MustDecimal(tt.before)})
		if err != nil || got.Value.String() != tt.want || got.Inexact != tt.inexact {
			t.Errorf("%s, then %s over %d: %v, %v, %v; want %s", tt.before, tt.half, tt.to, got.Value, got.Inexact, err, tt.want)
		}
	}
}

func TestFoldRefuses(t *testing.T) {
	t.Parallel()
	most := money.MustDecimal("99999999999999999999999999999999999999")
	two := []meter.Reading{{Position: 1, Value: most}, {Position: 2, Value: most}}
	if _, err := meter.Fold(meter.Sum, two, meter.Level{}); !errors.Is(err, money.ErrOverflow) {
		t.Errorf("a sum beyond 38 digits: %v", err)
	}
	for _, l := range []meter.Level{{}, {From: 5, To: 4}} {
		if _, err := meter.Fold(meter.TimeWeighted, nil, l); !errors.Is(err, meter.ErrEvent) {
			t.Errorf("a level over %+v: %v", l, err)
		}
	}
	for _, a := range []meter.Aggregation{0, meter.TimeWeighted + 1} {
		if _, err := meter.Fold(a, nil, meter.Level{To: 1}); !errors.Is(err, meter.ErrEvent) {
			t.Errorf("aggregation %d: %v", a, err)
		}
	}
}

func TestUnfold(t *testing.T) {
	t.Parallel()
	r, _ := meter.Rollup{}.Fold(meter.Reported, money.FromInt(3))
	both, _ := r.Fold(meter.Admitted, money.FromInt(5))
	for origin, left := range map[meter.Origin]string{meter.Reported: "0", meter.Admitted: "3"} {
		got, err := both.Unfold(origin, money.FromInt(5))
		if origin == meter.Reported {
			got, err = both.Unfold(origin, money.FromInt(3))
		}
		if err != nil || got.Count != 1 || got.Reported.String() != left {
			t.Errorf("origin %d: %+v, %v", origin, got, err)
		}
	}
	if _, err := (meter.Rollup{Sum: money.MustDecimal("-99999999999999999999999999999999999999")}).Unfold(meter.Admitted, money.FromInt(1)); !errors.Is(err, money.ErrOverflow) {
		t.Errorf("below 38 digits: %v", err)
	}
}
