package match

import (
	"bufio"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/tallystick/tallystick/internal/core/catalog"
)

func table(t testing.TB, patterns ...string) *Table {
	t.Helper()
	c := &catalog.Compiled{Version: 1, Catalog: &catalog.Catalog{}}
	for _, p := range patterns {
		c.Routes = append(c.Routes, catalog.Route{Match: p})
	}
	return New(c, slog.New(slog.DiscardHandler))
}

// A path that an upstream may read as another one must not choose the cheaper route.
func TestPathsThatReadTwoWays(t *testing.T) {
	t.Parallel()
	tab := table(t, "/public/", "/v1/expensive", "/projects/{id}", "/")
	for path, want := range map[string]string{
		"/public/a":                         "/public/",
		"/public/a%20b":                     "/public/",
		"/public/a..b/...":                  "/public/",
		"/public/%61":                       "/public/",
		"/v1/expensive":                     "/v1/expensive",
		"/v1/%65xpensive":                   "/v1/expensive",
		"/projects/group%2fname":            "", // and not /: an upstream that decodes it sees two segments
		"/other/a%2Fb":                      "/",
		"/other;v=1/a;b=2":                  "/",
		"/public/%2e%2e/v1/expensive":       "",
		"/public/.%2E/v1/expensive":         "",
		"/public/%2e/a":                     "",
		"/public/..%2fv1/expensive":         "",
		"/public/..%2Fv1%2fexpensive":       "",
		"/public/..%5cv1/expensive":         "",
		"/public/..\\v1/expensive":          "",
		"/public/..;/v1/expensive":          "",
		"/public/..;x=1/v1/expensive":       "",
		"/public/%2e%2e;/v1/expensive":      "",
		"/public/a/%2e%2e":                  "",
		"/public/../v1/expensive":           "",
		"/v1%2fexpensive":                   "",
		"/v1%5Cexpensive":                   "",
		"/v1;x/expensive":                   "",
		"/v1/expensive;x=1":                 "",
		"/v1/expensive%3bx=1":               "",
		"/v1/expensive%00.png":              "",
		"/v1//expensive":                    "",
		"/v1/%2fexpensive":                  "",
		"/public/%2fv1/expensive/%2e%2e%2f": "",
	} {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader("GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n")))
		if err != nil {
			t.Fatal(path, err)
		}
		got := ""
		if i := tab.Find(r); i >= 0 {
			got = tab.Routes()[i].Match
		}
		if got != want {
			t.Errorf("%s takes %q, want %q", path, got, want)
		}
		told := ""
		if r := tab.Lookup("GET", "x", path+"?a=%2e%2e"); r != nil {
			told = r.Match
		}
		if told != got {
			t.Errorf("%s, told of, takes %q and asked %q", path, told, got)
		}
	}
}

func FuzzLookup(f *testing.F) {
	for _, p := range []string{"/a", "/v1/expensive", "/public/%2e%2e/v1", "/%zz", "/..;/", "//", "/a%2fb", "*", ""} {
		f.Add(p)
	}
	tab := table(f, "/public/", "/v1/expensive", "/")
	f.Fuzz(func(t *testing.T, target string) {
		r := tab.Lookup("GET", "x", target)
		path, _, _ := strings.Cut(target, "?")
		for strings.Contains(path, "%") {
			p := strings.NewReplacer("%2e", ".", "%2E", ".", "%2f", "/", "%2F", "/", "%5c", "/", "%5C", "/").Replace(path)
			if p == path {
				break
			}
			path = p
		}
		if r != nil && strings.Contains(strings.ReplaceAll(path, "\\", "/"), "/../") && !strings.Contains(target, "%25") {
			t.Errorf("%q takes %s", target, r.Match)
		}
	})
}

func TestUser(t *testing.T) {
	t.Parallel()
	tab := &Table{EndUser: catalog.EndUser{Header: "X-User"}}
	for v, want := range map[string]string{"u1": "u1", "": "", "\xff\xfe": "", strings.Repeat("x", userMax+1): "", "Zoë": "Zoë"} {
		if got := tab.User(func(string) string { return v }); got != want {
			t.Errorf("%q: %q", v, got)
		}
	}
}
