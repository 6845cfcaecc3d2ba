package arch_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"testing"
)

const (
	fileLines    = 500  // of hand-written, non-test code
	packageLines = 2500 // the same, over a package
)

// longer lists what may exceed a limit, with the limit that holds instead and the reason.
var longer = map[string]struct {
	lines  int
	reason string
}{
	"internal/web/httpapi":            {8000, "one file a resource, each with its documents; a part of them would be no noun, and all share one table of problems"},
	"internal/store/sqlite":           {3900, "one file a contract; all share one connection, its transactions and its errors"},
	"internal/app/authority":          {3300, "one authority: counters, leases, caps and the wallet are decided together, a customer at a time"},
	"internal/app/bill":               {4700, "one statement: what is expected, what was billed, its usage, its credits; closes, previews, traces and books are made of it"},
	"cmd/tally":                       {6900, "assembly of all roles, one file a service: what each is given, its loops, its metrics; the demo and its story; backups and moves, which name the drivers of both ends"},
	"internal/app/govern":             {3700, "one directory: what operators write, subscriptions over time among it, the picture that the hot path reads, its changes and its mirror in other processes"},
	"internal/cli":                    {4600, "one file a group of commands, which share how a document is asked for and printed; what has rules of its own is a package below"},
	"internal/app/enforce/lessee":     {2800, "one holder: counters, sets, draws and what comes back work on the same state of a customer"},
	"internal/store/storetest":        {4000, "one suite a contract; a driver runs them all"},
	"internal/app/enforce":            {2800, "one enforcer: admission, leases, the spool's shipping and its recovery work on the same state of a customer"},
	"internal/store/postgres":         {4400, "as for sqlite, with migrations, who leads, and what is told of changes"},
	"internal/store/postgres/journal": {3600, "one journal, as for files: groups, what they stage and write, views, scans, revisions and erasures share its tables"},
	"internal/store/file":             {3300, "one journal: queue, commits, recovery, revisions, sealing and erasure work on the same fields; files, blocks and index are packages below"},
}

var generated = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)

// source is one Go file of ours; its path is below the repository's root.
type source struct {
	path string
	text []byte
}

// sources reads the Go files whose base name is wanted.
func sources(t *testing.T, wanted func(name string) bool) []source {
	t.Helper()
	var all []source
	tree := os.DirFS(root)
	err := fs.WalkDir(tree, ".", func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if file != "." && (name[0] == '.' || slices.Contains([]string{"bin", "node_modules", "testdata", "tally-data"}, name)) {
				return fs.SkipDir
			}
			return nil
		}
		if path.Ext(name) != ".go" || !wanted(name) {
			return nil
		}
		text, err := fs.ReadFile(tree, file)
		all = append(all, source{file, text})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Fatal("no Go file found")
	}
	return all
}

func isTest(name string) bool { return regexp.MustCompile(`_test\.go$`).MatchString(name) }

func TestLength(t *testing.T) {
	t.Parallel()
	check := func(name string, lines, limit int) {
		if e, ok := longer[name]; ok {
			limit = e.lines
		}
		if lines > limit {
			t.Errorf("%s has %d lines, more than %d", name, lines, limit)
		}
	}
	sums := map[string]int{}
	for _, s := range sources(t, func(name string) bool { return !isTest(name) }) {
		if generated.Match(s.text) {
			continue
		}
		lines := bytes.Count(s.text, []byte("\n"))
		sums[path.Dir(s.path)] += lines
		check(s.path, lines, fileLines)
	}
	for dir, lines := range sums {
		check(dir, lines, packageLines)
	}
	for name, e := range longer {
		if e.reason == "" {
			t.Errorf("%s may be longer without a reason", name)
		}
		if _, err := os.Stat(path.Join(root, name)); err != nil {
			t.Errorf("%s may be longer but is gone", name)
		}
	}
}

// TestScratchKeepsNothing: what a server writes must outlive a power cut.
func TestScratchKeepsNothing(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t, func(name string) bool { return !isTest(name) }) {
		if path.Dir(s.path) != "internal/sim" && bytes.Contains(s.text, []byte("sqlite.Scratch(")) {
			t.Errorf("%s: sqlite.Scratch does not sync; it is for tests and the simulator", s.path)
		}
	}
}

// TestTestsNeitherSleepNorSkip: a sleep is a race with a machine, a skip is a promise nobody holds. In a property,
// (*rapid.T).Skip only draws again, which is fine.
func TestTestsNeitherSleepNorSkip(t *testing.T) {
	t.Parallel()
	suspect := regexp.MustCompile(`\bSleep\b|\bSkip(f|Now)?\b`)
	for _, s := range sources(t, isTest) {
		if !suspect.Match(s.text) {
			continue
		}
		files := token.NewFileSet()
		tree, err := parser.ParseFile(files, s.path, s.text, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		var around []ast.Node
		ast.Inspect(tree, func(n ast.Node) bool {
			if n == nil {
				around = around[:len(around)-1]
				return true
			}
			around = append(around, n)
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			x, ok := sel.X.(*ast.Ident)
			if !ok {
				return true
			}
			switch at := files.Position(sel.Pos()); sel.Sel.Name {
			case "Sleep":
				if x.Name == "time" {
					t.Errorf("%s sleeps: use testing/synctest or wait for what happens", at)
				}
			case "Skip", "Skipf", "SkipNow":
				if declaredBy(around, x.Name) == "testing" {
					t.Errorf("%s skips: what a test needs is required", at)
				}
			}
			return true
		})
	}
}

// declaredBy is the package of the type of the innermost function parameter with that name: "testing" for t *testing.T.
func declaredBy(around []ast.Node, name string) string {
	for _, n := range slices.Backward(around) {
		var params *ast.FieldList
		switch f := n.(type) {
		case *ast.FuncDecl:
			params = f.Type.Params
		case *ast.FuncLit:
			params = f.Type.Params
		default:
			continue
		}
		for _, field := range params.List {
			if !slices.ContainsFunc(field.Names, func(id *ast.Ident) bool { return id.Name == name }) {
				continue
			}
			typ := field.Type
			if star, ok := typ.(*ast.StarExpr); ok {
				typ = star.X
			}
			if sel, ok := typ.(*ast.SelectorExpr); ok {
				if from, ok := sel.X.(*ast.Ident); ok {
					return from.Name
				}
			}
			return ""
		}
	}
	return ""
}
