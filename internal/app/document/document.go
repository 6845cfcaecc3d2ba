// Package document writes invoices and credit notes as files: PDF for people, UBL 2.1 for other programs, CSV for tables. The
// same input gives the same bytes. Nothing here computes what is owed: that stands on the invoice.
package document

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
)

// ErrIncomplete is an invoice that lacks what its form demands; the text names it.
var ErrIncomplete = errors.New("the invoice lacks what this form demands")

// Document is an invoice with what stands beside it and is not its own. Its Status is the present one.
type Document struct {
	invoice.Invoice
	// Zone is the customer's: days are counted in it.
	Zone period.Zone
	// Corrects makes it a credit note over that invoice: the figures are then what is given back, positive. The note's own Series and
	// Number are the Invoice's. nil: an invoice.
	Corrects *Reference
	Payments []Payment // that were taken; oldest first
}

// Reference names an issued invoice.
type Reference struct {
	Number   string
	IssuedAt time.Time
	Reason   string // why it is corrected; may be empty
}

// Payment is what paid a part of an invoice: money that was received, or a credit note; given back where the amount is negative.
type Payment struct {
	At     time.Time
	Method string // in words; may be empty
	Amount money.Amount
}

// Number is what people call an issued invoice or credit note: "INV-12". Empty for what has no number yet.
func Number(series string, number int64) string {
	if number == 0 {
		return ""
	}
	text := strconv.FormatInt(number, 10)
	if last, _ := utf8.DecodeLastRuneInString(series); series != "" && (unicode.IsLetter(last) || unicode.IsDigit(last)) {
		return series + "-" + text
	}
	return series + text
}

// FileName is the name of the document's file without its extension, in ASCII letters, digits, dots, dashes and underscores:
// the number, or the id where there is none. Other characters become underscores, and a part of the id keeps names apart.
func (d *Document) FileName() string {
	name := Number(d.Series, d.Number)
	if name == "" {
		name = d.ID
	}
	if d.Corrects != nil {
		name = "credit-note-" + name
	} else {
		name = "invoice-" + name
	}
	safe := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_', r == '.':
			return r
		}
		return '_'
	}, name)
	if safe != name { // another number may have become the same
		safe += "-" + d.ID[max(0, len(d.ID)-8):]
	}
	return safe
}

// whole fills in what invoices did not have when they were written by an older release, and checks what all forms rest on:
// figures in one currency.
func (d *Document) whole() (Document, error) {
	out := *d
	none := money.NewAmount(0, out.Currency)
	for _, f := range []struct {
		field    *money.Amount
		fallback money.Amount
	}{{&out.Subtotal, out.Total}, {&out.Tax, none}, {&out.Balance, none}, {&out.Due, out.Total}} {
		if f.field.Currency().Code() == "" {
			*f.field = f.fallback
		}
	}
	amounts := []money.Amount{out.Total, out.Subtotal, out.Tax, out.Balance, out.Due}
	for i := range out.Lines {
		amounts = append(amounts, out.Lines[i].Rounded)
	}
	for i := range out.Taxes {
		amounts = append(amounts, out.Taxes[i].Base, out.Taxes[i].Amount)
	}
	for i := range out.Payments {
		amounts = append(amounts, out.Payments[i].Amount)
	}
	for _, a := range amounts {
		if a.Currency() != out.Currency || out.Currency.Code() == "" {
			return Document{}, fmt.Errorf("invoice %s in %q has an amount in %q: %w", d.ID, out.Currency.Code(), a.Currency().Code(), money.ErrCurrency)
		}
	}
	return out, nil
}

// issued is when the document was issued; for what is not yet, when its period ends.
func (d *Document) issued() time.Time {
	if !d.FinalizedAt.IsZero() {
		return d.FinalizedAt
	}
	return d.Period.End
}

// buyer is the buyer's name; without one the customer's id.
func (d *Document) buyer() string {
	if d.Buyer.Name != "" {
		return d.Buyer.Name
	}
	return d.CustomerID
}

// nested is a line with those that take from it, add to it or adjust it.
type nested struct {
	invoice.Line
	under []invoice.Line
}

// grouped puts lines under those that they are Of, in the order of both. A line of one that is itself under another, or not on
// this invoice, stands alone in its place.
func grouped(lines []invoice.Line) []nested {
	heads := map[string]bool{}
	for i := range lines {
		if lines[i].Of == "" {
			heads[lines[i].ID] = true
		}
	}
	under := map[string][]invoice.Line{}
	var out []nested
	for i := range lines {
		if of := lines[i].Of; heads[of] {
			under[of] = append(under[of], lines[i])
			continue
		}
		out = append(out, nested{Line: lines[i]})
	}
	for i := range out {
		if out[i].Of == "" {
			out[i].under, under[out[i].ID] = under[out[i].ID], nil // an id that stands twice shows them once
		}
	}
	return out
}

// taxesOf are the invoice's taxes that apply to a line.
func taxesOf(taxes []invoice.Tax, l *invoice.Line) []invoice.Tax {
	var out []invoice.Tax
	for _, t := range taxes {
		if slices.Contains(l.Taxes, t.Key) {
			out = append(out, t)
		}
	}
	return out
}
