package docs_test

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tallystick/tallystick/internal/core/calc"
)

// TestCalcExamples runs the examples of the pages: of each pair of lines the first is a question, the second its answer.
func TestCalcExamples(t *testing.T) {
	t.Parallel()
	ran := map[string]int{}
	for _, page := range []string{"docs/calc.md"} {
		for _, block := range regexp.MustCompile("(?s)```calc\n(.*?)```").FindAllStringSubmatch(read(t, page), -1) {
			lines := strings.Split(strings.TrimSpace(block[1]), "\n")
			if len(lines)%2 != 0 {
				t.Fatalf("%s: an example without an answer: %s", page, lines[len(lines)-1])
			}
			for i := 0; i < len(lines); i += 2 {
				if diff := cmp.Diff(lines[i+1], string(calc.Answer([]byte(lines[i])))); diff != "" {
					t.Errorf("%s: %s\n%s", page, lines[i], diff)
				}
				var request struct{ Op string }
				_ = json.Unmarshal([]byte(lines[i]), &request) // one of them is no JSON
				ran[request.Op]++
			}
		}
	}
	for _, op := range []string{"rate", "prorate", "tax", "allocate", "burn", "aggregate"} {
		if ran[op] < 1 {
			t.Errorf("%d examples of %s", ran[op], op)
		}
	}
}
