// Package docs_test holds the documentation to the program: links lead somewhere, lists are complete, examples are accepted.
package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/declare"
	"github.com/tallystick/tallystick/internal/app/ingest"
)

const root = ".."

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func glob(t *testing.T, patterns ...string) (paths []string) {
	t.Helper()
	for _, pattern := range patterns {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		if len(found) == 0 {
			t.Fatalf("nothing is named %s", pattern)
		}
		paths = append(paths, found...)
	}
	return paths
}

// anchor is a heading's name in a link.
func anchor(heading string) string {
	s := regexp.MustCompile("[^a-z0-9 -]").ReplaceAllString(strings.ToLower(heading), "")
	return strings.ReplaceAll(s, " ", "-")
}

func TestLinks(t *testing.T) {
	t.Parallel()
	link := regexp.MustCompile(`\]\(([^)#\s]*)(?:#([^)\s]*))?\)`)
	heading := regexp.MustCompile(`(?m)^#+ (.*)$`)
	for _, path := range glob(t, "*.md", "docs/*.md", "docs/adr/*.md", "docs/formats/*.md", "deploy/*.md") {
		for _, m := range link.FindAllStringSubmatch(read(t, path[len(root)+1:]), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			target := filepath.Join(filepath.Dir(path), m[1])
			if m[1] == "" {
				target = path
			}
			info, err := os.Stat(target)
			if err != nil {
				t.Errorf("%s: link to %s: %v", path, m[1], err)
				continue
			}
			if m[2] == "" || info.IsDir() {
				continue
			}
			found := false
			for _, h := range heading.FindAllStringSubmatch(read(t, target[len(root)+1:]), -1) {
				found = found || anchor(h[1]) == m[2]
			}
			if !found {
				t.Errorf("%s: %s has no heading for #%s", path, target, m[2])
			}
		}
	}
}

// TestLists looks for what a source file declares in the page that lists it.
func TestLists(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ source, declares, page string }{
		{"internal/web/httpapi/codes.go", `code[A-Z]\w*\s+code = "(\w+)"`, "docs/errors.md"},
		{"cmd/tally/metrics.go", `"(tally_\w+)"`, "docs/operations.md"},
		{"cmd/tally/serve.go", `env:"(TALLY_\w+)"`, "docs/install-and-serve.md"},
		{"internal/cli/commands.go", "(?m)^\\t[A-Z]\\w+ +([a-z]+)Cmd +`cmd", "docs/cli.md"},
		{"internal/app/declare/form.go", `\{"(\w+)", "`, "docs/catalog.md"},
		{"internal/app/declare/form_limits.go", `\{"(\w+)", "`, "docs/catalog.md"},
		{"internal/app/declare/form_price.go", `\{"(\w+)", "`, "docs/catalog.md"},
		{"internal/app/declare/form_billing.go", `\{"(\w+)", "`, "docs/catalog.md"},
		{"internal/app/declare/form_gateway.go", `\{"(\w+)", "`, "docs/catalog.md"},
	} {
		declared := regexp.MustCompile(c.declares).FindAllStringSubmatch(read(t, c.source), -1)
		if len(declared) < 5 {
			t.Errorf("%s: only %d of %s found", c.source, len(declared), c.declares)
		}
		page := read(t, c.page)
		for _, m := range declared {
			if !strings.Contains(page, m[1]) {
				t.Errorf("%s does not mention %s of %s", c.page, m[1], c.source)
			}
		}
	}
}

func TestExamplesAreAccepted(t *testing.T) {
	t.Parallel()
	for _, path := range glob(t, "examples/*.yaml", "examples/billing/*.yaml") {
		if _, faults := declare.Decode(path, []byte(read(t, path[len(root)+1:]))); len(faults) > 0 {
			t.Error(faults)
		}
	}
}

func TestEventsOfExamplesAreRead(t *testing.T) {
	t.Parallel()
	for line := range strings.Lines(read(t, "examples/events.ndjson")) {
		if _, fault := ingest.ParseCloudEvent([]byte(line), time.Unix(0, 0)); fault != nil {
			t.Errorf("%s: %+v", line, fault)
		}
	}
	header, _, _ := strings.Cut(read(t, "examples/usage.csv"), "\n")
	mapping := regexp.MustCompile(`--map (\S+)`).FindStringSubmatch(read(t, "docs/usage-events.md"))
	if mapping == nil {
		t.Fatal("the example of a table has no mapping")
	}
	for pair := range strings.SplitSeq(mapping[1], ",") {
		if _, column, _ := strings.Cut(pair, "="); !slices.Contains(strings.Split(header, ","), column) {
			t.Errorf("the table has no column %q", column)
		}
	}
}
