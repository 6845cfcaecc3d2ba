package invoice_test

import (
	"encoding/json"
	"errors"
	"flag"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/price"
	"github.com/tallystick/tallystick/internal/core/subscription"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var (
	september = time.Date(2026, 8, 31, 22, 0, 0, 0, time.UTC) // midnights of Europe/Berlin
	october   = time.Date(2026, 9, 30, 22, 0, 0, 0, time.UTC)
	november  = time.Date(2026, 10, 31, 23, 0, 0, 0, time.UTC)
)

// plan is an input in the words of prices, periods and usage.
type plan struct {
	invoice.Input
	Prices  []price.Price
	Closing period.Interval
	Next    period.Interval
	Usage   []invoice.Usage
}

// input charges what is due when Closing ends and Next begins.
func (p plan) input() (invoice.Input, error) {
	in := p.Input
	in.Closing = p.Closing
	for _, step := range []struct {
		when price.Charge
		in   period.Interval
	}{{price.InArrears, p.Closing}, {price.InAdvance, p.Next}} {
		for _, x := range p.Prices {
			if x.Charge != step.when || !step.in.Start.Before(step.in.End) {
				continue
			}
			c := subscription.Charge{
				Price: x, Plan: p.Plan, Version: p.CatalogVersion, Period: step.in, Service: step.in, Full: step.in, Due: step.in.End,
				Quantity: money.FromInt(1), Ratio: money.FromInt(1).Rational(),
			}
			part := invoice.Part{Charge: c, Quantity: c.Quantity}
			if x.Meter != "" {
				part.Quantity = money.Decimal{}
				for _, u := range p.Usage {
					if u.Meter == x.Meter {
						part.Quantity = u.Quantity
					}
				}
			}
			var err error
			if part.Result, err = x.ChargeFor(price.Usage{Quantity: part.Quantity}); err != nil {
				return in, err
			}
			in.Parts = append(in.Parts, part)
		}
	}
	return in, nil
}

// pro is the plan of the demo with a second meter and a fee in arrears.
func pro() plan {
	return plan{Input: invoice.Input{
		SubscriptionID: "sub_01K6Z0000000000000000000AA",
		CustomerID:     "cus_01K6Z0000000000000000000BB",
		Plan:           "pro",
		CatalogVersion: 3,
		Currency:       money.MustCurrency("USD"),
		Position:       4711,
	},
		Prices: []price.Price{
			{Key: "platform", Model: price.Flat, Amount: money.MustDecimal("20.00"), Charge: price.InAdvance},
			{Key: "calls", Meter: "api_calls", Model: price.Graduated, Charge: price.InArrears, Tiers: []price.Tier{
				{UpTo: new(money.FromInt(10000))},
				{UnitAmount: money.MustDecimal("0.0004")},
			}},
			{Key: "tokens", Meter: "tokens", Model: price.Graduated, Charge: price.InArrears, Tiers: []price.Tier{
				{UnitAmount: money.MustDecimal("0.0000025")},
			}},
			{Key: "support", Model: price.Flat, Amount: money.MustDecimal("3.345"), Charge: price.InArrears},
			{Key: "nothing", Model: price.Flat, Charge: price.InAdvance},
		},
		Closing: period.Interval{Start: september, End: october},
		Next:    period.Interval{Start: october, End: november},
	}
}

func usage(pairs ...string) []invoice.Usage {
	var out []invoice.Usage
	for pair := range slices.Chunk(pairs, 2) {
		out = append(out, invoice.Usage{Meter: pair[0], Quantity: money.MustDecimal(pair[1])})
	}
	return out
}

func build(t *testing.T, p plan) invoice.Invoice {
	t.Helper()
	in, err := p.input()
	if err != nil {
		t.Fatal(err)
	}
	inv, err := invoice.Build(in)
	if err != nil {
		t.Fatal(err)
	}
	return inv
}

func encode(t *testing.T, v any) string {
	t.Helper()
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return string(b) + "\n"
}

func TestGolden(t *testing.T) {
	t.Parallel()
	atStart := pro()
	atStart.Closing.End, atStart.Next = september, atStart.Closing
	closed := pro()
	closed.Usage = usage("api_calls", "31250", "tokens", "123456", "not_priced", "5")
	last := closed
	last.Next = period.Interval{}
	preview := pro()
	preview.Preview = true
	preview.Rounding = money.HalfEven
	yen := closed
	yen.Currency = money.MustCurrency("JPY")
	finalized, err := invoice.Finalize(build(t, closed), 12, november.Add(1500*time.Nanosecond))
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]invoice.Invoice{
		"at_start":  build(t, atStart),
		"closed":    build(t, closed),
		"last":      build(t, last),
		"preview":   build(t, preview),
		"no_digits": build(t, yen),
		"finalized": finalized,
	}
	for name, inv := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if inv.TZVersion != period.TZVersion {
				t.Errorf("zone data %q, want %q", inv.TZVersion, period.TZVersion)
			}
			inv.TZVersion = "golden" // a newer release must not change these files
			got := encode(t, inv)
			file := filepath.Join("testdata", name+".json")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("differs from %s (rewrite with -update if that is right):\n%s", file, diff)
			}
			var back invoice.Invoice
			if err := json.Unmarshal([]byte(got), &back); err != nil {
				t.Fatal(err)
			}
			if again := encode(t, back); again != got {
				t.Errorf("decoding and encoding changed it:\n%s", cmp.Diff(got, again))
			}
		})
	}
}

func TestIDs(t *testing.T) {
	t.Parallel()
	in := pro()
	in.Usage = usage("api_calls", "1")
	ids := map[string]string{}
	add := func(name string, in plan) {
		inv := build(t, in)
		all := map[string]string{name: inv.ID}
		for _, l := range inv.Lines {
			all[name+" "+l.Price] = l.ID
		}
		for what, id := range all {
			if other, ok := ids[id]; ok {
				t.Errorf("%s and %s are both %s", what, other, id)
			}
			ids[id] = what
			if prefix, _, ok := account.ParseID(id); !ok || prefix != "inv" && prefix != "iln" {
				t.Errorf("%s is not an id", id)
			}
		}
	}
	add("closed", in)
	other := in
	other.SubscriptionID += "x"
	add("other subscription", other)
	other = in
	other.Closing, other.Next = in.Next, period.Interval{Start: november, End: november.Add(time.Hour)}
	add("next period", other)
	other = in
	other.Closing.End, other.Next = september, in.Closing
	add("at start", other)

	first := build(t, in)
	preview := in
	preview.Preview, preview.Position, preview.Usage = true, 9, nil
	if got := build(t, preview); got.ID != first.ID || got.Lines[0].ID != first.Lines[0].ID {
		t.Error("a preview and the invoice it becomes have different ids")
	}
}

func TestBuildRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(*plan)
		want   error
	}{
		{"no subscription", func(in *plan) { in.SubscriptionID = "" }, invoice.ErrInvalid},
		{"no customer", func(in *plan) { in.CustomerID = "" }, invoice.ErrInvalid},
		{"no currency", func(in *plan) { in.Currency = money.Currency{} }, invoice.ErrInvalid},
		{"no period", func(in *plan) { in.Closing = period.Interval{} }, invoice.ErrInvalid},
		{"a period without end", func(in *plan) { in.Closing.End = time.Time{} }, invoice.ErrInvalid},
		{"negative usage", func(in *plan) { in.Usage = usage("api_calls", "-1") }, price.ErrInvalid},
		{"a price twice", func(in *plan) { in.Prices = append(in.Prices, in.Prices[0]) }, invoice.ErrInvalid},
		{"a price without tiers", func(in *plan) { in.Prices[1].Tiers = nil }, price.ErrInvalid},
		{"a line too large", func(in *plan) { in.Prices[0].Amount = money.FromInt(math.MaxInt64) }, money.ErrOverflow},
		{"a total too large", func(in *plan) {
			in.Prices[0].Amount = money.FromInt(math.MaxInt64 / 101)
			in.Prices[3].Amount = in.Prices[0].Amount
		}, money.ErrOverflow},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			in := pro()
			tt.change(&in)
			input, err := in.input()
			var inv invoice.Invoice
			if err == nil {
				inv, err = invoice.Build(input)
			}
			if !errors.Is(err, tt.want) {
				t.Errorf("Build = %v, %v; want %v", inv, err, tt.want)
			}
		})
	}
}

func TestFinalize(t *testing.T) {
	t.Parallel()
	in := pro()
	in.Usage = usage("api_calls", "10001")
	draft := build(t, in)
	before := encode(t, draft)
	final, err := invoice.Finalize(draft, 1, november)
	if err != nil {
		t.Fatal(err)
	}
	if final.Number != 1 || final.Status != invoice.Finalized || !final.FinalizedAt.Equal(november) {
		t.Errorf("finalized: number %d, status %s, at %v", final.Number, final.Status, final.FinalizedAt)
	}
	final.Lines[0].Price, final.Lines[0].Tiers[0].Tier = "changed", 9
	if after := encode(t, draft); after != before {
		t.Errorf("the draft was changed:\n%s", cmp.Diff(before, after))
	}

	preview := in
	preview.Preview = true
	usd := func(minor int64) money.Amount { return money.NewAmount(minor, money.MustCurrency("USD")) }
	tests := []struct {
		name   string
		inv    invoice.Invoice
		number int64
		at     time.Time
		want   error
	}{
		{"a preview", build(t, preview), 1, november, invoice.ErrState},
		{"twice", final, 2, november, invoice.ErrState},
		{"without a number", draft, 0, november, invoice.ErrInvalid},
		{"without a time", draft, 1, time.Time{}, invoice.ErrInvalid},
		{"a wrong total", with(draft, func(i *invoice.Invoice) { i.Total = usd(1) }), 1, november, invoice.ErrInvalid},
		{"an altered line", with(draft, func(i *invoice.Invoice) { i.Lines[1].Rounded = usd(1) }), 1, november, invoice.ErrInvalid},
		{"a line of another currency", with(draft, func(i *invoice.Invoice) {
			i.Lines[1].Rounded = money.NewAmount(1, money.MustCurrency("EUR"))
		}), 1, november, money.ErrCurrency},
		{"a gap", with(draft, func(i *invoice.Invoice) { i.Lines[1].Number = 7 }), 1, november, invoice.ErrInvalid},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if _, err := invoice.Finalize(tt.inv, tt.number, tt.at); !errors.Is(err, tt.want) {
				t.Errorf("Finalize: %v, want %v", err, tt.want)
			}
		})
	}
}

// with is a changed copy.
func with(inv invoice.Invoice, change func(*invoice.Invoice)) invoice.Invoice {
	inv.Lines = slices.Clone(inv.Lines)
	change(&inv)
	return inv
}

// TestBuildIsAFunction draws prices and usage, and builds twice with the usage in another order.
func TestBuildIsAFunction(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		in := pro()
		in.Preview = rapid.Bool().Draw(r, "preview")
		in.Prices = rapid.Permutation(in.Prices).Draw(r, "prices")
		for _, meter := range []string{"api_calls", "tokens", "unpriced", "other"} {
			if rapid.Bool().Draw(r, meter) {
				quantity := money.FromScaled(rapid.Int64Range(0, 1<<50).Draw(r, "quantity"), 3)
				in.Usage = append(in.Usage, invoice.Usage{Meter: meter, Quantity: quantity})
			}
		}
		first := build(t, in)
		in.Usage = rapid.Permutation(in.Usage).Draw(r, "usage")
		if diff := cmp.Diff(encode(t, first), encode(t, build(t, in))); diff != "" {
			r.Fatalf("another order of usage, another invoice:\n%s", diff)
		}
		sum := int64(0)
		advance := false
		for i, l := range first.Lines {
			sum += l.Rounded.Minor()
			if l.Number != i+1 {
				r.Fatalf("line %d has number %d", i+1, l.Number)
			}
			if !advance && l.Period == in.Next {
				advance = true
			}
			if advance && l.Period != in.Next {
				r.Fatalf("line %d: arrears after advance", i+1)
			}
			if !in.Preview && l.Exact.IsZero() && l.Quantity.IsZero() {
				r.Fatalf("line %d says nothing", i+1)
			}
		}
		if sum != first.Total.Minor() {
			r.Fatalf("total %s, lines add up to %d", first.Total, sum)
		}
		if in.Preview && len(first.Lines) != len(in.Prices) {
			r.Fatalf("a preview of %d prices has %d lines", len(in.Prices), len(first.Lines))
		}
	})
}
