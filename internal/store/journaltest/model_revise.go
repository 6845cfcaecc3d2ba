package journaltest

import (
	"fmt"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// revise sends random revisions to the journal and to the model.
func (m *model) revise(rt *rapid.T, w *ledger) {
	if len(m.events) == 0 {
		return
	}
	r := store.Revisions{Actor: "tok_1", Reason: "typo", At: minute(rapid.IntRange(0, 9).Draw(rt, "at"))}
	for range rapid.IntRange(1, 3).Draw(rt, "revisions") {
		e := rapid.SampledFrom(m.events).Draw(rt, "revised").Event
		v := store.Revision{
			Source: e.Source, ID: e.ID, Kind: rapid.SampledFrom([]store.RevisionKind{store.Amend, store.Void, store.Resolve}).Draw(rt, "kind"),
			If: store.AnyRevision,
		}
		if other := drawEntry(rt); v.Kind != store.Void {
			v.Resolutions = other.Resolutions
			if v.Kind == store.Amend {
				v.Event = other.Event
			}
		}
		r.List = append(r.List, v)
	}
	got, err := w.journal.Revise(w.t.Context(), r)
	if err != nil {
		rt.Fatal(err)
	}
	var want []uint64
	for i := range r.List {
		want = append(want, m.apply(&r, i, got[i]))
	}
	equal(rt, "revisions", want, got)
}

// apply takes the position of what changes something from the journal.
func (m *model) apply(r *store.Revisions, i int, position uint64) uint64 {
	v := &r.List[i]
	e := m.find(v.Source, v.ID)
	now := *e
	now.Flags &^= store.Held | store.Filtered
	now.Resolutions, now.Voided = v.Resolutions, v.Kind == store.Void
	if v.Kind == store.Amend {
		now.Event.Type, now.Event.Subject, now.Event.Data = v.Event.Type, v.Event.Subject, v.Event.Data
	}
	if len(now.Resolutions) == 0 && len(e.Resolutions) == 0 {
		now.Resolutions = e.Resolutions
	}
	if reflect.DeepEqual(now, *e) {
		return e.Revision
	}
	now.Revision = position
	*e = now
	m.history[v.ID] = append(m.history[v.ID], store.Revised{
		Kind: v.Kind, Position: position, At: r.At, Actor: r.Actor, Reason: r.Reason, Event: now.Event, Resolutions: now.Resolutions,
	})
	return position
}

// reading is how a series reads an event; nil: it does not.
func reading(all []meter.Resolution, k store.SeriesKey) *meter.Resolution {
	for i := range all {
		if all[i].CustomerID == k.CustomerID && all[i].Meter == k.Meter {
			return &all[i]
		}
	}
	return nil
}

// upTo calls do with every event that counts for a series inside an interval, as it was at a position.
func (m *model) upTo(k store.SeriesKey, in period.Interval, position uint64, do func(e store.Record, r *meter.Resolution)) {
	for _, e := range m.events {
		if e.Event.Time.Before(in.Start) || !e.Event.Time.Before(in.End) {
			continue
		}
		var last *meter.Resolution
		for _, h := range m.history[e.Event.ID] {
			if h.Position <= position {
				last = reading(h.Resolutions, k)
			}
		}
		if last != nil {
			do(e, last)
		}
	}
}

func (m *model) sum(k store.SeriesKey, in period.Interval, position uint64) (sum money.Decimal) {
	m.upTo(k, in, position, func(_ store.Record, r *meter.Resolution) { sum, _ = sum.Add(r.Value) })
	return sum
}

// changes calls do with each time that a series' reading of an event changed. The first reading has kind 0.
func (m *model) changes(k store.SeriesKey, do func(e store.Record, kind store.RevisionKind, old, now *meter.Resolution)) {
	for _, e := range m.events {
		var old *meter.Resolution
		for _, h := range m.history[e.Event.ID] {
			now := reading(h.Resolutions, k)
			if h.Kind == store.Amend || !reflect.DeepEqual(old, now) {
				do(e, h.Kind, old, now)
			}
			old = now
		}
	}
}

// tallies of what was reported and voided.
func (m *model) tallies(k store.SeriesKey, in period.Interval) (reported, voided money.Decimal) {
	m.changes(k, func(e store.Record, kind store.RevisionKind, old, now *meter.Resolution) {
		if e.Event.Time.Before(in.Start) || !e.Event.Time.Before(in.End) {
			return
		}
		if old != nil {
			voided, _ = voided.Add(old.Value)
		}
		if now != nil && (kind != 0 || e.Origin == meter.Reported) {
			reported, _ = reported.Add(now.Value)
		}
	})
	return reported, voided
}

// ever are the starts of the buckets in which something counted at some time.
func (m *model) ever(k store.SeriesKey) (starts []time.Time) {
	bounds := m.bounds(k.CustomerID)
	m.changes(k, func(e store.Record, _ store.RevisionKind, old, now *meter.Resolution) {
		if old == nil && now == nil {
			return
		}
		i, _ := slices.BinarySearchFunc(bounds, e.Event.Time.Add(1), time.Time.Compare)
		starts = append(starts, bounds[i-1])
	})
	slices.SortFunc(starts, time.Time.Compare)
	return starts
}

// filtered is what a scan must find, by position.
func (m *model) filtered(s store.Scan) (all []string) {
	for _, e := range m.events {
		unmatched := len(e.Resolutions) == 0 && !e.Voided && !e.Flags.Uncounted()
		switch {
		case s.Unmatched && !unmatched, s.Unit != "" && e.Unit != s.Unit, max(e.Position, e.Revision) <= s.After:
		case s.Meter != "" && reading(e.Resolutions, s.SeriesKey) == nil:
		default:
			all = append(all, e.Event.ID)
		}
	}
	return all
}

func (m *model) compareMeasure(rt *rapid.T, v store.View, k store.SeriesKey, in period.Interval) {
	one := store.Measure{
		Aggregation: meter.Aggregation(rapid.IntRange(int(meter.Count), int(meter.TimeWeighted)).Draw(rt, "aggregation")),
		UpTo:        rapid.Uint64Range(0, 60).Draw(rt, "up to"),
	}
	if one.Aggregation == meter.TimeWeighted && !in.End.After(in.Start) {
		_, err := v.Measure(k, in, one)
		if err == nil {
			rt.Fatal("a level over nothing")
		}
		return
	}
	if rapid.Bool().Draw(rt, "grouped") {
		one.GroupBy = []string{"route"}
	}
	if rapid.Bool().Draw(rt, "filtered") {
		one.Where = []meter.Dimension{{Name: "route", Value: rapid.SampledFrom([]string{"", "/a"}).Draw(rt, "where")}}
	}
	got, err := v.Measure(k, in, one)
	equal(rt, "error", nil, err)
	var want []store.Group
	for _, route := range []string{"", "/a", "/b"} {
		part := one
		part.Where = append(slices.Clone(one.Where), meter.Dimension{Name: "route", Value: route})
		if g, some := m.measure(k, in, part); some && len(one.GroupBy) > 0 {
			g.Dimensions = []meter.Dimension{{Name: "route", Value: route}}
			want = append(want, g)
		}
	}
	if len(one.GroupBy) == 0 {
		g, _ := m.measure(k, in, one)
		want = []store.Group{g}
	}
	equal(rt, fmt.Sprintf("measure %+v", one), want, got)
}

// measure folds naively, a level second by second. some: there is an event, or for a level one before.
func (m *model) measure(k store.SeriesKey, in period.Interval, one store.Measure) (g store.Group, some bool) {
	if one.UpTo == 0 {
		one.UpTo = ^uint64(0)
	}
	var events []meter.Reading
	before := in
	before.Start = minute(0)
	m.upTo(k, before, one.UpTo, func(e store.Record, r *meter.Resolution) {
		for _, d := range one.Where {
			if !slices.Contains(r.Dimensions, d) && (d.Value != "" || len(r.Dimensions) > 0) {
				return
			}
		}
		if inside := !e.Event.Time.Before(in.Start); inside {
			g.Events++
		} else if one.Aggregation != meter.TimeWeighted {
			return
		}
		events = append(events, meter.Reading{Time: e.Event.Time.Unix(), Position: e.Position, Value: r.Value, Distinct: r.Distinct})
	})
	slices.SortStableFunc(events, func(a, b meter.Reading) int { return int(a.Time - b.Time) })
	texts := map[string]bool{}
	for i, e := range events {
		texts[e.Distinct] = true
		switch one.Aggregation {
		case meter.Sum:
			g.Value, _ = g.Value.Add(e.Value)
		case meter.Min, meter.Max:
			if c := e.Value.Cmp(g.Value); i == 0 || c < 0 == (one.Aggregation == meter.Min) {
				g.Value = e.Value
			}
		case meter.Latest:
			g.Value = e.Value
		case meter.Count, meter.Unique, meter.TimeWeighted:
		}
	}
	switch one.Aggregation {
	case meter.Count:
		g.Value = money.FromInt(g.Events)
	case meter.Unique:
		g.Value = money.FromInt(int64(len(texts)))
	case meter.TimeWeighted:
		g.Value, g.Inexact = bySecond(events, in)
	case meter.Sum, meter.Min, meter.Max, meter.Latest:
	}
	return g, len(events) > 0
}

// bySecond adds the level of each second up and divides by how many there are.
func bySecond(events []meter.Reading, in period.Interval) (money.Decimal, bool) {
	var sum, level money.Decimal
	next := 0
	for t := in.Start.Unix(); t < in.End.Unix(); t++ {
		for next < len(events) && events[next].Time <= t {
			level = events[next].Value
			next++
		}
		sum, _ = sum.Add(level)
	}
	q, _ := new(big.Rat).SetString(sum.String())
	q.Quo(q, new(big.Rat).SetInt64(in.End.Unix()-in.Start.Unix()))
	decimals, exact := q.FloatPrec()
	if !exact || decimals > 38 {
		digits := 0 // before the point, less the zeros behind it
		for one := new(big.Rat).Abs(q); one.Cmp(big.NewRat(1, 1)) >= 0; digits++ {
			one.Quo(one, big.NewRat(10, 1))
		}
		for one := new(big.Rat).Abs(q); one.Cmp(big.NewRat(1, 10)) < 0 && one.Sign() > 0; digits-- {
			one.Mul(one, big.NewRat(10, 1))
		}
		exact, decimals = false, min(38, 34-digits)
	}
	text := q.FloatString(decimals)
	if strings.Contains(text, ".") {
		text = strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
	}
	if text == "-0" {
		text = "0"
	}
	return money.MustDecimal(text), !exact
}
