package tax_test

import (
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/tax"
)

func number(s string) money.Rational { return money.MustDecimal(s).Rational() }

// rate reads "a:19", "a:19c" for a compound one, "a:19r" for a reverse charge.
func rate(s string) tax.Rate {
	key, percent, _ := strings.Cut(s, ":")
	r := tax.Rate{Key: key, Compound: strings.HasSuffix(percent, "c"), ReverseCharge: strings.HasSuffix(percent, "r")}
	r.Percent = money.MustDecimal(strings.TrimRight(percent, "cr"))
	return r
}

// line reads "9.99 a:19 b:5".
func line(s string) tax.Line {
	words := strings.Fields(s)
	l := tax.Line{Amount: number(words[0])}
	for _, w := range words[1:] {
		l.Rates = append(l.Rates, rate(w))
	}
	return l
}

func text(r tax.Result) string {
	var b strings.Builder
	for _, t := range r.Taxes {
		fmt.Fprintf(&b, "%s: %s of %s, ", t.Rate.Key, t.Amount, t.Base)
	}
	fmt.Fprintf(&b, "tax %s, total %s, lines %s", r.Tax, r.Total, r.Lines)
	return b.String()
}

func TestCompute(t *testing.T) {
	t.Parallel()
	const inclusive, perLine = "inclusive", "line"
	tests := []struct {
		name, currency, how string
		lines               []string
		want                string
	}{
		{"nothing", "USD", "", nil, "tax 0, total 0, lines []"},
		{"no rate", "USD", "", []string{"5"}, "tax 0, total 5, lines [0]"},
		{"once for the invoice", "USD", "", []string{"0.33 a:10", "0.33 a:10", "0.33 a:10"}, "a: 0.1 of 0.99, tax 0.1, total 1.09, lines [0.04 0.03 0.03]"},
		{"once for each line", "USD", perLine, []string{"0.33 a:10", "0.33 a:10", "0.33 a:10"}, "a: 0.09 of 0.99, tax 0.09, total 1.08, lines [0.03 0.03 0.03]"},
		{"half away from zero", "USD", "", []string{"-0.5 a:1"}, "a: -0.01 of -0.5, tax -0.01, total -0.51, lines [-0.01]"},
		{"rates add up", "USD", "", []string{"100 a:5 b:9.975"}, "a: 5 of 100, b: 9.98 of 100, tax 14.98, total 114.98, lines [14.98]"},
		{"or compound, on exact taxes", "USD", "", []string{"10.1 a:5 b:9.975c"}, "a: 0.51 of 10.1, b: 1.06 of 10.61, tax 1.57, total 11.67, lines [1.57]"},
		{"lines of other rates", "EUR", "", []string{"10 a:19", "10 b:7", "-1 a:19"}, "a: 1.71 of 9, b: 0.7 of 10, tax 2.41, total 21.41, lines [1.9 0.7 -0.19]"},
		{"contained", "EUR", inclusive, []string{"119 a:19"}, "a: 19 of 100, tax 19, total 119, lines [19]"},
		{"contained, several", "EUR", inclusive, []string{"10 a:5 b:5"}, "a: 0.45 of 9.1, b: 0.45 of 9.1, tax 0.9, total 10, lines [0.9]"},
		{"contained, compound", "EUR", inclusive, []string{"115.5 a:5 b:10c"}, "a: 5 of 100, b: 10.5 of 105, tax 15.5, total 115.5, lines [15.5]"},
		{"contained, by invoice", "EUR", inclusive, []string{"1 a:19", "1 a:19", "1 a:19"}, "a: 0.48 of 2.52, tax 0.48, total 3, lines [0.16 0.16 0.16]"},
		{"contained, by line", "EUR", inclusive + perLine, []string{"0.1 a:5", "0.1 a:5", "0.1 a:5"}, "a: 0 of 0.3, tax 0, total 0.3, lines [0 0 0]"},
		{"contained, by invoice again", "EUR", inclusive, []string{"0.1 a:5", "0.1 a:5", "0.1 a:5"}, "a: 0.01 of 0.29, tax 0.01, total 0.3, lines [0.01 0 0]"},
		{"reverse charge", "EUR", "", []string{"100 a:19r"}, "a: 0 of 100, tax 0, total 100, lines [0]"},
		{"reverse charge, contained", "EUR", inclusive, []string{"119 a:19r"}, "a: 0 of 119, tax 0, total 119, lines [0]"},
		{"no minor digits", "JPY", "", []string{"101 a:8"}, "a: 8 of 101, tax 8, total 109, lines [8]"},
		{"nothing is rounded", "", inclusive, []string{"1 a:20"}, "a: 1/6 of 5/6, tax 1/6, total 1, lines [1/6]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := tax.Request{Inclusive: strings.Contains(tt.how, inclusive), PerLine: strings.Contains(tt.how, perLine)}
			if tt.currency != "" {
				r.Currency = money.MustCurrency(tt.currency)
			}
			for _, l := range tt.lines {
				r.Lines = append(r.Lines, line(l))
			}
			got, err := tax.Compute(r)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, text(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestHalfEven(t *testing.T) {
	t.Parallel()
	got, err := tax.Compute(tax.Request{Currency: money.MustCurrency("USD"), Rounding: money.HalfEven, Lines: []tax.Line{line("0.5 a:1"), line("1.5 b:1")}})
	if want := "a: 0 of 0.5, b: 0.02 of 1.5, tax 0.02, total 2.02, lines [0 0.02]"; err != nil || text(got) != want {
		t.Errorf("%s, %v; want %s", text(got), err, want)
	}
}

func TestComputeRefuses(t *testing.T) {
	t.Parallel()
	for _, l := range []string{"1 a:-1", "1 a:1000.01", "1 a:1 a:2"} {
		if _, err := tax.Compute(tax.Request{Lines: []tax.Line{line(l)}}); !errors.Is(err, tax.ErrInvalid) {
			t.Errorf("%s: %v", l, err)
		}
	}
	huge := tax.Request{Currency: money.MustCurrency("USD"), Lines: []tax.Line{{Amount: number("9" + strings.Repeat("0", 30)), Rates: []tax.Rate{rate("a:10")}}}}
	if _, err := tax.Compute(huge); !errors.Is(err, money.ErrOverflow) {
		t.Errorf("more than an invoice can hold: %v", err)
	}
}

// cents rounds half away from zero, in its own way.
func cents(r *big.Rat) int64 {
	n, err := strconv.ParseInt(strings.ReplaceAll(r.FloatString(2), ".", ""), 10, 64)
	if err != nil {
		panic(err)
	}
	return n
}

func minor(t *rapid.T, r money.Rational) int64 {
	d, _, err := r.Decimal()
	if err != nil {
		t.Fatal(err)
	}
	n, err := d.Scaled(2)
	if err != nil {
		t.Fatalf("%s is no whole number of cents", r)
	}
	return n
}

// TestComputeAgainstFractions recomputes what is rounded, and then counts that nothing is lost on the way to rates and lines.
func TestComputeAgainstFractions(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := tax.Request{Currency: money.MustCurrency("USD"), Inclusive: rapid.Bool().Draw(t, "inclusive"), PerLine: rapid.Bool().Draw(t, "perLine")}
		var rates []tax.Rate
		for i := range rapid.IntRange(0, 4).Draw(t, "rates") {
			rates = append(rates, tax.Rate{
				Key: strconv.Itoa(i), Percent: money.FromScaled(rapid.Int64Range(0, 30_000).Draw(t, "percent"), 3),
				Compound: rapid.Bool().Draw(t, "compound"), ReverseCharge: rapid.IntRange(0, 5).Draw(t, "reverse") == 0,
			})
		}
		exact := map[[2]int]*big.Rat{} // what is rounded as one, by line and rate
		var gross int64
		for i := range rapid.IntRange(0, 6).Draw(t, "lines") {
			amount := rapid.Int64Range(-5_000, 20_000).Draw(t, "cents")
			gross += amount
			l := tax.Line{Amount: money.FromScaled(amount, 2).Rational()}
			sum, one := big.NewRat(100, 1), map[string]*big.Rat{} // of a net amount of 100
			for _, rate := range rates {
				if rapid.IntRange(0, 3).Draw(t, "applies") == 0 {
					continue
				}
				l.Rates = append(l.Rates, rate)
				p, _ := new(big.Rat).SetString(rate.Percent.String())
				if rate.ReverseCharge {
					p.SetInt64(0)
				}
				if rate.Compound {
					p.Mul(p, sum).Quo(p, big.NewRat(100, 1))
				}
				one[rate.Key] = p
				sum = new(big.Rat).Add(sum, p)
			}
			for key, p := range one {
				by := big.NewRat(100, 1)
				if r.Inclusive {
					by = sum
				}
				part := new(big.Rat).Mul(big.NewRat(amount, 100), new(big.Rat).Quo(p, by))
				n, _ := strconv.Atoi(key)
				at := [2]int{0, n}
				if r.PerLine {
					at[0] = i
				}
				if exact[at] == nil {
					exact[at] = new(big.Rat)
				}
				exact[at].Add(exact[at], part)
			}
			r.Lines = append(r.Lines, l)
		}
		got, err := tax.Compute(r)
		if err != nil {
			t.Fatal(err)
		}
		var want, ofRates, ofLines int64
		for _, part := range exact {
			want += cents(part)
		}
		for _, one := range got.Taxes {
			ofRates += minor(t, one.Amount)
		}
		for _, one := range got.Lines {
			ofLines += minor(t, one)
		}
		total := gross + want
		if r.Inclusive {
			total = gross
		}
		if minor(t, got.Tax) != want || ofRates != want || ofLines != want || minor(t, got.Total) != total {
			t.Fatalf("%s; want tax %d and total %d", text(got), want, total)
		}
		mirror := r
		mirror.Lines = nil
		for _, l := range r.Lines {
			mirror.Lines = append(mirror.Lines, tax.Line{Amount: l.Amount.Neg(), Rates: l.Rates})
		}
		if back, err := tax.Compute(mirror); err != nil || minor(t, back.Tax) != -want {
			t.Fatalf("taken back: %s, %v", text(back), err)
		}
	})
}

// TestInclusiveRoundTrip: of a price with tax that was made from a net price, the net price comes back.
func TestInclusiveRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		rates := []tax.Rate{{Key: "a", Percent: money.FromScaled(rapid.Int64Range(0, 30_000).Draw(t, "percent"), 3)}}
		usd := money.MustCurrency("USD")
		net := money.FromScaled(rapid.Int64Range(-100_000, 1_000_000).Draw(t, "net"), 2).Rational()
		added, err := tax.Compute(tax.Request{Currency: usd, Lines: []tax.Line{{Amount: net, Rates: rates}}})
		if err != nil {
			t.Fatal(err)
		}
		found, err := tax.Compute(tax.Request{Currency: usd, Inclusive: true, Lines: []tax.Line{{Amount: added.Total, Rates: rates}}})
		if err != nil {
			t.Fatal(err)
		}
		if found.Taxes[0].Base.Cmp(net) != 0 || found.Tax.Cmp(added.Tax) != 0 {
			t.Fatalf("%s came back as %s", text(added), text(found))
		}
	})
}

func TestSelect(t *testing.T) {
	t.Parallel()
	rules := catalog.Taxes{Rules: []catalog.TaxRule{
		{Key: "de", Percent: money.MustDecimal("19"), Country: "DE", ReverseCharge: true},
		{Key: "books", Percent: money.MustDecimal("7"), Country: "FR", Products: []string{"books"}},
		{Key: "gst", Percent: money.MustDecimal("5"), Country: "CA"},
		{Key: "qst", Percent: money.MustDecimal("9.975"), Country: "CA", Region: "QC", Compound: true},
		{Key: "world", Percent: money.MustDecimal("1"), Products: []string{"everywhere"}},
	}}
	tests := []struct {
		where   tax.Place
		product string
		want    string
	}{
		{tax.Place{Country: "DE"}, "", "de"},
		{tax.Place{Country: "DE", TaxID: "DE1"}, "", "de reverse"},
		{tax.Place{Country: "DE", Exempt: true}, "", ""},
		{tax.Place{Country: "FR"}, "", ""},
		{tax.Place{Country: "FR", TaxID: "FR1"}, "books", "books"},
		{tax.Place{Country: "CA", Region: "QC"}, "", "gst qst"},
		{tax.Place{Country: "CA", Region: "BC"}, "everywhere", "gst world"},
		{tax.Place{}, "everywhere", "world"},
	}
	for _, tt := range tests {
		var got []string
		for _, r := range tax.Select(rules, tt.where, tt.product) {
			got = append(got, r.Key)
			if r.ReverseCharge {
				got = append(got, "reverse")
			}
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%+v, %q: %v, want %s", tt.where, tt.product, got, tt.want)
		}
	}
}
