package ingest_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallystick/tallystick/internal/app/ingest"
	"github.com/tallystick/tallystick/internal/core/meter"
)

const good = `{"specversion":"1.0","id":"1","source":"app","type":"completion","subject":"acme","time":"2026-03-30T13:59:59.1234567+02:00",
	"datacontenttype":"application/json","dataschema":"ignored","comexample":7,"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
	"data":{"tokens":12.50,"a":[1e2]}}`

func TestParseCloudEvent(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]meter.Event{
		good: {
			ID: "1", Source: "app", Type: "completion", Subject: "acme", Time: time.Date(2026, 3, 30, 11, 59, 59, 123456000, time.UTC),
			Data: []byte(`{"a":[100],"tokens":12.5}`), TraceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		},
		` {"type":"t","source":"s","id":"i","specversion":"1.0"} `: {ID: "i", Source: "s", Type: "t", Time: now},
		`{"type":"t","source":"s","id":"i","specversion":"1.0","subject":null,"time":null,"data":null,"data_base64":null,"datacontenttype":null,"traceparent":null}`: {
			ID: "i", Source: "s", Type: "t", Time: now,
		},
	} {
		e, fault := ingest.ParseCloudEvent([]byte(raw), now.Add(999*time.Nanosecond))
		if fault != nil {
			t.Errorf("%s: %+v", raw, fault)
			continue
		}
		if d := cmp.Diff(want, e); d != "" {
			t.Errorf("%s: %s", raw, d)
		}
	}
}

func TestRefusedCloudEvents(t *testing.T) {
	t.Parallel()
	with := func(was, is string) string {
		if !strings.Contains(good, was) {
			t.Fatalf("%s is not in the example", was)
		}
		return strings.Replace(good, was, is, 1)
	}
	for raw, pointer := range map[string]string{
		"":                                    "",
		"null":                                "",
		"[]":                                  "",
		`"text"`:                              "",
		`{"id":`:                              "",
		good + "{}":                           "",
		with(`"id":"1"`, `"id":"1","id":"1"`): "",
		with(`"a":[1e2]`, `"tokens":1`):       "",
		with(`[1e2]`, strings.Repeat("[", 40)+strings.Repeat("]", 40)):  "",
		with(`"ignored"`, `"`+strings.Repeat("x", ingest.MaxEvent)+`"`): "",
		with("acme", "\xff"):                                                   "",
		with(`"1.0"`, `"0.3"`):                                                 "/specversion",
		with(`"1.0"`, `1.0`):                                                   "/specversion",
		with(`"specversion":"1.0",`, ``):                                       "/specversion",
		with(`"id":"1",`, ``):                                                  "/id",
		with(`"id":"1"`, `"id":1`):                                             "/id",
		with(`"source":"app",`, ``):                                            "/source",
		with(`"type":"completion"`, `"type":null`):                             "/type",
		with(`"acme"`, `{}`):                                                   "/subject",
		with(`application/json`, `text/plain`):                                 "/datacontenttype",
		with(`"data":{`, `"data_base64":"e30=","data":{`):                      "/data_base64",
		with(`{"tokens":12.50,"a":[1e2]}`, `7`):                                "/data",
		with(`{"tokens":12.50,"a":[1e2]}`, `[7]`):                              "/data",
		with(`2026-03-30T13:59:59.1234567+02:00`, `today`):                     "/time",
		with(`2026-03-30T13:59:59.1234567+02:00`, ``):                          "/time",
		with(`2026-03-30T`, `2026-03-30 `):                                     "/time",
		with(`T13:59`, `T1:59`):                                                "/time",
		with(`59.1234567`, `59,1234567`):                                       "/time",
		with(`2026-03-30T13:59:59.1234567+02:00`, `0001-01-01T00:00:00Z`):      "/time",
		with(`"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"`, `0`): "/traceparent",
	} {
		_, fault := ingest.ParseCloudEvent([]byte(raw), now)
		if fault == nil {
			t.Errorf("%.300s: accepted", raw)
			continue
		}
		if fault.Status != "rejected" || fault.Pointer != pointer || fault.Rule == "" || fault.Fix == "" {
			t.Errorf("%.300s: %+v, want pointer %q", raw, fault, pointer)
		}
	}
}

// FuzzParseCloudEvent: what parses is written again and reads the same, and ingest judges it without an error.
func FuzzParseCloudEvent(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte(`{"type":"t","source":"s","id":"i","specversion":"1.0"}`))
	f.Add([]byte(`{"specversion":"1.0","id":"","source":"gateway/1","type":"completion","time":"9999-12-31T23:59:59Z","data":{"tokens":1e37}}`))
	f.Add([]byte(`{"specversion":"1.0","id":"1","id":"2"}`))
	f.Add([]byte(`{"specversion":"1.0","data_base64":"e30="}`))
	w := newWorld(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, fault := ingest.ParseCloudEvent(raw, now)
		if fault != nil {
			if fault.Status != "rejected" || fault.Rule == "" || fault.Fix == "" {
				t.Fatalf("fault %+v", fault)
			}
			return
		}
		again := map[string]any{
			"specversion": "1.0", "id": e.ID, "source": e.Source, "type": e.Type, "subject": e.Subject,
			"time": e.Time.Format(time.RFC3339Nano), "traceparent": e.TraceParent,
		}
		if e.Data != nil {
			again["data"] = json.RawMessage(e.Data)
		}
		text, err := json.Marshal(again)
		if err != nil {
			t.Fatal(err)
		}
		if len(text) <= ingest.MaxEvent {
			second, fault := ingest.ParseCloudEvent(text, now)
			if fault != nil {
				t.Fatalf("%s: %+v", text, fault)
			}
			if d := cmp.Diff(e, second); d != "" || e.Digest() != second.Digest() {
				t.Fatalf("%s read again: %s", raw, d)
			}
		}
		out, err := w.Report(t.Context(), "fuzz", []meter.Event{e})
		if err != nil || len(out) != 1 || out[0].Status == "" {
			t.Fatalf("%s: %v, %v", raw, out, err)
		}
	})
}
