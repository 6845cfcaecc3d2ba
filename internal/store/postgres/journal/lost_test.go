package journal_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/tallystick/tallystick/internal/core/meter"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/postgres/journal"
)

// What a proxy does with the next commit that it sees.
const (
	pass      = iota
	swallow   // the server never sees it
	unanswer  // the server does it, its answer is lost
	unanswerX // the same, and no later connection works
)

// proxy stands between a journal and its database.
type proxy struct {
	next atomic.Int32
	down atomic.Bool
	to   string
}

// startProxy returns a database's URL through a proxy.
func startProxy(t *testing.T, dsn string) (*proxy, string) {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	p := &proxy{to: filepath.Join(q.Get("host"), ".s.PGSQL.5432")}
	dir := t.TempDir()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", filepath.Join(dir, ".s.PGSQL.5432"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.carry(c)
		}
	}()
	q.Set("host", dir)
	u.RawQuery = q.Encode()
	return p, u.String()
}

func (p *proxy) carry(client net.Conn) {
	defer func() { _ = client.Close() }()
	server, err := (&net.Dialer{}).DialContext(context.Background(), "unix", p.to)
	if err != nil || p.down.Load() {
		return
	}
	defer func() { _ = server.Close() }()
	var mute atomic.Bool
	go func() {
		defer func() { _ = client.Close() }()
		buf := make([]byte, 64<<10)
		for {
			n, err := server.Read(buf)
			if err != nil || mute.Load() {
				return
			}
			if _, err := client.Write(buf[:n]); err != nil {
				return
			}
		}
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		if bytes.Contains(buf[:n], []byte("commit\x00")) {
			switch p.next.Swap(pass) {
			case swallow:
				return
			case unanswerX:
				p.down.Store(true)
				mute.Store(true)
			case unanswer:
				mute.Store(true)
			}
		}
		if _, err := server.Write(buf[:n]); err != nil {
			return
		}
	}
}

// TestCommitLost: the connection ends at COMMIT. What was stored is told with its own results, what was not is done again, and
// where nothing can be found out the outcome is said to be unknown.
func TestCommitLost(t *testing.T) {
	t.Parallel()
	dsn := database(t)
	p, through := startProxy(t, dsn)
	j := open(t, through)
	for i, what := range []int32{unanswer, swallow} {
		p.next.Store(what)
		results, err := j.Append(t.Context(), batch(i*10, 3, 2))
		if err != nil {
			t.Fatal(err)
		}
		if p.next.Load() != pass {
			t.Fatal("the proxy saw no commit")
		}
		for _, r := range results {
			if r.Outcome != store.Accepted {
				t.Errorf("fault %d: outcome %d", what, r.Outcome)
			}
		}
	}
	p.next.Store(unanswerX)
	b := batch(20, 3, 2)
	if _, err := j.Append(t.Context(), b); !errors.Is(err, store.ErrUnknown) {
		t.Errorf("%v, want an unknown outcome", err)
	}
	p.down.Store(false)
	results, err := j.Append(t.Context(), b)
	if err != nil || results[0].Outcome != store.Duplicate {
		t.Errorf("sent again: %v, %v", results, err)
	}
	holds(t, j, 9, 2)
	if err := j.Close(); err != nil {
		t.Error(err)
	}
}

// TestHeadHeld: a process that has stopped while it held the head is put out.
func TestHeadHeld(t *testing.T) {
	t.Parallel()
	dsn := database(t)
	j, err := journal.Open(t.Context(), journal.Config{URL: dsn, Unsafe: true, HeadWait: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	c, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.WithoutCancel(t.Context())) })
	if _, err := c.Exec(t.Context(), "BEGIN; SELECT position FROM journal_head FOR UPDATE"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := j.Append(ctx, batch(0, 3, 2)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Exec(t.Context(), "COMMIT"); err == nil {
		t.Error("the session that held the head lives")
	}
	holds(t, j, 3, 2)
}

// TestOneCallRefused: texts that PostgreSQL cannot keep are refused alone, with other calls on their way.
func TestOneCallRefused(t *testing.T) {
	t.Parallel()
	j := open(t, database(t))
	t.Cleanup(func() { _ = j.Close() })
	long := strings.Repeat("x", 4<<10)
	bad := []func(b *store.Batch){
		func(b *store.Batch) { b.Entries[0].Resolutions[0].CustomerID = "a\x00" },
		func(b *store.Batch) { b.Entries[0].Resolutions[0].Meter = "a\x00" },
		func(b *store.Batch) { b.Entries[0].Unit = "a\x00" },
		func(b *store.Batch) { b.Entries[0].Unit = long },
		func(b *store.Batch) { b.Entries[0].Resolutions[0].CustomerID = long },
		func(b *store.Batch) {
			b.Totals, b.Node, b.Epoch = []store.AdmittedTotal{{CustomerID: "a\x00", Meter: "m"}}, 1, 1
		},
	}
	var g errgroup.Group
	for i, break1 := range bad {
		g.Go(func() error {
			b := batch(1000+i, 1, 2)
			break1(&b)
			if _, err := j.Append(t.Context(), b); !errors.Is(err, store.ErrInvalid) {
				t.Errorf("case %d: %v, want it refused", i, err)
			}
			return nil
		})
		g.Go(func() error {
			_, err := j.Append(t.Context(), batch(i*5, 5, 2))
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	// What goes into bodies and bytes alone may have them.
	e := usage("nul\x00", 0)
	e.Event.Subject, e.Resolutions[0].Distinct = "s\x00", "d\x00"
	e.Resolutions[0].Dimensions = []meter.Dimension{{Name: "route", Value: "\x00"}}
	if _, err := j.Append(t.Context(), store.Batch{Producer: "p\x00", ReceivedAt: noon(), Entries: []store.Entry{e}}); err != nil {
		t.Error(err)
	}
	if err := j.Cut(t.Context(), "a\x00", noon().Add(time.Second)); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("cut: %v", err)
	}
	holds(t, j, len(bad)*5+1, 2)
}
