package file

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file/record"
	"github.com/tallystick/tallystick/internal/store/file/segment"
)

// full has most fields of an event set, and those of later versions.
func full() record.Record {
	return record.Record{
		Kind: record.KindEvent, Flags: store.Recovered, Event: meter.Event{Source: "gateway/1", ID: "a", Type: "t", Time: time.UnixMicro(5)},
		Origin: meter.Reported, Digest: [16]byte{15: 1},
		Resolutions: []meter.Resolution{
			{CustomerID: "cus_1", Meter: "api_calls", CatalogVersion: -1, Value: money.MustDecimal("-12.5")},
			{CustomerID: "cus_1", Meter: "tokens", Value: money.FromInt(0)},
		},
		Totals:  []store.AdmittedTotal{{CustomerID: "cus_1", Meter: "api_calls", PeriodStart: -7, Total: money.FromInt(3)}},
		HeadExt: []byte{60<<1 | 1, 1, 'x', 61 << 1, 1},
	}
}

func body(r record.Record) []byte { return record.Body(r.Append(nil)) }

// openBytes opens a folder whose only segment holds b behind its header, appends to it and opens it again.
func openBytes(t *testing.T, b []byte) {
	fs := memFS{segment.Path("d", 1): &memFile{b: append(segment.EncodeHeader(1, 1), b...)}}
	j, err := Open(Config{Dir: "d", FS: fs})
	if err != nil {
		if !errors.Is(err, store.ErrCorrupt) && !errors.Is(err, store.ErrNewer) {
			t.Fatal(err)
		}
		return
	}
	kept := len(fs[segment.Path("d", 1)].b)
	if s := j.Stats(); s.TornBytes+int64(kept) != int64(segment.HeaderSize+len(b)) {
		t.Fatalf("%d bytes kept of %d, %+v", kept, segment.HeaderSize+len(b), s)
	}
	for _, s := range []store.Scan{{}, {NewestFirst: true}} {
		if _, err := j.Scan(t.Context(), s); err != nil && !errors.Is(err, store.ErrCorrupt) {
			t.Fatal(err)
		}
	}
	_, err = j.Append(t.Context(), store.Batch{Entries: []store.Entry{{
		Event: meter.Event{Source: "s", ID: "new", Type: "t", Time: time.UnixMicro(1)}, Origin: meter.Reported,
		Resolutions: full().Resolutions,
	}}})
	if err != nil && !errors.Is(err, money.ErrOverflow) {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{Dir: "d", FS: fs}); err != nil {
		t.Fatalf("after an append: %v", err)
	}
}

func FuzzSegment(f *testing.F) {
	event := (&record.Record{Kind: record.KindEvent, Origin: meter.Reported, Event: meter.Event{Source: "s", ID: "i", Type: "t", Time: time.UnixMicro(1)}}).Append(nil)
	record.Seal(event, 1)
	frame := append(segment.BeginFrame(nil), event...)
	segment.EndFrame(frame)
	f.Add(frame)
	f.Add(append(bytes.Clone(frame), frame[:20]...))
	f.Add(frame[1:])
	f.Fuzz(openBytes)
}

// FuzzReplay replays records whose checksums and positions are right and whose fields are anything.
func FuzzReplay(f *testing.F) {
	event := func(id string) []byte {
		r := full()
		r.Event.ID, r.Event.Time = id, time.UnixMicro(5)
		return body(r)[9:]
	}
	cut := body(record.Record{Kind: record.KindCut, CustomerID: "cus_1", Event: meter.Event{Time: time.UnixMicro(6)}})[9:]
	batch := body(record.Record{Kind: record.KindBatch, Totals: full().Totals})[9:]
	mark := body(record.Record{Kind: record.KindMark, Flags: 1, Event: meter.Event{Source: "gateway/1", ID: "a", Time: time.UnixMicro(0)}})[9:]
	f.Add(byte(record.KindBatch), batch, byte(record.KindEvent), event("a"), byte(record.KindCut), cut)
	f.Add(byte(record.KindEvent), event("a"), byte(record.KindEvent), event("b"), byte(record.KindMark), mark)
	f.Add(byte(record.KindEvent), event("a"), byte(record.KindCut), cut, byte(record.KindCut), cut)
	f.Add(byte(record.KindVoid), event("a"), byte(99), cut, byte(0), batch)
	revision := func(kind record.Kind) []byte {
		r := record.Record{Kind: kind, Event: meter.Event{Type: "u", Subject: "s", Time: time.UnixMicro(0)}, Reference: &record.Reference{Target: 1, Reason: "r", Actor: "a"}}
		if kind != record.KindVoid {
			r.Resolutions = full().Resolutions[:1]
		}
		return body(r)[9:]
	}
	f.Add(byte(record.KindEvent), event("a"), byte(record.KindAmend), revision(record.KindAmend), byte(record.KindVoid), revision(record.KindVoid))
	f.Add(byte(record.KindEvent), event("a"), byte(record.KindVoid), revision(record.KindVoid), byte(record.KindCut), cut)
	f.Add(byte(record.KindEvent), event("a"), byte(record.KindResolve), revision(record.KindResolve), byte(record.KindSeal), batch)
	f.Fuzz(func(t *testing.T, k1 byte, b1 []byte, k2 byte, b2 []byte, k3 byte, b3 []byte) {
		frame := segment.BeginFrame(nil)
		for i, b := range [][]byte{b1, b2, b3} {
			start := len(frame)
			frame = append(frame, 0, 0, 0, 0, 0, 0, 0, 0, []byte{k1, k2, k3}[i], 0, 0, 0, 0, 0, 0, 0, 0)
			frame = append(frame, b...)
			binary.LittleEndian.PutUint32(frame[start:], uint32(9+len(b)))
			record.Seal(frame[start:], uint64(i)+1)
		}
		segment.EndFrame(frame)
		openBytes(t, frame)
	})
}
