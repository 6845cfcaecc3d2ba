package gateway

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/tallystick/tallystick/internal/core/catalog"
)

// TestPlaceIsTakenUntilTheBodyEnds: a request whose answer is on its way counts among those that run at once, though it is charged
// at the headers; it is let go when the answer is through, when it is cut off, and when it is given back.
func TestPlaceIsTakenUntilTheBodyEnds(t *testing.T) {
	t.Parallel()
	for _, standard := range []bool{false, true} {
		t.Run(fmt.Sprint("standard ", standard), func(t *testing.T) {
			t.Parallel()
			goOn := make(chan struct{})
			url := upstream(t, func(w http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case "/quick":
					return
				case "/broken": // given back at its headers, and its body takes a while
					w.WriteHeader(http.StatusInternalServerError)
				}
				_, _ = w.Write([]byte("begin"))
				_ = http.NewResponseController(w).Flush()
				<-goOn
				if r.URL.Path == "/cut" {
					panic(http.ErrAbortHandler)
				}
			})
			w := newWorld(t, func(c *Config) { c.Standard = c.Standard || standard })
			w.limits = []catalog.Limit{{Key: "at_once", Concurrency: 1}}
			w.declare(2, "1000000", catalog.Route{Match: "GET /", Upstream: url})
			for _, path := range []string{"/slow", "/broken", "/cut"} {
				r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.gw.URL+path, http.NoBody)
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("Authorization", "Bearer good")
				resp, err := http.DefaultClient.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				var begin [5]byte
				if _, err := resp.Body.Read(begin[:]); err != nil || string(begin[:]) != "begin" {
					t.Fatalf("%s: %q, %v", path, begin, err)
				}
				if second, body := w.do("GET", "/quick", "good", nil); second.StatusCode != 429 || !strings.Contains(body, "concurrency_exceeded") {
					t.Errorf("%s: beside a body on its way: %d %s", path, second.StatusCode, body)
				}
				goOn <- struct{}{}
				for { // until its end is through
					if _, err := resp.Body.Read(begin[:]); err != nil {
						break
					}
				}
				_ = resp.Body.Close()
				for { // and noticed
					second, _ := w.do("GET", "/quick", "good", nil)
					if second.StatusCode == 200 {
						break
					}
					if t.Context().Err() != nil {
						t.Fatalf("%s: its place is not given back", path)
					}
				}
			}
		})
	}
}
