package remote

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/web/node/wire"
)

const (
	drawsAtOnce = 2                    // calls on their way; while there are so many, further draws are gathered
	gatherMax   = 5 * time.Millisecond // and go together when one of the calls is answered, or after this
	gatheredMax = 1 << 14              // elements of the draws that go together; one alone may have more
)

// drawing is one draw that goes with others.
type drawing struct {
	in      wire.Draw
	done    chan struct{} // closed when answers or err are there
	answers []authority.Answer
	err     error
	left    bool // nobody waits for it any more; under the gatherer's mu
}

// gatherer has draws of many customers go in one call when many come at once. The first ones go alone, so that it costs nobody
// time. mu owns all fields.
type gatherer struct {
	mu      sync.Mutex
	flying  int // calls
	waiting []*drawing
	late    *time.Timer // sends what waits
	single  bool        // the server knows no calls with many draws
}

// alone says whether a draw is to go by itself, at once; its end must be told by landed. Else it waits in the gatherer.
func (c *Client) alone(x *drawing) bool {
	g := &c.gather
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.single || g.flying < drawsAtOnce {
		g.flying++
		return true
	}
	g.waiting = append(g.waiting, x)
	if len(g.waiting) == 1 {
		g.late = time.AfterFunc(gatherMax, c.fly)
	}
	return false
}

// landed tells that a call has ended, and sends what waits.
func (c *Client) landed() {
	c.gather.mu.Lock()
	c.gather.flying--
	waits := len(c.gather.waiting) > 0
	c.gather.mu.Unlock()
	if waits {
		go c.fly()
	}
}

// fly sends all that waits, in as many calls as it takes.
func (c *Client) fly() {
	g := &c.gather
	g.mu.Lock()
	if g.late != nil {
		g.late.Stop()
		g.late = nil
	}
	var calls [][]*drawing
	elements := 0
	for _, x := range g.waiting {
		if x.left {
			continue
		}
		n := elementsOf(&x.in)
		if len(calls) == 0 || len(calls[len(calls)-1]) == wire.DrawsMax || elements+n > gatheredMax {
			calls, elements = append(calls, nil), 0
		}
		calls[len(calls)-1] = append(calls[len(calls)-1], x)
		elements += n
	}
	g.waiting = nil
	g.flying += len(calls)
	g.mu.Unlock()
	for _, list := range calls {
		go func() {
			defer c.landed()
			c.drawAll(list)
		}()
	}
}

// elementsOf is what wire.Elements may count for a draw, or more.
func elementsOf(d *wire.Draw) int {
	n := 2
	for i := range d.Asks {
		n += 2 + len(d.Asks[i].Limits)
	}
	return n
}

// draw makes one draw, by itself or with others.
func (c *Client) draw(ctx context.Context, d wire.Draw) (out []authority.Answer, err error) {
	x := &drawing{in: d, done: make(chan struct{})}
	if c.alone(x) {
		defer c.landed()
		err = c.call(ctx, wire.PathDraw, moveMax, d, &out)
		return out, err
	}
	select {
	case <-x.done:
		return x.answers, x.err
	case <-ctx.Done():
		c.gather.mu.Lock()
		defer c.gather.mu.Unlock()
		x.left = true
		return nil, unreachable(wire.PathDraws, ctx.Err())
	}
}

// drawAll makes the draws of a list in one call. Each is answered as soon as the server has done with it.
func (c *Client) drawAll(list []*drawing) {
	err := c.drawLines(list)
	if errors.Is(err, store.ErrNotFound) { // a server of the release before
		c.gather.mu.Lock()
		c.gather.single = true
		c.gather.mu.Unlock()
		var all sync.WaitGroup
		for _, x := range list {
			all.Go(func() {
				x.err = c.call(context.Background(), wire.PathDraw, moveMax, x.in, &x.answers)
				close(x.done)
			})
		}
		all.Wait()
		return
	}
	for _, x := range list {
		select {
		case <-x.done:
		default:
			if x.err = err; err == nil {
				x.err = unreachable(wire.PathDraws, io.ErrUnexpectedEOF)
			}
			close(x.done)
		}
	}
}

// drawLines makes the call and reads its answers, one a line in any order.
func (c *Client) drawLines(list []*drawing) error {
	ctx, cancel := context.WithTimeout(context.Background(), moveMax) // who waits for a draw may leave before
	defer cancel()
	in := make([]wire.Draw, len(list))
	for i, x := range list {
		in[i] = x.in
	}
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("call the server: %w", err)
	}
	resp, err := c.send(ctx, http.MethodPost, wire.PathDraws, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // it is read to its end, or given up
	if resp.StatusCode != http.StatusOK {
		text, err := io.ReadAll(io.LimitReader(resp.Body, wire.CallMax))
		if err != nil {
			return unreachable(wire.PathDraws, err)
		}
		return fault(wire.PathDraws, resp.StatusCode, text)
	}
	lines := bufio.NewReader(resp.Body)
	seen := make([]bool, len(list))
	for range list {
		line, err := readLine(lines)
		if err != nil {
			return unreachable(wire.PathDraws, err)
		}
		var a wire.Drawn
		if err := json.Unmarshal(bytes.TrimSpace(line), &a); err != nil {
			return unreachable(wire.PathDraws, err)
		}
		if a.N < 0 || a.N >= len(list) || seen[a.N] {
			return unreachable(wire.PathDraws, fmt.Errorf("an answer to draw %d of %d", a.N, len(list)))
		}
		x := list[a.N]
		seen[a.N] = true
		if x.answers = a.Answers; a.Fault != nil {
			x.err = faultOf(wire.PathDraws, a.Status, *a.Fault)
		}
		close(x.done)
	}
	return nil
}
