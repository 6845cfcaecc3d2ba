package ledger_test

import (
	"errors"
	"maps"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/ledger"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
)

var at = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func eur(minor int64) money.Amount { return money.NewAmount(minor, money.MustCurrency("EUR")) }

// of is what entries post to accounts.
func of(entries ...ledger.Entry) map[ledger.Account]int64 {
	out := map[ledger.Account]int64{}
	for _, e := range entries {
		for _, p := range e.Postings {
			if out[p.Account] += p.Amount.Minor(); out[p.Account] == 0 {
				delete(out, p.Account)
			}
		}
	}
	return out
}

func posts(t interface{ Fatalf(string, ...any) }, what string, got map[ledger.Account]int64, want map[ledger.Account]int64) {
	same := len(got) == len(want)
	for a, n := range want {
		same = same && got[a] == n
	}
	if !same {
		t.Fatalf("%s posts %v, want %v", what, got, want)
	}
}

func TestOfInvoice(t *testing.T) {
	t.Parallel()
	base := invoice.Invoice{ID: "inv_1", CustomerID: "cus_1", Currency: money.MustCurrency("EUR"), FinalizedAt: at}
	kinds := map[string]account.GrantKind{"grt_p": account.Prepaid, "grt_t": account.TopUp, "grt_f": account.Promotional}
	line := func(kind invoice.LineKind, minor int64, source string) invoice.Line {
		return invoice.Line{Number: 1, Kind: kind, Rounded: eur(minor), Source: source}
	}
	type books = map[ledger.Account]int64
	for name, c := range map[string]struct {
		lines       []invoice.Line
		total, tax  int64
		balance     int64
		want        books
		entries     int
		unposted    bool
		unknownKind bool
	}{
		"plain": {lines: []invoice.Line{line(invoice.UsageLine, 1000, "")}, total: 1000, want: books{ledger.Receivable: 1000, ledger.Revenue: -1000}, entries: 1},
		"tax":   {lines: []invoice.Line{line(invoice.UsageLine, 1000, "")}, total: 1190, tax: 190, want: books{ledger.Receivable: 1190, ledger.Tax: -190, ledger.Revenue: -1000}, entries: 1},
		"credits": {
			lines: []invoice.Line{line(invoice.UsageLine, 1000, ""), line(invoice.CreditLine, -300, "grt_p"), line(invoice.CreditLine, -50, "grt_t"), line(invoice.CreditLine, -20, "grt_f")},
			total: 630, want: books{ledger.Receivable: 630, ledger.Prepaid: 350, ledger.Promotion: 20, ledger.Revenue: -1000}, entries: 1,
		},
		"all credits": {
			lines: []invoice.Line{line(invoice.UsageLine, 100, ""), line(invoice.CreditLine, -100, "grt_p")},
			want:  books{ledger.Prepaid: 100, ledger.Revenue: -100}, entries: 1,
		},
		"balance":  {lines: []invoice.Line{line(invoice.FlatLine, 1000, "")}, total: 1000, balance: 400, want: books{ledger.Receivable: 600, ledger.Balance: 400, ledger.Revenue: -1000}, entries: 2},
		"negative": {lines: []invoice.Line{line(invoice.AdjustmentLine, -100, "")}, total: -119, tax: -19, want: books{ledger.Balance: -119, ledger.Tax: 19, ledger.Revenue: 100}, entries: 1},
		"nothing":  {want: books{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inv := base
			inv.Lines, inv.Total, inv.Tax, inv.Balance = c.lines, eur(c.total), eur(c.tax), eur(c.balance)
			entries, err := ledger.OfInvoice(inv, kinds)
			if err != nil || len(entries) != c.entries {
				t.Fatalf("%d entries, %v", len(entries), err)
			}
			posts(t, name, of(entries...), c.want)
		})
	}
	bad := base
	bad.Total, bad.Lines = eur(0), []invoice.Line{line(invoice.CreditLine, -1, "grt_x")}
	if _, err := ledger.OfInvoice(bad, kinds); !errors.Is(err, ledger.ErrInvalid) {
		t.Errorf("an unknown grant: %v", err)
	}
	bad = base
	bad.Total, bad.Balance = eur(10), eur(11)
	if _, err := ledger.OfInvoice(bad, kinds); !errors.Is(err, ledger.ErrInvalid) {
		t.Errorf("more balance than total: %v", err)
	}
	bad.FinalizedAt = time.Time{}
	if _, err := ledger.OfInvoice(bad, kinds); !errors.Is(err, ledger.ErrInvalid) {
		t.Errorf("a draft: %v", err)
	}
	old := invoice.Invoice{ID: "inv_1", CustomerID: "cus_1", Currency: money.MustCurrency("EUR"), FinalizedAt: at, Total: eur(5)} // without the later fields
	entries, err := ledger.OfInvoice(old, nil)
	if err != nil {
		t.Fatal(err)
	}
	posts(t, "an old invoice", of(entries...), books{ledger.Receivable: 5, ledger.Revenue: -5})
}

func TestBuilders(t *testing.T) {
	t.Parallel()
	type books = map[ledger.Account]int64
	check := func(what string, want books, e ledger.Entry, err error) {
		t.Helper()
		if err == nil {
			err = e.Check()
		}
		if err != nil {
			t.Fatal(err)
		}
		posts(t, what, of(e), want)
	}
	e, err := ledger.OfPayment(ledger.Payment{ID: "pay_1", CustomerID: "c", Amount: eur(100), Receivable: eur(60), At: at})
	check("payment", books{ledger.Cash: 100, ledger.Receivable: -60, ledger.Balance: -40}, e, err)
	e, err = ledger.OfRefund("pay_2", "c", eur(5), at)
	check("refund", books{ledger.Cash: -5, ledger.Balance: 5}, e, err)
	e, err = ledger.OfCreditNote(ledger.Credit{ID: "crn_1", CustomerID: "c", Net: eur(100), Tax: eur(19), Receivable: eur(20), At: at})
	check("credit note", books{ledger.Revenue: 100, ledger.Tax: 19, ledger.Receivable: -20, ledger.Balance: -99}, e, err)
	e, err = ledger.OfWriteOff("inv_1", "c", 3, eur(7), at)
	check("write-off", books{ledger.Loss: 7, ledger.Receivable: -7}, e, err)
	for name, c := range map[string]struct {
		paid, face int64
		want       books
	}{
		"at face":      {100, 100, books{ledger.Cash: 100, ledger.Prepaid: -100}},
		"with a bonus": {80, 100, books{ledger.Cash: 80, ledger.Prepaid: -100, ledger.Promotion: 20}},
		"at a premium": {120, 100, books{ledger.Cash: 120, ledger.Prepaid: -100, ledger.Revenue: -20}},
	} {
		e, _, err := ledger.OfGrant("grt_1", "c", eur(c.paid), eur(c.face), at)
		check(name, c.want, e, err)
	}
	if _, some, err := ledger.OfGrant("grt_1", "c", eur(0), eur(100), at); some || err != nil {
		t.Errorf("a gift posts: %v", err)
	}
	e, _, err = ledger.OfBreakage("grt_1", "c", eur(30), at)
	check("breakage", books{ledger.Prepaid: 30, ledger.Revenue: -30}, e, err)
	if _, some, err := ledger.OfBreakage("grt_1", "c", eur(0), at); some || err != nil {
		t.Errorf("nothing left posts: %v", err)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	good, err := ledger.OfPayment(ledger.Payment{ID: "pay_1", CustomerID: "c", Amount: eur(100), Receivable: eur(60), At: at})
	if err != nil {
		t.Fatal(err)
	}
	usd := money.NewAmount(-60, money.MustCurrency("USD"))
	for name, change := range map[string]func(*ledger.Entry){
		"no key":           func(e *ledger.Entry) { e.Key = "" },
		"another's id":     func(e *ledger.Entry) { e.ID = ledger.EntryID("x") },
		"no customer":      func(e *ledger.Entry) { e.CustomerID = "" },
		"no time":          func(e *ledger.Entry) { e.At = time.Time{} },
		"no kind":          func(e *ledger.Entry) { e.Kind = "" },
		"one posting":      func(e *ledger.Entry) { e.Postings = e.Postings[:1] },
		"does not balance": func(e *ledger.Entry) { e.Postings[0].Amount = eur(101) },
		"zero":             func(e *ledger.Entry) { e.Postings[1].Amount, e.Postings[0].Amount = eur(0), eur(40) },
		"two currencies":   func(e *ledger.Entry) { e.Postings[1].Amount = usd },
		"unknown account":  func(e *ledger.Entry) { e.Postings[0].Account = "till" },
		"account twice":    func(e *ledger.Entry) { e.Postings[1].Account = ledger.Balance },
		"cash of one":      func(e *ledger.Entry) { e.Postings[0].CustomerID = "c" },
		"owed by another":  func(e *ledger.Entry) { e.Postings[1].CustomerID = "d" },
		"owed by nobody":   func(e *ledger.Entry) { e.Postings[1].CustomerID = "" },
	} {
		e := good
		e.Postings = append([]ledger.Posting{}, good.Postings...)
		change(&e)
		if err := e.Check(); !errors.Is(err, ledger.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestInvoicesBalance draws invoices: their entries sum to zero, the customer owes or has what is left, and the reversals take
// back all of it.
func TestInvoicesBalance(t *testing.T) {
	t.Parallel()
	kinds := map[string]account.GrantKind{"p": account.Prepaid, "f": account.Promotional}
	rapid.Check(t, func(r *rapid.T) {
		inv := invoice.Invoice{ID: "inv_1", CustomerID: "c", Currency: money.MustCurrency("EUR"), FinalizedAt: at}
		sum := int64(0)
		for i := range rapid.IntRange(0, 5).Draw(r, "lines") {
			kind := rapid.SampledFrom([]invoice.LineKind{invoice.UsageLine, invoice.CreditLine, invoice.CouponLine, invoice.AdjustmentLine}).Draw(r, "kind")
			minor := rapid.Int64Range(-1000, 1000).Draw(r, "minor")
			if kind == invoice.CreditLine {
				minor = -max(minor, -minor)
			}
			sum += minor
			inv.Lines = append(inv.Lines, invoice.Line{Number: i + 1, Kind: kind, Rounded: eur(minor), Source: rapid.SampledFrom([]string{"p", "f"}).Draw(r, "source")})
		}
		inv.Tax = eur(sum / 5)
		inv.Total = eur(sum + sum/5)
		if inv.Total.Minor() > 0 {
			inv.Balance = eur(rapid.Int64Range(0, inv.Total.Minor()).Draw(r, "balance"))
		}
		entries, err := ledger.OfInvoice(inv, kinds)
		if err != nil {
			r.Fatal(err)
		}
		books, zero := of(entries...), int64(0)
		for _, n := range books {
			zero += n
		}
		if zero != 0 || books[ledger.Receivable]+books[ledger.Balance] != inv.Total.Minor() || books[ledger.Tax] != -inv.Tax.Minor() {
			r.Fatalf("%v for a total of %s with %s from the balance", books, inv.Total, inv.Balance)
		}
		all := entries
		for _, e := range entries {
			back, err := e.Reversal(at.Add(time.Hour))
			if err != nil {
				r.Fatal(err)
			}
			if _, err := back.Reversal(at); !errors.Is(err, ledger.ErrInvalid) {
				r.Fatalf("a reversal was reversed: %v", err)
			}
			all = append(all, back)
		}
		posts(r, "taken back", of(all...), map[ledger.Account]int64{})
	})
}

// TestBought: only a grant of money that was bought once is owed, and only what is owed is taken from prepaid.
func TestBought(t *testing.T) {
	t.Parallel()
	d := money.MustDecimal
	for name, tt := range map[string]struct {
		grant account.Grant
		want  map[ledger.Account]int64
	}{
		"at face value":  {account.Grant{Amount: d("90"), Paid: d("90")}, map[ledger.Account]int64{ledger.Cash: 9000, ledger.Prepaid: -9000}},
		"with a bonus":   {account.Grant{Amount: d("100"), Paid: d("90")}, map[ledger.Account]int64{ledger.Cash: 9000, ledger.Prepaid: -10000, ledger.Promotion: 1000}},
		"with a premium": {account.Grant{Amount: d("80"), Paid: d("90")}, map[ledger.Account]int64{ledger.Cash: 9000, ledger.Prepaid: -8000, ledger.Revenue: -1000}},
		"given":          {account.Grant{Amount: d("80")}, nil},
		"units":          {account.Grant{Meter: "calls", Amount: d("80"), Paid: d("90")}, nil},
		"refilled":       {account.Grant{Amount: d("80"), Paid: d("90"), Every: new(period.EveryMonth())}, nil},
	} {
		tt.grant.ID, tt.grant.CustomerID, tt.grant.CreatedAt = "grt_1", "c", at
		entries, err := ledger.OfBought(&tt.grant, money.MustCurrency("EUR"))
		if err != nil {
			t.Fatal(err)
		}
		if got := of(entries...); !maps.Equal(got, tt.want) {
			t.Errorf("%s posts %v, want %v", name, got, tt.want)
		}
		if owed := ledger.Bears(&tt.grant) == account.Prepaid; owed != (len(entries) > 0) {
			t.Errorf("%s is taken from prepaid: %v", name, owed)
		}
	}
}
