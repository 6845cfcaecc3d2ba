package gateway

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/core/catalog"
)

// Each of these was a fault once, found by review.

// raw sends bytes to the gateway and hands out the connection.
func (w *world) raw(s string) (*net.TCPConn, *bufio.Reader) {
	w.t.Helper()
	c, err := net.Dial("tcp", w.gw.Listener.Addr().String())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	if _, err := io.WriteString(c, s); err != nil {
		w.t.Fatal(err)
	}
	return c.(*net.TCPConn), bufio.NewReader(c) //nolint:errcheck // dialled as TCP
}

func TestHalfClosedClientGetsNoEmptySuccess(t *testing.T) {
	t.Parallel()
	url := upstream(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	w := newWorld(t)
	w.declare(2, "100", catalog.Route{Match: "GET /hello", Upstream: url})
	c, r := w.raw("GET /hello HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer good\r\n\r\n")
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if resp, err := http.ReadResponse(r, nil); err == nil {
		t.Errorf("the client received %s", resp.Status)
	}
	w.ended(0, 1, 0)
}

func TestUnaskedProtocolIsNotCharged(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
				fmt.Fprint(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n")
			}
		}
	}()
	w := newWorld(t)
	w.declare(2, "100", catalog.Route{Match: "GET /hello", Upstream: "http://" + l.Addr().String()})
	if resp, body := w.do("GET", "/hello", "good", nil); resp.StatusCode != 502 {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	w.ended(0, 1, 0)
}

func TestIdentityCannotBeForgedWithAnUnderscore(t *testing.T) {
	t.Parallel()
	var got, trailer http.Header
	url := upstream(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body) // so that the trailers are there
		got, trailer = r.Header.Clone(), r.Trailer.Clone()
	})
	w := newWorld(t)
	w.declare(2, "100", catalog.Route{Match: "POST /hello", Upstream: url})
	w.cat.KeyHeader = "X-Api-Key"
	_, r := w.raw("POST /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Api-Key: good\r\nX_Api_Key: good\r\nTally_Customer: forged\r\ntally-KEY_id: forged\r\n" +
		"Transfer-Encoding: chunked\r\nTrailer: Tally-Customer\r\n\r\n1\r\nx\r\n0\r\nTally-Customer: forged\r\n\r\n")
	if _, err := http.ReadResponse(r, nil); err != nil {
		t.Fatal(err)
	}
	for name, values := range got {
		if strings.Contains(strings.Join(values, " "), "forged") || strings.Contains(strings.Join(values, " "), "good") {
			t.Errorf("upstream saw %s: %v", name, values)
		}
	}
	for name, values := range trailer {
		if len(values) > 0 {
			t.Errorf("upstream saw the trailer %s: %v", name, values)
		}
	}
}

func TestSlowBodyEnds(t *testing.T) {
	t.Parallel()
	url := upstream(t, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.ReadAll(r.Body) }) // it never comes
	w := newWorld(t, func(c *Config) { c.BodyTimeout = 50 * time.Millisecond })
	w.declare(2, "100", catalog.Route{Match: "/hello", Upstream: url})
	for _, method := range []string{"POST", "GET"} {
		_, r := w.raw(method + " /hello HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer good\r\nContent-Length: 10\r\n\r\nx")
		resp, err := http.ReadResponse(r, nil)
		if err != nil || resp.StatusCode != 408 {
			t.Fatalf("%s: %+v %v", method, resp, err)
		}
	}
	w.ended(0, 2, 0)
}

// A long answer must survive the deadline of its request's body.
func TestLongAnswerAfterABody(t *testing.T) {
	t.Parallel()
	passed := make(chan struct{})
	url := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err != nil {
			t.Error(err)
		}
		fmt.Fprint(w, "first ")
		w.(http.Flusher).Flush() //nolint:errcheck // a test's type assertion
		<-passed
		fmt.Fprint(w, "last")
	})
	w := newWorld(t, func(c *Config) { c.BodyTimeout = 100 * time.Millisecond })
	w.declare(2, "100", catalog.Route{Match: "POST /hello", Upstream: url})
	timer := time.AfterFunc(300*time.Millisecond, func() { close(passed) })
	defer timer.Stop()
	if resp, body := w.do("POST", "/hello", "good", strings.NewReader("body")); resp.StatusCode != 200 || body != "first last" {
		t.Errorf("%d %q", resp.StatusCode, body)
	}
	w.ended(1, 0, 0)
}

func TestMethodsThatAreNotForwarded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.declare(2, "100", catalog.Route{Match: "/pub/", Upstream: "http://127.0.0.1:1"})
	_, r := w.raw("CONNECT /pub/../admin HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer good\r\n\r\n")
	if resp, err := http.ReadResponse(r, nil); err != nil || resp.StatusCode != 405 {
		t.Errorf("CONNECT: %+v %v", resp, err)
	}
	for m, fits := range map[string]bool{"GET": true, "M-SEARCH": true, "": false, "G\xff T": false, "GET ": false, strings.Repeat("A", 33): false} {
		if methodFits(m) != fits {
			t.Errorf("method %q: %v", m, !fits)
		}
	}
	w.ended(0, 0, 0)
}

// lines is a log that tests can read while it is written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func TestCutOffAnswerIsLogged(t *testing.T) {
	t.Parallel()
	url := upstream(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		fmt.Fprint(w, "part")
		w.(http.Flusher).Flush() //nolint:errcheck // a test's type assertion
		panic(http.ErrAbortHandler)
	})
	var log lines
	var observed atomic.Int64
	w := newWorld(t, func(c *Config) {
		c.Access = slog.New(slog.NewJSONHandler(&log, nil))
		c.Observe = func(int, time.Duration) { observed.Add(1) }
	})
	w.declare(2, "100", catalog.Route{Match: "GET /hello", Upstream: url})
	_, r := w.raw("GET /hello HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer good\r\n\r\n")
	_, _ = io.ReadAll(r) // until the gateway cuts the connection
	w.gw.Close()
	log.mu.Lock()
	defer log.mu.Unlock()
	if !strings.Contains(log.b.String(), `"status":200`) || observed.Load() != 1 {
		t.Errorf("access log %q, observed %d", log.b.String(), observed.Load())
	}
}

// One admitted request is sent once, also when the upstream drops kept connections.
func TestARequestIsSentOnce(t *testing.T) {
	t.Parallel()
	var seen atomic.Int64
	url := upstream(t, func(_ http.ResponseWriter, r *http.Request) {
		if seen.Add(1)%2 == 0 {
			panic(http.ErrAbortHandler)
		}
	})
	w := newWorld(t)
	w.declare(2, "100", catalog.Route{Match: "GET /hello", Upstream: url})
	for range 20 {
		w.do("GET", "/hello", "good", nil)
	}
	if n := seen.Load(); n != 20 {
		t.Errorf("the upstream saw %d requests of 20", n)
	}
	w.ended(10, 10, 0)
}
