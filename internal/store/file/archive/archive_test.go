package archive

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file/record"
	"github.com/tallystick/tallystick/internal/store/file/segment"
)

func uuid(r *rand.Rand, at time.Time) string {
	var b [16]byte
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	b[6], b[8] = b[6]&15|0x40, b[8]&63|0x80
	if !at.IsZero() { // version 7
		ms := at.UnixMilli()
		for i := range 6 {
			b[i] = byte(ms >> (40 - 8*i))
		}
		b[6] = b[6]&15 | 0x70
	}
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// reported is a reported event of about 200 bytes: 10,000 customers × 5 meters, a random id.
func reported(r *rand.Rand, position uint64, v7 bool) record.Record {
	at := time.UnixMicro(1_780_000_000_000_000 + int64(position)*1000 + r.Int64N(900)).UTC()
	customer := r.IntN(10_000)
	names := rand.New(rand.NewPCG(uint64(customer), 9))
	id := uuid(r, time.Time{})
	if v7 {
		id = uuid(r, at)
	}
	route := []string{"GET /v1/orders", "POST /v1/orders", "GET /v1/orders/{id}", "GET /v1/search", "DELETE /v1/orders/{id}"}[r.IntN(5)]
	tokens := r.IntN(5000)
	data := fmt.Sprintf(`{"bytes":%d,"model":"m-%d","region":"%s","route":"%s","status":%d,"tokens":%d}`,
		r.IntN(60_000), r.IntN(4), []string{"eu-central-1", "us-east-1", "ap-south-1"}[r.IntN(3)], route, []int{200, 200, 200, 404, 500}[r.IntN(5)], tokens)
	e := meter.Event{
		Source: "shop", ID: id, Type: "completion", Subject: fmt.Sprintf("customer-%016x", names.Uint64()), Time: at, Data: []byte(data),
	}
	return record.Record{
		Kind: record.KindEvent, Position: position, ReceivedAt: at.Add(5 * time.Millisecond).Truncate(100 * time.Millisecond), Event: e, Origin: meter.Reported, Digest: e.Digest(),
		Resolutions: []meter.Resolution{{
			CustomerID: "cus_" + hex.EncodeToString([]byte(fmt.Sprintf("%010d", customer))), Meter: fmt.Sprint("meter_", r.IntN(5)), CatalogVersion: 3,
			Value: money.FromInt(int64(tokens)), Dimensions: []meter.Dimension{{Name: "route", Value: route}},
		}},
	}
}

// rawSegment makes a closed segment of frames with so many events each, a batch record before them.
func rawSegment(first uint64, frames, events int, make func(position uint64) record.Record) []byte {
	out := segment.EncodeHeader(1, first)
	position := first
	for range frames {
		frame := segment.BeginFrame(nil)
		put := func(r record.Record) {
			r.Position = position
			at := len(frame)
			frame = r.Append(frame)
			record.Seal(frame[at:], position)
			position++
		}
		at := time.UnixMicro(1_780_000_000_000_000 + int64(position)*1000).UTC()
		put(record.Record{Kind: record.KindBatch, ReceivedAt: at, Producer: "api/tok_operator"})
		for range events {
			put(make(position))
		}
		segment.EndFrame(frame)
		out = append(out, frame...)
	}
	return out
}

// memory is a file in memory.
type memory struct{ b []byte }

func (f *memory) ReadAt(p []byte, at int64) (int, error) {
	if at >= int64(len(f.b)) {
		return 0, io.EOF
	}
	n := copy(p, f.b[at:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memory) WriteAt(p []byte, at int64) (int, error) {
	if grow := int(at) + len(p) - len(f.b); grow > 0 {
		f.b = append(f.b, make([]byte, grow)...)
	}
	return copy(f.b[at:], p), nil
}

func (f *memory) Truncate(size int64) error { f.b = f.b[:size]; return nil }
func (f *memory) Sync() error               { return nil }
func (f *memory) Size() (int64, error)      { return int64(len(f.b)), nil }
func (f *memory) Close() error              { return nil }

// disk is a folder in memory.
type disk map[string]*memory

func (disk) MkdirAll(string) error { return nil }
func (disk) SyncDir(string) error  { return nil }

func (d disk) List(string) (names []string, err error) {
	for name := range d {
		names = append(names, filepath.Base(name))
	}
	return names, nil
}

func (d disk) Open(name string, create bool) (segment.File, error) {
	if d[name] == nil {
		if !create {
			return nil, os.ErrNotExist
		}
		d[name] = &memory{}
	}
	return d[name], nil
}

func (d disk) Rename(from, to string) error {
	d[to] = d[from]
	delete(d, from)
	return nil
}

func (d disk) Remove(name string) error { delete(d, name); return nil }

func seal(t testing.TB, raw []byte) (disk, Info) {
	t.Helper()
	d := disk{}
	info, err := Write(t.Context(), Task{FS: d, Dir: "d", Number: 1, Name: "raw", From: &memory{raw}})
	if err != nil {
		t.Fatal(err)
	}
	return d, info
}

func openSealed(t testing.TB, d disk) *Reader {
	t.Helper()
	r, err := Open(d, Path("d", 1), 1, NewCache(1<<20))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRawBytesComeBack(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 1))
	odd := func(position uint64) record.Record {
		e := reported(r, position, position%2 == 0)
		switch r.IntN(12) {
		case 0:
			e.Event.Data = []byte(`{"a":[1,2,{"b":"x\"y"}],"n":-1.5e3,"t":true,"z":"` + strings.Repeat("q", r.IntN(300)) + `"}`)
		case 1:
			e.Event.Data = []byte("\x00 not JSON \xff")
		case 2:
			e.Digest = [16]byte{1, 2}
		case 3:
			e.Event.ID, e.Event.Subject, e.Event.Data = "007", "18446744073709551616", []byte(`"0"`)
		case 4:
			e = record.Record{Kind: record.KindMark, Flags: 2, ReceivedAt: e.ReceivedAt, Event: meter.Event{Source: "s", ID: "a"}}
		case 5:
			e.HeadExt, e.Resolutions = []byte{30<<1 | 1, 2, 'h', 'i'}, nil
		case 6:
			e.HeadExt = []byte{0x80, 0x08, 3} // a tag too large for a column
		case 7:
			e.Event.Data = bytes.Repeat([]byte("x"), r.IntN(100_000))
		case 8:
			e = record.Record{Kind: 200, ReceivedAt: e.ReceivedAt, Totals: []store.AdmittedTotal{{CustomerID: "c", Meter: "m", Total: money.FromInt(5)}}}
		}
		return e
	}
	for _, shape := range [][2]int{{300, 1}, {2, 2000}, {40, 20}} {
		raw := rawSegment(77, shape[0], shape[1], odd)
		d, info := seal(t, raw)
		s := openSealed(t, d)
		back := make([]byte, len(raw))
		if n, err := s.ReadAt(back, 0); n != len(raw) || err != nil {
			t.Fatal(n, err)
		}
		if !bytes.Equal(back, raw) {
			t.Fatalf("%v: the raw bytes differ", shape)
		}
		if info.RawBytes != int64(len(raw)) || info.First != 77 || info.Last != 76+uint64(shape[0]*(shape[1]+1)) || s.Info() != info {
			t.Fatalf("info %+v, opened %+v", info, s.Info())
		}
		position := info.First
		if _, err := Frames("raw", 1, &memory{raw}, func(_ int64, frame []byte) error {
			return record.Split(frame[segment.FrameHeader:], func(at int, body []byte) error {
				rec, err := s.Record(position, nil)
				if err != nil || !bytes.Equal(rec, frame[segment.FrameHeader+at:][:record.HeaderSize+len(body)]) {
					t.Fatalf("record %d: %v", position, err)
				}
				position++
				return nil
			})
		}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Record(position, nil); err == nil {
			t.Fatal("a record behind the end was found")
		}
	}
}

// TestSize prints what the parts of a sealed segment take for each event.
func TestSize(t *testing.T) {
	t.Parallel()
	for name, v7 := range map[string]bool{"random ids": false, "ids with time": true} {
		r := rand.New(rand.NewPCG(2, 2))
		var plain int
		const frames, events = 30, 1000
		raw := rawSegment(1, frames, events, func(position uint64) record.Record {
			e := reported(r, position, v7)
			plain += len(e.Event.ID) + len(e.Event.Source) + len(e.Event.Type) + len(e.Event.Subject) + len(e.Event.Data) + 8
			return e
		})
		start := time.Now()
		d := disk{}
		task := Task{FS: d, Dir: "d", Number: 1, Name: "raw", From: &memory{raw}}
		w, info, err := task.writeAll(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		took := time.Since(start)
		per := func(n int64) float64 { return float64(n) / (frames * events) }
		t.Logf("%s: event %.0f B, raw %.1f B, sealed %.1f B an event; %.0f MB/s", name, per(int64(plain)), per(int64(len(raw))), per(info.Bytes),
			float64(len(raw))/1e6/took.Seconds())
		keys := slices.Collect(maps.Keys(w.pack.sizes))
		slices.SortFunc(keys, func(a, b streamKey) int { return w.pack.sizes[b] - w.pack.sizes[a] })
		for _, k := range keys[:min(len(keys), 24)] {
			t.Logf("  column %#x part %d: %.2f B", uint32(k>>3), k&7, per(int64(w.pack.sizes[k])))
		}
		if per(info.Bytes) > 60 {
			t.Errorf("%s: %.1f bytes an event, want at most 60", name, per(info.Bytes))
		}
	}
}

func TestDamageIsNamed(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 3))
	raw := rawSegment(1, 10, 60, func(position uint64) record.Record { return reported(r, position, false) })
	d, _ := seal(t, raw)
	whole := bytes.Clone(d[Path("d", 1)].b)
	check := func(what string, content []byte) {
		d := disk{Path("d", 1): &memory{content}}
		s, err := Open(d, Path("d", 1), 1, NewCache(0))
		if err == nil {
			_, err = Frames("x", 1, s, func(int64, []byte) error { return nil })
		}
		if !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), Path("d", 1)+" at byte ") {
			t.Fatalf("%s: %v", what, err)
		}
	}
	for at := 0; at < len(whole); at += 1 + at/40%61 {
		flipped := bytes.Clone(whole)
		flipped[at] ^= 1 << (at % 8)
		check(fmt.Sprint("bit flipped at ", at), flipped)
	}
	for size := 0; size < len(whole); size += 997 {
		check(fmt.Sprint("cut at ", size), whole[:size])
	}
	check("longer", append(bytes.Clone(whole), 0))
}

func FuzzOpen(f *testing.F) {
	r := rand.New(rand.NewPCG(4, 4))
	raw := rawSegment(1, 2, 3, func(position uint64) record.Record { return reported(r, position, false) })
	d, _ := seal(f, raw)
	f.Add(d[Path("d", 1)].b)
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Open(disk{"x": &memory{b}}, "x", 1, NewCache(1<<20))
		if err != nil {
			return
		}
		if _, err := Frames("x", 1, s, func(int64, []byte) error { return nil }); err != nil && !errors.Is(err, store.ErrCorrupt) {
			t.Fatal(err)
		}
	})
}

// FuzzBlock feeds blocks and tables behind their checksums.
func FuzzBlock(f *testing.F) {
	r := rand.New(rand.NewPCG(5, 5))
	raw := rawSegment(1, 3, 5, func(position uint64) record.Record { return reported(r, position, position%2 == 0) })
	count := newCounter()
	if _, err := Frames("raw", 1, &memory{raw}, func(_ int64, frame []byte) error {
		return record.Split(frame[segment.FrameHeader:], func(_ int, body []byte) error { count.record(body); return nil })
	}); err != nil {
		f.Fatal(err)
	}
	dict := count.dictionary()
	k, err := newPacker(dict)
	if err != nil {
		f.Fatal(err)
	}
	block := k.pack(raw[segment.HeaderSize:], 1)
	if block[0] != modeColumns {
		f.Fatal("the block was not taken apart")
	}
	f.Add(dict.encode(), block, len(raw)-segment.HeaderSize)
	f.Add(dict.encode(), k.zstd.EncodeAll(raw, []byte{modePlain}), len(raw))
	u := k.unpacker
	f.Fuzz(func(t *testing.T, tables, block []byte, size int) {
		d, err := parseDictionary(tables)
		if err != nil || size < 0 || size > 1<<20 {
			return
		}
		raw, err := u.unpack(block, d, 1, size)
		if err == nil && len(raw) != size {
			t.Fatalf("%d bytes, want %d", len(raw), size)
		}
		if err == nil {
			_, _ = layout(raw, nil)
		}
	})
}

// BenchmarkWrite seals a segment.
func BenchmarkWrite(b *testing.B) {
	r := rand.New(rand.NewPCG(6, 6))
	raw := rawSegment(1, 50, 1000, func(position uint64) record.Record { return reported(r, position, false) })
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		seal(b, raw)
	}
}

// BenchmarkRead reads a sealed segment front to back, as a start does.
func BenchmarkRead(b *testing.B) {
	r := rand.New(rand.NewPCG(7, 7))
	raw := rawSegment(1, 50, 1000, func(position uint64) record.Record { return reported(r, position, false) })
	d, _ := seal(b, raw)
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		if _, err := Frames("x", 1, openSealed(b, d), func(int64, []byte) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRecord reads single records in random order, with a cache that holds few blocks.
func BenchmarkRecord(b *testing.B) {
	r := rand.New(rand.NewPCG(8, 8))
	raw := rawSegment(1, 50, 1000, func(position uint64) record.Record { return reported(r, position, false) })
	d, info := seal(b, raw)
	s := openSealed(b, d)
	for b.Loop() {
		if _, err := s.Record(1+r.Uint64N(info.Last), nil); err != nil {
			b.Fatal(err)
		}
	}
}

// TestBlockOfAnyBytes feeds blocks that were changed behind their checksum: they are refused or give as many bytes as asked.
func TestBlockOfAnyBytes(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(9, 9))
	raw := rawSegment(1, 3, 5, func(position uint64) record.Record { return reported(r, position, position%2 == 0) })
	count := newCounter()
	if _, err := Frames("raw", 1, &memory{raw}, func(_ int64, frame []byte) error {
		return record.Split(frame[segment.FrameHeader:], func(_ int, body []byte) error { count.record(body); return nil })
	}); err != nil {
		t.Fatal(err)
	}
	k, err := newPacker(count.dictionary())
	if err != nil {
		t.Fatal(err)
	}
	block, tables := k.pack(raw[segment.HeaderSize:], 1), k.dict.encode()
	refused := 0
	for range 3000 {
		b, in := bytes.Clone(block), bytes.Clone(tables)
		for range 1 + r.IntN(3) {
			b[r.IntN(len(b))] = byte(r.Uint32())
		}
		if r.IntN(2) == 0 {
			in[r.IntN(len(in))] = byte(r.Uint32())
		}
		size := len(raw) - segment.HeaderSize
		d, err := parseDictionary(in)
		if err == nil {
			var back []byte
			if back, err = k.unpacker.unpack(b[:len(b)-r.IntN(2)], d, 1, size); err == nil && len(back) != size {
				t.Fatalf("%d bytes, want %d", len(back), size)
			}
		}
		if err != nil {
			refused++
		}
	}
	if refused < 1000 {
		t.Errorf("only %d of 3000 were refused", refused)
	}
}
