package document

import (
	"encoding/csv"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/price"
)

// columns of a table of invoices, in order. New ones come at the end.
const columns = "document,number,id,status,customer_id,buyer,subscription_id,plan,currency,issued_at,due_at,period_start,period_end," +
	"line,line_id,kind,price,name,meter,filter,service_start,service_end,quantity,included,credited,ratio,tiers,exact,rounded," +
	"of,of_invoice,source,product,taxes,tax_percent,tax_base,tax_amount,corrects"

// CSV writes documents as one table, RFC 4180: a row for each line and each tax. The column rounded adds up to the total.
type CSV struct {
	rows *csv.Writer
	head bool
}

// NewCSV makes a table on w. Flush writes what is held back.
func NewCSV(w io.Writer) *CSV {
	rows := csv.NewWriter(w)
	rows.UseCRLF = true
	return &CSV{rows: rows}
}

// Write appends a document's rows. money.ErrCurrency, or the error of the writer.
func (c *CSV) Write(d Document) error {
	whole, err := d.whole()
	if err != nil {
		return err
	}
	if err := c.header(); err != nil {
		return err
	}
	for i := range whole.Lines {
		if err := c.rows.Write(lineCells(&whole, &whole.Lines[i])); err != nil {
			return fmt.Errorf("CSV of invoice %s: %w", d.ID, err)
		}
	}
	for i := range whole.Taxes {
		if err := c.rows.Write(taxCells(&whole, &whole.Taxes[i])); err != nil {
			return fmt.Errorf("CSV of invoice %s: %w", d.ID, err)
		}
	}
	return nil
}

func (c *CSV) header() error {
	if c.head {
		return nil
	}
	c.head = true
	if err := c.rows.Write(strings.Split(columns, ",")); err != nil {
		return fmt.Errorf("CSV: %w", err)
	}
	return nil
}

// Flush writes what is held back. A table without documents has its header alone.
func (c *CSV) Flush() error {
	if err := c.header(); err != nil {
		return err
	}
	c.rows.Flush()
	return c.rows.Error()
}

// documentCells are the columns that all rows of a document have.
func documentCells(d *Document) []string {
	kind := "invoice"
	if d.Corrects != nil {
		kind = "credit_note"
	}
	return []string{
		kind, cell(Number(d.Series, d.Number)), cell(d.ID), string(d.Status), cell(d.CustomerID), cell(d.Buyer.Name), cell(d.SubscriptionID), cell(d.Plan),
		d.Currency.Code(), stamp(d.FinalizedAt), stamp(d.DueAt), stamp(d.Period.Start), stamp(d.Period.End),
	}
}

func lineCells(d *Document, l *invoice.Line) []string {
	keys := slices.Clone(l.Taxes)
	return append(documentCells(d),
		strconv.Itoa(l.Number), cell(l.ID), string(l.Kind), cell(l.Price), cell(l.Name), cell(l.Meter), cell(filter(l.Filter)),
		stamp(l.Period.Start), stamp(l.Period.End), l.Quantity.String(), decimal(l.Included), decimal(l.Credited), l.Ratio, tiers(l.Tiers), l.Exact.String(),
		l.Rounded.String(), cell(l.Of), cell(l.Adjusts), cell(l.Source), cell(l.Product), cell(strings.Join(keys, " ")), "", "", "", corrects(d))
}

// taxCells is a row of a tax. Where the lines contain it, it adds nothing to the total.
func taxCells(d *Document, t *invoice.Tax) []string {
	kind, adds := "tax", t.Amount.String()
	if d.Inclusive {
		kind, adds = "tax_included", money.NewAmount(0, d.Currency).String()
	}
	out := documentCells(d)
	row := map[string]string{
		"kind": kind, "name": cell(TaxName(t)), "rounded": adds, "taxes": cell(t.Key), "tax_percent": t.Percent.String(), "tax_base": t.Base.String(),
		"tax_amount": t.Amount.String(), "corrects": corrects(d),
	}
	for _, name := range strings.Split(columns, ",")[len(out):] {
		out = append(out, row[name])
	}
	return out
}

func corrects(d *Document) string {
	if d.Corrects == nil {
		return ""
	}
	return cell(d.Corrects.Number)
}

// cell keeps a text of others from being run: a table program takes what begins so for a formula.
func cell(s string) string {
	if strings.ContainsAny(s[:min(len(s), 1)], "=+-@\t\r\n") {
		return "'" + s
	}
	return s
}

// decimal is empty for nothing.
func decimal(d money.Decimal) string {
	if d.IsZero() {
		return ""
	}
	return d.String()
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return period.Format(t)
}

// tiers are "1: 10000 x 0 + 0 = 0; 2: 2345 x 0.0004 + 0 = 0.938": quantity, unit amount, flat amount, amount.
func tiers(list []price.TierCharge) string {
	parts := make([]string, len(list))
	for i, t := range list {
		parts[i] = fmt.Sprintf("%d: %s x %s + %s = %s", t.Tier, t.Quantity, t.UnitAmount, t.FlatAmount, t.Amount)
	}
	return strings.Join(parts, "; ")
}
