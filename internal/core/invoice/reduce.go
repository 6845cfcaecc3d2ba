package invoice

import (
	"fmt"
	"slices"

	"github.com/tallystick/tallystick/internal/core/money"
)

// Credit is what a grant of money pays for usage, all of it: what earlier invoices have of it comes off.
type Credit struct {
	GrantID, Name string
	Amount        *money.Decimal // never more than this in all; nil: the grant is refilled
	Pays          []Paying
}

// Paying is what a credit pays of charges of one product.
type Paying struct {
	Product string
	Amount  money.Rational
}

// Coupon is a redeemed coupon as it stands at a closing.
type Coupon struct {
	RedemptionID, Name string
	Percent, Amount    *money.Decimal // exactly one
	Prices             []string       // only lines of these; empty: all
	// Active: it takes from what is new. It takes a percentage from an adjustment wherever it took it from what is adjusted.
	Active bool
	Once   bool // Amount is due once, and what is left of it stays for later invoices
}

// credits writes one line for each grant and product: what the grant pays by now less what it paid before.
func (b *builder) credits() error {
	for i := range b.Credits {
		if err := b.credit(&b.Credits[i]); err != nil {
			return fmt.Errorf("grant %s: %w", b.Credits[i].GrantID, err)
		}
	}
	return nil
}

func (b *builder) credit(c *Credit) error {
	pays := map[string]money.Rational{}
	var order []string
	see := func(product string) {
		if !slices.Contains(order, product) {
			order = append(order, product)
		}
	}
	for _, p := range c.Pays {
		see(p.Product)
		sum, err := pays[p.Product].Add(p.Amount)
		if err != nil {
			return err
		}
		pays[p.Product] = sum
	}
	for _, product := range b.Book.productsOf(c.GrantID) {
		see(product)
	}
	for _, product := range order {
		amount := pays[product]
		if before := b.Book.sources[source{c.GrantID, product}]; before != nil {
			var err error
			if amount, err = amount.Sub(before.Exact); err != nil {
				return err
			}
		}
		if amount.IsZero() {
			continue
		}
		l := Line{Kind: CreditLine, Name: c.Name, Source: c.GrantID, Product: product, Period: b.Closing}
		if err := b.add(l, amount.Neg()); err != nil {
			return err
		}
		if err := b.bound(c); err != nil {
			return err
		}
	}
	return nil
}

// bound keeps roundings from paying more with the newest line than the grant has in all.
func (b *builder) bound(c *Credit) error {
	if c.Amount == nil {
		return nil
	}
	// Half of the smallest unit may be left in the grant: nobody is given it.
	all, err := money.Round(*c.Amount, b.Currency, money.HalfUp)
	if err != nil {
		return err
	}
	limit := all.Minor()
	if all.Decimal().Cmp(*c.Amount) > 0 {
		limit--
	}
	paid, err := b.Book.PaidBy(c.GrantID)
	if err != nil {
		return err
	}
	used := paid.Minor()
	newest := &b.inv.Lines[len(b.inv.Lines)-1]
	for i := range b.inv.Lines {
		if b.inv.Lines[i].Source == c.GrantID && b.inv.Lines[i].Kind == CreditLine {
			used -= b.inv.Lines[i].Rounded.Minor()
		}
	}
	if over := used - limit; over > 0 && newest.Rounded.Minor() < 0 {
		newest.Rounded = money.NewAmount(newest.Rounded.Minor()+min(over, -newest.Rounded.Minor()), b.Currency)
	}
	return nil
}

// productsOf are those that a grant or redemption paid for before, sorted.
func (b *Book) productsOf(id string) []string {
	var out []string
	for k := range b.sources {
		if k.id == id {
			out = append(out, k.product)
		}
	}
	slices.Sort(out)
	return out
}

// coupons take off what they may, one after the other, each from what is left.
func (b *builder) coupons() error {
	for i := range b.Coupons {
		if err := b.coupon(&b.Coupons[i]); err != nil {
			return fmt.Errorf("coupon %s: %w", b.Coupons[i].RedemptionID, err)
		}
	}
	return nil
}

// pot is what is left of the lines of one product that a coupon is on.
type pot struct {
	product string
	left    int64
}

func (b *builder) coupon(c *Coupon) error {
	pots := b.pots(c)
	if c.Percent != nil {
		for _, p := range pots {
			part, err := money.NewAmount(p.left, b.Currency).Decimal().Mul(*c.Percent)
			if err != nil {
				return err
			}
			amount, err := money.NewRational(part, money.FromInt(-100))
			if err != nil {
				return err
			}
			if err := b.takeOff(c, p.product, amount); err != nil {
				return err
			}
		}
		return nil
	}
	if c.Amount == nil || !c.Active {
		return nil
	}
	all, err := money.Round(*c.Amount, b.Currency, b.Rounding)
	if err != nil {
		return err
	}
	left := all.Minor()
	if c.Once {
		paid, err := b.Book.PaidBy(c.RedemptionID)
		if err != nil {
			return err
		}
		left -= paid.Minor()
	}
	for _, p := range pots {
		take := min(p.left, left)
		if take <= 0 {
			continue
		}
		left -= take
		if err := b.takeOff(c, p.product, money.NewAmount(-take, b.Currency).Decimal().Rational()); err != nil {
			return err
		}
	}
	return nil
}

// pots are what a coupon may take from, in the order of the lines: by product, since each may be taxed in another way.
func (b *builder) pots(c *Coupon) []pot {
	var pots []pot
	for i := range b.inv.Lines {
		l := &b.inv.Lines[i]
		applies := c.Active
		if l.Adjusts != "" && c.Percent != nil {
			applies = b.Book.Took(c.RedemptionID, l.Adjusts)
		}
		if reduces := l.Kind == CreditLine || l.Kind == CouponLine; !applies || !reduces && len(c.Prices) > 0 && !slices.Contains(c.Prices, l.Price) {
			continue
		}
		at := slices.IndexFunc(pots, func(p pot) bool { return p.product == l.Product })
		if at < 0 {
			pots = append(pots, pot{product: l.Product})
			at = len(pots) - 1
		}
		pots[at].left += l.Rounded.Minor()
	}
	return pots
}

// takeOff writes a coupon's line. One below zero takes from what is owed; of an adjustment downwards it gives back.
func (b *builder) takeOff(c *Coupon, product string, amount money.Rational) error {
	if amount.IsZero() {
		return nil
	}
	return b.add(Line{Kind: CouponLine, Name: c.Name, Source: c.RedemptionID, Product: product, Period: b.Closing}, amount)
}
