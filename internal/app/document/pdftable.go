package document

import (
	"strconv"

	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/money"
)

// Widths of the columns in millimetres; the description takes what is left.
const (
	numberWidth   = 9.0
	taxWidth      = 17.0
	quantityWidth = 31.0
	unitWidth     = 29.0
	amountWidth   = 29.0
	indent        = 4.0
	gap           = 2.5
)

// row is one printed line of the table.
type row struct {
	number, text, tax, quantity, unit, amount string

	indent float64
	heavy  bool
	fine   bool // small and quiet
	rule   bool // above
	keep   int  // how many rows after it stay on its page
}

// taxed says that lines name their tax.
func (p *page) taxed() bool { return len(p.doc.Taxes) > 0 }

// descriptionWidth is what the other columns leave.
func (p *page) descriptionWidth() float64 {
	w := p.width - numberWidth - quantityWidth - unitWidth - amountWidth
	if p.taxed() {
		w -= taxWidth
	}
	return w - gap
}

// table is all lines. Its head stands on each page that it comes to.
func (p *page) table() {
	p.tableHead()
	var rows []row
	for _, n := range grouped(p.doc.Lines) {
		rows = append(rows, p.rows(&n)...)
	}
	if len(rows) == 0 {
		rows = []row{{text: "No charges.", fine: true}}
	}
	for i := range rows {
		p.row(&rows[i])
	}
	p.y += 1
	p.line(p.y, margin, margin+p.width)
	p.y += 3
}

func (p *page) tableHead() {
	p.pen(small, true, quiet)
	p.cells(&row{number: "#", text: "Description", tax: "Tax", quantity: "Quantity", unit: "Unit price", amount: "Amount, " + p.doc.Currency.Code()})
	p.y += lineHeight + 1.4
	p.line(p.y, margin, margin+p.width)
	p.y += 1.2
}

// row prints one, on the next page where it and what it keeps do not fit.
func (p *page) row(r *row) {
	const above = 1.6
	height := lineHeight
	if r.rule {
		height += above
	}
	if p.room(height + float64(r.keep)*lineHeight) {
		p.tableHead()
	} else if r.rule {
		p.y += above
	}
	switch {
	case r.fine:
		p.pen(small, false, quiet)
	default:
		p.pen(body, r.heavy, ink)
	}
	p.cells(r)
	p.y += lineHeight
}

// cells prints a row's texts at the pen.
func (p *page) cells(r *row) {
	x := margin
	p.squeeze(x, numberWidth-2, lineHeight, r.number, "L")
	x += numberWidth
	p.put(x+r.indent, p.descriptionWidth()-r.indent, lineHeight, r.text, "L") // an overlong figure runs on into empty columns
	x += p.descriptionWidth() + gap
	points, _ := p.GetFontSize()
	heavy := r.heavy
	if heavy { // figures are in plain letters
		p.pen(points, false, ink)
	}
	if p.taxed() {
		p.squeeze(x, taxWidth-gap, lineHeight, r.tax, "R")
		x += taxWidth
	}
	for _, c := range []struct {
		text  string
		width float64
	}{{r.quantity, quantityWidth}, {r.unit, unitWidth}, {r.amount, amountWidth}} {
		p.squeeze(x+gap, c.width-gap, lineHeight, c.text, "R")
		x += c.width
	}
}

// rows are a line's, with its tiers and the lines under it.
func (p *page) rows(n *nested) []row {
	out := p.lineRows(&n.Line, nil)
	out[0].rule = true
	for i := range n.under {
		out = append(out, p.lineRows(&n.under[i], &n.Line)...)
	}
	out[0].keep = min(len(out)-1, 1)
	return out
}

// lineRows are one line's own: its name, wrapped, what is to be known of it, its tiers. above is the line that it is under.
func (p *page) lineRows(l, above *invoice.Line) []row {
	c := p.doc.Currency
	first := row{number: strconv.Itoa(l.Number), tax: p.taxOf(l), amount: amount(l.Rounded), heavy: above == nil}
	if above != nil {
		first.indent = indent
	}
	if !l.Quantity.IsZero() || l.Kind == invoice.UsageLine {
		first.quantity = count(l.Quantity)
	}
	u, flat := unitPrice(l)
	if flat {
		first.unit = cost(u, c)
	}
	p.pen(body, false, ink)
	long := p.overlong(&first)
	var out []row
	p.pen(body, first.heavy, ink)
	for i, t := range p.wrap(p.text(Title(l), nameMax), p.descriptionWidth()-first.indent) {
		r := row{text: t, indent: first.indent, heavy: first.heavy}
		if i == 0 {
			first.text = t
			r = first
		}
		out = append(out, r)
	}
	p.pen(small, false, quiet)
	if note := p.text(notes(l, above, p.doc.Zone, p.doc.Plan), noteMax); note != "" {
		for _, t := range p.wrap(note, p.width-numberWidth-amountWidth-first.indent) { // the columns beside it are empty
			out = append(out, row{text: t, indent: first.indent, fine: true})
		}
	}
	out = append(out, long...)
	if !flat {
		out = append(out, p.tierRows(l, first.indent+indent)...)
	}
	return out
}

// tierRows are a line's tiers.
func (p *page) tierRows(l *invoice.Line, in float64) []row {
	c := p.doc.Currency
	var out []row
	for _, t := range l.Tiers {
		name := "Charged" // by a price without tiers: packages, cells
		if t.Tier > 0 {
			name = "Tier " + strconv.Itoa(t.Tier)
		}
		r := row{
			text: name, quantity: count(t.Quantity), unit: cost(t.UnitAmount, c), amount: cost(t.Amount, c),
			indent: in, fine: true,
		}
		if !t.FlatAmount.IsZero() {
			r.text += ", flat " + cost(t.FlatAmount, c)
		}
		long := p.overlong(&r)
		out = append(append(out, r), long...)
	}
	return out
}

// overlong takes figures out of their columns that could not be read there, and gives them rows of their own.
func (p *page) overlong(r *row) []row {
	const least = 0.7 // of the usual size
	var out []row
	for _, f := range []struct {
		name  string
		text  *string
		width float64
	}{{"Quantity ", &r.quantity, quantityWidth}, {"Unit price ", &r.unit, unitWidth}, {"Amount ", &r.amount, amountWidth}} {
		if p.GetStringWidth(*f.text)*least <= f.width-gap {
			continue
		}
		out = append(out, row{text: f.name + *f.text, indent: r.indent, fine: true})
		*f.text = "below"
	}
	return out
}

// unitPrice is what a unit of a line costs, where that is one figure.
func unitPrice(l *invoice.Line) (money.Decimal, bool) {
	switch {
	case l.Kind != invoice.FlatLine && l.Kind != invoice.UsageLine, l.Ratio != "", l.Inexact, l.Quantity.Sign() <= 0:
		return money.Decimal{}, false
	case len(l.Tiers) == 1 && l.Tiers[0].FlatAmount.IsZero() && ofUnits(l):
		return l.Tiers[0].UnitAmount, true
	case len(l.Tiers) > 0:
		return money.Decimal{}, false
	}
	r, err := money.NewRational(l.Exact, l.Quantity)
	if err != nil {
		return money.Decimal{}, false
	}
	d, inexact, err := r.Decimal()
	return d, err == nil && !inexact
}

// ofUnits says whether the one thing that a line charges is its own units, and not packages of them or what is above a free amount.
func ofUnits(l *invoice.Line) bool {
	charged, err := l.Quantity.Sub(l.Included)
	if err == nil {
		charged, err = charged.Sub(l.Credited)
	}
	return err == nil && (charged.Equal(l.Tiers[0].Quantity) || l.Quantity.Equal(l.Tiers[0].Quantity))
}

// taxOf is a line's tax in a word.
func (p *page) taxOf(l *invoice.Line) string {
	text := ""
	for _, t := range taxesOf(p.doc.Taxes, l) {
		word := percent(t.Percent)
		switch {
		case t.ReverseCharge:
			word = "reverse"
		case t.Exempt:
			word = "exempt"
		}
		if text != "" {
			text += " + "
		}
		text += word
	}
	return text
}
