package httpapi_test

import (
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/receipt"
	"github.com/tallystick/tallystick/internal/web/httpapi"
)

// TestEveryCodeHasAPage reads the sources of all that answer problems for the codes in them.
func TestEveryCodeHasAPage(t *testing.T) {
	t.Parallel()
	found := map[string]string{}
	for _, dir := range []string{".", "../gateway", "../gateway/wire", "../doors", "../envoy", "../answer", "../../app/enforce", "../../app/enforce/lessee"} {
		for _, c := range codesIn(t, dir) {
			found[c] = dir
		}
	}
	for _, f := range []account.KeyFault{account.FaultMissing, account.FaultUnknown, account.FaultRevoked, account.FaultExpired} {
		found[string(f)] = "account"
	}
	found[enforce.CostInvalid] = "enforce"
	for o := receipt.Allowed + 1; o < receipt.Outcomes; o++ {
		found[o.Code()] = "receipt"
	}
	for _, c := range []string{"upstream_timeout", "spool_full", "unavailable", "quota_exceeded", "clock_not_test"} {
		if found[c] == "" {
			t.Errorf("the sources do not show %s: this test no longer reads them right", c)
		}
	}
	pages := httpapi.Codes()
	for c, where := range found {
		if !slices.Contains(pages, c) {
			t.Errorf("%s answers %s, which has no page", where, c)
		}
	}
	for i, c := range pages {
		if slices.Contains(pages[:i], c) {
			t.Errorf("%s stands twice in the table", c)
		}
	}
}

// codesIn collects the texts that a package gives the name of a code: fields and variables called code, constants of type
// code, and the fourth argument of refuse.
func codesIn(t *testing.T, dir string) (codes []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no sources in %s: %v", dir, err)
	}
	add := func(e ast.Expr) {
		if lit, ok := e.(*ast.BasicLit); ok && lit.Kind == gotoken.STRING {
			if s, err := strconv.Unquote(lit.Value); err == nil && s != "" {
				codes = append(codes, s)
			}
		}
	}
	named := func(e ast.Expr) bool {
		if s, ok := e.(*ast.SelectorExpr); ok {
			e = s.Sel
		}
		id, ok := e.(*ast.Ident)
		return ok && strings.EqualFold(id.Name, "code")
	}
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(gotoken.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.KeyValueExpr:
				if named(n.Key) {
					add(n.Value)
				}
			case *ast.AssignStmt:
				for i, left := range n.Lhs {
					if named(left) && i < len(n.Rhs) {
						add(n.Rhs[i])
					}
				}
			case *ast.ValueSpec:
				if n.Type != nil && named(n.Type) {
					for _, v := range n.Values {
						add(v)
					}
				}
			case *ast.CallExpr:
				if s, ok := n.Fun.(*ast.SelectorExpr); ok && s.Sel.Name == "refuse" && len(n.Args) > 3 {
					add(n.Args[3])
				}
			}
			return true
		})
	}
	return codes
}

func TestErrorPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, c := range httpapi.Codes() {
		page := w.want(http.StatusOK, http.MethodGet, "/errors/"+c, "", "Authorization", "", "Accept", "text/html,*/*")
		if !strings.Contains(string(page.body), "<code>"+c+"</code>") || page.header.Get("Content-Security-Policy") == "" {
			t.Errorf("%s: %s", c, page.body)
		}
		doc := w.want(http.StatusOK, http.MethodGet, "/errors/"+c, "", "Accept", "application/json")
		if doc.text(t, "code") != c || doc.text(t, "title") == "" || doc.text(t, "meaning") == "" || doc.text(t, "what_to_do") == "" {
			t.Errorf("%s", doc.body)
		}
	}
	w.golden("errors_page", w.want(http.StatusOK, http.MethodGet, "/errors/quota_exceeded", ""))
	w.golden("errors_json", w.want(http.StatusOK, http.MethodGet, "/errors/quota_exceeded", "", "Accept", "application/json"))
	w.golden("errors_list", w.want(http.StatusOK, http.MethodGet, "/errors", ""))
	list := w.want(http.StatusOK, http.MethodGet, "/errors", "", "Accept", "application/json")
	if items, ok := list.field(t, "items").([]any); !ok || len(items) != len(httpapi.Codes()) {
		t.Errorf("%s", list.body)
	}
	if a := w.want(http.StatusNotFound, http.MethodGet, "/errors/%3Cscript%3E", ""); strings.Contains(string(a.body), "<script") {
		t.Errorf("%s", a.body)
	}
	w.want(http.StatusNotFound, http.MethodGet, "/errors/none", "", "Accept", "application/problem+json")
}
