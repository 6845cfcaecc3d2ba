package money

import (
	"fmt"
	"math/big"
	"strings"
)

// printedDigits are the significant digits of a number whose decimals do not end.
const printedDigits = 34

// rationalBits bounds the numerator and the denominator of a Rational, so that no chain of operations grows without end.
const rationalBits = 4096

// Rational is an immutable exact fraction: what a Decimal becomes where a division does not end. The zero value is 0. While
// the value is a Decimal it is computed as one. Compare with Cmp: == does not compile.
type Rational struct {
	_ [0]func()

	dec Decimal
	rat *big.Rat // nil: dec is the value. Nobody writes to it once it is here
}

// Rational is d as a fraction.
func (d Decimal) Rational() Rational { return Rational{dec: d} }

// NewRational is num / den: ErrDivision for a den of 0.
func NewRational(num, den Decimal) (Rational, error) { return num.Rational().Quo(den.Rational()) }

// Add is r + s, or ErrOverflow.
func (r Rational) Add(s Rational) (Rational, error) {
	if r.rat == nil && s.rat == nil {
		if sum, err := r.dec.Add(s.dec); err == nil {
			return Rational{dec: sum}, nil
		}
	}
	return pare(new(big.Rat).Add(r.big(), s.big()))
}

// Sub is r - s, or ErrOverflow.
func (r Rational) Sub(s Rational) (Rational, error) { return r.Add(s.Neg()) }

// Mul is r × s, or ErrOverflow.
func (r Rational) Mul(s Rational) (Rational, error) {
	if r.rat == nil && s.rat == nil {
		if product, err := r.dec.Mul(s.dec); err == nil {
			return Rational{dec: product}, nil
		}
	}
	return pare(new(big.Rat).Mul(r.big(), s.big()))
}

// Quo is r / s: ErrDivision for an s of 0, or ErrOverflow.
func (r Rational) Quo(s Rational) (Rational, error) {
	if s.Sign() == 0 {
		return Rational{}, ErrDivision
	}
	if r.rat == nil && s.rat == nil && s.dec.Equal(FromInt(1)) {
		return r, nil
	}
	return pare(new(big.Rat).Quo(r.big(), s.big()))
}

// Neg is -r.
func (r Rational) Neg() Rational {
	if r.rat == nil {
		return Rational{dec: r.dec.Neg()}
	}
	return Rational{rat: new(big.Rat).Neg(r.rat)}
}

// Abs is |r|.
func (r Rational) Abs() Rational {
	if r.Sign() < 0 {
		return r.Neg()
	}
	return r
}

// Sign is -1, 0 or 1.
func (r Rational) Sign() int {
	if r.rat == nil {
		return r.dec.Sign()
	}
	return r.rat.Sign()
}

// IsZero reports whether r is 0.
func (r Rational) IsZero() bool { return r.Sign() == 0 }

// Cmp is -1 for r < s, 0 for r = s, 1 for r > s.
func (r Rational) Cmp(s Rational) int {
	if r.rat == nil && s.rat == nil {
		return r.dec.Cmp(s.dec)
	}
	return r.big().Cmp(s.big())
}

// Equal reports whether both are the same number.
func (r Rational) Equal(s Rational) bool { return r.Cmp(s) == 0 }

// Min is the smaller of r and s.
func (r Rational) Min(s Rational) Rational {
	if s.Cmp(r) < 0 {
		return s
	}
	return r
}

// Max is the larger of r and s.
func (r Rational) Max(s Rational) Rational {
	if s.Cmp(r) > 0 {
		return s
	}
	return r
}

// Decimal is r as digits: itself, or 34 significant digits (half away from zero) and inexact where the decimals do not end or
// are too many for a Decimal. ErrOverflow where there are too many digits before the point.
func (r Rational) Decimal() (d Decimal, inexact bool, err error) {
	if r.rat == nil {
		return r.dec, false, nil
	}
	if d, ok := ending(r.rat); ok {
		return d, false, nil
	}
	// Digits before the point tell how many of the significant ones are left for decimals.
	decimals := printedDigits - wholeDigits(r.rat)
	d, err = r.decimals(min(max(decimals, 0), maxDigits))
	return d, true, err
}

// AppendDigits appends r in plain digits: all of them where they end, else 34 significant ones (half away from zero) and
// inexact. Unlike a Decimal, the digits may be any number.
func (r Rational) AppendDigits(b []byte) (digits []byte, inexact bool) {
	if r.rat == nil {
		return r.dec.append(b), false
	}
	if n, exact := r.rat.FloatPrec(); exact {
		return append(b, r.rat.FloatString(n)...), false
	}
	text := r.rat.FloatString(max(printedDigits-wholeDigits(r.rat), 0))
	if strings.Contains(text, ".") {
		text = strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
	}
	return append(b, text...), true
}

// AppendFixed appends r with so many decimals, 0 to 38, half away from zero: "12.30". The digits may be any number.
func (r Rational) AppendFixed(b []byte, decimals int) []byte {
	d, err := r.RoundTo(decimals)
	if err != nil { // too many digits before the point, so no zero with a sign either
		return append(b, r.big().FloatString(decimals)...)
	}
	b = d.append(b)
	if decimals > 0 && d.Scale() == 0 {
		b = append(b, '.')
	}
	for range decimals - d.Scale() {
		b = append(b, '0')
	}
	return b
}

// wholeDigits counts the digits before the point; below 1 it is 0 or negative by the zeros after it. r is not 0.
func wholeDigits(r *big.Rat) int {
	num, den := new(big.Int).Abs(r.Num()), r.Denom()
	n := len(num.String()) - len(den.String()) // 10^(n-1) < |r| < 10^(n+1)
	if n < 0 {
		num.Mul(num, power(int64(-n)))
	} else {
		den = new(big.Int).Mul(den, power(int64(n)))
	}
	if num.Cmp(den) < 0 {
		return n
	}
	return n + 1
}

// decimals rounds half away from zero to so many decimals.
func (r Rational) decimals(n int) (Decimal, error) {
	var d Decimal
	text := r.big().FloatString(n)
	if len(text) > maxText {
		return d, ErrOverflow
	}
	if strings.Trim(text, "-0.") == "" {
		return d, nil
	}
	return ParseDecimal(text)
}

// RoundTo rounds half away from zero to so many decimals, 0 to 38. ErrOverflow.
func (r Rational) RoundTo(decimals int) (Decimal, error) {
	if r.rat == nil {
		return r.dec.RoundTo(decimals)
	}
	return r.decimals(decimals)
}

// Floor is the greatest whole number that is not above r. ErrOverflow.
func (r Rational) Floor() (Decimal, error) {
	if r.rat == nil {
		return r.dec.Floor(), nil
	}
	whole := new(big.Int).Div(r.rat.Num(), r.rat.Denom()) // Euclidean, and the denominator is above 0
	return ParseDecimal(whole.String())
}

// Ceil is the smallest whole number that is not below r. ErrOverflow.
func (r Rational) Ceil() (Decimal, error) {
	d, err := r.Neg().Floor()
	return d.Neg(), err
}

// Round rounds r to the currency's minor unit, once. ErrOverflow, ErrCurrency.
func (r Rational) Round(c Currency, mode Rounding) (Amount, error) {
	if r.rat == nil {
		return Round(r.dec, c, mode)
	}
	if c.code == "" {
		return Amount{}, fmt.Errorf("%w: none given", ErrCurrency)
	}
	scale := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(c.digits)), nil)
	num := new(big.Int).Mul(new(big.Int).Abs(r.rat.Num()), scale)
	minor, rest := new(big.Int).QuoRem(num, r.rat.Denom(), new(big.Int))
	switch tie := rest.Lsh(rest, 1).Cmp(r.rat.Denom()); {
	case tie > 0, tie == 0 && (mode == HalfUp || minor.Bit(0) == 1):
		minor.Add(minor, big.NewInt(1))
	}
	if r.rat.Sign() < 0 {
		minor.Neg(minor)
	}
	if !minor.IsInt64() {
		return Amount{}, ErrOverflow
	}
	return Amount{minor.Int64(), c}, nil
}

// String is the exact value: digits, or "numerator/denominator" where they would not end.
func (r Rational) String() string {
	if r.rat == nil {
		return r.dec.String()
	}
	if d, ok := ending(r.rat); ok {
		return d.String()
	}
	return r.rat.String()
}

// ParseRational reads what String prints. ErrSyntax, ErrOverflow, ErrDivision.
func ParseRational(s string) (Rational, error) {
	num, den, fraction := strings.Cut(s, "/")
	if !fraction {
		d, err := ParseDecimal(s)
		return d.Rational(), err
	}
	const longest = 2 * rationalBits / 3
	if len(s) > longest || strings.Trim(den, "0123456789") != "" || strings.Trim(strings.TrimPrefix(num, "-"), "0123456789") != "" {
		return Rational{}, fmt.Errorf("%w: not a fraction of whole numbers", ErrSyntax)
	}
	n, ok := new(big.Int).SetString(num, 10)
	d, ok2 := new(big.Int).SetString(den, 10)
	switch {
	case !ok || !ok2:
		return Rational{}, fmt.Errorf("%w: not a fraction of whole numbers", ErrSyntax)
	case d.Sign() == 0:
		return Rational{}, ErrDivision
	}
	return pare(new(big.Rat).SetFrac(n, d))
}

// MarshalText is String.
func (r Rational) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText is ParseRational. On an error r stays as it was.
func (r *Rational) UnmarshalText(b []byte) error {
	v, err := ParseRational(string(b))
	if err != nil {
		return err
	}
	*r = v
	return nil
}

// big is r for reading only.
func (r Rational) big() *big.Rat {
	if r.rat != nil {
		return r.rat
	}
	if r.dec.wide == nil {
		return new(big.Rat).SetFrac(big.NewInt(r.dec.units), power(int64(r.dec.scale)))
	}
	coefficient := new(big.Int)
	coefficient.SetString(r.dec.wide.Coeff.String(), 10)
	if r.dec.wide.Negative {
		coefficient.Neg(coefficient)
	}
	return new(big.Rat).SetFrac(coefficient, power(int64(-r.dec.wide.Exponent)))
}

func power(n int64) *big.Int { return new(big.Int).Exp(big.NewInt(10), big.NewInt(n), nil) }

// pare takes over q. Whole numbers and short decimals become a Decimal again.
func pare(q *big.Rat) (Rational, error) {
	if q.Num().BitLen() > rationalBits || q.Denom().BitLen() > rationalBits {
		return Rational{}, ErrOverflow
	}
	if d, ok := ending(q); ok {
		return Rational{dec: d}, nil
	}
	return Rational{rat: q}, nil
}

// ending is q as a Decimal where its decimals end and fit.
func ending(q *big.Rat) (Decimal, bool) {
	n, exact := q.FloatPrec()
	if !exact || n > maxDigits {
		return Decimal{}, false
	}
	d, err := Rational{rat: q}.decimals(n)
	return d, err == nil
}
