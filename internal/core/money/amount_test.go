package money_test

import (
	"encoding/json"
	"errors"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tallystick/tallystick/internal/core/money"
)

func TestParseCurrency(t *testing.T) {
	t.Parallel()
	digits := map[string]int{
		"USD": 2, "EUR": 2, "JPY": 0, "KWD": 3, "BHD": 3, "CLF": 4, "UYW": 4, "UYI": 0, "ISK": 0, "HUF": 2, "MRU": 2,
		"XCG": 2, "ZWG": 2, "SLE": 2, "VED": 2, "BGN": 2, "HRK": 2, "XAF": 0, "BYR": 0, "ANG": 2,
	}
	for code, want := range digits {
		c, err := money.ParseCurrency(code)
		if err != nil || c.Digits() != want || c.Code() != code || c.String() != code {
			t.Errorf("%s: %d digits, %v; want %d", code, c.Digits(), err, want)
		}
	}
	for _, code := range []string{"", "usd", "US", "USDX", "XXX", "XTS", "XAU", "XDR", "DEM", "a very long name"} {
		if c, err := money.ParseCurrency(code); !errors.Is(err, money.ErrCurrency) || c.Code() != "" {
			t.Errorf("%q: %v, %v; want ErrCurrency", code, c, err)
		}
	}
}

func TestCurrencyText(t *testing.T) {
	t.Parallel()
	if b, err := json.Marshal(money.MustCurrency("KWD")); err != nil || string(b) != `"KWD"` {
		t.Errorf("%s, %v", b, err)
	}
	if _, err := json.Marshal(money.Currency{}); !errors.Is(err, money.ErrCurrency) {
		t.Errorf("no currency was written: %v", err)
	}
	c := money.MustCurrency("USD")
	if err := json.Unmarshal([]byte(`"EURO"`), &c); !errors.Is(err, money.ErrCurrency) || c != money.MustCurrency("USD") {
		t.Errorf("%v, %v", c, err)
	}
}

func TestAmountJSON(t *testing.T) {
	t.Parallel()
	usd, jpy, clf := money.MustCurrency("USD"), money.MustCurrency("JPY"), money.MustCurrency("CLF")
	tests := []struct {
		amount money.Amount
		want   string
	}{
		{money.NewAmount(1234, usd), `{"amount":"12.34","currency":"USD"}`},
		{money.NewAmount(-5, usd), `{"amount":"-0.05","currency":"USD"}`},
		{money.NewAmount(2000, usd), `{"amount":"20.00","currency":"USD"}`},
		{money.NewAmount(0, usd), `{"amount":"0.00","currency":"USD"}`},
		{money.NewAmount(1234, jpy), `{"amount":"1234","currency":"JPY"}`},
		{money.NewAmount(0, jpy), `{"amount":"0","currency":"JPY"}`},
		{money.NewAmount(1, clf), `{"amount":"0.0001","currency":"CLF"}`},
		{money.NewAmount(math.MinInt64, usd), `{"amount":"-92233720368547758.08","currency":"USD"}`},
		{money.NewAmount(math.MaxInt64, clf), `{"amount":"922337203685477.5807","currency":"CLF"}`},
	}
	for _, tt := range tests {
		b, err := json.Marshal(tt.amount)
		if err != nil || string(b) != tt.want {
			t.Errorf("%s, %v; want %s", b, err, tt.want)
		}
		var back money.Amount
		if err := json.Unmarshal(b, &back); err != nil || back != tt.amount {
			t.Errorf("%s read as %s, %v", b, back, err)
		}
		if got, err := money.Round(tt.amount.Decimal(), tt.amount.Currency(), money.HalfEven); err != nil || got != tt.amount {
			t.Errorf("%s through Decimal is %s, %v", tt.amount, got, err)
		}
	}
	if _, err := json.Marshal(money.Amount{}); !errors.Is(err, money.ErrCurrency) {
		t.Errorf("an amount without currency was written: %v", err)
	}
}

func TestAmountJSONRefused(t *testing.T) {
	t.Parallel()
	tests := []struct {
		in  string
		err error
	}{
		{`{"amount":"12.345","currency":"USD"}`, money.ErrInexact},
		{`{"amount":"1.5","currency":"JPY"}`, money.ErrInexact},
		{`{"amount":"92233720368547758.08","currency":"USD"}`, money.ErrOverflow},
		{`{"amount":"1e3","currency":"USD"}`, money.ErrSyntax},
		{`{"amount":12.34,"currency":"USD"}`, money.ErrSyntax},
		{`{"amount":"12.34","currency":"usd"}`, money.ErrCurrency},
		{`{"amount":"12.34","currency":"XXX"}`, money.ErrCurrency},
		{`{"amount":"12.34"}`, money.ErrSyntax},
		{`{"amount":null,"currency":"USD"}`, money.ErrSyntax},
		{`{"currency":"USD"}`, money.ErrSyntax},
		{`{"amount":"1","currency":"USD","cents":3}`, money.ErrSyntax},
		{`"12.34"`, money.ErrSyntax},
		{`12.34`, money.ErrSyntax},
		{`null`, money.ErrSyntax},
		{`[]`, money.ErrSyntax},
	}
	for _, tt := range tests {
		before := money.NewAmount(7, money.MustCurrency("USD"))
		a := before
		if err := json.Unmarshal([]byte(tt.in), &a); !errors.Is(err, tt.err) || a != before {
			t.Errorf("%s: %s, %v; want %v", tt.in, a, err, tt.err)
		}
	}
	// Called directly, as no JSON decoder does.
	var a money.Amount
	if err := a.UnmarshalJSON([]byte(`{"amount":"1","currency":"USD"} {}`)); !errors.Is(err, money.ErrSyntax) {
		t.Errorf("two values: %v", err)
	}
	var trailing struct {
		A money.Amount `json:"a"`
	}
	if err := json.Unmarshal([]byte(`{"a":{"amount":"12.3400","currency":"USD"}}`), &trailing); err != nil {
		t.Errorf("zeros after the minor digits change nothing: %v", err)
	}
}

func TestAmountAdd(t *testing.T) {
	t.Parallel()
	usd, eur := money.MustCurrency("USD"), money.MustCurrency("EUR")
	got, err := money.NewAmount(10, usd).Add(money.NewAmount(-15, usd))
	if diff := cmp.Diff(money.NewAmount(-5, usd), got); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	tests := []struct {
		a, b money.Amount
		err  error
	}{
		{money.NewAmount(1, usd), money.NewAmount(1, eur), money.ErrCurrency},
		{money.NewAmount(1, usd), money.Amount{}, money.ErrCurrency},
		{money.Amount{}, money.Amount{}, money.ErrCurrency},
		{money.NewAmount(math.MaxInt64, usd), money.NewAmount(1, usd), money.ErrOverflow},
		{money.NewAmount(math.MinInt64, usd), money.NewAmount(-1, usd), money.ErrOverflow},
	}
	for _, tt := range tests {
		if got, err := tt.a.Add(tt.b); !errors.Is(err, tt.err) || got != (money.Amount{}) {
			t.Errorf("%s + %s = %s, %v; want %v", tt.a, tt.b, got, err, tt.err)
		}
	}
}

func TestRound(t *testing.T) {
	t.Parallel()
	tests := []struct {
		in       string
		currency string
		up, even int64
	}{
		{"0.4", "USD", 40, 40},
		{"2.005", "USD", 201, 200},
		{"2.015", "USD", 202, 202},
		{"-2.005", "USD", -201, -200},
		{"2.00499999999999999999999999999999999999", "USD", 200, 200},
		{"2.00500000000000000000000000000000000001", "USD", 201, 201},
		{"0.5", "JPY", 1, 0},
		{"-0.5", "JPY", -1, 0},
		{"0.49", "JPY", 0, 0},
		{"9.995", "USD", 1000, 1000},
		{"0.995", "USD", 100, 100},
		{"0.00000000000000000000000000000000000001", "JPY", 0, 0},
	}
	for _, tt := range tests {
		c := money.MustCurrency(tt.currency)
		up, err1 := money.Round(money.MustDecimal(tt.in), c, money.HalfUp)
		even, err2 := money.Round(money.MustDecimal(tt.in), c, money.HalfEven)
		if err1 != nil || err2 != nil || up.Minor() != tt.up || even.Minor() != tt.even {
			t.Errorf("%s %s: half up %d, half even %d; want %d, %d (%v, %v)", tt.in, tt.currency, up.Minor(), even.Minor(), tt.up, tt.even, err1, err2)
		}
	}
	if _, err := money.Round(money.FromInt(1), money.Currency{}, money.HalfUp); !errors.Is(err, money.ErrCurrency) {
		t.Errorf("no currency: %v", err)
	}
	if _, err := money.Round(money.FromInt(1), money.MustCurrency("USD"), money.Rounding(9)); err == nil {
		t.Error("an unknown rounding was accepted")
	}
	if _, err := money.Round(money.FromInt(math.MaxInt64), money.MustCurrency("USD"), money.HalfUp); !errors.Is(err, money.ErrOverflow) {
		t.Errorf("too much for int64: %v", err)
	}
}

func FuzzAmountJSON(f *testing.F) {
	for _, s := range []string{
		`{"amount":"12.34","currency":"USD"}`, `{"amount":"-1","currency":"JPY"}`, `{"amount":12,"currency":"USD"}`, `null`,
		`{"amount":"1","currency":"USD","amount":"2"}`, `{"AMOUNT":"1","currency":"USD"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var a money.Amount
		if json.Unmarshal(b, &a) != nil {
			return
		}
		out, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		var back money.Amount
		if err := json.Unmarshal(out, &back); err != nil || back != a {
			t.Fatalf("%s became %s, then %s, %v", b, out, back, err)
		}
	})
}
