package money_test

import (
	"errors"
	"math"
	"math/big"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tallystick/tallystick/internal/core/money"
)

// The model of a Decimal is a big.Rat; its text is what ParseDecimal reads.
func rat(s string) *big.Rat {
	r, ok := new(big.Rat).SetString(s)
	if !ok {
		panic("not a rational: " + s)
	}
	return r
}

// inRange says whether r is a Decimal at all: at most 38 digits on both sides of the point.
func inRange(r *big.Rat) bool {
	limit := new(big.Int).Exp(big.NewInt(10), big.NewInt(38), nil)
	scaled := new(big.Rat).Mul(r, new(big.Rat).SetInt(limit))
	return scaled.IsInt() && new(big.Rat).Abs(r).Cmp(new(big.Rat).SetInt(limit)) < 0
}

// decimals draws small numbers, numbers around the edges of int64, and long ones.
func decimals() *rapid.Generator[money.Decimal] {
	scaled := rapid.Custom(func(t *rapid.T) money.Decimal {
		units := rapid.OneOf(
			rapid.Int64Range(-1000, 1000),
			rapid.Int64(),
			rapid.SampledFrom([]int64{math.MinInt64, math.MinInt64 + 1, math.MaxInt64, math.MaxInt64 - 1, 1e18, -1e18, 5, 50, 0}),
		).Draw(t, "units")
		return money.FromScaled(units, rapid.OneOf(rapid.IntRange(0, 4), rapid.IntRange(0, 38)).Draw(t, "scale"))
	})
	long := rapid.Custom(func(t *rapid.T) money.Decimal {
		s := rapid.StringMatching(`-?(0|[1-9][0-9]{0,37})(\.[0-9]{1,38})?`).Draw(t, "text")
		return money.MustDecimal(s)
	})
	edge := rapid.SampledFrom([]money.Decimal{
		money.MustDecimal("9223372036854775808"),
		money.MustDecimal("-9223372036854775809"),
		money.MustDecimal(strings.Repeat("9", 38)),
		money.MustDecimal("-" + strings.Repeat("9", 38) + "." + strings.Repeat("9", 38)),
		money.MustDecimal("0." + strings.Repeat("0", 37) + "1"),
	})
	return rapid.OneOf(scaled, long, edge)
}

func TestArithmeticAgainstRationals(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d, e := decimals().Draw(t, "d"), decimals().Draw(t, "e")
		x, y := rat(d.String()), rat(e.String())
		binary := []struct {
			name string
			got  func(money.Decimal) (money.Decimal, error)
			want *big.Rat
		}{
			{"add", d.Add, new(big.Rat).Add(x, y)},
			{"sub", d.Sub, new(big.Rat).Sub(x, y)},
			{"mul", d.Mul, new(big.Rat).Mul(x, y)},
		}
		for _, op := range binary {
			got, err := op.got(e)
			if !inRange(op.want) {
				if !errors.Is(err, money.ErrOverflow) {
					t.Fatalf("%s: %s, %v; want ErrOverflow", op.name, got, err)
				}
				continue
			}
			if err != nil || rat(got.String()).Cmp(op.want) != 0 {
				t.Fatalf("%s: %s, %v; want %s", op.name, got, err, op.want.FloatString(40))
			}
			checkForm(t, got)
		}
		if d.Cmp(e) != x.Cmp(y) || d.Equal(e) != (x.Cmp(y) == 0) {
			t.Fatalf("cmp %d, want %d", d.Cmp(e), x.Cmp(y))
		}
	})
}

func TestUnaryAgainstRationals(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := decimals().Draw(t, "d")
		x := rat(d.String())
		checkForm(t, d)
		if rat(d.Neg().String()).Cmp(new(big.Rat).Neg(x)) != 0 || rat(d.Abs().String()).Cmp(new(big.Rat).Abs(x)) != 0 {
			t.Fatalf("neg %s, abs %s", d.Neg(), d.Abs())
		}
		checkForm(t, d.Neg())
		if d.Sign() != x.Sign() || d.IsZero() != (x.Sign() == 0) {
			t.Fatalf("sign %d, zero %v", d.Sign(), d.IsZero())
		}
		floor := new(big.Int).Div(x.Num(), x.Denom()) // Euclidean: the floor, as the divisor is positive
		if got := d.Floor().String(); got != floor.String() {
			t.Fatalf("floor %s, want %s", got, floor)
		}
		scale := rapid.IntRange(0, 38).Draw(t, "scale")
		want := new(big.Rat).Mul(x, new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(scale)), nil)))
		got, err := d.Scaled(scale)
		switch {
		case !want.IsInt():
			if !errors.Is(err, money.ErrInexact) {
				t.Fatalf("scaled %d, %v; want ErrInexact", got, err)
			}
		case !want.Num().IsInt64():
			if !errors.Is(err, money.ErrOverflow) {
				t.Fatalf("scaled %d, %v; want ErrOverflow", got, err)
			}
		case err != nil || got != want.Num().Int64():
			t.Fatalf("scaled %d, %v; want %s", got, err, want)
		case !money.FromScaled(got, scale).Equal(d):
			t.Fatalf("FromScaled(%d, %d) is not %s", got, scale, d)
		}
	})
}

// checkForm holds that equal numbers have one text, and that the text is plain.
func checkForm(t *rapid.T, d money.Decimal) {
	t.Helper()
	s := d.String()
	if strings.ContainsAny(s, "eE+ ") || s == "-0" || strings.Contains(s, ".") && strings.HasSuffix(s, "0") {
		t.Fatalf("not in plain form: %q", s)
	}
	_, fraction, _ := strings.Cut(s, ".")
	if d.Scale() != len(fraction) {
		t.Fatalf("scale %d of %s", d.Scale(), s)
	}
	if again, err := money.ParseDecimal(s); err != nil || !again.Equal(d) {
		t.Fatalf("%s does not parse back: %s, %v", s, again, err)
	}
}

func TestRoundAgainstRationals(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := decimals().Draw(t, "d")
		c := money.MustCurrency(rapid.SampledFrom([]string{"USD", "JPY", "KWD", "CLF"}).Draw(t, "currency"))
		mode := rapid.SampledFrom([]money.Rounding{money.HalfUp, money.HalfEven}).Draw(t, "mode")

		pow := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(c.Digits())), nil)
		x := new(big.Rat).Mul(rat(d.Abs().String()), new(big.Rat).SetInt(pow))
		want, rest := new(big.Int).QuoRem(x.Num(), x.Denom(), new(big.Int))
		tie := rest.Lsh(rest, 1).Cmp(x.Denom())
		if tie > 0 || tie == 0 && (mode == money.HalfUp || want.Bit(0) == 1) {
			want.Add(want, big.NewInt(1))
		}
		if d.Sign() < 0 {
			want.Neg(want)
		}

		got, err := money.Round(d, c, mode)
		if !want.IsInt64() {
			if !errors.Is(err, money.ErrOverflow) {
				t.Fatalf("round %s, %v; want ErrOverflow", got, err)
			}
			return
		}
		if err != nil || got.Minor() != want.Int64() || got.Currency() != c {
			t.Fatalf("round %s, %v; want %s minor units", got, err, want)
		}
	})
}

func TestRoundToAgainstRationals(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := decimals().Draw(t, "d")
		places := rapid.IntRange(0, 38).Draw(t, "places")
		got, err := d.RoundTo(places)
		want := rat(rat(d.String()).FloatString(places)) // half away from zero
		switch {
		case !inRange(want):
			if !errors.Is(err, money.ErrOverflow) {
				t.Fatalf("%s to %d places: %v, want ErrOverflow", d, places, err)
			}
		case err != nil || rat(got.String()).Cmp(want) != 0:
			t.Fatalf("%s to %d places is %s, %v; want %s", d, places, got, err, want.FloatString(places))
		default:
			checkForm(t, got)
		}
	})
}
