package money_test

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"

	"github.com/tallystick/tallystick/internal/core/money"
)

func weights(w ...string) []money.Rational {
	list := make([]money.Rational, len(w))
	for i := range w {
		list[i] = money.MustDecimal(w[i]).Rational()
	}
	return list
}

func TestAllocate(t *testing.T) {
	t.Parallel()
	tests := []struct {
		minor    int64
		currency string
		weights  []money.Rational
		want     string
	}{
		{10000, "USD", weights("1", "1", "1"), "[33.34 33.33 33.33]"},
		{-10000, "USD", weights("1", "1", "1"), "[-33.34 -33.33 -33.33]"},
		{100, "JPY", weights("1", "2"), "[33 67]"},
		{2, "USD", weights("1", "1", "1"), "[0.01 0.01 0.00]"},
		{0, "USD", weights("1", "1"), "[0.00 0.00]"},
		{1, "USD", weights("0", "1", "0"), "[0.00 0.01 0.00]"},
		{1000, "KWD", weights("0.5", "0.25", "0.25"), "[0.500 0.250 0.250]"},
		{math.MaxInt64, "USD", weights("99999999999999999999999999999999999999", "1"), "[92233720368547758.07 0.00]"},
		{-math.MaxInt64, "USD", weights("1"), "[-92233720368547758.07]"},
	}
	for _, tt := range tests {
		got, err := money.NewAmount(tt.minor, money.MustCurrency(tt.currency)).Allocate(tt.weights)
		if err != nil || fmt.Sprint(got) != tt.want {
			t.Errorf("%d %s by %s: %s, %v; want %s", tt.minor, tt.currency, tt.weights, got, err, tt.want)
		}
	}
}

func TestAllocateRefuses(t *testing.T) {
	t.Parallel()
	usd := money.NewAmount(1, money.MustCurrency("USD"))
	for _, w := range [][]money.Rational{nil, weights("0"), weights("0", "0"), weights("2", "-1")} {
		if got, err := usd.Allocate(w); !errors.Is(err, money.ErrWeights) {
			t.Errorf("%s: %s, %v", w, got, err)
		}
	}
	if _, err := (money.Amount{}).Allocate(weights("1")); !errors.Is(err, money.ErrCurrency) {
		t.Errorf("no currency: %v", err)
	}
	for _, shares := range [][]money.Rational{weights("0.02"), weights("-0.5", "-0.5"), nil} {
		if got, err := usd.Apportion(shares); !errors.Is(err, money.ErrInexact) {
			t.Errorf("shares %s of a cent: %s, %v", shares, got, err)
		}
	}
}

// TestAllocateLosesNothing: the parts add up, each is less than a unit away from its exact share, and none with a smaller remainder
// got more than its share while a larger one did not.
func TestAllocateLosesNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a := money.NewAmount(rapid.Int64Range(-100_000, 100_000).Draw(t, "amount"), money.MustCurrency("USD"))
		whole := rapid.SliceOfN(rapid.Int64Range(0, 1000), 1, 9).Draw(t, "weights")
		total := int64(0)
		var list []money.Rational
		for _, w := range whole {
			total += w
			list = append(list, money.FromInt(w).Rational())
		}
		if total == 0 {
			return
		}
		parts, err := a.Allocate(list)
		if err != nil {
			t.Fatal(err)
		}
		sum := int64(0)
		above := make([]*big.Rat, len(parts)) // part - exact share, away from 0
		for i, part := range parts {
			sum += part.Minor()
			above[i] = new(big.Rat).Sub(big.NewRat(part.Minor(), 1), big.NewRat(a.Minor()*whole[i], total))
			if a.Minor() < 0 {
				above[i].Neg(above[i])
			}
			if new(big.Rat).Abs(above[i]).Cmp(big.NewRat(1, 1)) >= 0 {
				t.Fatalf("%s by %v: part %d is %s", a, whole, i, part)
			}
		}
		if sum != a.Minor() {
			t.Fatalf("%s by %v: %s add up to %d", a, whole, parts, sum)
		}
		for i := range parts {
			for j := range parts {
				// i was rounded up and j down: remainder 1 - above[i] is not smaller than -above[j], and of equal ones i stands first.
				if above[i].Sign() > 0 && above[j].Sign() <= 0 {
					c := new(big.Rat).Sub(big.NewRat(1, 1), above[i]).Cmp(new(big.Rat).Neg(above[j]))
					if c < 0 || c == 0 && i > j {
						t.Fatalf("%s by %v: %s; %d came before %d", a, whole, parts, i, j)
					}
				}
			}
		}
	})
}
