package declare

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/price"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestFaults reads each testdata/*.yaml; beside it stand the faults, one a line, or nothing where there are none.
func TestFaults(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no test data: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			source, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			c, faults := Decode(filepath.Base(file), source)
			if (c == nil) != (len(faults) > 0) {
				t.Errorf("catalog %v with %d faults", c, len(faults))
			}
			golden := strings.TrimSuffix(file, ".yaml") + ".faults"
			got := printed(faults)
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
		})
	}
}

func printed(faults []Fault) string {
	var b strings.Builder
	for _, f := range faults {
		b.WriteString(f.Error() + "\n")
	}
	return b.String()
}

func readDesign(t testing.TB) []byte {
	t.Helper()
	source, err := os.ReadFile("testdata/design.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return source
}

func TestDesign(t *testing.T) {
	t.Parallel()
	got, faults := Decode("design.yaml", readDesign(t))
	if len(faults) > 0 {
		t.Fatal(printed(faults))
	}
	usd := money.MustCurrency("USD")
	dec := func(s string) *money.Decimal { d := money.MustDecimal(s); return &d }
	want := &catalog.Catalog{
		Meters: []catalog.Meter{
			{Key: "api_calls", Event: "request", Aggregation: meter.Count, Dimensions: []string{"route", "status"}},
			{Key: "tokens", Event: "completion", Aggregation: meter.Sum, Value: "data.tokens", Unit: "tokens"},
		},
		Plans: []catalog.Plan{
			{Key: "free", Currency: usd, Limits: []catalog.Limit{
				{Key: "burst", Meter: "api_calls", Bucket: &catalog.Bucket{Rate: *dec("200"), Burst: *dec("200"), Per: time.Second}},
				{Key: "daily", Meter: "api_calls", Quota: dec("100"), Window: period.Day},
			}},
			{
				Key: "pro", Currency: usd,
				Prices: []price.Price{
					{Key: "platform", Model: price.Flat, Amount: *dec("20"), Charge: price.InAdvance},
					{Key: "calls", Meter: "api_calls", Model: price.Graduated, Charge: price.InArrears, Tiers: []price.Tier{
						{UpTo: dec("10000")}, {UnitAmount: *dec("0.0004")},
					}},
				},
				Limits: []catalog.Limit{{Key: "spend", SpendCap: dec("500"), Window: period.BillingPeriod}},
			},
		},
		Routes: []catalog.Route{{
			Match: "GET /hello", Upstream: "http://127.0.0.1:9000", Meter: "api_calls", Cost: *dec("1"), Timeout: 30 * time.Second, Refund: catalog.RefundDefault(),
		}},
	}
	same := cmp.Options{
		cmp.Comparer(func(a, b money.Decimal) bool { return a.Cmp(b) == 0 }),
		cmp.Comparer(func(a, b money.Currency) bool { return a == b }),
	}
	if diff := cmp.Diff(want, got, same); diff != "" {
		t.Errorf("catalog (-want +got):\n%s", diff)
	}
	if _, err := catalog.Compile(1, got); err != nil {
		t.Error(err)
	}
}

// TestLineEnds: git would not keep these line ends in a file.
func TestLineEnds(t *testing.T) {
	t.Parallel()
	_, faults := Decode("f.yaml", []byte("tallystick: 1\r\nmeters:\r\n  - {key: a,\r\n     evnt: b, aggregation: count}\r\n"))
	if len(faults) != 1 || faults[0].Line != 4 || faults[0].Column != 6 || faults[0].Suggestion != "event" {
		t.Errorf("got %v", faults)
	}
	_, faults = Decode("f.yaml", []byte("tallystick: 1\rmeters:"))
	if len(faults) != 1 || faults[0].Line != 1 || faults[0].Column != 14 {
		t.Errorf("got %v", faults)
	}
}

func TestFaultJSON(t *testing.T) {
	t.Parallel()
	got, err := json.Marshal(Fault{File: "a", Line: 1, Column: 2, Message: "m"})
	if want := `{"file":"a","line":1,"column":2,"message":"m"}`; err != nil || string(got) != want {
		t.Errorf("got %s %v, want %s", got, err, want)
	}
}
