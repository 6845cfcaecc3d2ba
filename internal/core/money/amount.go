package money

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/cockroachdb/apd/v3"
)

// Amount is posted money: int64 minor units of one currency. JSON: {"amount":"12.34","currency":"USD"}. The zero
// Amount has no currency: it adds to nothing and has no JSON.
type Amount struct {
	minor    int64
	currency Currency
}

// NewAmount is minor units (cents for USD) of c.
func NewAmount(minor int64, c Currency) Amount { return Amount{minor, c} }

// Minor is the amount in minor units.
func (a Amount) Minor() int64 { return a.minor }

// Currency is what a is in.
func (a Amount) Currency() Currency { return a.currency }

// Decimal is the amount in whole units: 12.34 for 1234 cents.
func (a Amount) Decimal() Decimal { return FromScaled(a.minor, a.currency.digits) }

// Equal reports whether a and b are the same sum of the same currency.
func (a Amount) Equal(b Amount) bool { return a == b }

// Add is a + b: ErrCurrency if they differ in currency or have none, ErrOverflow if the sum does not fit.
func (a Amount) Add(b Amount) (Amount, error) {
	if a.currency != b.currency || a.currency.code == "" {
		return Amount{}, fmt.Errorf("%w: %q and %q", ErrCurrency, a.currency.code, b.currency.code)
	}
	sum, ok := addInt64(a.minor, b.minor)
	if !ok {
		return Amount{}, ErrOverflow
	}
	return Amount{sum, a.currency}, nil
}

// String prints the number with all minor digits and without the currency: "12.30".
func (a Amount) String() string {
	var buf [32]byte
	return string(appendScaled(buf[:0], a.minor, a.currency.digits))
}

// MarshalJSON prints the object; an amount without currency is ErrCurrency.
func (a Amount) MarshalJSON() ([]byte, error) {
	code, err := a.currency.MarshalText()
	if err != nil {
		return nil, err
	}
	b := append(make([]byte, 0, 64), `{"amount":"`...)
	b = appendScaled(b, a.minor, a.currency.digits)
	b = append(b, `","currency":"`...)
	b = append(b, code...)
	return append(b, `"}`...), nil
}

// UnmarshalJSON reads exactly what MarshalJSON prints, fewer decimals allowed: null, a number and unknown fields are
// ErrSyntax, more decimals than the currency has are ErrInexact. On an error a stays as it was.
func (a *Amount) UnmarshalJSON(b []byte) error {
	var in struct {
		Amount   *Decimal  `json:"amount"`
		Currency *Currency `json:"currency"`
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&in); err != nil {
		for _, known := range []error{ErrSyntax, ErrOverflow, ErrCurrency} {
			if errors.Is(err, known) {
				return fmt.Errorf("money: %w", err)
			}
		}
		return fmt.Errorf(`%w: want {"amount":"12.34","currency":"USD"}: %w`, ErrSyntax, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: more than one amount", ErrSyntax)
	}
	if in.Amount == nil || in.Currency == nil {
		return fmt.Errorf(`%w: "amount" and "currency" are both needed`, ErrSyntax)
	}
	minor, err := in.Amount.Scaled(in.Currency.digits)
	if err != nil {
		return fmt.Errorf("%w: %s has %d minor digits", err, in.Currency.code, in.Currency.digits)
	}
	*a = Amount{minor, *in.Currency}
	return nil
}

// Rounding is how the one rounding of an invoice line resolves a tie.
type Rounding uint8

const (
	// HalfUp rounds a tie away from zero, for charges and refunds alike.
	HalfUp Rounding = iota
	// HalfEven rounds a tie to the even minor unit.
	HalfEven
)

// Round rounds an exact amount to the currency's minor unit, once. ErrOverflow if that does not fit, ErrCurrency for
// the zero Currency.
func Round(d Decimal, c Currency, mode Rounding) (Amount, error) {
	if c.code == "" {
		return Amount{}, fmt.Errorf("%w: none given", ErrCurrency)
	}
	ctx := exact()
	ctx.Precision = 2*maxDigits + 1 // nothing in range is cut but by the quantum
	switch mode {
	case HalfUp:
		ctx.Rounding = apd.RoundHalfUp
	case HalfEven:
		ctx.Rounding = apd.RoundHalfEven
	default:
		return Amount{}, fmt.Errorf("unknown rounding %d", mode)
	}
	var w apd.Decimal
	if _, err := ctx.Quantize(&w, d.apd(), -int32(c.digits)); err != nil {
		return Amount{}, ErrOverflow
	}
	rounded, err := pack(&w)
	if err != nil {
		return Amount{}, err
	}
	minor, err := rounded.Scaled(c.digits)
	if err != nil {
		return Amount{}, err
	}
	return Amount{minor, c}, nil
}
