package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/test/process"
)

// rewrite writes testdata/year.golden.json anew: look at what changed before it is committed.
var rewrite = flag.Bool("rewrite", false, "write golden files anew")

// storyMax is what a year may take on a machine that has other work.
const storyMax = 5 * time.Minute

// told is what `tally demo --story year` says, as far as this test looks at it.
type told struct {
	AddsUp    bool `json:"adds_up"`
	Customers int
	Totals    []struct {
		revenueRow

		Ledger, Difference string
	}
	Books     map[string]string
	Ledger    []map[string]string
	Documents struct {
		Dir   string
		Files int
	}
}

type revenueRow struct {
	Currency                               string
	Invoices                               int
	Invoiced, Discounts, Credits, Tax, Net string
}

// TestStoryOfAYear tells the year once: what it comes to is in a golden file, so that it is the same each time; the documents are
// there; and another way to the invoices adds up to the same.
func TestStoryOfAYear(t *testing.T) {
	t.Parallel()
	tally, err := process.Build(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), storyMax)
	defer cancel()
	dir := filepath.Join(t.TempDir(), "year")
	r, err := tally.Run(ctx, "demo", "--story", "year", "--dir", dir, "--output", "json")
	if err != nil || r.Code != 0 {
		t.Fatalf("exit %d, %v\n%s%s", r.Code, err, r.Stdout, r.Stderr)
	}
	golden(t, r.Stdout)
	var year told
	if err := process.Document(r.Stdout, &year); err != nil {
		t.Fatal(err)
	}
	if !year.AddsUp || year.Books["difference"] != "0" || year.Customers != 50 || len(year.Totals) != 3 {
		t.Errorf("it does not add up: %+v", year)
	}
	sums, invoices := map[string]money.Decimal{}, 0
	for _, total := range year.Totals {
		invoices += total.Invoices
		for _, figure := range []string{total.Invoiced, total.Discounts, total.Credits, total.Tax} {
			sums[total.Currency] = plus(t, sums[total.Currency], figure)
		}
		if !money.MustDecimal(total.Difference).IsZero() {
			t.Errorf("%s: the ledger says %s, the documents %s", total.Currency, total.Ledger, total.Net)
		}
	}
	for _, c := range year.Ledger {
		if !money.MustDecimal(c["difference"]).IsZero() || c["receivable"] != c["open"] {
			t.Errorf("the ledger differs: %v", c)
		}
	}
	if invoices <= 500 {
		t.Errorf("%d invoices", invoices)
	}
	documents(t, year.Documents.Dir, invoices)
	listed(ctx, t, tally, dir, sums, invoices)
}

// golden compares all but what names the folder.
func golden(t *testing.T, text []byte) {
	t.Helper()
	var doc map[string]any
	if err := process.Document(text, &doc); err != nil {
		t.Fatal(err)
	}
	delete(doc, "documents")
	got, err := json.MarshalIndent(doc, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", "year.golden.json")
	if *rewrite {
		if err := os.WriteFile(path, append(got, '\n'), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(bytes.TrimSpace(want), got) {
		t.Errorf("the year differs from %s; if it should, write it anew with: go test ./test/cli -run TestStoryOfAYear -rewrite\ngot\n%s", path, got)
	}
}

func plus(t *testing.T, sum money.Decimal, figure string) money.Decimal {
	t.Helper()
	d, err := money.ParseDecimal(figure)
	if err != nil {
		t.Fatal(err)
	}
	if sum, err = sum.Add(d); err != nil {
		t.Fatal(err)
	}
	return sum
}

// documents checks that each invoice and both credit notes are there as PDF, and that one can be read.
func documents(t *testing.T, dir string, invoices int) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.pdf"))
	if err != nil || len(files) != invoices+2 {
		t.Fatalf("%d files of %d invoices and 2 credit notes, %v", len(files), invoices, err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil || !bytes.HasPrefix(b, []byte("%PDF-")) || !bytes.HasSuffix(bytes.TrimSpace(b), []byte("%%EOF")) {
			t.Errorf("%s is no PDF: %v", f, err)
		}
	}
	text, err := exec.CommandContext(t.Context(), "pdftotext", "-layout", filepath.Join(dir, "credit-note-CN-1.pdf"), "-").Output()
	if err != nil || !bytes.Contains(text, []byte("Total credited")) {
		t.Errorf("pdftotext, of the Debian package poppler-utils: %v\n%s", err, text)
	}
}

// listed serves the folder and adds up `tally invoices list`.
func listed(ctx context.Context, t *testing.T, tally process.Binary, dir string, sums map[string]money.Decimal, invoices int) {
	t.Helper()
	p, err := tally.Start("", "demo", "--story", "year", "--serve", "--dir", dir, "--api", "127.0.0.1:0", "--gateway", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if _, err := p.Stderr.Until(ctx, func(text []byte) bool { return bytes.Contains(text, []byte("Console")) }); err != nil {
		t.Fatal(err)
	}
	var list struct {
		Items []struct {
			Total struct{ Amount, Currency string }
		}
	}
	if err := tally.JSON(ctx, &list, "invoices", "list", "--dir", dir); err != nil {
		t.Fatal(err)
	}
	if len(list.Items) != invoices {
		t.Errorf("%d invoices are listed, not %d", len(list.Items), invoices)
	}
	got := map[string]money.Decimal{}
	for _, i := range list.Items {
		got[i.Total.Currency] = plus(t, got[i.Total.Currency], i.Total.Amount)
	}
	for currency, want := range sums {
		if !got[currency].Equal(want) {
			t.Errorf("%s: the list adds up to %s, the table to %s", currency, got[currency], want)
		}
	}
	if err := p.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code, err := p.Wait(ctx); code != 0 || err != nil {
		t.Errorf("ended with %d, %v: %s", code, err, p.Stderr.Bytes())
	}
}
