package statement

import (
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/quota"
	"github.com/tallystick/tallystick/internal/web/ui"
)

// Limit is one limit of a customer's plan with its state now.
type Limit struct {
	enforce.LimitStatus
	Unit    string        // what it counts, in words; empty for money
	ResetIn time.Duration // until it is full again
	Tone    string
}

// Entitlement is what the plan includes and does not count.
type Entitlement struct{ Key, Value string }

func limitOf(l enforce.LimitStatus, unit string, now time.Time) Limit {
	out := Limit{LimitStatus: l, Unit: unit, Tone: Good}
	if l.Kind == quota.Concurrency {
		out.Unit = "requests"
		if l.Meter != "" {
			out.Unit += " of " + unit
		}
	}
	if l.ResetsAt.After(now) && l.ResetsAt.Unix() > 0 {
		out.ResetIn = l.ResetsAt.Sub(now)
	}
	beyond := l.Overage.Sign() > 0
	switch {
	case l.Template, l.Mode == quota.Shadow:
	case out.brief() && l.Mode == quota.Hard: // clears by itself, sooner than one could act
	case l.Mode == quota.Soft && beyond, l.Mode == quota.Grace && l.Remaining.Sign() <= 0:
		out.Tone = Notice
	case l.Mode == quota.Soft:
		if near(l.Consumed, l.Quota) && l.Remaining.Sign() > 0 {
			out.Tone = Notice
		}
	case l.Remaining.Sign() <= 0:
		out.Tone = Bad
	case near(l.Consumed, l.Quota):
		out.Tone = Notice
	}
	return out
}

// graced looks at the end of a limit's grace of so many percent: where no further unit fits, it stops. scale is the meter's.
func (l *Limit) graced(percent int64, scale int) {
	if l.Mode != quota.Grace || l.Template || l.brief() {
		return
	}
	const hundredths = 2
	extra, err := l.Quota.Mul(money.FromInt(percent))
	if err == nil {
		extra, err = extra.Mul(money.FromScaled(1, hundredths))
	}
	next, err2 := l.Overage.Add(money.FromScaled(1, scale))
	if err == nil && err2 == nil && l.Remaining.Sign() <= 0 && next.Cmp(extra) > 0 {
		l.Tone = Bad
	}
}

// briefMax is the longest window that clears before one could act.
const briefMax = 15 * time.Minute

// brief says that the limit clears by itself within minutes.
func (l *Limit) brief() bool {
	switch l.Kind {
	case quota.TokenBucket, quota.Concurrency:
		return true
	case quota.Fixed, quota.Rolling:
		return l.length() < briefMax
	case quota.Quota, quota.SpendCap, quota.Credits:
	}
	return false
}

// length of a fixed or rolling window; 0 for others.
func (l *Limit) length() time.Duration {
	_, span, _ := strings.Cut(l.Window, " ")
	d, _ := catalog.ParseSpan(span) // no span: 0
	return d
}

// near is nine tenths or more.
func near(part, whole money.Decimal) bool {
	return whole.Sign() > 0 && ui.Share(part, whole, 10) >= 9
}

// quantity writes a figure of the limit, money as money.
func (l Limit) quantity(d money.Decimal) string {
	if l.Kind == quota.SpendCap {
		return ui.MoneyIn(d, l.Currency)
	}
	return ui.Count(d)
}

// when says over which time the limit counts.
func (l Limit) when() string {
	switch l.Kind {
	case quota.Fixed:
		return "in this window of " + spanText(l.length())
	case quota.Rolling:
		return "in the last " + spanText(l.length())
	case quota.Credits:
		return "since the first grant"
	case quota.TokenBucket, quota.Concurrency:
		return "at once"
	case quota.Quota, quota.SpendCap:
	}
	switch l.Window {
	case "day":
		return "today"
	case "hour", "week", "month", "quarter", "year", "billing_period":
		return "this " + ui.Words(l.Window)
	}
	return "at once"
}

// spanText is "24 h", "10 min" or "7 d".
func spanText(d time.Duration) string {
	const dayHours = 24 * time.Hour
	for _, u := range []struct {
		of   time.Duration
		name string
	}{{dayHours, "d"}, {time.Hour, "h"}, {time.Minute, "min"}} {
		if d%u.of == 0 && d >= u.of && (u.of != dayHours || d > dayHours) {
			return strconv.FormatInt(int64(d/u.of), 10) + "\u00a0" + u.name
		}
	}
	return strconv.FormatInt(int64(d/time.Second), 10) + "\u00a0s"
}

// mode is a word for what is beyond the limit; empty for a hard one.
func (l Limit) mode() string {
	switch l.Mode {
	case quota.Soft:
		return "soft"
	case quota.Grace:
		return "grace"
	case quota.Shadow:
		return "shadow"
	case quota.Hard:
	}
	return ""
}

// stand is how the limit stands, in a word or two; empty where it has room.
func (l Limit) stand() string {
	switch {
	case l.Tone == Bad:
		return "used up"
	case l.Tone != Notice:
		return ""
	case l.Mode == quota.Grace && l.Remaining.Sign() <= 0:
		return "in its grace"
	case l.Overage.Sign() > 0:
		return "passed"
	}
	return "nearly used up"
}

// bound says what happens beyond the limit, and how far it can be passed.
func (l Limit) bound() string {
	switch l.Mode {
	case quota.Soft:
		return "soft: what is beyond is admitted and counted"
	case quota.Shadow:
		return "shadow: only watched, never refuses"
	case quota.Grace:
		if l.Bound == "0" {
			return "grace: a part more is admitted, then refused"
		}
		return "grace: a part more is admitted; beyond that " + l.Bound
	case quota.Hard:
	}
	switch {
	case l.Bound == "0":
		return "hard, never passed"
	case strings.HasPrefix(l.Bound, "no bound"):
		return "hard, can be passed: " + l.Bound
	}
	return "hard, passed by at most " + l.Bound
}

// scope says in words whose counter it is below the customer; empty for the customer's own.
func (l Limit) scope() string {
	if l.Scope == "" {
		return ""
	}
	if l.Template {
		return "for each " + strings.ReplaceAll(strings.TrimPrefix(l.Scope, "per "), ", ", " and ")
	}
	var words, routes []string
	for part := range strings.SplitSeq(l.Scope, ";") {
		name, value, _ := strings.Cut(part, "=")
		if plain, err := url.PathUnescape(value); err == nil {
			value = plain
		}
		switch name {
		case "key":
			words = append(words, "for this key")
		case "route", "routes":
			routes = append(routes, value)
		default:
			words = append(words, "for "+name+" "+value)
		}
	}
	if len(routes) > 0 {
		words = append(words, "on "+strings.Join(routes, ", "))
	}
	return strings.Join(words, ", ")
}

// left is what may still be used, in words.
func (l Limit) left() string {
	switch l.Kind {
	case quota.Credits:
		return l.quantity(l.Remaining) + " credits left"
	case quota.Concurrency:
		return l.quantity(l.Remaining) + " more may run"
	case quota.TokenBucket, quota.Quota, quota.SpendCap, quota.Fixed, quota.Rolling:
	}
	if l.Overage.Sign() > 0 {
		return l.quantity(l.Overage) + " beyond the limit"
	}
	return l.quantity(l.Remaining) + " left"
}

// resets says when the limit is full again: a rolling one lets go bit by bit.
func (l Limit) resets() string {
	if l.Kind == quota.Rolling {
		return "clear in"
	}
	return "resets in"
}
