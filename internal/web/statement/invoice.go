package statement

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/app/document"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/web/ui"
)

// Document is an issued invoice with what stands beside it.
func (s Sources) Document(ctx context.Context, inv invoice.Invoice) (document.Document, error) {
	d := document.Document{Invoice: inv}
	if c, ok := s.Govern.Customer(inv.CustomerID); ok {
		d.Zone = c.Zone
	}
	if s.Collect == nil {
		return d, nil
	}
	if err := s.Collect.Beside(ctx, &d); err != nil {
		return d, fmt.Errorf("standing of invoice %s: %w", inv.ID, err)
	}
	return d, nil
}

// total is a sum below the lines; test names it for tests.
type total struct {
	name, test string
	amount     money.Amount
}

// totals are the sums of an invoice, in the order in which they follow from each other.
func totals(inv invoice.Invoice) []total {
	var out []total
	if len(inv.Taxes) > 0 {
		name := "Subtotal"
		if inv.Inclusive {
			name += ", tax included"
		}
		out = append(out, total{name, "bill-subtotal", inv.Subtotal})
	}
	for i := range inv.Taxes {
		name := document.TaxName(&inv.Taxes[i]) + " on " + ui.Amount(inv.Taxes[i].Base)
		if inv.Inclusive {
			name = "includes " + name
		}
		out = append(out, total{name, "bill-tax", inv.Taxes[i].Amount})
	}
	out = append(out, total{"Total", "bill-total", inv.Total})
	if inv.Balance.Minor() != 0 {
		out = append(out, total{"From the balance", "bill-balance", money.NewAmount(-inv.Balance.Minor(), inv.Currency)})
	}
	if inv.Due.Currency() == inv.Currency && !inv.Due.Equal(inv.Total) {
		out = append(out, total{"Due", "bill-due", inv.Due})
	}
	return out
}

// lineNotes say what else is to be known of a line.
func lineNotes(l invoice.Line, inv invoice.Invoice, z period.Zone) []string {
	var out []string
	if !l.Period.Start.IsZero() {
		out = append(out, ui.Span(l.Period, z))
	}
	if at := slices.IndexFunc(inv.Lines, func(other invoice.Line) bool { return other.ID == l.Of }); l.Of != "" && at >= 0 {
		out = append(out, "of line "+ui.Int(int64(at+1)))
	}
	if l.Ratio != "" {
		out = append(out, l.Ratio+" of the full price")
	}
	if l.Plan != "" && l.Plan != inv.Plan {
		out = append(out, "plan "+l.Plan)
	}
	for _, name := range sortedKeys(l.Filter) {
		out = append(out, name+": "+l.Filter[name])
	}
	if l.Included.Sign() > 0 {
		out = append(out, ui.Count(l.Included)+" included")
	}
	if l.Credited.Sign() > 0 {
		out = append(out, ui.Count(l.Credited)+" paid with credits")
	}
	if l.Adjusts != "" {
		out = append(out, "adjusts "+l.Adjusts)
	}
	return out
}

func sortedKeys(m map[string]string) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// counted says that a line's quantity means something.
func counted(l invoice.Line) bool {
	return l.Kind == invoice.UsageLine || !l.Quantity.IsZero()
}

// kindText says what a line without usage is.
func kindText(l invoice.Line) string {
	switch l.Kind {
	case invoice.FlatLine:
		return "A flat line charges one amount for the period"
	case invoice.DiscountLine:
		return "A discount takes a part of another line off"
	case invoice.MaximumLine:
		return "A maximum takes off what is above it"
	case invoice.MinimumLine:
		return "A minimum adds what is missing to it"
	case invoice.CreditLine:
		return "A credit pays a part of the invoice"
	case invoice.CouponLine:
		return "A coupon takes a part of the invoice off"
	case invoice.AdjustmentLine:
		return "An adjustment changes what an earlier invoice billed"
	case invoice.UsageLine:
	}
	return "The line charges usage"
}

// open says that something is still to be paid.
func open(inv invoice.Invoice) bool {
	return inv.Status == invoice.Finalized && inv.Due.Minor() > 0
}

// statusText is an invoice's state in a word.
func statusText(inv invoice.Invoice, now time.Time) string {
	switch {
	case inv.Status != invoice.Finalized:
		return string(inv.Status)
	case !open(inv):
		return "issued"
	case !inv.DueAt.IsZero() && now.After(inv.DueAt):
		return "overdue"
	}
	return "open"
}

func statusTone(inv invoice.Invoice, now time.Time) string {
	switch statusText(inv, now) {
	case string(invoice.Paid):
		return Good
	case "overdue", string(invoice.Uncollectible):
		return Bad
	case "open":
		return Notice
	}
	return "plain"
}

// closedPeriod names the period that an invoice closed; the one at the subscription's start closed none.
func closedPeriod(inv invoice.Invoice, z period.Zone) string {
	if inv.Period.Empty() {
		return "at the start, " + ui.Day(inv.Period.Start, z)
	}
	return ui.Span(inv.Period, z)
}

// lineText names what a line is for.
func lineText(l invoice.Line, unit string) string {
	switch {
	case l.Name != "", l.Kind != invoice.UsageLine && l.Kind != invoice.FlatLine:
		return document.Title(&l)
	case l.Kind == invoice.FlatLine || unit == "":
		return ui.Words(l.Price)
	case unit == ui.Words(l.Price):
		return unit
	}
	return ui.Words(l.Price) + " (" + unit + ")"
}

// invoiceName is how people call it.
func invoiceName(inv invoice.Invoice) string {
	if inv.Number == 0 {
		return "Bill so far"
	}
	if inv.Series == "" {
		return "Invoice " + ui.Int(inv.Number)
	}
	return "Invoice " + strings.TrimSpace(document.Number(inv.Series, inv.Number))
}

// exactText is a line's amount without rounding; of one that does not end, as many decimals as help to check it.
func exactText(l invoice.Line, c money.Currency) string {
	const decimals = 8
	if !l.Inexact {
		return ui.Money(l.Exact, c)
	}
	d, err := l.Exact.RoundTo(decimals)
	if err != nil {
		return ui.Money(l.Exact, c)
	}
	return "≈ " + ui.Money(d, c)
}

func firstOf(text, otherwise string) string {
	if text != "" {
		return text
	}
	return otherwise
}
