package gateway

import (
	"log/slog"
	"net"
	"net/http"
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
	writeTime      = time.Minute      // in which an HTTP/2 connection must take some bytes
	ConnectionsMax = 10_000           // connections of a port, where nobody says another number
)

// NewServer has the time-outs and bounds of a port.
func NewServer(h http.Handler, log *slog.Logger) *http.Server {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetHTTP2(true)
	p.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler: h, Protocols: p, ReadHeaderTimeout: headerTime, IdleTimeout: idleTime, MaxHeaderBytes: headerMax,
		HTTP2:    &http.HTTP2Config{MaxConcurrentStreams: streamsMax, SendPingTimeout: pingAfter, PingTimeout: pingTime, WriteByteTimeout: writeTime},
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// Listener bounds the connections of a port: one too many is closed at once and counted.
type Listener struct {
	net.Listener
	max     int64
	open    atomic.Int64
	refused atomic.Int64
}

// NewListener takes at most n connections at once from l; below 1: ConnectionsMax.
func NewListener(l net.Listener, n int) *Listener {
	if n <= 0 {
		n = ConnectionsMax
	}
	return &Listener{Listener: l, max: int64(n)}
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

// counted is a connection that gives its place back.
type counted struct {
	net.Conn
	l    *Listener
	once sync.Once
}

func (c *counted) Close() error {
	c.once.Do(func() { c.l.open.Add(-1) })
	return c.Conn.Close()
}
