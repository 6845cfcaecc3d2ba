package nodes_test

import (
	"net"
	"sync"
	"testing"
	"time"
)

// mode is what the proxy does with what passes through it.
type mode int

const (
	pass    mode = iota
	refuse       // connections are reset, and no new ones are taken
	swallow      // connections stay open and nothing gets through
	delay        // everything takes its time
)

func (m mode) String() string { return [...]string{"pass", "reset", "swallow", "delay"}[m] }

// delayed is how long each piece takes while the mode is delay.
const delayed = 150 * time.Millisecond

// proxy stands between a gateway and its server.
type proxy struct {
	listener net.Listener
	wg       sync.WaitGroup

	mu      sync.Mutex // guards all below
	to      string
	mode    mode
	changed chan struct{} // closed when mode changes
	conns   map[net.Conn]bool
}

func newProxy(t *testing.T) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, changed: make(chan struct{}), conns: map[net.Conn]bool{}}
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		_ = l.Close()
		p.set(refuse)
		p.wg.Wait()
	})
	return p
}

func (p *proxy) target(addr string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.to = addr
}

// set changes what happens from now on, also to open connections.
func (p *proxy) set(m mode) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mode = m
	close(p.changed)
	p.changed = make(chan struct{})
	if m == refuse {
		for c := range p.conns {
			p.reset(c)
		}
	}
}

// reset ends a connection without a farewell. mu is held.
func (p *proxy) reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
	delete(p.conns, c)
}

func (p *proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		if p.mode == refuse {
			p.reset(c)
			p.mu.Unlock()
			continue
		}
		p.conns[c] = true
		to := p.to
		p.mu.Unlock()
		p.wg.Go(func() { p.serve(c, to) })
	}
}

func (p *proxy) serve(c net.Conn, to string) {
	up, err := net.Dial("tcp", to)
	p.mu.Lock()
	if err != nil || p.mode == refuse {
		p.reset(c)
		p.mu.Unlock()
		if err == nil {
			_ = up.Close()
		}
		return
	}
	p.conns[up] = true
	p.mu.Unlock()
	var wg sync.WaitGroup
	wg.Go(func() { p.copy(up, c) })
	wg.Go(func() { p.copy(c, up) })
	wg.Wait()
}

func (p *proxy) copy(dst, src net.Conn) {
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.reset(src)
		p.reset(dst)
	}()
	buf := make([]byte, 32<<10)
	for {
		n, err := src.Read(buf)
		if n > 0 {
			if !p.wait() {
				return
			}
			if _, err := dst.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// wait holds a piece back as the mode says; false: it is lost with its connection.
func (p *proxy) wait() bool {
	for {
		p.mu.Lock()
		m, changed := p.mode, p.changed
		p.mu.Unlock()
		switch m {
		case pass:
			return true
		case refuse:
			return false
		case swallow:
			<-changed
		case delay:
			t := time.NewTimer(delayed)
			select {
			case <-t.C:
				return true
			case <-changed:
				t.Stop()
			}
		}
	}
}
