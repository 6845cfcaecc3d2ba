package docs_test

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/tallystick/tallystick/internal/core/calc"
)

// TestPricingExamples calculates the examples of the page: each block is a request and its answer.
func TestPricingExamples(t *testing.T) {
	t.Parallel()
	blocks := regexp.MustCompile("(?s)```json\n(.*?)```").FindAllStringSubmatch(read(t, "docs/pricing.md"), -1)
	if len(blocks) < 20 {
		t.Fatalf("the page has %d examples only", len(blocks))
	}
	for _, block := range blocks {
		var request, want json.RawMessage
		in := json.NewDecoder(strings.NewReader(block[1]))
		if err := in.Decode(&request); err != nil {
			t.Fatalf("%v in %s", err, block[1])
		}
		if err := in.Decode(&want); err != nil {
			t.Errorf("no answer to %s: %v", request, err)
		}
		var line bytes.Buffer
		if err := json.Compact(&line, want); err != nil {
			t.Errorf("%v in %s", err, want)
		}
		if got := calc.Answer(request); string(got) != line.String() {
			t.Errorf("%s\ngot  %s\nwant %s", request, got, line.String())
		}
	}
}
