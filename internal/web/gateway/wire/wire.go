// Package wire sends plain HTTP/1.1 requests over kept connections: one goroutine, no copies of headers, never a request twice.
// What is not plain (uploads, upgrades, TLS, HTTP/2) goes another way.
package wire

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"sync"
	"time"
)

// Config of a Client.
type Config struct {
	Dial func(ctx context.Context, network, address string) (net.Conn, error) // required
	Now  func() time.Time                                                     // real time, for deadlines; required
	// MaxHead bounds an answer's head in bytes. Default 256 KiB.
	MaxHead int
	// MaxIdle bounds the connections that are kept for an address, Idle how long. Defaults 256 and 90 s.
	MaxIdle int
	Idle    time.Duration
}

const (
	maxHeadDefault = 256 << 10
	maxIdleDefault = 256
	idleDefault    = 90 * time.Second
	readBytes      = 4 << 10
	informMax      = 16 // answers 1xx before the real one
)

// The errors of Do beside ErrMalformed, those of the connection and the context's.
var (
	ErrClosed  = errors.New("the upstream closed the connection before it answered")
	ErrUpgrade = errors.New("the upstream changed to a protocol that was not asked for")
	ErrHead    = errors.New("the head of the answer is too large")
)

// Client keeps connections to upstreams. It is safe for concurrent use.
type Client struct {
	cfg   Config
	mu    sync.Mutex
	kept  map[string][]*conn // the one that was used last at the end
	timer *time.Timer        // closes what is idle; nil: nothing is kept
}

// New makes a client without connections.
func New(cfg Config) *Client {
	if cfg.MaxHead == 0 {
		cfg.MaxHead = maxHeadDefault
	}
	if cfg.MaxIdle == 0 {
		cfg.MaxIdle = maxIdleDefault
	}
	if cfg.Idle == 0 {
		cfg.Idle = idleDefault
	}
	return &Client{cfg: cfg, kept: map[string][]*conn{}}
}

// Request is one request as bytes.
type Request struct {
	Head, Body []byte // Head ends with its empty line
	NoBody     bool   // the answer has no body, whatever its head says: HEAD
	// Timeout bounds the time until the answer's head is there; 0: none.
	Timeout time.Duration
	// Header is filled with the answer's fields, less those of the connection. After an error it may hold some.
	Header http.Header
	// Inform is told of each answer 1xx; may be nil.
	Inform func(status int, h http.Header)
}

// Response is an answer; its body is read from it. Close it once.
type Response struct {
	Status    int
	Length    int64       // of the body; -1: not known
	Announced []string    // the fields that shall come after the body
	Trailer   http.Header // those that came, once Read said io.EOF

	c      *conn
	ctx    context.Context //nolint:containedctx // the response lives as long as the call
	stop   func() bool
	left   int64     // bytes of the body; -1: up to the connection's end
	chunks io.Reader // of a chunked body
	keep   bool
	ended  bool
}

// conn is one connection. Its user owns all of it.
type conn struct {
	net.Conn
	client *Client
	addr   string
	r      *bufio.Reader
	head   []byte
	since  time.Time // idle
	probe  probe
	resp   Response
}

// expired is a deadline that is over.
func expired() time.Time { return time.Unix(1, 0) }

// interrupt ends what the connection waits for.
func (c *conn) interrupt() { _ = c.SetDeadline(expired()) } // it fails on a closed connection

// Do sends a request once and reads the answer's head. It returns the context's error when that is over first.
func (c *Client) Do(ctx context.Context, addr string, req *Request) (*Response, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	k := c.take(addr)
	if k == nil {
		nc, err := c.cfg.Dial(ctx, "tcp", addr)
		if err != nil {
			return nil, err
		}
		k = &conn{Conn: nc, client: c, addr: addr, r: bufio.NewReaderSize(nc, readBytes)}
		k.probe.init(nc)
	}
	stop := context.AfterFunc(ctx, k.interrupt)
	r, err := k.exchange(ctx, req)
	if err != nil {
		stop()
		_ = k.Close() // nothing is to be saved on it
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, err
	}
	r.stop = stop
	return r, nil
}

func (c *conn) exchange(ctx context.Context, req *Request) (*Response, error) {
	var deadline time.Time
	if req.Timeout > 0 {
		deadline = c.client.cfg.Now().Add(req.Timeout)
	}
	if err := c.SetDeadline(deadline); err != nil {
		return nil, err
	}
	if ctx.Err() != nil { // it may have been over before the deadline was set
		return nil, ctx.Err()
	}
	_, failed := c.Write(req.Head)
	if failed == nil && len(req.Body) > 0 {
		_, failed = c.Write(req.Body)
	}
	d, err := c.answer(req) // an upstream may have answered before it read all
	if err != nil {
		if failed != nil {
			err = failed
		}
		return nil, err
	}
	r := &c.resp
	*r = Response{Status: d.status, Length: d.length, Announced: d.announced, c: c, ctx: ctx, left: d.length, keep: d.keep && failed == nil}
	switch {
	case req.NoBody || d.status == http.StatusNoContent || d.status == http.StatusNotModified:
		r.left, r.ended = 0, true
		if d.status == http.StatusNoContent && (d.chunked || d.length > 0) || d.status == http.StatusNotModified && d.chunked {
			r.keep = false // it may send a body all the same, which the next request would take for its answer
		}
	case d.chunked:
		r.chunks = httputil.NewChunkedReader(c.r)
	case d.length == 0:
		r.ended = true
	case d.length < 0:
		r.keep = false
	}
	if !r.ended && (r.left < 0 || r.left > int64(c.r.Buffered())) { // what is still to come has no deadline
		if err := c.SetDeadline(time.Time{}); err != nil {
			return nil, err
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	return r, nil
}

// answer reads heads until one is not 1xx.
func (c *conn) answer(req *Request) (head, error) {
	for range informMax {
		if err := c.readHead(); err != nil {
			return head{}, err
		}
		d, err := parse(string(c.head), req.Header)
		switch {
		case err != nil:
			return head{}, err
		case d.status == http.StatusSwitchingProtocols:
			return head{}, ErrUpgrade
		case d.status >= http.StatusOK:
			return d, nil
		}
		if req.Inform != nil {
			req.Inform(d.status, req.Header)
		}
		clear(req.Header)
	}
	return head{}, malformed("too many answers 1xx")
}

// readHead reads up to the empty line.
func (c *conn) readHead() error {
	c.head = c.head[:0]
	begin := 0 // of the line
	for {
		part, err := c.r.ReadSlice('\n')
		if len(c.head)+len(part) > c.client.cfg.MaxHead {
			return ErrHead
		}
		c.head = append(c.head, part...)
		switch {
		case err == nil:
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err == io.EOF && len(c.head) == 0:
			return ErrClosed
		case err == io.EOF:
			return io.ErrUnexpectedEOF
		default:
			return err
		}
		if line := c.head[begin:]; len(line) == 1 || len(line) == 2 && line[0] == '\r' {
			return nil
		}
		begin = len(c.head)
	}
}

// Buffered says whether some of the body is here already.
func (r *Response) Buffered() bool { return r.c.r.Buffered() > 0 }

// Read reads the body. io.EOF comes only when it is whole; a body that breaks off ends with another error.
func (r *Response) Read(p []byte) (int, error) {
	if r.ended {
		return 0, io.EOF
	}
	n, err := r.read(p)
	if err != nil && !errors.Is(err, io.EOF) && r.ctx.Err() != nil {
		err = r.ctx.Err()
	}
	return n, err
}

func (r *Response) read(p []byte) (int, error) {
	switch {
	case r.chunks != nil:
		n, err := r.chunks.Read(p)
		if errors.Is(err, io.EOF) {
			err = r.trailer()
		}
		return n, err
	case r.left < 0:
		n, err := r.c.r.Read(p)
		r.ended = err == io.EOF
		return n, err
	}
	if int64(len(p)) > r.left {
		p = p[:r.left]
	}
	n, err := r.c.r.Read(p)
	r.left -= int64(n)
	if err == io.EOF && r.left > 0 {
		return n, io.ErrUnexpectedEOF
	}
	if r.left == 0 {
		r.ended = true
		return n, io.EOF
	}
	return n, err
}

// trailer reads what follows the last chunk.
func (r *Response) trailer() error {
	if err := r.c.readHead(); err != nil {
		if errors.Is(err, ErrClosed) {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	r.ended = true
	if len(r.c.head) <= 2 {
		return io.EOF
	}
	h := http.Header{}
	if err := fields(string(r.c.head), h); err != nil {
		r.keep = false
		return err
	}
	for name := range h {
		if !trails(name) {
			delete(h, name)
		}
	}
	r.Trailer = h
	return io.EOF
}

// Close gives the connection back if the answer was read to its end, and closes it otherwise. The response must not be used
// any more.
func (r *Response) Close() error {
	c := r.c
	if !r.stop() || !r.ended || !r.keep || c.r.Buffered() > 0 {
		return c.Close()
	}
	c.resp = Response{}
	c.client.give(c)
	return nil
}

// take lends the connection that was used last, if it is still open.
func (c *Client) take(addr string) *conn {
	for {
		c.mu.Lock()
		kept := c.kept[addr]
		if len(kept) == 0 {
			c.mu.Unlock()
			return nil
		}
		k := kept[len(kept)-1]
		kept[len(kept)-1] = nil
		c.kept[addr] = kept[:len(kept)-1]
		c.mu.Unlock()
		if k.SetDeadline(time.Time{}) == nil && k.probe.quiet() {
			return k
		}
		_ = k.Close() // the upstream closed it, or said what nobody asked for
	}
}

// give keeps a connection.
func (c *Client) give(k *conn) {
	k.since = c.cfg.Now()
	if cap(k.head) > 2*readBytes {
		k.head = nil
	}
	c.mu.Lock()
	full := len(c.kept[k.addr]) >= c.cfg.MaxIdle
	if !full {
		c.kept[k.addr] = append(c.kept[k.addr], k)
		if c.timer == nil {
			c.timer = time.AfterFunc(c.cfg.Idle, c.reap)
		}
	}
	c.mu.Unlock()
	if full {
		_ = k.Close() // one too many
	}
}

// reap closes the connections that were idle for long.
func (c *Client) reap() {
	limit := c.cfg.Now().Add(-c.cfg.Idle)
	var old []*conn
	c.mu.Lock()
	for addr, kept := range c.kept {
		n := 0
		for n < len(kept) && !kept[n].since.After(limit) {
			n++
		}
		old = append(old, kept[:n]...)
		if n == len(kept) {
			delete(c.kept, addr)
		} else {
			c.kept[addr] = append([]*conn(nil), kept[n:]...)
		}
	}
	c.timer = nil
	if len(c.kept) > 0 {
		c.timer = time.AfterFunc(c.cfg.Idle, c.reap)
	}
	c.mu.Unlock()
	for _, k := range old {
		_ = k.Close() // nobody uses it
	}
}

// Close closes the connections that are kept. Running answers go on.
func (c *Client) Close() {
	c.mu.Lock()
	kept := c.kept
	c.kept = map[string][]*conn{}
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
	c.mu.Unlock()
	for _, ks := range kept {
		for _, k := range ks {
			_ = k.Close() // nobody uses it
		}
	}
}
