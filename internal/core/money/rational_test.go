package money_test

import (
	"errors"
	"math/big"
	"testing"

	"pgregory.net/rapid"

	"github.com/tallystick/tallystick/internal/core/money"
)

func ratio(t *testing.T, num, den string) money.Rational {
	t.Helper()
	r, err := money.NewRational(money.MustDecimal(num), money.MustDecimal(den))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRationalText(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		num, den, exact, printed string
		inexact                  bool
	}{
		{"1", "4", "0.25", "0.25", false},
		{"1", "3", "1/3", "0.3333333333333333333333333333333333", true},
		{"-2", "3", "-2/3", "-0.6666666666666666666666666666666667", true},
		{"200", "3", "200/3", "66.66666666666666666666666666666667", true},
		{"1", "3000", "1/3000", "0.0003333333333333333333333333333333333", true},
		{"0", "7", "0", "0", false},
		{"12345678901234567890123456789012345678", "1", "12345678901234567890123456789012345678", "12345678901234567890123456789012345678", false},
	} {
		r := ratio(t, tt.num, tt.den)
		d, inexact, err := r.Decimal()
		if err != nil || r.String() != tt.exact || d.String() != tt.printed || inexact != tt.inexact {
			t.Errorf("%s/%s is %s, printed %s (inexact %v), %v", tt.num, tt.den, r, d, inexact, err)
		}
		if back, err := money.ParseRational(r.String()); err != nil || back.Cmp(r) != 0 {
			t.Errorf("%s read as %s, %v", r, back, err)
		}
	}
	for _, s := range []string{"1/0", "1/-3", "a/3", "1/3/4", "", "/", "1/", " 1/3", "1.5/3"} {
		if r, err := money.ParseRational(s); err == nil {
			t.Errorf("%q was read as %s", s, r)
		}
	}
}

func TestRationalRound(t *testing.T) {
	t.Parallel()
	usd, jpy := money.MustCurrency("USD"), money.MustCurrency("JPY")
	third := ratio(t, "1", "3")
	if a, err := third.Round(usd, money.HalfUp); err != nil || a.Minor() != 33 {
		t.Errorf("1/3 is %s, %v", a, err)
	}
	if a, err := ratio(t, "-2", "3").Round(jpy, money.HalfEven); err != nil || a.Minor() != -1 {
		t.Errorf("-2/3 is %s, %v", a, err)
	}
	if _, err := third.Quo(money.Rational{}); !errors.Is(err, money.ErrDivision) {
		t.Errorf("a division by zero: %v", err)
	}
	low, err1 := ratio(t, "-7", "3").Floor()
	high, err2 := ratio(t, "-7", "3").Ceil()
	if err1 != nil || err2 != nil || low.String() != "-3" || high.String() != "-2" {
		t.Errorf("floor %s, ceil %s, %v, %v", low, high, err1, err2)
	}
}

// TestRationalIsBigRat computes with both.
func TestRationalIsBigRat(t *testing.T) {
	t.Parallel()
	number := rapid.StringMatching(`-?(0|[1-9][0-9]{0,24})(\.[0-9]{1,12})?`)
	rapid.Check(t, func(r *rapid.T) {
		a, want := money.Rational{}, new(big.Rat)
		for range rapid.IntRange(1, 12).Draw(r, "steps") {
			text := number.Draw(r, "number")
			b := money.MustDecimal(text).Rational()
			other, _ := new(big.Rat).SetString(text)
			var err error
			switch op := rapid.SampledFrom([]string{"+", "-", "*", "/"}).Draw(r, "op"); {
			case op == "+":
				a, err = a.Add(b)
				want.Add(want, other)
			case op == "-":
				a, err = a.Sub(b)
				want.Sub(want, other)
			case op == "*":
				a, err = a.Mul(b)
				want.Mul(want, other)
			case b.Sign() != 0:
				a, err = a.Quo(b)
				want.Quo(want, other)
			}
			if err != nil {
				r.Fatal(err)
			}
		}
		if got, _ := new(big.Rat).SetString(a.String()); got.Cmp(want) != 0 || a.Sign() != want.Sign() {
			r.Fatalf("%s, want %s", a, want)
		}
	})
}

func TestRationalDigits(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		num, den string
		want     string
		inexact  bool
	}{
		{"12.50", "1", "12.5", false},
		{"1", "3", "0.3333333333333333333333333333333333", true},
		{"-2", "3", "-0.6666666666666666666666666666666667", true},
		{"1", "3000000000000000000000000000000000000", "0.0000000000000000000000000000000000003333333333333333333333333333333333", true},
		{"-1", "30000000000000000000000000000000000000", "-0.00000000000000000000000000000000000003333333333333333333333333333333333", true},
		{"-0.00000000000000000000000000000000000001", "99999999999999999999999999999999999999", "-0.0000000000000000000000000000000000000000000000000000000000000000000000000001", true},
		{"0.00000000000000000000000000000000000001", "4", "0.0000000000000000000000000000000000000025", false},
		{"99999999999999999999999999999999999999", "0.00000000000000000000000000000000000003", "3333333333333333333333333333333333333300000000000000000000000000000000000000", false},
		{"99999999999999999999999999999999999998", "0.3", "333333333333333333333333333333333333327", true},
	} {
		digits, inexact := ratio(t, tt.num, tt.den).AppendDigits([]byte("="))
		if string(digits) != "="+tt.want || inexact != tt.inexact {
			t.Errorf("%s / %s = %s, %v; want %s, %v", tt.num, tt.den, digits[1:], inexact, tt.want, tt.inexact)
		}
	}
}

// TestRationalFixed: so many decimals, always, and those that big.Rat finds.
func TestRationalFixed(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		num, den string
		decimals int
		want     string
	}{
		{"12.3", "1", 2, "12.30"},
		{"1000", "1", 0, "1000"},
		{"0", "1", 3, "0.000"},
		{"-0.004", "1", 2, "0.00"},
		{"-0.005", "1", 2, "-0.01"},
		{"2", "3", 4, "0.6667"},
		{"99999999999999999999999999999999999999", "0.02", 2, "4999999999999999999999999999999999999950.00"},
		{"-99999999999999999999999999999999999999", "0.3", 2, "-333333333333333333333333333333333333330.00"},
	} {
		if got := string(ratio(t, tt.num, tt.den).AppendFixed([]byte("="), tt.decimals)); got != "="+tt.want {
			t.Errorf("%s / %s to %d decimals = %s; want %s", tt.num, tt.den, tt.decimals, got[1:], tt.want)
		}
	}
}
