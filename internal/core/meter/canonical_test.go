package meter_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/big"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tallystick/tallystick/internal/core/meter"
)

func TestCanonical(t *testing.T) {
	t.Parallel()
	nines := strings.Repeat("9", 38)
	zeros := strings.Repeat("0", 37)
	tests := []struct{ in, want string }{
		{`{}`, `{}`},
		{` [ ] `, `[]`},
		{"\t{ \"b\" : 1 ,\r\n\"a\":[true,false,null] }", `{"a":[true,false,null],"b":1}`},
		{`{"a":{"z":1,"y":2},"Z":0,"":3,"é":4,"aa":5}`, `{"":3,"Z":0,"a":{"y":2,"z":1},"aa":5,"é":4}`},
		{`"\u0041\/\u00e9\ud83d\ude00"`, `"A/é😀"`},
		{`"\"\\\b\f\n\r\t\u0000\u001F\u007f"`, `"\"\\\b\f\n\r\t\u0000\u001f` + "\x7f" + `"`},
		{`{"\u0061":1,"b":2}`, `{"a":1,"b":2}`},
		{`{"\u0062":1,"a":2}`, `{"a":2,"b":1}`},
		{`0`, `0`},
		{`-0`, `0`},
		{`-0.000e5`, `0`},
		{`0e999999999999999999999`, `0`},
		{`1e3`, `1000`},
		{`1E+3`, `1000`},
		{`1.50`, `1.5`},
		{`100e-2`, `1`},
		{`-12.5e-1`, `-1.25`},
		{`0.00012e2`, `0.012`},
		{`0.00012e5`, `12`},
		{`123.456e2`, `12345.6`},
		{`1e37`, `1` + zeros},
		{`1e-38`, `0.` + zeros + `1`},
		{nines, nines},
		{nines + `.` + nines, nines + `.` + nines},
		{`0.` + nines + `000`, `0.` + nines},
		{`0.0` + nines + `e1`, `0.` + nines},
		{strings.Repeat("[", 32) + strings.Repeat("]", 32), strings.Repeat("[", 32) + strings.Repeat("]", 32)},
	}
	for _, tt := range tests {
		got, err := meter.Canonical([]byte(tt.in))
		if err != nil || string(got) != tt.want {
			t.Errorf("Canonical(%s) = %s, %v; want %s", tt.in, got, err, tt.want)
		}
	}
}

func TestCanonicalRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct{ in, says string }{
		{``, "ends too early"},
		{`{"a":1,"b":2,"a":1}`, `key "a" stands twice`},
		{`{"a":1,"\u0061":1}`, `key "a" stands twice`},
		{strings.Repeat("[", 33) + strings.Repeat("]", 33), "deeper than 32"},
		{strings.Repeat(`{"a":`, 33) + "1" + strings.Repeat("}", 33), "deeper than 32"},
		{`1e38`, "38 digits"},
		{`1e-39`, "38 digits"},
		{`1e999999999999`, "38 digits"},
		{`1e-999999999999`, "38 digits"},
		{`0.` + strings.Repeat("1", 39), "38 digits"},
		{strings.Repeat("1", 39), "38 digits"},
		{`01`, "malformed number"},
		{`-`, "malformed number"},
		{`1.`, "malformed number"},
		{`1e`, "malformed number"},
		{`.5`, "expected a JSON value"},
		{`+1`, "expected a JSON value"},
		{`NaN`, "expected a JSON value"},
		{`1 2`, "after the end"},
		{`{"a" 1}`, "expected ':'"},
		{`{"a":1,}`, "expected a string"},
		{`{a:1}`, "expected a string"},
		{`{"a":1`, "expected ',' or '}'"},
		{`[1,]`, "expected a JSON value"},
		{`[1`, "expected ',' or ']'"},
		{`"a`, "no end"},
		{`"\`, "no end"},
		{`"\u12`, "no end"},
		{`"\u12x4"`, "hexadecimal"},
		{`"\x"`, "unknown escape"},
		{`"\ud800"`, "surrogate"},
		{`"\ud800\u0041"`, "surrogate"},
		{`"\udc00"`, "surrogate"},
		{"\"\n\"", "control character"},
		{"\"\xff\"", "UTF-8"},
		{"\"\xed\xa0\x80\"", "UTF-8"},
		{"\ufeff{}", "expected a JSON value"},
	}
	for _, tt := range tests {
		got, err := meter.Canonical([]byte(tt.in))
		if !errors.Is(err, meter.ErrEvent) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("Canonical(%s) = %s, %v; want ErrEvent saying %q", tt.in, got, err, tt.says)
		}
	}
}

// drawJSON builds a document twice: once plain, once with other key order, spaces and number spellings.
func drawJSON(t *rapid.T, depth int) (plain, other string) {
	kind := rapid.IntRange(0, 5).Draw(t, "kind")
	if depth == 0 {
		kind = rapid.IntRange(0, 3).Draw(t, "leaf")
	}
	space := rapid.SampledFrom([]string{"", " ", "\n\t"}).Draw(t, "space")
	switch kind {
	case 0:
		w := rapid.SampledFrom([]string{"true", "false", "null"}).Draw(t, "word")
		return w, w + space
	case 1:
		n := rapid.IntRange(-1000, 1000).Draw(t, "n")
		digits, _ := json.Marshal(n)
		return string(digits), string(digits) + rapid.SampledFrom([]string{"", ".0", "e0", ".00e+0", ".0000e-0"}).Draw(t, "spelling")
	case 2, 3:
		s, _ := json.Marshal(rapid.StringN(0, 5, -1).Draw(t, "s"))
		return string(s), space + string(s)
	case 4:
		var a, b []string
		for range rapid.IntRange(0, 3).Draw(t, "items") {
			x, y := drawJSON(t, depth-1)
			a, b = append(a, x), append(b, y)
		}
		return "[" + strings.Join(a, ",") + "]", "[" + space + strings.Join(b, space+",") + space + "]"
	default:
		keys := rapid.SliceOfNDistinct(rapid.StringN(0, 3, -1), 0, 12, rapid.ID[string]).Draw(t, "keys")
		var a, b []string
		for _, k := range keys {
			x, y := drawJSON(t, depth-1)
			name, _ := json.Marshal(k)
			a, b = append(a, string(name)+":"+x), append(b, string(name)+space+":"+space+y)
		}
		b = rapid.Permutation(b).Draw(t, "order")
		return "{" + strings.Join(a, ",") + "}", "{" + strings.Join(b, ",") + space + "}"
	}
}

func TestCanonicalIgnoresSpelling(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		plain, other := drawJSON(t, 3)
		a, err := meter.Canonical([]byte(plain))
		if err != nil {
			t.Fatal(err)
		}
		b, err := meter.Canonical([]byte(other))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a, b) {
			t.Fatalf("%s and %s are equal documents, but became %s and %s", plain, other, a, b)
		}
	})
}

// decode reads JSON with the standard library, numbers as exact rationals.
func decode(t *testing.T, doc []byte) any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("the standard library refuses %q: %v", doc, err)
	}
	return exact(t, v)
}

func exact(t *testing.T, v any) any {
	t.Helper()
	switch v := v.(type) {
	case json.Number:
		r, ok := new(big.Rat).SetString(v.String())
		if !ok {
			t.Fatalf("not a number: %s", v)
		}
		return r.RatString()
	case []any:
		for i := range v {
			v[i] = exact(t, v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = exact(t, v[k])
		}
	}
	return v
}

func FuzzCanonical(f *testing.F) {
	for _, seed := range []string{
		`{"b":1,"a":[1.50,-0,1e3,"\u00e9\n"]}`, `{"a":{"a":{"a":null}}}`, `"\ud83d\ude00"`, ` [true , false] `, `-12.5E-1`, `{"a":1,"a":2}`, "\xff", `1e999`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		once, err := meter.Canonical(doc)
		if err != nil {
			if !errors.Is(err, meter.ErrEvent) {
				t.Fatalf("%v is not ErrEvent", err)
			}
			return
		}
		twice, err := meter.Canonical(once)
		if err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("not idempotent: %q, %q, %v", once, twice, err)
		}
		if diff := cmp.Diff(decode(t, doc), decode(t, once)); diff != "" {
			t.Fatalf("%q changed its meaning: %s", doc, diff)
		}
		var spaced bytes.Buffer
		if err := json.Indent(&spaced, doc, " ", "\t"); err != nil {
			t.Fatal(err)
		}
		if other, err := meter.Canonical(spaced.Bytes()); err != nil || !bytes.Equal(once, other) {
			t.Fatalf("white space matters: %q, %q, %v", once, other, err)
		}
		_, _ = meter.Value("data.a.b", doc)
		_, _, _ = meter.Text("data.a.b", doc)
		_, _, _ = meter.Member("a", doc)
	})
}

func BenchmarkCanonical(b *testing.B) {
	doc := []byte(`{"route":"GET /hello","status":200,"region":"eu-west-1","tokens":{"in":1200,"out":35.50},"user":"u_123456"}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := meter.Canonical(doc); err != nil {
			b.Fatal(err)
		}
	}
}
