package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// maxGroups bounds the groups of one measure.
const maxGroups = 100_000

// view is the journal at one cut: a transaction's snapshot. It is for one goroutine.
type view struct {
	ctx      context.Context //nolint:containedctx // store.View has no room for one
	tx       pgx.Tx
	position uint64
	cuts     map[string]meter.Cuts
	series   map[store.SeriesKey]int32
	failed   error // of a method that returns none
}

var _ store.View = (*view)(nil)

// View implements store.Journal. Appends go on meanwhile.
func (j *Journal) View(ctx context.Context, read func(store.View) error) error {
	if err := j.enter(ctx); err != nil {
		return fmt.Errorf("view: %w", err)
	}
	defer j.leave()
	err := j.snapshot(ctx, func(tx pgx.Tx) error {
		v := &view{ctx: ctx, tx: tx, cuts: map[string]meter.Cuts{}, series: map[store.SeriesKey]int32{}}
		if err := tx.QueryRow(ctx, "SELECT position FROM journal_head").Scan(&v.position); err != nil {
			return wrap("view", err)
		}
		return errors.Join(read(v), v.failed)
	})
	return err
}

// Position implements store.View.
func (v *view) Position() uint64 { return v.position }

// limits are an interval's bounds in microseconds; zero times are open.
func limits(in period.Interval) (from, to int64) {
	from, to = math.MinInt64, math.MaxInt64
	if !in.Start.IsZero() {
		from = in.Start.UnixMicro()
	}
	if !in.End.IsZero() {
		to = in.End.UnixMicro()
	}
	return from, to
}

func (v *view) cutsOf(customerID string) (meter.Cuts, error) {
	if c, ok := v.cuts[customerID]; ok {
		return c, nil
	}
	c := meter.Cuts{}
	rows, err := v.tx.Query(v.ctx, "SELECT at FROM journal_cuts WHERE customer = $1 ORDER BY at", customerID)
	err = rowsOf(rows, err, func(rows pgx.Rows) error {
		var at int64
		err := rows.Scan(&at)
		c = append(c, at)
		return err
	})
	if err == nil {
		v.cuts[customerID] = c
	}
	return c, err
}

// bounded checks the bounds of an interval, and finds the series; id 0: there is none.
func (v *view) bounded(k store.SeriesKey, in period.Interval) (id int32, c meter.Cuts, err error) {
	if c, err = v.cutsOf(k.CustomerID); err != nil {
		return 0, nil, err
	}
	for _, t := range []time.Time{in.Start, in.End} {
		if !t.IsZero() && (!c.Boundary(t.UnixMicro()) || t.Nanosecond()%1000 != 0) {
			return 0, nil, invalid("%s lies neither on the 15-minute grid nor on a cut of %s", t.UTC().Format(time.RFC3339Nano), k.CustomerID)
		}
	}
	id, err = v.seriesOf(k)
	return id, c, err
}

func (v *view) seriesOf(k store.SeriesKey) (id int32, err error) {
	if id, ok := v.series[k]; ok {
		return id, nil
	}
	err = v.tx.QueryRow(v.ctx, "SELECT id FROM journal_series WHERE customer = $1 AND meter = $2", k.CustomerID, k.Meter).Scan(&id)
	if errors.Is(err, pgx.ErrNoRows) {
		err = nil
	}
	if err == nil {
		v.series[k] = id
	}
	return id, err
}

// parts reads the buckets of an interval in order of time.
func (v *view) parts(id int32, from, to int64, each func(start int64, p *part) error) error {
	if id == 0 {
		return nil
	}
	rows, err := v.tx.Query(v.ctx, "SELECT start, "+partColumns+" FROM journal_buckets WHERE series = $1 AND start >= $2 AND start < $3 ORDER BY start", id, from, to)
	return rowsOf(rows, err, func(rows pgx.Rows) error {
		var start int64
		var r partRow
		if err := rows.Scan(append([]any{&start}, r.into()...)...); err != nil {
			return err
		}
		p, err := r.part()
		if err != nil {
			return err
		}
		return each(start, &p)
	})
}

// sums are the sums of an interval's buckets.
func (v *view) sums(k store.SeriesKey, in period.Interval) (p part, err error) {
	id, _, err := v.bounded(k, in)
	if err != nil || id == 0 {
		return p, err
	}
	from, to := limits(in)
	var r partRow
	err = v.tx.QueryRow(v.ctx, `SELECT coalesce(sum(count), 0)::bigint, trim_scale(coalesce(sum(sum), 0))::text, trim_scale(coalesce(sum(reported), 0))::text,
		trim_scale(coalesce(sum(tally), 0))::text, trim_scale(coalesce(sum(voided), 0))::text, coalesce(max(last), 0)
		FROM journal_buckets WHERE series = $1 AND start >= $2 AND start < $3`, id, from, to).Scan(r.into()...)
	if err != nil {
		return p, err
	}
	return r.part()
}

// Usage implements store.View.
func (v *view) Usage(k store.SeriesKey, in period.Interval) (meter.Rollup, error) {
	p, err := v.sums(k, in)
	return p.rollup, wrap("usage", err)
}

// Reported implements store.View.
func (v *view) Reported(k store.SeriesKey, in period.Interval) (money.Decimal, error) {
	p, err := v.sums(k, in)
	return p.tally, wrap("reported usage", err)
}

// Voided implements store.View.
func (v *view) Voided(k store.SeriesKey, in period.Interval) (money.Decimal, error) {
	p, err := v.sums(k, in)
	return p.voided, wrap("voided usage", err)
}

// Windows implements store.View.
func (v *view) Windows(k store.SeriesKey, in period.Interval) ([]store.Window, error) {
	id, c, err := v.bounded(k, in)
	if err != nil {
		return nil, wrap("windows", err)
	}
	from, to := limits(in)
	windows := []store.Window{}
	err = v.parts(id, from, to, func(start int64, p *part) error {
		if p.rollup.Count != 0 { // else all of it was voided
			windows = append(windows, store.Window{
				Interval: period.Interval{Start: time.UnixMicro(start).UTC(), End: time.UnixMicro(c.End(start)).UTC()}, Rollup: p.rollup,
			})
		}
		return nil
	})
	if err != nil {
		return nil, wrap("windows", err)
	}
	return windows, nil
}

// Late implements store.View. Only buckets that a later record has changed are looked into.
func (v *view) Late(k store.SeriesKey, in period.Interval, after uint64) (sum money.Decimal, err error) {
	id, _, err := v.bounded(k, in)
	if err != nil || id == 0 || after >= v.position {
		return sum, wrap("late usage", err)
	}
	from, to := limits(in)
	var text string
	err = v.tx.QueryRow(v.ctx, `SELECT trim_scale(coalesce(sum(CASE WHEN c.taken THEN -u.amount ELSE u.amount END), 0))::text
		FROM journal_buckets b JOIN (`+eachRead+`) ON c.series = b.series AND c.bucket = b.start AND greatest(c.cause, c.last) > $4
		WHERE b.series = $1 AND b.start >= $2 AND b.start < $3 AND b.last > $4 AND greatest(c.cause, u.event) > $4`, id, from, to, int64(after)).Scan(&text)
	if err == nil {
		sum, err = money.ParseDecimal(text)
	}
	return sum, wrap("late usage", err)
}

// Admitted implements store.View.
func (v *view) Admitted(k store.SeriesKey, periodStart int64) (sum money.Decimal, err error) {
	var text string
	err = v.tx.QueryRow(v.ctx, "SELECT trim_scale(coalesce(sum(total), 0))::text FROM journal_totals WHERE customer = $1 AND meter = $2 AND period = $3",
		k.CustomerID, k.Meter, periodStart).Scan(&text)
	if err == nil {
		sum, err = money.ParseDecimal(text)
	}
	return sum, wrap("admitted total", err)
}

// Series implements store.View. A failure is that of the view.
func (v *view) Series() []store.Series {
	all := []store.Series{}
	rows, err := v.tx.Query(v.ctx, `SELECT s.customer, s.meter, f.start, l.start FROM journal_series s
		LEFT JOIN LATERAL (SELECT start FROM journal_buckets b WHERE b.series = s.id ORDER BY start LIMIT 1) f ON true
		LEFT JOIN LATERAL (SELECT start FROM journal_buckets b WHERE b.series = s.id ORDER BY start DESC LIMIT 1) l ON true
		ORDER BY s.customer COLLATE "C", s.meter COLLATE "C"`)
	err = rowsOf(rows, err, func(rows pgx.Rows) error {
		var one store.Series
		var first, last *int64
		if err := rows.Scan(&one.CustomerID, &one.Meter, &first, &last); err != nil {
			return err
		}
		if first != nil && last != nil {
			one.First, one.Last = time.UnixMicro(*first).UTC(), time.UnixMicro(*last).UTC()
		}
		all = append(all, one)
		return nil
	})
	v.failed = errors.Join(v.failed, wrap("series", err))
	return all
}

// AdmittedPeriods implements store.View. A failure is that of the view.
func (v *view) AdmittedPeriods(k store.SeriesKey) (all []int64) {
	rows, err := v.tx.Query(v.ctx, "SELECT DISTINCT period FROM journal_totals WHERE customer = $1 AND meter = $2 ORDER BY period", k.CustomerID, k.Meter)
	err = rowsOf(rows, err, func(rows pgx.Rows) error {
		var at int64
		err := rows.Scan(&at)
		all = append(all, at)
		return err
	})
	v.failed = errors.Join(v.failed, wrap("admitted periods", err))
	return all
}

// Measure implements store.View. store.ErrInvalid beyond maxGroups.
func (v *view) Measure(k store.SeriesKey, in period.Interval, m store.Measure) ([]store.Group, error) {
	groups, err := v.measure(k, in, m)
	return groups, wrap("measure", err)
}

func (v *view) measure(k store.SeriesKey, in period.Interval, m store.Measure) ([]store.Group, error) {
	id, _, err := v.bounded(k, in)
	switch {
	case err != nil:
		return nil, err
	case m.Aggregation < meter.Count || m.Aggregation > meter.TimeWeighted:
		return nil, invalid("unknown aggregation %d", m.Aggregation)
	case m.Aggregation == meter.TimeWeighted && (in.Start.IsZero() || !in.End.After(in.Start)):
		return nil, invalid("a time-weighted level needs an interval with a start and an end")
	}
	c := newCollection(&m)
	from, to := limits(in)
	if err := v.collect(c, id, from, to); err != nil {
		return nil, err
	}
	if m.Aggregation == meter.TimeWeighted {
		if err := v.carry(c, id, from); err != nil {
			return nil, err
		}
		for _, g := range c.groups {
			g.level.From, g.level.To = from, to
		}
	}
	return c.fold()
}

// collection gathers the readings that a measure asks for, by group.
type collection struct {
	m      *store.Measure
	groups map[string]*collected
}

// collected is one group at work.
type collected struct {
	dimensions []meter.Dimension
	readings   []meter.Reading
	level      meter.Level
	carried    bool
}

func newCollection(m *store.Measure) *collection {
	return &collection{m: m, groups: map[string]*collected{}}
}

// collect reads what contributed to a span of time: of each event in the order in which it was written.
func (v *view) collect(c *collection, id int32, from, to int64) error {
	if id == 0 || from >= to {
		return nil
	}
	upTo := int64(math.MaxInt64)
	if c.m.UpTo > 0 && c.m.UpTo < math.MaxInt64 {
		upTo = int64(c.m.UpTo)
	}
	rows, err := v.tx.Query(v.ctx, "SELECT u.event, u.at, c.taken, trim_scale(u.amount)::text, u.traits FROM "+eachRead+
		" WHERE c.series = $1 AND c.bucket >= $2 AND c.bucket < $3 AND greatest(c.cause, u.event) <= $4 ORDER BY greatest(c.cause, u.event), NOT c.taken",
		id, from, to, upTo)
	return rowsOf(rows, err, func(rows pgx.Rows) error {
		var r meter.Reading
		var value string
		var raw []byte
		if err := rows.Scan(&r.Position, &r.Time, &r.Taken, &value, &raw); err != nil {
			return err
		}
		var err error
		if r.Value, err = money.ParseDecimal(value); err != nil {
			return err
		}
		var t traits
		if raw != nil {
			if err := json.Unmarshal(raw, &t); err != nil {
				return fmt.Errorf("traits of an event: %w: %w", err, store.ErrCorrupt)
			}
		}
		r.Distinct = t.Distinct
		return c.add(&r, &t)
	})
}

func (c *collection) add(r *meter.Reading, t *traits) error {
	for _, d := range c.m.Where {
		if t.dimension(d.Name) != d.Value {
			return nil
		}
	}
	var key []byte
	for _, name := range c.m.GroupBy {
		key = append(append(key, t.dimension(name)...), 0xff) // no byte of a text
	}
	g := c.groups[string(key)]
	if g == nil {
		if len(c.groups) >= maxGroups {
			return invalid("more than %d groups: group by fewer dimensions", maxGroups)
		}
		g = &collected{}
		for _, name := range c.m.GroupBy {
			g.dimensions = append(g.dimensions, meter.Dimension{Name: name, Value: t.dimension(name)})
		}
		c.groups[string(key)] = g
	}
	g.readings = append(g.readings, *r)
	return nil
}

// carryDays is how much of the past is read at once for the level at the start.
const carryDays = 7

// carry finds the level of each group at the start: that of the latest event before. Without groups it looks from the newest
// bucket on; groups may begin anywhere, so that all of the series' past is read for them.
func (v *view) carry(c *collection, id int32, from int64) error {
	if len(c.m.GroupBy) > 0 {
		past := newCollection(c.m)
		if err := v.collect(past, id, math.MinInt64, from); err != nil {
			return err
		}
		return c.levels(past)
	}
	if c.groups[""] == nil {
		c.groups[""] = &collected{}
	}
	for to := from; !c.groups[""].carried; {
		var last *int64
		if err := v.tx.QueryRow(v.ctx, "SELECT max(start) FROM journal_buckets WHERE series = $1 AND start < $2", id, to).Scan(&last); err != nil || last == nil {
			return err
		}
		low := meter.GridStart(*last) - carryDays*96*meter.BucketMicros
		past := newCollection(c.m)
		if err := v.collect(past, id, low, to); err != nil {
			return err
		}
		if err := c.levels(past); err != nil {
			return err
		}
		to = low
	}
	return nil
}

// levels takes the last level of each group of the past over.
func (c *collection) levels(past *collection) error {
	for key, old := range past.groups {
		last, ok := meter.Newest(meter.Live(old.readings))
		if !ok {
			continue
		}
		g := c.groups[key]
		if g == nil {
			if len(c.groups) >= maxGroups {
				return invalid("more than %d groups: group by fewer dimensions", maxGroups)
			}
			g = &collected{dimensions: old.dimensions}
			c.groups[key] = g
		}
		g.carried, g.level.Before = true, last.Value
	}
	return nil
}

func (c *collection) fold() ([]store.Group, error) {
	if len(c.m.GroupBy) == 0 && len(c.groups) == 0 {
		return []store.Group{{}}, nil
	}
	all := make([]store.Group, 0, len(c.groups))
	for _, g := range c.groups {
		f, err := meter.Fold(c.m.Aggregation, g.readings, g.level)
		if err != nil {
			return nil, err
		}
		if f.Events > 0 || g.carried || len(c.m.GroupBy) == 0 {
			all = append(all, store.Group{Dimensions: g.dimensions, Value: f.Value, Events: f.Events, Inexact: f.Inexact})
		}
	}
	slices.SortFunc(all, func(a, b store.Group) int {
		return slices.CompareFunc(a.Dimensions, b.Dimensions, func(a, b meter.Dimension) int { return strings.Compare(a.Value, b.Value) })
	})
	return all, nil
}
