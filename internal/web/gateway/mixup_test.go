package gateway

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/core/catalog"
)

// Whatever clients do in the middle of an answer, each sees its own answer or none: no connection to the API is used again with
// something left on it.
func TestNobodySeesAnothersAnswer(t *testing.T) {
	t.Parallel()
	api := upstream(t, func(rw http.ResponseWriter, r *http.Request) {
		id := r.URL.Query().Get("id")
		b, _ := io.ReadAll(r.Body) // what came of it
		if len(b) > 0 && string(b) != strings.Repeat(id, len(b)/len(id)) {
			t.Errorf("the body of %s is %.40q", id, b)
		}
		parts := rand.IntN(4)
		if rand.IntN(2) == 0 {
			rw.Header().Set("Content-Length", fmt.Sprint(len(id)*500*(parts+1)))
		}
		for range parts + 1 {
			fmt.Fprint(rw, strings.Repeat(id, 500))
			_ = http.NewResponseController(rw).Flush() // the client may be gone
		}
	})
	w := newWorld(t)
	w.declare(2, "1000000", catalog.Route{Match: "/hello", Upstream: api})
	l := w.open(100)
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			c := &http.Client{Transport: &http.Transport{}}
			defer c.CloseIdleConnections()
			for i := range 150 {
				id := fmt.Sprintf("<%d.%03d>", worker, i)
				ctx, cancel := context.WithCancel(t.Context())
				if rand.IntN(2) == 0 { // the client leaves at any time
					time.AfterFunc(time.Duration(rand.IntN(3000))*time.Microsecond, cancel)
				}
				var body io.Reader
				method := http.MethodGet
				if rand.IntN(2) == 0 {
					method, body = http.MethodPost, strings.NewReader(strings.Repeat(id, 300))
				}
				r, err := http.NewRequestWithContext(ctx, method, "http://"+l.Addr().String()+"/hello?id="+url.QueryEscape(id), body)
				if err != nil {
					t.Error(err)
				}
				r.Header.Set("Authorization", "Bearer good")
				if resp, err := c.Do(r); err == nil {
					var b []byte
					if rand.IntN(4) > 0 {
						b, err = io.ReadAll(resp.Body)
					} else { // or does not read it all
						b = make([]byte, 100)
						_, err = io.ReadFull(resp.Body, b)
					}
					_ = resp.Body.Close() // as above
					own := strings.Repeat(id, 2001)
					if err == nil && resp.StatusCode == 200 && (len(b) == 0 || string(b) != own[:len(b)]) {
						t.Errorf("%s sees %.60q", id, b)
					}
				}
				cancel()
			}
		})
	}
	wg.Wait()
	if err := w.e.Settled(t.Context(), w.now); err != nil {
		t.Fatal(err)
	}
	if s := w.e.Stats(); s.Open != 0 || s.Admitted != s.Settled+s.Released {
		t.Errorf("%+v", s)
	}
}
