package document

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/money"
)

// Codes of EN 16931.
const (
	customization  = "urn:cen.eu:en16931:2017"
	profile        = "urn:fdc:peppol.eu:2017:poacc:billing:01:1.0"
	codeInvoice    = "380"
	codeCreditNote = "381"
	codeTransfer   = "58"  // SEPA credit transfer
	codeUnit       = "C62" // one
	schemeVAT      = "VAT"
	schemeEmail    = "EM"
	standardDigits = 2 // amounts have no more
)

// UBL is the document for other programs: UBL 2.1 with the fields of EN 16931. A currency of more than two decimals cannot
// conform, and the document does not claim so. ErrIncomplete names what the standard demands and the invoice does not have;
// money.ErrCurrency.
func UBL(d Document) ([]byte, error) {
	whole, err := d.whole()
	if err != nil {
		return nil, err
	}
	taxes, err := whole.breakdown()
	if err != nil {
		return nil, fmt.Errorf("UBL of invoice %s: %w", d.ID, err)
	}
	if lacks := whole.lacks(&taxes); len(lacks) > 0 {
		return nil, fmt.Errorf("%w: %s", ErrIncomplete, strings.Join(lacks, ", "))
	}
	doc, err := whole.ubl(&taxes)
	if err != nil {
		return nil, fmt.Errorf("UBL of invoice %s: %w", d.ID, err)
	}
	var out bytes.Buffer
	out.WriteString(xml.Header)
	e := xml.NewEncoder(&out)
	e.Indent("", "  ")
	if err := e.Encode(doc); err != nil {
		return nil, fmt.Errorf("UBL of invoice %s: %w", d.ID, err)
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

// lacks names what the standard demands and the invoice does not have.
func (d *Document) lacks(b *breakdown) []string {
	var out []string
	for _, need := range []struct {
		name string
		ok   bool
	}{
		{"a number", d.Number != 0},
		{"a line", len(d.Lines) > 0},
		{"the seller's name", d.Seller.Name != ""},
		{"the seller's country", d.Seller.Country != ""},
		{"the seller's tax_id", d.Seller.TaxID != ""},
		{"the buyer's country", d.Buyer.Country != ""},
		{"the buyer's tax_id", !b.has(reversed) || d.Buyer.TaxID != ""},
	} {
		if !need.ok {
			out = append(out, need.name)
		}
	}
	return out
}

func (d *Document) ubl(b *breakdown) (*ublDocument, error) {
	out := &ublDocument{
		XMLName: xml.Name{Local: "Invoice"}, NS: nsInvoice, Aggregate: nsAggregate, Basic: nsBasic,
		ID: Number(d.Series, d.Number), IssueDate: d.date(d.issued()), InvoiceType: codeInvoice, Note: d.Note, Currency: d.Currency.Code(),
		Period: d.span(), Supplier: party(&d.Seller, d.Seller.Name, "", b.untaxed(), true),
		Customer: party(&d.Buyer, d.buyer(), d.CustomerID, b.untaxed(), false),
	}
	if d.Currency.Digits() <= standardDigits {
		out.Customization, out.Profile = customization, profile
	}
	d.payment(out)
	if d.Corrects != nil {
		out.XMLName.Local, out.NS, out.InvoiceType, out.CreditNoteType = "CreditNote", nsCreditNote, "", codeCreditNote
		out.Corrects = &ublReference{ID: d.Corrects.Number}
		if !d.Corrects.IssuedAt.IsZero() {
			out.Corrects.Date = d.date(d.Corrects.IssuedAt)
		}
		if out.Note == "" {
			out.Note = d.Corrects.Reason
		}
	}
	for _, g := range b.groups {
		out.TaxTotal.Parts = append(out.TaxTotal.Parts, ublTaxSubtotal{ublOf(g.base), ublOf(g.tax), g.ubl(true)})
	}
	if err := d.sums(out, b.nets); err != nil {
		return nil, err
	}
	for i := range d.Lines {
		line := d.ublLine(&d.Lines[i], b.nets[i])
		line.Item.Category = b.groups[b.of[i]].ubl(false)
		if d.Corrects != nil {
			line.Invoiced, line.Credited = nil, line.Invoiced
			out.CreditLines = append(out.CreditLines, line)
			continue
		}
		out.InvoiceLines = append(out.InvoiceLines, line)
	}
	return out, nil
}

// payment says when and how to pay.
func (d *Document) payment(out *ublDocument) {
	if d.Corrects != nil {
		return
	}
	if !d.DueAt.IsZero() {
		out.DueDate = d.date(d.DueAt)
	} else if d.Due.Minor() > 0 {
		out.Terms = &ublNote{"Due on receipt"}
	}
	if d.Seller.IBAN != "" && d.Due.Minor() > 0 {
		out.Means = &ublMeans{Code: codeTransfer, Reference: out.ID, Account: strings.ReplaceAll(d.Seller.IBAN, " ", "")}
	}
}

// sums are the totals. What the customer's balance paid, or took, is the difference of the total and what is due.
func (d *Document) sums(out *ublDocument, nets []money.Amount) (err error) {
	net := money.NewAmount(0, d.Currency)
	for _, n := range nets {
		if net, err = net.Add(n); err != nil {
			return err
		}
	}
	out.TaxTotal.Amount = ublOf(d.Tax)
	out.Sums = ublSums{Lines: ublOf(net), Exclusive: ublOf(net), Inclusive: ublOf(d.Total), Payable: ublOf(d.Total)}
	if d.Corrects != nil || d.Due.Equal(d.Total) {
		return nil
	}
	prepaid, err := d.Total.Add(money.NewAmount(-d.Due.Minor(), d.Currency))
	if err != nil {
		return err
	}
	out.Sums.Prepaid, out.Sums.Payable = new(ublOf(prepaid)), ublOf(d.Due)
	return nil
}

// ublLine is one line. A price is never negative in the standard, so what is taken off is a negative quantity.
func (d *Document) ublLine(l *invoice.Line, net money.Amount) ublLine {
	out := ublLine{
		ID: strconv.Itoa(l.Number), Net: ublOf(net), Item: ublItem{Name: Title(l), Description: description(l)},
	}
	if l.Price != "" {
		out.Item.Key = &ublKey{l.Price}
	}
	if out.Item.Name == "" {
		out.Item.Name = string(l.Kind)
	}
	if !l.Period.Start.IsZero() {
		out.Period = &ublPeriod{d.date(l.Period.Start), d.date(lastInstant(l.Period))}
	}
	if l.Ratio != "" {
		out.Note = l.Ratio + " of the full price"
	}
	quantity := l.Quantity.Abs()
	if quantity.IsZero() || (l.Kind != invoice.FlatLine && l.Kind != invoice.UsageLine) {
		quantity = money.FromInt(1)
	}
	out.Price = d.ublPrice(l, net, quantity)
	if net.Minor() < 0 {
		quantity = quantity.Neg()
	}
	out.Invoiced = &ublQuantity{codeUnit, quantity.String()}
	return out
}

// ublPrice is what a unit costs, where quantity times that gives the line's amount; else the amount for the whole quantity.
func (d *Document) ublPrice(l *invoice.Line, net money.Amount, quantity money.Decimal) ublPrice {
	code := d.Currency.Code()
	if unit, ok := unitPrice(l); ok && unit.Sign() >= 0 && !d.Inclusive {
		exact, err := unit.Mul(quantity)
		if err == nil {
			if rounded, err := money.Round(exact, d.Currency, money.HalfUp); err == nil && rounded.Equal(net) {
				return ublPrice{Amount: ublAmount{code, unit.String()}}
			}
		}
	}
	out := ublPrice{Amount: ublAmount{code, net.Decimal().Abs().String()}}
	if !quantity.Equal(money.FromInt(1)) {
		out.Base = &ublQuantity{codeUnit, quantity.String()}
	}
	return out
}

// description is what a line is made of: its filter, its tiers.
func description(l *invoice.Line) string {
	var parts []string
	if len(l.Filter) > 0 {
		parts = append(parts, filter(l.Filter))
	}
	if len(l.Tiers) > 1 {
		parts = append(parts, tiers(l.Tiers))
	}
	return strings.Join(parts, "; ")
}

// span is the days of all that is billed.
func (d *Document) span() *ublPeriod {
	first, last := d.Period.Start, lastInstant(d.Period)
	for i := range d.Lines {
		p := d.Lines[i].Period
		if p.Start.IsZero() {
			continue
		}
		if first.IsZero() || p.Start.Before(first) {
			first = p.Start
		}
		if end := lastInstant(p); end.After(last) {
			last = end
		}
	}
	if first.IsZero() {
		return nil
	}
	return &ublPeriod{d.date(first), d.date(last)}
}

// date is a day in the customer's zone, as XML has it.
func (d *Document) date(t time.Time) string { return t.In(d.Zone.Location()).Format(time.DateOnly) }

func ublOf(a money.Amount) ublAmount { return ublAmount{a.Currency().Code(), a.String()} }

// party is a seller or buyer. A tax number that begins with no country is a registration, not a VAT number; outside of VAT it is
// only a company's number.
func party(p *invoice.Party, name, number string, untaxed, seller bool) ublParty {
	out := ublParty{
		Legal: ublLegal{Name: name}, Address: ublAddress{p.Street, p.City, p.PostalCode, p.Region, p.Country},
	}
	if number != "" {
		out.Number = &ublKey{number}
	}
	if p.Email != "" {
		out.Contact, out.Endpoint = &ublContact{p.Email}, &ublID{schemeEmail, p.Email}
	}
	switch {
	case p.TaxID == "":
	case untaxed, !seller && !national(p.TaxID):
		out.Legal.ID = p.TaxID
	case national(p.TaxID):
		out.Tax = &ublTaxParty{p.TaxID, schemeVAT}
	default:
		out.Tax, out.Legal.ID = &ublTaxParty{p.TaxID, "TAX"}, p.TaxID
	}
	return out
}

// national says that a number begins with a country's two letters.
func national(id string) bool {
	return len(id) > 2 && id[0] >= 'A' && id[0] <= 'Z' && id[1] >= 'A' && id[1] <= 'Z'
}
