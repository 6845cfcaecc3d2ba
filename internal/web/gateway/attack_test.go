package gateway

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/web/gateway/cost"
	"github.com/tallystick/tallystick/internal/web/gateway/wire"
)

// What is refused before its body was looked at does not wait for the body: nobody without a key holds a connection.
func TestRefusedRequestsDoNotWaitForTheirBody(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.declare(2, "1000", catalog.Route{Match: "POST /hello", Upstream: "http://127.0.0.1:1"})
	l := w.open(10, func(s *http.Server) { s.Handler = bodies{w.gateway, 50 * time.Millisecond} })
	for name, head := range map[string]string{
		"no route": "POST /nothing HTTP/1.1\r\nHost: x\r\n", "no key": "POST /hello HTTP/1.1\r\nHost: x\r\n", "method": "A@ /hello HTTP/1.1\r\nHost: x\r\n",
	} {
		_, r := w.dial(l, head+"Content-Length: 1000\r\n\r\nonly this")
		if _, err := io.Copy(io.Discard, r); err != nil { // up to the end of the connection
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A client of HTTP/1.0 takes the first head for the answer.
func TestNoInformationForOldClients(t *testing.T) {
	t.Parallel()
	s := newScript(t, "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", false)
	w := newWorld(t)
	w.declare(2, "1000", catalog.Route{Match: "/hello", Upstream: s.url})
	_, r := w.raw("GET /hello HTTP/1.0\r\nHost: x\r\nAuthorization: Bearer good\r\n\r\n")
	b, err := io.ReadAll(r)
	if err != nil || !strings.HasPrefix(string(b), "HTTP/1.0 200 OK\r\n") || strings.Contains(string(b), "Link") {
		t.Errorf("%q %v", b, err)
	}
}

type slowDial struct{}

func (slowDial) Error() string   { return "i/o timeout" }
func (slowDial) Timeout() bool   { return true }
func (slowDial) Temporary() bool { return true }

// An upstream that could not be connected to in time did nothing: the policy for time-outs is none for it.
func TestDialTimeoutIsNotCharged(t *testing.T) {
	t.Parallel()
	failing := func(context.Context, string, string) (net.Conn, error) { //nolint:unparam // of Dial
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: slowDial{}}
	}
	w := newWorld(t, func(c *Config) {
		c.Transport = func(time.Duration) http.RoundTripper { return &http.Transport{DialContext: failing} }
	})
	if w.gateway.direct != nil {
		w.gateway.direct.client = wire.New(wire.Config{Dial: failing, Now: time.Now})
	}
	refund := catalog.RefundDefault()
	refund.Timeout, refund.Statuses = false, []catalog.StatusRange{}
	w.declare(2, "1000", catalog.Route{Match: "/hello", Upstream: "http://127.0.0.1:1", Refund: refund})
	resp, body := w.do("GET", "/hello", "good", nil)
	if resp.StatusCode != 502 || !strings.Contains(body, "upstream_unreachable") || !strings.Contains(body, "was not counted") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	w.ended(0, 1, 0)
}

// Upstreams that turn names into variables cannot tell _ from -.
func TestForwardedCannotBeForgedWithAnUnderscore(t *testing.T) {
	t.Parallel()
	s := newScript(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", false)
	w := newWorld(t)
	w.declare(2, "1000", catalog.Route{Match: "/hello", Upstream: s.url})
	resp, _ := w.do("GET", "/hello", "good", nil, func(r *http.Request) {
		for _, name := range []string{"X_Forwarded_For", "X-Forwarded_Proto", "x_forwarded-host", "X-Forwarded-For", "X_mine"} {
			r.Header[name] = []string{"forged"}
		}
	})
	if resp.StatusCode != 200 {
		t.Fatal(resp.Status)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, v := range s.got[0].Header {
		if strings.Contains(strings.Join(v, ","), "forged") && !strings.EqualFold(name, "X_mine") {
			t.Errorf("%s: %v", name, v)
		}
	}
	if s.got[0].Header.Get("X_mine") == "" {
		t.Error("another name with an underscore is gone")
	}
}

// A trailer is no way around what is taken out of the head.
func TestTrailersCarryNoIdentity(t *testing.T) {
	t.Parallel()
	got := make(chan http.Header, 1)
	url := upstream(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // the trailer comes behind
		h := r.Header.Clone()
		for name, v := range r.Trailer {
			h["Trailer:"+name] = append(v, "announced")
		}
		got <- h
	})
	w := newWorld(t)
	w.declare(2, "1000", catalog.Route{Match: "/hello", Upstream: url})
	_, r := w.raw("POST /hello HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer good\r\nTransfer-Encoding: chunked\r\nTrailer: Tally-Customer, Authorization, X-Sum\r\n\r\n" +
		"2\r\nhi\r\n0\r\nTally-Customer: other\r\nAuthorization: Bearer good\r\nX-Sum: 1\r\n\r\n")
	if resp, err := http.ReadResponse(r, nil); err != nil || resp.StatusCode != 200 {
		t.Fatalf("%v %v", resp, err)
	}
	h := <-got
	for name := range h {
		if strings.HasPrefix(name, "Trailer:Tally") || strings.HasPrefix(name, "Trailer:Auth") {
			t.Errorf("%s: %v", name, h[name])
		}
	}
	if v := h["Tally-Customer"]; len(v) != 1 || v[0] != "acme" || h["Authorization"] != nil {
		t.Errorf("%v", h)
	}
}

// Answers that say more than they may: the next client must not see the rest.
func TestNoAnswerReachesAnother(t *testing.T) {
	t.Parallel()
	const evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nX-Evil: 1\r\n\r\nevil"
	for name, c := range map[string]struct{ method, first string }{
		"two answers":        {"GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi" + evil},
		"204 with chunks":    {"GET", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n" + "4\r\nevil\r\n0\r\n\r\n"},
		"204 with a length":  {"GET", "HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\n" + evil},
		"304 with a body":    {"GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n" + evil},
		"HEAD with a body":   {"HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n" + evil},
		"103 with a body":    {"GET", "HTTP/1.1 103 Early Hints\r\nContent-Length: 4\r\n\r\n" + evil},
		"behind the trailer": {"GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nA: b\r\n\r\n" + evil},
	} {
		s := newScript(t, c.first, false)
		w := newWorld(t)
		w.declare(2, "1000", catalog.Route{Match: "/hello", Upstream: s.url})
		for range 4 {
			resp, body := w.do(c.method, "/hello", "good", nil)
			if resp.Header.Get("X-Evil") != "" && name != "103 with a body" || body == "evil" && name != "103 with a body" {
				t.Errorf("%s: %d %q %v", name, resp.StatusCode, body, resp.Header)
			}
		}
	}
}

// A client that takes nothing is cut off: it holds a connection of the port, one to the API, and a place among the requests.
func TestClientThatTakesNothing(t *testing.T) {
	t.Parallel()
	gone := make(chan struct{})
	url := upstream(t, func(rw http.ResponseWriter, _ *http.Request) {
		defer close(gone)
		for b := make([]byte, 64<<10); ; {
			if _, err := rw.Write(b); err != nil {
				return
			}
		}
	})
	w := newWorld(t)
	w.declare(2, "1000", catalog.Route{Match: "GET /hello", Upstream: url})
	l := w.open(10)
	l.patience = 100 * time.Millisecond
	w.dial(l, hello) // and reads nothing
	select {
	case <-gone:
	case <-time.After(20 * time.Second):
		t.Fatal("it is held for ever")
	}
	w.ended(1, 0, 1)
}

// One that takes a little now and then is served as long as it lasts; and a deadline that a handler sets is its own.
func TestSlowClientIsServed(t *testing.T) {
	t.Parallel()
	step := make(chan struct{})
	url := upstream(t, func(rw http.ResponseWriter, _ *http.Request) {
		for range 5 {
			fmt.Fprint(rw, "x")
			_ = http.NewResponseController(rw).Flush() // the client waits for it
			<-step
		}
	})
	w := newWorld(t)
	w.declare(2, "1000", catalog.Route{Match: "GET /hello", Upstream: url})
	l := w.open(10)
	l.patience = 50 * time.Millisecond
	_, r := w.dial(l, hello)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	for range 5 {
		if _, err := io.ReadFull(resp.Body, b); err != nil {
			t.Fatal(err)
		}
		pause, cancel := context.WithTimeout(t.Context(), 2*l.patience)
		<-pause.Done() // longer than one write may take
		cancel()
		step <- struct{}{}
	}
	if _, err := resp.Body.Read(b); err != io.EOF {
		t.Error(err)
	}
}

// A cost that cannot be computed because the program is at fault is the estimate, and charged.
func TestPanicInACostIsCharged(t *testing.T) {
	t.Parallel()
	s := newScript(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", false)
	w := newWorld(t, func(c *Config) {
		c.Expressions = func(string) (cost.Expression, error) {
			return func(*cost.Exchange) (money.Decimal, error) { panic("a fault") }, nil
		}
	})
	w.estimate = "3"
	w.declare(2, "1000", catalog.Route{Match: "/hello", Upstream: s.url, From: catalog.FromExpression, Path: "x"})
	req := httptest.NewRequest("GET", "/hello", nil)
	req.Header.Set("Authorization", "Bearer good")
	func() {
		defer func() { _ = recover() }() // as net/http does
		w.gateway.ServeHTTP(httptest.NewRecorder(), req)
	}()
	w.ended(1, 0, 0)
	if w.gateway.stats.unread.Load() != 1 {
		t.Error("it is not counted")
	}
}
