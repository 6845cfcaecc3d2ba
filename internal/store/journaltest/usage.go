package journaltest

import (
	"time"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

func window(from, to time.Time, count int64, sum string) store.Window {
	return store.Window{Interval: span(from, to), Rollup: meter.Rollup{Count: count, Sum: money.MustDecimal(sum)}}
}

// windows checks a series' windows in an interval, and that Usage is their sum.
func (w *ledger) windows(k store.SeriesKey, in period.Interval, want ...store.Window) {
	w.t.Helper()
	var sum meter.Rollup
	for _, one := range want {
		sum, _ = sum.Merge(one.Rollup)
	}
	w.view(func(v store.View) {
		got, err := v.Windows(k, in)
		if err != nil {
			w.t.Fatalf("Windows: %v", err)
		}
		w.same("windows", want, got)
	})
	w.same("usage", sum, w.usage(k, in))
}

func journalWindows(w *ledger) {
	other := store.SeriesKey{CustomerID: "cus_bolt", Meter: "api_calls"}
	w.add(
		entry("1", minute(60), "1"), entry("2", minute(0), "0.5"), entry("3", minute(0).Add(15*time.Minute-time.Microsecond), "2"),
		entry("4", minute(15), "4"), entry("5", minute(-1), "8"), of(entry("6", minute(3), "100"), other),
		entry("7", minute(-60*24*365*60), "16"), // before 1970
	)
	old := period.Interval{Start: minute(-60 * 24 * 365 * 60), End: minute(-60*24*365*60 + 15)}
	w.twice(func() {
		w.windows(acmeCalls(), period.Interval{},
			window(old.Start, old.End, 1, "16"), window(minute(-15), minute(0), 1, "8"), window(minute(0), minute(15), 2, "2.5"),
			window(minute(15), minute(30), 1, "4"), window(minute(60), minute(75), 1, "1"))
		w.windows(acmeCalls(), span(minute(0), minute(60)), window(minute(0), minute(15), 2, "2.5"), window(minute(15), minute(30), 1, "4"))
		w.windows(acmeCalls(), span(minute(30), minute(60)))
		w.windows(acmeCalls(), span(minute(60), minute(0)))
		w.windows(acmeCalls(), period.Interval{Start: minute(60)}, window(minute(60), minute(75), 1, "1"))
		w.windows(acmeCalls(), period.Interval{End: minute(-15)}, window(old.Start, old.End, 1, "16"))
		w.windows(store.SeriesKey{CustomerID: "cus_nobody", Meter: "x"}, span(minute(0), minute(15)))
		w.view(func(v store.View) {
			for _, in := range []period.Interval{{Start: minute(1)}, {End: minute(16)}, {Start: minute(0).Add(1)}} {
				_, err := v.Usage(acmeCalls(), in)
				w.fails("usage off the grid", err, store.ErrInvalid)
				_, err = v.Windows(acmeCalls(), in)
				w.fails("windows off the grid", err, store.ErrInvalid)
				_, err = v.Late(acmeCalls(), in, 0)
				w.fails("late usage off the grid", err, store.ErrInvalid)
				_, err = v.Reported(acmeCalls(), in)
				w.fails("reported usage off the grid", err, store.ErrInvalid)
			}
			w.same("series", []store.Series{
				{SeriesKey: acmeCalls(), First: old.Start, Last: minute(60)}, {SeriesKey: other, First: minute(0), Last: minute(0)},
			}, v.Series())
		})
	})
}

func journalCut(w *ledger) {
	tokens := store.SeriesKey{CustomerID: acmeCalls().CustomerID, Meter: "tokens"}
	bolt := store.SeriesKey{CustomerID: "cus_bolt", Meter: "api_calls"}
	w.add(entry("1", minute(0), "1"), entry("2", minute(5), "2"), reported(entry("3", minute(7), "4")), entry("4", minute(14), "8"),
		of(entry("5", minute(6), "100"), tokens), of(entry("6", minute(1), "200"), tokens), of(entry("7", minute(5), "300"), bolt))
	cut := func(at time.Time) {
		w.t.Helper()
		if err := w.journal.Cut(w.t.Context(), acmeCalls().CustomerID, at); err != nil {
			w.t.Fatalf("Cut: %v", err)
		}
	}
	cut(minute(7))
	before := w.position()
	cut(minute(7)) // again
	cut(minute(15))
	cut(minute(30)) // the grid is cut already
	if got := w.position(); got != before {
		w.t.Errorf("cuts that change nothing moved the position from %d to %d", before, got)
	}
	right := window(minute(7), minute(15), 2, "12")
	right.Reported = money.FromInt(4)
	w.twice(func() {
		w.windows(acmeCalls(), period.Interval{}, window(minute(0), minute(7), 2, "3"), right)
		w.windows(acmeCalls(), span(minute(7), minute(15)), right)
		w.windows(tokens, span(minute(0), minute(7)), window(minute(0), minute(7), 2, "300"))
		w.windows(bolt, period.Interval{}, window(minute(0), minute(15), 1, "300"))
		w.view(func(v store.View) {
			for in, want := range map[period.Interval]string{span(minute(0), minute(7)): "0", span(minute(7), minute(15)): "4", {}: "4"} {
				got, err := v.Reported(acmeCalls(), in)
				if err != nil || got.String() != want {
					w.t.Errorf("reported in %v: %v, %v; want %s", in, got, err, want)
				}
			}
			_, err := v.Usage(bolt, span(minute(7), minute(15)))
			w.fails("usage at another customer's cut", err, store.ErrInvalid)
		})
	})
	cut(minute(5))
	cut(minute(13).Add(time.Microsecond))
	w.add(entry("8", minute(7).Add(-time.Microsecond), "0.1"), entry("9", minute(7), "0.2"), entry("10", minute(5), "0.3"))
	right.End, right.Count, right.Sum = minute(13).Add(time.Microsecond), 2, money.MustDecimal("4.2")
	w.twice(func() {
		w.windows(acmeCalls(), period.Interval{}, window(minute(0), minute(5), 1, "1"), window(minute(5), minute(7), 3, "2.4"), right,
			window(minute(13).Add(time.Microsecond), minute(15), 1, "8"))
		w.windows(tokens, span(minute(5), minute(15)), window(minute(5), minute(7), 1, "100"))
		page, err := w.journal.Scan(w.t.Context(), store.Scan{SeriesKey: acmeCalls(), In: span(minute(5), minute(7))})
		w.same("events between cuts", []string{"2", "8", "10"}, ids(page.Records))
		if err != nil {
			w.t.Error(err)
		}
	})
}

func journalCutEarly(w *ledger) {
	for _, at := range []time.Time{minute(10), minute(5)} {
		if err := w.journal.Cut(w.t.Context(), acmeCalls().CustomerID, at); err != nil {
			w.t.Fatal(err)
		}
	}
	w.reopen()
	w.add(entry("1", minute(5), "1"), entry("2", minute(0), "2"), entry("3", minute(12), "4"), entry("4", minute(9), "8"))
	w.twice(func() {
		w.windows(acmeCalls(), period.Interval{}, window(minute(0), minute(5), 1, "2"), window(minute(5), minute(10), 2, "9"), window(minute(10), minute(15), 1, "4"))
	})
}

func journalLate(w *ledger) {
	w.add(entry("1", minute(0), "1"), entry("2", minute(20), "2"))
	closed := w.position()
	w.add(entry("3", minute(1), "4"), entry("4", minute(40), "8"))
	w.add(entry("5", minute(2), "16"))
	// A bucket of which most is late, and one of which little is.
	w.add(entry("6", minute(61), "1"), entry("7", minute(62), "1"), entry("8", minute(63), "1"))
	second := w.position()
	w.add(entry("9", minute(64), "32"))
	w.twice(func() {
		w.view(func(v store.View) {
			for _, tt := range []struct {
				in    period.Interval
				after uint64
				want  string
			}{
				{span(minute(0), minute(30)), closed, "20"},
				{span(minute(15), minute(30)), closed, "0"},
				{period.Interval{}, closed, "63"},
				{period.Interval{}, 0, "66"},
				{span(minute(60), minute(75)), second, "32"},
				{span(minute(60), minute(75)), closed, "35"},
				{period.Interval{}, v.Position(), "0"},
			} {
				if got, err := v.Late(acmeCalls(), tt.in, tt.after); err != nil || got.String() != tt.want {
					w.t.Errorf("late in %v after %d: %v, %v; want %s", tt.in, tt.after, got, err, tt.want)
				}
			}
			if got, err := v.Late(store.SeriesKey{CustomerID: "x", Meter: "y"}, period.Interval{}, 0); err != nil || !got.IsZero() {
				w.t.Errorf("late of nobody: %v, %v", got, err)
			}
		})
	})
}

// journalLateAgain asks the same again while the answer grows, and across a cut.
func journalLateAgain(w *ledger) {
	w.add(entry("1", minute(0), "1"), entry("2", minute(20), "2"))
	closed := w.position()
	ask := func(all, quarter string) {
		w.t.Helper()
		w.view(func(v store.View) {
			for in, want := range map[period.Interval]string{span(minute(0), minute(30)): all, span(minute(0), minute(15)): quarter} {
				if got, err := v.Late(acmeCalls(), in, closed); err != nil || got.String() != want {
					w.t.Errorf("late in %v: %v, %v; want %s", in, got, err, want)
				}
			}
		})
	}
	w.add(entry("3", minute(1), "4"), entry("4", minute(40), "100"))
	ask("4", "4")
	w.add(entry("5", minute(2), "8"), entry("6", minute(21), "16"))
	ask("28", "12")
	w.fails("Cut", w.journal.Cut(w.t.Context(), acmeCalls().CustomerID, minute(2)), nil)
	ask("28", "12")
	w.add(entry("7", minute(1), "32"), entry("8", minute(3), "64"), entry("9", minute(31), "1000"))
	w.twice(func() { ask("124", "108") })
}

func (w *ledger) admitted(k store.SeriesKey, start int64, want string) {
	w.t.Helper()
	w.view(func(v store.View) {
		if got, err := v.Admitted(k, start); err != nil || got.String() != want {
			w.t.Errorf("admitted at %d: %v, %v; want %s", start, got, err, want)
		}
	})
}

func journalAdmitted(w *ledger) {
	total := func(node uint16, epoch uint32, start int64, n string) store.Batch {
		return store.Batch{Producer: "gateway", Node: node, Epoch: epoch, Totals: []store.AdmittedTotal{
			{CustomerID: acmeCalls().CustomerID, Meter: acmeCalls().Meter, PeriodStart: start, Total: money.MustDecimal(n)},
		}}
	}
	w.append(total(1, 1, 100, "5"))
	w.append(total(1, 1, 100, "7.5"))
	w.append(total(1, 1, 100, "6")) // an older batch, sent again
	w.append(total(1, 2, 100, "1"))
	w.append(total(2, 1, 100, "10"))
	w.append(total(1, 1, -50, "3"))
	before := w.position()
	w.append(total(1, 1, 100, "7.5"))
	w.append(total(2, 1, 100, "0"))
	if w.position() != before {
		w.t.Error("totals that change nothing were written")
	}
	// The entries are duplicates, the total is not.
	w.add(entry("a", minute(0), "1"))
	again := total(1, 2, 100, "2")
	again.Entries = []store.Entry{entry("a", minute(0), "1")}
	w.append(again)
	w.twice(func() {
		w.admitted(acmeCalls(), 100, "19.5")
		w.admitted(acmeCalls(), -50, "3")
		w.admitted(acmeCalls(), 7, "0")
		w.admitted(store.SeriesKey{CustomerID: "x", Meter: "y"}, 100, "0")
		w.view(func(v store.View) { w.same("periods", []int64{-50, 100}, v.AdmittedPeriods(acmeCalls())) })
		w.same("usage does not look at totals", meter.Rollup{Count: 1, Sum: money.FromInt(1)}, w.usage(acmeCalls(), period.Interval{}))
	})
}

func journalReported(w *ledger) {
	w.add(entry("1", minute(0), "1"), reported(entry("2", minute(1), "2")), reported(entry("3", minute(15), "-0.5")), entry("4", minute(31), "7"))
	w.append(store.Batch{Entries: []store.Entry{reported(entry("2", minute(1), "2"))}})
	w.twice(func() {
		w.view(func(v store.View) {
			for in, want := range map[period.Interval]string{
				{}: "1.5", span(minute(0), minute(15)): "2", span(minute(15), minute(30)): "-0.5", span(minute(30), minute(45)): "0",
			} {
				if got, err := v.Reported(acmeCalls(), in); err != nil || got.String() != want {
					w.t.Errorf("reported in %v: %v, %v; want %s", in, got, err, want)
				}
			}
		})
		w.same("rollup", meter.Rollup{Count: 4, Sum: money.MustDecimal("9.5"), Reported: money.MustDecimal("1.5")}, w.usage(acmeCalls(), period.Interval{}))
	})
}

func journalMarks(w *ledger) {
	e := entry("a", minute(0), "1")
	e.Flags = store.Recovered
	mark := store.Mark{Source: e.Event.Source, ID: e.Event.ID, Flags: store.Incomplete}
	own := store.Mark{Source: "gateway/1", ID: "b", Flags: store.Incomplete | store.Recovered}
	w.add(e)
	w.append(store.Batch{Marks: []store.Mark{mark, mark}})
	w.append(store.Batch{Entries: []store.Entry{entry("b", minute(0), "1"), entry("c", minute(0), "1")}, Marks: []store.Mark{own}})
	before := w.position()
	w.append(store.Batch{Marks: []store.Mark{mark, own}})
	if w.position() != before {
		w.t.Error("marks that change nothing were written")
	}
	w.twice(func() {
		for id, want := range map[string]store.Flags{"a": store.Recovered | store.Incomplete, "b": own.Flags, "c": 0} {
			if r, err := w.journal.Event(w.t.Context(), "gateway/1", id); err != nil || r.Flags != want {
				w.t.Errorf("flags of %s: %v, %v; want %v", id, r.Flags, err, want)
			}
		}
		page, err := w.journal.Scan(w.t.Context(), store.Scan{SeriesKey: acmeCalls()})
		if err != nil || len(page.Records) != 3 || page.Records[0].Flags != store.Recovered|store.Incomplete {
			w.t.Errorf("scan: %+v, %v", page.Records, err)
		}
		w.same("usage", meter.Rollup{Count: 3, Sum: money.FromInt(3)}, w.usage(acmeCalls(), period.Interval{}))
	})
}
