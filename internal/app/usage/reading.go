package usage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// reading is one answer as it comes together.
type reading struct {
	*Service
	*plan
	position     uint64
	series       []source
	groups       map[string]*group
	shown        []*group
	shownWindows int
	next         string
	view         store.View // open, for all there is to read; nil: several are to be taken
}

// source is one customer's series.
type source struct {
	customer account.Customer
	key      store.SeriesKey
}

// group is an item before it is shown.
type group struct {
	name       []string // to sort by: the customer's key, then the dimensions' values
	customer   account.Customer
	dimensions []meter.Dimension
	Figure
	always, shown bool  // shown without usage too; on this page
	sources       []int // in reading.series
	windows       map[time.Time]*WindowFigure
}

func (g *group) item() Item {
	out := Item{Customer: g.customer, Dimensions: g.dimensions, Figure: g.Figure}
	for _, w := range g.windows {
		out.Windows = append(out.Windows, *w)
	}
	slices.SortFunc(out.Windows, func(a, b WindowFigure) int { return a.Start.Compare(b.Start) })
	return out
}

// answer reads everything: little in one view, more in several.
func (r *reading) answer(ctx context.Context) error {
	done := false
	err := r.cfg.Journal.View(ctx, func(v store.View) error {
		if err := r.begin(v); err != nil {
			return err
		}
		if done = r.plain() && v.Position() == r.position && len(r.series) <= measuresMax; !done {
			return nil
		}
		r.view = v
		return r.read(ctx)
	})
	if r.view = nil; err != nil || done {
		return err
	}
	return r.read(ctx)
}

// read fills in the totals, what is shown of them, and its windows.
func (r *reading) read(ctx context.Context) error {
	if err := r.totals(ctx); err != nil {
		return err
	}
	if r.page(); r.Window == 0 {
		return nil
	}
	return r.windows(ctx)
}

// begin finds the series and the position, and checks the bounds against the journal.
func (r *reading) begin(v store.View) error {
	for _, c := range r.named {
		r.series = append(r.series, source{c, store.SeriesKey{CustomerID: c.ID, Meter: r.Meter}})
	}
	r.position = v.Position()
	if r.plan.position > r.position {
		return ErrCursor
	}
	if r.plan.position != 0 {
		r.position = r.plan.position
	}
	first := r.In.Start
	if len(r.named) == 0 || r.level() && first.IsZero() {
		for _, x := range v.Series() {
			if x.Meter != r.Meter || len(r.named) > 0 && !slices.ContainsFunc(r.series, func(s source) bool { return s.key == x.SeriesKey }) {
				continue
			}
			if r.In.Start.IsZero() && !x.First.IsZero() && (first.IsZero() || x.First.Before(first)) {
				first = x.First
			}
			if len(r.named) == 0 {
				r.series = append(r.series, source{r.customer(x.CustomerID), x.SeriesKey})
			}
		}
	}
	if len(r.series) > MaxSeries {
		return &Invalid{"/customer", fmt.Sprintf("more than %d customers have used this meter", MaxSeries), "name at most " + strconv.Itoa(MaxCustomers)}
	}
	if err := r.onGrid(v); err != nil {
		return err
	}
	r.levels(first)
	return nil
}

func (r *reading) customer(id string) account.Customer {
	if c, ok := r.cfg.Directory.Customer(id); ok {
		return c
	}
	return account.Customer{ID: id, Key: id}
}

// onGrid refuses a bound that the journal cannot tell events apart at.
func (r *reading) onGrid(v store.View) error {
	for _, b := range []struct {
		pointer string
		at      time.Time
	}{{"/from", r.In.Start}, {"/to", r.In.End}} {
		before := period.BucketStart(b.at)
		if b.at.IsZero() || b.at.Equal(before) {
			continue
		}
		for _, s := range r.series {
			_, err := v.Usage(s.key, period.Interval{Start: b.at, End: b.at})
			switch {
			case errors.Is(err, store.ErrInvalid):
				return &Invalid{
					b.pointer, "must be a whole quarter of an hour (UTC) or the start of a subscription",
					fmt.Sprintf("the nearest are %s and %s", period.Format(before), period.Format(before.Add(period.BucketLength))),
				}
			case err != nil:
				return err
			}
		}
	}
	return nil
}

// levels bounds the time of a level: it begins with the first event and ends with the present quarter of an hour, since
// what is to come would be a guess.
func (r *reading) levels(first time.Time) {
	if !r.level() {
		return
	}
	end := period.BucketStart(r.now).Add(period.BucketLength)
	if r.In.End.IsZero() || r.In.End.After(end) {
		r.In.End = end
	}
	switch {
	case first.IsZero(): // it never begins
		r.In.Start = r.In.End
	case r.In.Start.IsZero(): // the first bucket may begin at a cut, which other customers do not have
		r.In.Start = period.BucketStart(first)
	}
	if r.In.End.Before(r.In.Start) { // it has not begun
		r.In.Start = r.In.End
	}
}

// inViews calls work for 0 to n-1, at most some in one view.
func (r *reading) inViews(ctx context.Context, n, some int, work func(v store.View, i int) error) error {
	if r.view != nil {
		some = n
	}
	for at := 0; at < n; {
		err := r.see(ctx, func(v store.View) error {
			for end := min(n, at+some); at < end; at++ {
				if err := work(v, at); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

// see calls read with the open view, or with one of its own.
func (r *reading) see(ctx context.Context, read func(store.View) error) error {
	if r.view != nil {
		return read(r.view)
	}
	return r.cfg.Journal.View(ctx, read)
}

// totals reads the whole time of every series into groups.
func (r *reading) totals(ctx context.Context) error {
	if len(r.GroupBy) == 0 { // one figure, whatever it is of
		r.group(account.Customer{}, nil).always = true
	}
	for i, s := range r.series {
		g := r.groups[""]
		if r.byCustomer && len(r.dimensions) == 0 && len(r.named) > 0 {
			g = r.group(s.customer, nil)
			g.always = true
		}
		if g != nil {
			g.sources = append(g.sources, i)
		}
	}
	if len(r.named) == 1 && r.groups[""] != nil {
		r.groups[""].customer = r.named[0]
	}
	if r.level() && r.In.Empty() || r.summed() {
		return nil // it has not begun, or comes with the windows
	}
	some := measuresMax
	if r.plain() {
		some = sumsMax
	}
	return r.inViews(ctx, len(r.series), some, func(v store.View, i int) error {
		found, err := r.measure(v, r.series[i].key, r.In)
		if errors.Is(err, store.ErrInvalid) && len(r.dimensions) > 0 { // its bound is above ours
			return tooManyGroups()
		}
		if err != nil {
			return err
		}
		for _, f := range found {
			if f.Events == 0 && f.Value.Sign() == 0 {
				continue
			}
			g := r.group(r.series[i].customer, f.Dimensions)
			if len(r.groups) > MaxGroups {
				return tooManyGroups()
			}
			if err := r.fold(&g.Figure, f); err != nil {
				return err
			}
			if n := len(g.sources); n == 0 || g.sources[n-1] < i {
				g.sources = append(g.sources, i)
			}
		}
		return nil
	})
}

func tooManyGroups() error {
	return &Invalid{"/group_by", fmt.Sprintf("would make more than %d groups", MaxGroups), "group by less, or ask for fewer customers or a shorter time"}
}

// group finds or begins the group of a customer's dimensions.
func (r *reading) group(c account.Customer, dimensions []meter.Dimension) *group {
	if !r.byCustomer {
		c = account.Customer{}
		if len(r.named) == 1 {
			c = r.named[0]
		}
	}
	var name []string
	if r.byCustomer {
		name = append(name, c.Key)
	}
	shown := make([]meter.Dimension, 0, len(r.dimensions))
	for _, d := range r.dimensions {
		at := slices.IndexFunc(dimensions, func(x meter.Dimension) bool { return x.Name == d })
		value := ""
		if at >= 0 {
			value = dimensions[at].Value
		}
		name, shown = append(name, value), append(shown, meter.Dimension{Name: d, Value: value})
	}
	key := strings.Join(name, "\x00") // no key and no dimension has control characters
	g := r.groups[key]
	if g == nil {
		g = &group{name: name, customer: c, dimensions: shown}
		r.groups[key] = g
	}
	return g
}

// measure reads a series at the answer's position.
func (r *reading) measure(v store.View, k store.SeriesKey, in period.Interval) ([]store.Group, error) {
	m := store.Measure{Aggregation: r.meter.Aggregation, Where: r.Where, GroupBy: r.dimensions}
	if v.Position() != r.position {
		m.UpTo = r.position
	} else if r.plain() {
		u, err := v.Usage(k, in)
		return []store.Group{{Value: u.Sum, Events: u.Count}}, err
	}
	return v.Measure(k, in, m)
}

// fold adds what a series has to a figure.
func (r *reading) fold(to *Figure, g store.Group) (err error) {
	switch a := r.meter.Aggregation; {
	case to.Events == 0 && to.Value.Sign() == 0:
		to.Value = g.Value
	case a == meter.Min:
		if g.Value.Cmp(to.Value) < 0 {
			to.Value = g.Value
		}
	case a == meter.Max:
		if g.Value.Cmp(to.Value) > 0 {
			to.Value = g.Value
		}
	default:
		to.Value, err = to.Value.Add(g.Value)
	}
	to.Events += g.Events
	to.Inexact = to.Inexact || g.Inexact
	return err
}

// page orders the groups and cuts out what is to be shown.
func (r *reading) page() {
	all := make([]*group, 0, len(r.groups))
	for _, g := range r.groups {
		if g.always || g.Events > 0 || g.Value.Sign() != 0 {
			all = append(all, g)
		}
	}
	slices.SortFunc(all, func(a, b *group) int {
		if r.Top > 0 {
			return cmp.Or(b.Value.Cmp(a.Value), slices.Compare(a.name, b.name))
		}
		return slices.Compare(a.name, b.name)
	})
	if r.Top > 0 {
		all = all[:min(len(all), r.Top)]
	}
	from := min(r.offset, len(all))
	to := min(len(all), from+r.Limit)
	if to < len(all) {
		r.next = strconv.FormatUint(r.position, 10) + "." + strconv.Itoa(to)
	}
	r.shown = all[from:to]
	for _, g := range r.shown {
		g.shown, g.windows = true, map[time.Time]*WindowFigure{}
	}
}
