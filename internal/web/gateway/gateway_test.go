package gateway

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/core/catalog"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/web/answer"
)

func protocols() (p http.Protocols) {
	p.SetHTTP1(true)
	p.SetHTTP2(true)
	p.SetUnencryptedHTTP2(true)
	return p
}

// upstream serves h for a test.
func upstream(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func (w *world) do(method, path, key string, body io.Reader, change ...func(*http.Request)) (*http.Response, string) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.gw.URL+path, body)
	if err != nil {
		w.t.Fatal(err)
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	for _, c := range change {
		c(req)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp, string(b)
}

func TestForwardsWithoutTheKey(t *testing.T) {
	t.Parallel()
	var got http.Header
	url := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		got = r.Header.Clone()
		fmt.Fprint(w, "hello ", r.URL.RequestURI())
	})
	w := newWorld(t)
	w.declare(2, "100", catalog.Route{Match: "GET /hello", Upstream: url + "/base"})
	resp, body := w.do("GET", "/hello?a=1", "good", nil, func(r *http.Request) {
		r.Header.Set("Tally-Customer", "forged")
		r.Header.Set("Tally-Anything", "forged")
		r.Header.Set("X-Forwarded-For", "6.6.6.6")
	})
	if resp.StatusCode != 200 || body != "hello /base/hello?a=1" {
		t.Fatalf("%d %q", resp.StatusCode, body)
	}
	for name, want := range map[string]string{"Authorization": "", "Tally-Anything": "", "Tally-Customer": "acme", "Tally-Key-Id": keyID, "X-Forwarded-For": "127.0.0.1"} {
		if v := got.Get(name); v != want {
			t.Errorf("upstream saw %s: %q, want %q", name, v, want)
		}
	}
	for name, want := range map[string]string{
		"RateLimit-Policy": `^"daily";q=100;w=86400$`, "RateLimit": `^"daily";r=99;t=43200$`, "Decision-Id": `^dec_[0-9A-Za-z]{17}\.[\w-]+$`,
	} {
		if v := resp.Header.Get(name); !regexp.MustCompile(want).MatchString(v) {
			t.Errorf("%s: %q, want %s", name, v, want)
		}
	}
	w.ended(1, 0, 0)
}

func TestTrustedProxy(t *testing.T) {
	t.Parallel()
	var got string
	url := upstream(t, func(_ http.ResponseWriter, r *http.Request) { got = r.Header.Get("X-Forwarded-For") })
	w := newWorld(t, func(c *Config) { c.Trusted = []netip.Prefix{prefix("127.0.0.0/8")} })
	w.declare(2, "100", catalog.Route{Match: "GET /", Upstream: url})
	w.do("GET", "/x", "good", nil, func(r *http.Request) { r.Header.Set("X-Forwarded-For", "6.6.6.6") })
	if got != "6.6.6.6, 127.0.0.1" {
		t.Errorf("X-Forwarded-For %q", got)
	}
}

func TestKeyHeader(t *testing.T) {
	t.Parallel()
	var got http.Header
	url := upstream(t, func(_ http.ResponseWriter, r *http.Request) { got = r.Header.Clone() })
	w := newWorld(t)
	w.declare(2, "100", catalog.Route{Match: "GET /", Upstream: url})
	w.cat.KeyHeader = "X-Api-Key"
	resp, _ := w.do("GET", "/", "upstreams-own", nil, func(r *http.Request) { r.Header.Set("X-Api-Key", "good") })
	if resp.StatusCode != 200 || got.Get("X-Api-Key") != "" || got.Get("Authorization") != "Bearer upstreams-own" {
		t.Errorf("%d, upstream saw %v", resp.StatusCode, got)
	}
}

func TestProblems(t *testing.T) {
	t.Parallel()
	url := upstream(t, func(http.ResponseWriter, *http.Request) {})
	w := newWorld(t)
	w.declare(2, "0", catalog.Route{Match: "GET /hello", Upstream: url})
	for _, c := range []struct {
		key, path string
		status    int
		code, typ string
		retry     string
	}{
		{"", "/hello", 401, "key_missing", "/errors/key_missing", ""},
		{"bad", "/hello", 401, "key_unknown", "/errors/key_unknown", ""},
		{"idle", "/hello", 403, "no_subscription", "/errors/no_subscription", ""},
		{"good", "/nothing", 404, "route_unknown", "/errors/route_unknown", ""},
		{"good", "/hello", 429, "quota_exceeded", "https://iana.org/assignments/http-problem-types#quota-exceeded", ""}, // a quota of 0 never clears
	} {
		resp, body := w.do("GET", c.path, c.key, nil)
		var p answer.Problem
		if err := json.Unmarshal([]byte(body), &p); err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		if resp.StatusCode != c.status || p.Status != c.status || p.Code != c.code || p.Type != c.typ || resp.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %s: %d %+v", c.key, c.path, resp.StatusCode, p)
		}
		if p.DecisionID == "" || resp.Header.Get("Decision-Id") != p.DecisionID {
			t.Errorf("%s %s: decision id %q, header %q", c.key, c.path, p.DecisionID, resp.Header.Get("Decision-Id"))
		}
	}
	w.declare(3, "1", catalog.Route{Match: "GET /hello", Upstream: url})
	w.do("GET", "/hello", "good", nil)
	resp, body := w.do("GET", "/hello", "good", nil)
	if resp.StatusCode != 429 || !strings.HasPrefix(resp.Header.Get("Retry-After"), "432") || !strings.Contains(body, `"violated-policies":["daily"]`) || !strings.Contains(body, `"retryable":true`) {
		t.Errorf("%d Retry-After %q %s", resp.StatusCode, resp.Header.Get("Retry-After"), body)
	}
	w.ended(1, 0, 0)
}

func TestUpstreamOutcomes(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	t.Cleanup(func() { close(hold) })
	url := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/400":
			w.WriteHeader(400)
		case "/500":
			w.WriteHeader(500)
		case "/slow":
			select {
			case <-hold:
			case <-r.Context().Done():
			}
		}
	})
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	down := "http://" + dead.Addr().String()
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	w.declare(2, "3", catalog.Route{Match: "GET /", Upstream: url}, catalog.Route{Match: "GET /down", Upstream: down},
		catalog.Route{Match: "GET /slow", Upstream: url, Timeout: 30 * time.Millisecond})
	for _, c := range []struct {
		path   string
		status int
		code   string
	}{
		{"/down", 502, "upstream_unreachable"},
		{"/slow", 504, "upstream_timeout"},
		{"/500", 500, ""},
		{"/400", 400, ""},
		{"/200", 200, ""},
		{"/500", 500, ""},
		{"/200", 200, ""},
		{"/200", 429, "quota_exceeded"},
	} {
		resp, body := w.do("GET", c.path, "good", nil)
		if resp.StatusCode != c.status || !strings.Contains(body, c.code) || resp.Header.Get("Decision-Id") == "" {
			t.Errorf("%s: %d %s", c.path, resp.StatusCode, body)
		}
	}
	w.ended(3, 4, 0)
}

func TestStreamsWhileTheUpstreamIsOpen(t *testing.T) {
	t.Parallel()
	more := make(chan struct{})
	url := upstream(t, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "first")
		w.(http.Flusher).Flush() //nolint:errcheck // a test's type assertion
		<-more
		fmt.Fprint(w, " last")
	})
	w := newWorld(t)
	w.declare(2, "100", catalog.Route{Match: "GET /", Upstream: url})
	req, err := http.NewRequestWithContext(t.Context(), "GET", w.gw.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer good")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b := make([]byte, 5)
	if _, err := io.ReadFull(resp.Body, b); err != nil || string(b) != "first" {
		t.Fatalf("%q %v", b, err)
	}
	if n := len(w.events()); n != 1 {
		t.Errorf("%d events while the answer runs, want 1: it settled with its headers", n)
	}
	close(more)
	rest, err := io.ReadAll(resp.Body)
	if err != nil || string(rest) != " last" {
		t.Fatalf("%q %v", rest, err)
	}
	w.ended(1, 0, 0)
}

func TestIncompleteAnswers(t *testing.T) {
	t.Parallel()
	gone := make(chan struct{})
	url := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/cut" {
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, "short")
			w.(http.Flusher).Flush() //nolint:errcheck // a test's type assertion
			panic(http.ErrAbortHandler)
		}
		fmt.Fprint(w, "first")
		w.(http.Flusher).Flush() //nolint:errcheck // a test's type assertion
		<-r.Context().Done()
		close(gone)
	})
	w := newWorld(t)
	w.declare(2, "100", catalog.Route{Match: "GET /", Upstream: url})
	for _, path := range []string{"/cut", "/client-leaves"} {
		req, err := http.NewRequestWithContext(t.Context(), "GET", w.gw.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer good")
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil && path == "/cut" {
			continue // the connection may end before the first byte is out
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := resp.Body.Read(make([]byte, 5)); err != nil && path != "/cut" {
			t.Fatal(err)
		}
		if path == "/cut" {
			_, _ = io.ReadAll(resp.Body) // ends early
		}
		if err := resp.Body.Close(); err != nil {
			t.Fatal(err)
		}
	}
	<-gone
	w.gw.Close() // waits for the handlers
	w.ended(2, 0, 2)
	for _, r := range w.events() {
		if r.Flags&store.Incomplete == 0 {
			t.Errorf("event %s is not flagged", r.Event.ID)
		}
	}
}

func TestWebSocketEchoes(t *testing.T) {
	t.Parallel()
	url := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "websocket" {
			w.WriteHeader(400)
			return
		}
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		fmt.Fprint(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_, _ = io.Copy(c, rw) // echoes until the client closes
	})
	w := newWorld(t)
	w.declare(2, "1", catalog.Route{Match: "GET /ws", Upstream: url})
	c, err := net.Dial("tcp", strings.TrimPrefix(w.gw.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET /ws HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer good\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	br := bufio.NewReader(c)
	resp, err := http.ReadResponse(br, nil)
	if err != nil || resp.StatusCode != 101 || resp.Header.Get("Decision-Id") == "" {
		t.Fatalf("%+v %v", resp, err)
	}
	if n := len(w.events()); n != 1 {
		t.Errorf("%d events after the upgrade, want 1", n)
	}
	for i := range 1000 {
		msg := frame(fmt.Sprintf("message %d", i))
		if _, err := c.Write(msg); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(msg))
		if _, err := io.ReadFull(br, got); err != nil || !bytes.Equal(got, msg) {
			t.Fatalf("echo %d: %q %v", i, got, err)
		}
	}
	second, _ := w.do("GET", "/ws", "good", nil)
	if second.StatusCode != 429 {
		t.Errorf("second connection: %d, want 429", second.StatusCode)
	}
}

// frame is a masked WebSocket text frame (RFC 6455, section 5.2) of fewer than 126 bytes, with a zero mask.
func frame(s string) []byte {
	return append([]byte{0x81, 0x80 | byte(len(s)), 0, 0, 0, 0}, s...)
}

func TestHTTP2(t *testing.T) {
	t.Parallel()
	url := upstream(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Proto) })
	w := newWorld(t)
	w.declare(2, "1000", catalog.Route{Match: "GET /", Upstream: url})
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	clear := &http.Client{Transport: &http.Transport{Protocols: &p}}
	secure := httptest.NewUnstartedServer(w.gw.Config.Handler)
	secure.EnableHTTP2 = true
	secure.StartTLS()
	defer secure.Close()
	overTLS := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}} //nolint:gosec // a test's own certificate
	for name, c := range map[string]struct {
		client *http.Client
		url    string
	}{"clear text": {clear, w.gw.URL}, "TLS": {overTLS, secure.URL}} {
		for range 50 {
			req, err := http.NewRequestWithContext(t.Context(), "GET", c.url, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer good")
			resp, err := c.client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(resp.Body)
			if err != nil || resp.Body.Close() != nil || resp.ProtoMajor != 2 || resp.StatusCode != 200 || string(b) != "HTTP/1.1" {
				t.Fatalf("%s: %s %d %q %v", name, resp.Proto, resp.StatusCode, b, err)
			}
		}
	}
	w.ended(100, 0, 0)
}

func TestOversizedRequests(t *testing.T) {
	t.Parallel()
	url := upstream(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // too long on purpose
	})
	w := newWorld(t)
	w.declare(2, "100", catalog.Route{Match: "POST /", Upstream: url})
	big := strings.Repeat("x", 1<<20+1)
	resp, body := w.do("POST", "/", "good", strings.NewReader(big))
	if resp.StatusCode != 413 || !strings.Contains(body, "body_too_large") {
		t.Errorf("declared length: %d %s", resp.StatusCode, body)
	}
	resp, body = w.do("POST", "/", "good", io.MultiReader(strings.NewReader(big))) // chunked
	if resp.StatusCode != 413 || !strings.Contains(body, "body_too_large") {
		t.Errorf("chunked: %d %s", resp.StatusCode, body)
	}
	resp, _ = w.do("POST", "/", "good", nil, func(r *http.Request) { r.Header.Set("X-Big", strings.Repeat("x", 80<<10)) })
	if resp.StatusCode != 431 {
		t.Errorf("headers: %d, want 431", resp.StatusCode)
	}
	w.ended(0, 1, 0)
}

func TestAccessLogHasNoSecrets(t *testing.T) {
	t.Parallel()
	url := upstream(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") })
	var buf bytes.Buffer
	w := newWorld(t, func(c *Config) { c.Access = slog.New(slog.NewJSONHandler(&buf, nil)) })
	w.declare(2, "100", catalog.Route{Match: "GET /", Upstream: url})
	w.do("GET", "/hello?token=hidden", "good", nil)
	w.do("POST", "/nowhere", "good", nil)
	w.gw.Close()
	line := buf.String()
	for _, secret := range []string{"hidden", "good", "Bearer"} {
		if strings.Contains(line, secret) {
			t.Errorf("the access log holds %q: %s", secret, line)
		}
	}
	for _, want := range []string{`"path":"/hello"`, `"status":200`, `"bytes":5`, `"customer":"acme"`, `"key":"` + keyID, `"decision":"dec_`, `"status":404`, `"code":"route_unknown"`} {
		if !strings.Contains(line, want) {
			t.Errorf("the access log lacks %s: %s", want, line)
		}
	}
}
