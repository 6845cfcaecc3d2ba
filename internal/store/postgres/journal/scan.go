package journal

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/store"
)

// Bounds of one page: records in it, and records read to find them.
const (
	scanDefault = 100
	scanMax     = 1000
	scanReads   = 20_000
	scanChunk   = 64
)

// cursor is where a page ended: a bucket and a position in it. A scan over all events has no bucket.
type cursor struct {
	set              bool
	bucket, position int64
}

func parseCursor(s string) (c cursor, err error) {
	if s == "" {
		return c, nil
	}
	bucket, position, ok := strings.Cut(s, ".")
	var err1 error
	c.bucket, err1 = strconv.ParseInt(bucket, 36, 64)
	n, err2 := strconv.ParseUint(position, 36, 63)
	c.position = int64(n)
	if !ok || err1 != nil || err2 != nil {
		return c, invalid("cursor %q: take it from the page before", s)
	}
	c.set = true
	return c, nil
}

func (c cursor) text() string {
	return strconv.FormatInt(c.bucket, 36) + "." + strconv.FormatInt(c.position, 36)
}

// Scan implements store.Journal. A scan of one series searches its buckets, any other one the events by position. A cut made
// between two pages may return events of the bucket that it splits again.
func (j *Journal) Scan(ctx context.Context, s store.Scan) (page store.Page, err error) {
	if err := j.enter(ctx); err != nil {
		return page, fmt.Errorf("scan: %w", err)
	}
	defer j.leave()
	if s.Limit == 0 {
		s.Limit = scanDefault
	}
	if s.Limit < 0 || s.Limit > scanMax {
		return page, fmt.Errorf("scan: %w", invalid("a limit of %d, want 1 to %d", s.Limit, scanMax))
	}
	at, err := parseCursor(s.Cursor)
	if err != nil {
		return page, fmt.Errorf("scan: %w", err)
	}
	err = j.snapshot(ctx, func(tx pgx.Tx) error {
		page, err = scan(ctx, tx, &s, at)
		return err
	})
	if err != nil {
		return store.Page{}, wrap("scan", err)
	}
	return page, nil
}

func scan(ctx context.Context, tx pgx.Tx, s *store.Scan, at cursor) (page store.Page, err error) {
	var series int32
	if s.CustomerID != "" && s.Meter != "" {
		err := tx.QueryRow(ctx, "SELECT id FROM journal_series WHERE customer = $1 AND meter = $2", s.CustomerID, s.Meter).Scan(&series)
		if errors.Is(err, pgx.ErrNoRows) {
			return page, nil
		}
		if err != nil {
			return page, err
		}
	}
	for reads := 0; ; {
		n := max(s.Limit+1, scanChunk)
		rows, err := candidates(ctx, tx, s, series, at, n)
		if err != nil || len(rows) == 0 {
			return page, err
		}
		list, err := currents(ctx, tx, rows)
		if err != nil {
			return page, err
		}
		for i := range list {
			if reads++; reads > scanReads {
				page.Next = at.text()
				return page, nil
			}
			ok := counts(s, &list[i])
			if ok && len(page.Records) == s.Limit {
				page.Next = at.text()
				return page, nil
			}
			if ok {
				page.Records = append(page.Records, list[i])
			}
			at = cursor{set: true, bucket: rows[i].bucket, position: int64(rows[i].first.Position)}
		}
		if len(rows) < n {
			return page, nil
		}
	}
}

// counts says whether an event counts for what the scan asks for.
func counts(s *store.Scan, r *store.Record) bool {
	return s.CustomerID == "" && s.Meter == "" || slices.ContainsFunc(r.Resolutions, func(one meter.Resolution) bool {
		return (s.CustomerID == "" || one.CustomerID == s.CustomerID) && (s.Meter == "" || one.Meter == s.Meter)
	})
}

// candidates are the next n events behind a cursor that a scan may ask for.
func candidates(ctx context.Context, tx pgx.Tx, s *store.Scan, series int32, at cursor, n int) ([]*row, error) {
	order, behind := "", ">"
	if s.NewestFirst {
		order, behind = " DESC", "<"
	}
	from, to := limits(s.In)
	args := []any{from, to, n}
	arg := func(v any) string {
		args = append(args, v)
		return "$" + strconv.Itoa(len(args))
	}
	where := " e.at >= $1 AND e.at < $2"
	if s.Unmatched {
		where += " AND e.unmatched"
	}
	if s.Unit != "" {
		where += " AND e.unit = " + arg(s.Unit)
	}
	if s.After > 0 {
		where += " AND greatest(e.position, e.revision) > " + arg(int64(min(s.After, math.MaxInt64)))
	}
	query := ""
	if series == 0 {
		if at.set {
			where += " AND e.position " + behind + " " + arg(at.position)
		}
		query = "SELECT " + rowColumns + ", 0::bigint FROM journal_events e WHERE" + where + " ORDER BY e.position" + order + " LIMIT $3"
	} else {
		own := "c.series = " + arg(series)
		if at.set {
			own += " AND (c.bucket, c.event) " + behind + " (" + arg(at.bucket) + ", " + arg(at.position) + ")"
		}
		// LATERAL: each event by its position. As a join, where the tables' statistics are not there yet, all events were compared
		// with all of the series, for each page.
		query = "SELECT " + rowColumns + ", c.bucket FROM (SELECT DISTINCT c.bucket, c.event FROM journal_contributions c WHERE " + own +
			") c CROSS JOIN LATERAL (SELECT " + rowColumns + " FROM journal_events e WHERE e.position = c.event AND" + where + " LIMIT 1) e" +
			" ORDER BY c.bucket" + order + ", c.event" + order + " LIMIT $3"
	}
	var list []*row
	rows, err := tx.Query(ctx, query, args...)
	return list, rowsOf(rows, err, func(rows pgx.Rows) error {
		r := &row{}
		if err := r.scan(rows, &r.bucket); err != nil {
			return err
		}
		list = append(list, r)
		return nil
	})
}
