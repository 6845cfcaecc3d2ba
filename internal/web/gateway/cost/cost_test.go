package cost

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/money"
)

// model is what encoding/json finds: the last member of each name counts.
func model(doc []byte, path []string) (string, bool) {
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber()
	var v any
	if !json.Valid(doc) || d.Decode(&v) != nil {
		return "", false
	}
	for _, name := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return "", false
		}
		if v, ok = m[name]; !ok {
			return "", false
		}
	}
	switch x := v.(type) {
	case json.Number:
		return x.String(), len(x) <= textMax
	case string:
		return x, true
	}
	return "", false
}

func inParts(f finder, doc []byte, part int) (string, bool) {
	for len(doc) > 0 {
		n := min(part, len(doc))
		f.write(doc[:n])
		doc = doc[n:]
	}
	return f.end(true)
}

func deep(doc []byte) bool {
	return bytes.Count(doc, []byte("["))+bytes.Count(doc, []byte("{")) > depthMax
}

func FuzzJSON(f *testing.F) {
	for _, s := range []string{
		`{"usage":{"total_tokens":42}}`, `{"usage":{"total_tokens":1},"usage":{}}`, `{"a":[{"usage":{"total_tokens":3}}],"usage":{"x":1,"total_tokens":-0.5e+3}}`,
		`{"usage":{"total_tokens":"12"}}`, `{"usage":{"total_tokens":true,"total_tokens":7 } } `, `{"\u0075sage":{"total_tokens":0}}`, `[1,2]`, `12`, ``, ` `, `{"usage":{"usage":{"total_tokens":1}}}`,
		`{"usage":[{"total_tokens":1}]}`, `{"usage":{"total_tokens":01}}`, `{"usage":{"total_tokens":1.}}`, `{"a":"\ud83d\ude00","usage":{"total_tokens":2}} x`, `{,}`, `{"usage":{"total_tokens":1}`, "{\"a\":\"\x01\"}",
		`{"usage":{"total_tokens":1},"usage":2}`, `{"usage":{"total_tokens":{"total_tokens":1}}}`, "{\"\xff\":1}", `{"usage":null,"usage":{"total_tokens":9}}`, `{"usage":{"total_tokens":"\u0031"}}`,
	} {
		f.Add([]byte(s), uint8(1))
	}
	f.Fuzz(func(t *testing.T, doc []byte, part uint8) {
		if deep(doc) {
			return
		}
		path := []string{"usage", "total_tokens"}
		want, ok := model(doc, path)
		if len(want) > textMax/6 && ok { // longer texts may be found or not
			return
		}
		got, found := inParts(newScanner(path), doc, max(1, int(part)))
		if got = ifFound(got, found); got != ifFound(want, ok) || found != ok {
			t.Errorf("%q in parts of %d: %q %v, want %q %v", doc, part, got, found, want, ok)
		}
	})
}

func ifFound(s string, found bool) string {
	if !found {
		return ""
	}
	return s
}

// eventsModel reads the stream as a whole.
func eventsModel(stream []byte, path []string) (value string, found bool) {
	s := strings.TrimPrefix(string(stream), "\xef\xbb\xbf")
	s = strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\r", "\n")
	var data []string
	for _, line := range append(strings.Split(s, "\n"), "") {
		if line == "" {
			if v, ok := model([]byte(strings.Join(data, "\n")), path); ok {
				value, found = v, true
			}
			data = nil
			continue
		}
		if name, v, _ := strings.Cut(line, ":"); name == "data" {
			data = append(data, strings.TrimPrefix(v, " "))
		}
	}
	return value, found
}

func FuzzEvents(f *testing.F) {
	for _, s := range []string{
		"data: {\"n\":1}\n\ndata: {\"n\":2}\n\ndata: [DONE]\n\n", "data: {\"n\":\ndata: 3}\n\n", "data:{\"n\":1}\r\n\r\n", "\xef\xbb\xbfdata: {\"n\":1}\r\r", ": note\nevent: x\nid: 1\ndata: {\"n\":5}\n\n",
		"data: {\"n\":1}", "data: {\"n\":1}\n\ndata: {\"n\":2", "data\ndata: {\"n\":8}\n\n", "datax: {\"n\":8}\n\n", "dat: 1\n\n", "\xefdata: {\"n\":8}\n\n", "data: {\"n\":{}}\n\n", "data:  {\"n\":4}\n\n",
	} {
		f.Add([]byte(s), uint8(1))
	}
	f.Fuzz(func(t *testing.T, stream []byte, part uint8) {
		if deep(stream) {
			return
		}
		want, ok := eventsModel(stream, []string{"n"})
		if len(want) > textMax/6 {
			return
		}
		got, found := inParts(newEvents([]string{"n"}), stream, max(1, int(part)))
		if got = ifFound(got, found); got != ifFound(want, ok) || found != ok {
			t.Errorf("%q in parts of %d: %q %v, want %q %v", stream, part, got, found, want, ok)
		}
	})
}

func FuzzNumber(f *testing.F) {
	for _, s := range []string{"1", "1.5e3", "12e-1", "0e9", "1E+2", "1e41", "-1", "0.00e2", "1e", "e1", "1e1e1", "-0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := number(s)
		if err != nil {
			return
		}
		var want money.Decimal
		if d.Sign() < 0 {
			t.Fatalf("%q is %s", s, d)
		}
		if !strings.ContainsAny(s, "eE") {
			if want = money.MustDecimal(s); want.String() != d.String() {
				t.Errorf("%q is %s", s, d)
			}
		}
	})
}

func TestNumber(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{
		"12": "12", "1.5e3": "1500", "12e-1": "1.2", "1E+2": "100", "0.05e1": "0.5", "0e9": "0", "1.25e1": "12.5", "1e-3": "0.001", "-0": "0",
		"-1": "", "": "", "1e": "", "x": "", "1e99": "", "01": "", "NaN": "", "1,5": "", strings.Repeat("1", 65): "",
	} {
		d, err := number(s)
		if want == "" {
			if !errors.Is(err, ErrMalformed) {
				t.Errorf("%q: %s %v", s, d, err)
			}
		} else if err != nil || d.String() != want {
			t.Errorf("%q: %s %v, want %s", s, d, err, want)
		}
	}
}

func packed(s string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write([]byte(s))
	if err = errors.Join(err, w.Close()); err != nil {
		panic(err)
	}
	return b.String()
}

func TestReadings(t *testing.T) {
	t.Parallel()
	const doc = `{"id":"x","usage":{"total_tokens":7}}`
	sum := func(x *Exchange) (money.Decimal, error) {
		var m struct{ N int64 }
		if x.JSON == nil {
			return money.Decimal{}, ErrAbsent
		}
		err := json.Unmarshal(x.JSON, &m)
		return money.FromInt(m.N + x.RequestBytes + int64(x.Status)), err
	}
	for name, c := range map[string]struct {
		from          catalog.CostSource
		path          string
		header        http.Header
		body          string
		cut           bool
		want, failure string
	}{
		"request bytes":     {from: catalog.FromRequestBytes, body: doc, want: "5"},
		"response bytes":    {from: catalog.FromResponseBytes, body: doc, want: "37"},
		"bytes, cut":        {from: catalog.FromBytes, body: doc, cut: true, want: "42"},
		"header":            {from: catalog.FromHeader, path: "x-cost", header: http.Header{"X-Cost": {" 1.25 "}}, want: "1.25"},
		"no header":         {from: catalog.FromHeader, path: "x-cost", failure: ErrAbsent.Error()},
		"two headers":       {from: catalog.FromHeader, path: "x-cost", header: http.Header{"X-Cost": {"1", "2"}}, failure: ErrMalformed.Error()},
		"bad header":        {from: catalog.FromHeader, path: "x-cost", header: http.Header{"X-Cost": {"lots"}}, failure: ErrMalformed.Error()},
		"JSON":              {from: catalog.FromJSON, path: "usage.total_tokens", body: doc, want: "7"},
		"JSON, cut":         {from: catalog.FromJSON, path: "usage.total_tokens", body: doc[:len(doc)-1], cut: true, want: "7"},
		"JSON, cut early":   {from: catalog.FromJSON, path: "usage.total_tokens", body: doc[:len(doc)-2], cut: true, failure: ErrAbsent.Error()},
		"JSON, not whole":   {from: catalog.FromJSON, path: "usage.total_tokens", body: doc[:len(doc)-1], failure: ErrAbsent.Error()},
		"JSON, text":        {from: catalog.FromJSON, path: "usage.total_tokens", body: `{"usage":{"total_tokens":"x"}}`, failure: ErrMalformed.Error()},
		"JSON in gzip":      {from: catalog.FromJSON, path: "usage.total_tokens", header: http.Header{"Content-Encoding": {"gzip"}}, body: packed(doc), want: "7"},
		"JSON, gzip is cut": {from: catalog.FromJSON, path: "usage.total_tokens", header: http.Header{"Content-Encoding": {"gzip"}}, body: packed(doc)[:20], failure: ErrAbsent.Error()},
		"JSON, gzip bomb":   {from: catalog.FromJSON, path: "usage.total_tokens", header: http.Header{"Content-Encoding": {"gzip"}}, body: packed(`"` + strings.Repeat("x", decodedMax+1)), failure: ErrTooLarge.Error()},
		"JSON in brotli":    {from: catalog.FromJSON, path: "usage.total_tokens", header: http.Header{"Content-Encoding": {"br"}}, body: "x", failure: ErrEncoding.Error()},
		"events": {
			from: catalog.FromJSON, path: "usage.total_tokens", header: http.Header{"Content-Type": {"text/event-stream; charset=utf-8"}},
			body: "data: {\"usage\":null}\n\ndata: " + doc + "\n\ndata: [DONE]\n\n", want: "7",
		},
		"expression":         {from: catalog.FromExpression, path: "sum", body: `{"n":1}`, want: "206"},
		"expression on gzip": {from: catalog.FromExpression, path: "sum", header: http.Header{"Content-Encoding": {"gzip"}}, body: packed(`{"n":1}`), want: "206"},
		"expression on text": {from: catalog.FromExpression, path: "sum", body: `{"n":1} x`, failure: ErrAbsent.Error()},
		"too large":          {from: catalog.FromExpression, path: "sum", body: strings.Repeat(" ", keptMax) + `{"n":1}`, failure: ErrAbsent.Error()},
	} {
		s, err := Compile(&catalog.Route{From: c.from, Path: c.path}, func(string) (Expression, error) { return sum, nil })
		if err != nil {
			t.Fatal(err)
		}
		r := s.Begin("GET", "/", nil, 200, c.header)
		step := max(1, len(c.body)/1000)
		for i := 0; i < len(c.body); i += step {
			r.Write([]byte(c.body[i:min(i+step, len(c.body))]))
		}
		d, err := r.End(5, !c.cut)
		if c.failure != "" {
			if err == nil || err.Error() != c.failure {
				t.Errorf("%s: %s %v, want %s", name, d, err, c.failure)
			}
		} else if err != nil || d.String() != c.want {
			t.Errorf("%s: %s %v, want %s", name, d, err, c.want)
		}
	}
}

func TestMemoryIsBounded(t *testing.T) {
	s, err := Compile(&catalog.Route{From: catalog.FromJSON, Path: "usage.total_tokens"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := s.Begin("GET", "/", nil, 200, nil)
	chunk := []byte(strings.Repeat("x", 32<<10))
	r.Write([]byte(`{"text":"`))
	if n := testing.AllocsPerRun(1000, func() { r.Write(chunk) }); n != 0 {
		t.Errorf("%v allocations for 32 KiB of a long text", n)
	}
	r.Write([]byte(`","usage":{"total_tokens":3}}`))
	if d, err := r.End(0, true); err != nil || d.String() != "3" {
		t.Errorf("%s %v", d, err)
	}
}
