// Package arch_test holds the rules of the tree that no linter has, and those of the layers a second time.
package arch_test

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

const (
	root   = "../.."
	module = "github.com/tallystick/tallystick"
)

// pkg is what "go list" tells about one of our packages: its imports without those of tests.
type pkg struct {
	ImportPath string
	Imports    []string
}

// rel is the path below the module: "internal/core/money".
func (p pkg) rel() string { return strings.TrimPrefix(p.ImportPath, module+"/") }

func within(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

func ours(path string) bool { return within(path, module) }

// listed asks once for all packages.
var listed = sync.OnceValues(func() ([]pkg, error) {
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Imports", "./...")
	cmd.Dir, cmd.Stderr = root, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, err
	}
	var all []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
})

func packages(t *testing.T) []pkg {
	t.Helper()
	all, err := listed()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Fatal("go list found no package")
	}
	return all
}

func TestEveryPackageIsDescribed(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile(root + "/ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	var named []string
	for _, m := range regexp.MustCompile("(?m)^- `([^`]+)`").FindAllStringSubmatch(string(doc), -1) {
		named = append(named, m[1])
	}
	for _, p := range packages(t) {
		if p.rel() != "internal/arch" && !slices.Contains(named, p.rel()) {
			t.Errorf("package %s has no line in ARCHITECTURE.md", p.rel())
		}
	}
}

// corePure is what every package of the core may import, coreExtra what one of them may besides.
var (
	corePure = strings.Fields(`bytes cmp crypto/sha256 encoding encoding/binary encoding/json errors fmt hash/crc32 io iter maps
		math math/big math/bits net/url slices strconv strings time unicode unicode/utf16 unicode/utf8`)
	coreExtra = map[string][]string{
		"internal/core/money":   {"github.com/cockroachdb/apd/v3"},
		"internal/core/period":  {"archive/zip", "embed"},
		"internal/core/receipt": {"crypto/aes", "crypto/cipher", "crypto/hkdf", "encoding/base64"},
		// Leaves, commitments and signed notes are computed, not stored: RFC 6962 hashes, Ed25519 inside of note.
		"internal/core/seal": {"encoding/base64", "golang.org/x/mod/sumdb/note", "golang.org/x/mod/sumdb/tlog"},
	}
)

func TestCoreIsPure(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		if !within(p.rel(), "internal/core") {
			continue
		}
		for _, path := range p.Imports {
			if !within(path, module+"/internal/core") && !slices.Contains(corePure, path) && !slices.Contains(coreExtra[p.rel()], path) {
				t.Errorf("%s imports %s: core is values in, values out", p.rel(), path)
			}
		}
	}
}

// layers says what must not be reached from a layer, through any number of our own packages.
var layers = []struct {
	layer  string
	reason string
	bad    func(path string) bool
}{
	{"internal/store", "arrows point down", func(path string) bool {
		return within(path, module+"/internal/app") || within(path, module+"/internal/web") || within(path, module+"/cmd")
	}},
	{"internal/app", "use cases know contracts, not drivers or transports", func(path string) bool {
		return driver(path) || path == "database/sql" || within(path, module+"/internal/web") || within(path, module+"/cmd")
	}},
	{"internal/web", "transports go through internal/app; of the stores they may name the contract's types, no driver", func(path string) bool {
		return driver(path) || path == "database/sql" || within(path, module+"/cmd")
	}},
}

// TestClientIsSmall: who imports the client gets the standard library with it, and gRPC only with its interceptors. What a
// package reaches through others of ours counts.
func TestClientIsSmall(t *testing.T) {
	t.Parallel()
	imports := map[string][]string{}
	for _, p := range packages(t) {
		imports[p.ImportPath] = p.Imports
	}
	extra := map[string][]string{
		"client":           {},
		"client/grpctally": {module + "/client", "google.golang.org/grpc", "google.golang.org/genproto/googleapis/rpc", "google.golang.org/protobuf"},
	}
	seen := 0
	for _, p := range packages(t) {
		if !within(p.rel(), "client") {
			continue
		}
		allowed, known := extra[p.rel()]
		if !known {
			t.Errorf("%s: say here what it may import", p.rel())
			continue
		}
		seen++
		for path, via := range reached(imports, p.ImportPath) {
			first, _, _ := strings.Cut(path, "/")
			if strings.Contains(first, ".") && !slices.ContainsFunc(allowed, func(dir string) bool { return within(path, dir) }) {
				t.Errorf("%s reaches %s through %s", p.rel(), path, via)
			}
		}
	}
	if seen != len(extra) {
		t.Errorf("%d of %d packages of the client were found", seen, len(extra))
	}
}

// driver is a package below the storage contracts.
func driver(path string) bool { return strings.HasPrefix(path, module+"/internal/store/") }

func TestArrowsPointDown(t *testing.T) {
	t.Parallel()
	imports := map[string][]string{}
	for _, p := range packages(t) {
		imports[p.ImportPath] = p.Imports
	}
	for _, l := range layers {
		for _, p := range packages(t) {
			if !within(p.rel(), l.layer) {
				continue
			}
			for path, via := range reached(imports, p.ImportPath) {
				if l.bad(path) {
					t.Errorf("%s reaches %s through %s: %s", p.rel(), path, via, l.reason)
				}
			}
		}
	}
}

// TestRoutesOnly: of the use cases, only declare may import net/http, to check route patterns.
func TestRoutesOnly(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		if within(p.rel(), "internal/app") && p.rel() != "internal/app/declare" && slices.Contains(p.Imports, "net/http") {
			t.Errorf("%s imports net/http: transports live in internal/web", p.rel())
		}
	}
}

// reached maps every import path reachable from one of our packages, through our packages, to its importer.
func reached(imports map[string][]string, from string) map[string]string {
	via := map[string]string{}
	queue := []string{from}
	for len(queue) > 0 {
		at := queue[0]
		queue = queue[1:]
		for _, path := range imports[at] {
			if _, seen := via[path]; seen {
				continue
			}
			via[path] = at
			if ours(path) {
				queue = append(queue, path)
			}
		}
	}
	return via
}
