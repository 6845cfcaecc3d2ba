package gateway

import (
	"errors"
	"io"
	"net/http"
	"net/http/httputil"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// body watches whether the upstream's answer was read to its end, and settles then what could not be settled before.
type body struct {
	io.ReadCloser
	g    *Gateway
	x    *exchange
	left int64 // bytes still to come; negative: unknown
	done bool
	shut bool
}

// Read settles before it hands out the last bytes. Where that fails, the answer breaks off.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.x.sent += int64(n)
	if b.left > 0 {
		b.left -= int64(n)
	}
	if b.x.reading != nil {
		b.x.reading.Write(p[:n])
	}
	if err == io.EOF || b.left == 0 {
		b.done = true
		if serr := b.g.charge(b.x, true); serr != nil {
			return 0, serr
		}
	}
	return n, err
}

// Close flags the request as incomplete when its answer was cut off, and charges what there was of it.
func (b *body) Close() error {
	if b.shut {
		return nil
	}
	b.shut = true
	err := b.ReadCloser.Close()
	if !b.done {
		b.done = true
		err = errors.Join(err, b.g.charge(b.x, false))
		b.x.MarkIncomplete()
	}
	return err
}

// NewBufferPool lends a proxy its copy buffers.
func NewBufferPool() httputil.BufferPool { return &bufferPool{} }

type bufferPool struct{ pool sync.Pool }

const bufferBytes = 32 << 10

func (p *bufferPool) Get() []byte {
	if b, ok := p.pool.Get().(*[bufferBytes]byte); ok {
		return b[:]
	}
	return make([]byte, bufferBytes)
}

func (p *bufferPool) Put(b []byte) {
	if cap(b) >= bufferBytes {
		p.pool.Put((*[bufferBytes]byte)(b[:bufferBytes]))
	}
}

// upload is a request's body on its way to the upstream: bounded in bytes and in time.
type upload struct {
	io.ReadCloser
	rc      *http.ResponseController
	ended   bool
	expired atomic.Bool
	broken  atomic.Bool  // the client stopped in the middle
	taken   atomic.Int64 // bytes read
}

// bound sets the body's limits. A connection that cannot have a deadline keeps the one of its server.
func (g *Gateway) bound(w http.ResponseWriter, r *http.Request) *upload {
	u := &upload{ReadCloser: http.MaxBytesReader(w, r.Body, g.cfg.MaxBody), rc: http.NewResponseController(w)}
	if err := u.rc.SetReadDeadline(g.cfg.Now().Add(g.cfg.BodyTimeout)); err != nil {
		u.ended = true
	}
	return u
}

// Read takes the deadline away with the body's end: the connection must stay open for a long answer. After a fault it stays,
// since the server still reads what is left of the body.
func (u *upload) Read(p []byte) (int, error) {
	n, err := u.ReadCloser.Read(p)
	u.taken.Add(int64(n))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		u.expired.Store(true)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		u.broken.Store(true)
	}
	if err == io.EOF && !u.ended {
		u.ended = true
		if derr := u.rc.SetReadDeadline(time.Time{}); derr != nil {
			return n, derr
		}
	}
	return n, err
}

func (u *upload) late() bool { return u.expired.Load() }
