package ingest_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallystick/tallystick/internal/app/ingest"
)

const usual = `{"specversion":"1.0","id":"0192f0c1-7a63-7cc0-9c0f-3b1f5f0a1b2c","source":"app","type":"completion","subject":"acme",` +
	`"time":"2026-03-30T11:59:59.123Z","data":{"tokens":12,"model":"large","cached":false}}`

// seeds are texts at the borders of the quick form.
func seeds() []string {
	with := func(was, is string) string { return strings.Replace(usual, was, is, 1) }
	return []string{
		usual, good, " " + usual + " ", usual + "x", usual[:len(usual)-1], with(`"id"`, `"i\u0064"`), with("acme", `ac\u006de`), with("acme", "ü"), with("acme", "\xff"),
		with("acme", "a\x00b"), with("acme", "\x7f"), with(`"subject"`, `"id":"2","subject"`), with(`"subject"`, `"x":"1","x":"2","subject"`), with(`"subject"`, `"x":1,"subject"`),
		with(`"subject"`, `"data_base64":"e30=","subject"`), with(`"subject"`, `"datacontenttype":"","subject"`), with(`"subject"`, `"datacontenttype":"text/xml","subject"`),
		with(`"acme"`, `""`), with(`"acme"`, "null"), with(`"acme"`, "1"), with(`{"tokens":12,`, `{"tokens":12,"tokens":1,`), with(`12,`, `1e2,"a":[{"b":[]}],`), with(`12`, `1e99`), with("12", strings.Repeat("[", 30)+strings.Repeat("]", 30)),
		with("12", strings.Repeat("[", 31)+strings.Repeat("]", 31)), with(`2026-03-30T11`, `1969-03-30T11`), with(`2026-03-30T11`, `2026-03-30T1`), with(".123Z", ",123Z"), with(`"2026-03-30T11:59:59.123Z"`, `""`),
		with(`"specversion":"1.0",`, ""), with(`"1.0"`, `"0.3"`), with(`"type":"completion",`, ""), with(`{"tokens":12,"model":"large","cached":false}`, "[]"), with("large", strings.Repeat("x", ingest.MaxEvent)),
		with("large", strings.Repeat("x", ingest.MaxEvent-len(usual))), with("large", strings.Repeat("x", ingest.MaxEvent-len(usual)+5)), with("large", strings.Repeat("x", ingest.MaxEvent-len(usual)+6)),
		"", "null", "[]", "{}", `{"a":"b",}`, `{,}`, `{"a" : "b" , "c":"d"}`, "\ufeff" + usual,
	}
}

// FuzzDecoder: the quick decoder and the plain one agree on every input, in what they take and what they make of it.
func FuzzDecoder(f *testing.F) {
	for _, s := range seeds() {
		f.Add(s)
	}
	at := now.Add(time.Nanosecond)
	f.Fuzz(func(t *testing.T, raw string) {
		want, wantFault := ingest.ParseCloudEvent([]byte(raw), at)
		d := ingest.NewDecoder(at)
		for range 2 { // the second time the decoder knows the texts
			got, gotFault := d.Event([]byte(raw))
			if diff := cmp.Diff(want, got); diff != "" || !cmp.Equal(wantFault, gotFault) {
				t.Fatalf("%q: %s, fault %+v, want %+v", raw, diff, gotFault, wantFault)
			}
		}
		// What the quick form takes is a JSON value as encoding/json sees it, wherever it ends.
		e, n, ok := d.Leading([]byte(raw))
		if !ok {
			return
		}
		var value json.RawMessage
		if err := json.NewDecoder(strings.NewReader(raw)).Decode(&value); err != nil || string(value) != raw[:n] {
			t.Fatalf("%q: took %q, encoding/json %q, %v", raw, raw[:n], value, err)
		}
		plain, fault := ingest.ParseCloudEvent(value, at)
		if diff := cmp.Diff(plain, e); fault != nil || diff != "" || e.Digest() != plain.Digest() {
			t.Fatalf("%q: %s, %+v", raw, diff, fault)
		}
	})
}

// TestUsualEventsAreQuick: or the hot path would be the slow one, and nobody would see it.
func TestUsualEventsAreQuick(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{
		usual, strings.Replace(usual, `"subject"`, `"dataschema":"/s/1","partitionkey":"7","subject"`, 1), strings.ReplaceAll(usual, `,"`, ",\n \""),
		strings.Replace(usual, "acme", "Zoë", 1), `{"type":"t","source":"s","id":"i","specversion":"1.0"}`,
	} {
		if _, n, ok := ingest.NewDecoder(now).Leading([]byte(raw + ",")); !ok || n != len(raw) {
			t.Errorf("%s: %d, %v", raw, n, ok)
		}
	}
}

func TestManyEventsKeepTheirData(t *testing.T) {
	t.Parallel()
	d := ingest.NewDecoder(now)
	var got []string
	var kept [][]byte
	for i := range 3000 {
		e, fault := d.Event([]byte(strings.Replace(usual, "large", strings.Repeat("y", i), 1)))
		if fault != nil {
			t.Fatal(fault)
		}
		kept, got = append(kept, e.Data), append(got, string(e.Data))
	}
	for i := range kept {
		if string(kept[i]) != got[i] {
			t.Fatalf("event %d has lost its data", i)
		}
	}
}

func BenchmarkDecoder(b *testing.B) {
	raw := []byte(usual)
	b.Run("plain", func(b *testing.B) {
		for b.Loop() {
			if _, fault := ingest.ParseCloudEvent(raw, now); fault != nil {
				b.Fatal(fault)
			}
		}
	})
	b.Run("quick", func(b *testing.B) {
		d := ingest.NewDecoder(now)
		for b.Loop() {
			if _, fault := d.Event(raw); fault != nil {
				b.Fatal(fault)
			}
		}
	})
}
