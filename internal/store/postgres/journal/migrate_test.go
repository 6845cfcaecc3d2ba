package journal_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/postgres/journal"
	"github.com/tallystick/tallystick/internal/store/schema"
)

// figures are what a journal says: its records, how events count, and what the series come to.
func figures(t *testing.T, j *journal.Journal) (all []any) {
	t.Helper()
	all = append(all, leaves(t, j))
	for _, s := range []store.Scan{{}, {SeriesKey: key(0)}, {SeriesKey: key(1), NewestFirst: true}, {Unmatched: true}, {After: 9}, {NewestFirst: true, After: 9}} {
		s.Limit = 1000
		page, err := j.Scan(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, page)
	}
	history, err := j.History(t.Context(), "s", "e-2")
	if err != nil {
		t.Fatal(err)
	}
	all = append(all, history)
	if err := j.View(t.Context(), func(v store.View) error {
		for c := range 2 {
			windows, err := v.Windows(key(c), period.Interval{})
			if err != nil {
				return err
			}
			voided, err := v.Voided(key(c), period.Interval{})
			if err != nil {
				return err
			}
			late, err := v.Late(key(c), period.Interval{}, 9)
			if err != nil {
				return err
			}
			groups, err := v.Measure(key(c), period.Interval{}, store.Measure{Aggregation: meter.Max, GroupBy: []string{"route"}})
			if err != nil {
				return err
			}
			newest, err := v.Measure(key(c), period.Interval{}, store.Measure{Aggregation: meter.Latest})
			if err != nil {
				return err
			}
			level, err := v.Measure(key(c), period.Interval{Start: noon(), End: noon().Add(15 * time.Minute)}, store.Measure{Aggregation: meter.TimeWeighted})
			if err != nil {
				return err
			}
			all = append(all, windows, voided, late, groups, newest, level)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

// TestMigrations: a journal that was taken to the first schema and back says the same, and goes on.
func TestMigrations(t *testing.T) {
	t.Parallel()
	dsn := database(t)
	j := open(t, dsn)
	work(t, j)
	many := batch(100, 300, 2)
	for i := range many.Entries { // no two are alike
		many.Entries[i].Event.Time = noon().Add(time.Duration(i) * time.Second)
		many.Entries[i].Resolutions[0].Value = money.FromInt(int64(i * i % 307))
	}
	if _, err := j.Append(t.Context(), many); err != nil { // by COPY, and more than a row of each holds
		t.Fatal(err)
	}
	before := figures(t, j)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if err := journal.Schema(t.Context(), dsn, func(s *schema.Schema) error {
		_, err := s.Down(t.Context(), 1)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	j = open(t, dsn)
	t.Cleanup(func() { _ = j.Close() })
	if diff := cmp.Diff(fmt.Sprintf("%+v", before), fmt.Sprintf("%+v", figures(t, j))); diff != "" {
		t.Errorf("down and up (-before +after):\n%s", diff)
	}
	results, err := j.Append(t.Context(), store.Batch{ReceivedAt: noon(), Entries: []store.Entry{many.Entries[299], usage("new", 0)}})
	if err != nil || results[0].Outcome != store.Duplicate || results[1].Outcome != store.Accepted {
		t.Errorf("append after it: %+v, %v", results, err)
	}
}
