package gateway

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// The bounds of a port. What passes them is refused.
const (
	headerTime     = 10 * time.Second // for a request's headers to arrive
	idleTime       = 2 * time.Minute  // between the requests of a connection
	headerMax      = 64 << 10         // bytes of a request's headers
	streamsMax     = 128              // requests at once on one HTTP/2 connection
	pingAfter      = 30 * time.Second // of silence on an HTTP/2 connection
	pingTime       = 15 * time.Second // for the answer to a ping
	writeTime      = time.Minute      // in which a connection must take what is written at once, 32 KiB as a rule
	formTime       = 2 * time.Minute  // for a form to arrive; other bodies have bounds of their own
	drainTime      = 10 * time.Second // for what a handler did not read of a body
	drainMax       = 256 << 10        // bytes of it; beyond, the connection is closed
	ConnectionsMax = 10_000           // connections of a port, where nobody says another number
)

// NewServer has the time-outs and bounds of a port.
func NewServer(h http.Handler, log *slog.Logger) *http.Server {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetHTTP2(true)
	p.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler: bodies{h, drainTime}, Protocols: p, ReadHeaderTimeout: headerTime, IdleTimeout: idleTime, MaxHeaderBytes: headerMax,
		HTTP2:    &http.HTTP2Config{MaxConcurrentStreams: streamsMax, SendPingTimeout: pingAfter, PingTimeout: pingTime, WriteByteTimeout: writeTime},
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// bodies bounds how long a request's body may keep a connection where nobody reads it: net/http takes what is left before it
// answers, and waits for it without end.
type bodies struct {
	http.Handler
	drain time.Duration
}

// ServeHTTP implements http.Handler.
func (b bodies) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Body == nil || r.Body == http.NoBody {
		b.Handler.ServeHTTP(w, r)
		return
	}
	in := &incoming{ReadCloser: r.Body}
	r.Body = in
	rc := http.NewResponseController(w)
	cut := func() { _ = rc.SetReadDeadline(time.Unix(1, 0)) } // a connection that is gone does not mind
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		in.timer.Store(time.AfterFunc(formTime, cut))
	}
	b.Handler.ServeHTTP(w, r)
	in.stop()
	if in.ended.Load() || r.ProtoMajor > 1 || r.Header["Upgrade"] != nil || r.Header["Expect"] != nil && !in.asked.Load() {
		return // there is nothing left, or net/http does not wait for it
	}
	t := time.AfterFunc(b.drain, cut)
	defer t.Stop()
	_, _ = io.CopyN(io.Discard, in.ReadCloser, drainMax) // what fails here fails again in net/http, which closes the connection
}

// incoming sees whether a body came to its end.
type incoming struct {
	io.ReadCloser
	asked, ended atomic.Bool
	timer        atomic.Pointer[time.Timer]
}

// Read implements io.Reader.
func (i *incoming) Read(p []byte) (int, error) {
	i.asked.Store(true)
	n, err := i.ReadCloser.Read(p)
	if err == io.EOF {
		i.ended.Store(true)
		i.stop()
	}
	return n, err
}

func (i *incoming) stop() {
	if t := i.timer.Load(); t != nil {
		t.Stop()
	}
}

// Listener bounds the connections of a port: one too many is closed at once and counted.
type Listener struct {
	net.Listener
	max      int64
	patience time.Duration // with a client that does not take what is written
	open     atomic.Int64
	refused  atomic.Int64
}

// NewListener takes at most n connections at once from l; below 1: ConnectionsMax.
func NewListener(l net.Listener, n int) *Listener {
	if n <= 0 {
		n = ConnectionsMax
	}
	return &Listener{Listener: l, max: int64(n), patience: writeTime}
}

// Open is how many connections there are, Refused how many were closed since the start because there were too many.
func (l *Listener) Open() int64 { return l.open.Load() }

// Refused counts connections that were one too many.
func (l *Listener) Refused() int64 { return l.refused.Load() }

// Accept waits for a connection that may be served.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.open.Add(1) <= l.max {
			return &counted{Conn: c, l: l}, nil
		}
		l.open.Add(-1)
		l.refused.Add(1)
		_ = c.Close() // nothing was said on it
	}
}

// counted is a connection that gives its place back. A write that the other side does not take in time ends it, unless it has a
// deadline of its own.
type counted struct {
	net.Conn
	l    *Listener
	once sync.Once
	own  atomic.Bool // somebody set a deadline for writing

	mu    sync.Mutex // guards timer; one writes at a time
	timer *time.Timer
}

// Write implements net.Conn.
func (c *counted) Write(p []byte) (int, error) {
	if c.own.Load() {
		return c.Conn.Write(p)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer == nil {
		c.timer = time.AfterFunc(c.l.patience, func() { _ = c.Conn.SetWriteDeadline(time.Unix(1, 0)) }) // it may be closed
	} else {
		c.timer.Reset(c.l.patience)
	}
	n, err := c.Conn.Write(p)
	c.timer.Stop()
	return n, err
}

// SetWriteDeadline implements net.Conn.
func (c *counted) SetWriteDeadline(t time.Time) error {
	c.own.Store(!t.IsZero())
	return c.Conn.SetWriteDeadline(t)
}

// SetDeadline implements net.Conn.
func (c *counted) SetDeadline(t time.Time) error {
	c.own.Store(!t.IsZero())
	return c.Conn.SetDeadline(t)
}

func (c *counted) Close() error {
	c.once.Do(func() { c.l.open.Add(-1) })
	return c.Conn.Close()
}
