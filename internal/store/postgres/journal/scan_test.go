package journal_test

import (
	"slices"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/store"
)

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
