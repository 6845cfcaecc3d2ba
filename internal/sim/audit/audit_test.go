package audit_test

import (
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/sim/audit"
)

// TestSharesNothing: the auditor imports the standard library alone.
func TestSharesNothing(t *testing.T) {
	t.Parallel()
	names, err := filepath.Glob("*.go")
	if err != nil || len(names) < 3 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range f.Imports {
			if path, err := strconv.Unquote(i.Path.Value); err != nil || strings.Contains(path, ".") {
				t.Errorf("%s imports %s", name, i.Path.Value)
			}
		}
	}
}

// TestSeesALimitPassed: one unit above a limit is a fault, what was given back does not count.
func TestSeesALimitPassed(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	l := audit.New()
	l.Customer("c", 0)
	l.Limit("c", "daily", audit.Day, 3, at)
	for _, x := range []struct {
		id   string
		cost int64
		ok   bool
	}{{"a", 2, true}, {"b", 1, true}, {"c", 1, false}} {
		if err := l.Admitted(1, "g", x.id, "c", at, x.cost); (err == nil) != x.ok {
			t.Errorf("%s: %v", x.id, err)
		}
	}
	l.Released("g", "a")
	if err := l.Admitted(1, "g", "d", "c", at, 1); err != nil {
		t.Error(err)
	}
}
