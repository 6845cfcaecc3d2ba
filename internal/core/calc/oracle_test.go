package calc_test

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/tallystick/tallystick/internal/core/calc"
)

// TestOracle compares answers with those of a calculator that was written from the rules alone, in another language: each line of
// the file has a rule, a request that shows it, and the fields that the answer must have. A null is a field that it must not have.
func TestOracle(t *testing.T) {
	t.Parallel()
	file, err := os.ReadFile("testdata/oracle.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	lines := 0
	for line := range strings.Lines(string(file)) {
		lines++
		var c struct {
			Rule    string          `json:"rule"`
			Request json.RawMessage `json:"request"`
			Want    map[string]any  `json:"want"`
		}
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			t.Fatalf("line %d: %v", lines, err)
		}
		answer := calc.Answer(c.Request)
		var got map[string]any
		if err := json.Unmarshal(answer, &got); err != nil {
			t.Fatalf("line %d: %v", lines, err)
		}
		for field, want := range c.Want {
			if !reflect.DeepEqual(got[field], want) {
				t.Errorf("line %d, %s\n%s\ngot  %s\nwant %s: %v", lines, c.Rule, c.Request, answer, field, want)
			}
		}
	}
	if lines < 200 {
		t.Errorf("%d lines", lines)
	}
}
