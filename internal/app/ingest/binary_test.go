package ingest_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/tallystick/tallystick/internal/app/ingest"
	"github.com/tallystick/tallystick/internal/core/meter"
)

// headers are those of a good event with changes: name, value, and so on; "" removes one.
func headers(changes ...string) map[string][]string {
	h := map[string][]string{
		"Ce-Specversion": {"1.0"}, "Ce-Id": {"1"}, "Ce-Source": {"app"}, "Ce-Type": {"completion"}, "Ce-Subject": {"acme"},
		"Ce-Time": {"2026-03-30T11:00:00Z"}, "Ce-Other": {"x"}, "Authorization": {"Bearer %"}, "Traceparent": {"of the transport"},
	}
	for i := 0; i+1 < len(changes); i += 2 {
		if h[changes[i]] = []string{changes[i+1]}; changes[i+1] == "" {
			delete(h, changes[i])
		}
	}
	return h
}

func TestParseBinary(t *testing.T) {
	t.Parallel()
	want := meter.Event{Source: "app", ID: "1", Type: "completion", Subject: "acme", Time: now.Add(-time.Hour), Data: []byte(`{"tokens":1.5}`)}
	e, fault := ingest.ParseBinary(headers(), []byte(` {"tokens":1.50} `), now)
	if d := cmp.Diff(want, e); d != "" || fault != nil {
		t.Errorf("%s, %+v", d, fault)
	}
	for header, subject := range map[string]string{
		"Euro%20%E2%82%AC%20%F0%9F%98%80": "Euro € 😀", "%e2%82%ac": "€", "100%2525": "100%25", `"a \"b\" \\ %25"`: `a "b" \ %`, `""`: "", "ü": "ü", "a+b": "a+b", " padded ": "padded",
	} {
		e, fault := ingest.ParseBinary(headers("Ce-Subject", header), nil, now)
		if fault != nil || e.Subject != subject || e.Data != nil {
			t.Errorf("%q: %q, want %q; %+v", header, e.Subject, subject, fault)
		}
	}
	e, fault = ingest.ParseBinary(headers("Ce-Time", "", "Ce-Subject", "", "Ce-Traceparent", "00-1"), nil, now)
	if fault != nil || !e.Time.Equal(now) || e.Subject != "" || e.TraceParent != "00-1" {
		t.Errorf("%+v, %+v", e, fault)
	}
}

func TestRefusedBinary(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, value, data, pointer, rule string }{
		{"Ce-Id", "", "", "/id", "is missing"},
		{"Ce-Specversion", "0.3", "", "/specversion", `must be "1.0"`},
		{"Ce-Time", "noon", "", "/time", "must be an RFC 3339 time"},
		{"Ce-Subject", "50%", "", "/subject", "has a % without two hexadecimal digits behind it"},
		{"Ce-Subject", "%4", "", "/subject", "has a % without two hexadecimal digits behind it"},
		{"Ce-Subject", "%zz", "", "/subject", "has a % without two hexadecimal digits behind it"},
		{"Ce-Subject", "%ff", "", "/subject", "must be valid UTF-8"},
		{"Ce-Subject", "\xff", "", "/subject", "must be valid UTF-8"},
		{"Ce-Subject", `"a`, "", "/subject", "has no closing quote"},
		{"Ce-Subject", `"a" b`, "", "/subject", "has text after its closing quote"},
		{"ce-subject", "two", "", "/subject", "stands in more than one header"},
		{"Ce-Id", "1", `[1]`, "/data", "must be a JSON object"},
		{"Ce-Id", "1", `{"a":1,"a":2}`, "/data", "must be a JSON object: invalid event: data at byte 13: key \"a\" stands twice in one object"},
		{"Ce-Id", "1", `{"a":"` + strings.Repeat("x", ingest.MaxEvent) + `"}`, "", ""},
	} {
		_, fault := ingest.ParseBinary(headers(tt.name, tt.value), []byte(tt.data), now)
		if fault == nil || fault.Status != "rejected" || fault.Pointer != tt.pointer || tt.rule != "" && fault.Rule != tt.rule || fault.Fix == "" {
			t.Errorf("%s %q %.40s: %+v", tt.name, tt.value, tt.data, fault)
		}
	}
}

// percent encodes a value as CloudEvents' HTTP binding says.
func percent(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c == '"' || c == '%' || c > '~' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// FuzzBinary: no header value brings the decoder down, what is encoded by the rules comes back as it was, and structured mode
// with the same attributes says the same.
func FuzzBinary(f *testing.F) {
	f.Add("acme", `{"tokens":1}`)
	f.Add(`"a\"`, "")
	f.Add("%e2%82%ac %", "[]")
	f.Add("\x00\xff", "{")
	f.Fuzz(func(t *testing.T, value, data string) {
		if _, fault := ingest.ParseBinary(headers("Ce-Subject", value), []byte(data), now); fault != nil && (fault.Status != "rejected" || fault.Rule == "" || fault.Fix == "") {
			t.Fatalf("%+v", fault)
		}
		if !utf8.ValidString(value) || len(value) > ingest.MaxEvent/8 {
			return
		}
		e, fault := ingest.ParseBinary(headers("Ce-Subject", percent(value)), nil, now)
		if fault != nil || e.Subject != value {
			t.Fatalf("%q: %q, %+v", value, e.Subject, fault)
		}
	})
}
