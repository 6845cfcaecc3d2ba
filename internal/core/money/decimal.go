package money

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"

	"github.com/cockroachdb/apd/v3"
)

const (
	maxDigits = 38 // before the point, and again after it
	maxText   = 80 // bytes of text that ParseDecimal looks at
)

// Decimal is an immutable exact decimal of at most 38 digits before and 38 after the point. The zero value is 0.
// It may be copied and shared freely. Compare with Cmp or Equal: == does not compile.
type Decimal struct {
	_ [0]func()

	// The value is units × 10^-scale, without trailing zeros after the point, while wide is nil. A value whose units do
	// not fit is in wide alone, which nobody writes to once it is here. Every value has exactly one of the two forms.
	units int64
	wide  *apd.Decimal
	scale uint8
}

// ParseDecimal reads plain digits such as "-12.50": no exponent, no spaces, no '+', no needless leading zero, a digit on
// both sides of the point, at most 80 bytes. The errors are ErrSyntax and ErrOverflow.
func ParseDecimal(s string) (Decimal, error) {
	if len(s) > maxText {
		return Decimal{}, fmt.Errorf("%w: longer than %d bytes", ErrSyntax, maxText)
	}
	digits, decimals, ok := scanPlain(s)
	if !ok {
		return Decimal{}, fmt.Errorf("%w: %q", ErrSyntax, s)
	}
	if digits <= 18 { // always fits an int64
		var n int64
		for i := range len(s) {
			if c := s[i]; c != '-' && c != '.' {
				n = n*10 + int64(c-'0')
			}
		}
		if s[0] == '-' {
			n = -n
		}
		return narrow(n, decimals), nil
	}
	var w apd.Decimal
	if _, _, err := w.SetString(s); err != nil {
		return Decimal{}, fmt.Errorf("%w: %q", ErrSyntax, s)
	}
	d, err := pack(&w)
	if err != nil {
		return Decimal{}, fmt.Errorf("%w: %q has more than %d digits before or after the point", err, s, maxDigits)
	}
	return d, nil
}

// scanPlain counts the digits of s, and those after the point.
func scanPlain(s string) (digits, decimals int, ok bool) {
	i := 0
	if s != "" && s[0] == '-' {
		i++
	}
	first := i
	for ; i < len(s) && '0' <= s[i] && s[i] <= '9'; i++ {
		digits++
	}
	if digits == 0 || digits > 1 && s[first] == '0' {
		return 0, 0, false
	}
	if i == len(s) {
		return digits, 0, true
	}
	if s[i] != '.' {
		return 0, 0, false
	}
	for i++; i < len(s) && '0' <= s[i] && s[i] <= '9'; i++ {
		decimals++
	}
	return digits + decimals, decimals, i == len(s) && decimals > 0
}

// MustDecimal is ParseDecimal for constants and tests; it panics on an error.
func MustDecimal(s string) Decimal {
	d, err := ParseDecimal(s)
	if err != nil {
		panic(err)
	}
	return d
}

// FromInt is n as a Decimal.
func FromInt(n int64) Decimal { return Decimal{units: n} }

// FromScaled is units × 10^-scale. A scale outside 0..38 is a mistake of the program and panics.
func FromScaled(units int64, scale int) Decimal {
	if scale < 0 || scale > maxDigits {
		panic(fmt.Sprintf("money: scale %d outside 0..%d", scale, maxDigits))
	}
	return narrow(units, scale)
}

// narrow drops trailing zeros after the point; what is left of scale must be at most maxDigits.
func narrow(units int64, scale int) Decimal {
	if units == 0 {
		return Decimal{}
	}
	for scale > 0 && units%10 == 0 {
		units /= 10
		scale--
	}
	return Decimal{units: units, scale: uint8(scale)}
}

// pack takes over w, brings it to its one form and checks the range.
func pack(w *apd.Decimal) (Decimal, error) {
	w.Reduce(w)
	if int64(w.Exponent)+w.NumDigits() > maxDigits || w.Exponent < -maxDigits {
		return Decimal{}, ErrOverflow
	}
	return oneForm(w), nil
}

// oneForm takes over a w that Reduce has seen.
func oneForm(w *apd.Decimal) Decimal {
	if w.Exponent > 0 {
		var factor apd.BigInt
		factor.Exp(apd.NewBigInt(10), apd.NewBigInt(int64(w.Exponent)), nil)
		w.Coeff.Mul(&w.Coeff, &factor)
		w.Exponent = 0
	}
	var signed apd.BigInt
	signed.Set(&w.Coeff)
	if w.Negative {
		signed.Neg(&signed)
	}
	if signed.IsInt64() {
		return narrow(signed.Int64(), int(-w.Exponent))
	}
	return Decimal{wide: w}
}

// apd is d for reading only.
func (d Decimal) apd() *apd.Decimal {
	if d.wide != nil {
		return d.wide
	}
	return apd.New(d.units, -int32(d.scale))
}

// Sign is -1, 0 or 1.
func (d Decimal) Sign() int {
	switch {
	case d.wide != nil:
		return d.wide.Sign()
	case d.units > 0:
		return 1
	case d.units < 0:
		return -1
	}
	return 0
}

// IsZero reports whether d is 0.
func (d Decimal) IsZero() bool { return d.wide == nil && d.units == 0 }

// Scale counts the decimals after the point, trailing zeros left out.
func (d Decimal) Scale() int {
	if d.wide != nil {
		return int(-d.wide.Exponent)
	}
	return int(d.scale)
}

// Scaled is d × 10^scale: ErrInexact if that has decimals, ErrOverflow if it does not fit.
func (d Decimal) Scaled(scale int) (int64, error) {
	if scale < d.Scale() {
		return 0, ErrInexact
	}
	if d.wide != nil {
		return 0, ErrOverflow
	}
	n, ok := shift(d.units, scale-int(d.scale))
	if !ok {
		return 0, ErrOverflow
	}
	return n, nil
}

// shift is n × 10^by, by ≥ 0.
func shift(n int64, by int) (int64, bool) {
	if n == 0 {
		return 0, true
	}
	for range by {
		if n > math.MaxInt64/10 || n < math.MinInt64/10 {
			return 0, false
		}
		n *= 10
	}
	return n, true
}

// String is the number in plain digits, without exponent, sign of a zero or trailing zeros: "20", "-0.0004".
func (d Decimal) String() string {
	if d.wide == nil && d.scale == 0 {
		return strconv.FormatInt(d.units, 10)
	}
	var buf [maxText]byte
	return string(d.append(buf[:0]))
}

func (d Decimal) append(b []byte) []byte {
	if d.wide != nil {
		return d.wide.Append(b, 'f')
	}
	return appendScaled(b, d.units, int(d.scale))
}

// appendScaled prints units × 10^-scale with exactly scale decimals.
func appendScaled(b []byte, units int64, scale int) []byte {
	var buf [20]byte
	digits := strconv.AppendUint(buf[:0], magnitude(units), 10)
	if units < 0 {
		b = append(b, '-')
	}
	whole := len(digits) - scale
	if whole <= 0 {
		b = append(b, '0')
	} else {
		b = append(b, digits[:whole]...)
		digits = digits[whole:]
	}
	if scale == 0 {
		return b
	}
	b = append(b, '.')
	for ; whole < 0; whole++ {
		b = append(b, '0')
	}
	return append(b, digits...)
}

// magnitude is |n|, also of the smallest int64.
func magnitude(n int64) uint64 {
	if n < 0 {
		return -uint64(n)
	}
	return uint64(n)
}

// AppendText appends String to b. The error is always nil.
func (d Decimal) AppendText(b []byte) ([]byte, error) { return d.append(b), nil }

// MarshalText is String; in JSON a Decimal is a string.
func (d Decimal) MarshalText() ([]byte, error) {
	return d.append(make([]byte, 0, 24)), nil
}

// UnmarshalText is ParseDecimal. On an error d stays as it was.
func (d *Decimal) UnmarshalText(b []byte) error {
	if len(b) > maxText {
		return fmt.Errorf("%w: longer than %d bytes", ErrSyntax, maxText)
	}
	v, err := ParseDecimal(string(b))
	if err != nil {
		return err
	}
	*d = v
	return nil
}

// UnmarshalJSON reads a JSON string. A number is refused, and so is null, which encoding/json would otherwise skip in
// silence. On an error d stays as it was.
func (d *Decimal) UnmarshalJSON(b []byte) error {
	if len(b) == 0 || b[0] != '"' {
		return fmt.Errorf(`%w: want a JSON string such as "12.50"`, ErrSyntax)
	}
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("%w: %w", ErrSyntax, err)
	}
	return d.UnmarshalText([]byte(s))
}
