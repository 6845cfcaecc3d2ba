package wire

import (
	"bufio"
	"io"
	"maps"
	"net/http"
	"reflect"
	"strings"
	"testing"
)

// FuzzHead holds the parser to net/http: what it takes, net/http takes too, and both see the same message.
func FuzzHead(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: 1\r\nX-A: 2\r\n\r\nhello", "HTTP/1.0 200\r\n\r\nrest", "HTTP/1.1 204 No Content\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n", "HTTP/1.1 200 OK\nContent-Length:0\n\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
		"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", "HTTP/1.1 200 OK\r\nA : b\r\n\r\n", "HTTP/1.1 200 OK\r\nConnection: close, X-A\r\nX-A: 1\r\n\r\n", "HTTP/1.1 2000 OK\r\n\r\n", "HTTP/2.0 200 OK\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n", "HTTP/1.1 200 OK\r\nA: \x00\r\n\r\n", "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		c := &conn{client: New(Config{}), r: bufio.NewReaderSize(strings.NewReader(string(raw)), readBytes)}
		if c.readHead() != nil {
			return
		}
		h := http.Header{}
		d, err := parse(string(c.head), h)
		if err != nil {
			return
		}
		resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(string(raw))), &http.Request{Method: "GET"})
		if err != nil {
			t.Fatalf("%q is taken, net/http: %v", c.head, err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != d.status || d.chunked != (len(resp.TransferEncoding) > 0) && bodied(d.status) {
			t.Fatalf("%q: %+v, net/http %+v", c.head, d, resp)
		}
		if bodied(d.status) && resp.ContentLength != d.length && d.length != 0 {
			t.Fatalf("%q: length %d, net/http %d", c.head, d.length, resp.ContentLength)
		}
		want := resp.Header.Clone()
		asSent := http.Header{}
		if _, lines, ok := cutLine(string(c.head)); !ok || fields(lines, asSent) != nil {
			t.Fatal("parsed once, not twice")
		}
		for _, v := range asSent["Connection"] { // net/http takes the field away
			for name := range strings.SplitSeq(v, ",") {
				if name = strings.TrimSpace(name); !strings.EqualFold(name, "content-length") {
					want.Del(name)
				}
			}
		}
		dropHop(want)
		delete(h, "Content-Length")
		delete(want, "Content-Length") // of a 204 or 304 net/http leaves it or not
		if !maps.EqualFunc(h, want, func(a, b []string) bool { return reflect.DeepEqual(a, b) }) {
			t.Fatalf("%q: %v, net/http %v", c.head, h, want)
		}
		if ends := d.chunked || d.length >= 0 || !bodied(d.status); d.keep && ends && resp.Close { // what has no end is not kept by Do
			t.Fatalf("%q is kept", c.head)
		}
		if !bodied(d.status) {
			return
		}
		_, _ = io.Copy(io.Discard, resp.Body) // its framing is tested with both ways of forwarding
	})
}

func bodied(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}

func TestRefusedHeads(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"folded":                 "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
		"space before colon":     "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
		"two lengths":            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
		"list of lengths":        "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n",
		"sign":                   "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n",
		"huge length":            "HTTP/1.1 200 OK\r\nContent-Length: 9999999999999999999\r\n\r\n",
		"empty length":           "HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n",
		"length and coding":      "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
		"two codings":            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
		"other coding":           "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
		"coding in 1.0":          "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
		"return in value":        "HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n",
		"zero in value":          "HTTP/1.1 200 OK\r\nA: b\x00c\r\n\r\n",
		"no name":                "HTTP/1.1 200 OK\r\n: b\r\n\r\n",
		"no colon":               "HTTP/1.1 200 OK\r\nAb\r\n\r\n",
		"no status line":         "\r\n",
		"long status":            "HTTP/1.1 2000 OK\r\n\r\n",
		"short status":           "HTTP/1.1 20 OK\r\n\r\n",
		"status below 100":       "HTTP/1.1 099 OK\r\n\r\n",
		"another version":        "HTTP/2.0 200 OK\r\n\r\n",
		"line ends in the value": "HTTP/1.1 200 OK\r\nA: b\r\n",
	} {
		if d, err := parse(text, http.Header{}); err == nil {
			t.Errorf("%s: %+v", name, d)
		}
	}
}
