package oracle

import (
	"encoding/json"
	"fmt"
	"math/big"
	"sort"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/core/price"
)

// span is [from, to); a zero to is open.
type span struct{ from, to time.Time }

// firstOf is the first instant whose local date is that day or a later one.
func (o *oracle) firstOf(y int, m time.Month, d int) time.Time {
	day := time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
	if t, ok := o.days[day]; ok {
		return t
	}
	t := firstOf(o.Zone, day)
	o.days[day] = t
	return t
}

func firstOf(zone *time.Location, want time.Time) time.Time {
	t := want.Add(-36 * time.Hour) // before it in every zone
	for step := time.Hour; step >= time.Minute; step /= 60 {
		for localDay(zone, t.Add(step)).Before(want) {
			t = t.Add(step)
		}
	}
	return t.Add(time.Minute).Truncate(time.Minute)
}

// localDay is the local date as midnight UTC.
func localDay(zone *time.Location, t time.Time) time.Time {
	y, m, d := t.In(zone).Date()
	return time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
}

// months and days of an interval: one of them is 0.
func length(e period.Every) (months, days int) {
	for n := 1; n <= 3660; n++ {
		if k, ok := e.Times(period.MustEvery("month")); ok && k == n {
			return n, 0
		}
		if k, ok := e.Times(period.MustEvery("day")); ok && k == n {
			return 0, n
		}
	}
	panic("oracle: no interval")
}

// boundaries are where the periods begin that can matter, in order, from before the anchor to well after until.
func (o *oracle) boundaries(s state, every period.Every, calendar bool, until time.Time) []time.Time {
	months, days := length(every)
	var out []time.Time
	ly, lm, ld := s.anchor.In(o.Zone).Date()
	for k := -1; ; k++ {
		var b time.Time
		switch {
		case months > 0 && calendar:
			first := (12*ly + int(lm) - 1) / months * months
			at := first + k*months
			b = o.firstOf(at/12, time.Month(at%12+1), 1)
		case months > 0:
			at := 12*ly + int(lm) - 1 + k*months
			y, m := at/12, time.Month(at%12+1)
			last := time.Date(y, m+1, 0, 0, 0, 0, 0, time.UTC).Day()
			b = o.firstOf(y, m, min(s.day, last))
		case calendar && days%7 == 0:
			monday := localDay(o.Zone, s.anchor)
			for monday.Weekday() != time.Monday || int(monday.Sub(time.Date(1970, 1, 5, 0, 0, 0, 0, time.UTC)).Hours()/24)%days != 0 {
				monday = monday.AddDate(0, 0, -1)
			}
			d := monday.AddDate(0, 0, k*days)
			b = o.firstOf(d.Year(), d.Month(), d.Day())
		default:
			b = o.firstOf(ly, lm, ld+k*days)
		}
		out = append(out, b)
		if b.After(until) {
			return out
		}
	}
}

// atom is a span in which the state does not change.
type atom struct {
	span
	state
	calendar bool
	every    period.Every
}

// atoms cut the subscription's life, up to a horizon, at all instants at which anything can change.
func (o *oracle) atoms(horizon time.Time) []atom {
	end := o.end()
	if end.IsZero() || end.After(horizon) {
		end = horizon
	}
	cuts := []time.Time{o.History.Start, end, o.trialEnd()}
	for _, c := range o.known() {
		cuts = append(cuts, c.At)
	}
	sort.Slice(cuts, func(i, j int) bool { return cuts[i].Before(cuts[j]) })
	var out []atom
	for i := 1; i < len(cuts); i++ {
		from, to := cuts[i-1], cuts[i]
		if !from.Before(to) || from.Before(o.History.Start) || to.After(end) {
			continue
		}
		s := o.at(from)
		plan, _ := o.planOf(s.version, s.plan)
		out = append(out, atom{span{from, to}, s, plan.Terms.Calendar, plan.Interval()})
	}
	return out
}

func sameAnchor(a, b atom) bool {
	return a.anchor.Equal(b.anchor) && a.day == b.day && a.calendar == b.calendar && a.every.String() == b.every.String()
}

// piece is one price for a part of one of its periods.
type piece struct {
	priced
	content      string // of the price: equal texts charge the same
	period, full span
	service      span
	due          time.Time
	ratio        *big.Rat
}

func (p piece) key() string {
	if p.addOn != "" { // it goes on through changes of plan
		return "|" + p.addOn + "|" + p.Key + "|" + p.period.from.UTC().Format(time.RFC3339Nano)
	}
	return p.plan + "|" + p.addOn + "|" + p.Key + "|" + p.period.from.UTC().Format(time.RFC3339Nano)
}

// pieces are all that is charged, in the order of time.
func (o *oracle) pieces(horizon time.Time) []piece {
	atoms := o.atoms(horizon)
	var out []piece
	for i, a := range atoms {
		if a.paused || a.trial {
			continue
		}
		whole := a.span
		for j := i; j >= 0 && sameAnchor(atoms[j], a); j-- {
			whole.from = atoms[j].from
		}
		for j := i; j < len(atoms) && sameAnchor(atoms[j], a); j++ {
			whole.to = atoms[j].to
		}
		for _, p := range o.prices(a.state) {
			bounds := o.boundaries(a.state, p.Every, a.calendar, horizon)
			for k := 1; k < len(bounds); k++ {
				grid := span{bounds[k-1], bounds[k]}
				service := intersect(grid, a.span)
				if !service.from.Before(service.to) {
					continue
				}
				full := grid
				if !a.anchor.Before(grid.from) && a.anchor.Before(grid.to) && localDay(o.Zone, a.anchor).Equal(localDay(o.Zone, grid.from)) {
					full.from = a.anchor
				}
				text, _ := json.Marshal(p.Price)
				next := piece{priced: p, content: string(text) + p.quantity.String(), period: intersect(grid, whole), full: full, service: service}
				if n := o.mergeable(out, next); n >= 0 {
					out[n].service.to = next.service.to
					continue
				}
				out = append(out, next)
			}
		}
	}
	out = once(out)
	for i := range out {
		p := &out[i]
		p.ratio = o.ratioOf(p)
		p.due = p.period.to
		if p.Charge == price.InAdvance {
			p.due = p.service.from
		}
	}
	return out
}

// mergeable finds the piece that next goes on with: the same price and quantity in the same period without a gap.
func (o *oracle) mergeable(list []piece, next piece) int {
	for i, p := range list {
		if p.key() == next.key() && p.content == next.content && p.service.to.Equal(next.service.from) {
			return i
		}
	}
	return -1
}

func intersect(a, b span) span {
	if b.from.After(a.from) {
		a.from = b.from
	}
	if b.to.Before(a.to) {
		a.to = b.to
	}
	return a
}

// once leaves one piece of an unprorated licensed price in each period: the first in advance, the last in arrears.
func once(list []piece) []piece {
	var out []piece
	for i, p := range list {
		if p.Meter != "" || p.Prorate != price.ProrateNone {
			out = append(out, p)
			continue
		}
		keep := true
		for j, q := range list {
			if i == j || q.addOn != p.addOn || q.Key != p.Key || q.Charge != p.Charge || !q.period.from.Equal(p.period.from) {
				continue
			}
			if before := q.service.from.Before(p.service.from); before == (p.Charge == price.InAdvance) {
				keep = false
			}
		}
		if keep {
			out = append(out, p)
		}
	}
	return out
}

// ratioOf is which part of the whole period a licensed piece is.
func (o *oracle) ratioOf(p *piece) *big.Rat {
	if p.Meter != "" || p.Prorate == price.ProrateNone {
		return big.NewRat(1, 1)
	}
	if p.Prorate == price.ProrateDays {
		days := func(from, to time.Time) int64 {
			return int64(localDay(o.Zone, to).Sub(localDay(o.Zone, from)).Hours() / 24)
		}
		return big.NewRat(days(p.service.from, p.service.to), days(p.full.from, p.full.to))
	}
	return big.NewRat(p.service.to.Sub(p.service.from).Microseconds(), p.full.to.Sub(p.full.from).Microseconds())
}

// nextClosing is the next closing after the last one, if it is due at a step.
func (o *oracle) nextClosing(step time.Time) (closing, bool) {
	atoms := o.atoms(step.AddDate(1, 2, 0))
	var list []closing
	if len(atoms) > 0 {
		list = append(list, closing{o.History.Start, o.History.Start})
	}
	for i := 0; i < len(atoms); {
		j := i
		for j < len(atoms) && sameAnchor(atoms[j], atoms[i]) {
			j++
		}
		whole := span{atoms[i].from, atoms[j-1].to}
		bounds := o.boundaries(atoms[i].state, atoms[i].every, atoms[i].calendar, whole.to)
		for k := 1; k < len(bounds); k++ {
			p := intersect(span{bounds[k-1], bounds[k]}, whole)
			if p.from.Before(p.to) && p.to.Before(step.AddDate(1, 2, 0)) {
				list = append(list, closing(p))
			}
		}
		for a := i + 1; a < j; a++ {
			list = append(list, o.points(atoms, a, bounds)...)
		}
		i = j
	}
	sort.SliceStable(list, func(a, b int) bool {
		if !list[a].to.Equal(list[b].to) {
			return list[a].to.Before(list[b].to)
		}
		return list[a].from.Before(list[b].from)
	})
	var next *closing
	for i := range list {
		if !o.begun || list[i].to.After(o.last.to) {
			next = &list[i]
			break
		}
	}
	if extra := o.behind(); extra != nil && (next == nil || next.to.After(extra.to)) {
		next = extra
	}
	if next == nil {
		next = o.afterEnd(step)
	}
	if next == nil || next.to.Add(o.grace(*next)).After(step) {
		return closing{}, false
	}
	return *next, true
}

// afterEnd is the day on which usage of a subscription that has ended is found to be another than was billed.
func (o *oracle) afterEnd(step time.Time) *closing {
	day := time.Date(step.UTC().Year(), step.UTC().Month(), step.UTC().Day(), 0, 0, 0, 0, time.UTC)
	end := o.end()
	if !o.begun || end.IsZero() || step.After(end.Add(400*24*time.Hour)) || !day.After(o.last.to) || !day.After(o.looked) {
		return nil
	}
	o.looked = day
	for _, e := range o.expectations(day) {
		was := o.billed[e.key]
		if was == nil {
			was = new(big.Rat)
		}
		if e.sum().Cmp(was) != 0 {
			return &closing{day, day}
		}
	}
	return nil
}

// behind is a point for what was decided since the last closing about times that are closed already, and is billed at once: by
// its own wish, or since the subscription has ended and no closing follows.
func (o *oracle) behind() *closing {
	if !o.begun {
		return nil
	}
	end := o.end()
	ended := !end.IsZero() && !end.After(o.last.to)
	var decided time.Time
	for _, c := range o.known() {
		if c.CreatedAt.After(o.lastStep) && (ended || c.Now && !c.At.After(o.last.to)) && c.CreatedAt.After(decided) {
			decided = c.CreatedAt
		}
	}
	switch {
	case decided.IsZero():
		return nil
	case decided.After(o.last.to):
	case o.last.from.Equal(o.last.to):
		decided = o.last.to.Add(time.Microsecond)
	default:
		decided = o.last.to
	}
	return &closing{decided, decided}
}

// grace is waited for after a period; a point is closed at once.
func (o *oracle) grace(c closing) time.Duration {
	if c.from.Equal(c.to) {
		return 0
	}
	return o.Grace
}

// points are the instants inside a period at which something is billed at once.
func (o *oracle) points(atoms []atom, a int, bounds []time.Time) []closing {
	at := atoms[a].from
	for _, b := range bounds {
		if b.Equal(at) {
			return nil
		}
	}
	if o.text(atoms[a-1]) == o.text(atoms[a]) {
		return nil // nothing has changed
	}
	bills := atoms[a-1].trial && !atoms[a].trial
	for _, c := range o.known() {
		bills = bills || c.Now && c.At.Equal(at)
	}
	if !bills {
		return nil
	}
	return []closing{{at, at}}
}

// text is all that is in force.
func (o *oracle) text(a atom) string {
	var s strings.Builder
	fmt.Fprint(&s, a.plan, a.version, a.paused, a.trial, a.prices)
	for _, p := range o.prices(a.state) {
		fmt.Fprint(&s, p.Key, p.addOn, p.quantity)
	}
	for k, x := range a.addOns {
		fmt.Fprint(&s, k, x.version, x.quantity)
	}
	return s.String()
}
