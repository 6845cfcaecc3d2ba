package document

import (
	"math/big"
	"slices"
	"strings"

	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/money"
)

// The categories of EN 16931 that occur.
const (
	standard = "S"
	zero     = "Z"
	exempt   = "E"
	reversed = "AE"
	outside  = "O" // no tax at all; then no line has another category
)

// vatGroup is the lines of equal taxes: one category and rate, as the standard wants it.
type vatGroup struct {
	taxes     []string // keys
	category  string
	percent   money.Decimal // of all taxes together
	reason    string
	base, tax money.Amount
}

// breakdown is what the standard wants to know of an invoice's taxes.
type breakdown struct {
	nets   []money.Amount // the lines without tax
	groups []vatGroup
	of     []int // the lines' groups
}

// ubl is a group's category. The reason of an exemption stands with the sums alone.
func (g *vatGroup) ubl(reason bool) ublCategory {
	out := ublCategory{ID: g.category, Scheme: schemeVAT}
	if g.category != outside {
		out.Percent = g.percent.String()
	}
	if reason {
		out.Reason = g.reason
	}
	return out
}

// untaxed says that nothing on the invoice is subject to a tax.
func (b *breakdown) untaxed() bool { return len(b.groups) == 1 && b.groups[0].category == outside }

// has says whether a category occurs.
func (b *breakdown) has(category string) bool {
	return slices.ContainsFunc(b.groups, func(g vatGroup) bool { return g.category == category })
}

// breakdown groups the lines by their taxes. Where prices contain the tax, each line gives up its share, so that the shares add up
// to the tax.
func (d *Document) breakdown() (b breakdown, err error) {
	if b.nets, err = d.nets(); err != nil {
		return b, err
	}
	place := map[string]int{}
	for i := range d.Lines {
		taxes := taxesOf(d.Taxes, &d.Lines[i])
		var keys []string
		for _, t := range taxes {
			keys = append(keys, t.Key)
		}
		name := strings.Join(keys, "\x00")
		at, ok := place[name]
		if !ok {
			g, err := d.group(taxes)
			if err != nil {
				return b, err
			}
			at = len(b.groups)
			place[name], b.groups = at, append(b.groups, g)
			b.groups[at].taxes = keys
		}
		b.of = append(b.of, at)
		if b.groups[at].base, err = b.groups[at].base.Add(b.nets[i]); err != nil {
			return b, err
		}
	}
	return b, d.spread(b.groups)
}

// group is one without figures. Several taxes of a line are one rate to the standard: a compound one is on top of those before it.
func (d *Document) group(taxes []invoice.Tax) (g vatGroup, err error) {
	none := money.NewAmount(0, d.Currency)
	g = vatGroup{base: none, tax: none, category: zero}
	if len(d.Taxes) == 0 {
		g.category, g.reason = outside, "Not subject to VAT"
	}
	for _, t := range taxes {
		switch {
		case t.ReverseCharge:
			g.category, g.reason = reversed, "Reverse charge"
		case t.Exempt:
			g.category, g.reason = exempt, TaxName(&t)
		default:
			if err := g.raise(&t); err != nil {
				return g, err
			}
		}
	}
	if g.category == zero && g.percent.Sign() > 0 {
		g.category = standard
	}
	return g, nil
}

// raise adds a tax's rate.
func (g *vatGroup) raise(t *invoice.Tax) (err error) {
	rate := t.Percent
	if t.Compound {
		const hundredths = 2
		onTop, err := g.percent.Mul(money.FromScaled(1, hundredths))
		if err != nil {
			return err
		}
		if onTop, err = onTop.Mul(t.Percent); err != nil {
			return err
		}
		if rate, err = rate.Add(onTop); err != nil {
			return err
		}
	}
	g.percent, err = g.percent.Add(rate)
	return err
}

// spread gives each tax's amount to the groups that it is of, by their bases.
func (d *Document) spread(groups []vatGroup) (err error) {
	for i := range d.Taxes {
		t := &d.Taxes[i]
		var weights []int64
		var at []int
		for j := range groups {
			if slices.Contains(groups[j].taxes, t.Key) {
				weights, at = append(weights, groups[j].base.Minor()), append(at, j)
			}
		}
		for j, part := range parts(t.Amount.Minor(), weights) {
			g := &groups[at[j]]
			if g.tax, err = g.tax.Add(money.NewAmount(part, d.Currency)); err != nil {
				return err
			}
		}
	}
	return nil
}

// nets are the lines without tax.
func (d *Document) nets() ([]money.Amount, error) {
	out := make([]money.Amount, len(d.Lines))
	for i := range d.Lines {
		out[i] = d.Lines[i].Rounded
	}
	if !d.Inclusive {
		return out, nil
	}
	for i := range d.Taxes {
		t := &d.Taxes[i]
		var weights []int64
		var at []int
		for j := range d.Lines {
			if slices.Contains(d.Lines[j].Taxes, t.Key) {
				weights, at = append(weights, d.Lines[j].Rounded.Minor()), append(at, j)
			}
		}
		for j, part := range parts(t.Amount.Minor(), weights) {
			var err error
			if out[at[j]], err = out[at[j]].Add(money.NewAmount(-part, d.Currency)); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// parts splits an amount by weights, which may be negative: each gets its share rounded down, and the largest remainders one more,
// ties by order. Of weights that add up to nothing the first gets all. Without weights there are no parts.
func parts(amount int64, weights []int64) []int64 {
	if len(weights) == 0 {
		return nil
	}
	sum := new(big.Int)
	for _, w := range weights {
		sum.Add(sum, big.NewInt(w))
	}
	out := make([]int64, len(weights))
	if sum.Sign() == 0 {
		out[0] = amount
		return out
	}
	type share struct {
		at   int
		rest *big.Int
	}
	shares := make([]share, len(weights))
	left := big.NewInt(amount)
	size := new(big.Int).Abs(sum)
	for i, w := range weights {
		q, rest := new(big.Int).Mul(big.NewInt(amount), big.NewInt(w)), new(big.Int)
		if sum.Sign() < 0 {
			q.Neg(q)
		}
		q.DivMod(q, size, rest) // rest is never negative
		out[i], shares[i] = q.Int64(), share{i, rest}
		left.Sub(left, q)
	}
	slices.SortStableFunc(shares, func(a, b share) int { return b.rest.Cmp(a.rest) })
	for i := range left.Int64() { // fewer than there are weights
		out[shares[i].at]++
	}
	return out
}
