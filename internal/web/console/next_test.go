package console

import (
	"net/url"
	"strings"
	"testing"
)

func TestWanted(t *testing.T) {
	t.Parallel()
	for next, want := range map[string]string{
		"": "/", "/": "/", "/customers/acme?x=1": "/customers/acme?x=1", "https://evil.example/": "/", "//evil.example": "/", `/\evil.example`: "/",
		"javascript:alert(1)": "/", "customers": "/", "/a\r\nSet-Cookie: x=1": "/", "///evil.example": "/", "/%2Fevil.example": "/", "/a#b": "/a",
	} {
		if got := wanted(next); got != want {
			t.Errorf("wanted(%q) = %q, want %q", next, got, want)
		}
	}
}

// FuzzWanted: wherever signing in leads to, it is a path of this server.
func FuzzWanted(f *testing.F) {
	for _, s := range []string{"/", "//x", "/\\x", "http://x", "/a?b=c", "/%5cx", "/\t/x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, next string) {
		got := wanted(next)
		u, err := url.Parse("https://here.example" + got)
		if err != nil || u.Host != "here.example" || !strings.HasPrefix(got, "/") || strings.HasPrefix(got, "//") || strings.ContainsAny(got, "\\\r\n\t") {
			t.Errorf("wanted(%q) = %q", next, got)
		}
	})
}
