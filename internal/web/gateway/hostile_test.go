package gateway

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/core/catalog"
)

// open serves the gateway with the settings of a real port.
func (w *world) open(n int, change ...func(*http.Server)) *Listener {
	w.t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	l := NewListener(inner, n)
	s := NewServer(w.gateway, slog.New(slog.DiscardHandler))
	for _, c := range change {
		c(s)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = s.Serve(l) // ends with the test
	}()
	w.t.Cleanup(func() {
		_ = s.Close() // as above
		<-served
	})
	return l
}

func (w *world) dial(l net.Listener, text string) (net.Conn, *bufio.Reader) {
	w.t.Helper()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		w.t.Fatal(err)
	}
	_, _ = io.WriteString(c, text) // it may be closed already
	return c, bufio.NewReader(c)
}

const hello = "GET /hello HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer good\r\n\r\n"

func TestConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	url := upstream(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hi") })
	w := newWorld(t)
	w.declare(2, "1000", catalog.Route{Match: "GET /hello", Upstream: url})
	l := w.open(3)
	var kept []net.Conn
	for range 3 {
		c, r := w.dial(l, hello)
		resp, err := http.ReadResponse(r, nil)
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("%v %v", resp, err)
		}
		kept = append(kept, c)
	}
	if _, r := w.dial(l, hello); true {
		if resp, err := http.ReadResponse(r, nil); err == nil {
			t.Errorf("one too many was answered: %s", resp.Status)
		}
	}
	if l.Open() != 3 || l.Refused() != 1 {
		t.Errorf("%d open, %d refused", l.Open(), l.Refused())
	}
	_ = kept[0].Close() // makes room
	for l.Open() == 3 { // until the server has seen it
		runtime.Gosched()
	}
	_, r := w.dial(l, hello)
	if resp, err := http.ReadResponse(r, nil); err != nil || resp.StatusCode != 200 {
		t.Errorf("%v %v", resp, err)
	}
}

func TestSlowAndEndlessHeaders(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.declare(2, "1000", catalog.Route{Match: "GET /hello", Upstream: "http://127.0.0.1:1"})
	if s := NewServer(w.gateway, slog.New(slog.DiscardHandler)); s.ReadHeaderTimeout != 10*time.Second || s.IdleTimeout <= 0 || s.HTTP2.MaxConcurrentStreams != 128 {
		t.Errorf("%+v", s)
	}
	l := w.open(10, func(s *http.Server) { s.ReadHeaderTimeout = 50 * time.Millisecond })
	_, r := w.dial(l, "GET /hello HTTP/1.1\r\nHost: x\r\nA: ") // and nothing more
	if _, err := r.ReadByte(); err != io.EOF {
		t.Errorf("slow headers: %v, want the connection closed", err)
	}
	l = w.open(10)
	_, r = w.dial(l, "GET /hello HTTP/1.1\r\nHost: x\r\n"+strings.Repeat("A: "+strings.Repeat("x", 1000)+"\r\n", 70))
	if resp, err := http.ReadResponse(r, nil); err != nil || resp.StatusCode != 431 {
		t.Errorf("endless headers: %v %v", resp, err)
	}
	w.ended(0, 0, 0)
}

// However a request is framed, the upstream sees the one that was admitted and no other.
func TestSmuggling(t *testing.T) {
	t.Parallel()
	for name, raw := range map[string]string{
		"length and coding": "POST /hello HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer good\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n" +
			"0\r\n\r\nGET /admin HTTP/1.1\r\nHost: x\r\n\r\n",
		"two lengths":      "POST /hello HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer good\r\nContent-Length: 0\r\nContent-Length: 44\r\n\r\nGET /admin HTTP/1.1\r\nHost: x\r\n\r\n",
		"strange coding":   "POST /hello HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer good\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\nGET /admin HTTP/1.1\r\nHost: x\r\n\r\n",
		"coding by tab":    "POST /hello HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer good\r\nTransfer-Encoding:\tchunked, identity\r\n\r\n0\r\n\r\nGET /admin HTTP/1.1\r\nHost: x\r\n\r\n",
		"length of a GET":  "GET /hello HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer good\r\nContent-Length: 33\r\n\r\nGET /admin HTTP/1.1\r\nHost: evil\r\n\r\n",
		"line in the path": "GET /hello%0d%0aX:%201 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer good\r\n\r\n",
		"folded":           "GET /hello HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer good\r\nA: b\r\n Content-Length: 9\r\n\r\n",
		"space at a colon": "GET /hello HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer good\r\nContent-Length : 9\r\n\r\n",
	} {
		s := newScript(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", false)
		w := newWorld(t)
		w.declare(2, "1000", catalog.Route{Match: "/hello", Upstream: s.url})
		l := w.open(10)
		c, r := w.dial(l, raw)
		resp, err := http.ReadResponse(r, nil)
		if err == nil {
			_, _ = io.Copy(io.Discard, resp.Body) // the next may follow
		}
		_ = c.Close() // no more of it
		w.gateway.Close()
		s.mu.Lock()
		for _, got := range s.got {
			if !strings.HasPrefix(got.URL.Path, "/hello") || len(s.got) > 1 || got.Header.Get("X") != "" {
				t.Errorf("%s: the upstream saw %s %s of %d", name, got.Method, got.URL, len(s.got))
			}
		}
		s.mu.Unlock()
	}
}

// silent takes an answer and keeps nothing.
type silent struct{ h http.Header }

func (s *silent) Header() http.Header         { return s.h }
func (s *silent) Write(p []byte) (int, error) { return len(p), nil }
func (s *silent) WriteHeader(int)             {}

// Keys that nobody knows leave nothing behind.
func TestUnknownKeysTakeNoMemory(t *testing.T) {
	w := newWorld(t)
	w.declare(2, "1000", catalog.Route{Match: "GET /hello", Upstream: "http://127.0.0.1:1"})
	const n = 40_000
	ask := func(from int) {
		out := &silent{http.Header{}}
		r := httptest.NewRequest("GET", "/hello", nil)
		for i := from; i < from+n/2; i++ {
			clear(out.h)
			r.Header["Authorization"] = []string{fmt.Sprintf("Bearer tally_live_%020d", i)}
			w.gateway.ServeHTTP(out, r)
		}
		if out.h.Get("Www-Authenticate") == "" {
			t.Fatalf("%v", out.h)
		}
	}
	live := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	ask(0)
	before := live()
	ask(n / 2)
	if after := live(); after > before+1<<20 {
		t.Errorf("%d unknown keys: the heap grew from %d to %d bytes", n/2, before, after)
	} else {
		t.Logf("%d unknown keys: the heap went from %d to %d bytes", n/2, before, after)
	}
}
