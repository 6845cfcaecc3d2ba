// Package remote is a gateway's end of its server: it draws leases, delivers batches and follows the stream over HTTP.
package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/app/receive"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/core/money"
	"github.com/tallystick/tallystick/internal/core/period"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/web/node/wire"
)

// Errors that trying again does not mend.
var (
	ErrDenied   = errors.New("the server does not let this gateway in")
	ErrProtocol = errors.New("server and gateway are of different releases")
)

// Config of a Client.
type Config struct {
	Server string           // https://tally.example.com
	Token  string           // tally_gw_…
	HTTP   *http.Client     // without a time-out of its own
	Real   func() time.Time // the machine's clock, with monotonic reading
	// DrawTimeout bounds one draw: while it lasts, a request waits. Default 300 ms.
	DrawTimeout time.Duration
	// CallTimeout bounds all other calls but batches. Default 3 s; a batch may take four times as long.
	CallTimeout time.Duration
	// Anew is called before the first answer of another run of the server is given out: it knows nothing of leases in memory. nil:
	// nobody holds any.
	Anew func()
}

// Defaults.
const (
	drawTimeoutDefault = 300 * time.Millisecond
	callTimeoutDefault = 3 * time.Second
	batchTimes         = 4
)

// Client calls the server. It is an authority.Authority, a receive.Taker and answers what the journal knows. It is safe for
// concurrent use.
type Client struct {
	cfg     Config
	base    *url.URL
	breaker breaker
	gather  gatherer
	calls   [2]atomic.Int64          // draws that failed, and that were answered
	spared  atomic.Int64             // draws that the breaker kept back
	moving  atomic.Int64             // the machine's clock, nanoseconds: until then another server is taking over
	sent    map[string]*atomic.Int64 // calls by what they are for; the map is not changed
	runs    runs
	// subkey is called by Begin with the decision key of the new epoch.
	subkey atomic.Pointer[Subkey]
}

// Subkey is the decision key of one node and epoch.
type Subkey struct {
	Epoch  uint32
	Number byte
	Key    []byte
}

var (
	_ authority.Authority = (*Client)(nil)
	_ receive.Taker       = (*Client)(nil)
)

// NewClient checks the configuration and calls nobody.
func NewClient(cfg Config) (*Client, error) {
	base, err := url.Parse(cfg.Server)
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" {
		return nil, fmt.Errorf("%q is no server's URL such as https://tally.example.com", cfg.Server)
	}
	if account.CheckNodeSecret(cfg.Token) != nil {
		return nil, errors.New("the server token is malformed; `tally gateway token NAME` on the server makes one")
	}
	if cfg.HTTP == nil || cfg.Real == nil {
		return nil, errors.New("remote: incomplete configuration")
	}
	if cfg.DrawTimeout == 0 {
		cfg.DrawTimeout = drawTimeoutDefault
	}
	if cfg.CallTimeout == 0 {
		cfg.CallTimeout = callTimeoutDefault
	}
	c := &Client{cfg: cfg, base: base, sent: map[string]*atomic.Int64{}}
	for _, path := range []string{
		wire.PathJoin, wire.PathBegin, wire.PathDraw, wire.PathDraws, wire.PathReturn, wire.PathBatches, wire.PathPast, wire.PathAnswers, wire.PathBeat, wire.PathLeave, wire.PathReports, wire.PathCatalog,
	} {
		c.sent[purpose(path)] = &atomic.Int64{}
	}
	return c, nil
}

// purpose is what a path's calls are for, in one word.
func purpose(path string) string {
	word, _, _ := strings.Cut(strings.TrimPrefix(path, wire.Prefix), "/")
	return word
}

// request makes one with the token.
func (c *Client) request(ctx context.Context, method, path string, query url.Values, body []byte) (*http.Request, error) {
	u := *c.base
	u.Path = strings.TrimSuffix(u.Path, "/") + path
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("call the server: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+c.cfg.Token)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return req, nil
}

// unreachable is an error that says nothing of what the server did.
func unreachable(what string, err error) error {
	return fmt.Errorf("%s: %w: %w", what, authority.ErrUnreachable, err)
}

// call posts in and reads the answer into out.
func (c *Client) call(ctx context.Context, path string, timeout time.Duration, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("call the server: %w", err)
	}
	return c.exchange(ctx, http.MethodPost, path, timeout, body, out)
}

// send makes a call and counts it.
func (c *Client) send(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	req, err := c.request(ctx, method, path, nil, body)
	if err != nil {
		return nil, err
	}
	if n := c.sent[purpose(path)]; n != nil {
		n.Add(1)
	}
	before := c.runs.now()
	resp, err := c.cfg.HTTP.Do(req)
	if err != nil {
		return nil, unreachable(path, err)
	}
	if !c.runs.answered(before, resp.Header.Get(wire.RunHeader), c.cfg.Anew) {
		_ = resp.Body.Close() // it is not read
		return nil, unreachable(path, errors.New("the answer is of a run of the server that has ended"))
	}
	return resp, nil
}

func (c *Client) exchange(ctx context.Context, method, path string, timeout time.Duration, body []byte, out any) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	resp, err := c.send(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // it is read to its end, or given up
	text, err := io.ReadAll(io.LimitReader(resp.Body, wire.LineMax))
	if err != nil {
		return unreachable(path, err)
	}
	if resp.StatusCode != http.StatusOK {
		return fault(path, resp.StatusCode, text)
	}
	if err := json.Unmarshal(text, out); err != nil {
		return unreachable(path, err)
	}
	return nil
}

// fault is what the server answered instead.
func fault(path string, status int, text []byte) error {
	var f wire.Fault
	if err := json.Unmarshal(text, &f); err != nil {
		f.Detail = fmt.Sprintf("%.200q", text)
	}
	return faultOf(path, status, f)
}

func faultOf(path string, status int, f wire.Fault) error {
	say := func(err error) error { return fmt.Errorf("%s: %s (%d %s): %w", path, f.Detail, status, f.Code, err) }
	switch f.Code {
	case wire.CodeEpoch:
		return say(authority.ErrEpoch)
	case wire.CodeRefused:
		return say(receive.ErrRefused)
	case wire.CodeConflict:
		return say(store.ErrConflict)
	case wire.CodeFull:
		return say(store.ErrFull)
	case wire.CodeNotFound:
		return say(store.ErrNotFound)
	case wire.CodeInvalid:
		return say(store.ErrInvalid)
	case wire.CodeProtocol:
		return say(ErrProtocol)
	case wire.CodeToken, wire.CodeRevoked, wire.CodeCert:
		return say(ErrDenied)
	}
	return say(authority.ErrUnreachable)
}

// Join registers the key that this gateway signs with, and learns who it is.
func (c *Client) Join(ctx context.Context, public [32]byte, version string) (out wire.Joined, err error) {
	err = c.call(ctx, wire.PathJoin, c.cfg.CallTimeout, wire.Join{Protocol: wire.Protocol, Public: public[:], Version: version}, &out)
	if err == nil && out.Protocol != wire.Protocol {
		err = ErrProtocol
	}
	return out, err
}

// Begin implements authority.Authority. The node is that of the token.
func (c *Client) Begin(ctx context.Context, _ uint16, boot string, at time.Time) (authority.Welcome, error) {
	var out wire.Begun
	if err := c.call(ctx, wire.PathBegin, c.cfg.CallTimeout, wire.Begin{Boot: boot, At: at.UnixMicro()}, &out); err != nil {
		return authority.Welcome{}, err
	}
	w := out.Value()
	c.subkey.Store(&Subkey{Epoch: w.Epoch, Number: out.KeyNumber, Key: out.Subkey})
	return w, nil
}

// Subkey is that of the epoch begun last; nil before.
func (c *Client) Subkey() *Subkey { return c.subkey.Load() }

// Draw implements authority.Authority. After one failure further calls fail at once, until a probe gets through.
func (c *Client) Draw(ctx context.Context, d authority.Draw) ([]authority.Answer, error) {
	if !c.takenOver() && !c.breaker.allow(c.cfg.Real()) {
		c.spared.Add(1)
		return nil, fmt.Errorf("the server did not answer lately: %w", authority.ErrUnreachable)
	}
	var out []authority.Answer
	err := c.patiently(ctx, func(ctx context.Context) (err error) {
		out, err = c.draw(ctx, wire.DrawOf(d))
		return err
	})
	if err == nil && len(out) != len(d.Asks) {
		err = unreachable(wire.PathDraw, fmt.Errorf("%d answers to %d asks", len(out), len(d.Asks)))
	}
	if ctx.Err() == nil && !c.takenOver() { // the caller's end says nothing of the server
		c.breaker.done(c.cfg.Real(), !errors.Is(err, authority.ErrUnreachable))
	}
	if err != nil {
		c.calls[0].Add(1)
		return nil, err
	}
	c.calls[1].Add(1)
	return out, nil
}

// moveMax is how long draws may take since another server began to take over: requests wait for it rather than fail. A server that
// has just taken over is slow with its first answers too.
const moveMax = 10 * time.Second

// moved notes that another server takes over.
func (c *Client) moved() { c.moving.Store(c.cfg.Real().Add(moveMax).UnixNano()) }

func (c *Client) takenOver() bool { return c.cfg.Real().UnixNano() < c.moving.Load() }

// patiently bounds a draw by its time-out, or longer when another server takes over meanwhile.
func (c *Client) patiently(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	late := time.AfterFunc(c.cfg.DrawTimeout, func() {
		if !c.takenOver() {
			cancel()
		}
	})
	defer late.Stop()
	return do(ctx)
}

// Return implements authority.Authority.
func (c *Client) Return(ctx context.Context, _ uint16, epoch uint32, backs []authority.Back) error {
	return c.call(ctx, wire.PathReturn, c.cfg.CallTimeout, wire.Return{Epoch: epoch, Backs: wire.BacksOf(backs)}, &struct{}{})
}

// Receive implements receive.Taker.
func (c *Client) Receive(ctx context.Context, b *store.Batch) (out []store.Result, err error) {
	if err := c.call(ctx, wire.PathBatches, batchTimes*c.cfg.CallTimeout, b, &out); err != nil {
		return nil, err
	}
	if out != nil && len(out) != len(b.Entries) {
		return nil, unreachable(wire.PathBatches, fmt.Errorf("%d results of %d events", len(out), len(b.Entries)))
	}
	return out, nil
}

// Known says of each event id whether the journal has it. The source is this gateway's.
func (c *Client) Known(ctx context.Context, _ string, ids []string) (known []bool, err error) {
	for chunk := range slices.Chunk(ids, wire.EventsMax) {
		var out wire.PastAnswer
		if err := c.call(ctx, wire.PathPast, c.cfg.CallTimeout, wire.Past{Events: chunk}, &out); err != nil {
			return nil, err
		}
		if len(out.Known) != len(chunk) {
			return nil, unreachable(wire.PathPast, fmt.Errorf("%d answers about %d events", len(out.Known), len(chunk)))
		}
		known = append(known, out.Known...)
	}
	return known, nil
}

// Used is what was consumed of a meter.
func (c *Client) Used(ctx context.Context, customerID, meter string, in period.Interval) (used money.Decimal, err error) {
	ask := wire.Past{Customer: customerID, Meter: meter, From: in.Start.UnixMicro()}
	if !in.End.IsZero() {
		ask.To = in.End.UnixMicro()
	}
	var out wire.PastAnswer
	if err := c.call(ctx, wire.PathPast, c.cfg.CallTimeout, ask, &out); err != nil {
		return used, err
	}
	if used, err = money.ParseDecimal(out.Used); err != nil {
		return used, unreachable(wire.PathPast, err)
	}
	return used, nil
}

// Catalog fetches a version.
func (c *Client) Catalog(ctx context.Context, version int64) (out govern.CatalogVersion, err error) {
	err = c.exchange(ctx, http.MethodGet, wire.PathCatalog+strconv.FormatInt(version, 10), c.cfg.CallTimeout, nil, &out)
	return out, err
}

// Stats are running totals, and how things stand.
type Stats struct {
	Draws, Failed, Spared, Opened int64
	Open                          bool             // the breaker is: the server does not answer
	Sent                          map[string]int64 // calls by what they are for, answered or not: the last word of their path
}

// Stats reads them.
func (c *Client) Stats() Stats {
	open, opened := c.breaker.state()
	sent := make(map[string]int64, len(c.sent))
	for word, n := range c.sent {
		sent[word] = n.Load()
	}
	return Stats{Draws: c.calls[1].Load(), Failed: c.calls[0].Load(), Spared: c.spared.Load(), Opened: opened, Open: open, Sent: sent}
}
