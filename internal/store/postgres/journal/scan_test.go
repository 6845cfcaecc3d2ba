package journal_test

import (
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tallystick/tallystick/internal/store"
)

// TestPageOfSeries: a page of a series looks records up by their positions, also in tables that nobody has analyzed.
func TestPageOfSeries(t *testing.T) {
	t.Parallel()
	dsn := database(t)
	j := open(t, dsn)
	const events, limit = 8000, 10
	for from := 0; from < events; from += 1000 {
		if _, err := j.Append(t.Context(), batch(from, 1000, 2)); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	read := func() (n int) {
		t.Helper()
		c, err := pgx.Connect(t.Context(), dsn)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close(t.Context()) }()
		for others := 1; others > 0; { // a session reports its reads when it ends
			if err := c.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
				AND application_name = 'tally journal'), (SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) FROM pg_stat_user_tables)`).Scan(&others, &n); err != nil {
				t.Fatal(err)
			}
		}
		return n
	}
	before := read()
	for _, newest := range []bool{false, true} {
		j = open(t, dsn)
		page, err := j.Scan(t.Context(), store.Scan{SeriesKey: key(1), Limit: limit, NewestFirst: newest})
		if err != nil || len(page.Records) != limit {
			t.Errorf("a page of %d, %v", len(page.Records), err)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		after := read()
		if n := after - before; n > 1000 {
			t.Errorf("newest first %t: %d rows were read for a page of %d", newest, n, limit)
		}
		before = after
	}
}

// TestScanOfManyRows: pages of a series in more rows than are read at once, with revisions of events among them, have each event
// once and in order, from either end.
func TestScanOfManyRows(t *testing.T) {
	t.Parallel()
	j := open(t, database(t))
	t.Cleanup(func() { _ = j.Close() })
	const events = 5200
	for from := 0; from < events; from += 1300 {
		b := batch(from, 1300, 1)
		for i := range b.Entries {
			b.Entries[i].Event.Time = noon().Add(time.Duration((from+i)/2000) * time.Hour)
		}
		if _, err := j.Append(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	r := store.Revisions{Actor: "op", Reason: "test", At: noon()}
	for i := 7; i < events; i += 3 {
		e := batch(i, 1, 1).Entries[0]
		e.Resolutions[0].Value = e.Resolutions[0].Value.Neg()
		r.List = append(r.List, store.Revision{Source: "s", ID: e.Event.ID, Kind: store.Resolve, Resolutions: e.Resolutions, If: store.AnyRevision})
	}
	if _, err := j.Revise(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	for _, newest := range []bool{false, true} {
		for _, s := range []store.Scan{{Limit: 150}, {SeriesKey: key(0), Limit: 70}, {SeriesKey: key(0), Limit: 81}, {SeriesKey: key(0), Limit: 92}} {
			s.NewestFirst = newest
			var all []uint64
			for {
				page, err := j.Scan(t.Context(), s)
				if err != nil {
					t.Fatal(err)
				}
				for i := range page.Records {
					all = append(all, page.Records[i].Position)
				}
				if s.Cursor = page.Next; s.Cursor == "" {
					break
				}
			}
			if newest {
				slices.Reverse(all)
			}
			if len(slices.Compact(slices.Clone(all))) != events || len(all) != events || !slices.IsSorted(all) {
				t.Errorf("%+v: %d events, want %d, each once and in order", s, len(all), events)
			}
		}
	}
}
