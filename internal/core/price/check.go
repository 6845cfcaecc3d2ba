package price

import (
	"cmp"
	"fmt"

	"github.com/tallystick/tallystick/internal/core/money"
)

// eventsMax bounds the events of a period.
const eventsMax = 1 << 53

// Invalid is what is wrong with a price, or with the usage that it is to charge. It wraps ErrInvalid.
type Invalid struct {
	// Pointer is the JSON pointer of the field, as the catalog or the calculator writes it: "/tiers/1/up_to", "/quantity".
	Pointer string
	Detail  string // a sentence without its end
	OfUsage bool   // the field is of the usage, not of the price
}

// Error is place and detail.
func (e *Invalid) Error() string { return e.Pointer + ": " + e.Detail }

// Unwrap is ErrInvalid.
func (e *Invalid) Unwrap() error { return ErrInvalid }

func invalid(pointer, format string, args ...any) error {
	return &Invalid{Pointer: pointer, Detail: fmt.Sprintf(format, args...)}
}

// Check refuses what could not charge, or not as its author meant: no tiers, bounds that do not rise, a negative amount, a field
// of another model. The error is an *Invalid; the catalog says the same with places in its file.
func (p *Price) Check() error {
	if p.Model < Flat || p.Model > Matrix {
		return invalid("/model", "%s is unknown", p.Model)
	}
	if err := p.checkFields(); err != nil {
		return err
	}
	if err := checkBounds(p.MinimumSpend, p.MaximumSpend, "/minimum_spend", "/maximum_spend"); err != nil {
		return err
	}
	switch p.Model {
	case Graduated, Volume, Stairstep, GraduatedPercentage:
		return p.checkTiers()
	case Package:
		if p.Size.Sign() <= 0 {
			return invalid("/size", "a package has more than %s units", p.Size)
		}
	case Percentage:
		return checkBounds(p.Min, p.Max, "/min", "/max")
	case Matrix:
		return p.checkCells()
	case Flat, Unit, Dynamic:
	}
	return nil
}

// checkFields refuses negative amounts and fields that the model does not have.
func (p *Price) checkFields() error {
	m := p.Model
	return cmp.Or(
		checkField("/amount", &p.Amount, m, m == Flat || m == Package),
		checkField("/unit_amount", &p.UnitAmount, m, m == Unit || m == Matrix),
		checkField("/size", &p.Size, m, m == Package),
		checkField("/free", &p.Free, m, m == Package),
		checkField("/percent", &p.Percent, m, m == Percentage),
		checkField("/fixed", &p.Fixed, m, m == Percentage),
		checkField("/free_events", new(money.FromInt(p.FreeEvents)), m, m == Percentage),
		checkField("/free_amount", p.FreeAmount, m, m == Percentage),
		checkField("/min", p.Min, m, m == Percentage),
		checkField("/max", p.Max, m, m == Percentage),
		checkField("/included", &p.Included, m, m != Flat),
		checkField("/tiers", new(money.FromInt(int64(len(p.Tiers)))), m, m.Tiered()),
		checkField("/cells", new(money.FromInt(int64(len(p.Cells)))), m, m == Matrix),
	)
}

// checkField refuses a field below zero, and one of another model.
func checkField(pointer string, value *money.Decimal, m Model, has bool) error {
	switch {
	case value == nil:
	case value.Sign() < 0:
		return invalid(pointer, "%s is negative", value.String())
	case !has && !value.IsZero():
		return invalid(pointer, "a %s price does not have it", m)
	}
	return nil
}

// checkBounds refuses a negative bound and a low one above the high one.
func checkBounds(low, high *money.Decimal, lowAt, highAt string) error {
	switch {
	case low != nil && low.Sign() < 0:
		return invalid(lowAt, "%s is negative", low.String())
	case high != nil && high.Sign() < 0:
		return invalid(highAt, "%s is negative", high.String())
	case low != nil && high != nil && low.Cmp(*high) > 0:
		return invalid(lowAt, "%s is above the maximum of %s", low.String(), high.String())
	}
	return nil
}

func (p *Price) checkTiers() error {
	if len(p.Tiers) == 0 {
		return invalid("/tiers", "a %s price needs a tier", p.Model)
	}
	last := len(p.Tiers) - 1
	var below money.Decimal
	for i := range p.Tiers {
		tier := &p.Tiers[i]
		if err := p.checkAmounts(i, tier); err != nil {
			return err
		}
		if tier.UpTo == nil {
			if i < last {
				return invalid(tierAt(i, "up_to"), "every tier but the last needs it")
			}
			continue
		}
		if i == last {
			return invalid(tierAt(i, "up_to"), "the last tier has no end, or nothing would be charged above %s", tier.UpTo)
		}
		// A first band that ends at 0 only makes zero usage free.
		if c := tier.UpTo.Cmp(below); c < 0 || (c == 0 && i > 0) {
			return invalid(tierAt(i, "up_to"), "%s does not rise above %s", tier.UpTo, below)
		}
		below = *tier.UpTo
	}
	return nil
}

// checkAmounts refuses what a tier charges where that is negative or not of the model.
func (p *Price) checkAmounts(i int, tier *Tier) error {
	percent := p.Model == GraduatedPercentage
	switch {
	case tier.UnitAmount.Sign() < 0:
		return invalid(tierAt(i, "unit_amount"), "%s is negative", tier.UnitAmount)
	case tier.FlatAmount.Sign() < 0:
		return invalid(tierAt(i, "flat_amount"), "%s is negative", tier.FlatAmount)
	case tier.Percent.Sign() < 0:
		return invalid(tierAt(i, "percent"), "%s is negative", tier.Percent)
	case !tier.UnitAmount.IsZero() && (percent || p.Model == Stairstep):
		return invalid(tierAt(i, "unit_amount"), "a tier of a %s price does not have it", p.Model)
	case !tier.Percent.IsZero() && !percent:
		return invalid(tierAt(i, "percent"), "a tier of a %s price does not have it", p.Model)
	}
	return nil
}

func tierAt(i int, field string) string { return fmt.Sprintf("/tiers/%d/%s", i, field) }

func (p *Price) checkCells() error {
	if len(p.Cells) == 0 {
		return invalid("/cells", "a %s price needs a cell", p.Model)
	}
	for i := range p.Cells {
		if len(p.Cells[i].When) == 0 {
			return invalid(fmt.Sprintf("/cells/%d/when", i), "a cell needs a dimension")
		}
		if amount := p.Cells[i].UnitAmount; amount.Sign() < 0 {
			return invalid(fmt.Sprintf("/cells/%d/unit_amount", i), "%s is negative", amount)
		}
	}
	return nil
}

// check refuses usage that p cannot charge. The error is an *Invalid of the usage.
func (u *Usage) check(p *Price) error {
	err := u.checkFields(p)
	if err == nil {
		err = u.checkDiscounts()
	}
	if err == nil { // one above the other is fine here: the minimum comes after the maximum
		err = cmp.Or(checkBounds(u.Minimum, nil, "/minimum_spend", ""), checkBounds(nil, u.Maximum, "", "/maximum_spend"))
	}
	if fault, ok := err.(*Invalid); ok { //nolint:errorlint // it was made above and is not wrapped yet
		fault.OfUsage = true
	}
	return err
}

func (u *Usage) checkFields(p *Price) error {
	switch {
	case u.Position > Last:
		return invalid("/position", "%d is unknown", u.Position)
	case u.Prior.Quantity.Sign() < 0:
		return invalid("/prior_quantity", "%s is negative", u.Prior.Quantity)
	case u.Prior.Events < 0 || u.Prior.Events > eventsMax:
		return invalid("/prior_events", "%d is outside 0 to %d", u.Prior.Events, int64(eventsMax))
	case u.Free.Sign() < 0:
		return invalid("/usage_discount", "%s is negative", u.Free)
	case u.Quantity.Sign() < 0 && p.Model != Flat:
		return invalid("/quantity", "%s is negative", u.Quantity)
	}
	if p.Model != Percentage && p.Model != Matrix {
		return nil
	}
	for i := range u.Events {
		if q := u.Events[i].Quantity; q.Sign() < 0 {
			return invalid(fmt.Sprintf("/events/%d", i), "%s is negative", q)
		}
	}
	return nil
}

func (u *Usage) checkDiscounts() error {
	hundred := money.FromInt(100)
	for i, d := range u.Discounts {
		at := fmt.Sprintf("/discounts/%d", i)
		switch {
		case (d.Percent == nil) == (d.Amount == nil):
			return invalid(at, "a discount has either a percent or an amount")
		case d.Percent != nil && (d.Percent.Sign() < 0 || d.Percent.Cmp(hundred) > 0):
			return invalid(at+"/percent", "%s is outside 0 to 100", d.Percent)
		case d.Amount != nil && d.Amount.Sign() < 0:
			return invalid(at+"/amount", "%s is negative", d.Amount)
		}
	}
	return nil
}

// bounds are the minimum and the maximum that count.
func (u *Usage) bounds(p *Price) (low, high *money.Decimal) {
	low, high = p.MinimumSpend, p.MaximumSpend
	if u.Minimum != nil {
		low = u.Minimum
	}
	if u.Maximum != nil {
		high = u.Maximum
	}
	return low, high
}
