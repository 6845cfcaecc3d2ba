package calc

import "github.com/tallystick/tallystick/internal/core/money"

// figure is an amount in an answer.
type figure struct {
	Amount  string `json:"amount"`            // exact
	Inexact bool   `json:"inexact,omitempty"` // Amount is 34 significant digits of more
	Rounded string `json:"rounded,omitempty"` // to the currency's minor unit; absent without a currency
}

// printer prints numbers.
type printer struct {
	currency money.Currency // zero: nothing is rounded
}

// figure is an amount, exact and rounded.
func (p *printer) figure(amount money.Rational) (f figure) {
	f.Amount, f.Inexact = p.exact(amount)
	if p.currency != (money.Currency{}) {
		f.Rounded = p.rounded(amount)
	}
	return f
}

// exact is a number in all its digits; of those that do not end, the first 34 significant ones.
func (p *printer) exact(r money.Rational) (text string, inexact bool) {
	digits, inexact := r.AppendDigits(nil)
	return string(digits), inexact
}

// rounded is an amount with all minor digits of the currency: half away from zero.
func (p *printer) rounded(amount money.Rational) string {
	return string(amount.AppendFixed(nil, p.currency.Digits()))
}

// posted is rounded where there is a currency, else exact: for amounts that have no exact one beside them.
func (p *printer) posted(amount money.Rational) string {
	if p.currency != (money.Currency{}) {
		return p.rounded(amount)
	}
	text, _ := p.exact(amount)
	return text
}
