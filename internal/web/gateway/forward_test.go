package gateway

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tallystick/tallystick/internal/core/catalog"
)

// TestMain runs all tests twice: plain requests by connections of our own, then all requests by the standard transport.
func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 && flag.Lookup("test.bench").Value.String() == "" {
		if err := os.Setenv(standardEnv, "1"); err != nil {
			panic(err)
		}
		code = m.Run()
	}
	os.Exit(code)
}

const standardEnv = "TALLY_TEST_STANDARD_TRANSPORT"

// script is an upstream that answers every request with the same bytes, and keeps what it was sent.
type script struct {
	mu   sync.Mutex
	got  []*http.Request
	body []string
	url  string
}

func newScript(t *testing.T, text string, closes bool) *script {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	s := &script{url: "http://" + l.Addr().String()}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go s.serve(c, text, closes)
		}
	}()
	return s
}

func (s *script) serve(c net.Conn, text string, closes bool) {
	defer c.Close()
	br := bufio.NewReader(c)
	for {
		r, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		b, _ := io.ReadAll(r.Body) // what came of it
		s.mu.Lock()
		s.got, s.body = append(s.got, r), append(s.body, string(b))
		s.mu.Unlock()
		if _, err := io.WriteString(c, text); err != nil || closes {
			return
		}
	}
}

// behaviours are answers of upstreams, and what the client must see of them through either way of forwarding.
var behaviours = []struct {
	name, answer, method, sent string
	closes                     bool
	status                     int
	want                       string // of the body
	header, no                 string // "Name: value" that must be there; a name that must not
	broken                     bool   // the client sees the answer break off
	settled                    int64
}{
	{name: "length", answer: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: 1\r\n\r\nhi", status: 200, want: "hi", header: "X-A: 1", settled: 1},
	{name: "chunked", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", status: 200, want: "hi", settled: 1},
	{name: "until the end", answer: "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhi", closes: true, status: 200, want: "hi", settled: 1},
	{name: "HTTP/1.0", answer: "HTTP/1.0 200 OK\r\n\r\nhi", closes: true, status: 200, want: "hi", settled: 1},
	{name: "empty", answer: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", status: 200, settled: 1},
	{name: "204", answer: "HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n", status: 204, header: "X-A: 1", settled: 1},
	{name: "304", answer: "HTTP/1.1 304 Not Modified\r\nEtag: \"x\"\r\n\r\n", status: 304, header: "Etag: \"x\"", settled: 1},
	{name: "304 with a length", answer: "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", status: 304, settled: 1},
	{name: "HEAD", answer: "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", method: "HEAD", status: 200, header: "Content-Length: 9", settled: 1},
	{name: "HEAD, chunked", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", method: "HEAD", status: 200, settled: 1},
	{name: "early hints", answer: "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", status: 200, want: "hi", settled: 1},
	{name: "continue unasked", answer: "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", status: 200, want: "hi", settled: 1},
	{name: "hop by hop", answer: "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nKeep-Alive: timeout=9\r\nX-Hop: 1\r\nX-End: 2\r\nContent-Length: 2\r\n\r\nhi", status: 200, want: "hi", header: "X-End: 2", no: "X-Hop", settled: 1},
	{name: "keep-alive", answer: "HTTP/1.1 200 OK\r\nKeep-Alive: timeout=9\r\nContent-Length: 2\r\n\r\nhi", status: 200, want: "hi", no: "Keep-Alive", settled: 1},
	{name: "trailer", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 7\r\n\r\n", status: 200, want: "hi", header: "X-Sum: 7", settled: 1},
	{name: "many fields", answer: "HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 2\r\n\r\nhi", status: 200, want: "hi", header: "Set-Cookie: b=2", settled: 1},
	{name: "line feeds only", answer: "HTTP/1.1 200 OK\nContent-Length: 2\n\nhi", status: 200, want: "hi", settled: 1},
	{name: "500", answer: "HTTP/1.1 500 Oops\r\nContent-Length: 2\r\n\r\nno", status: 500, want: "no"},
	{name: "404", answer: "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno", status: 404, want: "no", settled: 1},
	{name: "cut", answer: "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi", closes: true, status: 200, want: "hi", broken: true, settled: 1},
	{name: "chunks cut", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n", closes: true, status: 200, want: "hi", broken: true, settled: 1},
	{name: "bad chunk", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\nzz\r\n", closes: true, status: 200, want: "hi", broken: true, settled: 1},
	{name: "nothing", closes: true, status: 502, want: "upstream_unreachable"},
	{name: "no HTTP", answer: "SSH-2.0-x\r\n\r\n", closes: true, status: 502, want: "upstream_unreachable"},
	{name: "half a head", answer: "HTTP/1.1 200 OK\r\nConte", closes: true, status: 502, want: "upstream_unreachable"},
	{name: "bad length", answer: "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nhi", status: 502, want: "upstream_unreachable"},
	{name: "two lengths", answer: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi", status: 502, want: "upstream_unreachable"},
	{name: "strange coding", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: x\r\n\r\nhi", status: 502, want: "upstream_unreachable"},
	{name: "endless head", answer: "HTTP/1.1 200 OK\r\nX-A: " + strings.Repeat("x", 300<<10) + "\r\n\r\n", closes: true, status: 502, want: "upstream_unreachable"},
	{name: "short upload", answer: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", method: "POST", sent: "a body", status: 200, want: "hi", settled: 1},
	{name: "long upload", answer: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", method: "PUT", sent: strings.Repeat("x", 200<<10), status: 200, want: "hi", settled: 1},
	{name: "long answer", answer: "HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + strings.Repeat("y", 300000), status: 200, want: strings.Repeat("y", 300000), settled: 1},
}

func TestBehavioursOfUpstreams(t *testing.T) {
	t.Parallel()
	for _, c := range behaviours {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newScript(t, c.answer, c.closes)
			w := newWorld(t)
			w.declare(2, "100", catalog.Route{Match: "/", Upstream: s.url})
			if c.method == "" {
				c.method = "GET"
			}
			req, err := http.NewRequestWithContext(t.Context(), c.method, w.gw.URL+"/a%2Fb?q=1&r=%20", strings.NewReader(c.sent))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer good")
			resp, err := http.DefaultTransport.RoundTrip(req)
			if err != nil {
				if !c.broken {
					t.Fatal(err)
				}
				w.ended(c.settled, 1-c.settled, c.settled)
				return
			}
			b, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close() // its fault was read
			if resp.StatusCode != c.status || !strings.Contains(string(b), c.want) || (err != nil) != c.broken {
				t.Errorf("%d %.100q %v", resp.StatusCode, b, err)
			}
			name, value, _ := strings.Cut(c.header, ": ")
			if all := append(resp.Header[name], resp.Trailer[name]...); name != "" && !slices.Contains(all, value) {
				t.Errorf("%s: %q, want %q", name, all, value)
			}
			if resp.Header[c.no] != nil || resp.Header.Get("Decision-Id") == "" {
				t.Errorf("headers %v", resp.Header)
			}
			var cut int64
			if c.broken {
				cut = 1
			}
			w.ended(c.settled, 1-c.settled, cut)
			if len(s.got) != 1 || s.body[0] != c.sent || s.got[0].RequestURI != "/a%2Fb?q=1&r=%20" || s.got[0].Method != c.method {
				t.Errorf("the upstream saw %d: %+v", len(s.got), s.got)
			}
		})
	}
}

// Both ways send the same request to the upstream.
func TestBothWaysSendTheSame(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{
		"GET /x HTTP/1.1\r\nHost: api.example\r\nAuthorization: Bearer good\r\nAccept: */*\r\nX-Two: 1\r\nX-Two: 2\r\nConnection: X-Two\r\n\r\n",
		"GET /x;y?a=1;b=2&c=%zz HTTP/1.1\r\nHost: api.example\r\nAuthorization: Bearer good\r\nForwarded: for=1.1.1.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-For: 9.9.9.9\r\n\r\n",
		"POST //x/../y? HTTP/1.1\r\nHost: api.example\r\nAuthorization: Bearer good\r\nContent-Length: 0\r\nUser-Agent: me\r\nKeep-Alive: 1\r\nProxy-Authorization: x\r\n\r\n",
		"POST /x HTTP/1.1\r\nHost: api.example\r\nAuthorization: Bearer good\r\nContent-Length: 3\r\nTe: trailers\r\n\r\nabc",
		"PATCH /x HTTP/1.1\r\nHost: api.example\r\nAuthorization: Bearer good\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
		"DELETE /%41%2f?x HTTP/1.1\r\nHost: api.example\r\nAuthorization: Bearer good\r\nTally_Customer: forged\r\nCookie: a=1; b=2\r\n\r\n",
		"GET /x HTTP/1.0\r\nAuthorization: Bearer good\r\n\r\n",
		"GET http://api.example/x?q HTTP/1.1\r\nHost: api.example\r\nAuthorization: Bearer good\r\nExpect: x\r\n\r\n",
	} {
		var dumps []string
		for _, standard := range []bool{false, true} {
			s := newScript(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", false)
			w := newWorld(t, func(c *Config) { c.Standard = standard })
			w.declare(2, "100", catalog.Route{Match: "/", Upstream: s.url + "/base/"})
			c, r := w.raw(raw)
			if resp, err := http.ReadResponse(r, nil); err != nil || resp.StatusCode >= 400 && !strings.Contains(raw, "Expect") && !strings.Contains(raw, "//x") {
				t.Fatalf("%q: %v %v", raw, resp, err)
			}
			_ = c.Close() // answered
			w.gw.Close()
			if len(s.got) == 0 {
				dumps = append(dumps, "nothing")
				continue
			}
			var b bytes.Buffer
			fmt.Fprintf(&b, "%s %s %s host %v length %d coding %v body %q\n", s.got[0].Method, s.got[0].RequestURI, s.got[0].Proto,
				s.got[0].Host == strings.TrimPrefix(s.url, "http://"), s.got[0].ContentLength, s.got[0].TransferEncoding, s.body[0])
			if err := s.got[0].Header.Write(&b); err != nil {
				t.Fatal(err)
			}
			dumps = append(dumps, b.String())
		}
		if dumps[0] != dumps[1] {
			t.Errorf("%q: directly\n%s\nby the standard transport\n%s", raw, dumps[0], dumps[1])
		}
	}
}
