package document

import (
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
)

// thousands sets groups of three digits apart: "-12,345.5".
func thousands(number string) string {
	sign := ""
	if rest, ok := strings.CutPrefix(number, "-"); ok {
		sign, number = "-", rest
	}
	whole, rest, point := strings.Cut(number, ".")
	var b strings.Builder
	b.WriteString(sign)
	for i, c := range whole {
		if i > 0 && (len(whole)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(c)
	}
	if point {
		b.WriteString("." + rest)
	}
	return b.String()
}

// count is a quantity with all its decimals.
func count(d money.Decimal) string { return thousands(d.String()) }

// cost is an exact sum with at least the currency's decimals.
func cost(d money.Decimal, c money.Currency) string {
	text := d.String()
	_, rest, point := strings.Cut(text, ".")
	if short := c.Digits() - len(rest); short > 0 {
		if !point {
			text += "."
		}
		text += strings.Repeat("0", short)
	}
	return thousands(text)
}

// amount is posted money without its currency, sum with it.
func amount(a money.Amount) string { return thousands(a.String()) }

func sum(a money.Amount) string { return a.Currency().Code() + "\u00a0" + amount(a) }

// day is a date in a zone: "1 Nov 2026".
func day(t time.Time, z period.Zone) string { return t.In(z.Location()).Format("2 Jan 2006") }

// days is a period by its first and last day.
func days(p period.Interval, z period.Zone) string {
	if p.Start.IsZero() {
		return ""
	}
	if p.End.IsZero() {
		return "from " + day(p.Start, z)
	}
	first, last := day(p.Start, z), day(lastInstant(p), z)
	if first == last {
		return first
	}
	y1, y2 := first[len(first)-4:], last[len(last)-4:]
	if y1 == y2 {
		first = first[:len(first)-5]
	}
	return first + " – " + last
}

// lastInstant is on the last day of a period; of an empty one, its only instant.
func lastInstant(p period.Interval) time.Time {
	if p.Empty() || p.End.IsZero() {
		return p.Start
	}
	return p.End.Add(-time.Microsecond)
}

// words makes a key readable: "api_calls" is "api calls".
func words(key string) string { return strings.NewReplacer("_", " ", "-", " ").Replace(key) }

// Title names a line for people.
func Title(l *invoice.Line) string {
	if l.Name != "" {
		return l.Name
	}
	name := words(l.Price)
	switch l.Kind {
	case invoice.FlatLine, invoice.UsageLine:
		return capital(name)
	case invoice.DiscountLine:
		return with("Discount", name)
	case invoice.MaximumLine:
		return with("Reduced to the maximum", name)
	case invoice.MinimumLine:
		return with("Added to the minimum", name)
	case invoice.CreditLine:
		return with("Credit", name)
	case invoice.CouponLine:
		return with("Coupon", name)
	case invoice.AdjustmentLine:
		return with("Adjustment", name)
	}
	return name
}

// capital begins a name with a capital letter.
func capital(name string) string {
	r, size := utf8.DecodeRuneInString(name)
	if size == 0 {
		return name
	}
	return string(unicode.ToUpper(r)) + name[size:]
}

func with(what, name string) string {
	if name == "" {
		return what
	}
	return what + ": " + name
}

// notes say what else is to be known of a line. above is the line that it is under, whose period need not be said twice.
func notes(l, above *invoice.Line, z period.Zone, plan string) string {
	var out []string
	if span := days(l.Period, z); span != "" && (above == nil || days(above.Period, z) != span) {
		out = append(out, span)
	}
	if l.Ratio != "" {
		out = append(out, l.Ratio+" of the full price")
	}
	if l.Plan != "" && l.Plan != plan {
		out = append(out, "Plan "+l.Plan)
	}
	if len(l.Filter) > 0 {
		out = append(out, filter(l.Filter))
	}
	if l.Included.Sign() > 0 {
		out = append(out, count(l.Included)+" included")
	}
	if l.Credited.Sign() > 0 {
		out = append(out, count(l.Credited)+" paid with credits")
	}
	if l.Adjusts != "" {
		out = append(out, "Adjusts "+l.Adjusts)
	}
	return strings.Join(out, " · ")
}

// filter is "region: eu, tier: gold", by name.
func filter(dimensions map[string]string) string {
	parts := make([]string, 0, len(dimensions))
	for k, v := range dimensions {
		parts = append(parts, k+": "+v)
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}

// percent is a rate: "19 %".
func percent(d money.Decimal) string { return d.String() + "\u00a0%" }

// TaxName names a rate of tax.
func TaxName(t *invoice.Tax) string {
	name := t.Name
	if name == "" {
		name = words(t.Key)
	}
	switch {
	case t.ReverseCharge:
		return name + ", reverse charge"
	case t.Exempt:
		return name + ", exempt"
	}
	return name + " " + percent(t.Percent)
}

// Address is a party's address, a line each, as letters have it.
func Address(p *invoice.Party) []string {
	var out []string
	country := p.Country
	if p.Region != "" && country != "" {
		country = ", " + country
	}
	for _, line := range []string{p.Street, strings.TrimSpace(p.PostalCode + " " + p.City), p.Region + country} {
		if line != "" {
			out = append(out, line)
		}
	}
	return out
}
