package ui

import (
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
)

// narrow is the space between groups of digits; it does not break a line.
const narrow = "\u202f"

// Count is a quantity with its thousands set apart, all decimals kept: "12 345.5".
func Count(d money.Decimal) string { return signed(d, group(d.Abs().String())) }

// Int is Count of a whole number.
func Int(n int64) string { return Count(money.FromInt(n)) }

// group sets the thousands before the point apart.
func group(digits string) string {
	whole, rest, found := strings.Cut(digits, ".")
	var b strings.Builder
	for i, c := range whole {
		if i > 0 && (len(whole)-i)%3 == 0 {
			b.WriteString(narrow)
		}
		b.WriteRune(c)
	}
	if found {
		b.WriteString("." + rest)
	}
	return b.String()
}

func signed(d money.Decimal, text string) string {
	if d.Sign() < 0 {
		return "\u2212" + text
	}
	return text
}

// Money is an exact sum, with at least the currency's decimals and all others that it has: "$20.00", "CHF 0.0004".
func Money(d money.Decimal, c money.Currency) string {
	digits := d.Abs().String()
	whole, rest, _ := strings.Cut(digits, ".")
	if short := c.Digits() - len(rest); short > 0 {
		rest += strings.Repeat("0", short)
	}
	if rest != "" {
		whole += "." + rest
	}
	return signed(d, symbol(c.Code())+group(whole))
}

// Amount is posted money.
func Amount(a money.Amount) string { return Money(a.Decimal(), a.Currency()) }

// MoneyIn is Money in a currency by its code; an unknown one is written in front.
func MoneyIn(d money.Decimal, code string) string {
	c, err := money.ParseCurrency(code)
	if err != nil {
		return strings.TrimSpace(code + "\u00a0" + Count(d))
	}
	return Money(d, c)
}

// symbol is only where no other currency has the same.
func symbol(code string) string {
	switch code {
	case "":
		return ""
	case "USD":
		return "$"
	case "EUR":
		return "€"
	case "GBP":
		return "£"
	case "JPY":
		return "¥"
	case "INR":
		return "₹"
	}
	return code + "\u00a0"
}

// Left is a time to wait in its two largest units, rounded up to the second: "11 d 4 h". app.js counts down in the same words.
func Left(d time.Duration) string {
	s := Seconds(d)
	switch {
	case s <= 0:
		return "now"
	case s < 60:
		return unbroken("%d s", s)
	case s < 3600:
		return unbroken("%d min %d s", s/60, s%60)
	case s < 86400:
		return unbroken("%d h %d min", s/3600, s%3600/60)
	}
	return unbroken("%d d %d h", s/86400, s%86400/3600)
}

// unbroken keeps numbers with their units.
func unbroken(format string, n ...any) string {
	return strings.ReplaceAll(fmt.Sprintf(format, n...), " ", "\u00a0")
}

// Seconds is d in whole seconds, rounded up, never negative.
func Seconds(d time.Duration) int64 {
	return int64(max(0, (d+time.Second-1)/time.Second))
}

// Stamp is an instant on the clock of a zone: "23 Nov 2026 14:05:09". The zone stands with the table or beside it.
func Stamp(t time.Time, z period.Zone) string {
	return t.In(z.Location()).Format("2 Jan 2006 15:04:05")
}

// Minute is Stamp without seconds.
func Minute(t time.Time, z period.Zone) string { return t.In(z.Location()).Format("2 Jan 2006 15:04") }

// TimeOfDay is the clock without the date.
func TimeOfDay(t time.Time, z period.Zone) string { return t.In(z.Location()).Format("15:04:05") }

// HourMinute is TimeOfDay without seconds.
func HourMinute(t time.Time, z period.Zone) string { return t.In(z.Location()).Format("15:04") }

// Day is a date in a zone.
func Day(t time.Time, z period.Zone) string { return t.In(z.Location()).Format("2 Jan 2006") }

// ShortDay is Day without the year.
func ShortDay(t time.Time, z period.Zone) string { return t.In(z.Location()).Format("2 Jan") }

// ZoneName is a zone with its distance from UTC at an instant: "Europe/Berlin, UTC+1".
func ZoneName(z period.Zone, at time.Time) string {
	if z.String() == "UTC" {
		return "UTC"
	}
	return z.String() + ", " + offset(z, at)
}

// ZoneOver is ZoneName over a period: with both distances where the clocks change within it.
func ZoneOver(z period.Zone, p period.Interval) string {
	last := p.End.Add(-time.Microsecond)
	text := ZoneName(z, p.Start)
	if before, after := offset(z, p.Start), offset(z, last); last.After(p.Start) && before != after {
		text += ", later " + after
	}
	return text
}

// offset is "UTC+1" or "UTC+5:45".
func offset(z period.Zone, at time.Time) string {
	_, s := at.In(z.Location()).Zone()
	sign := "+"
	if s < 0 {
		sign, s = "\u2212", -s
	}
	text := fmt.Sprintf("UTC%s%d", sign, s/3600)
	if m := s % 3600 / 60; m != 0 {
		text += fmt.Sprintf(":%02d", m)
	}
	return text
}

// Span is a period in a zone by its first and last day; where it begins or ends within a day, by its instants.
func Span(p period.Interval, z period.Zone) string {
	if p.Start.IsZero() {
		return "outside of every billing period"
	}
	if p.Empty() {
		return Day(p.Start, z)
	}
	if !midnight(p.Start, z) || !midnight(p.End, z) {
		return Minute(p.Start, z) + " to " + Minute(p.End, z)
	}
	last := p.End.Add(-time.Microsecond)
	if Day(p.Start, z) == Day(last, z) {
		return Day(p.Start, z)
	}
	if p.Start.In(z.Location()).Year() == last.In(z.Location()).Year() {
		return ShortDay(p.Start, z) + " to " + Day(last, z)
	}
	return Day(p.Start, z) + " to " + Day(last, z)
}

func midnight(t time.Time, z period.Zone) bool { return z.StartOfDay(z.Date(t)).Equal(t) }

// Share is how many of `of` parts of whole the part is, rounded down, between 0 and of. Of nothing it is all.
func Share(part, whole money.Decimal, of int64) int64 {
	if part.Sign() <= 0 {
		return 0
	}
	if part.Cmp(whole) >= 0 {
		return of
	}
	p, ok1 := new(big.Rat).SetString(part.String())
	w, ok2 := new(big.Rat).SetString(whole.String())
	if !ok1 || !ok2 { // a Decimal's text is always a number
		return 0
	}
	p.Quo(p, w).Mul(p, new(big.Rat).SetInt64(of))
	return new(big.Int).Quo(p.Num(), p.Denom()).Int64()
}

// Words makes a key readable: "api_calls" is "api calls".
func Words(key string) string { return strings.NewReplacer("_", " ", "-", " ").Replace(key) }

// ShortDecision is the end of a decision's short id, enough to tell lines of a list apart.
func ShortDecision(id string) string {
	short, _, _ := strings.Cut(strings.TrimPrefix(id, "dec_"), ".")
	const shown = 8
	if len(short) > shown {
		short = short[len(short)-shown:]
	}
	return short
}
