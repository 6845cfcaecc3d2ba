// Package sinktest holds the conformance suite of the drivers that send exports.
package sinktest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/store"
)

// World is one sink and the wire to it.
type World struct {
	// Open connects over the wire.
	Open func(ctx context.Context) (store.Sink, error)
	// Received reads, not over the wire, all that the sink has: by place, in its order. A message's Key need not be told.
	Received func(t *testing.T) [][]store.Message
	Wire     *Wire
}

// Run checks a driver. world makes an empty sink.
func Run(t *testing.T, world func(t *testing.T) World) {
	for name, test := range map[string]func(*testing.T, World){
		"Delivers":       delivers,
		"SentAgain":      sentAgain,
		"Everywhere":     everywhere,
		"Down":           down,
		"LostAcks":       lostAcks,
		"TooLargeStands": tooLargeStands,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, world(t))
		})
	}
}

const keys = 7

// batch makes messages n to n+count-1; the id has the key and the number, which rises.
func batch(n, count int) []store.Message {
	all := make([]store.Message, count)
	for i := range all {
		key := fmt.Sprintf("cus_%d", (n+i)%keys)
		all[i] = store.Message{
			ID: fmt.Sprintf("usage/%s/%06d", key, n+i), Type: "tally.usage.recorded", Key: key, Body: fmt.Appendf(nil, `{"n":%d,"text":"ü%s"}`, n+i, strings.Repeat("x", i)),
		}
	}
	return all
}

func (w World) open(t *testing.T) store.Sink {
	t.Helper()
	s, err := w.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func send(t *testing.T, s store.Sink, all []store.Message) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := s.Send(ctx, all); err != nil {
		t.Fatal(err)
	}
}

// check: all of want are there, each whole, and by key in their order when repetitions are left out.
func (w World) check(t *testing.T, want []store.Message) {
	t.Helper()
	byID := map[string]store.Message{}
	for _, m := range want {
		byID[m.ID] = m
	}
	seen, last := map[string]bool{}, map[string]string{}
	for _, place := range w.Received(t) {
		for _, m := range place {
			sent, ok := byID[m.ID]
			if !ok || m.Type != sent.Type || string(m.Body) != string(sent.Body) {
				t.Fatalf("received %s %s %.60q, which was not sent so", m.ID, m.Type, m.Body)
			}
			if seen[m.ID] {
				continue
			}
			if m.ID < last[sent.Key] {
				t.Fatalf("%s came behind %s", m.ID, last[sent.Key])
			}
			seen[m.ID], last[sent.Key] = true, m.ID
		}
	}
	for _, m := range want {
		if !seen[m.ID] {
			t.Fatalf("%s is lost", m.ID)
		}
	}
}

func delivers(t *testing.T, w World) {
	s := w.open(t)
	all := batch(0, 700)
	send(t, s, all[:500])
	send(t, s, all[500:])
	send(t, s, nil)
	w.check(t, all)
}

func sentAgain(t *testing.T, w World) {
	all := batch(0, 300)
	send(t, w.open(t), all[:200])
	send(t, w.open(t), all[100:])
	w.check(t, all)
}

func everywhere(t *testing.T, w World) {
	all := batch(0, 41)
	to := store.Message{ID: "erasure/20", Type: "tally.usage.erased", Body: []byte(`{}`)}
	all[20] = to
	send(t, w.open(t), all)
	for i, place := range w.Received(t) {
		found := false
		for _, m := range place {
			switch {
			case m.ID == to.ID:
				found = true
			case found != (m.ID[len(m.ID)-6:] > "000020"):
				t.Errorf("place %d: %s stands on the wrong side of what goes everywhere", i, m.ID)
			}
		}
		if !found {
			t.Errorf("place %d did not get what goes everywhere", i)
		}
	}
}

func down(t *testing.T, w World) {
	all := batch(0, 300)
	s := w.open(t)
	send(t, s, all[:100])
	w.Wire.Cut()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if err := s.Send(ctx, all[100:]); err == nil {
		t.Fatal("a batch was acknowledged by a sink that is away")
	}
	if x, err := w.Open(ctx); err == nil {
		t.Errorf("opened a sink that is away: %v", x.Close())
	}
	w.Wire.Mend()
	send(t, w.open(t), all[100:])
	w.check(t, all)
}

func lostAcks(t *testing.T, w World) {
	all := batch(0, 300)
	s := w.open(t)
	send(t, s, all[:100])
	w.Wire.Mute()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if err := s.Send(ctx, all[100:]); err == nil {
		t.Fatal("a batch was acknowledged although no acknowledgement came")
	}
	w.Wire.Cut()
	w.Wire.Mend()
	send(t, w.open(t), all[100:])
	w.check(t, all)
}

// tooLargeStands: what a sink cannot take is an error for as long, and nothing of its key passes it.
func tooLargeStands(t *testing.T, w World) {
	all := batch(0, 60)
	large := &all[30]
	body := large.Body
	large.Body = []byte(`"` + strings.Repeat("y", 9<<20) + `"`)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := w.open(t).Send(ctx, all); err == nil {
		t.Fatal("9 MiB were taken; make the sink of this test smaller")
	}
	for _, place := range w.Received(t) {
		for _, m := range place {
			if strings.Contains(m.ID, large.Key) && m.ID >= large.ID {
				t.Errorf("%s passed what was too large", m.ID)
			}
		}
	}
	large.Body = body
	send(t, w.open(t), all)
	w.check(t, all)
}

// Wire is how a driver under test dials, so that the connection can fail.
type Wire struct {
	mu    sync.Mutex // guards all below
	cut   bool
	muted bool
	conns map[*conn]bool
}

// NewWire is one that works.
func NewWire() *Wire { return &Wire{conns: map[*conn]bool{}} }

var errCut = errors.New("the wire is cut")

// Cut ends all connections and refuses new ones.
func (w *Wire) Cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = true
	for c := range w.conns {
		_ = c.Conn.Close() // as a cut does
	}
}

// Mend lets everything pass again.
func (w *Wire) Mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut, w.muted = false, false
}

// Mute lets what is sent pass, and nothing of what comes back.
func (w *Wire) Mute() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.muted = true
}

func (w *Wire) isMuted() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.muted
}

// DialContext connects.
func (w *Wire) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	w.mu.Lock()
	cut := w.cut
	w.mu.Unlock()
	if cut {
		return nil, errCut
	}
	raw, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c := &conn{raw, w}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conns[c] = true
	return c, nil
}

// Dial is DialContext for those that have no context.
func (w *Wire) Dial(network, address string) (net.Conn, error) {
	return w.DialContext(context.Background(), network, address)
}

type conn struct {
	net.Conn
	wire *Wire
}

// Read drops what comes while the wire is muted.
func (c *conn) Read(b []byte) (int, error) {
	for {
		n, err := c.Conn.Read(b)
		if err != nil || !c.wire.isMuted() {
			return n, err
		}
	}
}

// Close ends the connection.
func (c *conn) Close() error {
	c.wire.mu.Lock()
	delete(c.wire.conns, c)
	c.wire.mu.Unlock()
	return c.Conn.Close()
}
