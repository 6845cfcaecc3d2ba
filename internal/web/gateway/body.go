package gateway

import (
	"io"
	"net/http/httputil"
	"sync"
)

// body watches whether the upstream's answer was read to its end.
type body struct {
	io.ReadCloser
	x    *exchange
	left int64 // bytes still to come; negative: unknown
	done bool
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.x.sent += int64(n)
	if b.left > 0 {
		b.left -= int64(n)
	}
	if err == io.EOF || b.left == 0 {
		b.done = true
	}
	return n, err
}

// Close flags the request as incomplete when its answer was cut off.
func (b *body) Close() error {
	if !b.done {
		b.done = true
		b.x.MarkIncomplete()
	}
	return b.ReadCloser.Close()
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
