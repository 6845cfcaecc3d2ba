package document

import (
	"strings"

	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/money"
)

// figure is a line of the totals.
type figure struct {
	name, value string
	heavy       bool
}

// open is what is still to be paid: what is due less the payments.
func (d *Document) open() (money.Amount, error) {
	left := d.Due
	for _, pay := range d.Payments {
		var err error
		if left, err = left.Add(money.NewAmount(-pay.Amount.Minor(), d.Currency)); err != nil {
			return left, err
		}
	}
	return left, nil
}

// closing is below the lines: totals, how to pay, notes.
func (p *page) closing() {
	const step = lineHeight + 1
	totals, pay := p.totals(), p.payment()
	p.room(step*float64(max(len(totals), len(pay)+1)) + 2)
	begin := p.y
	width := p.width * 0.52
	x := margin + p.width - width
	for i, f := range totals {
		if f.heavy && i > 0 {
			p.line(p.y+0.2, x, x+width)
			p.y += 0.8
		}
		p.pen(body, f.heavy, ink)
		p.put(x, width*0.62, step, p.fit(p.text(f.name, partMax), width*0.62-gap), "L")
		p.squeeze(x+width*0.62, width*0.38, step, f.value, "R")
		p.y += step
	}
	below := p.y
	p.y = begin
	p.details(pay, p.width-width-8)
	p.y = max(p.y, below) + 5
	p.remarks()
}

// totals are the sums, in the order in which they follow from each other.
func (p *page) totals() []figure {
	d := &p.doc
	var out []figure
	if len(d.Taxes) > 0 || !d.Subtotal.Equal(d.Total) {
		name := "Subtotal"
		if d.Inclusive {
			name += ", tax included"
		}
		out = append(out, figure{name: name, value: amount(d.Subtotal)})
	}
	for i := range d.Taxes {
		t := &d.Taxes[i]
		name := TaxName(t) + " on " + amount(t.Base)
		if d.Inclusive {
			name = "Includes " + name
		}
		out = append(out, figure{name: name, value: amount(t.Amount)})
	}
	name := "Total"
	if d.Corrects != nil {
		name = "Total credited"
	}
	out = append(out, figure{name, sum(d.Total), true})
	if d.Corrects != nil || d.Status == invoice.Preview {
		return out
	}
	after := false
	if d.Balance.Minor() != 0 {
		out, after = append(out, figure{name: "Paid from your balance", value: thousands(money.NewAmount(-d.Balance.Minor(), d.Currency).String())}), true
	}
	for _, pay := range d.Payments {
		name := "Paid " + day(pay.At, d.Zone)
		if pay.Method != "" {
			name += ", " + pay.Method
		}
		out, after = append(out, figure{name: name, value: thousands(money.NewAmount(-pay.Amount.Minor(), d.Currency).String())}), true
	}
	left, err := d.open()
	switch {
	case err != nil, d.Status == invoice.Void:
	case d.Status == invoice.Paid:
		out = append(out, figure{"Amount due", sum(money.NewAmount(0, d.Currency)), true})
	case d.Total.Minor() < 0:
		out = append(out, figure{"Added to your balance", strings.Replace(sum(d.Total), "-", "", 1), true})
	case after, !left.Equal(d.Total):
		out = append(out, figure{"Amount due", sum(left), true})
	}
	return out
}

// payment says how to pay, as names with values; nothing where nothing is to be paid.
func (p *page) payment() [][2]string {
	d := &p.doc
	if left, err := d.open(); err != nil || left.Minor() <= 0 || d.Corrects != nil || d.Seller.IBAN == "" {
		return nil
	}
	switch d.Status {
	case invoice.Preview, invoice.Draft, invoice.Paid, invoice.Void:
		return nil
	case invoice.Finalized, invoice.PastDue, invoice.Uncollectible:
	}
	out := [][2]string{{"Payee", d.Seller.Name}, {"IBAN", spaced(d.Seller.IBAN)}, {"Reference", Number(d.Series, d.Number)}}
	if !d.DueAt.IsZero() {
		out = append(out, [2]string{"Pay by", day(d.DueAt, d.Zone)})
	}
	return out
}

// details prints how to pay.
func (p *page) details(pay [][2]string, width float64) {
	if len(pay) == 0 {
		return
	}
	const names = 20
	p.pen(body, true, ink)
	p.put(margin, width, lineHeight+1, "Payment by bank transfer", "L")
	p.y += lineHeight + 1
	for _, f := range pay {
		p.pen(body, false, quiet)
		p.put(margin, names, lineHeight+1, f[0], "L")
		p.pen(body, false, ink)
		p.squeeze(margin+names, width-names, lineHeight+1, p.fit(p.text(f[1], partMax), 2*(width-names)), "L")
		p.y += lineHeight + 1
	}
}

// spaced sets an IBAN in groups of four.
func spaced(iban string) string {
	plain := strings.ReplaceAll(iban, " ", "")
	var b strings.Builder
	for i, r := range []rune(plain) {
		if i > 0 && i%4 == 0 {
			b.WriteByte(' ')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// remarks are what the law or the seller wants to be said, and how to read the figures.
func (p *page) remarks() {
	d := &p.doc
	var list []string
	for _, t := range d.Taxes {
		switch {
		case t.ReverseCharge:
			list = append(list, "Reverse charge: the customer owes the tax ("+TaxName(&t)+").")
		case t.Exempt:
			list = append(list, "Exempt from tax: "+TaxName(&t)+".")
		}
	}
	if d.Corrects != nil && d.Corrects.Reason != "" {
		list = append(list, "Reason: "+d.Corrects.Reason)
	}
	if d.Note != "" {
		list = append(list, d.Note)
	}
	for _, remark := range list {
		p.paragraph(remark, body, ink)
	}
	p.paragraph("Dates in "+d.Zone.String()+". Each line is rounded once. "+d.ID, small, quiet)
}

// paragraph prints wrapped text over the whole width.
func (p *page) paragraph(s string, size float64, c colour) {
	p.pen(size, false, c)
	for _, l := range p.wrap(p.clean(s, noteMax), p.width) {
		p.room(lineHeight)
		p.pen(size, false, c)
		p.put(margin, p.width, lineHeight, l, "L")
		p.y += lineHeight
	}
	p.y += 1.5
}
