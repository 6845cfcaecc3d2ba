package journal

import (
	"bytes"
	"context"
	"fmt"
	"math/big"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/postgres/tuples"
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
	log, reads := g.logRows(), g.readRows()
	if len(g.all.events) >= copyFrom {
		if err := g.copyAll(ctx, log, reads); err != nil {
			return fmt.Errorf("write: %w", err)
		}
	} else {
		g.queueEvents(b)
		queueLog(b, log)
		queueReads(b, reads)
	}
	g.queueRevisions(b)
	g.queueParts(b)
	g.queueTotalsWrite(b)
	g.queueChanges(b)
	g.queueCut(b)
	if e := g.erasure; e != nil {
		b.Queue("INSERT INTO journal_erasures (position, subject, first, last) VALUES ($1, $2, $3, $4)", e.position, []byte(e.subject), e.first, e.last)
		if e.subject == "" {
			b.Queue("UPDATE journal_head SET retained = greatest(retained, $1)", e.last)
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

func (g *group) copyAll(ctx context.Context, log []logRow, reads []*readRow) error {
	types := g.tx.Conn().TypeMap()
	events := g.turns()
	if err := g.copy(ctx, "journal_events (identity, position, digest, at, unmatched, unit)", len(events), func(b []byte, i int) ([]byte, error) {
		e := events[i]
		b = tuples.Int8(tuples.Bytes(tuples.Fields(b, 6), e.identity[:]), e.position)
		return tuples.Bytes(tuples.Bool(tuples.Int8(tuples.Bytes(b, e.digest[:]), e.at), e.unmatched), []byte(e.unit)), nil
	}); err != nil {
		return err
	}
	if err := g.copy(ctx, "journal_log (first, received, size, bodies)", len(log), func(b []byte, i int) ([]byte, error) {
		r := &log[i]
		if b = tuples.Int8(tuples.Fields(b, 4), r.first); r.received == nil {
			b = tuples.Null(b)
		} else {
			b = tuples.Int8(b, *r.received)
		}
		return tuples.Array(tuples.Int4(b, int32(r.size)), pgtype.ByteaOID, len(r.bodies), func(b []byte, i int) ([]byte, error) { return tuples.Bytes(b, r.bodies[i]), nil })
	}); err != nil {
		return err
	}
	return g.copy(ctx, "journal_contributions (series, bucket, first, cause, taken, origin, last, events, ats, amounts, traits)", len(reads),
		func(b []byte, i int) (_ []byte, err error) {
			l := reads[i].list
			b = tuples.Int4(tuples.Fields(b, 11), l[0].series.id)
			b = tuples.Bool(tuples.Int8(tuples.Int8(tuples.Int8(b, l[0].bucket), l[0].event), reads[i].cause()), l[0].taken)
			b = tuples.Int8(tuples.Int2(b, int16(l[0].origin)), l[len(l)-1].event)
			for _, element := range []struct {
				oid    uint32
				append func(b []byte, i int) ([]byte, error)
			}{
				{pgtype.Int8OID, func(b []byte, i int) ([]byte, error) { return tuples.Int8(b, l[i].event), nil }},
				{pgtype.Int8OID, func(b []byte, i int) ([]byte, error) { return tuples.Int8(b, l[i].at), nil }},
				{pgtype.NumericOID, func(b []byte, i int) ([]byte, error) { return amount(b, types, l[i].value) }},
				{pgtype.ByteaOID, func(b []byte, i int) ([]byte, error) { return tuples.Bytes(b, l[i].traits), nil }},
			} {
				if b, err = tuples.Array(b, element.oid, len(l), element.append); err != nil {
					return b, err
				}
			}
			return b, nil
		})
}

// turns are the group's events in the order of the index, those of one partition after those of another in turns: neighbours go to
// the same pages, while COPY, which keeps a thousand rows back, has not many of one partition. Identities are hashes, so that an
// eighth of them is about a partition.
func (g *group) turns() []*event {
	sorted := make([]*event, len(g.all.events))
	for i := range g.all.events {
		sorted[i] = &g.all.events[i]
	}
	slices.SortFunc(sorted, func(a, b *event) int { return bytes.Compare(a.identity[:], b.identity[:]) })
	all := make([]*event, 0, len(sorted))
	each := (len(sorted) + partitions - 1) / partitions
	for i := range each {
		for k := i; k < len(sorted); k += each {
			all = append(all, sorted[k])
		}
	}
	return all
}

// copy writes n rows to a table and its columns.
func (g *group) copy(ctx context.Context, to string, n int, row func(b []byte, i int) ([]byte, error)) error {
	if n == 0 {
		return nil
	}
	_, err := g.tx.Conn().PgConn().CopyFrom(ctx, &tuples.Stream{N: n, Row: row}, "COPY "+to+" FROM STDIN (FORMAT binary)")
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
		b.Queue(`INSERT INTO journal_events (identity, position, digest, at, unmatched, unit)
			SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::bigint[], $5::boolean[], $6::text[])`,
			column(list, func(e *event) [16]byte { return e.identity }), column(list, func(e *event) int64 { return int64(e.position) }),
			column(list, func(e *event) [16]byte { return e.digest }), column(list, func(e *event) int64 { return e.at }),
			column(list, func(e *event) bool { return e.unmatched }), column(list, func(e *event) string { return e.unit }))
	}
}

func queueLog(b *pgx.Batch, rows []logRow) {
	var firsts, sizes []int64
	var received []*int64
	var bodies [][]byte
	for i := range rows {
		for _, body := range rows[i].bodies {
			firsts, sizes = append(firsts, int64(rows[i].first)), append(sizes, int64(len(body)))
			received, bodies = append(received, rows[i].received), append(bodies, body)
		}
	}
	if len(rows) > 0 {
		b.Queue(`INSERT INTO journal_log (first, received, size, bodies) SELECT f, max(r), sum(s), array_agg(b ORDER BY n)
			FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bytea[]) WITH ORDINALITY AS u (f, r, s, b, n) GROUP BY f`, firsts, received, sizes, bodies)
	}
}

func queueReads(b *pgx.Batch, rows []*readRow) {
	type one struct {
		*contribution
		row          int64
		first, cause uint64
	}
	var all []one
	for i, r := range rows {
		for _, c := range r.list {
			all = append(all, one{c, int64(i), r.list[0].event, r.cause()})
		}
	}
	if len(all) > 0 {
		b.Queue(`INSERT INTO journal_contributions (series, bucket, first, cause, taken, origin, last, events, ats, amounts, traits)
			SELECT min(s), min(b), min(f), min(c), bool_or(t), min(o), max(e), array_agg(e ORDER BY n), array_agg(a ORDER BY n), array_agg(v::numeric ORDER BY n),
				array_agg(x ORDER BY n)
			FROM unnest($1::bigint[], $2::integer[], $3::bigint[], $4::bigint[], $5::bigint[], $6::boolean[], $7::smallint[], $8::bigint[], $9::bigint[],
				$10::text[], $11::bytea[]) WITH ORDINALITY AS u (r, s, b, f, c, t, o, e, a, v, x, n) GROUP BY r`,
			column(all, func(c *one) int64 { return c.row }), column(all, func(c *one) int32 { return c.series.id }),
			column(all, func(c *one) int64 { return c.bucket }), column(all, func(c *one) int64 { return int64(c.first) }),
			column(all, func(c *one) int64 { return int64(c.cause) }), column(all, func(c *one) bool { return c.taken }),
			column(all, func(c *one) int16 { return int16(c.origin) }), column(all, func(c *one) int64 { return int64(c.event) }),
			column(all, func(c *one) int64 { return c.at }), column(all, func(c *one) string { return c.value.String() }),
			column(all, func(c *one) []byte { return c.traits }))
	}
}

// queueRevisions notes which records revise which events.
func (g *group) queueRevisions(b *pgx.Batch) {
	var targets, positions []int64
	for i := range g.all.others {
		if o := &g.all.others[i]; o.target > 0 {
			targets, positions = append(targets, int64(o.target)), append(positions, int64(o.position))
		}
	}
	if len(targets) > 0 {
		b.Queue("INSERT INTO journal_revisions (target, position) SELECT * FROM unnest($1::bigint[], $2::bigint[])", targets, positions)
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
		var ids [][16]byte
		var marks []int32
		for id := range g.all.marked {
			ids, marks = append(ids, id), append(marks, int32(g.all.ids[id].marks))
		}
		b.Queue("UPDATE journal_events e SET marks = u.m FROM unnest($1::uuid[], $2::integer[]) AS u (i, m) WHERE e.identity = u.i", ids, marks)
	}
	if len(g.all.revisions) > 0 {
		var ids [][16]byte
		var positions []int64
		var unmatched []bool
		for id, r := range g.all.revisions {
			ids, positions, unmatched = append(ids, id), append(positions, int64(r.position)), append(unmatched, r.unmatched)
		}
		b.Queue(`UPDATE journal_events e SET revision = u.p, unmatched = u.n FROM unnest($1::uuid[], $2::bigint[], $3::boolean[]) AS u (i, p, n)
			WHERE e.identity = u.i`, ids, positions, unmatched)
	}
}

// readColumns are those of a row of contributions, and readParts what is in them of some of its contributions.
const (
	readColumns = "series, first, cause, taken, origin, last, events, ats, amounts, traits"
	readParts   = `c.series, min(u.event), c.cause, c.taken, c.origin, max(u.event), array_agg(u.event ORDER BY u.n), array_agg(u.at ORDER BY u.n),
		array_agg(u.amount ORDER BY u.n), array_agg(u.traits ORDER BY u.n)
		FROM journal_contributions c CROSS JOIN unnest(c.events, c.ats, c.amounts, c.traits) WITH ORDINALITY AS u (event, at, amount, traits, n)
		WHERE c.series = $1 AND c.bucket = $2`
)

func (g *group) queueCut(b *pgx.Batch) {
	c := g.newCut
	if c == nil {
		return
	}
	b.Queue("INSERT INTO journal_cuts (customer, at) VALUES ($1, $2)", c.customer, c.at)
	for _, s := range c.splits {
		b.Queue(`INSERT INTO journal_contributions (bucket, `+readColumns+") SELECT $3::bigint, "+readParts+" AND u.at >= $3 GROUP BY c.series, c.bucket, c.first, c.cause, c.taken", s.series.id, s.start, c.at)
		b.Queue("DELETE FROM journal_contributions WHERE series = $1 AND bucket = $2 AND $3 <= ALL (ats)", s.series.id, s.start, c.at)
		b.Queue(`UPDATE journal_contributions w SET (`+readColumns+`) = (SELECT `+readParts+` AND u.at < $3 AND c.first = w.first AND c.cause = w.cause
			AND c.taken = w.taken GROUP BY c.series, c.bucket, c.first, c.cause, c.taken) WHERE series = $1 AND bucket = $2 AND $3 <= ANY (ats)`, s.series.id, s.start, c.at)
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
