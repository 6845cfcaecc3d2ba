package invoice_test

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/money"
)

// TestCreditLines draws invoices with two taxes on some lines each, takes parts back and then the rest: together the notes are
// the invoice, line by line and tax by tax, and no tax is taken back twice.
func TestCreditLines(t *testing.T) {
	t.Parallel()
	usd := func(minor int64) money.Amount { return money.NewAmount(minor, money.MustCurrency("USD")) }
	rapid.Check(t, func(r *rapid.T) {
		inv := invoice.Invoice{ID: "inv_1", Currency: money.MustCurrency("USD"), Inclusive: rapid.Bool().Draw(r, "inclusive")}
		bases := map[string]int64{}
		for i := range rapid.IntRange(1, 4).Draw(r, "lines") {
			l := invoice.Line{ID: fmt.Sprint("iln_", i), Number: i + 1, Rounded: usd(rapid.Int64Range(-300, 2000).Draw(r, "amount"))}
			for _, key := range []string{"vat", "levy"} {
				if rapid.Bool().Draw(r, key) {
					l.Taxes = append(l.Taxes, key)
					bases[key] += l.Rounded.Minor()
				}
			}
			inv.Lines = append(inv.Lines, l)
		}
		tax := int64(0)
		for key, percent := range map[string]int64{"vat": 19, "levy": 3} {
			amount := bases[key] * percent / 100
			tax += amount
			inv.Taxes = append(inv.Taxes, invoice.Tax{Key: key, Base: usd(bases[key]), Amount: usd(amount)})
		}
		var before []invoice.LineCredit
		left := map[string]int64{}
		for _, l := range inv.Lines {
			left[l.ID] = l.Rounded.Minor()
		}
		for range rapid.IntRange(0, 3).Draw(r, "notes") {
			id := rapid.SampledFrom(inv.Lines).Draw(r, "line").ID
			n := rapid.Int64Range(1, 700).Draw(r, "take")
			out, err := invoice.CreditLines(inv, before, []invoice.Take{{LineID: id, Amount: usd(n)}})
			if (err == nil) != (n <= left[id]) {
				r.Fatalf("take %d of %d: %v", n, left[id], err)
			}
			if err == nil {
				left[id] -= n
				before = append(before, out...)
			}
		}
		rest, err := invoice.CreditLines(inv, before, nil)
		some := false
		for _, n := range left {
			some = some || n != 0
		}
		if (err == nil) != some {
			r.Fatalf("the rest of %v: %v", left, err)
		}
		sums, taxes := map[string]int64{}, int64(0)
		for _, c := range append(before, rest...) {
			sums[c.LineID] += c.Net.Minor()
			if taxes += c.Tax.Minor(); inv.Inclusive {
				sums[c.LineID] += c.Tax.Minor()
			}
		}
		for _, l := range inv.Lines {
			if sums[l.ID] != l.Rounded.Minor() {
				r.Fatalf("line %s: %d taken back of %s", l.ID, sums[l.ID], l.Rounded)
			}
		}
		if taxes != tax {
			r.Fatalf("%d of tax taken back, %d were billed", taxes, tax)
		}
	})
}
