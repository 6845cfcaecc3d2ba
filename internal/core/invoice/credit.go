package invoice

import (
	"fmt"
	"slices"

	"github.com/tallystick/tallystick/internal/core/money"
)

// LineCredit is what is taken back of a line: Net without tax, and Tax.
type LineCredit struct {
	LineID   string
	Net, Tax money.Amount
}

// Take is what a credit note is to take back of a line: Amount as the line counts, with the tax where the prices contain it.
type Take struct {
	LineID string
	Amount money.Amount
}

// CreditLines is the content of a credit note: what it takes back of lines, each with its part of the invoice's taxes. before is
// what earlier notes took back. Without takes it is all that is left of the invoice. A tax follows the lines that it is on: what
// all notes together took back of it is its amount in the ratio in which they took back its lines, rounded half away from
// zero, so that a whole credit takes back exactly the tax.
//
// ErrInvalid: a line that the invoice does not have or stands twice, an amount that is not above 0 or more than is left of the
// line, or nothing left at all.
func CreditLines(inv Invoice, before []LineCredit, takes []Take) ([]LineCredit, error) {
	taken, err := takenBefore(inv, before)
	if err != nil {
		return nil, err
	}
	if len(takes) == 0 {
		for _, l := range inv.Lines {
			if left := l.Rounded.Minor() - taken[l.ID]; left != 0 {
				takes = append(takes, Take{l.ID, money.NewAmount(left, inv.Currency)})
			}
		}
		if len(takes) == 0 {
			return nil, fmt.Errorf("credit invoice %s: nothing is left of it: %w", inv.ID, ErrInvalid)
		}
	} else if err := checkTakes(inv, taken, takes); err != nil {
		return nil, err
	}
	out := make([]LineCredit, 0, len(takes))
	taxed, err := taxTaken(inv, taken)
	if err != nil {
		return nil, err
	}
	for _, t := range takes {
		taken[t.LineID] += t.Amount.Minor()
		now, err := taxTaken(inv, taken)
		if err != nil {
			return nil, err
		}
		c := LineCredit{LineID: t.LineID, Net: t.Amount, Tax: money.NewAmount(now-taxed, inv.Currency)}
		if inv.Inclusive {
			c.Net = money.NewAmount(t.Amount.Minor()-c.Tax.Minor(), inv.Currency)
		}
		taxed = now
		out = append(out, c)
	}
	return out, nil
}

// takenBefore is what earlier notes took back, by line id, as lines count.
func takenBefore(inv Invoice, before []LineCredit) (map[string]int64, error) {
	taken := make(map[string]int64, len(inv.Lines))
	for _, c := range before {
		amount := c.Net
		if inv.Inclusive {
			var err error
			if amount, err = c.Net.Add(c.Tax); err != nil {
				return nil, err
			}
		}
		taken[c.LineID] += amount.Minor()
	}
	return taken, nil
}

func checkTakes(inv Invoice, taken map[string]int64, takes []Take) error {
	seen := make(map[string]bool, len(takes))
	for _, t := range takes {
		i := slices.IndexFunc(inv.Lines, func(l Line) bool { return l.ID == t.LineID })
		if i < 0 || seen[t.LineID] {
			return fmt.Errorf("credit invoice %s: line %q is not of it, or stands twice: %w", inv.ID, t.LineID, ErrInvalid)
		}
		seen[t.LineID] = true
		left := inv.Lines[i].Rounded.Minor() - taken[t.LineID]
		if t.Amount.Currency() != inv.Currency || t.Amount.Minor() <= 0 || t.Amount.Minor() > left {
			return fmt.Errorf("credit %s %s of line %d, of which %s %s are left: %w", t.Amount, t.Amount.Currency().Code(), i+1,
				money.NewAmount(left, inv.Currency), inv.Currency.Code(), ErrInvalid)
		}
	}
	return nil
}

// taxTaken is the tax in what was taken back.
func taxTaken(inv Invoice, taken map[string]int64) (int64, error) {
	sum := money.NewAmount(0, inv.Currency)
	for _, tax := range inv.Taxes {
		if tax.Amount.Minor() == 0 {
			continue
		}
		base, credited := int64(0), int64(0)
		for _, l := range inv.Lines {
			if slices.Contains(l.Taxes, tax.Key) {
				base, credited = base+l.Rounded.Minor(), credited+taken[l.ID]
			}
		}
		if base < 0 {
			base, credited = -base, -credited
		}
		part := tax.Amount
		switch {
		case credited <= 0:
			part = money.NewAmount(0, inv.Currency)
		case credited < base:
			ratio, err := money.NewRational(money.FromInt(credited), money.FromInt(base))
			if err != nil {
				return 0, err
			}
			exact, err := tax.Amount.Decimal().Rational().Mul(ratio)
			if err != nil {
				return 0, err
			}
			if part, err = exact.Round(inv.Currency, money.HalfUp); err != nil {
				return 0, err
			}
		}
		var err error
		if sum, err = sum.Add(part); err != nil {
			return 0, err
		}
	}
	return sum.Minor(), nil
}
