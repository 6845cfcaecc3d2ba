package index

import (
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file/base"
)

// add applies one event of 1 to an index.
func add(t *testing.T, x *Index, id string) {
	t.Helper()
	g := NewGroup(x)
	g.Begin()
	g.Next()
	e := store.Entry{
		Event: meter.Event{Source: "s", ID: id, Time: time.UnixMicro(int64(x.position) * 1_000_000)}, Origin: meter.Reported, Unit: "u",
		Resolutions: []meter.Resolution{{CustomerID: "c", Meter: "m", Value: money.FromInt(1)}},
	}
	if err := g.Event(e.Event.Identity(), [16]byte{1}, &e); err != nil {
		t.Fatal(err)
	}
	x.Apply(g)
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestEveryStepOfACheckpoint asks the same at each step of a checkpoint: also where the base holds the batch and the frozen
// delta still overlays it, and where a process ended there.
func TestEveryStepOfACheckpoint(t *testing.T) {
	t.Parallel()
	b, err := base.Open(vfs.NewMem(), "d")
	if err != nil {
		t.Fatal(err)
	}
	x := New()
	events := 0
	check := func(step string) {
		t.Helper()
		v := x.View()
		k := store.SeriesKey{CustomerID: "c", Meter: "m"}
		sum, err := v.Measure(k, period.Interval{}, store.Measure{Aggregation: meter.Sum})
		if err != nil || sum[0].Value.String() != fmt.Sprint(events) || sum[0].Events != int64(events) {
			t.Errorf("%s: measured %+v, %v; want %d", step, sum, err, events)
		}
		all, err := v.Usage(k, period.Interval{})
		reported, err2 := v.Reported(k, period.Interval{})
		if err != nil || err2 != nil || all.Count != int64(events) || reported.String() != fmt.Sprint(events) {
			t.Errorf("%s: %d counted, %v reported (%v, %v), want %d", step, all.Count, reported, err, err2, events)
		}
		for _, s := range []store.Scan{{SeriesKey: k}, {Unit: "u"}, {SeriesKey: k, NewestFirst: true}, {Unit: "u", NewestFirst: true}} {
			found, err := v.Candidates(&s, Cursor{}, 100)
			if err != nil || len(found) != events {
				t.Errorf("%s: %d found by %+v, %v; want %d", step, len(found), s, err, events)
			}
		}
		if late, err := v.Late(k, period.Interval{}, 1); err != nil || late.String() != fmt.Sprint(events-1) {
			t.Errorf("%s: late %v, %v", step, late, err)
		}
		if _, ok, err := v.Find(meter.IdentityOf("s", "0")); !ok || err != nil {
			t.Errorf("%s: the first event is not found: %v", step, err)
		}
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	}
	for round := range 4 {
		for range 3 {
			add(t, x, fmt.Sprint(events))
			events++
		}
		check("before")
		x.Freeze()
		check("frozen")
		add(t, x, fmt.Sprint(events))
		events++
		check("frozen, and one more")
		for range 2 { // the second time it is only waited for
			if err := x.Write(b, 0); err != nil {
				t.Fatal(err)
			}
			check("written")
		}
		add(t, x, fmt.Sprint(events))
		events++
		check("written, and one more")
		x.Finish(b)
		check(fmt.Sprint("finished ", round))
	}
	r := b.Reader()
	state, ok, err := r.State()
	if err != nil || !ok || state.Position != uint64(events-2) || state.Events != events-2 {
		t.Fatalf("%+v, %v, %v", state, ok, err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	x = New()
	if err := x.Load(b, state); err != nil {
		t.Fatal(err)
	}
	events -= 2
	check("loaded")
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}
