// Package money holds exact decimals, currencies and posted amounts. No value in it is ever a float.
package money

import "errors"

var (
	ErrSyntax   = errors.New("not a plain decimal number")
	ErrOverflow = errors.New("number out of range")
	ErrInexact  = errors.New("number has more decimals than allowed")
	ErrCurrency = errors.New("unknown or different currency")
)

// Decimal is an immutable exact decimal of at most 38 digits before and 38 after the point. The zero value is 0.
type Decimal struct{} // SKELETON: wraps apd.Decimal

func ParseDecimal(s string) (Decimal, error)      { panic("skeleton") } // "-12.50"; no exponent, no spaces, no '+', ≤ 80 bytes
func MustDecimal(s string) Decimal                { panic("skeleton") } // for constants and tests
func FromInt(n int64) Decimal                     { panic("skeleton") }
func FromScaled(units int64, scale int) Decimal   { panic("skeleton") } // units × 10^-scale
func (d Decimal) Add(e Decimal) (Decimal, error)  { panic("skeleton") }
func (d Decimal) Sub(e Decimal) (Decimal, error)  { panic("skeleton") }
func (d Decimal) Mul(e Decimal) (Decimal, error)  { panic("skeleton") } // exact or ErrOverflow
func (d Decimal) Neg() Decimal                    { panic("skeleton") }
func (d Decimal) Abs() Decimal                    { panic("skeleton") }
func (d Decimal) Cmp(e Decimal) int               { panic("skeleton") }
func (d Decimal) Sign() int                       { panic("skeleton") }
func (d Decimal) IsZero() bool                    { panic("skeleton") }
func (d Decimal) Scale() int                      { panic("skeleton") } // decimals after the point, trailing zeros not counted
func (d Decimal) Scaled(scale int) (int64, error) { panic("skeleton") } // value × 10^scale; ErrInexact, ErrOverflow
func (d Decimal) Floor() Decimal                  { panic("skeleton") }
func (d Decimal) String() string                  { panic("skeleton") } // plain, no exponent, no trailing zeros: "20", "0.0004"
func (d Decimal) MarshalText() ([]byte, error)    { panic("skeleton") } // JSON string
func (d *Decimal) UnmarshalText(b []byte) error   { panic("skeleton") }

// Currency is an ISO 4217 currency with its minor digits.
type Currency struct {
	code   string
	digits int
}

func ParseCurrency(code string) (Currency, error) { panic("skeleton") }
func MustCurrency(code string) Currency           { panic("skeleton") }
func (c Currency) Code() string                   { return c.code }
func (c Currency) Digits() int                    { return c.digits }
func (c Currency) MarshalText() ([]byte, error)   { panic("skeleton") }
func (c *Currency) UnmarshalText(b []byte) error  { panic("skeleton") }

// Amount is posted money: int64 minor units of one currency. JSON: {"amount":"12.34","currency":"USD"}.
type Amount struct {
	minor    int64
	currency Currency
}

func NewAmount(minor int64, c Currency) Amount { return Amount{minor, c} }
func (a Amount) Minor() int64                  { return a.minor }
func (a Amount) Currency() Currency            { return a.currency }
func (a Amount) Decimal() Decimal              { panic("skeleton") }
func (a Amount) Add(b Amount) (Amount, error)  { panic("skeleton") } // ErrCurrency, ErrOverflow
func (a Amount) String() string                { panic("skeleton") } // "12.34" (always all minor digits)
func (a Amount) MarshalJSON() ([]byte, error)  { panic("skeleton") }
func (a *Amount) UnmarshalJSON(b []byte) error { panic("skeleton") }

// Rounding is how the one rounding of an invoice line resolves a tie.
type Rounding uint8

const (
	HalfUp Rounding = iota // half away from zero
	HalfEven
)

// Round rounds an exact amount to the currency's minor unit.
func Round(d Decimal, c Currency, mode Rounding) (Amount, error) { panic("skeleton") }
