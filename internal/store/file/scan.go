package file

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file/record"
)

// Bounds of one page: records in it, and records read to find them.
const (
	ScanDefault = 100
	ScanMax     = 1000
	scanReads   = 20_000
)

// candidate is an event that a scan may return.
type candidate struct {
	entry
	bucket int64 // start, in a scan of one series
	flags  store.Flags
}

// cursor is where the last page ended: a bucket and a position in it. A scan over all events has no bucket.
type cursor struct {
	set      bool
	bucket   int64
	position uint64
}

func parseCursor(s string) (c cursor, err error) {
	if s == "" {
		return c, nil
	}
	bucket, position, ok := strings.Cut(s, ".")
	var err1, err2 error
	c.bucket, err1 = strconv.ParseInt(bucket, 36, 64)
	c.position, err2 = strconv.ParseUint(position, 36, 64)
	if !ok || err1 != nil || err2 != nil {
		return c, invalid("cursor %q: take it from the page before", s)
	}
	c.set = true
	return c, nil
}

func (c cursor) text() string {
	return strconv.FormatInt(c.bucket, 36) + "." + strconv.FormatUint(c.position, 36)
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
	var buf []byte
	for reads := 0; ; {
		found := j.candidates(s, at)
		if len(found) == 0 {
			return page, nil
		}
		for _, c := range found {
			if reads++; reads > scanReads {
				page.Next = at.text()
				return page, ctx.Err()
			}
			var r store.Record
			var ok bool
			if r, ok, buf, err = j.match(s, c, buf); err != nil {
				return page, err
			}
			if ok && len(page.Records) == s.Limit {
				page.Next = at.text()
				return page, nil
			}
			if ok {
				page.Records = append(page.Records, r)
			}
			at = cursor{true, c.bucket, c.position}
		}
	}
}

// candidates are the next events that may match; none at the end.
func (j *Journal) candidates(s store.Scan, at cursor) []candidate {
	n := max(s.Limit+1, scanChunk)
	j.mu.RLock()
	defer j.mu.RUnlock()
	if s.CustomerID == "" || s.Meter == "" {
		return j.index.byPosition(at, s.NewestFirst, n)
	}
	return j.index.byBucket(s, at, n)
}

const scanChunk = 64

func (x *index) candidate(ordinal uint32, bucket int64) candidate {
	return candidate{entry: *x.events.get(ordinal), bucket: bucket, flags: x.marks[ordinal]}
}

func (x *index) byPosition(at cursor, newestFirst bool, n int) []candidate {
	var found []candidate
	if newestFirst {
		next := x.events.count
		if at.set {
			next = x.events.after(at.position - 1)
		}
		for i := next - 1; i >= 0 && len(found) < n; i-- {
			found = append(found, x.candidate(uint32(i), 0))
		}
		return found
	}
	for i := x.events.after(at.position); i < x.events.count && len(found) < n; i++ {
		found = append(found, x.candidate(uint32(i), 0))
	}
	return found
}

func (x *index) byBucket(s store.Scan, at cursor, n int) []candidate {
	from, to := limits(s.In)
	if !s.In.Start.IsZero() {
		from = x.customers[s.CustomerID].start(from)
	}
	if at.set && s.NewestFirst {
		to = min(to, at.bucket+1)
	} else if at.set {
		from = max(from, at.bucket)
	}
	buckets := x.series[s.SeriesKey].span(from, to)
	var found []candidate
	for i := range buckets {
		b := buckets[i]
		if s.NewestFirst {
			b = buckets[len(buckets)-1-i]
		}
		refs := b.refs
		first := 0 // of the refs behind the cursor
		if at.set && b.start == at.bucket {
			first = sort.Search(len(refs), func(i int) bool { return x.events.get(refs[i]).position >= at.position })
			if s.NewestFirst {
				refs = refs[:first]
			} else if refs = refs[first:]; len(refs) > 0 && x.events.get(refs[0]).position == at.position {
				refs = refs[1:]
			}
		}
		for k := range refs {
			if len(found) == n {
				return found
			}
			if s.NewestFirst {
				k = len(refs) - 1 - k
			}
			found = append(found, x.candidate(refs[k], b.start))
		}
	}
	return found
}

// match reads a candidate and says whether the scan asks for it.
func (j *Journal) match(s store.Scan, c candidate, buf []byte) (r store.Record, ok bool, room []byte, err error) {
	var p record.Parsed
	if buf, err = j.read(c.entry, &p, buf); err != nil {
		return r, false, nil, err
	}
	from, to := limits(s.In)
	if at := p.Time(); at < from || at >= to {
		return r, false, buf, nil
	}
	full, err := p.Record(&record.Interner{})
	if err != nil {
		return r, false, nil, fmt.Errorf("event %d: %w: %w", c.position, err, store.ErrCorrupt)
	}
	if s.CustomerID != "" || s.Meter != "" {
		if !slices.ContainsFunc(full.Resolutions, func(r meter.Resolution) bool {
			return (s.CustomerID == "" || r.CustomerID == s.CustomerID) && (s.Meter == "" || r.Meter == s.Meter)
		}) {
			return r, false, buf, nil
		}
	}
	return stored(&full, c.flags), true, buf, nil
}

// stored is a record as the contract has it.
func stored(r *Record, marks store.Flags) store.Record {
	return store.Record{
		Entry: store.Entry{
			Event: r.Event, Origin: r.Origin, Resolutions: r.Resolutions, Receipt: r.Receipt, Flags: r.Flags | marks, KeyID: r.KeyID,
		},
		Position: r.Position, Digest: r.Digest, ReceivedAt: r.ReceivedAt,
	}
}

// Event implements store.Journal.
func (j *Journal) Event(ctx context.Context, source, id string) (store.Record, error) {
	if err := j.enter(ctx); err != nil {
		return store.Record{}, fmt.Errorf("event: %w", err)
	}
	defer j.leave()
	j.mu.RLock()
	ordinal, ok := j.index.ids[meter.IdentityOf(source, id)]
	var c candidate
	if ok {
		c = j.index.candidate(ordinal, 0)
	}
	j.mu.RUnlock()
	if !ok {
		return store.Record{}, fmt.Errorf("event %q of %q: %w", id, source, store.ErrNotFound)
	}
	r, _, _, err := j.match(store.Scan{}, c, nil)
	if err != nil {
		return store.Record{}, fmt.Errorf("event %q of %q: %w", id, source, err)
	}
	if r.Event.Source != source || r.Event.ID != id {
		return store.Record{}, fmt.Errorf("event %q of %q: the log has another event there: %w", id, source, store.ErrCorrupt)
	}
	return r, nil
}
