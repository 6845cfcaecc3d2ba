package invoice

import (
	"fmt"
	"strconv"
	"time"

	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/price"
	"github.com/tallystick/tallystick/internal/core/subscription"
)

// Part is one charge and what it comes to, whether it was billed or not.
type Part struct {
	Charge   subscription.Charge
	Quantity money.Decimal // of usage, with what credits paid for; the subscription's own of a licensed price
	Credited money.Decimal
	Result   price.Result // of the whole price; the charge's Ratio is not in it yet
}

// Commitment is a plan's minimum and maximum of the usage charges of one billing period.
type Commitment struct {
	Period           period.Interval
	Name             string // of the plan; empty: the period is none any more, what was billed for it is given back
	Minimum, Maximum *money.Decimal
	Keys             []Key // whose charges they are on; all of them are among the parts
}

// Input is everything an invoice is a function of.
type Input struct {
	SubscriptionID, CustomerID, Plan string
	CatalogVersion                   int64
	Currency                         money.Currency
	Closing                          period.Interval // empty [t, t) where no billing period ends
	Since                            time.Time       // the closing before; zero: there was none
	// Parts are all that is expected of the keys that are looked at, in the order of their lines.
	Parts       []Part
	Commitments []Commitment
	Revisit     []Key // keys that are looked at, also where nothing is expected under them any more
	Book        *Book // what was billed before; nil: nothing
	Credits     []Credit
	Coupons     []Coupon
	Position    uint64
	Rounding    money.Rounding
	Preview     bool // keep zero lines
}

// Build is pure: the same input gives the same invoice, ids included. The rule: what is expected under a key less what was
// billed under it. Nothing billed: lines in full, in the order of the parts; else one adjustment line of the difference. Then
// the plan's minimum and maximum, usage credits, coupons. A line that says nothing (no amount and no usage) is left out, unless
// for a preview. An invoice may have no line: the caller decides whether one is due. Taxes are added by AddTaxes. ErrInvalid,
// money.ErrOverflow.
func Build(in Input) (Invoice, error) {
	if err := in.check(); err != nil {
		return Invoice{}, fmt.Errorf("build invoice: %w", err)
	}
	b := builder{Input: in, inv: Invoice{
		ID:             invoiceID(in.SubscriptionID, in.Closing),
		CustomerID:     in.CustomerID,
		SubscriptionID: in.SubscriptionID,
		Plan:           in.Plan,
		Status:         Draft,
		Currency:       in.Currency,
		Period:         in.Closing,
		Lines:          []Line{},
		CatalogVersion: in.CatalogVersion,
		TZVersion:      period.TZVersion,
		Position:       in.Position,
	}}
	if in.Book == nil {
		b.Book = &Book{}
	}
	if in.Preview {
		b.inv.Status = Preview
	}
	for _, step := range []func() error{b.charges, b.commitments, b.credits, b.coupons} {
		if err := step(); err != nil {
			return Invoice{}, fmt.Errorf("build invoice: %w", err)
		}
	}
	for i := range b.inv.Lines {
		b.inv.Lines[i].Number = i + 1
	}
	return AddTaxes(b.inv, nil, false)
}

// check refuses what would bill wrongly.
func (in *Input) check() error {
	if in.SubscriptionID == "" || in.CustomerID == "" || in.Currency.Code() == "" {
		return fmt.Errorf("subscription, customer and currency are needed: %w", ErrInvalid)
	}
	if in.Closing.Start.IsZero() || in.Closing.End.Before(in.Closing.Start) {
		return fmt.Errorf("closing period %v to %v has no start or no end: %w", in.Closing.Start, in.Closing.End, ErrInvalid)
	}
	type part struct {
		Key
		service int64
	}
	seen := make(map[part]bool, len(in.Parts))
	for i := range in.Parts {
		p := &in.Parts[i]
		k := part{KeyOf(&p.Charge), p.Charge.Service.Start.UnixMicro()}
		switch {
		case seen[k]:
			return fmt.Errorf("price %q from %s stands twice: %w", p.Charge.Price.Key, period.Format(p.Charge.Service.Start), ErrInvalid)
		case p.Charge.Service.Empty():
			return fmt.Errorf("price %q from %s is for no time: %w", p.Charge.Price.Key, period.Format(p.Charge.Service.Start), ErrInvalid)
		case p.Quantity.Sign() < 0:
			return fmt.Errorf("price %q: quantity %s is negative: %w", p.Charge.Price.Key, p.Quantity, ErrInvalid)
		}
		seen[k] = true
	}
	return nil
}

// builder is one invoice in the making.
type builder struct {
	Input
	inv      Invoice
	expected map[Key]money.Rational
}

// add prices a line once and appends it.
func (b *builder) add(l Line, amount money.Rational) error {
	var err error
	if l.Exact, l.Inexact, err = amount.Decimal(); err != nil {
		return fmt.Errorf("price %q: %w", l.Price, err)
	}
	if l.Inexact {
		l.Fraction = amount
	}
	if l.Rounded, err = amount.Round(b.Currency, b.Rounding); err != nil {
		return fmt.Errorf("price %q: round %s: %w", l.Price, amount, err)
	}
	if plain := l.Plan == "" && l.AddOn == "" && l.Begins.IsZero(); plain && (l.Kind == UsageLine || l.Kind == FlatLine) {
		l.ID = lineID(b.SubscriptionID, b.Closing, l.Price, l.Period)
	} else {
		l.ID = extraID(b.SubscriptionID, b.Closing, &l)
	}
	b.inv.Lines = append(b.inv.Lines, l)
	return nil
}

// last is the id of the newest line.
func (b *builder) last() string { return b.inv.Lines[len(b.inv.Lines)-1].ID }

// charges compares what is expected with what was billed, key by key: first what is new, then what changed.
func (b *builder) charges() error {
	parts := map[Key][]*Part{}
	b.expected = map[Key]money.Rational{}
	var keys []Key
	for i := range b.Parts {
		p := &b.Parts[i]
		k := KeyOf(&p.Charge)
		if parts[k] == nil {
			keys = append(keys, k)
		}
		parts[k] = append(parts[k], p)
		amount, err := p.amount()
		if err != nil {
			return fmt.Errorf("price %q: %w", p.Charge.Price.Key, err)
		}
		if b.expected[k], err = b.expected[k].Add(amount); err != nil {
			return fmt.Errorf("price %q: %w", p.Charge.Price.Key, err)
		}
	}
	for _, k := range keys {
		if b.Book.Billed(k) != nil {
			continue
		}
		for _, p := range parts[k] {
			if err := b.full(p); err != nil {
				return err
			}
		}
	}
	for _, k := range b.Revisit {
		if parts[k] == nil && k.Commitment == "" {
			parts[k] = []*Part{}
			keys = append(keys, k)
		}
	}
	for _, k := range keys {
		if billed := b.Book.Billed(k); billed != nil {
			if err := b.adjust(k, parts[k], billed); err != nil {
				return err
			}
		}
	}
	return nil
}

// amount is what the part is charged: its part of the whole price.
func (p *Part) amount() (money.Rational, error) {
	if whole(p.Charge.Ratio) {
		return p.Result.Amount, nil
	}
	return p.Result.Amount.Mul(p.Charge.Ratio)
}

// whole says that a ratio leaves an amount as it is.
func whole(ratio money.Rational) bool { return ratio.Cmp(money.FromInt(1).Rational()) == 0 }

// base is a line of a charge without amount and kind.
func (b *builder) base(c *subscription.Charge) Line {
	l := Line{Price: c.Price.Key, Name: c.Price.Name, Meter: c.Price.Meter, Period: c.Service, AddOn: c.AddOn, Product: c.Price.Product}
	if l.Name == l.Price {
		l.Name = ""
	}
	if c.AddOn == "" && c.Plan != b.Plan {
		l.Plan = c.Plan
	}
	if c.Version != b.CatalogVersion {
		l.Version = c.Version
	}
	if !c.Period.Start.Equal(c.Service.Start) {
		l.Begins = c.Period.Start
	}
	for _, d := range c.Price.Filter {
		if l.Filter == nil {
			l.Filter = map[string]string{}
		}
		l.Filter[d.Name] = d.Value
	}
	if !whole(c.Ratio) {
		l.Ratio = c.Ratio.String()
	}
	return l
}

// full writes all lines of a part: what was used or owned, and what takes from it or adds to it.
func (b *builder) full(p *Part) error {
	base := b.base(&p.Charge)
	line := base
	line.Quantity, line.Credited, line.Kind = p.Quantity, p.Credited, UsageLine
	if !p.Charge.Price.Included.IsZero() {
		line.Included = p.Charge.Price.Included
	}
	if p.Charge.Price.Licensed() {
		line.Kind = FlatLine
	}
	var sum money.Rational
	for _, r := range p.Result.Lines {
		if r.Kind != price.UsageLine && r.Kind != price.FlatLine {
			continue
		}
		amount, err := p.share(r.Amount)
		if err == nil {
			sum, err = sum.Add(amount)
		}
		if err == nil && p.Charge.Price.Model != price.Flat {
			line.Tiers, err = withTier(line.Tiers, r, amount)
		}
		if err != nil {
			return fmt.Errorf("price %q: %w", line.Price, err)
		}
	}
	nothing := sum.IsZero() && (line.Kind == FlatLine || line.Quantity.IsZero())
	if nothing && !b.Preview && p.Result.Amount.IsZero() {
		return nil
	}
	if err := b.add(line, sum); err != nil {
		return err
	}
	of := b.last()
	for i, r := range p.Result.Lines {
		kind, ok := map[price.LineKind]LineKind{price.DiscountLine: DiscountLine, price.MaximumLine: MaximumLine, price.MinimumLine: MinimumLine}[r.Kind]
		if !ok || r.Amount.IsZero() {
			continue
		}
		amount, err := p.share(r.Amount)
		if err != nil {
			return fmt.Errorf("price %q: %w", line.Price, err)
		}
		extra := base
		extra.Kind, extra.Of, extra.Meter, extra.Filter, extra.Ratio = kind, of, "", nil, ""
		if kind == DiscountLine {
			extra.Source = "discount/" + strconv.Itoa(i) // so that two of them have ids of their own
		}
		if err := b.add(extra, amount); err != nil {
			return err
		}
	}
	return nil
}

// share is the charge's part of an amount.
func (p *Part) share(amount money.Rational) (money.Rational, error) {
	if whole(p.Charge.Ratio) {
		return amount, nil
	}
	return amount.Mul(p.Charge.Ratio)
}

// withTier adds one line of a rating to the tiers of an invoice's line. A tier's usage and its flat amount stand together.
func withTier(tiers []price.TierCharge, r price.Line, amount money.Rational) ([]price.TierCharge, error) {
	exact, _, err := amount.Decimal()
	if err != nil {
		return nil, err
	}
	at := len(tiers) - 1
	if at < 0 || tiers[at].Tier != r.Tier || r.Tier == 0 {
		tiers = append(tiers, price.TierCharge{Tier: r.Tier})
		at++
	}
	t := &tiers[at]
	if t.Amount, err = t.Amount.Add(exact); err != nil {
		return nil, err
	}
	if r.Kind == price.FlatLine {
		t.FlatAmount, err = t.FlatAmount.Add(exact)
		return tiers, err
	}
	t.UnitAmount = r.UnitAmount
	t.Quantity, err = t.Quantity.Add(r.Quantity)
	return tiers, err
}

// adjust writes the difference between what is expected under a key and what was billed, where there is one.
func (b *builder) adjust(k Key, parts []*Part, billed *Billed) error {
	difference, err := b.expected[k].Sub(billed.Amount)
	if err != nil {
		return err
	}
	var steps []step
	var quantity, credited money.Decimal
	for _, p := range parts {
		steps = append(steps, step{p.Charge.Service, p.Quantity})
		if quantity, err = quantity.Add(p.Quantity); err == nil {
			credited, err = credited.Add(p.Credited)
		}
		if err != nil {
			return err
		}
	}
	l := billed.First
	if len(parts) > 0 {
		l = b.base(&parts[len(parts)-1].Charge)
	} else {
		l = Line{Price: l.Price, Name: l.Name, Meter: l.Meter, Period: l.Period, Plan: l.Plan, AddOn: l.AddOn, Product: l.Product, Filter: l.Filter, Version: l.Version}
		if l.Plan == b.Plan || l.AddOn != "" {
			l.Plan = ""
		}
	}
	licensed := l.Meter == ""
	l.Kind, l.Of, l.Adjusts, l.Ratio = AdjustmentLine, billed.First.ID, billed.Invoice, ""
	in, delta, err := change(steps, billed.steps)
	if err != nil {
		return err
	}
	if licensed {
		l.Quantity = delta
	} else if l.Quantity, err = quantity.Sub(billed.Quantity); err == nil {
		l.Credited, err = credited.Sub(billed.Credited)
		in = hull(steps)
	}
	if err != nil {
		return err
	}
	if difference.IsZero() && (licensed || l.Quantity.IsZero() && l.Credited.IsZero()) {
		return nil
	}
	if in.Start.IsZero() {
		in = hull(append(steps, billed.steps...))
	}
	l.Period, l.Begins = in, time.Time{}
	if begins := time.UnixMicro(k.Start).UTC(); !begins.Equal(in.Start) {
		l.Begins = begins
	}
	l.Name = b.reason(&l, parts, difference)
	return b.add(l, difference)
}

// reason is what an adjustment says to the customer.
func (b *builder) reason(l *Line, parts []*Part, difference money.Rational) string {
	name := l.Name
	if name == "" {
		name = l.Price
	}
	switch {
	case l.Meter == "" && difference.Sign() < 0:
		return "Unused time of " + name
	case l.Meter == "":
		return "Change of " + name
	case len(parts) > 0 && parts[len(parts)-1].Charge.Due.After(b.Since):
		return "Further usage of " + name // the earlier part was billed within the period
	case l.Quantity.Sign() > 0:
		return "Late usage of " + name
	case l.Quantity.Sign() < 0:
		return "Corrected usage of " + name
	}
	return "Change of " + name
}

// commitments tops up, or takes off, the usage charges of billing periods.
func (b *builder) commitments() error {
	for _, c := range b.Commitments {
		var sum money.Rational
		var err error
		for _, k := range c.Keys {
			if sum, err = sum.Add(b.expected[k]); err != nil {
				return err
			}
		}
		for _, bound := range []struct {
			kind  LineKind
			text  string
			value *money.Decimal
			wants int
		}{{MaximumLine, "Maximum of ", c.Maximum, -1}, {MinimumLine, "Minimum of ", c.Minimum, 1}} {
			var expected money.Rational
			if bound.value != nil {
				gap, err := bound.value.Rational().Sub(sum)
				if err != nil {
					return err
				}
				if gap.Sign() == bound.wants {
					expected, sum = gap, bound.value.Rational()
				}
			}
			l := Line{Kind: bound.kind, Name: bound.text + c.Name, Period: c.Period}
			if billed := b.Book.Billed(Key{Start: c.Period.Start.UnixMicro(), Commitment: bound.kind}); billed != nil {
				l.Of, l.Adjusts = billed.First.ID, billed.Invoice
				if c.Name == "" {
					l.Name = billed.First.Name
				}
				if expected, err = expected.Sub(billed.Amount); err != nil {
					return err
				}
			}
			if expected.IsZero() {
				continue
			}
			if err := b.add(l, expected); err != nil {
				return err
			}
		}
	}
	return nil
}
