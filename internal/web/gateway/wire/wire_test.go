package wire

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// upstream answers each connection's n-th request with what answer says; an empty text closes the connection.
func upstream(t *testing.T, answer func(connection, request int) string) (address string, accepted *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	accepted = new(atomic.Int64)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			n := int(accepted.Add(1))
			go func() {
				defer c.Close()
				br := bufio.NewReader(c)
				for i := 1; ; i++ {
					r, err := http.ReadRequest(br)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, r.Body) // what came of it
					text := answer(n, i)
					if text == "" {
						return
					}
					if _, err := io.WriteString(c, text); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String(), accepted
}

func client(change ...func(*Config)) *Client {
	cfg := Config{Dial: (&net.Dialer{}).DialContext, Now: time.Now}
	for _, c := range change {
		c(&cfg)
	}
	return New(cfg)
}

const get = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"

func call(ctx context.Context, c *Client, addr string) (string, error) {
	r, err := c.Do(ctx, addr, &Request{Head: []byte(get), Timeout: 5 * time.Second, Header: http.Header{}})
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(r)
	return string(b), errors.Join(err, r.Close())
}

func TestConnectionsAreKept(t *testing.T) {
	t.Parallel()
	addr, accepted := upstream(t, func(int, int) string { return "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi" })
	c := client()
	defer c.Close()
	for range 50 {
		if b, err := call(t.Context(), c, addr); err != nil || b != "hi" {
			t.Fatalf("%q %v", b, err)
		}
	}
	if n := accepted.Load(); n != 1 {
		t.Errorf("%d connections for 50 calls in turn", n)
	}
}

func TestConnectionsThatCannotBeKept(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"close":             "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi",
		"HTTP/1.0":          "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi",
		"more than asked":   "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
		"chunked and more":  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
		"bad trailer field": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
	} {
		addr, accepted := upstream(t, func(int, int) string { return answer })
		c := client()
		for range 3 {
			if b, err := call(t.Context(), c, addr); err != nil || b != "hi" {
				t.Fatalf("%s: %q %v", name, b, err)
			}
		}
		c.Close()
		if n := accepted.Load(); n != 3 && name != "bad trailer field" {
			t.Errorf("%s: %d connections for 3 calls", name, n)
		}
	}
}

// A connection that the upstream closed while it was idle is found out before the request is sent.
func TestClosedConnectionIsNotUsed(t *testing.T) {
	t.Parallel()
	closed := make(chan struct{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for i := 0; ; i++ {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			if _, err := http.ReadRequest(bufio.NewReader(nc)); err == nil {
				fmt.Fprintf(nc, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d", i)
			}
			_ = nc.Close() // the point of this test
			if i == 0 {
				close(closed)
			}
		}
	}()
	c := client()
	defer c.Close()
	if b, err := call(t.Context(), c, l.Addr().String()); err != nil || b != "0" {
		t.Fatalf("%q %v", b, err)
	}
	<-closed
	if b, err := call(t.Context(), c, l.Addr().String()); err != nil || b != "1" {
		t.Errorf("%q %v", b, err)
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		answer string
		want   error
	}{
		"nothing":          {"", ErrClosed},
		"half a head":      {"HTTP/1.1 200 OK\r\nConn", io.ErrUnexpectedEOF},
		"malformed":        {"HELLO\r\n\r\n", ErrMalformed},
		"upgrade":          {"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", ErrUpgrade},
		"endless head":     {"HTTP/1.1 200 OK\r\nA: " + strings.Repeat("x", 300<<10) + "\r\n\r\n", ErrHead},
		"many heads":       {strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 20), ErrMalformed},
		"short body":       {"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi", io.ErrUnexpectedEOF},
		"chunk breaks off": {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhi", io.ErrUnexpectedEOF},
		"no last chunk":    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n", io.ErrUnexpectedEOF},
		"no trailer's end": {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n", io.ErrUnexpectedEOF},
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
				_, _ = io.WriteString(c, x.answer) // the client may hang up first
			}
			_ = c.(*net.TCPConn).CloseWrite() //nolint:errcheck // accepted as TCP
			_, _ = io.Copy(io.Discard, c)     // until the client closes
			_ = c.Close()                     // nothing follows
		}()
		c := client()
		if _, err := call(t.Context(), c, l.Addr().String()); !errors.Is(err, x.want) {
			t.Errorf("%s: %v, want %v", name, err, x.want)
		}
		if len(c.kept[l.Addr().String()]) != 0 {
			t.Errorf("%s: the connection is kept", name)
		}
		_ = l.Close() // nothing follows
	}
}

func TestTimeoutAndCancel(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	defer close(hold)
	addr, _ := upstream(t, func(int, int) string { <-hold; return "" })
	c := client()
	_, err := c.Do(t.Context(), addr, &Request{Head: []byte(get), Timeout: 20 * time.Millisecond, Header: http.Header{}})
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("%v, want a timeout", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, err := c.Do(ctx, addr, &Request{Head: []byte(get), Header: http.Header{}}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want canceled", err)
	}
	addr, _ = upstream(t, func(int, int) string { return "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi" })
	ctx, cancel = context.WithCancel(t.Context())
	r, err := c.Do(ctx, addr, &Request{Head: []byte(get), Timeout: 5 * time.Second, Header: http.Header{}})
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(20*time.Millisecond, cancel)
	if b, err := io.ReadAll(r); !errors.Is(err, context.Canceled) || string(b) != "hi" {
		t.Errorf("%q %v, want canceled", b, err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// memoryConn answers each request that is written to it.
type memoryConn struct {
	net.Conn
	closed atomic.Bool
	in     *strings.Reader
}

func (c *memoryConn) Write(p []byte) (int, error) {
	c.in = strings.NewReader("HTTP/1.1 204 No Content\r\n\r\n")
	return len(p), nil
}
func (c *memoryConn) Read(p []byte) (int, error)  { return c.in.Read(p) }
func (c *memoryConn) SetDeadline(time.Time) error { return nil }
func (c *memoryConn) Close() error                { c.closed.Store(true); return nil }

func TestIdleConnectionsAreClosed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var made []*memoryConn
		c := client(func(cfg *Config) {
			cfg.MaxIdle, cfg.Idle = 2, time.Minute
			cfg.Dial = func(context.Context, string, string) (net.Conn, error) {
				made = append(made, &memoryConn{})
				return made[len(made)-1], nil
			}
		})
		var open []*Response
		for range 3 {
			r, err := c.Do(t.Context(), "x:1", &Request{Head: []byte(get), Header: http.Header{}})
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, r)
		}
		for _, r := range open {
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if n := len(c.kept["x:1"]); n != 2 || !made[2].closed.Load() {
			t.Errorf("%d kept, want 2", n)
		}
		<-time.After(30 * time.Second) // of the bubble
		if _, err := call(t.Context(), c, "x:1"); err != nil {
			t.Fatal(err)
		}
		<-time.After(31 * time.Second)
		synctest.Wait()
		if !made[0].closed.Load() || made[1].closed.Load() {
			t.Error("the one that was idle for a minute is closed, and no other")
		}
		<-time.After(2 * time.Minute)
		synctest.Wait()
		if !made[1].closed.Load() || c.timer != nil || len(c.kept) != 0 {
			t.Error("something is kept for ever")
		}
	})
}

// A head that announces a body which its status forbids: whether it comes is not known, so the connection is not used again.
func TestForbiddenBodies(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\n",
		"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n",
	} {
		addr, accepted := upstream(t, func(int, int) string { return text })
		c := client()
		for range 2 {
			if body, err := call(t.Context(), c, addr); err != nil || body != "" {
				t.Errorf("%q: %q %v", text, body, err)
			}
		}
		if accepted.Load() != 2 {
			t.Errorf("%q: %d connections, want 2", text, accepted.Load())
		}
	}
}
