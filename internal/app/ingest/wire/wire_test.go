package wire_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/tallystick/tallystick/internal/app/ingest"
	"github.com/tallystick/tallystick/internal/app/ingest/wire"
)

var now = time.Date(2026, 3, 30, 12, 0, 0, 0, time.UTC)

const (
	one = `{"specversion":"1.0","id":"1","source":"app","type":"completion","subject":"acme","data":{"tokens":1}}`
	two = `{"specversion":"1.0","id":"\u0032","source":"app","type":"completion"}`
	bad = `{"specversion":"0.3","id":"3","source":"app","type":"completion"}`
)

func gzipped(t testing.TB, s string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(s)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zstandard(t testing.TB, s string) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(s)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// whole is packed as by those who know the length before, which then stands in the head.
func whole(t testing.TB, s string) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll([]byte(s), nil)
}

// ids are those of what was read, with ! for an event that was refused.
func ids(e wire.Events) string {
	out := make([]string, len(e.Outcomes))
	for i := range out {
		out[i] = "!"
	}
	for j, i := range e.Places {
		out[i] = e.List[j].ID
	}
	return strings.Join(out, " ")
}

func TestRead(t *testing.T) {
	t.Parallel()
	binary := map[string][]string{"Ce-Specversion": {"1.0"}, "Ce-Id": {"b"}, "Ce-Source": {"app"}, "Ce-Type": {"t"}}
	for name, tt := range map[string]struct {
		body wire.Body
		ids  string
	}{
		"one":              {wire.Body{Type: wire.TypeEvent, Bytes: []byte(one)}, "1"},
		"one, with spaces": {wire.Body{Type: wire.TypeEvent + "; charset=utf-8", Bytes: []byte("\n" + two + "\n")}, "2"},
		"one refused":      {wire.Body{Type: wire.TypeEvent, Bytes: []byte(bad)}, "!"},
		"json, one":        {wire.Body{Type: wire.TypeJSON, Bytes: []byte(one)}, "1"},
		"json, many":       {wire.Body{Type: wire.TypeJSON, Bytes: []byte(" [" + one + "," + two + "]")}, "1 2"},
		"batch":            {wire.Body{Type: wire.TypeBatch, Bytes: []byte("[" + one + " , " + bad + ", 42 ,null,[{}],\n" + two + " ] ")}, "1 ! ! ! ! 2"},
		"empty batch":      {wire.Body{Type: wire.TypeBatch, Bytes: []byte(" [ ] ")}, ""},
		"batch with ce-":   {wire.Body{Type: wire.TypeBatch, Headers: binary, Bytes: []byte("[" + one + "]")}, "1"},
		"lines":            {wire.Body{Type: wire.TypeLines, Bytes: []byte(one + "\n\r\n  \n" + bad + "\r\nrubbish\n{\n[]\n" + two)}, "1 ! ! ! ! 2"},
		"no lines":         {wire.Body{Type: wire.TypeLines}, ""},
		"binary":           {wire.Body{Type: wire.TypeJSON, Headers: binary, Bytes: []byte(`{"tokens":1}`)}, "b"},
		"binary, no data":  {wire.Body{Headers: binary}, "b"},
		"gzip":             {wire.Body{Type: wire.TypeEvent, Encoding: "GZIP", Bytes: gzipped(t, one)}, "1"},
		"gzip in parts":    {wire.Body{Type: wire.TypeLines, Encoding: "gzip", Bytes: append(gzipped(t, one+"\n"), gzipped(t, two)...)}, "1 2"},
		"zstd":             {wire.Body{Type: wire.TypeEvent, Encoding: "zstd", Bytes: zstandard(t, one)}, "1"},
		"zstd in parts":    {wire.Body{Type: wire.TypeLines, Encoding: "zstd", Bytes: append(zstandard(t, one+"\n"), zstandard(t, two)...)}, "1 2"},
		"zstd, whole":      {wire.Body{Type: wire.TypeLines, Encoding: "zstd", Bytes: whole(t, one+strings.Repeat("\n", ingest.MaxBytes-len(one)))}, "1"},
		"identity":         {wire.Body{Type: wire.TypeEvent, Encoding: "identity", Bytes: []byte(one)}, "1"},
	} {
		e, err := wire.Read(tt.body, now)
		if err != nil || ids(e) != tt.ids || e.Refused() != strings.Contains(tt.ids, "!") {
			t.Errorf("%s: %q, want %q: %v", name, ids(e), tt.ids, err)
		}
	}
}

func TestNoEvents(t *testing.T) {
	t.Parallel()
	binary := map[string][]string{"Ce-Specversion": {"1.0"}}
	bomb := strings.Repeat(" ", ingest.MaxBytes+1)
	many := "[" + strings.Repeat("1,", ingest.MaxEvents) + "1]"
	for name, tt := range map[string]struct {
		body wire.Body
		err  error // nil: *ingest.Invalid
	}{
		"no type":            {wire.Body{Bytes: []byte(one)}, wire.ErrType},
		"another type":       {wire.Body{Type: "text/plain", Bytes: []byte(one)}, wire.ErrType},
		"avro":               {wire.Body{Type: "application/cloudevents+avro", Headers: binary}, wire.ErrType},
		"binary text":        {wire.Body{Type: "text/plain", Headers: binary, Bytes: []byte("x")}, wire.ErrType},
		"binary malformed":   {wire.Body{Type: wire.TypeJSON, Headers: binary, Bytes: []byte("{")}, wire.ErrMalformed},
		"brotli":             {wire.Body{Type: wire.TypeEvent, Encoding: "br", Bytes: []byte(one)}, wire.ErrEncoding},
		"twice":              {wire.Body{Type: wire.TypeEvent, Encoding: "gzip, gzip", Bytes: []byte(one)}, wire.ErrEncoding},
		"no gzip":            {wire.Body{Type: wire.TypeEvent, Encoding: "gzip", Bytes: []byte(one)}, wire.ErrMalformed},
		"gzip torn":          {wire.Body{Type: wire.TypeEvent, Encoding: "gzip", Bytes: gzipped(t, one)[:40]}, wire.ErrMalformed},
		"no zstd":            {wire.Body{Type: wire.TypeEvent, Encoding: "zstd", Bytes: []byte(one)}, wire.ErrMalformed},
		"zstd torn":          {wire.Body{Type: wire.TypeEvent, Encoding: "zstd", Bytes: zstandard(t, one)[:20]}, wire.ErrMalformed},
		"gzip bomb":          {wire.Body{Type: wire.TypeLines, Encoding: "gzip", Bytes: gzipped(t, bomb)}, wire.ErrTooLarge},
		"zstd bomb":          {wire.Body{Type: wire.TypeLines, Encoding: "zstd", Bytes: zstandard(t, bomb)}, wire.ErrTooLarge},
		"zstd bomb, whole":   {wire.Body{Type: wire.TypeLines, Encoding: "zstd", Bytes: whole(t, bomb)}, wire.ErrTooLarge},
		"zstd bomb in parts": {wire.Body{Type: wire.TypeLines, Encoding: "zstd", Bytes: bytes.Repeat(zstandard(t, bomb[:ingest.MaxBytes/2]), 3)}, wire.ErrTooLarge},
		"no JSON":            {wire.Body{Type: wire.TypeJSON, Bytes: []byte("x")}, wire.ErrMalformed},
		"nothing":            {wire.Body{Type: wire.TypeJSON}, wire.ErrMalformed},
		"a number":           {wire.Body{Type: wire.TypeJSON, Bytes: []byte("7")}, nil},
		"a list as event":    {wire.Body{Type: wire.TypeEvent, Bytes: []byte("[]")}, nil},
		"an event as batch":  {wire.Body{Type: wire.TypeBatch, Bytes: []byte(one)}, nil},
		"no end":             {wire.Body{Type: wire.TypeBatch, Bytes: []byte("[" + one)}, wire.ErrMalformed},
		"a comma too many":   {wire.Body{Type: wire.TypeBatch, Bytes: []byte("[" + one + ",]")}, wire.ErrMalformed},
		"a comma too few":    {wire.Body{Type: wire.TypeBatch, Bytes: []byte("[" + one + one + "]")}, wire.ErrMalformed},
		"a tail":             {wire.Body{Type: wire.TypeBatch, Bytes: []byte("[" + one + "]]")}, wire.ErrMalformed},
		"too many":           {wire.Body{Type: wire.TypeBatch, Bytes: []byte(many)}, nil},
		"too many lines":     {wire.Body{Type: wire.TypeLines, Bytes: []byte(strings.Repeat("1\n", ingest.MaxEvents+1))}, nil},
	} {
		_, err := wire.Read(tt.body, now)
		if _, invalid := errors.AsType[*ingest.Invalid](err); tt.err == nil && !invalid || tt.err != nil && !errors.Is(err, tt.err) {
			t.Errorf("%s: %v, want %v", name, err, tt.err)
		}
	}
}

// FuzzBatch: what is taken apart has the same elements for encoding/json, and each is read as if it had come alone.
func FuzzBatch(f *testing.F) {
	for _, s := range []string{
		`[]`, `[{"id":"1"},2]`, `[1,]`, `{"id":"1"}`, `[] []`, `nul`, `[[[]]`, "[\"\xff\"]", "[" + one + "," + two + "," + bad + "]", "[" + one + ",]", "[" + one + "2]", "[-]", `["\ud800"]`,
		"[" + one + "]x", "[1 , -0.0e1]",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := wire.Read(wire.Body{Type: wire.TypeBatch, Bytes: []byte(s)}, now)
		var want []json.RawMessage
		valid := json.Unmarshal([]byte(s), &want) == nil && strings.HasPrefix(strings.TrimLeft(s, " \t\r\n"), "[")
		if valid != (err == nil) {
			t.Fatalf("%q: error %v, but valid is %v", s, err, valid)
		}
		if err != nil {
			return
		}
		if len(got.Outcomes) != len(want) {
			t.Fatalf("%q: %d elements, want %d", s, len(got.Outcomes), len(want))
		}
		next := 0
		for i, raw := range want {
			e, fault := ingest.ParseCloudEvent(raw, now)
			if fault != nil {
				if d := cmp.Diff(*fault, got.Outcomes[i]); d != "" {
					t.Errorf("%q, element %d: %s", s, i, d)
				}
				continue
			}
			if got.Places[next] != i || !cmp.Equal(e, got.List[next]) {
				t.Errorf("%q, element %d: %+v, want %+v", s, i, got.List[next], e)
			}
			next++
		}
	})
}

// FuzzLines: every line that is not empty has an outcome or is an event, as if it had come alone.
func FuzzLines(f *testing.F) {
	f.Add(one + "\n" + two)
	f.Add("\n\r\n" + bad + "\r\n{")
	f.Add("\ufeff" + one)
	f.Fuzz(func(t *testing.T, s string) {
		got, err := wire.Read(wire.Body{Type: wire.TypeLines, Bytes: []byte(s)}, now)
		if err != nil {
			t.Fatal(err)
		}
		i, next := 0, 0
		for line := range strings.SplitSeq(s, "\n") {
			if line = strings.Trim(line, " \t\r"); line == "" {
				continue
			}
			e, fault := ingest.ParseCloudEvent([]byte(line), now)
			switch {
			case fault != nil:
				if d := cmp.Diff(*fault, got.Outcomes[i]); d != "" {
					t.Errorf("%q: %s", line, d)
				}
			case got.Places[next] != i || !cmp.Equal(e, got.List[next]):
				t.Errorf("%q: %+v", line, got.List[next])
			default:
				next++
			}
			i++
		}
		if i != len(got.Outcomes) {
			t.Errorf("%q: %d outcomes for %d lines", s, len(got.Outcomes), i)
		}
	})
}

// FuzzUnpack: nothing brings it down, and it never answers with more than a call may have.
func FuzzUnpack(f *testing.F) {
	f.Add("gzip", gzipped(f, one))
	f.Add("zstd", zstandard(f, one))
	f.Add("br", []byte(one))
	f.Fuzz(func(t *testing.T, encoding string, packed []byte) {
		b, err := wire.Unpack(encoding, packed)
		if len(b) > ingest.MaxBytes {
			t.Fatalf("%d bytes", len(b))
		}
		if err != nil && !errors.Is(err, wire.ErrEncoding) && !errors.Is(err, wire.ErrMalformed) && !errors.Is(err, wire.ErrTooLarge) {
			t.Fatal(err)
		}
	})
}
