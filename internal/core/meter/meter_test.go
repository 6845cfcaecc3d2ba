package meter_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/core/money"
)

func TestIdentityAndDigest(t *testing.T) {
	t.Parallel()
	e := meter.Event{Source: "s", ID: "id", Type: "request", Subject: "cus_1", Data: []byte(`{"a":1}`)}
	sized := func(parts ...string) string {
		var b strings.Builder
		for _, p := range parts {
			b.WriteString("\x00\x00\x00\x00\x00\x00\x00")
			b.WriteByte(byte(len(p)))
			b.WriteString(p)
		}
		sum := sha256.Sum256([]byte(b.String()))
		return hex.EncodeToString(sum[:16])
	}
	id, digest := e.Identity(), e.Digest()
	if got, want := hex.EncodeToString(id[:]), sized("s", "id"); got != want {
		t.Errorf("Identity = %s, want %s", got, want)
	}
	if got, want := hex.EncodeToString(digest[:]), sized("request", "cus_1", `{"a":1}`); got != want {
		t.Errorf("Digest = %s, want %s", got, want)
	}

	same := e
	same.Time, same.TraceParent = time.UnixMicro(5), "00-1-2-03"
	if same.Identity() != e.Identity() || same.Digest() != e.Digest() {
		t.Error("time and trace must lie outside identity and digest")
	}
	for name, change := range map[string]func(*meter.Event){
		"type": func(e *meter.Event) { e.Type = "x" }, "subject": func(e *meter.Event) { e.Subject = "x" },
		"data": func(e *meter.Event) { e.Data = nil }, "border": func(e *meter.Event) { e.Type, e.Subject = "requestc", "us_1" },
	} {
		other := e
		change(&other)
		if other.Digest() == e.Digest() || other.Identity() != e.Identity() {
			t.Errorf("changed %s: digest must change, identity must not", name)
		}
	}
	if meter.IdentityOf("ab", "c") == meter.IdentityOf("a", "bc") {
		t.Error("the border between source and id is lost")
	}
}

func TestValue(t *testing.T) {
	t.Parallel()
	doc := `{"a":{"b":1.5,"c":"20","deep":{"x":-3}},"b":"x","n":null,"tokens":1200}`
	tests := []struct{ path, doc, want, says string }{
		{"data.tokens", doc, "1200", ""},
		{"data.a.b", doc, "1.5", ""},
		{"data.a.c", doc, "20", ""},
		{"data.a.deep.x", doc, "-3", ""},
		{"data", `7`, "7", ""},
		{"data.a", doc, "", "number or a decimal string"},
		{"data.n", doc, "", "number or a decimal string"},
		{"data.b", doc, "", "not a decimal"},
		{"data.missing", doc, "", "nothing stands at data.missing"},
		{"data.tokens.x", doc, "", "nothing stands"},
		{"data.x", `{}`, "", "nothing stands"},
		{"data.x", ``, "", "nothing stands"},
		{"data", ``, "", "number or a decimal string"},
		{"tokens", doc, "", "does not begin"},
		{"data.x", `{"a" 1}`, "", "expected ':'"},
		{"data.x", `{"a":`, "", "ends too early"},
		{"data.x", `{1`, "", "expected a string"},
	}
	for _, tt := range tests {
		got, err := meter.Value(tt.path, []byte(tt.doc))
		if tt.says != "" {
			if !errors.Is(err, meter.ErrEvent) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("Value(%s, %s) = %v, %v; want ErrEvent saying %q", tt.path, tt.doc, got, err, tt.says)
			}
			continue
		}
		if err != nil || got.String() != tt.want {
			t.Errorf("Value(%s, %s) = %v, %v; want %s", tt.path, tt.doc, got, err, tt.want)
		}
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	doc := `{"a":{"b":1.5,"c":"x"},"a.b":true,"n":null,"s":"","z":[1]}`
	for path, want := range map[string]string{
		"data.a.b": "1.5", "data.a.c": "x", "data.s": "", "data.n": "none", "data.missing": "none", "data.a.b.c": "none",
		"data.a": "an error", "data.z": "an error", "a": "an error",
	} {
		got, ok, err := meter.Text(path, []byte(doc))
		switch {
		case errors.Is(err, meter.ErrEvent):
			got = "an error"
		case err != nil:
			t.Errorf("%s: %v", path, err)
		case !ok:
			got = "none"
		}
		if got != want {
			t.Errorf("Text(%s) = %q, %v; want %q", path, got, err, want)
		}
	}
	if got, ok, err := meter.Member("a.b", []byte(doc)); got != "true" || !ok || err != nil {
		t.Errorf("Member: %q, %v, %v", got, ok, err)
	}
	if _, ok, err := meter.Text("data.x", nil); ok || err != nil {
		t.Errorf("Text without data: %v, %v", ok, err)
	}
}

func TestAggregationWords(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{"": true}
	for _, a := range meter.Aggregations() {
		if seen[a.String()] {
			t.Errorf("aggregation %d is called %q", a, a)
		}
		seen[a.String()] = true
	}
	if meter.Aggregation(0).String() != "" || meter.Aggregation(99).String() != "" || meter.TimeWeighted.String() != "time_weighted" {
		t.Error("unknown aggregations have no word")
	}
}

func TestRollup(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var all, left, right meter.Rollup
		for i := range rapid.IntRange(0, 20).Draw(t, "events") {
			origin := rapid.SampledFrom([]meter.Origin{meter.Admitted, meter.Reported}).Draw(t, "origin")
			v := money.FromScaled(rapid.Int64Range(-1e12, 1e12).Draw(t, "value"), rapid.IntRange(0, 9).Draw(t, "scale"))
			part := &left
			if i%3 == 0 {
				part = &right
			}
			var err, err2 error
			all, err = all.Fold(origin, v)
			*part, err2 = part.Fold(origin, v)
			if err != nil || err2 != nil {
				t.Fatal(err, err2)
			}
		}
		merged, err := left.Merge(right)
		if err != nil {
			t.Fatal(err)
		}
		same := cmp.Comparer(func(a, b money.Decimal) bool { return a.Cmp(b) == 0 })
		if diff := cmp.Diff(all, merged, same); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestRollupOverflow(t *testing.T) {
	t.Parallel()
	big := money.MustDecimal(strings.Repeat("9", 38))
	one := money.FromInt(1)
	r, err := meter.Rollup{}.Fold(meter.Reported, big)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := r.Fold(meter.Admitted, one); !errors.Is(err, money.ErrOverflow) || got.Sum.Cmp(big) != 0 {
		t.Errorf("Fold past 38 digits: %v, %v", got, err)
	}
	if _, err := r.Merge(r); !errors.Is(err, money.ErrOverflow) {
		t.Errorf("Merge past 38 digits: %v", err)
	}
	full := meter.Rollup{Count: math.MaxInt64}
	if _, err := full.Fold(meter.Admitted, one); !errors.Is(err, money.ErrOverflow) {
		t.Errorf("Fold past the last count: %v", err)
	}
	if _, err := full.Merge(r); !errors.Is(err, money.ErrOverflow) {
		t.Errorf("Merge past the last count: %v", err)
	}
	low, _ := meter.Rollup{}.Fold(meter.Admitted, big.Neg())
	only, err := r.Merge(low)
	if err != nil {
		t.Fatal(err)
	}
	if only.Reported.Cmp(big) != 0 || !only.Sum.IsZero() || only.Count != 2 {
		t.Errorf("reported part: %+v", only)
	}
	// Reported alone overflows while Sum does not.
	if _, err := only.Fold(meter.Reported, big); !errors.Is(err, money.ErrOverflow) {
		t.Errorf("Fold past 38 digits of reported: %v", err)
	}
}
