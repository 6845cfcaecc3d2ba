package seal_test

import (
	"context"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallystick/tallystick/internal/app/seal"
	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	coreseal "github.com/tallystick/tallystick/internal/core/seal"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file/record"
)

// lying is a journal whose index says something else than its log.
type lying struct {
	store.Journal
	lie func(*lyingView)
	id  string // an event that is found elsewhere
}

type lyingView struct {
	store.View
	windows                     func([]store.Window) []store.Window
	series                      func([]store.Series) []store.Series
	reported, voided, admitted1 int64
}

func (j lying) View(ctx context.Context, read func(store.View) error) error {
	return j.Journal.View(ctx, func(v store.View) error {
		lv := &lyingView{View: v}
		j.lie(lv)
		return read(lv)
	})
}

func (j lying) Event(ctx context.Context, source, id string) (store.Record, error) {
	r, err := j.Journal.Event(ctx, source, id)
	if id == j.id {
		r.Position++
	}
	return r, err
}

func (v *lyingView) Windows(k store.SeriesKey, in period.Interval) ([]store.Window, error) {
	w, err := v.View.Windows(k, in)
	if v.windows != nil {
		w = v.windows(w)
	}
	return w, err
}

func (v *lyingView) Series() []store.Series {
	if v.series != nil {
		return v.series(v.View.Series())
	}
	return v.View.Series()
}

func off(d money.Decimal, err error, by int64) (money.Decimal, error) {
	if err != nil {
		return d, err
	}
	return d.Add(money.FromInt(by))
}

func (v *lyingView) Reported(k store.SeriesKey, in period.Interval) (money.Decimal, error) {
	d, err := v.View.Reported(k, in)
	return off(d, err, v.reported)
}

func (v *lyingView) Voided(k store.SeriesKey, in period.Interval) (money.Decimal, error) {
	d, err := v.View.Voided(k, in)
	return off(d, err, v.voided)
}

func (v *lyingView) Admitted(k store.SeriesKey, start int64) (money.Decimal, error) {
	d, err := v.View.Admitted(k, start)
	return off(d, err, v.admitted1)
}

// TestAuditFindsWrongIndex: every figure of the index is held against the log, revisions, cuts and admitted totals included.
func TestAuditFindsWrongIndex(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.report("a", 300)
	w.revise(store.Amend, "a1", 5)
	w.revise(store.Amend, "a1", 6)
	w.revise(store.Void, "a2", 0)
	w.revise(store.Void, "a3", 0)
	w.revise(store.Resolve, "a3", 2)
	w.revise(store.Resolve, "a4", 1) // the same reading
	ok(t, w.journal.Cut(t.Context(), customer, start.Add(100*time.Minute)))
	entry := event("g1", start, 4)
	entry.Origin = meter.Admitted
	for _, total := range []int64{4, 3} {
		_, err := w.journal.Append(t.Context(), store.Batch{
			Producer: "gateway/1", Node: 1, Epoch: 2, First: 1, Last: 2, ReceivedAt: w.now, Entries: []store.Entry{entry},
			Totals: []store.AdmittedTotal{{CustomerID: customer, Meter: "calls", PeriodStart: start.UnixMicro(), Total: money.FromInt(total)}},
		})
		ok(t, err)
	}
	w.tick()
	audit := func(j lying) []seal.Finding {
		t.Helper()
		c := w.cfg
		j.Journal = c.Journal
		r, err := seal.Audit(t.Context(), seal.Audited{
			Seals: c.Seals, Keys: c.Keys, Invoices: c.Invoices, Journal: j, Tiles: c.Tiles, Verifier: c.Verifier, Random: c.Random,
		})
		ok(t, err)
		return r.Findings
	}
	if f := audit(lying{lie: func(*lyingView) {}}); len(f) > 0 {
		t.Fatalf("the truth: %+v", f)
	}
	for name, c := range map[string]struct {
		lie  func(*lyingView)
		id   string
		says string
	}{
		"a rollup": {says: "a rollup differs", lie: func(v *lyingView) {
			v.windows = func(w []store.Window) []store.Window { w[7].Sum = money.FromInt(9); return w }
		}},
		"a count": {says: "a rollup differs", lie: func(v *lyingView) {
			v.windows = func(w []store.Window) []store.Window { w[7].Count++; return w }
		}},
		"a rollup too few": {says: "a rollup differs", lie: func(v *lyingView) {
			v.windows = func(w []store.Window) []store.Window { return w[1:] }
		}},
		"a series too few": {says: "not in the index", lie: func(v *lyingView) {
			v.series = func([]store.Series) []store.Series { return nil }
		}},
		"a series too many": {says: "not in the log", lie: func(v *lyingView) {
			v.series = func(s []store.Series) []store.Series {
				return append(s, store.Series{SeriesKey: store.SeriesKey{CustomerID: "x", Meter: "y"}})
			}
		}},
		"reported": {says: "reported usage", lie: func(v *lyingView) { v.reported = 1 }},
		"voided":   {says: "voided usage", lie: func(v *lyingView) { v.voided = 1 }},
		"admitted": {says: "admitted total", lie: func(v *lyingView) { v.admitted1 = -1 }},
		"an event": {says: "does not lead to an event", lie: func(*lyingView) {}, id: "a17"},
	} {
		if f := audit(lying{lie: c.lie, id: c.id}); len(f) != 1 || !strings.Contains(f[0].What, c.says) {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

// TestHeadIsTheRecord holds the proof's reader of heads to the journal's own form.
func TestHeadIsTheRecord(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 300)
	r := record.Record{
		Kind: record.KindEvent, Position: 1 << 40, Flags: store.Recovered | store.Incomplete, ReceivedAt: start,
		Event:  meter.Event{Source: "api", ID: long, Type: "request", Time: start.Add(-time.Microsecond), Subject: "acme", Data: []byte(`{"n":1}`), TraceParent: "t"},
		Origin: meter.Reported, Digest: [16]byte{1, 15: 9}, KeyID: "key_1", Receipt: []byte{1, 2},
		Resolutions: []meter.Resolution{
			{CustomerID: "c", Meter: "calls", CatalogVersion: -1, Value: money.MustDecimal("-12.5"), Dimensions: []meter.Dimension{{Name: "a", Value: long}, {Name: "b"}}},
			{CustomerID: "c", Meter: "users", Value: money.FromInt(0), Distinct: "user 7"},
		},
		Node: 65535, Epoch: math.MaxUint32, First: 3, Last: 1 << 33, CustomerID: "cus", Reference: &record.Reference{Target: 9, Reason: "r", Actor: "a"},
		Totals: []store.AdmittedTotal{{CustomerID: "c", Meter: "calls", PeriodStart: -7, Total: money.FromInt(3)}},
		Unit:   "import", Document: []byte("d"), Signature: []byte{1}, SignerKey: "k",
	}
	var p record.Parsed
	ok(t, p.Parse(record.Body(r.Append(nil))))
	got, err := coreseal.ParseHead(p.Head())
	ok(t, err)
	want := coreseal.Head{
		Kind: uint8(r.Kind), Position: r.Position, Flags: uint64(r.Flags), Origin: r.Origin, ReceivedAt: r.ReceivedAt, Time: r.Event.Time,
		Source: r.Event.Source, ID: r.Event.ID, Type: r.Event.Type, Digest: r.Digest[:], Resolutions: r.Resolutions, Node: 65535, Epoch: math.MaxUint32,
		Totals:   []coreseal.Total{{Customer: "c", Meter: "calls", PeriodStart: -7, Total: money.FromInt(3)}},
		Customer: "cus", Target: 9, Reason: "r", Actor: "a", First: 3, Last: 1 << 33, Unit: "import", Document: r.Document,
	}
	decimals := cmp.Comparer(func(a, b money.Decimal) bool { return a.Cmp(b) == 0 })
	if diff := cmp.Diff(want, got, decimals); diff != "" {
		t.Errorf("head (-want +got):\n%s", diff)
	}
	content, err := coreseal.ParsePayload(p.Payload())
	ok(t, err)
	if diff := cmp.Diff(coreseal.Content{Subject: "acme", Trace: "t", KeyID: "key_1", Data: []byte(`{"n":1}`)}, content); diff != "" {
		t.Errorf("payload (-want +got):\n%s", diff)
	}
	for kind, name := range map[record.Kind]uint8{
		record.KindEvent: coreseal.KindEvent, record.KindBatch: coreseal.KindBatch, record.KindCut: coreseal.KindCut, record.KindAmend: coreseal.KindAmend,
		record.KindVoid: coreseal.KindVoid, record.KindSeal: coreseal.KindSeal, record.KindResolve: coreseal.KindResolve,
		record.KindErasure: coreseal.KindErasure,
	} {
		if uint8(kind) != name {
			t.Errorf("kind %d is %d in proofs", kind, name)
		}
	}
}
