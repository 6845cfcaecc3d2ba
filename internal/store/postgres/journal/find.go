package journal

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/store"
)

// finder looks for the events that a scan may ask for, from a cursor on.
type finder struct {
	tx     pgx.Tx
	s      *store.Scan
	series int32 // 0: any
	at     cursor
	head   int64
	n      int // events at once, about
}

// place is where a scan finds an event.
type place struct {
	bucket, position int64
}

// next are the next rows behind the cursor, which moves. There may be none, and more all the same.
func (f *finder) next(ctx context.Context) (rows []*row, more bool, err error) {
	switch {
	case f.series > 0:
		rows, more, err = f.ofSeries(ctx)
	case f.s.Unmatched || f.s.Unit != "":
		rows, more, err = f.chosen(ctx, 0)
	default:
		rows, more, err = f.ofAll(ctx)
	}
	if err != nil || len(rows) == 0 {
		return nil, more, err
	}
	return rows, more, f.states(ctx, rows)
}

// states reads what marks and revisions made of the rows.
func (f *finder) states(ctx context.Context, list []*row) error {
	by := make(map[identity]*row, len(list))
	for _, r := range list {
		by[meter.IdentityOf(r.first.Event.Source, r.first.Event.ID)] = r
	}
	ids := make([][16]byte, 0, len(by))
	for id := range by {
		ids = append(ids, id)
	}
	rows, err := f.tx.Query(ctx, "SELECT e.identity, e.marks, e.revision FROM "+byIdentities, ids)
	found := 0
	err = rowsOf(rows, err, func(rows pgx.Rows) error {
		var id [16]byte
		var marks store.Flags
		var revision uint64
		err := rows.Scan(&id, &marks, &revision)
		if r := by[id]; err == nil && r != nil {
			r.marks, r.revision = marks, revision
			found++
		}
		return err
	})
	if err == nil && found < len(list) {
		err = fmt.Errorf("%d events have no identity: %w", len(list)-found, store.ErrCorrupt)
	}
	return err
}

// read decodes the rows of a query for bucket, position and body.
func (f *finder) read(ctx context.Context, query string, args ...any) (list []*row, err error) {
	rows, err := f.tx.Query(ctx, query, args...)
	return list, rowsOf(rows, err, func(rows pgx.Rows) error {
		r := &row{}
		var body []byte
		if err := rows.Scan(&r.bucket, &body); err != nil {
			return err
		}
		list = append(list, r)
		return r.decode(body)
	})
}

// ofAll searches the log by position. Of what stands up to After, only what was revised since counts.
func (f *finder) ofAll(ctx context.Context) (list []*row, more bool, err error) {
	after := int64(min(f.s.After, math.MaxInt64-1))
	if !f.s.NewestFirst && after > 0 && (!f.at.set || f.at.position < after) {
		if list, more, err = f.chosen(ctx, after); !more {
			f.at, more = cursor{set: true, position: after}, true
		}
		return list, more, err
	}
	from, to, order := after+1, f.head+1, ""
	if f.s.NewestFirst {
		if f.at.set {
			to = min(to, f.at.position)
		}
		if from >= to {
			return f.chosen(ctx, after)
		}
		from, order = max(from, to-int64(f.n)), " DESC"
		f.at, more = cursor{set: true, position: from}, true
	} else {
		if f.at.set {
			from = min(f.at.position, f.head) + 1
		}
		to = min(to, from+int64(f.n))
		f.at, more = cursor{set: true, position: to - 1}, to <= f.head
	}
	if from >= to {
		return nil, false, nil
	}
	list, err = f.read(ctx, "SELECT 0::bigint, body FROM "+bodiesBetween+" WHERE get_byte(body, 0) = 1 ORDER BY position"+order, from, to) // record.KindEvent
	return list, more, err
}

// chosen searches the events that are unmatched or of a unit, or of those up to a position the ones revised behind it.
func (f *finder) chosen(ctx context.Context, revised int64) (list []*row, more bool, err error) {
	order, behind, at := "", ">", int64(math.MinInt64)
	if f.s.NewestFirst {
		order, behind, at = " DESC", "<", math.MaxInt64
	}
	if f.at.set {
		at = f.at.position
	}
	from, to := limits(f.s.In)
	where, args := " AND e.unmatched", []any{at, from, to, f.n}
	switch {
	case f.s.Unit != "":
		if where += " AND e.unit = $5 AND e.unit <> ''"; !f.s.Unmatched {
			where = " AND e.unit = $5 AND e.unit <> ''"
		}
		args = append(args, f.s.Unit)
	case !f.s.Unmatched:
		where = " AND e.revision > 0 AND e.revision > $5 AND e.position <= $5"
		args = append(args, revised)
	}
	list, err = f.read(ctx, "SELECT 0::bigint, "+fmt.Sprintf(bodyAt, "e.position")+" FROM (SELECT e.position FROM journal_events e WHERE e.position "+behind+
		" $1 AND e.at >= $2 AND e.at < $3"+where+" ORDER BY e.position"+order+" LIMIT $4) e ORDER BY e.position"+order, args...)
	if len(list) > 0 {
		f.at = cursor{set: true, position: int64(list[len(list)-1].first.Position)}
	}
	return list, len(list) == f.n, err
}

// ofSeries searches the buckets of a series.
func (f *finder) ofSeries(ctx context.Context) (list []*row, more bool, err error) {
	places, more, err := f.places(ctx)
	if err != nil || len(places) == 0 {
		return nil, more, err
	}
	f.at = cursor{set: true, bucket: places[len(places)-1].bucket, position: places[len(places)-1].position}
	list, err = f.read(ctx, "SELECT p.bucket, "+fmt.Sprintf(bodyAt, "p.position")+" FROM unnest($1::bigint[], $2::bigint[]) WITH ORDINALITY AS p (bucket, position, n) ORDER BY p.n",
		column(places, func(p *place) int64 { return p.bucket }), column(places, func(p *place) int64 { return p.position }))
	return list, more, err
}

// placeRows is how many rows of contributions are read at once.
const placeRows = 64

// places are the next events behind the cursor. Rows come by their first event, so that what is read is complete up to that of
// the newest row; from the other end, down to readSpan above it.
func (f *finder) places(ctx context.Context) (all []place, more bool, err error) {
	from, to := limits(f.s.In)
	if from > math.MinInt64+meter.BucketMicros {
		from -= meter.BucketMicros // a bucket begins before its events
	}
	compare := func(a, b place) int {
		return cmp.Or(cmp.Compare(a.bucket, b.bucket), cmp.Compare(a.position, b.position))
	}
	order, beyond := " ASC", ">"
	key, cause, taken := place{bucket: from, position: math.MinInt64}, int64(-1), false
	at := place{f.at.bucket, f.at.position}
	if f.at.set {
		key = place{at.bucket, at.position - readSpan}
	}
	if f.s.NewestFirst {
		order, beyond = " DESC", "<"
		if key = (place{bucket: to, position: math.MinInt64}); f.at.set {
			key = at
		}
		ascending := compare
		compare = func(a, b place) int { return ascending(b, a) }
	}
	for {
		rows, err := f.tx.Query(ctx, `SELECT bucket, first, cause, taken, events FROM journal_contributions
			WHERE series = $1 AND (bucket, first, cause, taken) `+beyond+` ($2, $3, $4, $5) AND bucket >= $6 AND bucket < $7
			ORDER BY bucket`+order+", first"+order+", cause"+order+", taken"+order+" LIMIT $8", f.series, key.bucket, key.position, cause, taken, from, to, placeRows)
		n := 0
		if err := rowsOf(rows, err, func(rows pgx.Rows) error {
			var events []int64
			if err := rows.Scan(&key.bucket, &key.position, &cause, &taken, &events); err != nil {
				return err
			}
			n++
			for _, e := range events {
				if p := (place{key.bucket, e}); !f.at.set || compare(p, at) > 0 {
					all = append(all, p)
				}
			}
			return nil
		}); err != nil {
			return nil, false, err
		}
		slices.SortFunc(all, compare)
		all = slices.Compact(all)
		whole := len(all)
		if n == placeRows {
			bound := key
			if f.s.NewestFirst {
				bound.position += readSpan - 1
			}
			whole, _ = slices.BinarySearchFunc(all, bound, compare)
		}
		if whole >= f.n {
			return all[:f.n], true, nil
		}
		if n < placeRows {
			return all, false, nil
		}
	}
}
