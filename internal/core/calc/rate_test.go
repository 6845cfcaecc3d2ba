package calc_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/tallystick/tallystick/internal/core/calc"
)

// graduatedRequest is what the speed of ratings is measured on.
const graduatedRequest = `{"op":"rate","id":"r-1","currency":"USD","price":{"model":"graduated","tiers":[` +
	`{"up_to":"1000","unit_amount":"0"},{"up_to":"10000","unit_amount":"0.0004","flat_amount":"2"},{"unit_amount":"0.0002"}]},"quantity":"123456"}`

// BenchmarkRate is one graduated rating, JSON to JSON.
func BenchmarkRate(b *testing.B) {
	request := []byte(graduatedRequest)
	b.ReportAllocs()
	for b.Loop() {
		if answer := calc.Answer(request); len(answer) < 100 {
			b.Fatalf("%s", answer)
		}
	}
}

func TestBenchmarkedRequest(t *testing.T) {
	t.Parallel()
	want := `{"id":"r-1","amount":"28.2912","rounded":"28.29","lines":[` +
		`{"kind":"usage","tier":1,"quantity":"1000","unit_amount":"0","amount":"0"},` +
		`{"kind":"usage","tier":2,"quantity":"9000","unit_amount":"0.0004","amount":"3.6"},` +
		`{"kind":"flat","tier":2,"quantity":"1","unit_amount":"2","amount":"2"},` +
		`{"kind":"usage","tier":3,"quantity":"113456","unit_amount":"0.0002","amount":"22.6912"}]}`
	if got := string(calc.Answer([]byte(graduatedRequest))); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

var _ = json.Valid
var _ = strings.Repeat
