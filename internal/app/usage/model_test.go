package usage_test

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tallystick/tallystick/internal/app/usage"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
)

// changes are days on which clocks are set, in zones whose offsets are whole, half and quarter hours.
var changes = map[string][]string{
	"UTC": {"2026-03-01"}, "Asia/Kathmandu": {"2026-03-01"},
	"Europe/Paris": {"2026-03-29", "2026-10-25"}, "America/St_Johns": {"2026-03-08", "2026-11-01"},
	"Australia/Lord_Howe": {"2026-04-05", "2026-10-04"}, // by half an hour
	"Pacific/Chatham":     {"2026-04-05", "2026-09-27"},
	"Africa/Cairo":        {"2026-04-24", "2026-10-30"}, // over midnight, both ways
	"America/Havana":      {"2026-03-08", "2026-11-01"}, "Asia/Beirut": {"2026-03-29", "2026-10-25"},
}

// tiling is the starts of all windows around a day, found by walking through it a quarter of an hour at a time.
func tiling(zone string, window usage.Window, day time.Time) (starts []time.Time) {
	loc := period.MustZone(zone).Location()
	label, date := "", ""
	for t := day.AddDate(0, 0, -45); t.Before(day.AddDate(0, 0, 45)); t = t.Add(period.BucketLength) {
		local := t.In(loc)
		date = max(date, local.Format(time.DateOnly)) // a day that has begun stays
		d, _ := time.Parse(time.DateOnly, date)
		now := date
		switch window {
		case usage.Quarter:
			now = t.String()
		case usage.Hour:
			now = local.Format("2006-01-02 15 -0700")
		case usage.Week:
			year, week := d.ISOWeek()
			now = fmt.Sprint(year, week)
		case usage.Day, usage.BillingPeriod:
		case usage.Month:
			now = date[:7]
		}
		if now != label {
			starts, label = append(starts, t), now
		}
	}
	return starts
}

// TestWindowsAgainstAModel compares the bounds of windows around clock changes.
func TestWindowsAgainstAModel(t *testing.T) {
	t.Parallel()
	for zone, days := range changes {
		for _, day := range days {
			for _, window := range []usage.Window{usage.Quarter, usage.Hour, usage.Day, usage.Week, usage.Month} {
				if window == usage.Quarter && zone != "Pacific/Chatham" {
					continue // it is the same everywhere
				}
				starts := tiling(zone, window, at(day+" 00:00:00"))
				for i, start := range starts[1 : len(starts)-2] {
					got, ok := window.Containing(start, period.MustZone(zone), account.Subscription{})
					last, _ := window.Containing(starts[i+2].Add(-time.Microsecond), period.MustZone(zone), account.Subscription{})
					if want := (period.Interval{Start: start, End: starts[i+2]}); !ok || got != want || last != want {
						t.Fatalf("%s, window %d: %v and %v, want %v", zone, window, got, last, want)
					}
				}
			}
		}
	}
	day := func(zone, when string) string {
		i, _ := usage.Day.Containing(at(when), period.MustZone(zone), account.Subscription{})
		return period.Format(i.Start) + " " + i.End.Sub(i.Start).String()
	}
	for _, tc := range [][3]string{
		{"Europe/Paris", "2026-03-29 12:00:00", "2026-03-28T23:00:00Z 23h0m0s"},
		{"Europe/Paris", "2026-10-25 12:00:00", "2026-10-24T22:00:00Z 25h0m0s"},
		{"Australia/Lord_Howe", "2026-10-04 01:00:00", "2026-10-03T13:30:00Z 23h30m0s"},
		{"Asia/Beirut", "2026-03-29 12:00:00", "2026-03-28T22:00:00Z 23h0m0s"}, // it begins at 01:00
	} {
		if got := day(tc[0], tc[1]); got != tc[2] {
			t.Errorf("the day of %s in %s is %s, want %s", tc[1], tc[0], got, tc[2])
		}
	}
}

// question is a drawn question with the events that it is asked of.
type question struct {
	usage.Query
	zone   string
	uses   []use
	keys   map[string]string // of customers
	a      meter.Aggregation
	starts []time.Time
}

// figures are what the model finds of one group.
type figures struct {
	value   *big.Rat
	events  int
	windows map[time.Time]*big.Rat
}

// TestAgainstAModel compares with looking at every event one by one, for every aggregation.
func TestAgainstAModel(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.now = at("2026-12-31 00:00:00")
	run, tilings := 0, map[string][]time.Time{}
	rapid.Check(t, func(r *rapid.T) {
		run++
		q, day := draw(r, run)
		if q.Window != 0 {
			key := fmt.Sprint(q.zone, q.Window, day)
			if tilings[key] == nil {
				tilings[key] = tiling(q.zone, q.Window, day)
			}
			q.starts = tilings[key]
		}
		w.people.customers = nil
		for id, key := range q.keys {
			w.people.customers = append(w.people.customers, account.Customer{ID: id, Key: key})
		}
		early := rapid.IntRange(0, len(q.uses)).Draw(r, "before the first page")
		w.put(r, q.uses[:early]...)
		first, err := w.Ask(context.Background(), q.Query)
		if err != nil {
			r.Fatal(err)
		}
		all := q.uses
		q.uses = all[:early]
		same(r, q, w.follow(r, q.Query, first, all[early:]...)) // the later pages do not see what came after the first
		q.uses = all
		if first, err = w.Ask(context.Background(), q.Query); err != nil {
			r.Fatal(err)
		}
		same(r, q, w.follow(r, q.Query, first))
	})
}

// follow reads the pages after the first one, with events put in between.
func (w *world) follow(r *rapid.T, q usage.Query, page usage.Answer, between ...use) usage.Answer {
	all := page
	w.put(r, between...)
	for page.Next != "" {
		q.Cursor = page.Next
		var err error
		if page, err = w.Ask(context.Background(), q); err != nil {
			r.Fatal(err)
		}
		if page.Position != all.Position {
			r.Fatalf("a page of position %d after one of %d", page.Position, all.Position)
		}
		all.Items = append(all.Items, page.Items...)
	}
	return all
}

func draw(r *rapid.T, run int) (q question, day time.Time) {
	q = question{zone: rapid.SampledFrom(slices.Sorted(maps.Keys(changes))).Draw(r, "zone"), keys: map[string]string{}}
	day = at(rapid.SampledFrom(changes[q.zone]).Draw(r, "day") + " 00:00:00")
	names := []string{meter.Count: "api_calls", meter.Sum: "tokens", meter.Min: "least", meter.Max: "most", meter.Latest: "seats", meter.Unique: "users", meter.TimeWeighted: "storage"}
	q.a = meter.Aggregation(rapid.IntRange(int(meter.Count), int(meter.TimeWeighted)).Draw(r, "aggregation"))
	q.Meter, q.Zone = names[q.a], q.zone
	q.Window = usage.Window(rapid.IntRange(0, int(usage.Month)).Draw(r, "window"))
	grid := rapid.Custom(func(r *rapid.T) time.Time {
		return day.Add(time.Duration(rapid.IntRange(-96*2, 96*3).Draw(r, "quarter")) * period.BucketLength)
	})
	q.In = period.Interval{Start: grid.Draw(r, "from"), End: grid.Draw(r, "to")}
	if !q.In.Start.Before(q.In.End) {
		q.In.Start, q.In.End = q.In.End, q.In.Start.Add(period.BucketLength)
	}
	customers := 2 - rapid.IntRange(0, 3).Draw(r, "customers")/3
	for i := range customers {
		id := fmt.Sprintf("cus_%d_%d", run, i)
		q.keys[id] = fmt.Sprintf("c%d-%d", i, run)
		q.Customers = append(q.Customers, id)
	}
	if rapid.Bool().Draw(r, "by customer") || customers > 1 && (q.a == meter.Latest || q.a == meter.Unique) {
		q.GroupBy = append(q.GroupBy, usage.CustomerGroup)
	}
	for _, d := range dimensions {
		if rapid.Bool().Draw(r, "by "+d) {
			q.GroupBy = append(q.GroupBy, d)
		}
	}
	if rapid.Bool().Draw(r, "where") {
		q.Where = []meter.Dimension{{Name: "route", Value: rapid.SampledFrom([]string{"", "/a", "/b"}).Draw(r, "route")}}
	}
	q.Limit = rapid.IntRange(1, 4).Draw(r, "limit")
	for range rapid.IntRange(0, 25).Draw(r, "events") {
		u := use{
			customer: q.Customers[rapid.IntRange(0, customers-1).Draw(r, "customer")], meter: q.Meter,
			at:    grid.Draw(r, "time").Add(time.Duration(rapid.IntRange(-1, 1).Draw(r, "off")) * time.Second),
			value: money.FromScaled(rapid.Int64Range(0, 1000).Draw(r, "value"), 2),
			route: rapid.SampledFrom([]string{"", "/a", "/b"}).Draw(r, "route"), status: rapid.SampledFrom([]string{"200", "500"}).Draw(r, "status"),
		}
		if q.a == meter.Unique {
			u.text = rapid.SampledFrom([]string{"x", "y", "z"}).Draw(r, "text")
		}
		if q.a == meter.Count {
			u.value = money.FromInt(1)
		}
		q.uses = append(q.uses, u)
	}
	return q, day
}

// name is the group of an event, as an item is named.
func (q question) name(customer, route, status string) string {
	var parts []string
	for _, g := range q.GroupBy {
		parts = append(parts, map[string]string{usage.CustomerGroup: q.keys[customer], "route": route, "status": status}[g])
	}
	return strings.Join(parts, "|")
}

func rat(d money.Decimal) *big.Rat {
	r, ok := new(big.Rat).SetString(d.String())
	if !ok {
		panic(d.String())
	}
	return r
}

// measure looks at the events of a group in an interval, each customer by itself, and adds customers up.
func (q question) measure(name string, in period.Interval) (total *big.Rat, events int) {
	for _, c := range q.Customers {
		var list []use
		for _, u := range q.uses {
			if u.customer == c && q.name(c, u.route, u.status) == name && (len(q.Where) == 0 || q.Where[0].Value == u.route) && u.at.Before(in.End) {
				list = append(list, u)
			}
		}
		slices.SortStableFunc(list, func(a, b use) int { return a.at.Compare(b.at) })
		inside := slices.IndexFunc(list, func(u use) bool { return !u.at.Before(in.Start) })
		before := list
		if inside >= 0 {
			before, list = list[:inside], list[inside:]
		} else {
			list = nil
		}
		if len(list) == 0 && (q.a != meter.TimeWeighted || len(before) == 0) {
			continue
		}
		value := q.fold(before, list, in)
		switch {
		case total == nil:
			total = value
		case q.a == meter.Min && value.Cmp(total) < 0, q.a == meter.Max && value.Cmp(total) > 0:
			total = value
		case q.a != meter.Min && q.a != meter.Max:
			total = new(big.Rat).Add(total, value)
		}
		events += len(list)
	}
	return total, events
}

func (q question) fold(before, list []use, in period.Interval) *big.Rat {
	switch q.a {
	case meter.Min:
		return rat(slices.MinFunc(list, func(a, b use) int { return a.value.Cmp(b.value) }).value)
	case meter.Max:
		return rat(slices.MaxFunc(list, func(a, b use) int { return a.value.Cmp(b.value) }).value)
	case meter.Latest:
		return rat(list[len(list)-1].value)
	case meter.Unique:
		texts := map[string]bool{}
		for _, u := range list {
			texts[u.text] = true
		}
		return big.NewRat(int64(len(texts)), 1)
	case meter.TimeWeighted:
		level, since, sum := new(big.Rat), in.Start, new(big.Rat)
		if len(before) > 0 {
			level = rat(before[len(before)-1].value)
		}
		upTo := func(t time.Time) {
			sum.Add(sum, new(big.Rat).Mul(level, big.NewRat(t.Sub(since).Microseconds(), 1)))
			since = t
		}
		for _, u := range list {
			upTo(u.at)
			level = rat(u.value)
		}
		upTo(in.End)
		return sum.Quo(sum, big.NewRat(in.End.Sub(in.Start).Microseconds(), 1))
	case meter.Count, meter.Sum:
		sum := new(big.Rat)
		for _, u := range list {
			sum.Add(sum, rat(u.value))
		}
		return sum
	}
	panic("no such aggregation")
}

// expected is the model's answer.
func (q question) expected() map[string]figures {
	out := map[string]figures{}
	names := map[string]bool{}
	for _, u := range q.uses {
		names[q.name(u.customer, u.route, u.status)] = true
	}
	if len(q.GroupBy) == 0 {
		names[""] = true
	}
	if len(q.GroupBy) == 1 && q.GroupBy[0] == usage.CustomerGroup {
		for _, key := range q.keys {
			names[key] = true
		}
	}
	for name := range names {
		f := figures{value: new(big.Rat), windows: map[time.Time]*big.Rat{}}
		if v, n := q.measure(name, q.In); v != nil {
			f.value, f.events = v, n
		}
		for i := 0; i+1 < len(q.starts); i++ {
			w := period.Interval{Start: q.starts[i], End: q.starts[i+1]}
			if !w.Start.Before(q.In.End) || !w.End.After(q.In.Start) {
				continue
			}
			if w.Start.Before(q.In.Start) {
				w.Start = q.In.Start
			}
			if w.End.After(q.In.End) {
				w.End = q.In.End
			}
			if v, n := q.measure(name, w); v != nil && (n > 0 || v.Sign() != 0) {
				f.windows[w.Start] = v
			}
		}
		always := len(q.GroupBy) == 0 || len(q.GroupBy) == 1 && q.GroupBy[0] == usage.CustomerGroup
		if always || f.events > 0 || f.value.Sign() != 0 {
			out[name] = f
		}
	}
	return out
}

// near says that a figure is the model's, up to the 34 digits of a division without end.
func near(f usage.Figure, want *big.Rat) bool {
	got := rat(f.Value)
	if !f.Inexact {
		return got.Cmp(want) == 0
	}
	off := new(big.Rat).Sub(got, want)
	bound := new(big.Rat).Quo(want, new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(32), nil)))
	return off.Abs(off).Cmp(bound) <= 0
}

func same(r *rapid.T, q question, a usage.Answer) {
	want := q.expected()
	var order []string
	for _, it := range a.Items {
		var parts []string
		for _, g := range q.GroupBy {
			if g == usage.CustomerGroup {
				parts = append(parts, it.Customer.Key)
				continue
			}
			at := slices.IndexFunc(it.Dimensions, func(d meter.Dimension) bool { return d.Name == g })
			parts = append(parts, it.Dimensions[at].Value)
		}
		name := strings.Join(parts, "|")
		order = append(order, name)
		f, ok := want[name]
		if !ok || !near(it.Figure, f.value) || it.Events != int64(f.events) {
			r.Fatalf("group %q: %s of %d, want %v", name, it.Value, it.Events, f)
		}
		if len(it.Windows) != len(f.windows) {
			r.Fatalf("group %q: windows %v, want %v", name, it.Windows, f.windows)
		}
		for _, w := range it.Windows {
			if v := f.windows[w.Start]; v == nil || !near(w.Figure, v) {
				r.Fatalf("group %q: window %v, want %v", name, w, v)
			}
		}
		if !slices.IsSortedFunc(it.Windows, func(a, b usage.WindowFigure) int { return cmp.Or(a.Start.Compare(b.Start), a.End.Compare(b.End)) }) {
			r.Fatal("windows are not in order")
		}
	}
	if len(order) != len(want) {
		r.Fatalf("groups %q, want %d", order, len(want))
	}
}
