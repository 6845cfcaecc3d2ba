package fleet

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// How often a balancer looks whether those behind it are ready, and how long they may take to answer.
const (
	probeEvery = 200 * time.Millisecond
	probeWait  = time.Second
)

// backend is one of those behind a balancer.
type backend struct {
	addr, probe string // the probe's URL answers 200 while it is ready
	ready       bool
}

// Balancer is a load balancer for TCP connections: each goes to the next backend whose probe answers 200.
type Balancer struct {
	Addr     string // host:port
	listener net.Listener
	client   *http.Client
	stop     context.CancelFunc
	wg       sync.WaitGroup

	mu       sync.Mutex // guards all below
	backends map[string]*backend
	next     int
	conns    map[net.Conn]bool
}

// NewBalancer listens on an address; port 0 is any free one.
func NewBalancer(addr string) (*Balancer, error) {
	l, err := net.Listen("tcp", addr) //nolint:noctx // at once
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	b := &Balancer{
		Addr: l.Addr().String(), listener: l, stop: stop, backends: map[string]*backend{}, conns: map[net.Conn]bool{},
		client: &http.Client{Timeout: probeWait, Transport: &http.Transport{DisableKeepAlives: true}},
	}
	b.wg.Go(func() { b.accept(ctx) })
	b.wg.Go(func() { b.watch(ctx) })
	return b, nil
}

// Put tells where a backend is; both empty: it is gone.
func (b *Balancer) Put(name, addr, probe string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if addr == "" {
		delete(b.backends, name)
		return
	}
	b.backends[name] = &backend{addr: addr, probe: probe}
}

// Close ends it and every connection.
func (b *Balancer) Close() {
	b.stop()
	_ = b.listener.Close() // once
	b.mu.Lock()
	for c := range b.conns {
		_ = c.Close() // its copy ends
	}
	b.mu.Unlock()
	b.wg.Wait()
}

// watch asks each backend whether it is ready.
func (b *Balancer) watch(ctx context.Context) {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		b.mu.Lock()
		var all []*backend
		for _, x := range b.backends {
			all = append(all, x)
		}
		b.mu.Unlock()
		var wg sync.WaitGroup
		for _, x := range all {
			wg.Go(func() {
				ready := b.probe(ctx, x.probe)
				b.mu.Lock()
				defer b.mu.Unlock()
				x.ready = ready
			})
		}
		wg.Wait()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (b *Balancer) probe(ctx context.Context, url string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	resp, err := b.client.Do(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close() // it is not read
	return resp.StatusCode == http.StatusOK
}

// order lists the addresses of those that are ready, the next one first.
func (b *Balancer) order() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var names []string
	for name, x := range b.backends {
		if x.ready {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	b.next++
	var out []string
	for i := range names {
		out = append(out, b.backends[names[(i+b.next)%len(names)]].addr)
	}
	return out
}

// Ready is how many backends are.
func (b *Balancer) Ready() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, x := range b.backends {
		if x.ready {
			n++
		}
	}
	return n
}

func (b *Balancer) accept(ctx context.Context) {
	for {
		c, err := b.listener.Accept()
		if err != nil {
			return
		}
		b.wg.Go(func() { b.serve(ctx, c) })
	}
}

func (b *Balancer) serve(ctx context.Context, c net.Conn) {
	var up net.Conn
	d := net.Dialer{Timeout: probeWait}
	for _, addr := range b.order() {
		var err error
		if up, err = d.DialContext(ctx, "tcp", addr); err == nil {
			break
		}
	}
	if up == nil || !b.keep(ctx, c, up) {
		_ = c.Close() // nobody is there
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { b.copy(up, c) })
	wg.Go(func() { b.copy(c, up) })
	wg.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.conns, c)
	delete(b.conns, up)
}

// keep remembers both ends for Close; false: it is closed already.
func (b *Balancer) keep(ctx context.Context, ends ...net.Conn) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range ends {
		if ctx.Err() != nil {
			_ = c.Close() // as all others
			continue
		}
		b.conns[c] = true
	}
	return ctx.Err() == nil
}

// copy passes on what comes until one end closes, then closes both: HTTP does not need half of a connection.
func (b *Balancer) copy(dst, src net.Conn) {
	_, err := io.Copy(dst, src)
	if tcp, ok := dst.(*net.TCPConn); ok && err != nil && !errors.Is(err, net.ErrClosed) {
		_ = tcp.SetLinger(0) // a reset stays a reset
	}
	_ = dst.Close() // ends the other copy
	_ = src.Close()
}
