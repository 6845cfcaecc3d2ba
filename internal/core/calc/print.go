package calc

import (
	"strings"

	"github.com/tallystick/tallystick/internal/core/money"
)

// figure is an amount in an answer.
type figure struct {
	Amount  string `json:"amount"`            // exact
	Inexact bool   `json:"inexact,omitempty"` // Amount is 34 significant digits of more
	Rounded string `json:"rounded,omitempty"` // to the currency's minor unit; absent without a currency
}

// printed is an amount exact and rounded.
func printed(amount money.Rational, c money.Currency) (f figure, fault *Fault) {
	if f.Amount, f.Inexact, fault = exact(amount); fault != nil {
		return figure{}, fault
	}
	if c != (money.Currency{}) {
		f.Rounded, fault = rounded(amount, c)
	}
	return f, fault
}

// exact prints a number in all its digits; of those that do not end, the first 34 significant ones.
func exact(r money.Rational) (text string, inexact bool, fault *Fault) {
	d, inexact, err := r.Decimal()
	if err != nil {
		return "", false, faulty(err)
	}
	return d.String(), inexact, nil
}

// rounded prints an amount with all minor digits of its currency: half away from zero.
func rounded(r money.Rational, c money.Currency) (string, *Fault) {
	d, err := r.RoundTo(c.Digits())
	if err != nil {
		return "", faulty(err)
	}
	text := d.String()
	if missing := c.Digits() - d.Scale(); missing > 0 {
		if d.Scale() == 0 {
			text += "."
		}
		text += strings.Repeat("0", missing)
	}
	return text, nil
}

// posted is rounded where there is a currency, else exact: for figures that have no exact one beside them.
func posted(r money.Rational, c money.Currency) (string, *Fault) {
	if c != (money.Currency{}) {
		return rounded(r, c)
	}
	text, _, fault := exact(r)
	return text, fault
}
