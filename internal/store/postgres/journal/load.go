package journal

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/store"
)

// needs are what the calls of a group will look at.
type needs struct {
	entries []identity
	marked  []identity
	reads   []read // the buckets that events will be counted in
	totals  []totalKey
	cutFrom string // a customer whose cuts are asked for
}

// read is a series that reads an event of an instant.
type read struct {
	key store.SeriesKey
	at  int64
}

func (n *needs) resolutions(list []meter.Resolution, at int64) {
	for i := range list {
		n.reads = append(n.reads, read{store.SeriesKey{CustomerID: list[i].CustomerID, Meter: list[i].Meter}, at})
	}
}

// load takes the lock of the head, and reads what the group needs in two rounds.
func (g *group) load(ctx context.Context, n *needs) error {
	b := &pgx.Batch{}
	// What comes behind it in the batch sees what those before have committed: each statement has a snapshot of its own.
	b.Queue("SELECT position FROM journal_head FOR UPDATE").QueryRow(func(row pgx.Row) error { return row.Scan(&g.position) })
	if g.queueIDs(b, n.marked); !g.blind {
		g.queueIDs(b, n.entries)
	}
	g.queueSeries(b, n)
	g.queueTotals(b, n.totals)
	if err := g.tx.SendBatch(ctx, b).Close(); err != nil {
		return fmt.Errorf("lock the head and look up: %w", err)
	}
	g.from = g.position
	keys := make([]bucketKey, 0, len(n.reads))
	for _, r := range n.reads {
		if s := g.series[r.key]; s != nil && s.id > 0 {
			keys = append(keys, bucketKey{s, g.cuts[r.key.CustomerID].Start(r.at)})
		}
	}
	if len(keys) == 0 {
		return nil
	}
	return g.loadParts(ctx, keys)
}

// partitions is how many journal_events has, each for a range of identities.
const partitions = 8

// queueIDs looks identities up, each in its partition: the table as a whole would look into all of them for each.
func (g *group) queueIDs(b *pgx.Batch, ids []identity) {
	var by [partitions][][16]byte
	for _, id := range ids {
		n := int(id[0]) * partitions >> 8
		by[n] = append(by[n], id)
	}
	for n, list := range by {
		if len(list) == 0 {
			continue
		}
		b.Queue("SELECT identity, position, digest, marks FROM journal_events_"+strconv.Itoa(n)+" WHERE identity = ANY($1)", list).Query(func(rows pgx.Rows) error {
			for rows.Next() {
				var id [16]byte
				var h held
				if err := rows.Scan(&id, &h.position, &h.digest, &h.marks); err != nil {
					return err
				}
				g.loaded.ids[id] = h
			}
			return rows.Err()
		})
	}
}

func (g *group) queueSeries(b *pgx.Batch, n *needs) {
	wanted := map[store.SeriesKey]bool{}
	customers := map[string]bool{}
	var customer, meters, all []string
	for _, r := range n.reads {
		if !wanted[r.key] {
			wanted[r.key] = true
			customer, meters = append(customer, r.key.CustomerID), append(meters, r.key.Meter)
		}
		customers[r.key.CustomerID] = true
	}
	for _, t := range n.totals { // they make series too
		if !wanted[t.SeriesKey] {
			wanted[t.SeriesKey] = true
			customer, meters = append(customer, t.CustomerID), append(meters, t.Meter)
		}
	}
	if n.cutFrom != "" {
		customers[n.cutFrom] = true
	}
	for c := range customers {
		all = append(all, c)
	}
	if len(customer) > 0 {
		b.Queue("SELECT s.id, s.customer, s.meter FROM journal_series s JOIN unnest($1::text[], $2::text[]) AS w (customer, meter) USING (customer, meter)",
			customer, meters).Query(func(rows pgx.Rows) error {
			for rows.Next() {
				s := &series{}
				if err := rows.Scan(&s.id, &s.key.CustomerID, &s.key.Meter); err != nil {
					return err
				}
				g.series[s.key] = s
			}
			return rows.Err()
		})
	}
	if len(all) > 0 {
		b.Queue("SELECT customer, at FROM journal_cuts WHERE customer = ANY($1) ORDER BY customer, at", all).Query(func(rows pgx.Rows) error {
			for rows.Next() {
				var c string
				var at int64
				if err := rows.Scan(&c, &at); err != nil {
					return err
				}
				g.cuts[c] = append(g.cuts[c], at)
			}
			return rows.Err()
		})
	}
}

func (g *group) queueTotals(b *pgx.Batch, keys []totalKey) {
	if len(keys) == 0 {
		return
	}
	args := totalArrays(keys)
	b.Queue(`SELECT t.customer, t.meter, t.period, t.node, t.epoch, t.total::text FROM journal_totals t
		JOIN (SELECT DISTINCT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::integer[], $5::bigint[]) AS w (customer, meter, period, node, epoch)) w
		USING (customer, meter, period, node, epoch)`, args...).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			var k totalKey
			var total string
			if err := rows.Scan(&k.CustomerID, &k.Meter, &k.period, &k.node, &k.epoch, &total); err != nil {
				return err
			}
			var err error
			if g.loaded.totals[k], err = money.ParseDecimal(total); err != nil {
				return err
			}
		}
		return rows.Err()
	})
}

func totalArrays(keys []totalKey) []any {
	var customers, meters []string
	var periods, epochs []int64
	var nodes []int32
	for _, k := range keys {
		customers, meters = append(customers, k.CustomerID), append(meters, k.Meter)
		periods, nodes, epochs = append(periods, k.period), append(nodes, int32(k.node)), append(epochs, int64(k.epoch))
	}
	return []any{customers, meters, periods, nodes, epochs}
}

const partColumns = "count, trim_scale(sum)::text, trim_scale(reported)::text, trim_scale(tally)::text, trim_scale(voided)::text, last"

// partRow scans partColumns.
type partRow struct {
	p                            part
	sum, reported, tally, voided string
}

func (r *partRow) into() []any {
	return []any{&r.p.rollup.Count, &r.sum, &r.reported, &r.tally, &r.voided, &r.p.last}
}

func (r *partRow) part() (p part, err error) {
	p = r.p
	for _, one := range []struct {
		to   *money.Decimal
		text string
	}{{&p.rollup.Sum, r.sum}, {&p.rollup.Reported, r.reported}, {&p.tally, r.tally}, {&p.voided, r.voided}} {
		if *one.to, err = money.ParseDecimal(one.text); err != nil {
			return p, fmt.Errorf("a stored rollup: %w", err)
		}
	}
	return p, nil
}

// loadParts reads buckets; one that is not there is loaded as empty.
func (g *group) loadParts(ctx context.Context, keys []bucketKey) error {
	byID := map[int32]*series{}
	var ids []int32
	var starts []int64
	for _, k := range keys {
		if _, ok := g.loaded.parts[k]; ok {
			continue
		}
		g.loaded.parts[k] = part{}
		byID[k.series.id] = k.series
		ids, starts = append(ids, k.series.id), append(starts, k.start)
	}
	rows, err := g.tx.Query(ctx, `SELECT b.series, b.start, `+partColumns+` FROM unnest($1::integer[], $2::bigint[]) AS w (series, start)
		JOIN journal_buckets b USING (series, start)`, ids, starts)
	err = rowsOf(rows, err, func(rows pgx.Rows) error {
		var id int32
		var start int64
		var r partRow
		if err := rows.Scan(append([]any{&id, &start}, r.into()...)...); err != nil {
			return err
		}
		p, err := r.part()
		g.loaded.parts[bucketKey{byID[id], start}] = p
		return err
	})
	if err != nil {
		return fmt.Errorf("read rollups: %w", err)
	}
	return nil
}

// traits are what usage can be grouped by, as they are stored. No column of text would take every text.
type traits struct {
	Distinct   string      `json:"u,omitempty"`
	Dimensions [][2]string `json:"d,omitempty"`
}

// traitsOf is nil where there are none.
func traitsOf(r *meter.Resolution) ([]byte, error) {
	if r.Distinct == "" && len(r.Dimensions) == 0 {
		return nil, nil
	}
	t := traits{Distinct: r.Distinct}
	for _, d := range r.Dimensions {
		t.Dimensions = append(t.Dimensions, [2]string{d.Name, d.Value})
	}
	return json.Marshal(t)
}

func (t *traits) dimension(name string) string {
	i := slices.IndexFunc(t.Dimensions, func(d [2]string) bool { return d[0] == name })
	if i < 0 {
		return ""
	}
	return t.Dimensions[i][1]
}
