package document_test

import (
	"bytes"
	"encoding/csv"
	"encoding/xml"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tallystick/tallystick/internal/app/document"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("differs from %s (rewrite with -update if that is right):\n%s", file, diff)
	}
}

func table(t testing.TB, docs ...document.Document) []byte {
	t.Helper()
	var out bytes.Buffer
	w := document.NewCSV(&out)
	for _, d := range docs {
		if err := w.Write(d); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestGolden(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"rich", "inclusive", "various", "credit_note", "refund", "long"} {
		b, err := document.UBL(samples()[name])
		if err != nil {
			t.Fatal(err)
		}
		golden(t, name+".xml", b)
	}
	golden(t, "lines.csv", table(t, rich(), inclusive(), creditNote()))
	golden(t, "none.csv", table(t))
}

// TestPDFIsAFunction makes each twice, and looks at what people read in it.
func TestPDFIsAFunction(t *testing.T) {
	t.Parallel()
	for name, d := range samples() {
		if first, again := pdf(t, d), pdf(t, d); !bytes.Equal(first, again) {
			t.Errorf("%s: two runs, two files", name)
		}
	}
}

// TestPDFReads has another program read the text back.
func TestPDFReads(t *testing.T) {
	t.Parallel()
	for name, want := range map[string][]string{
		"rich": {
			"Nordwind Interfaces GmbH", "Acme Robotics B.V.", "INV-2026-1042", "15 Nov 2026", "1 Oct – 31 Oct 2026", "12,345,678", "Tier 2, flat 25.00", "492.59238",
			"Discount: calls", "-361.76", "0.0000025", "12/31 of the full price", "VAT 19 % on 3,198.50", "607.72", "DE89 3704 0044 0532 0130 00", "EUR 2,639.06", "Page 1 of 1",
		},
		"long":        {"Page 1 of 5", "Page 5 of 5", "USD 72,295.98", "Route 59"},
		"names":       {"ООО «Ромашка и Партнёры»", "Ηλεκτρονικές Υπηρεσίες Α.Ε.", "Запросы к API — тариф", "«Масштаб»", "élan", "Zażółć gęślą jaźń", "Paid, thank you"},
		"yen":         {"JPY 3,888", "Void: nothing is to be paid"},
		"credit_note": {"Credit note", "CN-2026-3", "INV-2026-1042 of 1 Nov 2026", "EUR 49.98", "Reason: An outage"},
		"negative":    {"Draft invoice", "In your favour", "EUR 1,214.50", "Reverse charge: the customer owes the tax"},
		"one":         {"Platform", "Amount due", "USD 20.00"},
		"huge":        {"99,999,999,999,999,999,999,999,999,999,999,999,999", "900,000,000,000,000.1234"},
		"inclusive":   {"Subtotal, tax included", "Includes VAT 19 %"},
	} {
		text := read(t, pdf(t, samples()[name]))
		for _, w := range want {
			if !strings.Contains(text, w) {
				t.Errorf("%s: %q is not in the text:\n%s", name, w, text)
			}
		}
	}
}

// read is a PDF's text, in the order of the page, spaces of all kinds as one.
func read(t *testing.T, b []byte) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "pdftotext", "-layout", "-", "-")
	cmd.Stdin = bytes.NewReader(b)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("pdftotext, of the Debian package poppler-utils: %v", err)
	}
	return strings.Join(strings.Fields(string(out)), " ")
}

func pdf(t testing.TB, d document.Document) []byte {
	t.Helper()
	b, err := document.PDF(d)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestTableAddsUp: whatever the taxes, the column of rounded amounts adds up to the total.
func TestTableAddsUp(t *testing.T) {
	t.Parallel()
	for name, d := range samples() {
		rows, err := csv.NewReader(bytes.NewReader(table(t, d))).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		at := 0
		for i, column := range rows[0] {
			if column == "rounded" {
				at = i
			}
		}
		var sum money.Decimal
		for _, r := range rows[1:] {
			if sum, err = sum.Add(money.MustDecimal(r[at])); err != nil {
				t.Fatal(err)
			}
		}
		if !sum.Equal(d.Total.Decimal()) {
			t.Errorf("%s: rows add up to %s, total is %s", name, sum, d.Total)
		}
	}
}

// TestNoFormula: no text cell begins so that a table program runs it.
func TestNoFormula(t *testing.T) {
	t.Parallel()
	for _, begin := range []string{"=", "+", "-", "@", "\t", "\r", "\n"} {
		d := one()
		evil := begin + `cmd|' /C calc'!A0`
		d.Buyer.Name, d.Series, d.Plan, d.CustomerID = evil, evil, evil, evil
		l := &d.Lines[0]
		l.Name, l.Price, l.Source, l.Filter, l.Product = evil, evil, evil, map[string]string{evil: evil}, evil
		rows, err := csv.NewReader(bytes.NewReader(table(t, d))).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range rows[1] {
			if strings.Contains(c, "cmd") && !strings.HasPrefix(c, "'") {
				t.Errorf("%q is run", c)
			}
		}
	}
}

func TestUBLRefuses(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(*document.Document)
		want   string
	}{
		"a draft":                         {func(d *document.Document) { d.Number = 0 }, "a number"},
		"no lines":                        {func(d *document.Document) { d.Lines = nil }, "a line"},
		"no seller":                       {func(d *document.Document) { d.Seller = invoice.Party{} }, "the seller's name, the seller's country, the seller's tax_id"},
		"no country":                      {func(d *document.Document) { d.Buyer.Country = "" }, "the buyer's country"},
		"reverse charge without a tax_id": {func(d *document.Document) { d.Taxes[0].ReverseCharge, d.Buyer.TaxID = true, "" }, "the buyer's tax_id"},
	} {
		d := rich()
		tt.change(&d)
		if _, err := document.UBL(d); !errors.Is(err, document.ErrIncomplete) || !strings.HasSuffix(err.Error(), ": "+tt.want) {
			t.Errorf("%s: %v, want %s", name, err, tt.want)
		}
	}
	d := rich()
	d.Lines[0].Rounded = money.NewAmount(1, money.MustCurrency("USD"))
	_, err1 := document.UBL(d)
	_, err2 := document.PDF(d)
	if err3 := document.NewCSV(&bytes.Buffer{}).Write(d); !errors.Is(err1, money.ErrCurrency) || !errors.Is(err2, money.ErrCurrency) || !errors.Is(err3, money.ErrCurrency) {
		t.Errorf("two currencies: %v, %v, %v", err1, err2, err3)
	}
}

func TestNumber(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		series string
		number int64
		want   string
	}{{"", 12, "12"}, {"INV", 12, "INV-12"}, {"INV-", 12, "INV-12"}, {"2026/", 3, "2026/3"}, {"INV", 0, ""}} {
		if got := document.Number(tt.series, tt.number); got != tt.want {
			t.Errorf("Number(%q, %d) = %q, want %q", tt.series, tt.number, got, tt.want)
		}
	}
	d := one()
	d.Series = "../Ü/"
	if got := d.FileName(); got != "invoice-..___1042-000000CC" {
		t.Errorf("file name %q", got)
	}
}

// TestAnyName: names are others' and may be anything; no form fails or panics, and XML stays well-formed.
func TestAnyName(t *testing.T) {
	t.Parallel()
	text := rapid.OneOf(rapid.String(), rapid.StringOf(rapid.Rune()), rapid.StringN(0, 400, 4000), rapid.SampledFrom([]string{
		"\xff\xfe", "\u202eabc", "e\u0301", "\U0001F600\U0010FFFF", "\x00\x1b[31m", strings.Repeat("W", 3000), strings.Repeat("a ", 2000), "]]>", "<&\"'",
	}), rapid.Custom(func(r *rapid.T) string { return string(rapid.SliceOf(rapid.Byte()).Draw(r, "bytes")) }))
	rapid.Check(t, func(r *rapid.T) {
		d := rich()
		if rapid.Bool().Draw(r, "credit note") {
			d = creditNote()
		}
		for _, field := range []*string{
			&d.Seller.Name, &d.Seller.Street, &d.Seller.TaxID, &d.Seller.Email, &d.Seller.IBAN, &d.Buyer.Name, &d.Buyer.City, &d.Buyer.Region, &d.Note, &d.Series, &d.Plan,
			&d.Lines[0].Name, &d.Lines[1].Name, &d.Lines[0].Price, &d.Lines[0].Ratio, &d.Taxes[0].Name,
		} {
			if rapid.Bool().Draw(r, "change") {
				*field = text.Draw(r, "text")
			}
		}
		d.Seller.Name, d.Seller.TaxID = "x"+d.Seller.Name, "x"+d.Seller.TaxID
		first := pdf(t, d)
		if !bytes.HasPrefix(first, []byte("%PDF-")) || !bytes.Equal(first, pdf(t, d)) {
			r.Fatal("no PDF, or not the same one")
		}
		b, err := document.UBL(d)
		if err != nil {
			r.Fatal(err)
		}
		if !utf8.Valid(b) {
			r.Fatal("not UTF-8")
		}
		if err := xml.Unmarshal(b, new(struct{})); err != nil {
			r.Fatal(err)
		}
		if _, err := csv.NewReader(bytes.NewReader(table(t, d))).ReadAll(); err != nil {
			r.Fatal(err)
		}
	})
}

// TestUsageTables: days with what came late add up to the line; text is guarded.
func TestUsageTables(t *testing.T) {
	t.Parallel()
	d := rich()
	var out bytes.Buffer
	w, err := document.NewDayCSV(&out, &d, []string{"region"})
	if err != nil {
		t.Fatal(err)
	}
	l := &d.Lines[0]
	day := period.Interval{Start: october().Start, End: october().Start.AddDate(0, 0, 1)}
	for _, err := range []error{
		w.Day(l, &document.UsageDay{Interval: day, Values: []string{"=eu"}, Quantity: dec("12345679"), Events: 3}), w.Late(l, dec("1"), 1), w.Flush(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	events, err := document.NewEventCSV(&out, &d)
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		events.Event(l, &document.UsageEvent{At: day.Start, Source: "gateway/1", ID: "@x", DecisionID: "dec_1", Quantity: dec("2.5")}), events.Flush(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	golden(t, "usage.csv", out.Bytes())
}
