package money_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tallystick/tallystick/internal/core/money"
)

func TestParseDecimal(t *testing.T) {
	t.Parallel()
	nines := strings.Repeat("9", 38)
	tests := []struct {
		in, want string // want "" is an error
		err      error
	}{
		{in: "0", want: "0"},
		{in: "-0", want: "0"},
		{in: "-0.000", want: "0"},
		{in: "0." + strings.Repeat("0", 60), want: "0"},
		{in: "-12.50", want: "-12.5"},
		{in: "20.00", want: "20"},
		{in: "0.0004", want: "0.0004"},
		{in: "100", want: "100"},
		{in: "123456789012345678", want: "123456789012345678"},
		{in: "1234567890123456789", want: "1234567890123456789"},
		{in: "9223372036854775807", want: "9223372036854775807"},
		{in: "-9223372036854775808", want: "-9223372036854775808"},
		{in: "9223372036854775808", want: "9223372036854775808"},
		{in: nines + "." + nines, want: nines + "." + nines},
		{in: "-" + nines + "." + nines, want: "-" + nines + "." + nines},
		{in: "1" + strings.Repeat("0", 37), want: "1" + strings.Repeat("0", 37)},
		{in: "0." + strings.Repeat("0", 37) + "1", want: "0." + strings.Repeat("0", 37) + "1"},
		{in: "1." + strings.Repeat("0", 50), want: "1"},
		{in: "1" + strings.Repeat("0", 38), err: money.ErrOverflow},
		{in: "0." + strings.Repeat("0", 38) + "1", err: money.ErrOverflow},
		{in: "1." + strings.Repeat("0", 38) + "1", err: money.ErrOverflow},
		{in: "", err: money.ErrSyntax},
		{in: "-", err: money.ErrSyntax},
		{in: ".", err: money.ErrSyntax},
		{in: ".5", err: money.ErrSyntax},
		{in: "5.", err: money.ErrSyntax},
		{in: "+5", err: money.ErrSyntax},
		{in: "007", err: money.ErrSyntax},
		{in: "-01.5", err: money.ErrSyntax},
		{in: "1e3", err: money.ErrSyntax},
		{in: "1,000", err: money.ErrSyntax},
		{in: "1_000", err: money.ErrSyntax},
		{in: " 1", err: money.ErrSyntax},
		{in: "1\n", err: money.ErrSyntax},
		{in: "1.2.3", err: money.ErrSyntax},
		{in: "--1", err: money.ErrSyntax},
		{in: "1-", err: money.ErrSyntax},
		{in: "NaN", err: money.ErrSyntax},
		{in: "Infinity", err: money.ErrSyntax},
		{in: "٣", err: money.ErrSyntax},
		{in: strings.Repeat("0", 81), err: money.ErrSyntax},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			t.Parallel()
			d, err := money.ParseDecimal(tt.in)
			if !errors.Is(err, tt.err) {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			if err == nil && d.String() != tt.want {
				t.Errorf("got %s, want %s", d, tt.want)
			}
			if err != nil && !d.IsZero() {
				t.Errorf("got %s beside the error", d)
			}
		})
	}
}

func TestFromScaled(t *testing.T) {
	t.Parallel()
	tests := []struct {
		units int64
		scale int
		want  string
	}{
		{0, 38, "0"},
		{1234, 2, "12.34"},
		{-5, 1, "-0.5"},
		{1200, 2, "12"},
		{120, 0, "120"},
		{math.MinInt64, 0, "-9223372036854775808"},
		{math.MinInt64, 19, "-0.9223372036854775808"},
		{math.MaxInt64, 38, "0.00000000000000000009223372036854775807"},
	}
	for _, tt := range tests {
		if got := money.FromScaled(tt.units, tt.scale).String(); got != tt.want {
			t.Errorf("FromScaled(%d, %d) = %s, want %s", tt.units, tt.scale, got, tt.want)
		}
	}
	for _, scale := range []int{-1, 39} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("scale %d did not panic", scale)
				}
			}()
			money.FromScaled(1, scale)
		}()
	}
}

func TestScaled(t *testing.T) {
	t.Parallel()
	tests := []struct {
		in    string
		scale int
		want  int64
		err   error
	}{
		{"12.34", 2, 1234, nil},
		{"12.34", 4, 123400, nil},
		{"12.34", 1, 0, money.ErrInexact},
		{"0", 38, 0, nil},
		{"100", -1, 0, money.ErrInexact},
		{"-9223372036854775808", 0, math.MinInt64, nil},
		{"9223372036854775808", 0, 0, money.ErrOverflow},
		{"-92233720368547758.08", 2, math.MinInt64, nil},
		{"92233720368547758.08", 2, 0, money.ErrOverflow},
		{"1", 19, 0, money.ErrOverflow},
		{"100000000000000000000000000000000000.5", 0, 0, money.ErrInexact},
	}
	for _, tt := range tests {
		got, err := money.MustDecimal(tt.in).Scaled(tt.scale)
		if got != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("%s.Scaled(%d) = %d, %v; want %d, %v", tt.in, tt.scale, got, err, tt.want, tt.err)
		}
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	nines := strings.Repeat("9", 38)
	top, tiny := money.MustDecimal(nines), money.MustDecimal("0."+strings.Repeat("0", 37)+"1")
	one := money.FromInt(1)
	ops := map[string]func() (money.Decimal, error){
		"top + 1":     func() (money.Decimal, error) { return top.Add(one) },
		"-top - 1":    func() (money.Decimal, error) { return top.Neg().Sub(one) },
		"top × top":   func() (money.Decimal, error) { return top.Mul(top) },
		"tiny × tiny": func() (money.Decimal, error) { return tiny.Mul(tiny) },
		"tiny × 0.1":  func() (money.Decimal, error) { return tiny.Mul(money.MustDecimal("0.1")) },
	}
	for name, op := range ops {
		if d, err := op(); !errors.Is(err, money.ErrOverflow) || !d.IsZero() {
			t.Errorf("%s = %s, %v; want ErrOverflow", name, d, err)
		}
	}
	if d, err := tiny.Mul(money.FromInt(10)); err != nil || d.Scale() != 37 {
		t.Errorf("tiny × 10 = %s, %v", d, err)
	}
	bottom := money.MustDecimal("-" + nines + ".5").Floor()
	if want := "-1" + strings.Repeat("0", 38); bottom.String() != want {
		t.Errorf("floor at the lower limit is %s, want %s", bottom, want)
	}
	if got := bottom.Neg().Neg(); !got.Equal(bottom) {
		t.Errorf("-(-x) = %s, want %s", got, bottom)
	}
}

// A Decimal by value in JSON is the trap of the library below: see M1 of the dependency notes.
func TestDecimalJSON(t *testing.T) {
	t.Parallel()
	type holder struct {
		D   money.Decimal            `json:"d"`
		P   *money.Decimal           `json:"p"`
		Opt money.Decimal            `json:"opt,omitzero"`
		M   map[string]money.Decimal `json:"m"`
	}
	wide := money.MustDecimal("12345678901234567890.000000001")
	in := holder{D: money.MustDecimal("0.0000001"), P: &wide, M: map[string]money.Decimal{"x": money.FromInt(-3)}}
	b, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"d":"0.0000001","p":"12345678901234567890.000000001","m":{"x":"-3"}}`; string(b) != want {
		t.Fatalf("got %s, want %s", b, want)
	}
	var out holder
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(in, out); diff != "" {
		t.Error(diff)
	}
	var escaped money.Decimal
	if err := json.Unmarshal([]byte(`"1\u0032.5"`), &escaped); err != nil || escaped.String() != "12.5" {
		t.Errorf("an escaped digit: %s, %v", escaped, err)
	}
	for _, bad := range []string{`null`, `1.5`, `1`, `"1e3"`, `""`, `" 1"`, `true`, `[]`, `{}`} {
		d := money.FromInt(7)
		if err := json.Unmarshal([]byte(bad), &d); err == nil {
			t.Errorf("%s was read as %s", bad, d)
		}
		if !d.Equal(money.FromInt(7)) {
			t.Errorf("%s changed the value to %s", bad, d)
		}
	}
}

func TestDecimalPrints(t *testing.T) {
	t.Parallel()
	d := money.MustDecimal("-12.50")
	if got := fmt.Sprintf("%v %s %q", d, d, d); got != `-12.5 -12.5 "-12.5"` {
		t.Error(got)
	}
}

// Copies share what is below them, so nothing may ever write to it; run with -race.
func TestDecimalIsShared(t *testing.T) {
	t.Parallel()
	wide := money.MustDecimal("-12345678901234567890.125")
	const text = "-12345678901234567890.125"
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			d := wide
			for range 50 {
				_, _ = d.Add(money.FromInt(1))
				_, _ = d.Mul(d)
				_, _ = d.Sub(d)
				_, _ = d.Neg().Abs().Floor().Scaled(3)
				_, _ = money.Round(d, money.MustCurrency("USD"), money.HalfUp)
				_ = d.Cmp(money.FromInt(5))
				if d.String() != text {
					t.Errorf("changed to %s", d)
				}
			}
		})
	}
	wg.Wait()
}

func TestSmallNumbersAreCheap(t *testing.T) {
	a, b := money.FromScaled(1234567, 4), money.FromInt(99)
	tests := []struct {
		name string
		max  float64
		op   func()
	}{
		{"Add", 0, func() { _, _ = a.Add(b) }},
		{"Sub", 0, func() { _, _ = a.Sub(b) }},
		{"Mul", 0, func() { _, _ = a.Mul(b) }},
		{"Cmp", 0, func() { _ = a.Cmp(b) }},
		{"Scaled", 0, func() { _, _ = a.Scaled(6) }},
		{"Parse", 0, func() { _, _ = money.ParseDecimal("123.4567") }},
		{"String", 1, func() { _ = a.String() }},
		{"MarshalText", 1, func() { _, _ = a.MarshalText() }},
	}
	for _, tt := range tests {
		if got := testing.AllocsPerRun(100, tt.op); got > tt.max {
			t.Errorf("%s allocates %v times, want at most %v", tt.name, got, tt.max)
		}
	}
}

func FuzzParseDecimal(f *testing.F) {
	for _, s := range []string{
		"0", "-0", "-12.50", "0.0004", "9223372036854775807", "-9223372036854775808", "9223372036854775808.5",
		strings.Repeat("9", 38) + "." + strings.Repeat("9", 38), "1e5", ".5", "5.", "+1", "007", "", "1" + strings.Repeat("0", 38),
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := money.ParseDecimal(s)
		if err != nil {
			if !errors.Is(err, money.ErrSyntax) && !errors.Is(err, money.ErrOverflow) {
				t.Fatalf("%q: unknown error %v", s, err)
			}
			return
		}
		text := d.String()
		again, err := money.ParseDecimal(text)
		if err != nil || !again.Equal(d) || again.String() != text {
			t.Fatalf("%q became %s, then %s, %v", s, text, again, err)
		}
		if rat(text).Cmp(rat(s)) != 0 {
			t.Fatalf("%q became %s", s, text)
		}
		b, err := json.Marshal(d)
		if err != nil || string(b) != `"`+text+`"` {
			t.Fatalf("%q in JSON is %s, %v", s, b, err)
		}
	})
}

func TestRoundTo(t *testing.T) {
	t.Parallel()
	nines := strings.Repeat("9", 38)
	for _, tt := range []struct {
		in       string
		decimals int
		want     string
	}{
		{"1.2345", 2, "1.23"},
		{"1.235", 2, "1.24"},
		{"-1.235", 2, "-1.24"},
		{"1.2", 5, "1.2"},
		{"0.5", 0, "1"},
		{"-0.4", 0, "0"},
		{"2.5", -1, "3"},
		{"0.33333333333333333333333333333333335", 34, "0.3333333333333333333333333333333334"},
		{nines + ".4", 0, nines},
		{"0." + nines, 37, "1"},
		{nines + "." + nines, 38, nines + "." + nines},
	} {
		got, err := money.MustDecimal(tt.in).RoundTo(tt.decimals)
		if err != nil || got.String() != tt.want {
			t.Errorf("%s to %d decimals: %s, %v; want %s", tt.in, tt.decimals, got, err, tt.want)
		}
	}
	if got, err := money.MustDecimal(nines + ".5").RoundTo(0); !errors.Is(err, money.ErrOverflow) {
		t.Errorf("38 nines and a half: %s, %v", got, err)
	}
}
