package node_test

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/app/authority/authoritytest"
	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/store/file"
	"github.com/tallystick/tallystick/internal/store/sqlite"
	"github.com/tallystick/tallystick/internal/web/node"
	"github.com/tallystick/tallystick/internal/web/node/remote"
	"github.com/tallystick/tallystick/internal/web/node/wire"
)

// TestAuthorityConformance: the authority keeps its promises also to gateways that reach it through the network.
func TestAuthorityConformance(t *testing.T) {
	t.Parallel()
	authoritytest.Run(t, func(t *testing.T, w *authoritytest.World) authoritytest.Dial {
		t.Helper()
		dir := t.TempDir()
		records, err := sqlite.Scratch(context.Background(), filepath.Join(dir, "records.db"))
		if err != nil {
			t.Fatal(err)
		}
		journal, err := file.Open(file.Config{Dir: filepath.Join(dir, "journal")})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = records.Close(); _ = journal.Close() })
		if err := journal.Cut(t.Context(), authoritytest.CustomerID, authoritytest.Start()); err != nil {
			t.Fatal(err)
		}
		s, err := authority.New(authority.Config{
			Directory: w, Leases: records, Journal: journal, Now: w.Now, Mono: w.Mono, Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		server := newWorld(t, func(c *node.Config) {
			c.Authority = s
			c.Attach = func(n uint16, _ uint32, h authority.Holder) { s.Register(n, h) }
		})
		return (&dialer{w: server, tokens: map[uint16]string{}}).dial
	})
}

// dialer connects gateways of a conformance test.
type dialer struct {
	w      *world
	mu     sync.Mutex // guards tokens
	tokens map[uint16]string
}

func (d *dialer) dial(number uint16, h authority.Holder) authority.Authority {
	d.w.t.Helper()
	d.mu.Lock()
	token, ok := d.tokens[number]
	if !ok {
		token = d.w.token(fmt.Sprintf("node-%d", number))
		d.tokens[number] = token
	}
	d.mu.Unlock()
	c, _ := d.w.client(token, func(c *remote.Config) { c.DrawTimeout, c.CallTimeout = patience, patience })
	mirror, err := govern.NewMirror(govern.MirrorConfig{Pepper: []byte(pepper), Mode: "test", Fetch: c.Catalog})
	if err != nil {
		d.w.t.Fatal(err)
	}
	f, err := remote.NewFollower(remote.FollowConfig{
		Client: c, Mirror: mirror, Log: slog.New(slog.DiscardHandler), Hello: func(time.Time) {}, Counted: func([]string) {},
		Advance: func(context.Context, time.Time) error { return nil }, Settle: func(context.Context, time.Time) error { return nil },
		Held: func(context.Context, enforce.HeldCall) (*enforce.Held, *enforce.Admission, error) {
			return nil, nil, enforce.ErrReservationAway
		},
		Holder: func() authority.Holder { return h }, State: func() wire.State { return wire.State{} },
	})
	if err != nil {
		d.w.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = f.Run(ctx) }()
	d.w.t.Cleanup(func() { stop(); <-ended })
	<-f.Complete()
	return c
}
