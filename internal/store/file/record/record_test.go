package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/store"
)

// full has every field set, those of later versions too.
func full() Record {
	long := string(bytes.Repeat([]byte("n"), 200))
	return Record{
		Kind: KindEvent, Position: 1<<40 + 3, Flags: store.Recovered | store.Incomplete, ReceivedAt: time.UnixMicro(1_780_000_000_000_001).UTC(),
		Event: meter.Event{
			Source: "gateway/1", ID: "0000000000000001A", Type: "request", Subject: "acme", Time: time.UnixMicro(-5).UTC(),
			Data: []byte(`{"a":1}`), TraceParent: "00-1",
		},
		Origin: meter.Admitted, Digest: [16]byte{15: 1},
		Resolutions: []meter.Resolution{
			{CustomerID: "cus_1", Meter: "api_calls", CatalogVersion: -1, Value: money.MustDecimal("-12.5")},
			{CustomerID: "cus_1", Meter: "tokens", Value: money.FromInt(0), Distinct: "user 7", Dimensions: []meter.Dimension{{Name: "route", Value: long}, {Name: "status"}}},
		},
		Receipt: []byte{0, 1, 2}, KeyID: "key_1", Producer: "gateway/1", Node: 65535, Epoch: 1<<32 - 1, First: 1, Last: 1<<64 - 1,
		Totals:     []store.AdmittedTotal{{CustomerID: "cus_1", Meter: "api_calls", PeriodStart: -7, Total: money.FromInt(3)}, {CustomerID: "c", Meter: long}},
		CustomerID: "cus_1", Reference: &Reference{Target: 9, Reason: "typo", Actor: "tok_1"}, Signature: []byte{1}, SignerKey: "k",
		Unit: "import 7", Document: []byte("d"), Commitment: []byte{2}, Erased: 77, Salt: []byte{3},
		HeadExt:    appendUint(appendUint(appendBytes(nil, 60, "later"), 61, 5), 61, 6),
		PayloadExt: appendBytes(nil, 63, "later"),
	}
}

func body(r Record) []byte { return Body(r.Append(nil)) }

func TestRecordRoundTrip(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]Record{
		"full": full(), "event": {Kind: KindEvent, ReceivedAt: time.UnixMicro(0).UTC(), Event: meter.Event{Time: time.UnixMicro(0).UTC()}},
		"zero times": {Kind: KindCut, CustomerID: "c", Event: meter.Event{Time: time.Time{}}},
	} {
		got, err := Decode(body(r))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(r, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestRecordBytes pins format version 1: these bytes are on disks.
func TestRecordBytes(t *testing.T) {
	t.Parallel()
	rec := (&Record{
		Kind: KindEvent, Flags: 1, ReceivedAt: time.UnixMicro(1).UTC(), Origin: meter.Reported, Digest: [16]byte{0xd},
		Event:       meter.Event{Source: "s", ID: "i", Type: "t", Subject: "c", Time: time.UnixMicro(-1).UTC(), Data: []byte("1")},
		Resolutions: []meter.Resolution{{CustomerID: "c", Meter: "m", CatalogVersion: 2, Value: money.FromInt(1), Dimensions: []meter.Dimension{{Name: "r", Value: "x"}}}},
		Receipt:     []byte{9}, KeyID: "k",
	}).Append(nil)
	Seal(rec, 5)
	want := []byte{
		67, 0, 0, 0, 0, 0, 0, 0, // length, CRC
		1, 5, 0, 0, 0, 0, 0, 0, 0, // kind, position
		1 << 1, 1, 2 << 1, 2, 3 << 1, 2, 4 << 1, 1, // flags, origin, received, time
		5<<1 | 1, 1, 's', 6<<1 | 1, 1, 'i', 7<<1 | 1, 1, 't', // source, id, type
		8<<1 | 1, 16, 0xd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // digest
		9<<1 | 1, 12, 1, 'c', 1, 'm', 4, 1, '1', 1, 1, 'r', 1, 'x', // resolution
		0,                                  // end of the head
		1<<1 | 1, 1, 'c', 2<<1 | 1, 1, '1', // subject, data
		4<<1 | 1, 1, 9, 5<<1 | 1, 1, 'k', // receipt, key
	}
	want[0] = byte(len(want) - HeaderSize)
	binary.LittleEndian.PutUint32(want[4:], Checksum(want[:4], want[HeaderSize:]))
	if diff := cmp.Diff(want, rec); diff != "" {
		t.Error(diff)
	}
}

func TestRecordRefuses(t *testing.T) {
	t.Parallel()
	start := []byte{1, 0, 0, 0, 0, 0, 0, 0, 0}
	for name, rest := range map[string][]byte{
		"nothing":           {},
		"no end of head":    {1 << 1, 1},
		"zero number":       {1 << 1, 0, 0},
		"empty bytes":       {5<<1 | 1, 0, 0},
		"descending":        {2 << 1, 1, 1 << 1, 1, 0},
		"twice":             {2 << 1, 1, 2 << 1, 1, 0},
		"tag 0":             {1, 1, 'x', 0},
		"long number":       {1 << 1, 0x81, 0, 0},
		"long key":          {0x82, 0, 1, 0},
		"endless number":    {1 << 1, 0xff},
		"wrong type":        {1<<1 | 1, 1, 'x', 0},
		"wrong type 2":      {5 << 1, 1, 0},
		"bytes cut short":   {5<<1 | 1, 9, 'x', 0},
		"flags too large":   {1 << 1, 0x80, 0x80, 0x04, 0},
		"short digest":      {8<<1 | 1, 1, 'x', 0},
		"bad decimal":       {9<<1 | 1, 7, 1, 'c', 1, 'm', 0, 1, 'x', 0},
		"unusual decimal":   {9<<1 | 1, 10, 1, 'c', 1, 'm', 0, 3, '1', '.', '0', 0, 0},
		"resolution rest":   {9<<1 | 1, 9, 1, 'c', 1, 'm', 0, 1, '1', 0, 0, 0},
		"many dimensions":   {9<<1 | 1, 8, 1, 'c', 1, 'm', 0, 1, '1', 9, 0},
		"payload number":    {0, 1 << 1, 1},
		"payload tag 0":     {0, 1, 1, 'x'},
		"payload cut short": {0, 1<<1 | 1, 2, 'x'},
	} {
		if r, err := Decode(append(bytes.Clone(start), rest...)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	if _, err := Decode(make([]byte, 20)); !errors.Is(err, ErrMalformed) {
		t.Errorf("kind 0: %v", err)
	}
}

func FuzzRecord(f *testing.F) {
	f.Add(body(full()))
	f.Add(body(Record{Kind: KindCut, CustomerID: "c", Event: meter.Event{Time: time.UnixMicro(5)}}))
	f.Add(body(Record{Kind: KindBatch, Totals: full().Totals, Producer: "p"}))
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Decode(b)
		if err != nil {
			return
		}
		if again := body(r); !bytes.Equal(b, again) {
			t.Fatalf("decodes, but encodes otherwise:\n%x\n%x", b, again)
		}
	})
}
