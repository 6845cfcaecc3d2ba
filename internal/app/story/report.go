package story

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tallystick/tallystick/internal/app/bill"
	"github.com/tallystick/tallystick/internal/store"
)

// Report is what came of a year.
type Report struct {
	Told   Told // without Steps, the year was told before
	Table  Table
	Books  bill.Books
	Ledger []store.Conservation
	// Folder has so many Files.
	Folder string
	Files  int
	Took   time.Duration
}

// Differs says whether something that must be 0 is not.
func (r *Report) Differs() bool {
	for i := range r.Table.Totals {
		if r.Table.Totals[i].Difference() != 0 {
			return true
		}
	}
	for _, c := range r.Ledger {
		if c.Difference.Minor() != 0 || c.Sum.Minor() != 0 || len(c.Wrong) > 0 {
			return true
		}
	}
	return !r.Books.Difference.IsZero()
}

// revenueHeads are the columns of a row, in the order of its figures.
var revenueHeads = []string{"invoices", "invoiced", "discounts", "credits", "tax", "credit_notes", "voided", "net"} //nolint:gochecknoglobals // a table

// figures are a row's, as text.
func figures(r *Revenue) []string {
	out := []string{fmt.Sprint(r.Invoices)}
	for _, minor := range []int64{r.Invoiced, r.Discounts, r.Credits, r.Tax, r.CreditNotes, r.Voided, r.Net} {
		out = append(out, r.Amount(minor).String())
	}
	return out
}

// sparse are a row's figures with a dash for what is 0.
func sparse(r *Revenue) string {
	list := figures(r)
	for i, text := range list {
		if strings.Trim(text, "0.") == "" {
			list[i] = "–"
		}
	}
	return strings.Join(list, "\t")
}

// JSON is the report as one document.
func (r *Report) JSON() map[string]any {
	row := func(x *Revenue) map[string]any {
		m := map[string]any{"currency": x.Currency.Code(), "invoices": x.Invoices}
		for i, text := range figures(x)[1:] {
			m[revenueHeads[i+1]] = text
		}
		return m
	}
	months, totals, checks := []map[string]any{}, []map[string]any{}, []map[string]any{}
	for i := range r.Table.Months {
		m := row(&r.Table.Months[i])
		m["month"] = r.Table.Months[i].Month
		months = append(months, m)
	}
	for i := range r.Table.Totals {
		t := &r.Table.Totals[i]
		m := row(&t.Revenue)
		m["ledger"], m["difference"] = t.Amount(t.Ledger).String(), t.Amount(t.Difference()).String()
		totals = append(totals, m)
	}
	for _, c := range r.Ledger {
		checks = append(checks, map[string]any{
			"currency": c.Currency.Code(), "sum": c.Sum.String(), "receivable": c.Receivable.String(), "open": c.Open.String(),
			"balance": c.Balance.String(), "difference": c.Difference.String(),
		})
	}
	b := &r.Books
	return map[string]any{
		"year": Year, "customers": r.Told.Customers, "revenue": months, "totals": totals, "ledger": checks, "documents": map[string]any{"dir": r.Folder, "files": r.Files},
		"books": map[string]string{
			"admitted": b.Admitted.String(), "reported": b.Reported.String(), "voided": b.Voided.String(), "metered": b.Metered.String(),
			"rated": b.Rated.String(), "unpriced": b.Unpriced.String(), "difference": b.Difference.String(),
		},
		"adds_up": !r.Differs(),
	}
}

// Print writes the report for people.
func (r *Report) Print(out io.Writer) error {
	w := &bytes.Buffer{}
	fmt.Fprintf(w, "\n  %d: %d customers, 12 months\n\n", Year, r.Told.Customers)
	if err := r.printRevenue(w); err != nil {
		return err
	}
	r.printChecks(w)
	for line := range bytes.Lines(w.Bytes()) {
		if _, err := fmt.Fprintln(out, strings.TrimRight(string(line), " \n")); err != nil {
			return err
		}
	}
	return nil
}

func (r *Report) printRevenue(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	heads := strings.ToUpper(strings.ReplaceAll(strings.Join(revenueHeads, "\t"), "_", " "))
	for i := range r.Table.Totals {
		t := &r.Table.Totals[i]
		fmt.Fprintf(tw, "  %s\t%s\t\n", t.Currency, heads)
		for j := range r.Table.Months {
			if m := &r.Table.Months[j]; m.Currency == t.Currency {
				fmt.Fprintf(tw, "  %s\t%s\t\n", m.Month, sparse(m))
			}
		}
		fmt.Fprintf(tw, "  %d\t%s\t\n\t\t\t\t\t\t\t\t\t\n", Year, sparse(&t.Revenue))
	}
	return tw.Flush()
}

func (r *Report) printChecks(w io.Writer) {
	for i := range r.Table.Totals {
		t := &r.Table.Totals[i]
		fmt.Fprintf(w, "  revenue    net %s = ledger %s %s, difference %s\n", t.Amount(t.Net).String(), t.Amount(t.Ledger).String(), t.Currency, t.Amount(t.Difference()).String())
	}
	for _, c := range r.Ledger {
		fmt.Fprintf(w, "  ledger     sums to %s, receivable %s = open %s %s, difference %s\n", c.Sum.String(), c.Receivable.String(), c.Open.String(), c.Currency, c.Difference.String())
	}
	b := &r.Books
	fmt.Fprintf(w, `  books      admitted %s + reported %s − voided %s = metered %s = rated %s + unpriced %s, difference %s
  documents  %d PDFs in %s
`, b.Admitted, b.Reported, b.Voided, b.Metered, b.Rated, b.Unpriced, b.Difference, r.Files, r.Folder)
	if r.Told.Steps > 0 {
		fmt.Fprintf(w, "  told       %d events in %d steps of the clock, %.1f s\n", r.Told.Events, r.Told.Steps, r.Took.Seconds())
	}
}
