package document

import (
	"strings"

	"github.com/tallystick/tallystick/internal/core/invoice"
)

// head is the first page's: what the document is, who sends it, who gets it, its facts, and what is to be paid.
func (p *page) head() {
	half := p.width / 2
	p.pen(22, true, ink)
	p.put(margin, half, 10, p.name(), "L")
	begin := p.y
	right := margin + half
	p.pen(11, true, ink)
	for _, l := range p.wrap(p.text(p.doc.Seller.Name, nameMax), half) {
		p.put(right, half, 5.4, l, "R")
		p.y += 5.4
	}
	p.party(right, half, p.sellerLines(), "R")
	p.y = max(p.y, begin+14) + 8

	begin = p.y
	p.pen(small, false, quiet)
	p.put(margin, half, lineHeight, "Billed to", "L")
	p.y += lineHeight + 0.6
	p.pen(10, true, ink)
	for _, l := range p.wrap(p.text(p.doc.buyer(), nameMax), half-8) {
		p.put(margin, half, 5, l, "L")
		p.y += 5
	}
	p.party(margin, half-8, p.buyerLines(), "L")
	below := p.y
	p.y = begin
	p.facts(right, half)
	p.y = max(p.y, below) + 6
	p.banner()
}

func (p *page) sellerLines() []string {
	out := Address(&p.doc.Seller)
	if p.doc.Seller.TaxID != "" {
		out = append(out, "Tax ID "+p.doc.Seller.TaxID)
	}
	if p.doc.Seller.Email != "" {
		out = append(out, p.doc.Seller.Email)
	}
	return out
}

func (p *page) buyerLines() []string {
	out := Address(&p.doc.Buyer)
	if p.doc.Buyer.TaxID != "" {
		out = append(out, "Tax ID "+p.doc.Buyer.TaxID)
	}
	if p.doc.Buyer.Email != "" {
		out = append(out, p.doc.Buyer.Email)
	}
	return out
}

// party writes the lines below a name.
func (p *page) party(x, width float64, lines []string, align string) {
	p.pen(body, false, quiet)
	for _, part := range lines {
		for _, l := range p.wrap(p.text(part, partMax), width) {
			p.put(x, width, lineHeight, l, align)
			p.y += lineHeight
		}
	}
}

// facts are names with values.
func (p *page) facts(x, width float64) {
	d := &p.doc
	list := [][2]string{{p.name() + " number", Number(d.Series, d.Number)}}
	if list[0][1] == "" {
		list[0] = [2]string{"Invoice", "without number yet"}
	}
	if !d.FinalizedAt.IsZero() {
		list = append(list, [2]string{"Date of issue", day(d.FinalizedAt, d.Zone)})
	}
	if d.Corrects != nil {
		what := d.Corrects.Number
		if !d.Corrects.IssuedAt.IsZero() {
			what += " of " + day(d.Corrects.IssuedAt, d.Zone)
		}
		list = append(list, [2]string{"Credits invoice", what})
	} else if !d.DueAt.IsZero() {
		list = append(list, [2]string{"Due date", day(d.DueAt, d.Zone)})
	}
	if span := days(d.Period, d.Zone); span != "" {
		list = append(list, [2]string{"Billing period", span})
	}
	list = append(list, [2]string{"Plan", d.Plan}, [2]string{"Customer", d.CustomerID}, [2]string{"Currency", d.Currency.Code()})
	const names = 27
	for _, f := range list {
		if f[1] == "" {
			continue
		}
		p.pen(body, false, quiet)
		p.put(x+8, names, lineHeight+0.6, f[0], "L")
		p.pen(body, false, ink)
		p.squeeze(x+8+names, width-8-names, lineHeight+0.6, p.fit(p.text(f[1], partMax), 2*(width-8-names)), "R")
		p.y += lineHeight + 0.6
	}
}

// banner is the one figure that the reader looks for.
func (p *page) banner() {
	const height = 14
	p.SetFillColor(shade.rgb())
	p.Rect(margin, p.y, p.width, height, "F")
	left, figure := p.verdict()
	p.pen(10, false, ink)
	p.put(margin+5, p.width/2, height, left, "L")
	p.pen(15, true, ink)
	p.squeeze(margin+p.width/2, p.width/2-5, height, figure, "R")
	p.y += height + 7
}

// verdict says in words what the figure at the top is.
func (p *page) verdict() (words, figure string) {
	d := &p.doc
	switch {
	case d.Corrects != nil:
		return "Amount credited", sum(d.Total)
	case d.Status == invoice.Void:
		return "Void: nothing is to be paid", sum(d.Total)
	case d.Status == invoice.Paid:
		return "Paid, thank you", sum(d.Total)
	case d.Status == invoice.Preview:
		return "Total so far", sum(d.Total)
	case d.Total.Minor() < 0:
		return "In your favour, added to your balance", strings.Replace(sum(d.Total), "-", "", 1)
	case d.Due.Minor() == 0:
		return "Nothing is to be paid", sum(d.Due)
	}
	words = "Amount due"
	if !d.DueAt.IsZero() {
		words += " by " + day(d.DueAt, d.Zone)
	}
	if open, err := d.open(); err == nil {
		return words, sum(open)
	}
	return words, sum(d.Due)
}
