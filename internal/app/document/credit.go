package document

import (
	"fmt"
	"time"

	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/money"
)

// Credited is what a credit note takes back of a line: Net without tax, and Tax.
type Credited struct {
	LineID   string
	Net, Tax money.Amount
}

// CreditNote is what names a credit note.
type CreditNote struct {
	ID, Series string
	Number     int64
	IssuedAt   time.Time
	Reason     string
}

// Credit is the document of a credit note over an issued invoice. invoice.ErrInvalid for a line that the invoice does not have.
func Credit(of Document, n CreditNote, lines []Credited) (Document, error) {
	inv := &of.Invoice
	out := Document{Invoice: of.Invoice, Zone: of.Zone, Corrects: &Reference{Number(inv.Series, inv.Number), inv.FinalizedAt, n.Reason}}
	none := money.NewAmount(0, inv.Currency)
	out.ID, out.Series, out.Number, out.FinalizedAt = n.ID, n.Series, n.Number, n.IssuedAt
	out.Status, out.DueAt, out.Note, out.Inclusive = invoice.Finalized, time.Time{}, "", false
	out.Lines, out.Taxes, out.Balance, out.Due = nil, nil, none, none
	byID := make(map[string]*invoice.Line, len(inv.Lines))
	for i := range inv.Lines {
		byID[inv.Lines[i].ID] = &inv.Lines[i]
	}
	sums := map[string]*invoice.Tax{}
	for _, t := range inv.Taxes {
		t.Base, t.Amount = none, none
		sums[t.Key] = &t
	}
	var err error
	out.Subtotal, out.Tax = none, none
	for i, c := range lines {
		billed := byID[c.LineID]
		if billed == nil {
			return Document{}, fmt.Errorf("credit note %s: invoice %s has no line %q: %w", n.ID, inv.ID, c.LineID, invoice.ErrInvalid)
		}
		l := *billed
		l.Number, l.Name, l.Of, l.Exact, l.Rounded = i+1, fmt.Sprintf("%s (line %d)", Title(billed), billed.Number), "", c.Net.Decimal(), c.Net
		l.Quantity, l.Tiers, l.Ratio, l.Included, l.Credited = money.Decimal{}, nil, "", money.Decimal{}, money.Decimal{}
		l.Kind = invoice.AdjustmentLine
		out.Lines = append(out.Lines, l)
		if err = taxed(sums, taxesOf(inv.Taxes, &l), &c); err != nil {
			return Document{}, fmt.Errorf("credit note %s: %w", n.ID, err)
		}
		if out.Subtotal, err = out.Subtotal.Add(c.Net); err != nil {
			return Document{}, err
		}
		if out.Tax, err = out.Tax.Add(c.Tax); err != nil {
			return Document{}, err
		}
	}
	for _, t := range inv.Taxes {
		if s := sums[t.Key]; s.Base.Minor() != 0 || s.Amount.Minor() != 0 {
			out.Taxes = append(out.Taxes, *s)
		}
	}
	out.Total, err = out.Subtotal.Add(out.Tax)
	return out, err
}

// taxed adds a line's tax to the sums of its taxes, by their rates.
func taxed(sums map[string]*invoice.Tax, taxes []invoice.Tax, c *Credited) (err error) {
	const decimals = 8 // of a rate, as a weight
	weights := make([]int64, len(taxes))
	for i, t := range taxes {
		if t.ReverseCharge || t.Exempt {
			continue
		}
		rounded, err := t.Percent.RoundTo(decimals)
		if err != nil {
			return err
		}
		if weights[i], err = rounded.Scaled(decimals); err != nil {
			return err
		}
	}
	for i, part := range parts(c.Tax.Minor(), weights) {
		s := sums[taxes[i].Key]
		if s.Base, err = s.Base.Add(c.Net); err != nil {
			return err
		}
		if s.Amount, err = s.Amount.Add(money.NewAmount(part, c.Tax.Currency())); err != nil {
			return err
		}
	}
	return nil
}
