//go:build unix

package wire

import (
	"errors"
	"net"
	"syscall"
)

// probe asks an idle connection whether the other side closed it or sent something. It does not wait.
type probe struct {
	raw  syscall.RawConn
	look func(fd uintptr) bool
	buf  [1]byte
	err  error
	n    int
}

func (p *probe) init(c net.Conn) {
	s, ok := c.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return
	}
	p.raw = raw
	p.look = func(fd uintptr) bool {
		p.n, p.err = syscall.Read(int(fd), p.buf[:])
		return true // never wait
	}
}

// quiet says that the connection is open and has nothing to read.
func (p *probe) quiet() bool {
	if p.raw == nil {
		return true
	}
	if err := p.raw.Read(p.look); err != nil {
		return false
	}
	return p.n <= 0 && (errors.Is(p.err, syscall.EAGAIN) || errors.Is(p.err, syscall.EINTR))
}
