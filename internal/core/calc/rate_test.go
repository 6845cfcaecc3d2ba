package calc_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/big"
	"os"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tallystick/tallystick/internal/core/calc"
)

var update = flag.Bool("update", false, "rewrite testdata/rate.golden")

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

func TestRate(t *testing.T) {
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

// TestRateAllocatesLittle holds what makes a hundred thousand ratings a second possible.
func TestRateAllocatesLittle(t *testing.T) {
	const most = 24
	request := []byte(graduatedRequest)
	if n := testing.AllocsPerRun(100, func() { calc.Answer(request) }); n > most {
		t.Errorf("%v allocations, at most %d wanted", n, most)
	}
}

// isRequest tells the requests of the golden file from its answers and comments.
func isRequest(line string) bool { return strings.HasPrefix(line, `{"op"`) }

func TestRateGolden(t *testing.T) {
	t.Parallel()
	const path = "testdata/rate.golden"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, `{"id"`) {
			continue
		}
		out.WriteString(line)
		if isRequest(line) {
			answer := calc.Answer([]byte(line))
			checkSum(t, answer)
			out.Write(append(answer, '\n'))
		}
	}
	if *update {
		if err := os.WriteFile(path, []byte(out.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want := strings.Split(string(text), "\n")
	for i, got := range strings.Split(out.String(), "\n") {
		if i >= len(want) || got != want[i] {
			t.Fatalf("line %d:\ngot  %s\nwant %s", i+1, got, want[min(i, len(want)-1)])
		}
	}
}

// checkSum holds an answer to the sum of its lines, unless a number in it is inexact.
func checkSum(t *testing.T, answer []byte) {
	t.Helper()
	type amount struct {
		Amount  string `json:"amount"`
		Inexact bool   `json:"inexact"`
	}
	var got struct {
		amount
		Error *calc.Fault `json:"error"`
		Lines []amount    `json:"lines"`
	}
	if err := json.Unmarshal(answer, &got); err != nil {
		t.Fatalf("%v in %s", err, answer)
	}
	if got.Error != nil {
		if got.Error.Code == "" || got.Error.Detail == "" {
			t.Errorf("a fault without code or detail: %s", answer)
		}
		return
	}
	sum, inexact := new(big.Rat), got.Inexact
	for _, line := range got.Lines {
		part, ok := new(big.Rat).SetString(line.Amount)
		if !ok {
			t.Fatalf("no number: %s", answer)
		}
		sum.Add(sum, part)
		inexact = inexact || line.Inexact
	}
	if want, ok := new(big.Rat).SetString(got.Amount); !ok || !inexact && want.Cmp(sum) != 0 {
		t.Errorf("the lines add up to %s: %s", sum.FloatString(10), answer)
	}
}

// TestArrivalDoesNotMatter shuffles events of different times.
func TestArrivalDoesNotMatter(t *testing.T) {
	t.Parallel()
	prices := []string{
		`{"model":"percentage","percent":"10","fixed":"0.1","free_events":3,"free_amount":"20","min":"0.5"}`,
		`{"model":"matrix","included":"7","cells":[{"when":{"region":"eu"},"unit_amount":"1"}],"unit_amount":"3"}`,
		`{"model":"package","size":"10","amount":"2","filter":{"region":"eu"}}`,
		`{"model":"dynamic","included":"4"}`,
	}
	rapid.Check(t, func(t *rapid.T) {
		p := rapid.SampledFrom(prices).Draw(t, "price")
		var events []string
		for i := range rapid.IntRange(0, 8).Draw(t, "events") {
			events = append(events, fmt.Sprintf(`{"amount":"%d","time":"2026-11-%02dT00:00:00Z","dimensions":{"region":%q}}`,
				rapid.IntRange(0, 30).Draw(t, "amount"), i+1, rapid.SampledFrom([]string{"eu", "us"}).Draw(t, "region")))
		}
		ask := func(events []string) string {
			return string(calc.Answer([]byte(`{"op":"rate","currency":"XXX","price":` + p + `,"events":[` + strings.Join(events, ",") + `]}`)))
		}
		if in, out := ask(events), ask(rapid.Permutation(events).Draw(t, "arrival")); in != out || !strings.Contains(in, `"lines"`) {
			t.Fatalf("in order %s\nas arrived %s", in, out)
		}
	})
}

func FuzzRate(f *testing.F) {
	text, err := os.ReadFile("testdata/rate.golden")
	if err != nil {
		f.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if isRequest(line) {
			f.Add([]byte(line))
		}
	}
	f.Fuzz(func(t *testing.T, request []byte) {
		answer := calc.Answer(request)
		if string(answer) != string(calc.Answer(request)) {
			t.Errorf("two answers to %s", request)
		}
		var head struct {
			Op string `json:"op"`
		}
		if json.Unmarshal(request, &head) == nil && head.Op == "rate" {
			checkSum(t, answer)
		} else if !json.Valid(answer) {
			t.Errorf("no JSON: %s", answer)
		}
	})
}
