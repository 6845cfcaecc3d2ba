package file

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file/record"
	"github.com/tallystick/tallystick/internal/store/file/segment"
)

func (fs memFS) clone() memFS {
	c := memFS{}
	for name, f := range fs {
		c[name] = &memFile{bytes.Clone(f.b)}
	}
	return c
}

func usageEvent(id string) store.Entry {
	return store.Entry{
		Event:  meter.Event{Source: "s", ID: id, Type: "t", Time: time.UnixMicro(1), Data: []byte(`{"a":"` + strings.Repeat("x", 100) + `"}`)},
		Origin: meter.Reported, Resolutions: []meter.Resolution{{CustomerID: "c", Meter: "m", Value: money.FromInt(1)}},
	}
}

// grow appends one event per commit and returns where each commit ends in its segment.
func grow(t *testing.T, fs memFS, segmentBytes int64, ids ...string) {
	t.Helper()
	j, err := Open(Config{Dir: "d", FS: fs, SegmentBytes: segmentBytes})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		if _, err := j.Append(t.Context(), store.Batch{Producer: "p", Entries: []store.Entry{usageEvent(id)}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

func counted(t *testing.T, j *Journal) (n int64) {
	t.Helper()
	err := j.View(t.Context(), func(v store.View) error {
		r, err := v.Usage(store.SeriesKey{CustomerID: "c", Meter: "m"}, period.Interval{})
		n = r.Count
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestTornTailAtEveryByte(t *testing.T) {
	t.Parallel()
	name := segment.Path("d", 1)
	fs := memFS{}
	grow(t, fs, 0, "a")
	whole := len(fs[name].b)
	grow(t, fs, 0, "b")
	tail := fs[name].b[whole:]
	for cut := range len(tail) {
		for garbage, filler := range map[string][]byte{"short": nil, "zeros": make([]byte, len(tail)-cut), "old bytes": bytes.Repeat([]byte("\xf5TJ"), len(tail))} {
			torn := memFS{name: {slicesConcat(fs[name].b[:whole+cut], filler)}}
			size := len(torn[name].b)
			j, err := Open(Config{Dir: "d", FS: torn})
			if err != nil {
				t.Fatalf("%s after %d bytes: %v", garbage, cut, err)
			}
			if got := j.Stats().TornBytes; got != int64(size-whole) || counted(t, j) != 1 || len(torn[name].b) != whole {
				t.Fatalf("%s after %d bytes: %d torn bytes of %d, %d events", garbage, cut, got, size-whole, counted(t, j))
			}
			grow(t, torn, 0, "b", "a")
			again, err := Open(Config{Dir: "d", FS: torn})
			if err != nil || counted(t, again) != 2 || again.Stats().TornBytes != 0 {
				t.Fatalf("%s after %d bytes, sent again: %v", garbage, cut, err)
			}
		}
	}
}

func slicesConcat(a, b []byte) []byte { return append(bytes.Clone(a), b...) }

func TestTornTailOfALargeCommit(t *testing.T) {
	t.Parallel()
	name := segment.Path("d", 1)
	fs := memFS{}
	grow(t, fs, 0, "a")
	whole := len(fs[name].b)
	j, err := Open(Config{Dir: "d", FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	var b store.Batch
	for i := range 10_000 {
		b.Entries = append(b.Entries, usageEvent(fmt.Sprint(i)))
	}
	if _, err := j.Append(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	const window = 1 << 20 // of the reader
	size := len(fs[name].b)
	for _, cut := range []int{whole + 1, whole + window - 5, whole + window + 13, size - 1} {
		torn := memFS{name: {bytes.Clone(fs[name].b[:cut])}}
		j, err := Open(Config{Dir: "d", FS: torn})
		if err != nil || counted(t, j) != 1 || j.Stats().TornBytes != int64(cut-whole) {
			t.Fatalf("cut at %d: %v", cut, err)
		}
	}
	// Damage in a large commit is found however far away the next one begins.
	grow(t, fs, 0, "last")
	fs[name].b[whole+segment.FrameHeader+100] ^= 1
	if _, err := Open(Config{Dir: "d", FS: fs}); !errors.Is(err, store.ErrCorrupt) {
		t.Fatalf("%v, want ErrCorrupt", err)
	}
}

// TestFlippedBit flips each byte of a journal of two segments. Only the last commit may be taken for a torn one.
func TestFlippedBit(t *testing.T) {
	t.Parallel()
	fs := memFS{}
	ids := make([]string, 24)
	for i := range ids {
		ids[i] = fmt.Sprint("event", i)
	}
	grow(t, fs, segmentBytesMin, ids[:len(ids)-1]...)
	last := segment.Path("d", 2)
	whole := len(fs[last].b)
	grow(t, fs, segmentBytesMin, ids[len(ids)-1])
	if len(fs) != 2 {
		t.Fatalf("%d segments, want 2", len(fs))
	}
	for name, f := range fs {
		for i := range f.b {
			bad := fs.clone()
			bad[name].b[i] ^= 1 << (i % 8)
			j, err := Open(Config{Dir: "d", FS: bad, SegmentBytes: segmentBytesMin})
			if name == last && i >= whole {
				if err != nil || counted(t, j) != int64(len(ids))-1 || j.Stats().TornBytes == 0 {
					t.Fatalf("byte %d of the last commit: %v", i, err)
				}
				continue
			}
			if !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "backup") {
				t.Fatalf("byte %d of %s: %v, want ErrCorrupt naming it", i, name, err)
			}
		}
	}
}

// TestNeverServed flips each byte under an open journal: an event comes whole or not at all.
func TestNeverServed(t *testing.T) {
	t.Parallel()
	fs := memFS{}
	j, err := Open(Config{Dir: "d", FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	want := usageEvent("a")
	if _, err := j.Append(t.Context(), store.Batch{Entries: []store.Entry{want, usageEvent("b")}}); err != nil {
		t.Fatal(err)
	}
	b := fs[segment.Path("d", 1)].b
	refused := 0
	for i := range b {
		b[i] ^= 0x10
		r, err := j.Event(t.Context(), "s", "a")
		switch {
		case errors.Is(err, store.ErrCorrupt):
			refused++
		case err != nil || r.Digest != want.Event.Digest() || !bytes.Equal(r.Event.Data, want.Event.Data) || r.Event.ID != "a":
			t.Fatalf("byte %d: %+v, %v", i, r, err)
		}
		b[i] ^= 0x10
	}
	if size := record.HeaderSize + int(binary.LittleEndian.Uint32(b[placeOf(t, j, "a"):])); refused < size {
		t.Errorf("%d flips were found, want every one of the record's %d bytes", refused, size)
	}
}

// placeOf is where an event's record begins in the first segment.
func placeOf(t *testing.T, j *Journal, id string) int64 {
	t.Helper()
	position, _, err := j.find("s", id)
	if err != nil {
		t.Fatal(err)
	}
	_, at, err := newReader(j).walk((*j.segments.Load())[0], position)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// TestWrongPlace: a whole record is not served for another one.
func TestWrongPlace(t *testing.T) {
	t.Parallel()
	fs := memFS{}
	j, err := Open(Config{Dir: "d", FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := j.Append(t.Context(), store.Batch{Entries: []store.Entry{usageEvent("a"), usageEvent("b")}}); err != nil {
		t.Fatal(err)
	}
	log := fs[segment.Path("d", 1)].b
	a, b := placeOf(t, j, "a"), placeOf(t, j, "b")
	position, _, _ := j.find("s", "a")
	place := log[a:b]
	copy(place, log[b:]) // as long
	if _, err := j.Event(t.Context(), "s", "a"); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("another position: %v", err)
	}
	if _, err := j.Scan(t.Context(), store.Scan{}); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("another position in a scan: %v", err)
	}
	record.Seal(place, position)
	if _, err := j.Event(t.Context(), "s", "a"); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("another identity: %v", err)
	}
}

func TestWrongSegments(t *testing.T) {
	t.Parallel()
	fs := memFS{}
	var ids []string
	for i := range 60 {
		ids = append(ids, fmt.Sprint("event", i))
	}
	grow(t, fs, segmentBytesMin, ids...)
	if len(fs) < 4 {
		t.Fatalf("%d segments", len(fs))
	}
	seg := func(n uint32) string { return segment.Path("d", n) }
	mend := func(b []byte) { binary.LittleEndian.PutUint32(b[28:], record.Checksum(nil, b[:28])) }
	for name, tt := range map[string]struct {
		spoil func(fs memFS)
		want  error
		says  string
	}{
		"first missing":  {func(fs memFS) { delete(fs, seg(1)) }, store.ErrCorrupt, seg(1)},
		"middle missing": {func(fs memFS) { delete(fs, seg(2)) }, store.ErrCorrupt, seg(2)},
		"swapped":        {func(fs memFS) { fs[seg(2)], fs[seg(3)] = fs[seg(3)], fs[seg(2)] }, store.ErrCorrupt, seg(2)},
		"tail missing":   {func(fs memFS) { fs[seg(2)].b = fs[seg(2)].b[:len(fs[seg(2)].b)-1] }, store.ErrCorrupt, seg(2)},
		"commit missing": {func(fs memFS) {
			f := fs[seg(2)]
			first := segment.FrameHeader + int(binary.LittleEndian.Uint32(f.b[segment.HeaderSize+4:]))
			f.b = append(f.b[:segment.HeaderSize], f.b[segment.HeaderSize+first:]...)
		}, store.ErrCorrupt, seg(2)},
		"empty": {func(fs memFS) { fs[seg(1)].b = nil }, store.ErrCorrupt, seg(1)},
		"newer": {func(fs memFS) { fs[seg(2)].b[8] = 2; mend(fs[seg(2)].b) }, store.ErrNewer, seg(2)},
		"zeros": {func(fs memFS) { f := fs[seg(1)]; f.b = append(f.b, 0) }, store.ErrCorrupt, seg(1)},
	} {
		bad := fs.clone()
		tt.spoil(bad)
		if _, err := Open(Config{Dir: "d", FS: bad}); !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, want %v naming %s", name, err, tt.want, tt.says)
		}
	}
}

// TestReservedKinds: leaving out what a later version wrote would make figures wrong; a field it added would not.
func TestReservedKinds(t *testing.T) {
	t.Parallel()
	with := func(r Record) (*Journal, error) {
		fs := memFS{}
		grow(t, fs, 0, "a")
		rec := r.Append(nil)
		record.Seal(rec, 3)
		frame := append(segment.BeginFrame(nil), rec...)
		segment.EndFrame(frame)
		f := fs[segment.Path("d", 1)]
		f.b = append(f.b, frame...)
		return Open(Config{Dir: "d", FS: fs})
	}
	event := record.Record{Kind: record.KindAmend, Origin: meter.Reported, Event: usageEvent("b").Event, Resolutions: usageEvent("b").Resolutions}
	for _, kind := range []record.Kind{record.KindBackfill, record.KindResolve + 1, 99, 255} {
		event.Kind = kind
		if _, err := with(event); !errors.Is(err, store.ErrNewer) {
			t.Errorf("kind %d: %v, want ErrNewer", kind, err)
		}
	}
	event.Kind, event.HeadExt = record.KindEvent, full().HeadExt
	j, err := with(event)
	if err != nil || counted(t, j) != 2 {
		t.Fatalf("a field of a later version: %v", err)
	}
}

// TestMalformedRecord: a commit whose checksum is right and whose records are not.
func TestMalformedRecord(t *testing.T) {
	t.Parallel()
	good := usageEvent("b")
	rec := (&record.Record{Kind: record.KindEvent, Origin: good.Origin, Event: good.Event}).Append(nil)
	record.Seal(rec, 3)
	for name, spoil := range map[string]func(b []byte) []byte{
		"length too large": func(b []byte) []byte { b[2] = 1; return b },
		"length too small": func(b []byte) []byte { b[0], b[1] = 1, 0; return b },
		"checksum":         func(b []byte) []byte { b[4]++; return b },
		"rest":             func(b []byte) []byte { return append(b, 1, 2, 3) },
		"position":         func(b []byte) []byte { record.Seal(b, 4); return b },
		"twice":            func(b []byte) []byte { c := bytes.Clone(b); record.Seal(c, 4); return append(b, c...) },
	} {
		fs := memFS{}
		grow(t, fs, 0, "a")
		frame := append(segment.BeginFrame(nil), spoil(bytes.Clone(rec))...)
		segment.EndFrame(frame)
		f := fs[segment.Path("d", 1)]
		f.b = append(f.b, frame...)
		if _, err := Open(Config{Dir: "d", FS: fs}); !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), "00000001.log at byte") {
			t.Errorf("%s: %v, want ErrCorrupt naming the place", name, err)
		}
	}
}
