package journal

import (
	"context"
	"errors"
	"fmt"
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
	f := &finder{tx: tx, s: s, series: series, at: at, n: max(s.Limit+1, scanChunk)}
	if err := tx.QueryRow(ctx, "SELECT position FROM journal_head").Scan(&f.head); err != nil {
		return page, err
	}
	for reads := 0; ; {
		rows, more, err := f.next(ctx)
		if err != nil {
			return page, err
		}
		if len(rows) == 0 { // other records were looked at
			reads += f.n
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
			ok := counts(s, &list[i], rows[i].revision)
			if ok && len(page.Records) == s.Limit {
				page.Next = at.text()
				return page, nil
			}
			if ok {
				page.Records = append(page.Records, list[i])
			}
			at = cursor{set: true, bucket: rows[i].bucket, position: int64(rows[i].first.Position)}
		}
		if at = f.at; !more {
			return page, nil
		}
		if reads > scanReads {
			page.Next = at.text()
			return page, nil
		}
	}
}

// counts says whether an event counts for what the scan asks for.
func counts(s *store.Scan, r *store.Record, revision uint64) bool {
	from, to := limits(s.In)
	if at := r.Event.Time.UnixMicro(); at < from || at >= to || max(r.Position, revision) <= s.After || s.Unit != "" && r.Unit != s.Unit ||
		s.Unmatched && (len(r.Resolutions) > 0 || r.Voided || r.Flags.Uncounted()) {
		return false
	}
	return s.CustomerID == "" && s.Meter == "" || slices.ContainsFunc(r.Resolutions, func(one meter.Resolution) bool {
		return (s.CustomerID == "" || one.CustomerID == s.CustomerID) && (s.Meter == "" || one.Meter == s.Meter)
	})
}
