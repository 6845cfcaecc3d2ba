package document_test

import (
	"encoding/xml"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/tallystick/tallystick/internal/app/document"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/money"
)

// ublRead is what the rules of EN 16931 look at. It is read without the types that write it.
type ublRead struct {
	Lines []struct {
		Net      string `xml:"LineExtensionAmount"`
		Invoiced string `xml:"InvoicedQuantity"`
		Price    string `xml:"Price>PriceAmount"`
		Base     string `xml:"Price>BaseQuantity"`
		Category string `xml:"Item>ClassifiedTaxCategory>ID"`
		Percent  string `xml:"Item>ClassifiedTaxCategory>Percent"`
	} `xml:"InvoiceLine"`
	Tax   string `xml:"TaxTotal>TaxAmount"`
	Parts []struct {
		Base     string `xml:"TaxableAmount"`
		Amount   string `xml:"TaxAmount"`
		Category string `xml:"TaxCategory>ID"`
		Percent  string `xml:"TaxCategory>Percent"`
		Reason   string `xml:"TaxCategory>TaxExemptionReason"`
	} `xml:"TaxTotal>TaxSubtotal"`
	Sums struct {
		Lines     string `xml:"LineExtensionAmount"`
		Exclusive string `xml:"TaxExclusiveAmount"`
		Inclusive string `xml:"TaxInclusiveAmount"`
		Prepaid   string `xml:"PrepaidAmount"`
		Payable   string `xml:"PayableAmount"`
	} `xml:"LegalMonetaryTotal"`
}

// number is a figure of a document; absent ones are 0.
func number(s string) money.Decimal {
	if s == "" {
		return money.Decimal{}
	}
	return dec(s)
}

func plus(a, b money.Decimal) money.Decimal {
	out, err := a.Add(b)
	if err != nil {
		panic(err)
	}
	return out
}

func times(a, b money.Decimal) money.Decimal {
	out, err := a.Mul(b)
	if err != nil {
		panic(err)
	}
	return out
}

// broken lists the rules of EN 16931 that a document breaks. half is half of the currency's minor unit:
// what a rounding may change; slack is by how much a rate's tax may differ.
func broken(b []byte, half, slack money.Decimal) (out []string) {
	var u ublRead
	if err := xml.Unmarshal(b, &u); err != nil {
		return []string{err.Error()}
	}
	want := func(rule string, got, want, by money.Decimal) {
		if plus(got, want.Neg()).Abs().Cmp(by) > 0 {
			out = append(out, fmt.Sprintf("%s: %s, want %s", rule, got, want))
		}
	}
	var none, lines, taxes money.Decimal
	bases := map[string]money.Decimal{}
	for i, l := range u.Lines {
		lines = plus(lines, number(l.Net))
		bases[l.Category+l.Percent] = plus(bases[l.Category+l.Percent], number(l.Net))
		if number(l.Price).Sign() < 0 {
			out = append(out, fmt.Sprintf("BR-27: line %d has a price of %s", i+1, l.Price))
		}
		base := dec("1")
		if l.Base != "" {
			base = dec(l.Base)
		}
		if base.Sign() <= 0 {
			out = append(out, "PEPPOL-R121: a base quantity of "+l.Base)
		}
		want(fmt.Sprintf("PEPPOL-R120: line %d", i+1), times(number(l.Net), base), times(number(l.Invoiced), number(l.Price)), times(base, half))
	}
	for _, p := range u.Parts {
		taxes = plus(taxes, number(p.Amount))
		want("BR-S-08 "+p.Category, number(p.Base), bases[p.Category+p.Percent], none)
		delete(bases, p.Category+p.Percent)
		want("BR-CO-17 "+p.Percent, number(p.Amount), times(times(number(p.Base), number(p.Percent)), dec("0.01")), slack)
		if taxed := p.Category == "S" || p.Category == "Z"; taxed == (p.Reason != "") {
			out = append(out, "BR-E-10: category "+p.Category+" with the reason "+p.Reason)
		}
		if p.Category == "O" && len(u.Parts) > 1 {
			out = append(out, "BR-O-11: O beside others")
		}
		if (p.Category == "S") != (number(p.Percent).Sign() > 0) {
			out = append(out, "BR-S-05: "+p.Category+" at "+p.Percent)
		}
	}
	if len(bases) > 0 {
		out = append(out, fmt.Sprintf("BR-CO-18: no sum of %v", bases))
	}
	want("BR-CO-10", number(u.Sums.Lines), lines, none)
	want("BR-CO-13", number(u.Sums.Exclusive), lines, none)
	want("BR-CO-14", number(u.Tax), taxes, none)
	want("BR-CO-15", number(u.Sums.Inclusive), plus(number(u.Sums.Exclusive), number(u.Tax)), none)
	want("BR-CO-16", number(u.Sums.Payable), plus(number(u.Sums.Inclusive), number(u.Sums.Prepaid).Neg()), none)
	return out
}

func TestRulesOfEN16931(t *testing.T) {
	t.Parallel()
	for name, d := range samples() {
		if d.Corrects != nil || d.Number == 0 || name == "one" || name == "huge" { // its products do not fit
			continue
		}
		b, err := document.UBL(d)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		half := dec("0.005")
		if d.Currency.Digits() == 0 {
			half = dec("0.5")
		}
		slack := half
		if d.Inclusive { // the tax was rounded from prices with it
			slack = times(half, dec("2"))
		}
		for _, rule := range broken(b, half, slack) {
			t.Errorf("%s breaks %s", name, rule)
		}
	}
}

// TestRulesOfRandomInvoices draws lines and taxes, prices with and without tax in them, and what the balance pays.
func TestRulesOfRandomInvoices(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		inv := in("EUR")
		keys := []string{"a", "b", "e", "r"}
		for range rapid.IntRange(1, 12).Draw(r, "lines") {
			l := invoice.Line{
				Kind: rapid.SampledFrom([]invoice.LineKind{invoice.UsageLine, invoice.FlatLine, invoice.DiscountLine, invoice.CouponLine}).Draw(r, "kind"), Price: "p", Period: october(),
				Quantity: money.FromScaled(rapid.Int64Range(0, 1e9).Draw(r, "quantity"), 3), Exact: money.FromScaled(rapid.Int64Range(-1e9, 1e9).Draw(r, "exact"), 5),
			}
			if key := rapid.SampledFrom(append(keys, "")).Draw(r, "tax"); key != "" {
				l.Taxes = []string{key}
			}
			inv.Lines = append(inv.Lines, l)
		}
		if rapid.Bool().Draw(r, "taxed") {
			inv.Taxes = []invoice.Tax{
				{Key: "a", Name: "A", Percent: money.FromScaled(rapid.Int64Range(1, 3000).Draw(r, "rate"), 2)},
				{Key: "b", Name: "B", Percent: dec("7")},
				{Key: "e", Name: "E", Exempt: true},
				{Key: "r", Name: "R", ReverseCharge: true},
			}
		}
		inv.Balance = eur(rapid.Int64Range(0, 1e6).Draw(r, "balance"))
		total(&inv)
		d := document.Document{Invoice: inv, Zone: berlin()}
		b, err := document.UBL(d)
		if err != nil {
			r.Fatal(err)
		}
		for _, rule := range broken(b, dec("0.005"), dec("0.005")) {
			r.Errorf("breaks %s", rule)
		}
	})
}
