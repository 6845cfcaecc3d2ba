package document

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"codeberg.org/go-pdf/fpdf"

	"github.com/tallystick/tallystick/internal/core/invoice"
)

// Measures of a page in millimetres, of letters in points.
const (
	margin     = 18.0
	top        = 16.0
	foot       = 20.0 // kept free at the bottom
	lineHeight = 4.4
	body       = 9.0
	small      = 7.8
	family     = "noto"
)

// Bounds of what is printed, in characters. Longer ones end in an ellipsis; the other forms have them whole.
const (
	nameMax = 300
	partMax = 120 // a line of an address, a cell
	noteMax = 4000
)

// colour is 0xRRGGBB.
type colour uint32

const (
	ink   colour = 0x111827
	quiet colour = 0x606875
	rule  colour = 0xcbd0d8
	shade colour = 0xf4f5f7
	mark  colour = 0xeceef2
)

func (c colour) rgb() (r, g, b int) { return int(c >> 16 & 0xff), int(c >> 8 & 0xff), int(c & 0xff) }

// page draws a document. Its pen goes down from y; what does not fit begins a new page.
type page struct {
	*fpdf.Fpdf
	doc    Document
	has    *unicode.RangeTable // what can be printed
	total  int                 // pages in all
	width  float64             // between the margins
	bottom float64             // where the foot begins
	y      float64
}

// PDF is the document for people: A4, in North America Letter. The same document gives the same bytes. money.ErrCurrency.
func PDF(d Document) ([]byte, error) {
	whole, err := d.whole()
	if err != nil {
		return nil, err
	}
	p := draw(whole, 1)
	if n := p.PageCount(); n > 1 { // the feet name the number of pages
		p = draw(whole, n)
	}
	var out bytes.Buffer
	if err := p.Output(&out); err != nil {
		return nil, fmt.Errorf("PDF of invoice %s: %w", d.ID, err)
	}
	return out.Bytes(), nil
}

// draw draws all pages, with so many in the feet.
func draw(d Document, pages int) *page {
	size := "A4"
	switch d.Seller.Country {
	case "US", "CA", "MX":
		size = "Letter"
	}
	p := &page{Fpdf: fpdf.New("P", "mm", size, ""), doc: d, has: printable(), total: pages}
	p.AddUTF8FontFromBytes(family, "", []byte(regular))
	p.AddUTF8FontFromBytes(family, "B", []byte(bold))
	p.SetAutoPageBreak(false, 0)
	p.SetMargins(margin, top, margin)
	p.SetCellMargin(0)
	w, h := p.GetPageSize()
	p.width, p.bottom = w-2*margin, h-foot
	p.meta()
	p.next()
	p.head()
	p.table()
	p.closing()
	return p
}

// meta sets what makes the bytes depend on nothing but the document.
func (p *page) meta() {
	at := p.doc.issued().UTC()
	if at.IsZero() {
		at = time.Unix(0, 0).UTC()
	}
	p.SetCatalogSort(true)
	p.SetCreationDate(at)
	p.SetModificationDate(at)
	p.SetProducer("Tallystick", true)
	p.SetLang("en")
	p.SetTitle(p.text(strings.TrimSpace(p.name()+" "+Number(p.doc.Series, p.doc.Number)), nameMax), true)
	p.SetAuthor(p.text(p.doc.Seller.Name, nameMax), true)
}

// name is what the document is.
func (p *page) name() string {
	switch {
	case p.doc.Corrects != nil:
		return "Credit note"
	case p.doc.Status == invoice.Preview:
		return "Invoice preview"
	case p.doc.Status == invoice.Draft:
		return "Draft invoice"
	}
	return "Invoice"
}

// next begins a page: the mark below everything, the foot, and from the second page on what the first one's head says.
func (p *page) next() {
	p.AddPage()
	p.watermark()
	p.foot()
	p.y = top
	if p.PageNo() == 1 {
		return
	}
	p.pen(small, false, quiet)
	left := p.text(strings.TrimSpace(p.name()+" "+Number(p.doc.Series, p.doc.Number)), partMax)
	p.put(margin, p.width/2, lineHeight, left, "L")
	p.put(margin+p.width/2, p.width/2, lineHeight, p.fit(p.text(p.doc.buyer(), partMax), p.width/2), "R")
	p.y += 8
}

// watermark says across the page what state the document is in, where that changes what it is worth.
func (p *page) watermark() {
	word := ""
	switch p.doc.Status {
	case invoice.Preview:
		word = "PREVIEW"
	case invoice.Draft:
		word = "DRAFT"
	case invoice.Void:
		word = "VOID"
	case invoice.Paid:
		word = "PAID"
	case invoice.Finalized, invoice.PastDue, invoice.Uncollectible:
		return
	}
	const size, angle = 110, 52
	w, h := p.GetPageSize()
	p.pen(size, true, mark)
	p.TransformBegin()
	p.TransformRotate(angle, w/2, h/2)
	p.Text(w/2-p.GetStringWidth(word)/2, h/2+12, word)
	p.TransformEnd()
}

// foot is the seller and the page's number.
func (p *page) foot() {
	_, h := p.GetPageSize()
	p.line(h-15, margin, margin+p.width)
	p.pen(small, false, quiet)
	p.y = h - 13
	s := p.doc.Seller
	left := p.text(s.Name, partMax)
	for _, part := range []string{s.TaxID, s.Email} {
		if part != "" {
			left = strings.TrimPrefix(left+"  ·  "+p.text(part, partMax), "  ·  ")
		}
	}
	const number = 30
	p.put(margin, p.width-number, lineHeight, p.fit(left, p.width-number), "L")
	p.put(margin+p.width-number, number, lineHeight, "Page "+strconv.Itoa(p.PageNo())+" of "+strconv.Itoa(p.total), "R")
}

// room makes sure that so many millimetres fit below; else it begins a page and says so.
func (p *page) room(height float64) (fresh bool) {
	if p.y+height <= p.bottom {
		return false
	}
	p.next()
	return true
}

// pen chooses letters.
func (p *page) pen(size float64, heavy bool, c colour) {
	style := ""
	if heavy {
		style = "B"
	}
	p.SetFont(family, style, size)
	p.SetTextColor(c.rgb())
}

// put writes one line into a box at (x, y).
func (p *page) put(x, width, height float64, s, align string) {
	p.SetXY(x, p.y)
	p.CellFormat(width, height, s, "", 0, align+"M", false, 0, "")
}

// squeeze is put in smaller letters where the text is wider than the box: figures are never cut.
func (p *page) squeeze(x, width, height float64, s, align string) {
	points, _ := p.GetFontSize()
	if need := p.GetStringWidth(s); need > width {
		p.SetFontSize(points * width / need)
		defer p.SetFontSize(points)
	}
	p.put(x, width, height, s, align)
}

// line draws a rule.
func (p *page) line(y, from, to float64) {
	p.SetDrawColor(rule.rgb())
	p.SetLineWidth(0.2)
	p.Line(from, y, to, y)
}

// fit cuts a text to a width, with an ellipsis.
func (p *page) fit(s string, width float64) string {
	if p.GetStringWidth(s) <= width {
		return s
	}
	runes := []rune(s)
	for len(runes) > 0 && p.GetStringWidth(string(runes)+"…") > width {
		runes = runes[:len(runes)-1]
	}
	return string(runes) + "…"
}

// wrap breaks a text into lines of a width: between words, in a word where it alone is too wide.
func (p *page) wrap(s string, width float64) []string {
	var out []string
	for paragraph := range strings.SplitSeq(s, "\n") {
		line := ""
		for word := range strings.FieldsFuncSeq(paragraph, func(r rune) bool { return r == ' ' || r == '\t' }) {
			if line != "" && p.GetStringWidth(line+" "+word) <= width {
				line += " " + word
				continue
			}
			if line != "" {
				out = append(out, line)
			}
			line = ""
			for _, r := range word {
				if line != "" && p.GetStringWidth(line+string(r)) > width {
					out = append(out, line)
					line = ""
				}
				line += string(r)
			}
		}
		out = append(out, line)
	}
	return out
}
