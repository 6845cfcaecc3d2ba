// Package money holds exact decimals, currencies and posted amounts. No value in it is ever a float, and no operation
// rounds except Round and Decimal.RoundTo: a result is exact or it is an error.
package money

import "errors"

// What can be wrong with a number, an amount or a currency; compare with errors.Is.
var (
	ErrSyntax   = errors.New("not a plain decimal number")
	ErrOverflow = errors.New("number out of range")
	ErrInexact  = errors.New("number has more decimals than allowed")
	ErrCurrency = errors.New("unknown or different currency")
	ErrDivision = errors.New("division by zero")
)
