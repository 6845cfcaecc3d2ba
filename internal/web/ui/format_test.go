package ui

import (
	"math/big"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
)

func plain(s string) string {
	return strings.NewReplacer("\u202f", " ", "\u00a0", " ", "\u2212", "-").Replace(s)
}

func TestMoney(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ sum, currency, want string }{
		{"20", "USD", "$20.00"},
		{"0.0004", "USD", "$0.0004"},
		{"0.5", "EUR", "€0.50"},
		{"-1234567.891", "GBP", "-£1 234 567.891"},
		{"1200", "JPY", "¥1 200"},
		{"0.5", "JPY", "¥0.5"},
		{"12.3", "CHF", "CHF 12.30"},
		{"1.5", "BHD", "BHD 1.500"},
		{"0", "USD", "$0.00"},
		{"999", "USD", "$999.00"},
		{"1000", "USD", "$1 000.00"},
		{"7", "none", "none 7"},
		{"7", "", "7"},
	} {
		if got := plain(MoneyIn(money.MustDecimal(tt.sum), tt.currency)); got != tt.want {
			t.Errorf("%s %s is %q, want %q", tt.sum, tt.currency, got, tt.want)
		}
	}
}

// TestCountLosesNothing: without the spaces it is the number again.
func TestCountLosesNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		d := money.FromScaled(rapid.Int64().Draw(r, "units"), rapid.IntRange(0, 12).Draw(r, "scale"))
		if got := strings.ReplaceAll(plain(Count(d)), " ", ""); got != d.String() {
			r.Fatalf("%s became %s", d, got)
		}
	})
}

func TestShare(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		part, whole := rapid.Int64Range(-5, 1<<40).Draw(r, "part"), rapid.Int64Range(0, 1<<40).Draw(r, "whole")
		want := int64(0)
		switch {
		case part <= 0:
		case part >= whole:
			want = 1000
		default:
			want = new(big.Int).Div(new(big.Int).Mul(big.NewInt(part), big.NewInt(1000)), big.NewInt(whole)).Int64()
		}
		if got := Share(money.FromScaled(part, 3), money.FromScaled(whole, 3), 1000); got != want {
			r.Fatalf("%d of %d is %d, want %d", part, whole, got, want)
		}
	})
}

func TestLeft(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		-time.Second: "now", 0: "now", 1: "1 s", 59*time.Second + 1: "1 min 0 s", 61 * time.Second: "1 min 1 s", time.Hour: "1 h 0 min",
		24*time.Hour - 1: "1 d 0 h", 11*24*time.Hour + 4*time.Hour + 59*time.Minute: "11 d 4 h", 90 * time.Minute: "1 h 30 min",
	} {
		if got := plain(Left(d)); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
}

func TestTimes(t *testing.T) {
	t.Parallel()
	berlin, kathmandu, york := period.MustZone("Europe/Berlin"), period.MustZone("Asia/Kathmandu"), period.MustZone("America/New_York")
	at := func(s string) time.Time {
		v, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	month := period.Interval{Start: at("2026-10-18T22:00:00Z"), End: at("2026-11-18T23:00:00Z")}
	for _, tt := range []struct{ name, got, want string }{
		{"summer", ZoneName(berlin, at("2026-07-01T00:00:00Z")), "Europe/Berlin, UTC+2"},
		{"both", ZoneOver(berlin, month), "Europe/Berlin, UTC+2, later UTC+1"},
		{"one", ZoneOver(kathmandu, month), "Asia/Kathmandu, UTC+5:45"},
		{"west", ZoneName(york, at("2026-12-01T00:00:00Z")), "America/New_York, UTC-5"},
		{"none", ZoneName(period.Zone{}, at("2026-12-01T00:00:00Z")), "UTC"},
		{"month", Span(month, berlin), "19 Oct to 18 Nov 2026"},
		{"elsewhere", Span(month, york), "18 Oct 2026 18:00 to 18 Nov 2026 18:00"},
		{"years", Span(period.Interval{Start: at("2026-12-31T23:00:00Z"), End: at("2027-01-31T23:00:00Z")}, berlin), "1 Jan to 31 Jan 2027"},
		{"over new year", Span(period.Interval{Start: at("2026-12-18T23:00:00Z"), End: at("2027-01-18T23:00:00Z")}, berlin), "19 Dec 2026 to 18 Jan 2027"},
		{"a day", Span(period.Interval{Start: at("2026-12-18T23:00:00Z"), End: at("2026-12-19T23:00:00Z")}, berlin), "19 Dec 2026"},
		{"at a start", Span(period.Interval{Start: at("2026-12-18T23:00:00Z"), End: at("2026-12-18T23:00:00Z")}, berlin), "19 Dec 2026"},
		{"outside", Span(period.Interval{}, berlin), "outside of every billing period"},
		{"stamp", Stamp(at("2026-12-18T23:00:00Z"), berlin), "19 Dec 2026 00:00:00"},
		{"decision", ShortDecision("dec_00062iEp6tpg2wmUJ.AaGo"), "tpg2wmUJ"},
		{"no decision", ShortDecision("x"), "x"},
	} {
		if plain(tt.got) != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, plain(tt.got), tt.want)
		}
	}
}

func TestChart(t *testing.T) {
	t.Parallel()
	d := money.FromInt
	c := Chart{Least: 1, Columns: []Column{{}, {Parts: []money.Decimal{d(3), d(1)}}, {Parts: []money.Decimal{d(0), d(2)}, Here: true}}}
	if got := c.Top(); !got.Equal(d(4)) {
		t.Errorf("top %s", got)
	}
	s := c.stacks()
	if len(s) != 3 || len(s[0].bars) != 0 || len(s[1].bars) != 2 || len(s[2].bars) != 1 {
		t.Fatalf("stacks %+v", s)
	}
	if low, high := s[1].bars[0], s[1].bars[1]; low != (bar{11, 250, 750, "part-0"}) || high != (bar{11, 0, 250, "part-1"}) {
		t.Errorf("bars %+v %+v", low, high)
	}
	if b := s[2].bars[0]; b != (bar{21, 500, 500, "part-1 here"}) {
		t.Errorf("the present one %+v", b)
	}
	c.Line = new(d(8))
	if c.Top(); c.lineY() != "0" {
		t.Errorf("level at %s", c.lineY())
	}
	if empty := (Chart{Least: 1}); !empty.Top().Equal(d(1)) || len(empty.stacks()) != 0 || empty.viewBox() != "0 0 10 1000" {
		t.Error("an empty chart does not draw")
	}
}
