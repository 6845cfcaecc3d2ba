package file

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file/index"
	"github.com/tallystick/tallystick/internal/store/file/record"
)

// Bounds of one page: records in it, and records read to find them.
const (
	ScanDefault = 100
	ScanMax     = 1000
	scanReads   = 20_000
)

func parseCursor(s string) (c index.Cursor, err error) {
	if s == "" {
		return c, nil
	}
	bucket, position, ok := strings.Cut(s, ".")
	var err1, err2 error
	c.Bucket, err1 = strconv.ParseInt(bucket, 36, 64)
	c.Position, err2 = strconv.ParseUint(position, 36, 64)
	if !ok || err1 != nil || err2 != nil {
		return c, invalid("cursor %q: take it from the page before", s)
	}
	c.Set = true
	return c, nil
}

func cursorText(c index.Cursor) string {
	return strconv.FormatInt(c.Bucket, 36) + "." + strconv.FormatUint(c.Position, 36)
}

// Scan implements store.Journal. A scan of one series searches its buckets, any other one the log by position. A cut made
// between two pages may return events of the bucket that it splits again.
func (j *Journal) Scan(ctx context.Context, s store.Scan) (store.Page, error) {
	if err := j.enter(ctx); err != nil {
		return store.Page{}, fmt.Errorf("scan: %w", err)
	}
	defer j.leave()
	page, err := j.scan(ctx, s)
	if err != nil {
		return store.Page{}, fmt.Errorf("scan: %w", err)
	}
	return page, nil
}

func (j *Journal) scan(ctx context.Context, s store.Scan) (page store.Page, err error) {
	if s.Limit == 0 {
		s.Limit = ScanDefault
	}
	if s.Limit < 0 || s.Limit > ScanMax {
		return page, invalid("a limit of %d, want 1 to %d", s.Limit, ScanMax)
	}
	at, err := parseCursor(s.Cursor)
	if err != nil {
		return page, err
	}
	l := j.log()
	defer j.giveBack(l)
	for reads := 0; ; {
		var found []index.Candidate
		if err := j.view(func(v *index.View) (err error) {
			found, err = v.Candidates(&s, at, max(s.Limit+1, scanChunk))
			return err
		}); err != nil || len(found) == 0 {
			return page, err
		}
		for i := range found {
			c := &found[i]
			if reads++; reads > scanReads {
				page.Next = cursorText(at)
				return page, ctx.Err()
			}
			r, ok, err := l.match(&s, c)
			if err != nil {
				return page, err
			}
			if ok && len(page.Records) == s.Limit {
				page.Next = cursorText(at)
				return page, nil
			}
			if ok {
				page.Records = append(page.Records, r)
			}
			at = index.Cursor{Set: true, Bucket: c.Bucket, Position: c.Position}
		}
	}
}

const scanChunk = 64

// match reads a candidate and says whether it is an event that the scan asks for.
func (r *reader) match(s *store.Scan, c *index.Candidate) (now store.Record, ok bool, err error) {
	p, err := r.find(c.Position)
	if err != nil {
		return now, false, err
	}
	from, to := limits(s.In)
	if p.Kind() != record.KindEvent || p.Time() < from || p.Time() >= to || s.Unit != "" && p.Unit() != s.Unit {
		return now, false, nil
	}
	var e index.Event
	if err := r.j.view(func(v *index.View) (err error) {
		e, err = v.Event(c.Position)
		return err
	}); err != nil {
		return now, false, err
	}
	if max(c.Position, e.Changed()) <= s.After {
		return now, false, nil
	}
	if now, err = r.current(c.Position, &e); err != nil {
		return now, false, err
	}
	if s.Unmatched && (len(now.Resolutions) > 0 || now.Voided || now.Flags.Uncounted()) {
		return now, false, nil // it was revised just now
	}
	if s.CustomerID == "" && s.Meter == "" {
		return now, true, nil
	}
	return now, slices.ContainsFunc(now.Resolutions, func(r meter.Resolution) bool {
		return (s.CustomerID == "" || r.CustomerID == s.CustomerID) && (s.Meter == "" || r.Meter == s.Meter)
	}), nil
}

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

// Event implements store.Journal.
func (j *Journal) Event(ctx context.Context, source, id string) (store.Record, error) {
	if err := j.enter(ctx); err != nil {
		return store.Record{}, fmt.Errorf("event: %w", err)
	}
	defer j.leave()
	position, e, err := j.find(source, id)
	if err != nil {
		return store.Record{}, fmt.Errorf("event %q of %q: %w", id, source, err)
	}
	l := j.log()
	defer j.giveBack(l)
	r, err := l.current(position, &e)
	if err != nil {
		return store.Record{}, fmt.Errorf("event %q of %q: %w", id, source, err)
	}
	if r.Event.Source != source || r.Event.ID != id {
		return store.Record{}, fmt.Errorf("event %q of %q: the log has another event there: %w", id, source, store.ErrCorrupt)
	}
	return r, nil
}

// find looks an event up.
func (j *Journal) find(source, id string) (position uint64, e index.Event, err error) {
	err = j.view(func(v *index.View) (err error) {
		var ok bool
		if position, ok, err = v.Find(meter.IdentityOf(source, id)); err == nil && !ok {
			err = store.ErrNotFound
		}
		if err == nil {
			e, err = v.Event(position)
		}
		return err
	})
	return position, e, err
}
