package journal

import (
	"context"
	"fmt"
	"math/big"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/store"
)

// cutRow is a new cut of a customer, and the buckets that it takes apart.
type cutRow struct {
	customer string
	at       int64
	splits   []split
}

type split struct {
	series      *series
	start       int64
	left, right part
}

// column of many things: what unnest takes.
func column[T, C any](all []T, of func(*T) C) []C {
	out := make([]C, len(all))
	for i := range all {
		out[i] = of(&all[i])
	}
	return out
}

// flush writes all that the group's calls have staged.
func (g *group) flush(ctx context.Context) error {
	if err := g.flushSeries(ctx); err != nil {
		return fmt.Errorf("write series: %w", err)
	}
	b := &pgx.Batch{}
	if len(g.all.events) >= copyFrom {
		if err := g.copyEvents(ctx); err != nil {
			return fmt.Errorf("write: %w", err)
		}
	} else {
		g.queueEvents(b)
		g.queueContributions(b)
	}
	g.queueOthers(b)
	g.queueParts(b)
	g.queueTotalsWrite(b)
	g.queueChanges(b)
	g.queueCut(b)
	if e := g.erasure; e != nil {
		b.Queue("INSERT INTO journal_erasures (position, subject, first, last) VALUES ($1, $2, $3, $4)", e.position, []byte(e.subject), e.first, e.last)
		if e.subject == "" {
			b.Queue("UPDATE journal_head SET retained = $1", e.last)
		}
	}
	b.Queue("UPDATE journal_head SET position = $1", g.position)
	if err := g.tx.SendBatch(ctx, b).Close(); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

// copyFrom is from how many events on COPY, which takes turns of its own, beats INSERT.
const copyFrom = 200

func (g *group) copyEvents(ctx context.Context) error {
	events := g.all.events
	if _, err := g.tx.CopyFrom(ctx, pgx.Identifier{"journal_events"}, []string{"identity", "position", "digest", "at", "received", "unmatched", "unit", "body"},
		pgx.CopyFromSlice(len(events), func(i int) ([]any, error) {
			e := &events[i]
			return []any{e.identity[:], int64(e.position), e.digest[:], e.at, e.received, e.unmatched, e.unit, e.body}, nil
		})); err != nil {
		return err
	}
	list := g.all.contributions
	_, err := g.tx.CopyFrom(ctx, pgx.Identifier{"journal_contributions"}, []string{"series", "bucket", "event", "cause", "at", "origin", "taken", "value", "traits"},
		pgx.CopyFromSlice(len(list), func(i int) ([]any, error) {
			c := &list[i]
			value, err := numeric(c.value)
			return []any{c.series.id, c.bucket, int64(c.event), int64(c.cause), c.at, int16(c.origin), c.taken, value, c.traits}, err
		}))
	return err
}

// numeric is a decimal as PostgreSQL takes it.
func numeric(d money.Decimal) (n pgtype.Numeric, err error) {
	if units, err := d.Scaled(d.Scale()); err == nil { // nearly all
		return pgtype.Numeric{Int: big.NewInt(units), Exp: -int32(d.Scale()), Valid: true}, nil //nolint:gosec // a scale is small
	}
	return n, n.Scan(d.String())
}

// flushSeries gives new series their numbers.
func (g *group) flushSeries(ctx context.Context) error {
	var customers, meters []string
	add := func(k store.SeriesKey) {
		if s := g.seriesOf(k); s.id == 0 {
			s.id = -1
			customers, meters = append(customers, k.CustomerID), append(meters, k.Meter)
		}
	}
	for k := range g.all.parts {
		add(k.series.key)
	}
	for k := range g.all.totals {
		add(k.SeriesKey)
	}
	if len(customers) == 0 {
		return nil
	}
	rows, err := g.tx.Query(ctx, "INSERT INTO journal_series (customer, meter) SELECT * FROM unnest($1::text[], $2::text[]) RETURNING id, customer, meter", customers, meters)
	return rowsOf(rows, err, func(rows pgx.Rows) error {
		var id int32
		var k store.SeriesKey
		if err := rows.Scan(&id, &k.CustomerID, &k.Meter); err != nil {
			return err
		}
		g.series[k].id = id
		return nil
	})
}

func (g *group) queueEvents(b *pgx.Batch) {
	if list := g.all.events; len(list) > 0 {
		b.Queue(`INSERT INTO journal_events (identity, position, digest, at, received, unmatched, unit, body)
			SELECT * FROM unnest($1::bytea[], $2::bigint[], $3::bytea[], $4::bigint[], $5::bigint[], $6::boolean[], $7::text[], $8::bytea[])`,
			column(list, func(e *event) []byte { return e.identity[:] }), column(list, func(e *event) int64 { return int64(e.position) }),
			column(list, func(e *event) []byte { return e.digest[:] }), column(list, func(e *event) int64 { return e.at }),
			column(list, func(e *event) int64 { return e.received }), column(list, func(e *event) bool { return e.unmatched }),
			column(list, func(e *event) string { return e.unit }), column(list, func(e *event) []byte { return e.body }))
	}
}

func (g *group) queueOthers(b *pgx.Batch) {
	if list := g.all.others; len(list) > 0 {
		b.Queue("INSERT INTO journal_records (position, kind, target, body) SELECT * FROM unnest($1::bigint[], $2::smallint[], $3::bigint[], $4::bytea[])",
			column(list, func(o *other) int64 { return int64(o.position) }), column(list, func(o *other) int16 { return o.kind }),
			column(list, func(o *other) int64 { return int64(o.target) }), column(list, func(o *other) []byte { return o.body }))
	}
}

func (g *group) queueContributions(b *pgx.Batch) {
	if list := g.all.contributions; len(list) > 0 {
		b.Queue(`INSERT INTO journal_contributions (series, bucket, event, cause, at, origin, taken, value, traits)
			SELECT s, b, e, c, a, o, t, v::numeric, x
			FROM unnest($1::integer[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::smallint[], $7::boolean[], $8::text[], $9::bytea[])
				AS u (s, b, e, c, a, o, t, v, x)`,
			column(list, func(c *contribution) int32 { return c.series.id }), column(list, func(c *contribution) int64 { return c.bucket }),
			column(list, func(c *contribution) int64 { return int64(c.event) }), column(list, func(c *contribution) int64 { return int64(c.cause) }),
			column(list, func(c *contribution) int64 { return c.at }), column(list, func(c *contribution) int16 { return int16(c.origin) }),
			column(list, func(c *contribution) bool { return c.taken }), column(list, func(c *contribution) string { return c.value.String() }),
			column(list, func(c *contribution) []byte { return c.traits }))
	}
}

func (g *group) queueParts(b *pgx.Batch) {
	type row struct {
		key bucketKey
		part
	}
	list := make([]row, 0, len(g.all.parts))
	for k, p := range g.all.parts {
		list = append(list, row{k, p})
	}
	if len(list) == 0 {
		return
	}
	b.Queue(`INSERT INTO journal_buckets AS b (series, start, count, sum, reported, tally, voided, last)
		SELECT s, t, n, a::numeric, r::numeric, y::numeric, v::numeric, l
		FROM unnest($1::integer[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bigint[]) AS u (s, t, n, a, r, y, v, l)
		ON CONFLICT (series, start) DO UPDATE SET count = excluded.count, sum = excluded.sum, reported = excluded.reported, tally = excluded.tally,
			voided = excluded.voided, last = excluded.last`,
		column(list, func(r *row) int32 { return r.key.series.id }), column(list, func(r *row) int64 { return r.key.start }),
		column(list, func(r *row) int64 { return r.rollup.Count }), column(list, func(r *row) string { return r.rollup.Sum.String() }),
		column(list, func(r *row) string { return r.rollup.Reported.String() }), column(list, func(r *row) string { return r.tally.String() }),
		column(list, func(r *row) string { return r.voided.String() }), column(list, func(r *row) int64 { return int64(r.last) }))
}

func (g *group) queueTotalsWrite(b *pgx.Batch) {
	if len(g.all.totals) == 0 {
		return
	}
	var keys []totalKey
	var totals []string
	for k, t := range g.all.totals {
		keys, totals = append(keys, k), append(totals, t.String())
	}
	b.Queue(`INSERT INTO journal_totals AS t (customer, meter, period, node, epoch, total)
		SELECT c, m, p, n, e, t::numeric FROM unnest($1::text[], $2::text[], $3::bigint[], $4::integer[], $5::bigint[], $6::text[]) AS u (c, m, p, n, e, t)
		ON CONFLICT (customer, meter, period, node, epoch) DO UPDATE SET total = greatest(t.total, excluded.total)`, append(totalArrays(keys), totals)...)
}

// queueChanges writes what marks and revisions change of events.
func (g *group) queueChanges(b *pgx.Batch) {
	if len(g.all.marked) > 0 {
		var ids [][]byte
		var marks []int32
		for id := range g.all.marked {
			ids, marks = append(ids, id[:]), append(marks, int32(g.all.ids[id].marks))
		}
		b.Queue("UPDATE journal_events e SET marks = u.m FROM unnest($1::bytea[], $2::integer[]) AS u (i, m) WHERE e.identity = u.i", ids, marks)
	}
	if len(g.all.revisions) > 0 {
		var ids [][]byte
		var positions []int64
		var unmatched []bool
		for id, r := range g.all.revisions {
			ids, positions, unmatched = append(ids, id[:]), append(positions, int64(r.position)), append(unmatched, r.unmatched)
		}
		b.Queue(`UPDATE journal_events e SET revision = u.p, unmatched = u.n FROM unnest($1::bytea[], $2::bigint[], $3::boolean[]) AS u (i, p, n)
			WHERE e.identity = u.i`, ids, positions, unmatched)
	}
}

func (g *group) queueCut(b *pgx.Batch) {
	c := g.newCut
	if c == nil {
		return
	}
	b.Queue("INSERT INTO journal_cuts (customer, at) VALUES ($1, $2)", c.customer, c.at)
	for _, s := range c.splits {
		b.Queue("UPDATE journal_contributions SET bucket = $3 WHERE series = $1 AND bucket = $2 AND at >= $3", s.series.id, s.start, c.at)
		b.Queue("DELETE FROM journal_buckets WHERE series = $1 AND start = $2", s.series.id, s.start)
		for _, one := range []struct {
			start int64
			part
		}{{s.start, s.left}, {c.at, s.right}} {
			if one.last == 0 {
				continue
			}
			b.Queue(`INSERT INTO journal_buckets (series, start, count, sum, reported, tally, voided, last)
				VALUES ($1, $2, $3, $4::text::numeric, $5::text::numeric, $6::text::numeric, $7::text::numeric, $8)`, s.series.id, one.start, one.rollup.Count,
				one.rollup.Sum.String(), one.rollup.Reported.String(), one.tally.String(), one.voided.String(), int64(one.last))
		}
	}
}
