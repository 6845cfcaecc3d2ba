package invoice

import (
	"fmt"
	"slices"

	"github.com/tallystick/tallystick/internal/core/money"
)

// AddTaxes adds the taxes to an invoice that is not final, and its totals. Inclusive: the lines contain them. Due is the total; what a
// balance pays comes later. money.ErrOverflow, ErrInvalid for a final one or a tax in another currency.
func AddTaxes(inv Invoice, taxes []TaxOf, inclusive bool) (Invoice, error) {
	if inv.Status != Draft && inv.Status != Preview {
		return Invoice{}, fmt.Errorf("tax of invoice %s: it is %q: %w", inv.ID, inv.Status, ErrState)
	}
	inv.Taxes, inv.Inclusive, inv.Lines = nil, inclusive && len(taxes) > 0, slices.Clone(inv.Lines)
	for i := range inv.Lines {
		inv.Lines[i].Taxes = nil
	}
	for _, t := range taxes {
		inv.Taxes = append(inv.Taxes, t.Tax)
		for _, i := range t.Lines {
			if i < 0 || i >= len(inv.Lines) {
				return Invoice{}, fmt.Errorf("tax %q of invoice %s: there is no line %d: %w", t.Key, inv.ID, i, ErrInvalid)
			}
			inv.Lines[i].Taxes = append(inv.Lines[i].Taxes, t.Key)
		}
	}
	var err error
	if inv.Subtotal, inv.Tax, inv.Total, err = inv.sums(); err != nil {
		return Invoice{}, fmt.Errorf("totals of invoice %s: %w", inv.ID, err)
	}
	return Pay(inv, money.NewAmount(0, inv.Currency))
}

// TaxOf is a tax with the indices of the lines that it is on.
type TaxOf struct {
	Tax
	Lines []int
}

// Pay lets a balance pay for an invoice that is not final: at most its total. What a negative total gives goes to the balance,
// so that nothing is due.
func Pay(inv Invoice, balance money.Amount) (Invoice, error) {
	inv.Balance = money.NewAmount(0, inv.Currency)
	inv.Due = inv.Total
	switch {
	case inv.Total.Minor() <= 0:
		inv.Due = inv.Balance
	case balance.Minor() > 0:
		if balance.Currency() != inv.Currency {
			return Invoice{}, fmt.Errorf("balance in %s: %w", balance.Currency(), money.ErrCurrency)
		}
		inv.Balance = money.NewAmount(min(balance.Minor(), inv.Total.Minor()), inv.Currency)
		inv.Due = money.NewAmount(inv.Total.Minor()-inv.Balance.Minor(), inv.Currency)
	}
	return inv, nil
}

// sums adds up lines and taxes.
func (inv *Invoice) sums() (subtotal, tax, total money.Amount, err error) {
	if subtotal, err = sumOf(inv.Lines, inv.Currency); err != nil {
		return subtotal, tax, total, err
	}
	tax = money.NewAmount(0, inv.Currency)
	for _, t := range inv.Taxes {
		if tax, err = tax.Add(t.Amount); err != nil {
			return subtotal, tax, total, err
		}
	}
	if total = subtotal; !inv.Inclusive {
		total, err = subtotal.Add(tax)
	}
	return subtotal, tax, total, err
}

// sumOf is the checked sum of the rounded lines.
func sumOf(lines []Line, c money.Currency) (money.Amount, error) {
	sum := money.NewAmount(0, c)
	for i := range lines {
		var err error
		if sum, err = sum.Add(lines[i].Rounded); err != nil {
			return money.Amount{}, fmt.Errorf("at line %d: %w", lines[i].Number, err)
		}
	}
	return sum, nil
}

// negated is an amount with the other sign.
func negated(a money.Amount) money.Amount { return money.NewAmount(-a.Minor(), a.Currency()) }
