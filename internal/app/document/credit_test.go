package document_test

import (
	"errors"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/document"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/money"
)

// TestCreditOfAWholeInvoice takes all back: the note's sums are the invoice's, and it can be printed and sent.
func TestCreditOfAWholeInvoice(t *testing.T) {
	t.Parallel()
	d := various()
	var lines []document.Credited
	for i, l := range d.Lines {
		tax := int64(0)
		switch i { // of 33.33, 66.66, 99.99 and 233.31; the last one has what the roundings leave
		case 0:
			tax = 167
		case 1:
			tax = 833
		case 2:
			tax = 1500
		case 6:
			tax = d.Tax.Minor() - 167 - 833 - 1500
		}
		lines = append(lines, document.Credited{LineID: l.ID, Net: l.Rounded, Tax: eur(tax)})
	}
	n := document.CreditNote{ID: "crn_1", Series: "CN", Number: 4, IssuedAt: time.Date(2026, 11, 3, 0, 0, 0, 0, time.UTC), Reason: "all of it"}
	note, err := document.Credit(d, n, lines)
	if err != nil {
		t.Fatal(err)
	}
	if !note.Total.Equal(d.Total) || !note.Tax.Equal(d.Tax) || !note.Subtotal.Equal(d.Subtotal) || len(note.Taxes) != len(d.Taxes) {
		t.Errorf("the note is over %s, %s and %s with %d taxes", note.Subtotal, note.Tax, note.Total, len(note.Taxes))
	}
	sum := money.NewAmount(0, note.Currency)
	for _, tax := range note.Taxes {
		sum = add(sum, tax.Amount)
	}
	if !sum.Equal(note.Tax) {
		t.Errorf("its taxes add up to %s, it has %s", sum, note.Tax)
	}
	b, err := document.UBL(note)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "whole_credit_note.xml", b)
	pdf(t, note)
	if len(d.Lines[0].Tiers) != 0 || d.Lines[0].Number != 1 || d.Lines[0].Name != "" {
		t.Error("the invoice was changed")
	}
	lines[0].LineID = "iln_other"
	if _, err := document.Credit(d, n, lines); !errors.Is(err, invoice.ErrInvalid) {
		t.Errorf("a line of another invoice: %v", err)
	}
}
