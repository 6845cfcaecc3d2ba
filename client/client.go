// Package client puts Tallystick into a Go program: it meters and limits an API in the API's own process, and calls /v1.
//
// A Client takes quota from the server in blocks, which are explicit reservations, and admits requests from them without a call
// for each. A block is durable at the server before anything is admitted from it, so a limit is never passed. What a block did
// not need is given back when it is idle for Config.Idle, or has been drawn from for Config.Age. When the process dies, its open
// blocks are charged in full once they expire: for each caller and meter at most one block, the one taken ahead of it, and those of
// requests under way.
//
// The package needs the standard library alone. Interceptors for gRPC are in package grpctally.
package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Failure says what becomes of requests that need the server while it cannot be reached.
type Failure uint8

// The choices.
const (
	// Closed refuses them: 503 authority_unreachable.
	Closed Failure = iota
	// Open admits them for callers whose key was good within the last five minutes, and counts them in Stats.Open. Their cost is
	// charged with the caller's next block.
	Open
)

// Config of a Client. URL and Token are required.
type Config struct {
	// URL of the server's API, such as "http://127.0.0.1:8080".
	URL string
	// Token is the operator's token.
	Token string
	// HTTP makes the calls. Default: a client of its own with 64 kept connections.
	HTTP *http.Client
	// Timeout bounds each call that a request waits for. Default: 2 s.
	Timeout time.Duration
	// Failure is Closed by default.
	Failure Failure
	// BlockMax is the most requests that a block is taken for. Default: 1000. With 1 each request has a reservation of its own,
	// as concurrency limits need it. Blocks begin with 8 and grow while they are spent fast.
	BlockMax int64
	// TTL is when the server charges a block that nobody ends, in whole seconds. 3 s or more; default: 10 s.
	TTL time.Duration
	// Age is how long a block is drawn from while the server can be reached; it may double under load. The usage of a block
	// belongs to the instant at which the block was taken. Default: 1 s.
	Age time.Duration
	// Idle is after how long without a request a block is given back. A request that is denied waits as long once, but at most a
	// second, for what other clients hold and do not need. Default: 200 ms.
	Idle time.Duration
	// Hold is how long a block that nobody draws from, and that is not spent, waits for requests under way. Then they are charged
	// as admitted, and what they give back later is lost and counted in Stats.Kept. Default: 2 s.
	Hold time.Duration
	// Series bounds how many (caller, user, meter, route) have a block. Default: 4096.
	Series int
	// Keys bounds how many good keys are remembered; as many bad ones are besides. Default: 10,000.
	Keys int
	// Now is the time. Default: the machine's.
	Now func() time.Time
	// OnError is told of what no caller sees: a token that the server refuses, a block that could not be ended. It must not
	// block. Default: nobody is told.
	OnError func(error)
}

// The bounds of a configuration, and its defaults.
const (
	timeoutDefault  = 2 * time.Second
	blockMaxDefault = 1000
	blockMaxMost    = 1_000_000
	blockFirst      = 8 // requests in a first block
	ttlDefault      = 10 * time.Second
	ttlMin          = 3 * time.Second
	ttlMax          = 24 * time.Hour
	ageDefault      = time.Second
	idleDefault     = 200 * time.Millisecond
	holdDefault     = 2 * time.Second
	seriesDefault   = 4096
	keysDefault     = 10_000
	connections     = 64
)

func (c *Config) complete() error {
	u, err := url.Parse(c.URL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return errors.New("client: URL must be that of the server's API, such as http://127.0.0.1:8080")
	case c.Token == "":
		return errors.New("client: Token is missing")
	case c.TTL != 0 && (c.TTL < ttlMin || c.TTL > ttlMax || c.TTL%time.Second != 0):
		return fmt.Errorf("client: TTL must be whole seconds from %v to %v", ttlMin, ttlMax)
	case c.BlockMax < 0 || c.BlockMax > blockMaxMost:
		return fmt.Errorf("client: BlockMax must be 1 to %d", blockMaxMost)
	case c.Timeout < 0 || c.Age < 0 || c.Idle < 0 || c.Hold < 0 || c.Series < 0 || c.Keys < 0:
		return errors.New("client: nothing of the configuration may be below 0")
	}
	c.URL = strings.TrimRight(c.URL, "/")
	for _, d := range []struct {
		field *time.Duration
		usual time.Duration
	}{
		{&c.Timeout, timeoutDefault}, {&c.TTL, ttlDefault}, {&c.Age, ageDefault}, {&c.Idle, idleDefault}, {&c.Hold, holdDefault},
	} {
		if *d.field == 0 {
			*d.field = d.usual
		}
	}
	if c.BlockMax == 0 {
		c.BlockMax = blockMaxDefault
	}
	if c.Series == 0 {
		c.Series = seriesDefault
	}
	if c.Keys == 0 {
		c.Keys = keysDefault
	}
	if c.Now == nil {
		c.Now = time.Now //nolint:forbidigo // the default of a library: there is no program above it that would inject the clock
	}
	if c.OnError == nil {
		c.OnError = func(error) {}
	}
	return nil
}

// Stats are counters since New.
type Stats struct {
	Admitted int64 // requests, Open ones included
	Denied   int64 // requests that a limit, a key or a missing subscription refused
	Open     int64 // admitted because the server could not be reached
	Refused  int64 // refused because it could not be reached, or for want of room
	Blocks   int64 // taken
	Settled  int64 // blocks ended
	Lost     int64 // blocks that could not be ended in time: the server charges them in full
	Kept     int64 // cost units that requests gave back too late: they stay charged
	Unpaid   int64 // cost units that were let through and never charged
	Calls    int64 // to the server
}

type counters struct {
	admitted, denied, open, refused, blocks, settled, lost, kept, unpaid, calls atomic.Int64
}

// Client is safe for concurrent use.
type Client struct {
	cfg     Config
	own     *http.Transport // nil: the caller's
	breaker breaker
	keys    keyCache
	blocks  table
	stats   counters

	closing chan struct{}
	ended   sync.Once
	loop    sync.WaitGroup
	wake    chan struct{}
}

// New checks the configuration and starts one goroutine in the background, which Close ends. It makes no call.
func New(cfg Config) (*Client, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	c := &Client{cfg: cfg, closing: make(chan struct{}), wake: make(chan struct{}, 1)}
	if cfg.HTTP == nil {
		c.own = &http.Transport{
			Proxy: http.ProxyFromEnvironment, MaxIdleConns: connections, MaxIdleConnsPerHost: connections, IdleConnTimeout: time.Minute,
			ForceAttemptHTTP2: true,
		}
		c.cfg.HTTP = &http.Client{Transport: c.own, CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse // the token goes to the address that was configured, and nowhere else
		}}
	}
	c.keys.init(cfg.Keys)
	c.blocks.init(cfg.Series)
	c.loop.Go(c.run)
	return c, nil
}

// Close gives all blocks back, charging what was admitted from them, and ends the goroutine of New. Requests that are still under
// way are charged as admitted. Shut the server of the API down first. When ctx ends earlier, the rest of the blocks is charged in
// full at their expiry; the error says how many. No other method may be called afterwards but those of Admission.
func (c *Client) Close(ctx context.Context) error {
	var err error
	c.ended.Do(func() {
		close(c.closing)
		c.loop.Wait()
		if left := c.settleAll(ctx); left > 0 {
			err = fmt.Errorf("client: %d blocks could not be given back; they are charged in full when they expire", left)
		}
		if c.own != nil {
			c.own.CloseIdleConnections()
		}
	})
	return err
}

func (c *Client) closed() bool {
	select {
	case <-c.closing:
		return true
	default:
		return false
	}
}

// Stats are the counters as they are now.
func (c *Client) Stats() Stats {
	s := &c.stats
	return Stats{
		Admitted: s.admitted.Load(), Denied: s.denied.Load(), Open: s.open.Load(), Refused: s.refused.Load(), Blocks: s.blocks.Load(),
		Settled: s.settled.Load(), Lost: s.lost.Load(), Kept: s.kept.Load(), Unpaid: s.unpaid.Load(), Calls: s.calls.Load(),
	}
}
