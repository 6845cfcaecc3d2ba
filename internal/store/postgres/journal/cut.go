package journal

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file/record"
)

// Cut implements store.Journal.
func (j *Journal) Cut(ctx context.Context, customerID string, at time.Time) error {
	if err := j.enter(ctx); err != nil {
		return fmt.Errorf("cut: %w", err)
	}
	defer j.leave()
	if !record.Text(customerID, 1) || !record.Instant(at) {
		return fmt.Errorf("cut: %w", invalid("a customer and an instant are needed"))
	}
	if err := keepable(customerID, ""); err != nil {
		return fmt.Errorf("cut: %w", err)
	}
	micros := at.UnixMicro()
	r := record.Record{Kind: record.KindCut, ReceivedAt: time.UnixMicro(0), Event: meter.Event{Time: at}, CustomerID: customerID}
	encoded := r.Append(nil)
	c := &call{size: len(encoded), alone: true, need: func(n *needs) { n.cutFrom = customerID }}
	c.stage = func(ctx context.Context, g *group) error {
		if g.cuts[customerID].Boundary(micros) {
			return errTakenBack
		}
		cut := &cutRow{customer: customerID, at: micros}
		if err := g.split(ctx, cut); err != nil {
			return err
		}
		g.put(0, encoded)
		g.newCut = cut
		return nil
	}
	return wrap("cut", j.submit(ctx, c))
}

// split computes how a cut takes the customer's buckets apart.
func (g *group) split(ctx context.Context, cut *cutRow) error {
	start := g.cuts[cut.customer].Start(cut.at)
	byID := map[int32]*split{}
	var ids []int32
	rows, err := g.tx.Query(ctx, `SELECT s.id, s.meter FROM journal_series s JOIN journal_buckets b ON b.series = s.id AND b.start = $2 WHERE s.customer = $1`,
		cut.customer, start)
	if err := rowsOf(rows, err, func(rows pgx.Rows) error {
		s := &split{series: &series{key: store.SeriesKey{CustomerID: cut.customer}}, start: start}
		if err := rows.Scan(&s.series.id, &s.series.key.Meter); err != nil {
			return err
		}
		byID[s.series.id] = s
		ids = append(ids, s.series.id)
		return nil
	}); err != nil {
		return faulty(err)
	}
	if err := g.contributions(ctx, ids, start, func(id int32, c *contribution) error {
		s := byID[id]
		if c.at >= cut.at {
			return s.right.fold(c)
		}
		return s.left.fold(c)
	}); err != nil {
		return faulty(err)
	}
	for _, s := range byID {
		whole, err := g.part(ctx, bucketKey{s.series, start})
		if err != nil {
			return err
		}
		if !s.addsUp(&whole) {
			return faulty(fmt.Errorf("the events of meter %s at %s do not add up to their rollup: %w", s.series.key.Meter, period.Format(time.UnixMicro(start)), store.ErrCorrupt))
		}
		cut.splits = append(cut.splits, *s)
	}
	return nil
}

// eachRead is each contribution u of each row c.
const eachRead = "journal_contributions c CROSS JOIN unnest(c.events, c.ats, c.amounts, c.traits) AS u (event, at, amount, traits)"

// contributions reads those of one bucket of each series.
func (g *group) contributions(ctx context.Context, ids []int32, start int64, each func(series int32, c *contribution) error) error {
	rows, err := g.tx.Query(ctx, "SELECT c.series, u.event, greatest(c.cause, u.event), u.at, c.origin, c.taken, trim_scale(u.amount)::text FROM "+eachRead+
		" WHERE c.series = ANY($1) AND c.bucket = $2", ids, start)
	return rowsOf(rows, err, func(rows pgx.Rows) error {
		var id int32
		var c contribution
		var value string
		if err := rows.Scan(&id, &c.event, &c.cause, &c.at, &c.origin, &c.taken, &value); err != nil {
			return err
		}
		var err error
		if c.value, err = money.ParseDecimal(value); err != nil {
			return err
		}
		return each(id, &c)
	})
}

// addsUp says whether the parts make the bucket that they replace.
func (s *split) addsUp(whole *part) bool {
	sum, err := s.left.rollup.Merge(s.right.rollup)
	tally, err1 := s.left.tally.Add(s.right.tally)
	voided, err2 := s.left.voided.Add(s.right.voided)
	return err == nil && err1 == nil && err2 == nil && sum.Sum.Equal(whole.rollup.Sum) && sum.Count == whole.rollup.Count &&
		tally.Equal(whole.tally) && voided.Equal(whole.voided)
}

// Seal implements store.Journal.
func (j *Journal) Seal(ctx context.Context, documents ...[]byte) (position uint64, err error) {
	if err := j.enter(ctx); err != nil {
		return 0, fmt.Errorf("seal: %w", err)
	}
	defer j.leave()
	encoded, size := make([][]byte, len(documents)), 0
	for i, d := range documents {
		if len(d) == 0 || len(d) > record.MaxDocument {
			return 0, fmt.Errorf("seal: %w", invalid("a document has 1 to %d bytes", record.MaxDocument))
		}
		size += len(d)
		r := record.Record{Kind: record.KindSeal, ReceivedAt: time.UnixMicro(0), Event: meter.Event{Time: time.UnixMicro(0)}, Document: d}
		encoded[i] = r.Append(nil)
	}
	if len(documents) == 0 || size > record.MaxDocuments {
		return 0, fmt.Errorf("seal: %w", invalid("documents have 1 to %d bytes together", record.MaxDocuments))
	}
	err = j.submit(ctx, &call{size: size, alone: true, stage: func(_ context.Context, g *group) error {
		position = g.position + 1
		for _, e := range encoded {
			g.put(0, e)
		}
		return nil
	}})
	return position, wrap("seal", err)
}

// Leaves implements store.Journal.
func (j *Journal) Leaves(ctx context.Context, from uint64, limit int, each func(store.Leaf) error) (next uint64, err error) {
	if err := j.enter(ctx); err != nil {
		return from, fmt.Errorf("leaves: %w", err)
	}
	defer j.leave()
	if from == 0 || limit <= 0 {
		return from, fmt.Errorf("leaves: %w", invalid("positions count from 1, and a limit is needed"))
	}
	if from > math.MaxInt64-leavesChunk { // no record is there
		return from, nil
	}
	for next = from; limit > 0; {
		bodies, err := j.bodies(ctx, next, min(limit, leavesChunk))
		if err != nil {
			return next, wrap("leaves", err)
		}
		for _, body := range bodies {
			leaf, err := leafOf(body, next)
			if err == nil {
				err = each(leaf)
			}
			if err != nil {
				return next, fmt.Errorf("leaves: %w", err)
			}
			next++
		}
		if limit -= len(bodies); len(bodies) == 0 {
			break
		}
	}
	return next, nil
}

// Bounds of what is read at once and in memory then. One record, with up to 1 MiB of data, may be larger than what is left.
const (
	leavesChunk = 500
	chunkBytes  = 8 << 20
)

// bodiesBetween are records from $1 to below $2; bodiesBounded are those in rows that have less than $3 bytes before them, so that
// no more than is wanted is fetched. bodyAt is the record at a position.
const (
	rowsBetween   = "first >= coalesce((SELECT max(first) FROM journal_log WHERE first <= $1), 0) AND first < $2"
	bodiesOf      = "(SELECT position, body FROM (SELECT l.first + u.n - 1 AS position, u.body FROM (SELECT first, bodies FROM "
	bodiesIn      = ") l CROSS JOIN unnest(l.bodies) WITH ORDINALITY AS u (body, n)) w WHERE position >= $1 AND position < $2) r"
	bodiesBetween = bodiesOf + "journal_log WHERE " + rowsBetween + bodiesIn
	bodiesBounded = bodiesOf + "(SELECT first, bodies, sum(size) OVER (ORDER BY first ROWS UNBOUNDED PRECEDING) - size AS before FROM journal_log WHERE " +
		rowsBetween + ") b WHERE before < $3" + bodiesIn
	bodyAt = "(SELECT l.bodies[%[1]s - l.first + 1] FROM journal_log l WHERE l.first <= %[1]s ORDER BY l.first DESC LIMIT 1)"
)

// bodies reads records in order of position, without a gap: at most n and chunkBytes, but one at least. None: that is the end.
func (j *Journal) bodies(ctx context.Context, from uint64, n int) (list [][]byte, err error) {
	err = j.snapshot(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, "SELECT body FROM "+bodiesBounded+" ORDER BY position", int64(from), int64(from)+int64(n), chunkBytes)
		return rowsOf(rows, err, func(rows pgx.Rows) error {
			var body []byte
			err := rows.Scan(&body)
			list = append(list, body)
			return err
		})
	})
	return list, err
}

func leafOf(body []byte, position uint64) (leaf store.Leaf, err error) {
	var p record.Parsed
	if err := p.Parse(body); err != nil {
		return leaf, fmt.Errorf("record %d: %w: %w", position, err, store.ErrCorrupt)
	}
	if p.Position() != position {
		return leaf, fmt.Errorf("record %d stands where %d is expected: %w", p.Position(), position, store.ErrCorrupt)
	}
	leaf = store.Leaf{Position: position, Head: p.Head(), Subject: p.Subject(), Commitment: p.Commitment(), Document: p.Document()}
	if payload := p.Payload(); len(payload) > 0 {
		leaf.Payload = payload
	}
	if p.Kind() == record.KindEvent {
		leaf.Source, leaf.ID = p.Names()
	}
	return leaf, nil
}
