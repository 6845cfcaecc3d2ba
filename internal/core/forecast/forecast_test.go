package forecast_test

import (
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"

	"github.com/tallystick/tallystick/internal/core/forecast"
)

func TestExhausts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name                           string
		consumed, quota, start, end, n int64
		want                           int64
		ok                             bool
	}{
		{"half used in a quarter", 50, 100, 1000, 1400, 1100, 1200, true},
		{"on its way to the end exactly", 25, 100, 1000, 1400, 1100, 0, false},
		{"slower", 10, 100, 1000, 1400, 1100, 0, false},
		{"too early to tell", 90, 100, 1000, 1400, 1049, 0, false},
		{"an eighth has passed", 90, 100, 1000, 1400, 1050, 1055, true},
		{"reached", 100, 100, 1000, 1400, 1100, 0, false},
		{"nothing used", 0, 100, 1000, 1400, 1100, 0, false},
		{"huge", 1, math.MaxInt64, 0, math.MaxInt64, math.MaxInt64 / 2, 0, false},
	} {
		at, ok := forecast.Exhausts(c.consumed, c.quota, c.start, c.end, c.n)
		if at != c.want || ok != c.ok {
			t.Errorf("%s: %d, %v", c.name, at, ok)
		}
	}
}

func TestExhaustsIsExact(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := func(name string) int64 { return rapid.Int64Range(0, math.MaxInt64).Draw(t, name) }
		consumed, quota, length := n("consumed"), n("quota"), n("length")
		elapsed := rapid.Int64Range(0, length).Draw(t, "elapsed")
		at, ok := forecast.Exhausts(consumed, quota, 0, length, elapsed)
		if !ok {
			return
		}
		want := new(big.Int).Mul(big.NewInt(elapsed), big.NewInt(quota))
		want.Quo(want, big.NewInt(consumed))
		if want.Cmp(big.NewInt(at)) != 0 || at >= length || at < elapsed {
			t.Fatalf("%d, want %s before %d", at, want, length)
		}
	})
}

func TestAbnormal(t *testing.T) {
	t.Parallel()
	if _, ok := forecast.Usual([]int64{5}); ok {
		t.Error("one week says something")
	}
	usual, ok := forecast.Usual([]int64{900, 10, 12, 11})
	if !ok || usual != 12 {
		t.Errorf("usual %d, %v", usual, ok)
	}
	for _, c := range []struct {
		used, usual, floor, factor int64
		want                       bool
	}{
		{61, 12, 10, 5, true},
		{60, 12, 10, 5, false},
		{9, 0, 10, 5, false},
		{11, 0, 10, 5, true},
		{61, 12, 10, 0, false},
		{math.MaxInt64, math.MaxInt64, 0, math.MaxInt64, false},
	} {
		if got := forecast.Abnormal(c.used, c.usual, c.floor, c.factor); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}
