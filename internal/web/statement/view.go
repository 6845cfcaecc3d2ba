package statement

import (
	"fmt"
	"slices"
	"time"

	"github.com/tallystick/tallystick/internal/app/bill"
	"github.com/tallystick/tallystick/internal/core/invoice"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/price"
	"github.com/tallystick/tallystick/internal/core/quota"
	"github.com/tallystick/tallystick/internal/web/ui"
)

// daysMax bounds the bars of a period; months have 31.
const daysMax = 62

// dailyChart has a bar for each day of the period, those to come empty, and the level of a daily quota.
func dailyChart(s Statement) ui.Chart {
	c := ui.Chart{Least: 1, Line: dailyQuota(s)}
	for _, d := range s.Daily {
		c.Columns = append(c.Columns, ui.Column{
			Title: ui.Day(d.Day, s.Zone()) + ": " + ui.Count(d.Value) + " " + s.Unit, Parts: []money.Decimal{d.Value},
		})
	}
	if n := len(c.Columns); n > 0 {
		c.Columns[n-1].Here = true
		y, m, day := s.Zone().Date(s.Daily[n-1].Day)
		for i := 1; len(c.Columns) < daysMax; i++ {
			next := s.Zone().StartOfDay(y, m, day+i)
			if !next.Before(s.Period.End) {
				break
			}
			c.Columns = append(c.Columns, ui.Column{Title: ui.Day(next, s.Zone()) + ": still to come"})
		}
	}
	c.Name = fmt.Sprintf("%s a day, %s, in %s. %s in all, at most %s on one day. The figures stand in the table below.",
		s.Unit, ui.Span(s.Period, s.Zone()), ui.ZoneName(s.Zone(), s.Now), ui.Count(s.Used), ui.Count(most(s.Daily)))
	return c
}

// dailyQuota is the tightest quota a day on the meter of the chart.
func dailyQuota(s Statement) *money.Decimal {
	var line *money.Decimal
	for i := range s.Limits {
		l := &s.Limits[i]
		if l.Kind != quota.Quota || l.Window != period.Day.String() || l.Meter != s.Meter {
			continue
		}
		if line == nil || l.Quota.Cmp(*line) < 0 {
			line = &l.Quota
		}
	}
	return line
}

func most(days []bill.DayUsage) (top money.Decimal) {
	for _, d := range days {
		if d.Value.Cmp(top) > 0 {
			top = d.Value
		}
	}
	return top
}

// newestFirst turns the days around for the table.
func newestFirst(days []bill.DayUsage) []bill.DayUsage {
	out := slices.Clone(days)
	slices.Reverse(out)
	return out
}

// tierText is "2 345 × $0.0004", with the band's own amount where it has one.
func tierText(t price.TierCharge, c money.Currency) string {
	text := ui.Count(t.Quantity) + " × " + ui.Money(t.UnitAmount, c)
	if !t.FlatAmount.IsZero() {
		text += " + " + ui.Money(t.FlatAmount, c)
	}
	return text
}

func lineUnit(l invoice.Line) string { return ui.Words(l.Meter) }

// rateOf is the bucket as the plan declares it: "200 at once, refilled by 200 each second".
func rateOf(s Statement, l Limit) string {
	for _, declared := range s.Plan.Limits {
		if declared.Key != l.Key || declared.Bucket == nil || l.Override != "" {
			continue
		}
		return "refilled by " + ui.Count(declared.Bucket.Rate) + " " + perWord(declared.Bucket.Per)
	}
	return ""
}

func perWord(d time.Duration) string {
	if d >= 24*time.Hour {
		return "each day"
	}
	return "each " + map[time.Duration]string{time.Second: "second", time.Minute: "minute", time.Hour: "hour"}[d]
}

// traceDay is a local day of a line's windows.
type traceDay struct {
	day     time.Time
	sum     money.Decimal
	windows []traceWindow
}

type traceWindow struct {
	from, to time.Time
	sum      money.Decimal
}

// traceDays groups the windows of a line by the customer's days.
func traceDays(t bill.Trace, z period.Zone) ([]traceDay, error) {
	var out []traceDay
	for _, w := range t.Windows {
		day := z.StartOfDay(z.Date(w.Start))
		if n := len(out); n == 0 || !out[n-1].day.Equal(day) {
			out = append(out, traceDay{day: day})
		}
		d := &out[len(out)-1]
		sum, err := d.sum.Add(w.Sum)
		if err != nil {
			return nil, fmt.Errorf("sum of the day %s: %w", period.Format(day), err)
		}
		d.sum = sum
		d.windows = append(d.windows, traceWindow{w.Start, w.End, w.Sum})
	}
	return out, nil
}

// lastDay is an instant on the last day of a period.
func lastDay(p period.Interval) time.Time { return p.End.Add(-time.Microsecond) }

// includedText names an entitlement, with its value where it is more than on or off.
func includedText(e Entitlement) string {
	switch e.Value {
	case "true":
		return ui.Words(e.Key)
	case "false":
		return "no " + ui.Words(e.Key)
	}
	return ui.Words(e.Key) + ": " + e.Value
}

func includedList(all []Entitlement) string {
	texts := make([]string, len(all))
	for i, e := range all {
		texts[i] = includedText(e)
	}
	return list(texts)
}
