package catalog

import (
	"math/big"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
)

// TestRecounts: what a meter says of how it counts, and what it only says of itself.
func TestRecounts(t *testing.T) {
	t.Parallel()
	was := Meter{Key: "a", Event: "e", Aggregation: meter.Sum, Value: "data.x", Scale: 2, Filter: Filter{Matches: []Match{{"data.b", []string{"2", "1"}}, {"data.a", []string{"x"}}}}}
	for want, change := range map[string]func(*Meter){
		"":                  func(m *Meter) { m.Unit, m.Dimensions, m.From = "u", []string{"d"}, map[string]string{"d": "data.d"} },
		"event":             func(m *Meter) { m.Event = "f" },
		"aggregation":       func(m *Meter) { m.Aggregation = meter.Max },
		"value":             func(m *Meter) { m.Value = "data.y" },
		"scale":             func(m *Meter) { m.Scale = 3 },
		"filter":            func(m *Meter) { m.Filter.Matches = m.Filter.Matches[:1] },
		"aggregation value": func(m *Meter) { m.Custom, m.Value = true, "event.data.x" },
	} {
		is := was
		change(&is)
		if got := strings.Join(is.Recounts(was), " "); got != want {
			t.Errorf("recounts %q, want %q", got, want)
		}
	}
	same := was
	same.Filter = Filter{Matches: []Match{{"data.a", []string{"x"}}, {"data.b", []string{"1", "2"}}}}
	if got := same.Recounts(was); len(got) > 0 {
		t.Errorf("order alone recounts %q", got)
	}
}

func TestSpans(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"400d": "400d", "24h": "1d", "90m": "1h30m", "5m": "5m", "90s": "1m30s", "1d": "1d", "0d": "0s", "1.5d": "", "d": "", "": "", "-1d": "", "99999999d": ""} {
		got := ""
		if d, ok := ParseSpan(text); ok {
			got = FormatSpan(d)
		}
		if got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	if age, ahead := (Ingest{}).Bounds(); age != AgeDefault || ahead != AheadDefault {
		t.Errorf("defaults: %v, %v", age, ahead)
	}
}

// TestBucketExact: what compiles is the declared rate to the last digit, in lowest terms and within the bound.
func TestBucketExact(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		units := rateUnits()
		b := Bucket{
			Rate: money.FromScaled(rapid.Int64Range(1, 1e12).Draw(t, "rate"), rapid.IntRange(0, 9).Draw(t, "decimals")),
			Per:  units[rapid.IntRange(0, len(units)-1).Draw(t, "unit")].per,
		}
		scale := rapid.IntRange(0, MaxScale).Draw(t, "scale")
		b.Burst = money.FromScaled(rapid.Int64Range(1, 1e15).Draw(t, "burst"), scale)
		rate, per, burst, err := b.Scaled(scale)
		if err != nil {
			return // too large to be exact
		}
		rational := func(d money.Decimal) *big.Rat {
			r, ok := new(big.Rat).SetString(d.String())
			if !ok {
				t.Fatalf("not a number: %s", d)
			}
			power := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(scale)), nil)
			return r.Mul(r, new(big.Rat).SetInt(power))
		}
		want := rational(b.Rate)
		want.Quo(want, new(big.Rat).SetInt64(b.Per.Microseconds()))
		if got := big.NewRat(rate, per); got.Cmp(want) != 0 || got.Num().Int64() != rate {
			t.Fatalf("%v at scale %d: %d per %d µs, want %s", b, scale, rate, per, want)
		}
		if rational(b.Burst).Cmp(new(big.Rat).SetInt64(burst)) != 0 {
			t.Fatalf("burst %s at scale %d: %d", b.Burst, scale, burst)
		}
		size := new(big.Int).Mul(big.NewInt(burst), big.NewInt(per))
		if size.Cmp(big.NewInt(debtMax)) > 0 {
			t.Fatalf("bucket of %s", size)
		}
	})
}

func TestParseRate(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"200/s": "200/s", "1.50/m": "1.5/min", "3/min": "3/min", "4/h": "4/h", "5/d": "5/day", "6/day": "6/day",
		"": "", "200": "", "/s": "", "200/": "", "200/w": "", "200 /s": "", "2e3/s": "", "200/s/s": "", "200/S": "",
	} {
		got := ""
		if rate, per, ok := ParseRate(text); ok {
			got = Bucket{Rate: rate, Per: per}.RateText()
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func FuzzParseRate(f *testing.F) {
	for _, s := range []string{"200/s", "1.5/min", "/", "9/day/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		rate, per, ok := ParseRate(s)
		if !ok {
			return
		}
		text := Bucket{Rate: rate, Per: per}.RateText()
		again, same, ok := ParseRate(text)
		if !ok || again.Cmp(rate) != 0 || same != per {
			t.Errorf("%q prints as %q", s, text)
		}
	})
}
