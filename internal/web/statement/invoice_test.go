package statement

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/document"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
)

func euros(minor int64) money.Amount { return money.NewAmount(minor, money.MustCurrency("EUR")) }

// issued has lines of several kinds, a tax, a balance and a payment.
func issued() document.Document {
	october := period.Interval{Start: time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC), End: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)}
	return document.Document{Zone: period.MustZone("UTC"), Invoice: invoice.Invoice{
		ID: "inv_1", Number: 12, Series: "INV", CustomerID: "cus_1", Plan: "pro", Status: invoice.Finalized, Currency: money.MustCurrency("EUR"), Period: october,
		FinalizedAt: october.End, DueAt: october.End.AddDate(0, 0, 14), Note: "Thank you.",
		Seller: invoice.Party{Name: "Nordwind GmbH", City: "Hamburg", Country: "DE", TaxID: "DE123456789"}, Buyer: invoice.Party{Name: "Acme & Söhne", Country: "NL"},
		Lines: []invoice.Line{
			{ID: "iln_1", Number: 1, Kind: invoice.UsageLine, Price: "calls", Meter: "api_calls", Period: october, Quantity: dec("31250"), Included: dec("10000"), Credited: dec("250"), Filter: map[string]string{"region": "eu"}, Exact: dec("8.4"), Rounded: euros(840), Taxes: []string{"vat"}},
			{ID: "iln_2", Number: 2, Kind: invoice.DiscountLine, Price: "calls", Period: october, Of: "iln_1", Exact: dec("-0.84"), Rounded: euros(-84), Taxes: []string{"vat"}},
			{ID: "iln_3", Number: 3, Kind: invoice.FlatLine, Price: "platform", Name: "Platform fee", Plan: "basic", Period: october, Quantity: dec("1"), Ratio: "12/31", Exact: dec("20"), Rounded: euros(2000), Taxes: []string{"vat"}},
			{ID: "iln_4", Number: 4, Kind: invoice.CouponLine, Name: "Spring", Exact: dec("-5"), Rounded: euros(-500), Taxes: []string{"vat"}},
		},
		Subtotal: euros(2256), Taxes: []invoice.Tax{{Key: "vat", Name: "VAT", Percent: dec("19"), Base: euros(2256), Amount: euros(429)}}, Tax: euros(429),
		Total: euros(2685), Balance: euros(685), Due: euros(2000),
	}, Payments: []document.Payment{{At: october.End, Method: "bank transfer", Amount: euros(100)}}}
}

func render(t *testing.T, d document.Document, now time.Time, root Root, customer string) string {
	t.Helper()
	var out bytes.Buffer
	if err := Document(d, now, root, customer).Render(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestDocumentPage(t *testing.T) {
	t.Parallel()
	d := issued()
	page := render(t, d, d.FinalizedAt, "", "acme")
	text := strings.Join(strings.Fields(regexp.MustCompile(`<[^>]*>`).ReplaceAllString(page, " ")), " ")
	for _, want := range []string{
		"Invoice INV-12", "open", "due 15 Nov 2026", "Nordwind GmbH", "Tax ID DE123456789", "Acme &amp; Söhne", "calls (api calls)", "region: eu", "included", "paid with credits",
		"Discount: calls", "of line 1", "Platform fee", "12/31 of the full price", "plan basic", "Spring", "Subtotal", "VAT 19 % on €22.56", "From the balance", "−€6.85",
		"bank transfer", "Thank you.", "UBL (XML)",
	} {
		if !strings.Contains(text, want) && !strings.Contains(text, strings.ReplaceAll(want, " %", "\u00a0%")) {
			t.Errorf("%q is not on the page:\n%s", want, text)
		}
	}
	for _, want := range []string{`data-test="bill-total" data-value="26.85"`, `data-test="bill-due" data-value="20.00"`, `href="/invoices/inv_1/pdf"`, `href="/invoices/inv_1/lines/2"`} {
		if !strings.Contains(page, want) {
			t.Errorf("%s is not on the page", want)
		}
	}
	if portal := render(t, d, d.FinalizedAt, "/portal", ""); strings.Contains(portal, "UBL") || !strings.Contains(portal, `href="/portal/invoices/inv_1/pdf"`) {
		t.Error("the portal has another set of files")
	}
}

func TestStatusWords(t *testing.T) {
	t.Parallel()
	d := issued()
	for _, tt := range []struct {
		status     invoice.Status
		due        int64
		after      int
		text, tone string
	}{
		{invoice.Finalized, 2000, 1, "open", Notice},
		{invoice.Finalized, 2000, 15, "overdue", Bad},
		{invoice.Finalized, 0, 15, "issued", "plain"},
		{invoice.Paid, 2000, 15, "paid", Good},
		{invoice.Void, 2000, 15, "void", "plain"},
		{invoice.Uncollectible, 2000, 15, "uncollectible", Bad},
	} {
		inv := d.Invoice
		inv.Status, inv.Due = tt.status, euros(tt.due)
		now := inv.FinalizedAt.AddDate(0, 0, tt.after)
		if text, tone := statusText(inv, now), statusTone(inv, now); text != tt.text || tone != tt.tone {
			t.Errorf("%s with %d due after %d days: %s %s, want %s %s", tt.status, tt.due, tt.after, text, tone, tt.text, tt.tone)
		}
	}
}
