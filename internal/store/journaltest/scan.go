package journaltest

import (
	"fmt"
	"slices"
	"sync"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

func ids(records []store.Record) []string {
	var all []string
	for _, r := range records {
		all = append(all, r.Event.ID)
	}
	return all
}

// scan reads all pages.
func (w *ledger) scan(s store.Scan) []store.Record {
	w.t.Helper()
	var all []store.Record
	for range 10_000 {
		page, err := w.journal.Scan(w.t.Context(), s)
		if err != nil {
			w.t.Fatalf("Scan: %v", err)
		}
		if s.Limit > 0 && len(page.Records) > s.Limit {
			w.t.Fatalf("%d records on a page of %d", len(page.Records), s.Limit)
		}
		all = append(all, page.Records...)
		if page.Next == "" {
			return all
		}
		s.Cursor = page.Next
	}
	w.t.Fatal("a scan without end")
	return nil
}

// scans checks a scan at several page sizes, in both directions.
func (w *ledger) scans(s store.Scan, want ...string) {
	w.t.Helper()
	for _, limit := range []int{0, 1, 2, 3, 1000} {
		s.Limit = limit
		s.NewestFirst = false
		w.same(fmt.Sprintf("scan by %d", limit), want, ids(w.scan(s)))
		s.NewestFirst = true
		back := slices.Clone(want)
		slices.Reverse(back)
		w.same(fmt.Sprintf("newest first by %d", limit), back, ids(w.scan(s)))
	}
}

func journalScanSeries(w *ledger) {
	bolt := store.SeriesKey{CustomerID: "cus_bolt", Meter: "api_calls"}
	w.add(entry("late", minute(20), "1"), entry("a", minute(5), "1"), of(entry("x", minute(1), "1"), bolt), entry("b", minute(1), "1"))
	w.add(entry("c", minute(40), "1"), entry("d", minute(2), "1"), entry("e", minute(29), "1"))
	w.append(store.Batch{Entries: []store.Entry{{Event: meter.Event{Source: "s", ID: "u", Type: "t", Time: minute(0)}, Origin: meter.Reported}}})
	w.twice(func() {
		w.scans(store.Scan{SeriesKey: acmeCalls()}, "a", "b", "d", "late", "e", "c")
		w.scans(store.Scan{SeriesKey: acmeCalls(), In: span(minute(15), minute(30))}, "late", "e")
		w.scans(store.Scan{SeriesKey: acmeCalls(), In: span(minute(2), minute(29))}, "a", "d", "late") // off the grid, exact
		w.scans(store.Scan{SeriesKey: acmeCalls(), In: period.Interval{Start: minute(29)}}, "e", "c")
		w.scans(store.Scan{SeriesKey: acmeCalls(), In: period.Interval{End: minute(2)}}, "b")
		w.scans(store.Scan{SeriesKey: bolt}, "x")
		w.scans(store.Scan{SeriesKey: store.SeriesKey{CustomerID: "cus_nobody", Meter: "m"}})
	})
	if err := w.journal.Cut(w.t.Context(), acmeCalls().CustomerID, minute(2)); err != nil {
		w.t.Fatal(err)
	}
	w.twice(func() { w.scans(store.Scan{SeriesKey: acmeCalls()}, "b", "a", "d", "late", "e", "c") })

	// A cursor stays good while events arrive behind it.
	first, err := w.journal.Scan(w.t.Context(), store.Scan{SeriesKey: acmeCalls(), Limit: 4})
	if err != nil {
		w.t.Fatal(err)
	}
	w.add(entry("f", minute(29), "1"), entry("g", minute(100), "1"))
	w.reopen()
	w.same("after the cursor", []string{"e", "f", "c", "g"}, ids(w.scan(store.Scan{SeriesKey: acmeCalls(), Cursor: first.Next})))
}

func journalScanAll(w *ledger) {
	bolt := store.SeriesKey{CustomerID: "cus_bolt", Meter: "api_calls"}
	w.add(entry("a", minute(40), "1"), of(entry("b", minute(5), "1"), bolt))
	w.append(store.Batch{Entries: []store.Entry{{Event: meter.Event{Source: "s", ID: "u", Type: "t", Time: minute(0)}, Origin: meter.Reported}}})
	w.add(of(entry("c", minute(1), "1"), store.SeriesKey{CustomerID: "cus_bolt", Meter: "tokens"}), entry("d", minute(2), "1"))
	w.twice(func() {
		w.scans(store.Scan{}, "a", "b", "u", "c", "d")
		w.scans(store.Scan{In: span(minute(0), minute(5))}, "u", "c", "d")
		w.scans(store.Scan{SeriesKey: store.SeriesKey{CustomerID: "cus_bolt"}}, "b", "c")
		w.scans(store.Scan{SeriesKey: store.SeriesKey{Meter: "api_calls"}}, "a", "b", "d")
	})
}

func journalScanRefuses(w *ledger) {
	w.add(entry("a", minute(0), "1"))
	for _, s := range []store.Scan{
		{Limit: 1001}, {Limit: -1}, {Cursor: "x"}, {Cursor: "!.1"}, {Cursor: "1.-1"}, {SeriesKey: acmeCalls(), Cursor: "1"},
	} {
		_, err := w.journal.Scan(w.t.Context(), s)
		w.fails(fmt.Sprintf("Scan %+v", s), err, store.ErrInvalid)
	}
}

// journalConcurrent lets many appenders send the same events, and readers check that each view is a whole cut.
func journalConcurrent(w *ledger) {
	const appenders, batches, size = 8, 20, 5
	var wg sync.WaitGroup
	var mu sync.Mutex
	accepted := map[string]int{}
	for a := range appenders {
		wg.Go(func() {
			for b := range batches {
				// Two appenders each send the same events; every event counts 1 in one bucket of two.
				var entries []store.Entry
				for i := range size {
					n := (a/2*batches+b)*size + i
					entries = append(entries, entry(fmt.Sprint(n), minute(n%2*60), "1"))
				}
				results, err := w.journal.Append(w.t.Context(), store.Batch{Producer: "p", Entries: entries, ReceivedAt: minute(0)})
				if err != nil {
					w.t.Errorf("Append: %v", err)
					return
				}
				mu.Lock()
				for i, r := range results {
					if r.Outcome == store.Accepted {
						accepted[entries[i].Event.ID]++
					}
				}
				mu.Unlock()
			}
		})
	}
	stop := make(chan struct{})
	var readers sync.WaitGroup
	readers.Go(func() {
		for last := uint64(0); ; {
			select {
			case <-stop:
				return
			default:
			}
			w.view(func(v store.View) {
				all, err := v.Usage(acmeCalls(), period.Interval{})
				if err != nil || all.Count%size != 0 || v.Position() < last {
					w.t.Errorf("a view of %d events at position %d after %d: %v", all.Count, v.Position(), last, err)
				}
				last = v.Position()
			})
		}
	})
	readers.Go(func() {
		for i := range 10 {
			if err := w.journal.Cut(w.t.Context(), acmeCalls().CustomerID, minute(1+i)); err != nil {
				w.t.Errorf("Cut: %v", err)
			}
		}
	})
	wg.Wait()
	close(stop)
	readers.Wait()
	const events = appenders / 2 * batches * size
	for id, n := range accepted {
		if n != 1 {
			w.t.Errorf("event %s was accepted %d times", id, n)
		}
	}
	w.twice(func() {
		if len(accepted) != events {
			w.t.Errorf("%d events accepted, want %d", len(accepted), events)
		}
		w.same("usage", meter.Rollup{Count: events, Sum: money.FromInt(events)}, w.usage(acmeCalls(), period.Interval{}))
		if n := len(w.scan(store.Scan{Limit: 1000})); n != events {
			w.t.Errorf("%d events in the scan, want %d", n, events)
		}
	})
}
