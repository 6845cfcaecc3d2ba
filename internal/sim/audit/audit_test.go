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
		if err := l.Admitted(1, "g", x.id, "c", at, at, x.cost); (err == nil) != x.ok {
			t.Errorf("%s: %v", x.id, err)
		}
	}
	l.Released("g", "a")
	if err := l.Admitted(1, "g", "d", "c", at, at, 1); err != nil {
		t.Error(err)
	}
}

// TestGatewayDiesInASettlement: what was to be settled may be stored as well as what was reserved, and the rest is free again.
func TestGatewayDiesInASettlement(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for value, ok := range map[int64]bool{0: false, 1: true, 2: false, 4: true} {
		l := audit.New()
		l.Customer("c", 0)
		l.Limit("c", "daily", audit.Day, 4, at)
		if err := l.Admitted(1, "g", "a", "c", at, at, 4); err != nil {
			t.Fatal(err)
		}
		l.Ending("g", "a", 1)
		l.Crashed(1, false)
		if err := l.Admitted(1, "g", "b", "c", at, at, 3); err != nil {
			t.Error(err)
		}
		l.Settled("g", "b", 3)
		err := l.Journal([]audit.Stored{
			{Source: "g", ID: "a", Customer: "c", At: at.UnixMicro(), Value: value}, {Source: "g", ID: "b", Customer: "c", At: at.UnixMicro(), Value: 3},
		}, true)
		if (err == nil) != ok {
			t.Errorf("stored for %d: %v", value, err)
		}
	}
}

// TestClaimedRequestCounts: a request in whose admission its gateway died, and that is stored, has drawn on the limits.
func TestClaimedRequestCounts(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	l := audit.New()
	l.Customer("c", 0)
	l.Limit("c", "daily", audit.Day, 4, at)
	if err := l.Admitted(1, "g", "a", "c", at, at, 4); err != nil {
		t.Fatal(err)
	}
	l.Settled("g", "a", 4)
	l.Died("g", "c", at, at, 1)
	if err := l.Journal([]audit.Stored{{Source: "g", ID: "b", Customer: "c", At: at.UnixMicro(), Value: 1}}, false); err == nil {
		t.Error("one above the limit is not seen")
	}
}

// TestReportsNobodyAnswered: of two contents under one name either may be stored, until an answer says which.
func TestReportsNobodyAnswered(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, x := range []struct {
		then   string // answer to a report of 2; "": none
		stored int64
		ok     bool
	}{{"", 2, true}, {"", 3, true}, {"", 4, false}, {"duplicate", 2, true}, {"duplicate", 3, false}, {"conflict", 3, true}, {"conflict", 2, false}} {
		l := audit.New()
		l.Customer("c", 0)
		for _, r := range []struct {
			value  int64
			answer string
		}{{2, ""}, {3, ""}, {2, x.then}} {
			if err := l.Reported("s", "a", "c", at, r.value, r.answer); err != nil {
				t.Fatal(err)
			}
		}
		err := l.Journal([]audit.Stored{{Source: "s", ID: "a", Customer: "c", At: at.UnixMicro(), Value: x.stored}}, true)
		if (err == nil) != x.ok {
			t.Errorf("%+v: %v", x, err)
		}
	}
}
