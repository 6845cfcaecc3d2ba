package gateway

import (
	"bytes"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/tallystick/tallystick/internal/core/catalog"
)

// BenchmarkForward is one request through the gateway to an upstream that costs almost nothing, without a client's connection:
// what admission, forwarding and settlement take.
func BenchmarkForward(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go canned(c)
		}
	}()
	for _, way := range []string{"direct", "standard"} {
		b.Run(way, func(b *testing.B) {
			w := newWorld(b, func(c *Config) { c.Standard = way == "standard" })
			w.declare(2, "1000000000", catalog.Route{Match: "GET /hello", Upstream: "http://" + l.Addr().String()})
			out := &silent{http.Header{}}
			r := httptest.NewRequest("GET", "/hello", nil)
			r.RemoteAddr = "127.0.0.1:1234"
			for name, v := range map[string]string{"Authorization": "Bearer good", "User-Agent": "bench/1", "Accept": "*/*", "Accept-Encoding": "gzip"} {
				r.Header.Set(name, v)
			}
			b.ReportAllocs()
			for b.Loop() {
				clear(out.h)
				w.gateway.ServeHTTP(out, r)
			}
			if out.h.Get("Decision-Id") == "" {
				b.Fatalf("%v", out.h)
			}
		})
	}
}

// canned answers each head with the same bytes.
func canned(c net.Conn) {
	defer c.Close()
	buf, n := make([]byte, 8<<10), 0
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Thu, 26 Nov 2026 18:00:00 GMT\r\nContent-Length: 17\r\n\r\n{\"hello\":\"world\"}")
	for {
		k, err := c.Read(buf[n:])
		if k == 0 || err != nil {
			return
		}
		n += k
		for {
			i := bytes.Index(buf[:n], []byte("\r\n\r\n"))
			if i < 0 {
				break
			}
			if _, err := c.Write(answer); err != nil {
				return
			}
			n = copy(buf, buf[i+4:n])
		}
	}
}
