package journaltest

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// model is the journal written down naively: a list of events and what was done to each, and everything else computed from it.
type model struct {
	events  []store.Record             // as they count now
	history map[string][]store.Revised // by id
	cuts    map[string][]time.Time
	totals  map[string]map[int64]map[[2]int]money.Decimal // series → period → node and epoch
}

func newModel() *model {
	return &model{history: map[string][]store.Revised{}, cuts: map[string][]time.Time{}, totals: map[string]map[int64]map[[2]int]money.Decimal{}}
}

func (m *model) find(source, id string) *store.Record {
	i := slices.IndexFunc(m.events, func(r store.Record) bool { return r.Event.Source == source && r.Event.ID == id })
	if i < 0 {
		return nil
	}
	return &m.events[i]
}

// append takes the positions from the journal's results; all else it decides itself.
func (m *model) append(b store.Batch, got []store.Result) (want []store.Result) {
	for i, e := range b.Entries {
		r := store.Result{Outcome: store.Accepted, Position: got[i].Position, Digest: e.Event.Digest(), Stored: e.Event.Digest()}
		if old := m.find(e.Event.Source, e.Event.ID); old != nil {
			r.Outcome, r.Position, r.Stored = store.Duplicate, old.Position, old.Digest
			if old.Digest != r.Digest {
				r.Outcome = store.Conflict
			}
		} else {
			if len(e.Resolutions) == 0 && !e.Flags.Uncounted() {
				r.Outcome = store.Unmatched
			}
			m.history[e.Event.ID] = []store.Revised{{Position: r.Position, At: b.ReceivedAt, Event: e.Event, Resolutions: e.Resolutions}}
			m.events = append(m.events, store.Record{Entry: e, Position: r.Position, Digest: r.Digest, ReceivedAt: b.ReceivedAt})
		}
		want = append(want, r)
	}
	for _, k := range b.Marks {
		m.find(k.Source, k.ID).Flags |= k.Flags
	}
	for _, t := range b.Totals {
		key := t.CustomerID + " " + t.Meter
		if m.totals[key] == nil {
			m.totals[key] = map[int64]map[[2]int]money.Decimal{}
		}
		if m.totals[key][t.PeriodStart] == nil {
			m.totals[key][t.PeriodStart] = map[[2]int]money.Decimal{}
		}
		of := m.totals[key][t.PeriodStart]
		if at := [2]int{int(b.Node), int(b.Epoch)}; t.Total.Cmp(of[at]) > 0 {
			of[at] = t.Total
		}
	}
	return want
}

// bounds are where a customer's buckets may begin in the two hours of the test, and the end.
func (m *model) bounds(customerID string) []time.Time {
	all := slices.Clone(m.cuts[customerID])
	for n := 0; n <= 120; n += 15 {
		all = append(all, minute(n))
	}
	slices.SortFunc(all, time.Time.Compare)
	return slices.CompactFunc(all, time.Time.Equal)
}

// each calls do with every event that counts for a series inside an interval.
func (m *model) each(k store.SeriesKey, in period.Interval, do func(r store.Record, value money.Decimal)) {
	for _, r := range m.events {
		if r.Event.Time.Before(in.Start) || !r.Event.Time.Before(in.End) {
			continue
		}
		for _, res := range r.Resolutions {
			if res.CustomerID == k.CustomerID && res.Meter == k.Meter {
				do(r, res.Value)
			}
		}
	}
}

func (m *model) windows(k store.SeriesKey, in period.Interval) (all []store.Window) {
	bounds := m.bounds(k.CustomerID)
	for i := range len(bounds) - 1 {
		one := store.Window{Interval: span(bounds[i], bounds[i+1])}
		if one.Start.Before(in.Start) || !one.Start.Before(in.End) {
			continue
		}
		m.each(k, one.Interval, func(r store.Record, v money.Decimal) { one.Rollup, _ = one.Fold(r.Origin, v) })
		if one.Count > 0 {
			all = append(all, one)
		}
	}
	return all
}

// scan is the order of Journal.Scan over a series.
func (m *model) scan(k store.SeriesKey) (all []string) {
	for _, w := range m.windows(k, span(minute(0), minute(120))) {
		m.each(k, w.Interval, func(r store.Record, _ money.Decimal) { all = append(all, r.Event.ID) })
	}
	return all
}

// journalModel sends random batches and cuts to the journal and to the model, and compares all that can be asked.
func journalModel(w *ledger) {
	w.close()
	rapid.Check(w.t, func(rt *rapid.T) {
		one := &ledger{t: w.t, open: w.open, dir: w.t.TempDir()}
		one.journal = w.open(w.t, one.dir)
		defer one.close()
		m := newModel()
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			switch rapid.IntRange(0, 9).Draw(rt, "step") {
			case 0:
				one.reopen()
			case 3, 4:
				m.revise(rt, one)
			case 1, 2:
				c := drawCustomer(rt)
				at := minute(0).Add(time.Duration(rapid.IntRange(0, 60*60).Draw(rt, "cut")) * time.Second)
				if err := one.journal.Cut(w.t.Context(), c, at); err != nil {
					rt.Fatal(err)
				}
				m.cuts[c] = append(m.cuts[c], at)
			default:
				b := drawBatch(rt, m)
				got, err := one.journal.Append(w.t.Context(), b)
				if err != nil {
					rt.Fatal(err)
				}
				equal(rt, "results", m.append(b, got), got)
			}
			m.compare(rt, one)
		}
		m.compareEvents(rt, one)
		one.reopen()
		m.compare(rt, one)
		m.compareEvents(rt, one)
	})
	w.journal = w.open(w.t, w.dir)
}

func equal(rt *rapid.T, what string, want, got any) {
	if reflect.DeepEqual(want, got) {
		return // the quick way to the same answer
	}
	if diff := gocmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		rt.Fatalf("%s (-want +got):\n%s", what, diff)
	}
}

func drawCustomer(rt *rapid.T) string {
	return rapid.SampledFrom([]string{"cus_a", "cus_b"}).Draw(rt, "customer")
}

func drawEntry(rt *rapid.T) store.Entry {
	value := rapid.SampledFrom([]string{"1", "2.5", "0", "-1", "0.001", "12345678901234567890"}).Draw(rt, "value")
	at := minute(0).Add(time.Duration(rapid.IntRange(0, 60*60).Draw(rt, "time")) * time.Second)
	e := entry(fmt.Sprint(rapid.IntRange(0, 40).Draw(rt, "id")), at, value)
	e.Origin = rapid.SampledFrom([]meter.Origin{meter.Admitted, meter.Reported}).Draw(rt, "origin")
	e.Resolutions[0].CustomerID = drawCustomer(rt)
	e.Resolutions[0].Distinct = rapid.SampledFrom([]string{"", "x", "y", "z"}).Draw(rt, "distinct")
	if route := rapid.SampledFrom([]string{"", "/a", "/b"}).Draw(rt, "route"); route != "" {
		e.Resolutions[0].Dimensions = []meter.Dimension{{Name: "route", Value: route}}
	}
	switch rapid.IntRange(0, 3).Draw(rt, "resolutions") {
	case 0:
		e.Resolutions = nil
		e.Flags = rapid.SampledFrom([]store.Flags{0, store.Held, store.Filtered}).Draw(rt, "held")
	case 1:
		second := e.Resolutions[0]
		second.Meter, second.CustomerID = "tokens", drawCustomer(rt)
		e.Resolutions = append(e.Resolutions, second)
	}
	e.Unit = rapid.SampledFrom([]string{"", "", "import"}).Draw(rt, "unit")
	return e
}

func drawBatch(rt *rapid.T, m *model) store.Batch {
	b := store.Batch{
		Producer: "gateway/1", Node: uint16(rapid.IntRange(1, 2).Draw(rt, "node")), Epoch: uint32(rapid.IntRange(1, 2).Draw(rt, "epoch")),
		ReceivedAt: minute(0).Add(time.Duration(rapid.IntRange(0, 1000).Draw(rt, "received")) * time.Microsecond),
	}
	for range rapid.IntRange(0, 6).Draw(rt, "entries") {
		b.Entries = append(b.Entries, drawEntry(rt))
	}
	for range rapid.IntRange(0, 2).Draw(rt, "totals") {
		b.Totals = append(b.Totals, store.AdmittedTotal{
			CustomerID: drawCustomer(rt), Meter: "api_calls", PeriodStart: rapid.Int64Range(0, 1).Draw(rt, "period"),
			Total: money.FromScaled(rapid.Int64Range(1, 100).Draw(rt, "total"), 1),
		})
	}
	known := slices.Clone(b.Entries)
	for _, r := range m.events {
		known = append(known, r.Entry)
	}
	if len(known) > 0 && rapid.IntRange(0, 3).Draw(rt, "marks") == 0 {
		e := rapid.SampledFrom(known).Draw(rt, "marked")
		b.Marks = append(b.Marks, store.Mark{Source: e.Event.Source, ID: e.Event.ID, Flags: store.Incomplete})
	}
	return b
}

func (m *model) compare(rt *rapid.T, w *ledger) {
	for _, customer := range []string{"cus_a", "cus_b"} {
		for _, key := range []string{"api_calls", "tokens"} {
			m.compareSeries(rt, w, store.SeriesKey{CustomerID: customer, Meter: key})
		}
	}
}

func (m *model) compareEvents(rt *rapid.T, w *ledger) {
	got := w.scan(store.Scan{Limit: 7})
	equal(rt, "all events", m.events, got)
	back := w.scan(store.Scan{Limit: 11, NewestFirst: true})
	slices.Reverse(back)
	equal(rt, "all events from the newest", m.events, back)
	after := rapid.Uint64Range(0, 60).Draw(rt, "since")
	for _, s := range []store.Scan{
		{Unmatched: true},
		{Unit: "import"},
		{After: after},
		{Unmatched: true, Unit: "import", After: after},
		{SeriesKey: store.SeriesKey{CustomerID: "cus_a", Meter: "api_calls"}, Unit: "import", After: after},
	} {
		want := m.filtered(s)
		s.Limit = 3
		got := ids(w.scan(s))
		s.NewestFirst = true
		back := ids(w.scan(s))
		slices.Reverse(back)
		equal(rt, fmt.Sprintf("scan %+v from the newest", s), got, back)
		if s.Meter != "" { // by bucket
			slices.Sort(want)
			slices.Sort(got)
		}
		equal(rt, fmt.Sprintf("scan %+v", s), want, got)
	}
	for _, r := range m.events {
		history, err := w.journal.History(w.t.Context(), r.Event.Source, r.Event.ID)
		equal(rt, "error", nil, err)
		equal(rt, "history", m.history[r.Event.ID], history)
	}
}

func (m *model) compareSeries(rt *rapid.T, w *ledger, k store.SeriesKey) {
	bounds := m.bounds(k.CustomerID)
	i := rapid.IntRange(0, len(bounds)-1).Draw(rt, "from")
	in := span(bounds[i], bounds[rapid.IntRange(i, len(bounds)-1).Draw(rt, "to")])
	after := rapid.Uint64Range(0, 60).Draw(rt, "after")
	var want meter.Rollup
	m.each(k, in, func(r store.Record, v money.Decimal) { want, _ = want.Fold(r.Origin, v) })
	reported, voided := m.tallies(k, in)
	late, _ := m.sum(k, in, ^uint64(0)).Sub(m.sum(k, in, after))
	w.view(func(v store.View) {
		got, err := v.Usage(k, in)
		equal(rt, "error", nil, err)
		equal(rt, "usage", want, got)
		windows, err := v.Windows(k, in)
		equal(rt, "error", nil, err)
		equal(rt, "windows", m.windows(k, in), windows)
		reportedGot, err := v.Reported(k, in)
		equal(rt, "error", nil, err)
		equal(rt, "reported", reported, reportedGot)
		voidedGot, err := v.Voided(k, in)
		equal(rt, "error", nil, err)
		equal(rt, "voided", voided, voidedGot)
		lateGot, err := v.Late(k, in, after)
		equal(rt, "error", nil, err)
		equal(rt, "late", late, lateGot)
		m.compareTotals(rt, v, k)
		m.compareMeasure(rt, v, k, in)
	})
	one := store.Scan{SeriesKey: k, Limit: rapid.IntRange(1, 9).Draw(rt, "limit")}
	equal(rt, "scan", m.scan(k), ids(w.scan(one)))
	one.NewestFirst = true
	back := ids(w.scan(one))
	slices.Reverse(back)
	equal(rt, "scan from the newest", m.scan(k), back)
}

func (m *model) compareTotals(rt *rapid.T, v store.View, k store.SeriesKey) {
	of := m.totals[k.CustomerID+" "+k.Meter]
	var periods []int64
	for start, nodes := range of {
		periods = append(periods, start)
		var sum money.Decimal
		for _, total := range nodes {
			sum, _ = sum.Add(total)
		}
		got, err := v.Admitted(k, start)
		equal(rt, "error", nil, err)
		equal(rt, "admitted", sum, got)
	}
	slices.Sort(periods)
	equal(rt, "admitted periods", periods, v.AdmittedPeriods(k))
	starts := m.ever(k)
	i := slices.IndexFunc(v.Series(), func(s store.Series) bool { return s.SeriesKey == k })
	if (i >= 0) != (len(starts) > 0 || len(of) > 0) {
		rt.Fatalf("series %v listed: %v", k, i >= 0)
	}
	if i >= 0 && len(starts) > 0 {
		equal(rt, "first bucket", starts[0], v.Series()[i].First)
		equal(rt, "last bucket", starts[len(starts)-1], v.Series()[i].Last)
	}
	if !slices.IsSortedFunc(v.Series(), func(a, b store.Series) int {
		return cmp.Or(cmp.Compare(a.CustomerID, b.CustomerID), cmp.Compare(a.Meter, b.Meter))
	}) {
		rt.Fatal("series are not sorted")
	}
}
