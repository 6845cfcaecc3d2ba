package file_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file"
	"github.com/tallystick/tallystick/internal/store/file/record"
)

func TestRewrite(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := open(t, file.Config{Dir: dir, SegmentBytes: 4 << 10})
	series := store.SeriesKey{CustomerID: "cus_1", Meter: "api_calls"}
	for _, id := range []string{"a", "b"} {
		if _, err := j.Append(t.Context(), store.Batch{
			Producer: "gateway/1", Node: 1, Epoch: 1, Entries: []store.Entry{call(id)},
			Totals: []store.AdmittedTotal{{CustomerID: "cus_1", Meter: "api_calls", PeriodStart: 5, Total: money.FromInt(2)}},
		}); err != nil {
			t.Fatal(err)
		}
	}
	closeJournal(t, j)

	before, err := os.ReadFile(filepath.Join(dir, "00000001.log"))
	if err != nil {
		t.Fatal(err)
	}
	var kinds []record.Kind
	look := func(r *file.Record) bool { kinds = append(kinds, r.Kind); return len(kinds)%2 == 0 }
	if err := file.Rewrite(dir, look); err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(filepath.Join(dir, "00000001.log"))
	if err != nil || !bytes.Equal(before, after) || !bytes.Equal([]byte{2, 1, 2, 1}, []byte{byte(kinds[0]), byte(kinds[1]), byte(kinds[2]), byte(kinds[3])}) {
		t.Fatalf("writing records back unchanged must change nothing: %v, %v", kinds, err)
	}

	if err := file.Rewrite(dir, func(r *file.Record) bool {
		switch {
		case len(r.Totals) > 0:
			r.Totals[0].Total = money.FromInt(77)
		case r.Event.ID == "b":
			r.Resolutions[0].Value = money.MustDecimal("1000000.5")
		default:
			return false
		}
		r.Position = 99 // not for sale
		return true
	}); err != nil {
		t.Fatal(err)
	}
	j = open(t, file.Config{Dir: dir})
	defer closeJournal(t, j)
	err = j.View(t.Context(), func(v store.View) error {
		r, err := v.Usage(series, period.Interval{})
		admitted, err2 := v.Admitted(series, 5)
		if r.Sum.String() != "1000001.5" || admitted.String() != "77" {
			t.Errorf("usage %v, admitted %v: the forgery did not work", r.Sum, admitted)
		}
		return errors.Join(err, err2)
	})
	if err != nil {
		t.Fatal(err)
	}
	mustSend(t, j, store.Duplicate, "a", "b")
}

func TestRewriteSealed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := open(t, file.Config{Dir: dir, SegmentBytes: 4 << 10})
	for i := range 60 {
		mustSend(t, j, store.Accepted, fmt.Sprint("e", i))
	}
	for more := true; more; {
		var err error
		if more, err = j.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	closeJournal(t, j)
	if err := file.Rewrite(dir, func(r *file.Record) bool {
		if r.Event.ID != "e3" {
			return false
		}
		r.Resolutions[0].Value = money.FromInt(1000)
		return true
	}); err != nil {
		t.Fatal(err)
	}
	j = open(t, file.Config{Dir: dir})
	defer closeJournal(t, j)
	if err := j.View(t.Context(), func(v store.View) error {
		r, err := v.Usage(store.SeriesKey{CustomerID: "cus_1", Meter: "api_calls"}, period.Interval{})
		if r.Sum.String() != "1059" {
			t.Errorf("usage %v: the forgery did not work", r.Sum)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func TestRewriteRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := open(t, file.Config{Dir: dir})
	mustSend(t, j, store.Accepted, "a")
	closeJournal(t, j)
	name := filepath.Join(dir, "00000001.log")
	log, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := file.Rewrite(dir, func(r *file.Record) bool { r.Receipt = make([]byte, 17<<20); return true }); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("an oversized record: %v", err)
	}
	if err := os.WriteFile(name, log[:len(log)-1], 0o600); err != nil {
		t.Fatal(err)
	}
	if err := file.Rewrite(dir, func(*file.Record) bool { return true }); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("a torn tail: %v", err)
	}
	if err := file.Rewrite(filepath.Join(dir, "nowhere"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
}
