package file

import (
	"testing"

	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
)

// TestLateIsReadOnce damages what was read: asked again, the journal must not look there.
func TestLateIsReadOnce(t *testing.T) {
	t.Parallel()
	fs := memFS{}
	j, err := Open(Config{Dir: "d", FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = j.Close() }()
	add := func(ids ...string) {
		t.Helper()
		for _, id := range ids {
			if _, err := j.Append(t.Context(), store.Batch{Producer: "p", Entries: []store.Entry{usageEvent(id)}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	late := func(after uint64) (got string, err error) {
		err = j.View(t.Context(), func(v store.View) error {
			d, err := v.Late(store.SeriesKey{CustomerID: "c", Meter: "m"}, period.Interval{}, after)
			got = d.String()
			return err
		})
		return got, err
	}
	add("1", "2", "3", "4")
	position := j.Stats().Position
	add("5", "6")
	if got, err := late(position); err != nil || got != "2" {
		t.Fatalf("late: %s, %v", got, err)
	}
	f := fs["d/00000001.log"]
	clear(f.b[32:])
	if got, err := late(position); err != nil || got != "2" {
		t.Errorf("asked again: %s, %v", got, err)
	}
	if _, err := late(position - 1); err == nil {
		t.Error("the damage shows nowhere, so this test proves nothing")
	}
	add("7")
	if got, err := late(position); err != nil || got != "3" {
		t.Errorf("one more: %s, %v", got, err)
	}
}

func TestLateSumsAreBounded(t *testing.T) {
	t.Parallel()
	var l lateSums
	for i := range int64(maxLateSums + 5) {
		l.put(lateKey{from: i}, lateSum{money.FromInt(i), 1})
	}
	last := lateKey{from: maxLateSums + 4}
	l.put(last, lateSum{money.FromInt(7), 2})
	if got := l.get(last); len(l.kept) != maxLateSums || got.upTo != 2 || got.sum.String() != "7" {
		t.Errorf("%d kept, the last is %+v", len(l.kept), got)
	}
}
